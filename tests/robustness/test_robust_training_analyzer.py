"""``robustness.training``: whole comparisons, catastrophic overfitting told, failed arms kept, honest refusals."""

import numpy as np
import pandas as pd
import pytest
import torch

from auditkit.analyzers.robustness.training import ANALYZER, TrainingParams
from auditkit.core.analyzer import Context
from auditkit.core.errors import DeadlineReached
from auditkit.core.evidence import Curve, Measurement, Table
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject
from auditkit.subjects.recipes import TorchRecipe
from auditkit.subjects.torch import TorchModel

QUICK = {"seeds": 2, "attack": "pgd", "attack_steps": 12, "steps": 3, "attack_restarts": 1, "check_rows": 0}


def features(n, seed):
    """Tsipras et al. (2019): one feature right in 9 of 10 rows, and many weak ones that sum to more."""
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    s = 2.0 * y - 1.0
    strong = np.where(rng.random(n) < 0.9, s, -s)
    x = np.concatenate([strong[:, None], 0.4 * s[:, None] + rng.normal(size=(n, 40))], axis=1).astype(np.float32)
    return x, y, {"sex": np.where(rng.random(n) < 0.5, "F", "M")}


def line(n_outputs):
    return torch.nn.Linear(41, n_outputs)


def recipe(**changes):
    settings = {"name": "line", "build": line, "epochs": 8, "batch_size": 50, "learning_rate": 0.05}
    return TorchRecipe(**{**settings, **changes})


def subject(chosen=None, data=features, **options):
    x, y, _ = data(500, 0)
    x_test, y_test, sensitive = data(300, 1)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(41, 2))
    options = {"sensitive": sensitive, "train": (x, y), "recipe": chosen or recipe(), "positive": 1} | options
    return make_subject(model, x_test, y_test, **options)


def run(of, **params):
    step = Step(name=ANALYZER.name, params=TrainingParams.model_validate(QUICK | params), analyzer=ANALYZER)
    return run_step(of, step, seed=3)


def pick(outcome, name, where=None, **wanted):
    (found,) = [
        m
        for m in outcome.measurements
        if m.name == f"robustness.training_{name}"
        and dict(m.slice) == (where or {})
        and not m.over
        and all(m.params[key] == value for key, value in wanted.items())
    ]
    return found


@pytest.fixture(scope="module")
def outcome():
    return run(subject(), eps=0.6, attacked_rows=100)


def test_everything_is_measured_with_intervals(outcome):
    assert outcome.status == "measured", outcome.reason
    for m in outcome.measurements:
        assert m.n
        assert m.value is not None
        assert m.interval is not None or m.reason
        assert m.unreliable is None
    arms = {m.params["arm"] for m in outcome.measurements}
    assert arms == {"standard", "pgd", "trades", "fast", "noise"}
    gaps = [m for m in outcome.measurements if m.name == "robustness.training_robust_accuracy.difference"]
    assert len(gaps) == 5
    assert all(m.over == ("sex",) for m in gaps)


def test_adversarial_training_buys_robustness_where_theory_says_so(outcome):
    plain, madry = (pick(outcome, "robust_accuracy", arm=arm) for arm in ("standard", "pgd"))
    assert madry.interval.low > plain.interval.high
    assert pick(outcome, "robustness_gain", arm="pgd").interval.low > 0.2
    assert pick(outcome, "accuracy_cost", arm="pgd").value > 0.0
    assert pick(outcome, "passes", arm="pgd").value == 4.0


def test_gains_and_costs_are_differences_of_what_is_shown(outcome):
    for arm in ("pgd", "trades", "fast", "noise"):
        for where in ({}, {"sex": "F"}):
            plain, other = (pick(outcome, "robust_accuracy", where, arm=a).value for a in ("standard", arm))
            assert pick(outcome, "robustness_gain", where, arm=arm).value == pytest.approx(other - plain)
            plain, other = (pick(outcome, "accuracy", where, arm=a).value for a in ("standard", arm))
            assert pick(outcome, "accuracy_cost", where, arm=arm).value == pytest.approx(plain - other)


def test_robust_accuracy_of_a_line_is_its_closed_form():
    """Standard training is the recipe's own; its linear model falls where the margin is below eps * sum |sd w|."""
    whole = subject()
    found = run(whole, eps=0.3, seeds=1, arms=["noise"], attacked_rows=300)
    seed = int(np.random.default_rng(sequence_of(found, whole)).integers(0, 2**62, 1)[0])
    module = whole.recipe.fit(whole.train.inputs, whole.train.y, seed).module
    x, y = np.asarray(whole.test.inputs, dtype=np.float64), whole.test.y
    weight = (module.weight[1] - module.weight[0]).detach().double().numpy()
    bias = float((module.bias[1] - module.bias[0]).detach())
    s = 2.0 * y - 1.0
    against = -s[:, None] * np.sign(weight)
    room = np.where(against > 0, x.max(axis=0) - x, x - x.min(axis=0))
    lost = (np.abs(weight) * np.minimum(0.3 * x.std(axis=0), room)).sum(axis=1)
    standing = s * (x @ weight + bias) > lost
    assert pick(found, "robust_accuracy", arm="standard").value == pytest.approx(standing.mean(), abs=0.004)
    assert pick(found, "accuracy", arm="standard").value == pytest.approx((s * (x @ weight + bias) > 0).mean())


def sequence_of(outcome, whole):
    """The random stream that the runner gave the analyzer."""
    from auditkit.core.seeds import analyzer_seed

    chosen = TrainingParams.model_validate(QUICK | {"eps": 0.3, "seeds": 1, "arms": ["noise"], "attacked_rows": 300})
    return analyzer_seed(3, ANALYZER.name, chosen.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("eps", "random_start", "epochs", "planted"), [(0.4, False, 60, True), (0.05, True, 15, False)]
)
def test_catastrophic_overfitting_is_told_and_its_twin_is_not(eps, random_start, epochs, planted):
    from sklearn.datasets import load_digits

    pixels, digits = load_digits(return_X_y=True)
    images = (pixels / 16.0).reshape(-1, 1, 8, 8).astype(np.float32)

    def build(n_outputs):
        return torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, n_outputs)
        )

    chosen = recipe(build=build, epochs=epochs, batch_size=32, learning_rate=0.1, momentum=0.9)
    model = TorchModel(build(10), classes=range(10))
    whole = make_subject(model, images[1200:1400], digits[1200:1400],
                         train=(images[:600], digits[:600]), recipe=chosen)  # fmt: skip
    found = run(whole, arms=["fast"], seeds=1, eps=eps, fast_step=1.0, fast_random_start=random_start, severities=[3],
                attacked_rows=100, corrupted_rows=50)  # fmt: skip
    assert found.status == "measured", found.reason
    said = [note for note in found.notes if "catastrophic overfitting in 1 of 1 trainings" in note]
    assert bool(said) is planted
    gap = pick(found, "attack_gap", arm="fast")
    assert (gap.interval.low > 0.25) if planted else (gap.value < 0.15)
    assert pick(found, "corrupted_accuracy", arm="standard").value > 0.5
    (curve,) = [a for a in found.artifacts if a.name == "robustness.training_frontier"]
    assert [line.name for line in curve.series] == ["standard", "fast adversarial training"]


def test_an_arm_that_diverges_is_kept_with_its_reason_and_the_rest_is_measured():
    found = run(subject(), arms=["trades", "noise"], beta=1e38, attacked_rows=20, seeds=1)
    assert found.status == "measured", found.reason
    lost = pick(found, "robust_accuracy", arm="trades")
    assert lost.value is None
    assert "1 of 1 trainings failed: the" in lost.reason
    assert pick(found, "robust_accuracy", arm="noise").value is not None
    assert any(note.startswith("trades: no number, as 1 of 1 trainings failed") for note in found.notes)
    (table,) = [a for a in found.artifacts if a.name == "robustness.training_arms"]
    assert [row[0] for row in table.rows if row[1] == "all rows"] == ["standard", "trades", "noise augmentation"]


def test_a_group_with_few_rows_has_a_reason_in_place_of_a_number():
    whole = subject(sensitive={"sex": np.where(np.arange(300) < 2, "F", "M")})
    found = run(whole, arms=["noise"], seeds=1, attacked_rows=20)
    few = pick(found, "accuracy", {"sex": "F"}, arm="noise")
    assert few.value is None
    assert few.n == 2
    assert "fewer than min_group_rows = 5" in few.reason
    (gap,) = [m for m in found.measurements if m.name == "robustness.training_accuracy.difference"][:1]
    assert gap.value is None
    assert gap.reason


def test_what_was_measured_before_the_deadline_is_kept(monkeypatch):
    done = []

    def late(self):
        if done:
            raise DeadlineReached("AK320", "the deadline of the run passed")

    monkeypatch.setattr(Context, "check_deadline", late)
    whole = subject()
    context = Context(
        sequence=np.random.SeedSequence(0),
        predictions=lambda split: (None, whole.test.y),
        progress=lambda at, of: done.append((at, of)),
    )
    chosen = TrainingParams.model_validate(QUICK | {"seeds": 1, "attacked_rows": 20})
    kept = []
    with pytest.raises(DeadlineReached):
        kept.extend(ANALYZER.run(whole, context, chosen))
    assert done == [(1, 5)]
    assert {item.params["arm"] for item in kept if isinstance(item, Measurement)} == {"standard"}
    assert {item.name for item in kept if isinstance(item, Curve | Table)} == {
        "robustness.training_frontier",
        "robustness.training_arms",
    }


def test_the_toolbox_trains_the_same_arms():
    pytest.importorskip("art")
    found = run(subject(), engine="art", arms=["pgd", "fast"], eps=0.6, attacked_rows=100, seeds=1)
    assert found.status == "measured", found.reason
    assert pick(found, "robust_accuracy", arm="pgd").value > pick(found, "robust_accuracy", arm="standard").value + 0.2
    assert any("sets its own learning rate" in note for note in found.notes)


def test_token_ids_are_refused_in_a_sentence():
    rng = np.random.default_rng(0)
    ids, y = rng.integers(0, 50, (60, 6)), np.arange(60) % 2

    class Words(torch.nn.Module):
        def __init__(self, n_outputs=2):
            super().__init__()
            self.words, self.head = torch.nn.Embedding(50, 4), torch.nn.Linear(4, n_outputs)

        def forward(self, ids):
            return self.head(self.words(ids).mean(dim=1))

    chosen = TorchRecipe(name="words", build=Words, epochs=1, batch_size=10, learning_rate=0.1)
    found = run(make_subject(Words(), ids[:30], y[:30], train=(ids[30:], y[30:]), recipe=chosen, positive=1))
    assert found.status == "not_applicable"
    assert "AK540" in found.reason


def test_a_preparation_that_mixes_columns_is_refused_in_a_sentence():
    mix = np.random.default_rng(0).normal(size=(41, 41)).astype(np.float32)
    found = run(subject(recipe(prepare=lambda _: lambda rows: np.asarray(rows, dtype=np.float32) @ mix)))
    assert found.status == "not_applicable"
    assert "AK584" in found.reason


def test_a_table_with_categories_and_gaps_is_trained_in_its_own_units():
    def frame(n, seed):
        rng = np.random.default_rng(seed)
        rows = pd.DataFrame({"income": rng.normal(50, 15, n), "job": rng.choice(["a", "b"], n),
                             "score": rng.normal(0, 2, n)})  # fmt: skip
        y = ((rows["income"] - 50) / 15 + rows["score"] > 0).astype(int).to_numpy()
        rows.loc[::9, "score"] = np.nan
        return rows, y

    (x, y), (x_test, y_test) = frame(300, 0), frame(120, 1)
    chosen = TorchRecipe(name="line", build=lambda k: torch.nn.Linear(4, k), epochs=4, batch_size=50, learning_rate=0.2)
    model = chosen.fit(x, y, 0)
    whole = make_subject(model, x_test, y_test, train=(x, y), recipe=chosen, positive=1)
    found = run(whole, arms=["pgd"], seeds=1, eps=0.3, attacked_rows=100)
    assert found.status == "measured", found.reason
    plain = pick(found, "accuracy", arm="standard").value
    assert pick(found, "robust_accuracy", arm="standard").value < plain
    assert any("Never changed, in training or by the attack: job" in note for note in found.notes)
    assert any("numeric noise, category swap" in note for note in found.notes)


def test_an_attack_no_stronger_than_the_training_is_refused():
    with pytest.raises(ValueError, match="not judged by the attack that it was trained against"):
        TrainingParams(steps=50, attack_steps=50)
    with pytest.raises(ValueError, match="arms names one or more"):
        TrainingParams(arms=("standard",))
