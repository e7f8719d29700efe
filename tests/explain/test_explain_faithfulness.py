"""The faithfulness analyzer end to end: explanations that know nothing are told from those that do."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from torch import nn

from auditkit.analyzers.explain import faithfulness, partwise, partwise_torch
from auditkit.analyzers.explain.partwise import Partwise
from auditkit.core.analyzer import Context
from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject
from auditkit.subjects.torch import TorchModel

SMALL = {"max_rows": 60, "max_background": 20, "budget": 256, "check_rows": 40, "sensitivity_rows": 4}


def outcome_of(subject, seed=3, **settings):
    plan = make_plan(["explain.faithfulness"], {"explain.faithfulness": {**SMALL, **settings}})
    outcome = run_step(subject, plan.steps[0], seed=seed)
    assert outcome.status == "measured", outcome.reason
    return outcome


def found(outcome, measurement, **params):
    return [
        m
        for m in outcome.measurements
        if m.name == f"explain.{measurement}" and all(m.params.get(k) == v for k, v in params.items())
    ]


@pytest.fixture(scope="module")
def linear():
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(400, 8)), columns=list("abcdefgh"))
    y = (x.to_numpy() @ np.array([2.0, -1.5, 1.0, 0.5, 0, 0, 0, 0]) + rng.normal(0, 0.3, 400) > 0).astype(int)
    model = LogisticRegression().fit(x[:300], y[:300])
    sex = pd.DataFrame({"sex": rng.choice(["F", "M"], 100)}, index=x.index[300:])
    return make_subject(model, x[300:], y[300:], train=(x[:300], y[:300]), positive=1, sensitive=sex)


def test_shapley_values_and_lime_are_faithful_to_a_linear_model(linear):
    outcome = outcome_of(linear)
    for method in ("Shapley values", "LIME"):
        for gain in ("deletion_gain", "insertion_gain"):
            (one,) = found(outcome, gain, method=method)
            assert one.interval.low > 0.05
            assert (one.n, one.direction, one.unit) == (40, "higher", "probability")
        (gap,) = found(outcome, "infidelity", method=method)
        assert gap.interval.high < 0.5
        (moved,) = found(outcome, "max_sensitivity", method=method)
        assert moved.value < 0.5
        assert moved.n == 4
    (ranks,) = found(outcome, "ranking_agreement")
    (masks,) = found(outcome, "masker_agreement")
    assert ranks.interval.low > 0.5
    assert masks.interval.low > 0.4
    assert [a.name for a in outcome.artifacts] == ["explain.faithfulness.deletion", "explain.faithfulness.insertion"]
    assert outcome.artifacts[0].title.startswith("Removing first what ")
    assert outcome.artifacts[0].title.endswith("than a random order.")
    assert [series.name for series in outcome.artifacts[0].series] == ["Shapley values", "LIME", "random order"]


def test_a_random_explanation_gains_nothing(linear, monkeypatch):
    rng = np.random.default_rng(5)
    true_lime = partwise.PartedTable.lime
    monkeypatch.setattr(partwise.PartedTable, "lime", lambda *args: rng.normal(size=true_lime(*args).shape))
    outcome = outcome_of(linear)
    for gain in ("deletion_gain", "insertion_gain"):
        (noise,) = found(outcome, gain, method="LIME")
        assert noise.interval.low <= 0.0 <= noise.interval.high
        (own,) = found(outcome, gain, method="Shapley values")
        assert own.interval.low > noise.interval.high
    assert "what Shapley values rank first" in outcome.artifacts[0].title
    (gap,) = found(outcome, "infidelity", method="LIME")
    assert gap.interval.low > 0.4
    (ranks,) = found(outcome, "ranking_agreement")
    assert ranks.interval.low <= 0.15
    (moved,) = found(outcome, "max_sensitivity", method="LIME")
    assert moved.value > 1.0


def test_a_model_that_never_moves_has_no_faithfulness(linear):
    class Still:
        def __call__(self, x):
            return np.full((len(x), 2), 0.5)

    from auditkit.subjects.callable import CallableModel

    model = CallableModel(Still(), classes=(0, 1), output="probability")
    test = linear.test
    subject = make_subject(model, test.inputs, test.y, train=(linear.train.inputs, linear.train.y), positive=1)
    outcome = outcome_of(subject)
    for name in ("deletion_gain", "insertion_gain", "infidelity"):
        for one in found(outcome, name):
            assert one.value is None
            assert "does not move" in one.reason
    assert all(m.value is None for m in found(outcome, "masker_agreement"))


def test_attributions_that_failed_their_check_are_unreliable(linear):
    model = linear.model
    rng = np.random.default_rng(0)

    class Restless:
        """Another answer at every call: nothing adds up."""

        def __getattr__(self, name):
            return getattr(model, name)

        def predict_scores(self, inputs):
            scores = model.predict_scores(inputs)
            shift = rng.normal(0, 0.1, len(scores))
            return scores + np.column_stack([-shift, shift])

    subject = dataclasses.replace(linear, model=Restless())
    outcome = outcome_of(subject)
    assert all(m.unreliable for m in found(outcome, "deletion_gain", method="Shapley values"))
    assert all(m.unreliable for m in found(outcome, "ranking_agreement"))


def test_rows_with_missing_values_leave_room_for_lime(linear):
    from sklearn.ensemble import HistGradientBoostingClassifier

    x, y = linear.train.inputs.copy(), linear.train.y
    model = HistGradientBoostingClassifier(max_iter=10).fit(x, y)
    test = linear.test.inputs.copy()
    test.iloc[::3, 0] = np.nan
    subject = make_subject(model, test, linear.test.y, train=(x, y), positive=1)
    outcome = outcome_of(subject, sensitivity_rows=0)
    assert found(outcome, "deletion_gain", method="LIME")
    assert any("missing value are left out" in note for note in outcome.notes)
    test.iloc[:, 1] = np.nan
    subject = make_subject(model, test, linear.test.y, train=(x, y), positive=1)
    outcome = outcome_of(subject, sensitivity_rows=0)
    assert not found(outcome, "deletion_gain", method="LIME")
    assert any("LIME is left out" in note for note in outcome.notes)


def test_rows_with_missing_values_stay_where_lime_is_left_out_anyway(linear):
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=10).fit(linear.train.inputs, linear.train.y)
    test = linear.test.inputs.copy()
    test.iloc[::3, 0] = np.nan
    alone = (linear.train.inputs[:1], linear.train.y[:1])
    outcome = outcome_of(make_subject(model, test, linear.test.y, train=alone, positive=1), sensitivity_rows=0)
    assert any("LIME is left out: the reference table has one complete row" in note for note in outcome.notes)
    assert not any("can be compared on the same rows" in note for note in outcome.notes)


def test_lime_is_left_out_where_all_background_rows_are_alike(linear):
    alike = linear.train.take(np.zeros(5, dtype=np.int64))
    outcome = outcome_of(dataclasses.replace(linear, train=alike), sensitivity_rows=2)
    assert found(outcome, "deletion_gain", method="Shapley values")
    assert not [m for m in outcome.measurements if m.params.get("method") == "LIME"]
    assert "LIME is left out: the reference table has 5 complete rows, all alike" in " ".join(outcome.notes)


@pytest.fixture(scope="module")
def images():
    """A bright corner decides; the network is trained to see it."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 300)
    x = rng.normal(0, 0.5, size=(300, 1, 8, 8)).astype(np.float32)
    x[y == 1, :, :3, :3] += 1.5
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 2))
    step = torch.optim.Adam(module.parameters(), 0.01)
    inputs, labels = torch.from_numpy(x[:200]), torch.from_numpy(y[:200])
    for _ in range(40):
        step.zero_grad()
        nn.functional.cross_entropy(module(inputs), labels).backward()
        step.step()
    model = TorchModel(module, classes=(0, 1))
    return make_subject(model, x[200:], y[200:], train=(x[:200], y[:200]), positive=1)


def test_rows_that_are_checked_are_no_first_rows(monkeypatch):
    """Rows stand in the order of time: those that are looked at, and those that are moved, come from all of it."""
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(400, 3)), columns=list("abc")).assign(time=np.arange(400.0))
    y = (x["a"] > 0).astype(int)
    subject = make_subject(LogisticRegression().fit(x, y), x, y, train=(x, y), positive=1)
    true_parts, times = faithfulness._parts, {}

    def parts(*args):
        made = true_parts(*args)
        times["checked"] = made.data.inputs["time"]

        def moved(rng, rows, *how):
            times["moved"] = times["checked"].iloc[rows]
            return made.moved(rng, rows, *how)

        return dataclasses.replace(made, moved=moved)

    monkeypatch.setattr(faithfulness, "_parts", parts)
    outcome_of(subject, max_rows=200, check_rows=60, sensitivity_rows=15)
    for name, count in (("checked", 60), ("moved", 15)):
        assert len(times[name]) == count
        # Four standard errors of a mean of so many, drawn without replacement at most.
        assert abs(times[name].mean() - 199.5) < 4 * 115.5 / np.sqrt(count), name
        assert times[name].is_monotonic_increasing


def test_what_channels_last_says_is_what_channels_first_says():
    """A network that turns its images round itself: every number of both analyzers is the same, GradCAM's too."""

    class Net(nn.Module):
        def __init__(self, last):
            super().__init__()
            torch.manual_seed(0)
            self.last, self.conv, self.head = last, nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(torch.relu(self.conv(x.movedim(3, 1) if self.last else x)).amax(dim=(2, 3)))

    rng = np.random.default_rng(0)
    x, y = rng.random((12, 3, 7, 10)).astype(np.float32), rng.integers(0, 3, 12)
    few = {
        "explain.faithfulness": {"sensitivity_rows": 0, "max_steps": 16},
        "explain.saliency": {"max_steps": 16, "draws": 1},
    }
    for name, settings in few.items():
        values = []
        for last in (False, True):
            subject = make_subject(Net(last), np.ascontiguousarray(np.moveaxis(x, 1, 3)) if last else x, y)
            outcome = run_step(subject, make_plan([name], {name: settings}).steps[0], seed=1)
            assert outcome.status == "measured", outcome.reason
            values.append({(m.name, *m.params.items()): m.value for m in outcome.measurements})
        known = {key: value for key, value in values[0].items() if value is not None and "masker" not in key[0]}
        assert any("GradCAM" in str(key) or "grad_cam" in str(key) for key in known)
        for key, value in known.items():
            # Ranks of channels that are equal to rounding may change places.
            assert values[1][key] == pytest.approx(value, rel=2e-3, abs=2e-3), key


def test_the_middle_of_a_one_hot_group_is_a_category(monkeypatch):
    """Each of three columns is mostly 0; a row of three zeros is in no category, and nothing that a model has seen."""
    rng = np.random.default_rng(0)
    place = np.repeat([0, 1, 2], [30, 35, 25])
    x = pd.DataFrame({"z": rng.normal(size=90), **{f"at_{k}": (place == k).astype(int) for k in range(3)}})
    x["flag"] = np.arange(90) < 50
    group = {f"at_{k}": {"kind": "onehot", "group": "at"} for k in range(3)}
    model = LogisticRegression().fit(x, np.arange(90) % 2)
    true_middle, found = partwise._middle, []

    def middle(table):
        found.append(true_middle(table))
        return found[-1]

    monkeypatch.setattr(partwise, "_middle", middle)
    y = np.arange(90) % 2
    outcome_of(make_subject(model, x, y, train=(x, y), schema=group), max_background=90)
    np.testing.assert_allclose(found[0], [[x["z"].mean(), 0.0, 1.0, 0.0, 1.0]])


@pytest.mark.parametrize("method", ["saliency", "smooth_grad"])
def test_gradients_of_channels_that_pull_both_ways_do_not_cancel(method):
    """The square where red counts for a class and green against it is the one that matters: it is ranked first."""

    class Opposed(nn.Module):
        def forward(self, x):
            corner = 10.0 * (x[:, 0, :2, :2] - x[:, 1, :2, :2]).sum(dim=(1, 2))
            return torch.stack([-corner - x[:, 2].sum(dim=(1, 2)), corner + x[:, 2].sum(dim=(1, 2))], dim=1)

    rng = np.random.default_rng(0)
    x, y = rng.random((12, 3, 6, 6)).astype(np.float32), rng.integers(0, 2, 12)
    subject = make_subject(TorchModel(Opposed(), classes=(0, 1)), x, y, positive=1)
    parts = []

    def watched(ask, amounts, *args, **settings):
        parts.append(amounts)
        return remove(ask, amounts, *args, **settings)

    remove = faithfulness.remove_in_order
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faithfulness, "remove_in_order", watched)
        outcome_of(subject, methods=(method,), sensitivity_rows=0, max_steps=16)
    (name,) = [name for name in parts[0] if name != "integrated gradients"]
    # Twice the log-odds' gradient: 2 x (10 + 10 + 1) at a pixel of the corner, 2 elsewhere.
    grid = parts[0][name].reshape(12, 6, 6)
    np.testing.assert_allclose(grid[:, :2, :2], 42.0, rtol=1e-5)
    np.testing.assert_allclose(grid[:, 2:, :], 2.0, rtol=1e-5)


def test_images_by_squares(images):
    outcome = outcome_of(images, check_rows=30)
    (own,) = found(outcome, "deletion_gain", method="integrated gradients")
    assert own.interval.low > 0.1
    (gap,) = found(outcome, "infidelity", method="integrated gradients")
    assert gap.value < 0.2
    (masks,) = found(outcome, "masker_agreement")
    assert masks.params["second"] == "the image blurred over 3 x 3 pixels"
    assert len(found(outcome, "ranking_agreement")) == 6
    assert len(found(outcome, "max_sensitivity")) == 4


def test_a_random_map_of_images_gains_nothing(images, monkeypatch):
    true_parts = partwise_torch._parts
    rng = np.random.default_rng(0)

    def parts(attribution, inputs, squares):
        values = true_parts(attribution, inputs, squares)
        return rng.normal(size=values.shape) if attribution.method == "saliency" else values

    monkeypatch.setattr(partwise_torch, "_parts", parts)
    outcome = outcome_of(images, check_rows=60, sensitivity_rows=0)
    (noise,) = found(outcome, "deletion_gain", method="saliency")
    (own,) = found(outcome, "deletion_gain", method="integrated gradients")
    assert noise.interval.low <= 0.0 <= noise.interval.high < own.interval.low


def test_tokens_are_removed_by_their_mask_and_have_no_small_moves():
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 9, size=(80, 6))
    ids[:, 4:] = np.where(rng.random((80, 1)) < 0.5, 0, ids[:, 4:])
    y = (ids == 3).any(axis=1).astype(int)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(9, 4, padding_idx=0)
            self.out = nn.Linear(4, 2)
            with torch.no_grad():
                self.embed.weight[3] = 2.0

        def forward(self, x):
            return self.out(self.embed(x).sum(dim=1))

    torch.manual_seed(0)
    subject = make_subject(TorchModel(Net(), classes=(0, 1)), ids, y, positive=1)
    outcome = outcome_of(subject)
    assert found(outcome, "deletion_gain", method="integrated gradients")[0].interval.low > 0.0
    assert found(outcome, "infidelity", method="integrated gradients")[0].value < 1e-6
    assert found(outcome, "max_sensitivity") == []
    assert any("token ids cannot be moved" in note for note in outcome.notes)
    assert any("only one masker" in note for note in outcome.notes)


def test_what_has_no_parts_says_so():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 1)), np.arange(60) % 2
    subject = make_subject(LogisticRegression().fit(x, y), x, y, positive=1)
    plan = make_plan(["explain.faithfulness"], {"explain.faithfulness": SMALL})
    outcome = run_step(subject, plan.steps[0], seed=0)
    assert outcome.status == "not_applicable"
    assert "AK465" in outcome.reason

    from auditkit.subjects.callable import CallableModel

    model = CallableModel(lambda texts: np.full((len(texts), 2), 0.5), classes=(0, 1), output="probability")
    outcome = run_step(make_subject(model, ["a b", "c"] * 10, [0, 1] * 10, positive=1), plan.steps[0], seed=0)
    assert outcome.status == "not_applicable"
    assert "AK466" in outcome.reason


def test_guided_maps_that_ignore_the_last_layer_are_flagged_and_gradients_are_not(images):
    """Random weights: an explanation that is a function of the image alone survives; saliency does not."""
    from auditkit.analyzers.explain import differentiated

    def edges(attribution, inputs, method):
        if method == "grad_cam":  # stands for an edge detector
            images = inputs.tensor.numpy()
            return np.abs(np.diff(images, axis=3, append=0.0)).reshape(len(images), -1)
        return ranked(attribution, inputs, method)

    ranked = differentiated._ranked
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(differentiated, "_ranked", edges)
        plan = make_plan(
            ["explain.saliency"],
            {"explain.saliency": {"max_rows": 20, "draws": 4, "sanity_rows": 10, "methods": ["saliency", "grad_cam"]}},
        )
        outcome = run_step(images, plan.steps[0], seed=0)
    assert found(outcome, "randomisation_similarity", method="grad_cam", scope="all_layers")[0].interval.low > 0.99
    survived = [note for note in outcome.notes if "survive random weights" in note]
    assert any("grad cam" in note for note in survived)
    assert not any("The saliency explanations survive random weights (all layers" in note for note in survived)


def test_an_explanation_without_a_sign_is_judged_by_the_class_decided():
    """Most rows are decided negative: what is large in them lowers the log-odds of the positive class."""

    class Patch(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.full((1, 8, 8), 0.05))
            self.weight.data[:, :4, :4] = -1.0

        def forward(self, x):
            return (x * self.weight).sum(dim=(1, 2, 3))[:, None]

    rng = np.random.default_rng(0)
    x = rng.normal(0.0, 0.3, size=(100, 1, 8, 8)).astype(np.float32)
    x[:80, :, :4, :4] += 1.0
    x[80:, :, :4, :4] -= 1.0
    subject = make_subject(Patch(), x, (np.arange(100) >= 80).astype(int), task="binary", positive=1)
    plan = make_plan(["explain.faithfulness"], {"explain.faithfulness": {"methods": ["saliency"], "check_rows": 60}})
    outcome = run_step(subject, plan.steps[0], seed=0)
    assert any("log-odds of the class decided" in note for note in outcome.notes)
    for name in ("deletion_gain", "insertion_gain"):
        gained = {m.params["method"]: m.interval for m in found(outcome, name)}
        assert gained["saliency"].low > 0.5
        assert gained["integrated gradients"].low > 0.5


def test_intervals_hold_for_the_background_rows_that_were_drawn():
    """Numbers of other seeds differ by what intervals say; with one draw for all rows it was twice as much."""
    rng = np.random.default_rng(1)
    x = pd.DataFrame(rng.normal(size=(500, 6)) ** 3, columns=list("abcdef"))
    y = x.to_numpy() @ np.array([2.0, -1.5, 1.0, 0.5, 0.3, 0.2])
    model = LinearRegression().fit(x[:300], y[:300])
    subject = make_subject(model, x[300:], y[300:], train=(x[:300], y[:300]))
    values, errors = [], []
    for seed in range(8):
        outcome = outcome_of(
            subject, seed, sensitivity_rows=0, max_background=100, max_rows=200, check_rows=100, baseline_rows=2
        )
        (gain,) = found(outcome, "deletion_gain", method="Shapley values")
        values.append(gain.value)
        errors.append((gain.interval.high - gain.interval.low) / 3.92)
    assert np.std(values, ddof=1) < 1.6 * np.mean(errors)


def test_maskers_are_compared_within_a_budget_of_removals(monkeypatch):
    """Fewer rows where features are many, as a note says; each removal is asked as one alone would be."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(120, 30))
    weights = rng.normal(size=30)
    asked = []

    class Counting(LinearRegression):
        def predict(self, rows):
            asked.append(len(rows))
            return super().predict(rows)

    model = Counting().fit(x, x @ weights)
    subject = make_subject(model, x[:80], x[:80] @ weights, train=(x[80:], x[80:] @ weights))
    how = {"max_rows": 40, "check_rows": 40, "sensitivity_rows": 0, "baseline_rows": 1, "lime_samples": 50}

    def run():
        asked.clear()
        outcome = outcome_of(subject, **how)
        (agreement,) = found(outcome, "masker_agreement")
        return agreement, [note for note in outcome.notes if "removals" in note], sum(asked)

    whole, silent, many = run()
    monkeypatch.setattr(faithfulness, "_REMOVALS", 300)
    few, notes, less = run()
    assert (whole.n, few.n) == (40, 10)
    assert silent == []
    assert notes == [
        "The two maskers are compared on 10 of the 40 rows: their features are removed one by one, which is 300 "
        "removals; those of all rows would be 1,200."
    ]
    assert many - less == 2 * 30 * 31  # 30 rows, whole and without each of 30 features, by two maskers
    assert few.interval.low - 0.1 < whole.value < few.interval.high + 0.1
    monkeypatch.setattr(faithfulness, "_REMOVALS", 20)
    least, notes, _ = run()
    assert least.n == 2
    assert "which is 60 removals" in notes[0]  # two rows are the least


def test_rows_that_lack_parts_count_the_removals_that_they_take(linear, monkeypatch):
    """One long text among short ones does not cost the comparison its rows."""
    rows = np.arange(100)
    present = np.zeros((100, 50), dtype=bool)
    present[:, :5] = True
    present[0] = True
    effect = np.arange(50.0) + 1.0
    parts = Partwise(
        data=linear.test.take(rows),
        amounts={"own": np.ones((100, 50))},
        failed={"own": None},
        ask=lambda rows, removed: -(removed @ effect),
        other=lambda rows, removed: -(removed @ effect**2),
        maskers=("one", "other"),
        present=present,
        unit="value",
        parts="tokens",
        moved=None,
        unmoved="",
        notes=(),
    )
    monkeypatch.setattr(faithfulness, "_REMOVALS", 545)
    context = Context(sequence=np.random.SeedSequence(0), predictions=lambda split: (None, np.zeros(0)))
    first, *_ = faithfulness._masked(parts, context)
    assert (first.name, first.n, first.value) == ("explain.masker_agreement", 100, pytest.approx(1.0))
    monkeypatch.setattr(faithfulness, "_REMOVALS", 544)
    note, *_ = faithfulness._masked(parts, context)
    assert note.text.startswith("The two maskers are compared on 10 of the 100 rows")
    assert note.text.endswith("those of all rows would be 545.")


def test_removals_in_parts_are_those_at_once(linear, monkeypatch):
    at_once = outcome_of(linear)
    monkeypatch.setattr(faithfulness, "_CELLS_A_PASS", 30)
    in_parts = outcome_of(linear)
    for one, other in zip(found(at_once, "masker_agreement"), found(in_parts, "masker_agreement"), strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_background_of_one_row_is_told_as_one(rows):
    x = np.random.default_rng(0).normal(size=(30, 3))
    y = x.sum(axis=1)
    subject = make_subject(LinearRegression().fit(x, y), x[:20], y[:20], train=(x[20 : 20 + rows], y[20 : 20 + rows]))
    outcome = outcome_of(subject, max_background=1, sensitivity_rows=0, lime_samples=50)
    told = " ".join(outcome.notes)
    assert ("The background is the only training row." if rows == 1 else "1 of the 2 training rows") in told
    assert "takes the values of one background row, drawn anew" in told
    assert "1 background rows" not in told
