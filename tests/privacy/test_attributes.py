"""Attribute inference: a model that memorised an attribute adds to guessing it, imputation alone does not count."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

pytest.importorskip("sklearn")

from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from auditkit.analyzers.privacy.attributes import ANALYZER, AttributesParams
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.privacy.attribute_inference import infer_attribute, paired_gain
from auditkit.subjects.build import make_subject


def people(n, seed, proxy=False):
    """The attribute ``ill`` turns the label of one in two rows; nothing else tells it, unless there is a proxy."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    frame["ill"] = rng.integers(0, 2, n)
    if proxy:
        frame["store_card"] = np.where(rng.random(n) < 0.95, frame.ill, 1 - frame.ill)
    return frame, rng.integers(0, 2, n)


def run(model, train, test, **params):
    subject = make_subject(
        model, *test, sensitive=test[0][["ill"]].astype(str), train=(*train, train[0][["ill"]].astype(str))
    )
    return run_step(subject, Step(name=ANALYZER.name, params=AttributesParams(**params), analyzer=ANALYZER), seed=3)


def pick(outcome, name, **wanted):
    (found,) = [
        m for m in outcome.measurements if m.name == name and all(m.params[k] == value for k, value in wanted.items())
    ]
    return found


@pytest.fixture(scope="module")
def splits():
    return people(1200, 0), people(1600, 1)


def test_a_model_that_memorised_the_attribute_is_caught_on_training_rows_only(splits):
    """Labels are coin flips, so that only a tree that knows the row by heart prefers the attribute's true value."""
    train, test = splits
    outcome = run(DecisionTreeClassifier(random_state=0, max_features=1).fit(*train), train, test)
    assert outcome.status == "measured", outcome.reason
    memory = pick(outcome, "privacy.attribute_gain", rows="train", attack="likelihood")
    unseen = pick(outcome, "privacy.attribute_gain", rows="test", attack="likelihood")
    assert memory.interval.low > 0.05
    assert unseen.interval.low < 0.0 < unseen.interval.high
    assert (memory.n, unseen.n) == (1200, 800)
    assert abs(pick(outcome, "privacy.attribute_accuracy", rows="test", guess="other columns").value - 0.5) < 0.06
    stranger = run(DecisionTreeClassifier(random_state=0, max_features=1).fit(*people(1200, 9)), train, test)
    for attack in ("learned", "likelihood"):
        assert pick(stranger, "privacy.attribute_gain", rows="train", attack=attack).interval.low < 0.0


def test_what_the_label_tells_is_imputation_and_a_constant_model_adds_nothing():
    (train, _), (test, _) = people(1200, 0), people(1600, 1)
    rng = np.random.default_rng(5)
    labels = [np.where(rng.random(len(part)) < 0.8, part.ill, 1 - part.ill) for part in (train, test)]
    constant = DummyClassifier(strategy="prior").fit(train, labels[0])
    quiet = run(constant, (train, labels[0]), (test, labels[1]))
    assert pick(quiet, "privacy.attribute_accuracy", rows="train", guess="other columns").value > 0.75
    for rows in ("train", "test"):
        for attack in ("learned", "likelihood"):
            gain = pick(quiet, "privacy.attribute_gain", rows=rows, attack=attack)
            assert gain.value == 0.0
            assert gain.interval.low < 0.0 < gain.interval.high


def test_a_column_that_is_recorded_only_is_told_by_the_models_answers_on_the_row():
    """The model sees a column that the attacker is not given the meaning of: the answers carry the group."""
    rng = np.random.default_rng(0)
    group = [rng.integers(0, 2, n) for n in (600, 800)]
    frames = [pd.DataFrame({"a": rng.normal(size=len(own)), "key": np.arange(len(own))}) for own in group]
    frames[1]["key"] += 10_000
    told = {
        key: own for frame, part in zip(frames, group, strict=True) for key, own in zip(frame.key, part, strict=True)
    }

    def model(rows):
        high = np.array([0.8 if told[key] else 0.2 for key in rows["key"]])
        return np.column_stack([1 - high, high])

    labels = [rng.integers(0, 2, len(own)) for own in group]
    names = [pd.DataFrame({"group": own.astype(str)}) for own in group]
    subject = make_subject(model, frames[1], labels[1], sensitive=names[1], train=(frames[0], labels[0], names[0]))
    outcome = run_step(subject, Step(name=ANALYZER.name, params=AttributesParams(), analyzer=ANALYZER), seed=3)
    gain = pick(outcome, "privacy.attribute_gain", rows="train", attack="learned")
    assert gain.interval.low > 0.3


def test_answers_that_tell_are_a_gain_and_answers_that_do_not_are_none():
    rng = np.random.default_rng(0)
    attribute = rng.integers(0, 3, 1500)
    known, learn = rng.normal(size=(1500, 3)), np.arange(1500) < 700
    telling = infer_attribute(known, attribute[:, None] + 0.1 * rng.normal(size=(1500, 1)), attribute, learn, seed=0)
    assert telling.without.mean() < 0.42
    assert telling.with_model.mean() > 0.95
    assert paired_gain(telling.without, telling.with_model)[1].low > 0.5
    nothing = infer_attribute(known, rng.normal(size=(1500, 1)), attribute, learn, seed=0)
    low, high = (lambda i: (i.low, i.high))(paired_gain(nothing.without, nothing.with_model)[1])
    assert low < 0.0 < high


def test_what_a_proxy_tells_is_imputation_and_not_the_models_doing():
    train, test = people(1200, 0, proxy=True), people(1600, 1, proxy=True)
    model = LogisticRegression().fit(*train)
    outcome = run(model, train, test)
    assert pick(outcome, "privacy.attribute_accuracy", rows="train", guess="other columns").value > 0.9
    for attack in ("learned", "likelihood"):
        assert pick(outcome, "privacy.attribute_gain", rows="train", attack=attack).interval.low < 0.01


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 3, 60), (0, 5, 40), (7, 7, 200), (0, 0, 30), (25, 1, 80)])
def test_the_interval_inverts_the_score_test_by_direct_maximisation(gained, lost, n):
    first = np.zeros(n, bool)
    first[:lost] = True
    second = np.zeros(n, bool)
    second[lost : lost + gained] = True
    value, interval = paired_gain(first, second)
    assert value == pytest.approx((gained - lost) / n)
    for bound in (interval.low, interval.high):
        rate = likeliest(gained, lost, n, bound)
        spread = (2 * rate + bound - bound**2) / n
        assert abs(value - bound) / np.sqrt(spread) == pytest.approx(1.959964, abs=2e-3)


def likeliest(gained, lost, n, delta):
    """The chance of a lost guess, restricted to ``P(gained) = P(lost) + delta``, by numerical maximisation."""

    def against(rate):
        chances = np.array([rate + delta, rate, 1 - 2 * rate - delta])
        counts = np.array([gained, lost, n - gained - lost])
        return -float((counts * np.log(np.maximum(chances, 1e-300))).sum())

    low, high = max(0.0, -delta), (1 - delta) / 2
    return optimize.minimize_scalar(against, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x


def test_what_cannot_be_inferred_is_told(splits):
    train, test = splits
    model = DecisionTreeClassifier(max_depth=2).fit(*train)
    unknown = run(model, train, test, columns=("il",))
    assert unknown.status == "failed"
    assert "AK610 there is no column 'il' in the data" in unknown.reason
    many = run(model, train, test, columns=("a",))
    assert many.status == "not_applicable"
    assert "AK624 there is no column to infer" in many.reason
    rare = (train[0].assign(ill=np.arange(len(train[0])) % 2), train[1])
    alike = run(model, rare, (test[0].assign(ill=0), test[1]))
    assert alike.status == "not_applicable"
    assert any("the attacker learns from all have one value" in note for note in alike.notes)
    few = run(model, people(60, 0), people(60, 1))
    assert few.status == "not_applicable"
    assert "AK625 60 training rows and 60 test rows are too few" in few.reason
