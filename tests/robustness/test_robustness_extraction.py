"""Model extraction: closed forms on linear models, what cannot be copied, honest baselines, bad input."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import subject_zoo
from auditkit.analyzers.robustness.copies import columns_apart, make_outsider, split_test
from auditkit.core.errors import NotApplicable, UsageError
from auditkit.core.plan import Step
from auditkit.core.registry import load
from auditkit.execution.runner import run_step
from auditkit.methods.robustness.art_extraction import UNUSABLE, copy_network, own_network
from auditkit.methods.robustness.extraction import copy_table, copy_texts
from auditkit.subjects.build import make_subject
from auditkit.subjects.callable import CallableModel

QUICK = {"queries": [60], "seeds": 1, "steps": 100}


def outcome_of(subject, **params):
    analyzer = load("robustness.extraction")
    return run_step(subject, Step(name=analyzer.name, params=analyzer.params(**{**QUICK, **params}), analyzer=analyzer))


def values(outcome, name):
    return [m for m in outcome.measurements if m.name == f"robustness.extraction_{name}"]


def callable_subject(decide, y, x, **more):
    model = CallableModel(lambda rows: np.eye(2)[decide(np.asarray(rows))], classes=(0, 1))
    return make_subject(model, x, y, **more)


def gaussian(n=700, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 6))


def linear(x):
    return (x @ np.array([2.0, -1.0, 0.5, 0.0, 1.0, 0.0]) > 0).astype(np.int64)


def lottery(x):
    """Decides by the digits that no copy can learn from."""
    return (np.floor(np.abs(x[:, 0]) * 1e6).astype(np.int64) % 2).astype(np.int64)


def test_a_linear_rule_is_copied_and_a_lottery_is_not():
    x = gaussian(500)
    copied = outcome_of(callable_subject(linear, linear(x), x), queries=[40, 240])
    few, many = values(copied, "fidelity")
    assert few.value < many.value
    assert many.value > 0.94
    drawn = outcome_of(callable_subject(lottery, lottery(x), x), queries=[300])
    (guessed,) = values(drawn, "fidelity")
    assert guessed.interval.low < 0.5 < guessed.interval.high


def test_agreement_of_two_linear_rules_is_that_of_the_angle_between_them():
    from sklearn.linear_model import LogisticRegression

    x, unseen = gaussian(200, 1), gaussian(40_000, 2)
    found = copy_table(x, linear(x))
    assert found.kind == "logistic regression"
    refit = LogisticRegression(max_iter=500).fit((x - x.mean(0)) / x.std(0), linear(x))
    slope, start = refit.coef_[0] / x.std(0), refit.intercept_[0] - float((refit.coef_[0] / x.std(0)) @ x.mean(0))
    true = np.array([2.0, -1.0, 0.5, 0.0, 1.0, 0.0])
    angle = np.arccos(slope @ true / np.linalg.norm(slope) / np.linalg.norm(true))
    assert abs(start) / np.linalg.norm(slope) < 0.1  # the closed form is for rules through the origin
    agreement = float((found.decide(unseen) == linear(unseen)).mean())
    assert agreement == pytest.approx(1.0 - angle / np.pi, abs=0.02)


def test_gain_is_what_labels_do_not_tell():
    x = gaussian(500)
    honest = outcome_of(callable_subject(linear, linear(x), x), queries=[200])
    (none,) = values(honest, "gain")
    assert none.value == 0.0  # the labels are the decisions
    assert none.interval.low < 0.0 < none.interval.high
    odd = outcome_of(callable_subject(lambda rows: (rows[:, 3] > 0).astype(np.int64), linear(x), x), queries=[200])
    (gain,) = values(odd, "gain")
    (fidelity,) = values(odd, "fidelity")
    (taught,) = values(odd, "label_fidelity")
    assert gain.interval.low > 0.2
    assert gain.value == pytest.approx(fidelity.value - taught.value)


def test_the_commonest_answer_is_counted_by_hand():
    x = gaussian(500)
    rare = callable_subject(lambda rows: (rows[:, 0] > 1.0).astype(np.int64), linear(x), x)
    outcome = outcome_of(rare, queries=[300])
    (majority,) = values(outcome, "majority_fidelity")
    assert 0.78 < majority.value < 0.9  # P(z <= 1) = 0.841, and the commonest answer is 0
    (fidelity,) = values(outcome, "fidelity")
    assert fidelity.value > majority.interval.high


@pytest.mark.parametrize("attack", ["copycat", "knockoff"])
def test_networks_are_copied_through_art_with_as_many_questions_as_rows(attack):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(300, 6, generator=generator)
    weight = torch.tensor([2.0, -1.0, 0.5, 0.0, 1.0, 0.0])
    chance = torch.sigmoid(3.0 * rows @ weight).double().numpy()
    soft = np.stack([1.0 - chance, chance], axis=1)
    seen = []

    def ask(at):
        seen.extend(at.tolist())
        return soft[at] if attack == "knockoff" else np.eye(2)[(soft[at, 1] > 0.5).astype(int)]

    before = torch.get_rng_state()
    found = copy_network(ask, rows[:200], n_classes=2, attack=attack, steps=200)
    assert sorted(seen) == list(range(200))
    assert found.n_queries == 200
    assert torch.equal(before, torch.get_rng_state())
    assert (found.decide(rows[200:]) == (chance[200:] > 0.5)).mean() > 0.85


@pytest.mark.parametrize(
    ("rows", "vocabulary"),
    [
        (torch.rand(6, 1, 8, 8), None),
        (torch.rand(6, 3, 9, 7), None),
        (torch.rand(6, 8, 8), None),
        (torch.rand(6, 5), None),
        (torch.randint(9, (6, 4)), 9),
    ],
)
def test_there_is_a_network_for_every_kind_of_row(rows, vocabulary):
    assert own_network(rows, 3, vocabulary)(rows).shape == (6, 3)


def test_torch_images_and_texts_are_copied():
    image = outcome_of(subject_zoo.image_subject())
    (fidelity,) = values(image, "fidelity")
    assert fidelity.params["attack"] == "copycat"
    assert fidelity.value > 0.9
    text = outcome_of(subject_zoo.text_subject(), queries=[30])
    (fidelity,) = values(text, "fidelity")
    assert fidelity.params["attack"] == "surrogate"
    texts = ["good day", "bad day", "good night", "bad night"] * 5
    assert copy_texts(texts, np.array([1, 0] * 10)).decide(["a good one", "a bad one"]).tolist() == [1, 0]


def test_one_who_knows_the_recipe_trains_by_it():
    outcome = outcome_of(subject_zoo.mlp_subject(), knows_recipe=True, source="train", queries=[100, 300])
    few, all_rows = values(outcome, "fidelity")
    assert few.params["attack"] == "recipe"
    assert all_rows.value > 0.75
    assert outcome.artifacts[0].series[0].x == (100.0, 300.0)


def test_shuffled_columns_keep_every_column_and_no_row():
    frame, _, _ = subject_zoo.table(200)
    mixed = columns_apart(frame, np.random.default_rng(0))
    assert (mixed.dtypes == frame.dtypes).all()
    assert list(mixed.index) == list(frame.index)
    for name in frame.columns:
        assert sorted(mixed[name]) == sorted(frame[name])
    assert not (mixed["income"] == frame["income"]).all()
    assert len(pd.concat([mixed, frame]).drop_duplicates()) > 390
    outcome = outcome_of(subject_zoo.pipeline_subject(), source="columns", queries=[100])
    (taught,) = values(outcome, "label_fidelity")
    assert taught.value is None
    assert "no true labels" in taught.reason
    with pytest.raises(NotApplicable, match="AK592"):
        columns_apart(["a text"], np.random.default_rng(0))


def test_rows_of_a_cluster_are_never_on_both_sides():
    x = gaussian(200)
    clusters = np.repeat(np.arange(50), 4)
    subject = callable_subject(linear, linear(x), x, clusters=clusters)
    asked, held = split_test(subject.test, np.random.default_rng(0), 1000)
    assert not set(clusters[asked]) & set(clusters[held])
    assert len(asked) + len(held) == 200
    (fidelity,) = values(outcome_of(subject), "fidelity")
    assert fidelity.interval is not None


def test_a_model_that_always_says_the_same_gives_no_number():
    x = gaussian(200)
    constant = callable_subject(lambda rows: np.zeros(len(rows), dtype=np.int64), linear(x), x)
    outcome = outcome_of(constant)
    assert outcome.measurements
    assert all(m.value is None and "alike" in m.reason for m in outcome.measurements)


def test_a_copy_that_cannot_be_trained_is_told_and_is_no_number():
    subject = subject_zoo.mlp_subject()
    broken = dataclasses.replace(subject, recipe=dataclasses.replace(subject.recipe, learning_rate=1e30))
    outcome = outcome_of(broken, knows_recipe=True)
    (fidelity,) = values(outcome, "fidelity")
    assert fidelity.value is None
    assert "AK245" in fidelity.reason
    (majority,) = values(outcome, "majority_fidelity")
    assert majority.value is not None


def test_what_the_data_does_not_allow_is_told():
    x = gaussian(30)
    few = outcome_of(callable_subject(linear, linear(x), x))
    assert few.status == "not_applicable"
    assert "AK591" in few.reason
    lacking = outcome_of(callable_subject(linear, linear(gaussian()), gaussian()), source="train")
    assert "AK592" in lacking.reason
    large = outcome_of(subject_zoo.mlp_subject(), queries=[50, 5000])
    assert [m.params["queries"] for m in values(large, "fidelity")] == [50]
    assert any("5000 queries" in note and 'source = "train"' in note for note in large.notes)


def test_settings_that_the_model_does_not_allow_are_told():
    subject = subject_zoo.pipeline_subject()
    rows = subject.test.inputs
    for attack in ("copycat", "knockoff"):
        with pytest.raises(UsageError, match="AK593"):
            make_outsider(subject, rows, rows, attack=attack, knows_recipe=False, steps=5)
    with pytest.raises(UsageError, match="AK592"):
        make_outsider(dataclasses.replace(subject, recipe=None), rows, rows, attack="auto", knows_recipe=True, steps=5)
    for name in [*UNUSABLE, "nonsense"]:
        with pytest.raises(UsageError, match="AK515"):
            copy_network(lambda at: np.eye(2)[at % 2], torch.rand(4, 2), n_classes=2, attack=name)
    with pytest.raises(UsageError, match="AK590"):
        copy_network(lambda at: np.eye(2)[at % 2], torch.rand(0, 2), n_classes=2)
