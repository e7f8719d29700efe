"""``privacy.dp_training``: a group that privacy costs more, twins that differ in nothing, and honest refusals."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("opacus")

import torch

from auditkit.analyzers.privacy.dp_training import ANALYZER, DpTrainingParams
from auditkit.core.evidence import Curve, Table
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.privacy.accounting import epsilon
from auditkit.subjects.build import make_subject
from auditkit.subjects.recipes import SklearnRecipe, TorchRecipe


def mlp(n_outputs):
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, n_outputs))


def recipe(**changes):
    settings = {"name": "small MLP", "build": mlp, "epochs": 10, "batch_size": 100, "learning_rate": 1.0}
    return TorchRecipe(**{**settings, **changes})


def table(n, seed, share=0.1):
    """A minority (column 3 says which) whose label depends on the features the other way round."""
    rng = np.random.default_rng(seed)
    minority = rng.random(n) < share
    x = rng.normal(size=(n, 4)).astype(np.float32)
    x[:, 3] = np.where(minority, 1.0, -1.0)
    merit = np.where(minority, -x[:, 0], x[:, 0]) + 0.1 * rng.normal(size=n)
    return x, (merit > 0).astype(int), {"group": np.where(minority, "few", "many")}


def subject(share=0.1, n=1000, chosen=None, **options):
    x, y, _ = table(n, 0, share)
    x_test, y_test, sensitive = table(600, 1, max(share, 0.1))
    model = torch.nn.Sequential(torch.nn.Linear(4, 2))
    return make_subject(model, x_test, y_test, sensitive=sensitive, train=(x, y), recipe=chosen or recipe(), **options)


def run(of, **params):
    settings = {"epsilons": (8.0, 1.0), "seeds": 2, **params}
    deadline = settings.pop("deadline", None)
    step = Step(name=ANALYZER.name, params=DpTrainingParams.model_validate(settings), analyzer=ANALYZER)
    return run_step(of, step, seed=3, deadline=deadline)


def pick(outcome, name, where=None, **wanted):
    (found,) = [
        m
        for m in outcome.measurements
        if m.name == name
        and dict(m.slice) == (where or {})
        and all(m.params[key] == value for key, value in wanted.items())
    ]
    return found


@pytest.fixture(scope="module")
def outcome():
    return run(subject())


def test_everything_is_measured_with_intervals(outcome):
    assert outcome.status == "measured", outcome.reason
    for m in outcome.measurements:
        assert m.value is not None
        assert m.n
        assert m.interval is not None or m.reason
    arms = {(m.params["arm"], m.params["epsilon"]) for m in outcome.measurements if m.name == "privacy.dp_accuracy"}
    assert arms == {("non-private", "inf"), ("clip-only", "inf"), ("private", 8.0), ("private", 1.0)}


def test_privacy_costs_the_minority_more(outcome):
    few = pick(outcome, "privacy.dp_accuracy_cost", {"group": "few"}, epsilon=1.0)
    many = pick(outcome, "privacy.dp_accuracy_cost", {"group": "many"}, epsilon=1.0)
    assert few.interval.low > many.interval.high
    assert few.value > 0.2
    assert any(note.startswith("By group, epsilon 1 costs most accuracy for few") for note in outcome.notes)


def test_cost_is_the_difference_of_the_accuracies(outcome):
    plain = pick(outcome, "privacy.dp_accuracy", arm="non-private").value
    private = pick(outcome, "privacy.dp_accuracy", epsilon=8.0).value
    assert pick(outcome, "privacy.dp_accuracy_cost", epsilon=8.0).value == pytest.approx(plain - private)


def test_epsilon_is_the_accountants(outcome):
    for target in (8.0, 1.0):
        noise = pick(outcome, "privacy.noise_multiplier", epsilon=target).value
        spent = pick(outcome, "privacy.epsilon", epsilon=target)
        assert spent.value == epsilon(noise, 0.1, 100, 1e-5)
        assert 0.98 * target <= spent.value <= target
        assert spent.n == 1000
    assert all(m.params["epsilon"] != "inf" for m in outcome.measurements if m.name == "privacy.epsilon")


def test_what_it_says_is_about_the_recipe(outcome):
    text = " ".join(outcome.notes)
    for words in ("recipe 'small MLP'", "no epsilon is claimed for it", "adding or removing one row", "public"):
        assert words in text
    curves = [artifact for artifact in outcome.artifacts if isinstance(artifact, Curve)]
    assert [curve.name for curve in curves] == ["privacy.dp_frontier", "privacy.dp_frontier.group"]
    assert curves[0].series[0].x == (1.0, 8.0)
    assert {line.name for line in curves[1].series} >= {"group=few", "group=many"}
    (arms,) = [artifact for artifact in outcome.artifacts if artifact.name == "privacy.dp_arms"]
    assert len(arms.rows) == 4 * 3


def test_where_privacy_costs_nothing_no_cost_is_claimed():
    """The clean twin: one rule for everyone, learnt in any arm."""
    x, y, sensitive = table(2000, 0, 0.0)
    sensitive = {"group": np.where(np.arange(2000) % 2 == 0, "A", "B")}
    even = make_subject(
        mlp(2), x[1000:], y[1000:], sensitive={"group": sensitive["group"][1000:]}, train=(x[:1000], y[:1000]),
        recipe=recipe(),
    )  # fmt: skip
    outcome = run(even, epsilons=(8.0,), noise_multipliers={"8": 1.2})
    for where in ({}, {"group": "A"}, {"group": "B"}):
        assert abs(pick(outcome, "privacy.dp_accuracy_cost", where, epsilon=8.0).value) < 0.03
    a, b = (pick(outcome, "privacy.dp_accuracy_cost", {"group": group}, epsilon=8.0).interval for group in "AB")
    assert a.low <= b.high
    assert b.low <= a.high


def test_given_noise_is_checked_never_trusted():
    known = {"8": 5.0, "1.0": 6.0}
    outcome = run(subject(), noise_multipliers=known, seeds=1)
    assert pick(outcome, "privacy.noise_multiplier", epsilon=8.0).value == 5.0
    assert pick(outcome, "privacy.epsilon", epsilon=8.0).value == epsilon(5.0, 0.1, 100, 1e-5) < 2.0
    too_little = run(subject(), noise_multipliers={"1": 1.0}, seeds=1)
    assert too_little.status == "failed"
    assert "AK571 noise multiplier 1 spends epsilon" in too_little.reason
    assert not too_little.measurements


def test_other_private_settings_add_the_recipes_own_arm():
    outcome = run(
        subject(), epsilons=(8.0,), seeds=1, noise_multipliers={"8": 3.0}, dp_batch_size=250, dp_learning_rate=2.0
    )
    costs = {m.params["baseline"] for m in outcome.measurements if m.name == "privacy.dp_accuracy_cost" and not m.slice}
    assert costs == {"non-private", "recipe"}
    assert pick(outcome, "privacy.dp_accuracy", arm="recipe").value is not None


def test_diverged_training_has_no_number():
    outcome = run(subject(chosen=recipe(learning_rate=1e38)), epsilons=(8.0,), noise_multipliers={"8": 1.2})
    plain = pick(outcome, "privacy.dp_accuracy", arm="non-private")
    assert plain.value is None
    assert "2 of 2 trainings failed: training diverged" in plain.reason
    assert pick(outcome, "privacy.dp_accuracy_cost", epsilon=8.0).value is None


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"delta": 0.01}, "AK560 delta = 0.01 is not below 1/n"),
        ({"dp_batch_size": 1001}, "AK565 the batch size 1001 is larger than the 1000 training rows"),
        ({"epsilons": (0.01,)}, "AK563 epsilon 0.01 is below what the accountant can resolve"),
    ],
)
def test_bad_settings_fail_with_a_sentence_and_no_number(params, message):
    outcome = run(subject(), **params)
    assert outcome.status == "failed"
    assert message in outcome.reason
    assert not outcome.measurements


@pytest.mark.parametrize(
    "settings", [{"epsilons": ()}, {"epsilons": (1.0, 1.0)}, {"noise_multipliers": {"eight": 1.0}}, {"seeds": 0}]
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ValueError, match="epsilons|noise_multipliers|seeds"):
        DpTrainingParams.model_validate(settings)


def test_what_is_missing_is_told():
    x, y, _ = table(100, 0)
    bare = make_subject(torch.nn.Linear(4, 2), x, y, train=(x, y))
    assert "needs private_recipe" in run(bare).reason
    untrained = make_subject(torch.nn.Linear(4, 2), x, y, recipe=recipe())
    assert "needs train" in run(untrained).reason
    tree = pytest.importorskip("sklearn.tree").DecisionTreeClassifier()  # nothing that a private recipe could follow
    other = make_subject(torch.nn.Linear(4, 2), x, y, train=(x, y), recipe=SklearnRecipe(estimator=tree))
    assert run(other).status == "not_applicable"


def test_the_deadline_keeps_what_was_measured(monkeypatch):
    from auditkit.analyzers.privacy import dp_report

    original = dp_report.accuracy

    def slow(*arguments):
        yield from original(*arguments)
        time.sleep(0.3)

    monkeypatch.setattr("auditkit.analyzers.privacy.dp_training.accuracy", slow)
    of = subject()
    run(of, noise_multipliers={"8": 5.0, "1": 6.0}, seeds=1)
    cut = run(of, noise_multipliers={"8": 5.0, "1": 6.0}, seeds=1, deadline=time.monotonic() + 0.9)
    assert cut.status == "skipped"
    assert cut.measurements


def test_batch_norm_and_three_classes():
    def build(n_outputs):
        return torch.nn.Sequential(
            torch.nn.Linear(4, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, n_outputs)
        )

    x, _, _ = table(500, 0)
    y = np.digitize(x[:, 0], [-0.5, 0.5])
    of = make_subject(
        torch.nn.Linear(4, 3), x[300:], y[300:], train=(x[:300], y[:300]), recipe=recipe(build=build, batch_size=50)
    )
    outcome = run(of, epsilons=(8.0,), seeds=1, noise_multipliers={"8": 3.0})
    assert outcome.status == "measured", outcome.reason
    assert any("batch norm layer(s) were replaced" in note for note in outcome.notes)
    assert not any(m.name == "privacy.dp_selection_rate" for m in outcome.measurements)
    assert pick(outcome, "privacy.dp_accuracy", arm="non-private").value > 0.6


def test_every_arm_has_its_robustness_and_its_leakage(outcome):
    for name in ("privacy.dp_robust_accuracy", "privacy.dp_membership_auc"):
        arms = {(m.params["arm"], m.params["epsilon"]): m for m in outcome.measurements if m.name == name}
        assert set(arms) == {("non-private", "inf"), ("clip-only", "inf"), ("private", 8.0), ("private", 1.0)}
        assert all(m.interval.low <= m.value <= m.interval.high for m in arms.values())
        for (arm, target), m in arms.items():
            clean = pick(outcome, "privacy.dp_accuracy", arm=arm, epsilon=target).value
            assert name != "privacy.dp_robust_accuracy" or m.value < clean


def test_overfitting_leaks_and_privacy_stops_it():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(120, 40)).astype(np.float32), rng.integers(0, 2, 120)
    wide = lambda k: torch.nn.Sequential(torch.nn.Linear(40, 64), torch.nn.ReLU(), torch.nn.Linear(64, k))  # noqa: E731
    overfit = recipe(build=wide, epochs=60, batch_size=30, learning_rate=0.5)
    made = make_subject(wide(2), x[60:], y[60:], train=(x[:60], y[:60]), recipe=overfit)
    found = run(made, epsilons=(1.0,), noise_multipliers={"1": 40.0})
    assert pick(found, "privacy.dp_membership_auc", arm="non-private").value > 0.9
    assert pick(found, "privacy.dp_membership_auc", arm="private").interval.low < 0.5


def test_attack_is_as_strong_as_the_closed_form_of_a_linear_model():
    from auditkit.analyzers.privacy.dp_arms import codes_under_attack
    from auditkit.analyzers.retraining import Data

    torch.manual_seed(0)
    module, x, y = torch.nn.Linear(5, 2), torch.randn(300, 5), torch.randint(0, 2, (300,))
    data = Data(x=x, y=y, x_test=x, y_test=y, n_classes=2, rows=np.arange(len(x)), prepare=None)
    toward = (module.weight[1] - module.weight[0]) * (2 * y - 1)[:, None]
    margin = (module(x)[:, 1] - module(x)[:, 0]) * (2 * y - 1) - 0.1 * toward.abs().sum(dim=1)
    right = torch.from_numpy(codes_under_attack(module, data, 0.1)) == y
    assert float((right == (margin > 0)).float().mean()) > 0.99


def test_ordered_rows_are_looked_at_from_one_end_to_the_other():
    """Of rows in the order of their classes the first are of one: a model that knows that one alone looked robust, and
    a longer table with more rows of it looked as if it had leaked."""
    from auditkit.analyzers.privacy.dp_arms import Trial, codes_under_attack, leak, part_of
    from auditkit.analyzers.privacy.dp_report import robustness
    from auditkit.analyzers.retraining import Data
    from auditkit.core.subject import Dataset

    y, y_test = np.repeat([0, 1], 5000), np.repeat([0, 1], 2500)
    module = torch.nn.Linear(2, 2)
    with torch.no_grad():
        module.weight.zero_()
        module.bias.copy_(torch.tensor([2.0, -2.0]))
    x, x_test = torch.randn(10000, 2), torch.randn(5000, 2)
    data = Data(
        x=x, y=torch.from_numpy(y), x_test=x_test, y_test=torch.from_numpy(y_test), n_classes=2,
        rows=np.arange(10000), prepare=None,
    )  # fmt: skip
    area, low, high = leak(module, data)
    assert low <= 0.5 <= high
    assert abs(area - 0.5) < 0.02
    codes = codes_under_attack(module, data, 0.1)
    test = Dataset(inputs=x_test.numpy(), y=y_test)
    trial = Trial(arm=SimpleNamespace(name="private", epsilon=1.0), decisions=None, attacked=codes[None, :])
    (found,) = robustness(trial, test, 0.1, 0.95)
    assert found.value == pytest.approx((y_test[part_of(5000, 500)] == 0).mean())
    assert found.interval.low < 0.5 < found.interval.high


def test_advice_on_batch_size_is_less_noise_for_the_same_epsilon(outcome):
    (advised,) = [a for a in outcome.artifacts if isinstance(a, Table) and a.name == "privacy.dp_advice"]
    sizes, noises = [row[0] for row in advised.rows], [row[4] for row in advised.rows]
    assert sizes == [100, 200]
    assert noises[1] < noises[0]
    for size, steps, noise, rate, total in advised.rows:
        assert epsilon(noise, size / 1000, steps, 1e-5) < 1.0
        assert rate == pytest.approx(size / 100)
        assert total == pytest.approx(noise / (size * steps**0.5))
    assert any(note.startswith("The recipe as used: 10 passes, batches of 100 rows") for note in outcome.notes)


def test_without_the_clipping_arm_nothing_is_said_of_groups(outcome):
    from auditkit.analyzers.privacy.dp_report import findings

    kept = [m for m in outcome.measurements if m.params.get("arm") != "clip-only"]
    (said,) = findings(kept, ("group",))
    assert said.text.startswith("No statement on what privacy costs by group")


def test_who_has_several_rows_is_told_that_epsilon_is_for_one():
    def told(**options):
        outcome = run(subject(n=200, **options), seeds=1, epsilons=(8.0,), noise_multipliers={"8": 2.0})
        assert outcome.status == "measured", outcome.reason
        return [note for note in outcome.notes if note.startswith("Epsilon protects one row")]

    assert len(told(clusters=np.arange(600) // 3)) == 1
    assert told() == []
