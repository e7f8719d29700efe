"""Label noise: closed forms with nearest neighbours, a learner that shrugs it off, failed trainings, bad input."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

import subject_zoo
from auditkit.core.errors import UsageError
from auditkit.core.plan import Step
from auditkit.core.registry import load
from auditkit.execution.runner import run_step
from auditkit.methods.robustness.label_noise import losses_per_span, make_flips
from auditkit.subjects.build import make_subject
from auditkit.subjects.recipes import SklearnRecipe


def outcome_of(subject, **params):
    analyzer = load("robustness.label_noise")
    return run_step(subject, Step(name=analyzer.name, params=analyzer.params(**params), analyzer=analyzer))


def values(outcome, name, **keys):
    found = [m for m in outcome.measurements if m.name == f"robustness.label_noise_{name}"]
    return [m for m in found if all(m.params.get(key) == value for key, value in keys.items())]


def blobs(neighbours, n=600, classes=2, seed=0):
    """Classes so far apart that only wrong labels can mislead; the group is the class."""
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    x = rng.normal(size=(n, 2)) + 50.0 * y[:, None]
    half = n // 2
    model = KNeighborsClassifier(neighbours).fit(x[:half], y[:half])
    return make_subject(
        model,
        x[half:],
        y[half:],
        sensitive={"side": np.where(y[half:] == 0, "zero", "other")},
        train=(x[:half], y[:half]),
        recipe=SklearnRecipe(estimator=model),
    )


def test_one_neighbour_loses_a_point_for_each_point_of_noise():
    outcome = outcome_of(blobs(1), seeds=6)
    (slope,) = [m for m in values(outcome, "slope") if not m.slice]
    assert slope.interval.low < 0.01 < slope.interval.high
    assert slope.value == pytest.approx(0.01, abs=0.0025)
    for share in (0.05, 0.1, 0.2):
        (rate,) = [m for m in values(outcome, "accuracy", noise=share) if not m.slice]
        assert rate.interval.low < 1.0 - share < rate.interval.high
        (drop,) = [m for m in values(outcome, "drop", noise=share) if not m.slice]
        assert drop.value == pytest.approx(1.0 - rate.value)
    (clean,) = [m for m in values(outcome, "accuracy", noise=0.0) if not m.slice]
    assert clean.value == 1.0


def test_a_vote_of_many_neighbours_loses_nothing():
    outcome = outcome_of(blobs(51), seeds=3)
    (slope,) = [m for m in values(outcome, "slope") if not m.slice]
    assert slope.value == pytest.approx(0.0, abs=1e-12)
    assert slope.interval.low <= 0.0 <= slope.interval.high
    assert all(m.value == 0.0 for m in values(outcome, "drop"))


def test_flips_from_one_class_to_another_cost_that_class_alone():
    outcome = outcome_of(blobs(1), shares=[0.3], flip_from="0", flip_to="1", seeds=4)
    by_side = {m.slice.get("side"): m for m in values(outcome, "accuracy", noise=0.3)}
    assert by_side["other"].value == 1.0
    assert by_side["zero"].interval.low < 0.7 < by_side["zero"].interval.high
    gap = next(m for m in values(outcome, "accuracy.difference", noise=0.3))
    assert gap.over == ("side",)
    assert gap.value == pytest.approx(1.0 - by_side["zero"].value)
    (none,) = values(outcome, "accuracy.difference", noise=0.0)
    assert none.value == 0.0


def test_uniform_flips_of_three_classes_go_to_both_others():
    y = np.repeat([0, 1, 2], 100)
    flips = make_flips(y, 3, np.random.default_rng(0))
    last: set[int] = set()
    for share in (0.0, 0.05, 0.1, 0.5, 1.0):
        noisy = flips.flipped(y, share)
        changed = set(np.flatnonzero(noisy != y).tolist())
        assert len(changed) == round(share * 300)
        assert last <= changed
        last = changed
    for own in range(3):
        assert sorted(set(noisy[y == own].tolist())) == [code for code in range(3) if code != own]
        assert 30 < int((noisy[y == own] == (own + 1) % 3).sum()) < 70
    assert (y == np.repeat([0, 1, 2], 100)).all()


def test_the_line_is_numpys():
    rng = np.random.default_rng(0)
    shares = np.array([0.0, 0.05, 0.1, 0.2])
    right = rng.random((4, 3, 50))
    slope = np.polyfit(shares, right.mean(axis=(1, 2)), 1)[0]
    assert losses_per_span(shares, right).mean() == pytest.approx(-0.2 * slope)


def test_a_training_that_fails_is_told_and_gives_no_number():
    subject = subject_zoo.mlp_subject()

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Picky(type(subject.recipe)):
        def fit(self, inputs, y, seed):
            if (np.asarray(y) != subject.train.y).mean() > 0.15:
                raise RuntimeError("labels make no sense")
            return super().fit(inputs, y, seed)

    recipe = Picky(name="picky", build=subject_zoo.build_mlp, epochs=2, batch_size=64, learning_rate=0.1)
    outcome = outcome_of(dataclasses.replace(subject, recipe=recipe), shares=[0.1, 0.2], seeds=2)
    assert outcome.status == "measured"
    assert all(m.value is not None for m in values(outcome, "accuracy", noise=0.1))
    failed = values(outcome, "accuracy", noise=0.2) + values(outcome, "drop", noise=0.2) + values(outcome, "slope")
    assert failed
    assert all(m.value is None and "2 of 2 trainings failed: RuntimeError: labels make" in m.reason for m in failed)
    table = next(a for a in outcome.artifacts if a.kind == "table")
    assert "labels make no sense" in table.rows[-1][-1]


def test_weights_and_clusters_are_counted():
    subject = blobs(1)
    test = dataclasses.replace(
        subject.test, weights=np.linspace(0.5, 2.0, subject.test.n), clusters=np.arange(subject.test.n) // 4
    )
    outcome = outcome_of(dataclasses.replace(subject, test=test), shares=[0.2], seeds=3)
    (rate,) = [m for m in values(outcome, "accuracy", noise=0.2) if not m.slice]
    assert rate.interval.low < 0.8 < rate.interval.high


def test_what_cannot_be_flipped_is_told():
    wrong = outcome_of(blobs(1), flip_from="7")
    assert wrong.status == "failed"
    assert "AK594 there is no class '7'" in wrong.reason
    subject = blobs(1)
    few = dataclasses.replace(subject, train=subject.train.take(np.arange(10)))
    assert "AK595" in outcome_of(few).reason
    with pytest.raises(UsageError, match="AK594"):
        make_flips(np.zeros(5, dtype=np.int64), 2, np.random.default_rng(0), source=1)
    with pytest.raises(UsageError, match="AK594"):
        make_flips(np.zeros(5, dtype=np.int64), 1, np.random.default_rng(0))
    params = load("robustness.label_noise").params
    for settings in ({"shares": []}, {"shares": [0.0]}, {"shares": [1.2]}, {"flip_from": "a", "flip_to": "a"}):
        with pytest.raises(ValidationError):
            params(**settings)


def test_a_line_that_loses_more_than_there_is_keeps_its_upper_limit():
    # Nearly all labels right, or all wrong: the line through 1, 1, 1 and 0 falls by more than 1 over its span.
    outcome = outcome_of(blobs(1), shares=[0.02, 0.04, 1.0], seeds=3)
    (slope,) = [m for m in values(outcome, "slope") if not m.slice]
    rates = [next(m.value for m in values(outcome, "accuracy", noise=s) if not m.slice) for s in (0.0, 0.02, 0.04, 1.0)]
    line = np.polyfit([0.0, 2.0, 4.0, 100.0], rates, 1)[0]
    assert slope.value == pytest.approx(-line)
    assert slope.value > 0.01
    assert slope.interval.low < slope.value < slope.interval.high
