"""``privacy.audit``: planted faults are refuted, a correct training is not, and weakness is told."""

import dataclasses
import itertools

import numpy as np
import pytest

pytest.importorskip("opacus")
pytest.importorskip("dp_accounting")

import pandas as pd
import torch
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from auditkit.analyzers.privacy.audit import ANALYZER, AuditParams
from auditkit.core.evidence import Curve, Table
from auditkit.core.plan import Step, make_plan
from auditkit.execution.runner import run_step
from auditkit.methods.privacy import dp_training
from auditkit.methods.privacy.canaries import canary_inputs
from auditkit.methods.privacy.probe import linear_probe, probe_rows, probe_scores
from auditkit.subjects.build import make_subject
from auditkit.subjects.recipes import SklearnRecipe, TorchRecipe


def mlp(n_outputs):
    return torch.nn.Sequential(torch.nn.Linear(20, 48), torch.nn.ReLU(), torch.nn.Linear(48, n_outputs))


def recipe(**changes):
    settings = {"name": "MLP", "build": mlp, "epochs": 10, "batch_size": 100, "learning_rate": 0.5}
    return TorchRecipe(**{**settings, **changes})


def subject(chosen=None):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 20)).astype(np.float32)
    y = (x[:, 0] + rng.normal(size=1000) > 0).astype(int)
    return make_subject(mlp(2), x[:50], y[:50], train=(x, y), recipe=chosen or recipe())


def run(of=None, seed=3, **params):
    step = Step(name=ANALYZER.name, params=AuditParams.model_validate(params), analyzer=ANALYZER)
    return run_step(of or subject(), step, seed=seed)


def excess(outcome):
    assert outcome.status == "measured", outcome.reason
    return {m.params["epsilon"]: m for m in outcome.measurements if m.name == "privacy.epsilon_excess"}


def powers(outcome):
    found = [m for m in outcome.measurements if m.name == "privacy.audit_power"]
    return {(m.params["audit"], m.params["epsilon"]): m.value for m in found}


def noise_times(monkeypatch, factor):
    """The engine's fault: it adds less noise than it was told to."""
    honest = dp_training.dp_train

    def faulty(build, x, y, settings, **options):
        noise = settings.noise_multiplier * factor
        return honest(build, x, y, dataclasses.replace(settings, noise_multiplier=noise), **options)

    monkeypatch.setattr(dp_training, "dp_train", faulty)


@pytest.fixture(scope="module")
def clean():
    return run(epsilons=(8.0, 1.0), probe_canaries=2000)


def test_a_correct_training_is_not_refuted(clean):
    for epsilon, m in excess(clean).items():
        assert m.value < 0, epsilon
        assert m.unreliable is None
    assert not any("REFUTED" in note for note in clean.notes)
    seen = {m.params["epsilon"]: m.interval for m in clean.measurements if m.name == "privacy.noise_multiplier_seen"}
    for epsilon, claimed in ((8.0, 1.0), (1.0, 4.2)):
        assert seen[epsilon].low < claimed < seen[epsilon].high


def test_what_the_audit_could_have_seen_is_told(clean):
    told = powers(clean)
    assert told["gradients", 8.0] > 0.95
    assert told["gradients", 1.0] > 0.95
    assert told["weights", 8.0] == told["weights", 1.0] == told["inputs", 1.0] == 1.0
    assert any(note.startswith("Too weak at epsilon 8.0") for note in clean.notes) == (told["inputs", 8.0] == 0.0)


def test_claim_and_bounds_are_on_one_chart_with_a_table(clean):
    (chart,) = [a for a in clean.artifacts if isinstance(a, Curve)]
    assert [series.name.partition(":")[0] for series in chart.series] == ["claimed", "at least", "at least", "at least"]
    (rows,) = [a for a in clean.artifacts if isinstance(a, Table)]
    assert len(rows.rows) == 6
    assert {row[-1] for row in rows.rows} == {"not refuted"}


def test_what_no_audit_can_refute_is_said(clean):
    text = " ".join(clean.notes)
    for words in ("never proves one", "Poisson", "realised batch size", "guessed from its seed"):
        assert words in text


@pytest.mark.parametrize(("audit", "epsilon"), [("weights", 8.0), ("inputs", 1.0)])
def test_training_without_noise_is_refuted_from_the_final_model_alone(monkeypatch, audit, epsilon):
    noise_times(monkeypatch, 0.0)
    outcome = run(epsilons=(epsilon,), audits=(audit,))
    assert excess(outcome)[epsilon].value > 0
    assert any(note.startswith("REFUTED") for note in outcome.notes)


@pytest.mark.parametrize("epsilon", [8.0, 3.0, 1.0, 0.5])
def test_half_the_noise_is_refuted_from_one_released_step(monkeypatch, epsilon):
    noise_times(monkeypatch, 0.5)
    outcome = run(epsilons=(epsilon,), audits=("gradients",), probe_canaries=2000)
    assert powers(outcome)["gradients", epsilon] > 0.95
    assert excess(outcome)[epsilon].value > 0


def test_a_recipe_without_any_privacy_does_not_spend_the_epsilon_it_claims():
    outcome = run(claimed_epsilon=8.0, audits=("weights", "gradients"), probe_canaries=1500)
    assert excess(outcome)[8.0].value > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivateRecipe(TorchRecipe):
    """A user's own private training behind ``fit``."""

    noise: float
    clip: float = 1.0

    def fit(self, inputs, y, seed):
        from auditkit.subjects.torch import TorchModel

        x = self.fit_preparation(inputs)(inputs)
        settings = dp_training.Settings(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            max_grad_norm=self.clip,
            noise_multiplier=self.noise / self.clip,
        )
        codes = torch.as_tensor(y)
        trained = dp_training.dp_train(lambda: self.build(2), x, codes, settings, seed=seed, n_classes=2)
        return TorchModel(trained.module, classes=(0, 1), output="logit")


def private(**changes):
    settings = {"name": "own", "build": mlp, "epochs": 10, "batch_size": 100, "learning_rate": 0.5, "noise": 2.0}
    return subject(PrivateRecipe(**{**settings, **changes}))


def test_claim_of_a_users_own_private_training():
    from auditkit.methods.privacy.accounting import guarantee

    spent = guarantee(2.0, n=1000, batch_size=100, steps=100, delta=1e-5).epsilon
    claim = {"claimed_epsilon": spent, "noise_multiplier": 2.0, "audits": ("gradients",), "probe_canaries": 1000}
    assert excess(run(private(), **claim))[spent].value < 0
    assert excess(run(private(noise=1.0), **claim))[spent].value > 0
    # Noise as claimed, clipped to five times the norm that it was made for.
    assert excess(run(private(clip=5.0), **claim))[spent].value > 0


def test_a_claim_by_whole_batches_only_is_not_refuted_by_the_rows_left_out():
    """1,000 rows in batches of 600: one step a pass, at the rate 0.6; not 1.67 steps."""
    from auditkit.methods.privacy.accounting import epsilon

    spent = epsilon(2.0, 0.6, 10, 1e-5)
    claim = {"claimed_epsilon": spent, "noise_multiplier": 2.0, "audits": ("gradients",), "probe_canaries": 1000}
    assert excess(run(private(batch_size=600), **claim))[spent].value < 0
    assert excess(run(private(batch_size=600, noise=0.5), **claim))[spent].value > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Idle(TorchRecipe):
    """A training that learns nothing, or ends in numbers that are none."""

    factor: float = 1.0

    def fit(self, inputs, y, seed):
        from auditkit.subjects.torch import TorchModel

        module = self.build(2).eval()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(self.factor)
        return TorchModel(module, classes=(0, 1), output="logit")


def test_a_training_that_releases_nothing_spends_nothing_and_one_without_numbers_has_no_verdict():
    settings = {"name": "idle", "build": mlp, "epochs": 1, "batch_size": 100, "learning_rate": 0.5}
    idle = subject(Idle(**settings))
    asked = {"claimed_epsilon": 1.0, "audits": ("weights", "gradients"), "probe_canaries": 40}
    assert excess(run(idle, **asked))[1.0].value == -1.0
    broken = excess(run(subject(Idle(**settings, factor=float("nan"))), **asked))[1.0]
    assert broken.value is None
    assert "scores that are no numbers" in broken.reason


def test_any_model_as_a_black_box():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(600, 10))).rename(columns=str)
    y = np.arange(600) % 2
    for estimator, refuted in ((KNeighborsClassifier(1), True), (DummyClassifier(), False)):
        made = make_subject(
            estimator.fit(frame, y), frame[:50], y[:50], train=(frame, y), recipe=SklearnRecipe(estimator=estimator)
        )
        outcome = run(made, claimed_epsilon=0.5)
        assert (excess(outcome)[0.5].value > 0) == refuted
        assert sum("was not made: it needs a torch recipe" in note for note in outcome.notes) == 2


def test_a_diverged_training_gives_no_verdict():
    outcome = run(subject(recipe(learning_rate=1e38)), epsilons=(1.0,), audits=("weights",))
    m = excess(outcome)[1.0]
    assert m.value is None
    assert "training diverged" in m.reason


def test_an_audit_that_could_not_have_seen_anything_is_not_relied_upon():
    outcome = run(epsilons=(8.0,), audits=("inputs",), canaries=40)
    assert excess(outcome)[8.0].unreliable == "no audit here would have seen even a training without noise"


def test_claims_that_need_no_audit():
    estimator = KNeighborsClassifier(1)
    x, y = np.zeros((60, 2)), np.arange(60) % 2
    made = make_subject(estimator.fit(x, y), x, y, train=(x, y), recipe=SklearnRecipe(estimator=estimator))
    outcome = run(made)
    assert outcome.status == "failed"
    assert "AK554 there is no claim to audit" in outcome.reason
    outcome = run(claimed_epsilon=1.0, noise_multiplier=1.0)
    assert "AK555 noise multiplier 1 spends epsilon" in outcome.reason
    with pytest.raises(ValueError, match="noise_multiplier belongs to a claim"):
        AuditParams(noise_multiplier=1.0)
    outcome = run(delta=0.5)
    assert "AK560" in outcome.reason


def test_it_runs_only_when_named_or_given_settings():
    def planned(*arguments):
        return ANALYZER.name in [step.name for step in make_plan(*arguments).steps]

    assert not planned()
    assert not planned(["privacy"])
    assert planned([ANALYZER.name])
    assert planned(None, {ANALYZER.name: {"claimed_epsilon": 3.0}})


def test_canary_rows_have_the_type_of_the_data_and_values_that_occur():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": pd.Categorical(["x", "y", "x"])})
    rows = canary_inputs(frame, 20, rng)
    assert rows.dtypes.equals(frame.dtypes)
    assert len(rows) == 20
    assert set(rows["b"]) == {"x", "y"}
    images = canary_inputs(np.arange(24).reshape(2, 3, 4), 5, rng)
    assert images.shape == (5, 3, 4)
    assert set(canary_inputs(["a b c", "d"], 10, rng)) <= {
        " ".join(words) for length in (1, 3) for words in itertools.product("abcd", repeat=length)
    }


def test_probe_moves_each_canary_on_its_own_coordinate():
    included, y = np.array([True, False, True]), np.array([0, 1, 1])
    probe = linear_probe(3, 3)
    x = torch.from_numpy(probe_rows(included))
    torch.nn.functional.cross_entropy(probe(x), torch.as_tensor(y[included]), reduction="sum").backward()
    with torch.no_grad():
        probe.weight -= 0.1 * probe.weight.grad
    scores = probe_scores(probe, y)
    assert scores[0] == pytest.approx(scores[2])
    assert scores[0] > 10
    assert scores[1] == 0.0
