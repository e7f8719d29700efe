"""``privacy.membership`` on models that leak, on twins that do not, and on data it must be careful with."""

import math

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from auditkit.analyzers.privacy.membership import ANALYZER, MembershipParams
from auditkit.analyzers.privacy.rows import shared_rows
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_predictions_subject, make_subject


def noisy(n, seed, d=20):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    return x, (x[:, :3].sum(axis=1) + 2.0 * rng.normal(size=n) > 0).astype(int)


def audit(model, train, test, **options):
    return run(make_subject(model, *test, train=train, **options))


def run(subject, **params):
    return run_step(subject, Step(name=ANALYZER.name, params=MembershipParams(**params), analyzer=ANALYZER), seed=3)


def pick(outcome, name, **wanted):
    where = wanted.pop("where", {})
    (found,) = [
        m
        for m in outcome.measurements
        if m.name == name and dict(m.slice) == where and all(m.params[key] == value for key, value in wanted.items())
    ]
    return found


def test_overfitted_forest_is_caught_and_its_linear_twin_is_not():
    train, test = noisy(600, 0), noisy(1500, 1)
    leaky = audit(RandomForestClassifier(60, random_state=0).fit(*train), train, test)
    assert leaky.status == "measured"
    assert pick(leaky, "privacy.membership_auc", attack="loss").interval.low > 0.9
    assert pick(leaky, "privacy.membership_tpr", attack="loss", fpr=0.01).interval.low > 0.02
    assert pick(leaky, "privacy.membership_tpr", attack="loss", fpr=0.001).value is not None
    calm = audit(LogisticRegression(C=0.01).fit(*train), train, test)
    area = pick(calm, "privacy.membership_auc", attack="loss")
    assert area.interval.low < 0.5 < area.interval.high or area.value < 0.54
    assert pick(calm, "privacy.membership_tpr", attack="loss", fpr=0.01).interval.low <= 0.01


def test_overfitted_network_is_caught_and_private_and_early_twins_are_not():
    pytest.importorskip("opacus")
    import torch

    from auditkit.methods.privacy.accounting import noise_multiplier_for
    from auditkit.methods.privacy.dp_training import Settings, dp_train
    from auditkit.methods.privacy.membership import attack_scores, dp_ceiling, tpr_at_fpr

    train, test = noisy(400, 0), noisy(1500, 1)
    x, y = torch.tensor(train[0]).float(), torch.tensor(train[1]).long()
    noise = noise_multiplier_for(1.0, sample_rate=0.25, steps=80, delta=1e-5)
    plain = {"batch_size": 40, "max_grad_norm": None}
    recipes = {
        "overfit": Settings(epochs=200, learning_rate=0.5, momentum=0.5, **plain),
        "early": Settings(epochs=2, learning_rate=0.1, **plain),
        "private": Settings(epochs=20, batch_size=100, learning_rate=0.5, max_grad_norm=1.0, noise_multiplier=noise),
    }
    areas, broken = {}, {}
    for name, settings in recipes.items():
        module = dp_train(
            lambda: torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2)),
            x, y, settings, seed=0, n_classes=2,
        ).module  # fmt: skip
        outcome = audit(module, (train[0].astype(np.float32), train[1]), (test[0].astype(np.float32), test[1]))
        areas[name] = pick(outcome, "privacy.membership_auc", attack="loss").interval
        with torch.no_grad():
            logits = [module(torch.tensor(part[0]).float()).double().numpy() for part in (train, test)]
        both, labels = np.concatenate(logits), np.concatenate([train[1], test[1]])
        loss = attack_scores(both, labels, both.argmax(axis=1), "logit")["loss"]
        member = np.arange(len(both)) < 400
        broken[name] = [
            tpr_at_fpr(loss, member, fpr).interval.low > dp_ceiling(fpr, 1.0, 1e-5) for fpr in (0.01, 0.1, 0.4, 0.5)
        ]
    assert areas["overfit"].low > 0.65
    assert areas["early"].low < 0.53
    assert areas["private"].low < 0.53
    assert any(broken["overfit"])
    assert not any(broken["private"])


def test_labels_only_models_get_the_gap_attack():
    train, test = noisy(300, 0), noisy(300, 1)
    forest = RandomForestClassifier(30, random_state=0).fit(*train)
    outcome = audit(lambda rows: forest.predict(rows), train, test)
    area = pick(outcome, "privacy.membership_auc", attack="correctness")
    gap = forest.score(*train) - forest.score(*test)
    assert area.value == pytest.approx(0.5 + gap / 2)
    assert {m.params["attack"] for m in outcome.measurements} == {"correctness", "label-noise"}
    noise = pick(outcome, "privacy.membership_auc", attack="label-noise")
    assert noise.interval.low > 0.55
    assert noise.value > area.value - 0.02
    calm = LogisticRegression(C=0.01).fit(*noisy(2000, 5))
    unseen = audit(lambda rows: calm.predict(rows), train, test)
    assert pick(unseen, "privacy.membership_auc", attack="label-noise").interval.low < 0.5


def test_rows_in_both_splits_are_left_out_and_said():
    train, test = noisy(300, 0), noisy(300, 1)
    forest = RandomForestClassifier(30, random_state=0).fit(*train)
    clean = audit(forest, train, test)
    mixed = audit(forest, train, (np.concatenate([test[0], train[0][:40]]), np.concatenate([test[1], train[1][:40]])))
    area = pick(mixed, "privacy.membership_auc", attack="loss")
    assert area.n == 260 + 300
    assert any("40 of 340 test rows also occur among the training rows" in note for note in mixed.notes)
    assert not any("also occur" in note for note in clean.notes)
    same = audit(forest, train, train)
    assert same.status == "failed"
    assert "AK572 0 members and 0 non-members are left" in same.reason


def test_groups_that_are_memorised_show():
    """Only rows of group B have random labels, so that only there the tree must memorise."""
    rng = np.random.default_rng(0)

    def table(seed):
        x, _ = noisy(600, seed, d=8)
        group = np.where(np.arange(600) % 2 == 0, "A", "B")
        x[:, 7] = np.where(group == "B", 5.0, -5.0)
        y = (x[:, 0] > 0).astype(int)
        return x, np.where(group == "B", rng.integers(0, 2, 600), y), {"group": group}

    train, test = table(0), table(1)
    tree = DecisionTreeClassifier(random_state=0).fit(train[0], train[1])
    outcome = audit(tree, train, test[:2], sensitive=test[2])
    exposed = pick(outcome, "privacy.membership_auc", attack="loss", where={"group": "B"})
    calm = pick(outcome, "privacy.membership_auc", attack="loss", where={"group": "A"})
    assert exposed.interval.low > calm.interval.high
    assert exposed.n == 600


def test_max_rows_bounds_both_sides_and_is_repeatable():
    train, test = noisy(300, 0), noisy(200, 1)
    subject = make_subject(LogisticRegression().fit(*train), *test, train=train)
    first, second = run(subject, max_rows=50), run(subject, max_rows=50)
    assert pick(first, "privacy.membership_auc", attack="loss").n == 100
    assert first == second
    assert {note[:7] for note in first.notes} >= {"Members", "A thres"}


def test_what_is_missing_is_told():
    train, test = noisy(100, 0), noisy(100, 1)
    model = LogisticRegression().fit(*train)
    alone = run(make_subject(model, *test))
    assert (alone.status, "needs train" in alone.reason) == ("not_applicable", True)
    saved = run(make_predictions_subject(test[1], model.predict(test[0])))
    assert saved.status == "not_applicable"
    few = audit(model, train, (test[0][:5], test[1][:5]))
    assert few.status == "failed"
    assert "AK572 100 members and 5 non-members" in few.reason


@pytest.mark.parametrize("rates", [(0.0,), (1.0,), (2.0,), (math.nan,), (0.01, 0.01)])
def test_false_positive_rates_are_shares(rates):
    with pytest.raises(ValueError, match="must be above 0, below 1 and each there once"):
        MembershipParams(false_positive_rates=rates)


def test_a_tree_that_knows_its_rows_by_heart_is_not_at_0():
    train, test = noisy(400, 0), noisy(400, 1)
    outcome = audit(DecisionTreeClassifier(random_state=0).fit(*train), train, test)
    assert pick(outcome, "privacy.membership_tpr", attack="loss", fpr=0.01).value > 0.012
    assert pick(outcome, "privacy.membership_tpr", attack="loss", fpr=0.001).value is None


def test_clustered_rows_get_clustered_intervals():
    train, test = noisy(200, 0), noisy(200, 1)
    model = RandomForestClassifier(30, random_state=0).fit(*train)
    subject = make_subject(model, *test, train=train, clusters=np.arange(200) // 4)
    outcome = run(subject)
    assert pick(outcome, "privacy.membership_auc", attack="loss").interval.method == "cluster-delong-logit"
    tpr = pick(outcome, "privacy.membership_tpr", attack="loss", fpr=0.01)
    assert tpr.interval is None
    assert "rows of one cluster are alike" in tpr.reason


def test_shared_rows_looks_at_values_not_types():
    train = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]})
    test = pd.DataFrame({"a": [2.0, 3.0, np.nan], "b": [None, "y", "x"]})
    assert [found.tolist() for found in shared_rows(train, test)] == [[False, True, False], [True, False, False]]
    images = np.arange(24.0).reshape(2, 3, 4)
    assert [found.tolist() for found in shared_rows(images, images[1:])] == [[False, True], [True]]
    assert [found.tolist() for found in shared_rows(["one", "two"], ["two"])] == [[False, True], [True]]


def test_values_are_finite_whatever_the_model_says():
    train, test = noisy(100, 0), noisy(100, 1)

    def certain(rows):
        first = (np.asarray(rows)[:, 0] > 0).astype(float)
        return np.column_stack([1 - first, first])

    outcome = audit(certain, train, test)
    assert outcome.status == "measured"
    assert all(math.isfinite(m.value) for m in outcome.measurements if m.value is not None)


def test_a_constant_model_leaks_nothing():
    train, test = noisy(100, 0), noisy(100, 1)
    outcome = audit(lambda rows: np.tile([0.5, 0.5], (len(rows), 1)), train, test)
    area = pick(outcome, "privacy.membership_auc", attack="confidence")
    assert area.value == 0.5
    assert area.interval is not None or area.reason
