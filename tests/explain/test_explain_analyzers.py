"""The three explainers end to end: planted faults found, clean twins quiet, bad input told."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import LinearSVC
from torch import nn

from auditkit.analyzers.explain import differentiated
from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject
from auditkit.testing import check_analyzer

SMALL = {
    "explain.shap": {"max_rows": 40, "max_background": 20, "budget": 512},
    "explain.lime": {"max_rows": 10, "samples": 200},
    "explain.saliency": {"max_rows": 30, "draws": 4, "sanity_rows": 10},
}


def outcome_of(name, subject, **settings):
    plan = make_plan([name], {name: {**SMALL[name], **settings}})
    return run_step(subject, plan.steps[0], seed=3)


def found(outcome, measurement, **params):
    return [
        m
        for m in outcome.measurements
        if m.name == measurement and all(m.params.get(k) == v for k, v in params.items())
    ]


def loans(leak, n=500, seed=0):
    """Income, debt and region decide; ``leak`` writes the label into ``receipt``."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "income": rng.normal(30, 8, n),
            "debt": rng.normal(10, 4, n),
            "region": pd.Categorical(rng.choice(["north", "south", "west"], n)),
            "member": rng.random(n) < 0.5,
            "visits": rng.integers(0, 9, n),
            "receipt": rng.normal(size=n),
        }
    )
    signal = (table["income"] - 30) / 8 - (table["debt"] - 10) / 4 + (table["region"] == "west")
    y = np.where(signal + rng.normal(0, 1.0, n) > 0, "yes", "no")
    if leak:
        table["receipt"] = np.where(y == "yes", 3.0, -3.0) + rng.normal(0, 0.5, n)
    sex = pd.DataFrame({"sex": rng.choice(["F", "M"], n)}, index=table.index)
    return table, y, sex


def loan_subject(leak, model=None):
    table, y, sex = loans(leak)
    encode = make_column_transformer((OneHotEncoder(), ["region"]), remainder="passthrough")
    model = model or make_pipeline(encode, HistGradientBoostingClassifier(max_iter=20, random_state=0))
    model.fit(table[:300], y[:300])
    return make_subject(model, table[300:], y[300:], sensitive=sex[300:], train=(table[:300], y[:300]), positive="yes")


@pytest.fixture(scope="module")
def leaked():
    return loan_subject(leak=True)


@pytest.fixture(scope="module")
def clean():
    return loan_subject(leak=False)


def test_a_leaked_column_carries_the_model_and_the_clean_twin_has_none(leaked, clean):
    bad, good = outcome_of("explain.shap", leaked), outcome_of("explain.shap", clean)
    assert bad.status == good.status == "measured"
    shares = found(bad, "explain.attribution_share")
    assert shares[0].params["feature"] == "receipt"
    assert shares[0].interval.low > 0.6
    receipt = [m for m in found(good, "explain.attribution_share", feature="receipt") if not m.slice]
    assert receipt[0].interval.high < 0.25
    assert max(m.interval.high for m in found(good, "explain.attribution_share") if not m.slice) < 0.6


def test_lime_ranks_the_leaked_column_first(leaked, clean):
    bad, good = outcome_of("explain.lime", leaked), outcome_of("explain.lime", clean)
    assert found(bad, "explain.mean_absolute_attribution")[0].params == {"method": "lime", "feature": "receipt"}
    assert found(good, "explain.mean_absolute_attribution")[0].params["feature"] != "receipt"
    overlap = found(bad, "explain.stability_top5_overlap")[0]
    assert 0.0 <= overlap.interval.low <= overlap.value <= 1.0
    assert found(bad, "explain.local_fidelity_r2")[0].value > 0.2


def test_sums_match_the_users_scores_for_categories_that_shap_gets_wrong():
    """A histogram booster with a category column, fitted on the DataFrame itself."""
    model = HistGradientBoostingClassifier(max_iter=20, categorical_features="from_dtype", random_state=0)
    outcome = outcome_of("explain.shap", loan_subject(False, model))
    residual = found(outcome, "explain.additivity_residual")[0]
    assert residual.unreliable is None
    assert residual.value < 1e-6
    assert str(residual.params["engine"]).startswith("shapley")


def test_shares_sum_to_one_overall_and_in_each_group(clean):
    outcome = outcome_of("explain.shap", clean)
    for where in ({}, {"sex": "F"}, {"sex": "M"}):
        shares = [m for m in found(outcome, "explain.attribution_share") if m.slice == where]
        assert len(shares) == 6
        assert sum(m.value for m in shares) == pytest.approx(1.0)
    n = {where: next(m.n for m in outcome.measurements if m.slice == {"sex": where}) for where in "FM"}
    assert n["F"] + n["M"] == 40


def test_a_model_that_leans_on_another_feature_for_one_group_shows_it():
    rng = np.random.default_rng(0)
    n = 400
    table = pd.DataFrame({"sex": rng.integers(0, 2, n), "a": rng.normal(size=n), "b": rng.normal(size=n)})

    class Two:
        def __call__(self, x):
            x = np.asarray(x, dtype=float)
            p = 1 / (1 + np.exp(-2 * np.where(x[:, 0] == 1, x[:, 1], x[:, 2])))
            return np.column_stack([1 - p, p])

    group = pd.DataFrame({"sex": np.where(table["sex"] == 1, "F", "M")}, index=table.index)
    y = rng.integers(0, 2, n)
    subject = make_subject(Two(), table, y, sensitive=group, positive=1, task="binary")
    outcome = outcome_of("explain.shap", subject, max_rows=100)
    share = {m.slice["sex"]: m for m in found(outcome, "explain.attribution_share", feature="a") if m.slice}
    assert share["F"].interval.low > share["M"].interval.high
    assert any("sensitive columns themselves: sex" in note for note in outcome.notes)
    assert any("no training data" in note for note in outcome.notes)


def test_a_model_that_is_not_a_function_is_unreliable_everywhere(clean):
    """Scores that change from call to call cannot be explained: every number must say so."""
    rng = np.random.default_rng(0)

    class Dice:
        def __getattr__(self, name):
            return getattr(clean.model, name)

        def predict_scores(self, inputs):
            p = rng.random(len(inputs))
            return np.column_stack([1 - p, p])

    outcome = outcome_of("explain.shap", dataclasses.replace(clean, model=Dice()))
    assert outcome.measurements
    assert all(m.unreliable and "miss the model's own output" in m.unreliable for m in outcome.measurements)
    assert any("failed their check" in note for note in outcome.notes)


def test_forest_on_an_array_uses_its_trees_and_regression_and_margins_work():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    y = (x[:, 0] + x[:, 1] > 0).astype(int)
    cases = [
        (RandomForestClassifier(10, max_depth=4, random_state=0).fit(x, y), y, "shapley.trees"),
        (LinearSVC().fit(x, y), y, "shapley.linear"),
        (LinearRegression().fit(x, x[:, 0] * 2), x[:, 0] * 2, "shapley.linear"),
        (RandomForestClassifier(10, max_depth=4, random_state=0).fit(x, y + (x[:, 2] > 0)), y, "shapley.trees"),
    ]
    for model, target, engine in cases:
        outcome = outcome_of("explain.shap", make_subject(model, x, target))
        assert outcome.status == "measured", outcome.reason
        assert found(outcome, "explain.additivity_residual")[0].params["engine"] == engine
        assert all(m.unreliable is None for m in outcome.measurements)


def test_a_model_that_ignores_its_inputs_has_no_shares():
    x = np.random.default_rng(0).normal(size=(60, 3))
    subject = make_subject(lambda m: np.tile([0.3, 0.7], (len(m), 1)), x, np.arange(60) % 2, task="binary", positive=1)
    share = found(outcome_of("explain.shap", subject), "explain.attribution_share")[0]
    assert share.value is None
    assert "no feature moves" in share.reason


def test_labels_alone_do_not_apply_and_missing_rows_are_told(clean):
    lesser = dataclasses.replace(clean)

    class Labels:
        def __getattr__(self, name):
            return getattr(clean.model, name)

        capabilities = frozenset({"labels", "model", "inputs"})
        score_space = None

    for name in ("explain.shap", "explain.lime"):
        outcome = outcome_of(name, dataclasses.replace(lesser, model=Labels()))
        assert outcome.status == "not_applicable"
        assert "scores" in outcome.reason
    x = np.random.default_rng(0).normal(size=(80, 3))
    model = HistGradientBoostingClassifier(max_iter=3).fit(x, np.arange(80) % 2)
    whole, x = x, x.copy()
    x[:, 1] = np.nan
    holey = make_subject(model, x, np.arange(80) % 2)
    assert outcome_of("explain.shap", holey).status == "measured"
    lime = outcome_of("explain.lime", holey)
    assert lime.status in ("failed", "not_applicable")
    assert "AK505" in lime.reason
    trained_whole = make_subject(model, x, np.arange(80) % 2, train=(whole, np.arange(80) % 2))
    lime = outcome_of("explain.lime", trained_whole)
    assert lime.status == "not_applicable"
    assert "AK506 every sampled row holds a missing value" in lime.reason


def test_lime_around_one_row_is_not_told_as_measured():
    x = np.random.default_rng(0).normal(size=(80, 3))
    y = (x[:, 0] > 0).astype(int)
    alone = make_subject(HistGradientBoostingClassifier(max_iter=3).fit(x, y), x, y, train=(x[:1], y[:1]))
    outcome = outcome_of("explain.lime", alone)
    assert (outcome.status, outcome.measurements) == ("not_applicable", ())
    assert "AK505 the reference table has one complete row" in outcome.reason
    assert outcome_of("explain.shap", alone).status == "measured"


def test_what_limes_samples_do_not_tell_is_named():
    """Trained on one kind of loan and asked of others: the kind that decides has no weight, and the reader is told."""
    rng = np.random.default_rng(0)
    train = pd.DataFrame({"kind": 0.0, "a": rng.normal(size=200), "b": rng.normal(size=200)})
    test = pd.DataFrame({"kind": 5.0, "a": rng.normal(size=60), "b": rng.normal(size=60)})

    class Kinds:
        classes_ = np.array([0, 1])

        def fit(self, rows, y):
            return self

        def predict_proba(self, rows):
            rows = np.asarray(rows, dtype=float)
            p = 1.0 / (1.0 + np.exp(-rows @ np.array([1.0, 2.0, 0.0])))
            return np.column_stack([1.0 - p, p])

        def predict(self, rows):
            return (self.predict_proba(rows)[:, 1] > 0.5).astype(int)

    subject = make_subject(Kinds(), test, np.arange(60) % 2, train=(train, np.arange(200) % 2))
    outcome = outcome_of("explain.lime", subject)
    assert outcome.status == "measured"
    assert any("No weight for kind: the perturbed rows are all alike there" in note for note in outcome.notes)
    weights = {m.params["feature"]: m.value for m in found(outcome, "explain.mean_absolute_attribution")}
    assert weights["kind"] == 0.0
    assert weights["a"] > 5 * weights["b"]
    few = dataclasses.replace(subject, train=subject.test.take(np.arange(2, dtype=np.int64)))
    outcome = outcome_of("explain.lime", few, max_rows=60)
    apart = [note for note in outcome.notes if "rows were left out: none of their values" in note]
    assert len(apart) == 1
    (fit,) = found(outcome, "explain.local_fidelity_r2")
    assert fit.n == 60 - int(apart[0].split()[0])


def test_a_row_that_the_samples_of_one_seed_do_not_tell_is_left_out_of_all(monkeypatch):
    """Its zeros under that seed would count as disagreement with the others."""
    from auditkit.methods.explain import lime_batched

    x = np.random.default_rng(0).normal(size=(80, 7))
    model = HistGradientBoostingClassifier(max_iter=3).fit(x, (x[:, 0] > 0).astype(int))
    subject = make_subject(model, x, (x[:, 0] > 0).astype(int))
    plain, seeds = lime_batched.batched_lime, []

    def unlucky(*arguments, seed, **settings):
        found = plain(*arguments, seed=0, **settings)
        seeds.append(seed)
        if len(seeds) < 2:
            return found
        blind = np.zeros_like(found.untold)
        blind[:4] = True
        return dataclasses.replace(found, untold=blind, weights=np.where(blind, 0.0, found.weights))

    monkeypatch.setattr(lime_batched, "batched_lime", unlucky)
    outcome = outcome_of("explain.lime", subject)
    (same,) = found(outcome, "explain.stability_top5_overlap")
    assert (same.value, same.n) == (1.0, 6)
    assert any(note.startswith("4 of 10 rows were left out") for note in outcome.notes)


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": "lime"},
        {"shared_samples": False, "discretizer": "decile"},
        {"discretizer": "entropy", "selection": "forward_selection", "features": 3},
        {"discretizer": "none", "selection": "lasso_path", "features": 3},
    ],
)
def test_every_engine_and_discretizer_of_lime_finds_the_leak(leaked, settings):
    outcome = outcome_of("explain.lime", leaked, max_rows=6, **settings)
    assert outcome.status == "measured", outcome.reason
    assert found(outcome, "explain.mean_absolute_attribution")[0].params["feature"] == "receipt"


def test_lime_of_texts_and_images_by_parts():
    texts = [f"{w} film with some plot number{i}" for i, w in enumerate(["good", "bad"] * 10)] + ["", "..."]

    def mood(rows):
        p = np.clip(np.array([0.5 + 0.4 * ("good" in t) - 0.4 * ("bad" in t) for t in rows]), 0, 1)
        return np.column_stack([1 - p, p])

    subject = make_subject(mood, texts, np.arange(22) % 2, task="binary", positive=1)
    outcome = outcome_of("explain.lime", subject, max_rows=220, samples=800)
    assert outcome.status == "measured", outcome.reason
    assert found(outcome, "explain.local_fidelity_r2")[0].value > 0.5
    assert found(outcome, "explain.stability_top5_overlap")[0].n == 20
    assert any("2 of 22 rows hold no word" in note for note in outcome.notes)
    assert "film" not in str(outcome)
    images = np.random.default_rng(0).random((12, 3, 14, 14)).astype(np.float32)

    def bright(batch):
        assert batch.dtype == np.float32
        assert batch.shape[1:] == (3, 14, 14)
        p = batch[:, :, :4, :4].mean(axis=(1, 2, 3))
        return np.column_stack([1 - p, p])

    subject = make_subject(bright, images, np.arange(12) % 2, task="binary", positive=1)
    outcome = outcome_of("explain.lime", subject, max_rows=40, samples=800)
    assert outcome.status == "measured", outcome.reason
    assert found(outcome, "explain.local_fidelity_r2")[0].n == 4
    empty = make_subject(mood, ["", "...", "--", " "], np.arange(4) % 2, task="binary", positive=1)
    outcome = outcome_of("explain.lime", empty)
    assert outcome.status == "not_applicable"
    assert "AK479 no sampled text holds a word" in outcome.reason
    ids = make_subject(Reader(), np.ones((20, 4), dtype=np.int64), np.arange(20) % 2, task="binary", positive=1)
    assert "AK480" in outcome_of("explain.lime", ids).reason


def test_a_model_that_never_moves_has_no_fit(clean):
    class Flat:
        def __getattr__(self, name):
            return getattr(clean.model, name)

        def predict_scores(self, inputs):
            return np.tile([0.3, 0.7], (len(inputs), 1))

    outcome = outcome_of("explain.lime", dataclasses.replace(clean, model=Flat()))
    fit = found(outcome, "explain.local_fidelity_r2")[0]
    assert fit.value is None
    assert "nothing to fit" in fit.reason


# ---- gradients


def trained(module, x, y, steps=150, rate=0.02):
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(module.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimiser.step()
    module.zero_grad(set_to_none=True)
    return module.eval()


@pytest.fixture(scope="module")
def mlp_subject():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 12)).astype(np.float32)
    y = (x[:, 3] - x[:, 7] > 0).astype(np.int64)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
    trained(module, torch.from_numpy(x), torch.from_numpy(y))
    return make_subject(module, x[100:], y[100:], train=(x[:100], y[:100]), task="binary", positive=1)


def test_integrated_gradients_of_a_table(mlp_subject):
    outcome = outcome_of("explain.saliency", mlp_subject)
    assert outcome.status == "measured", outcome.reason
    delta = found(outcome, "explain.completeness_delta")[0]
    assert delta.unreliable is None
    assert delta.value < 0.2
    top = [m.params["feature"] for m in found(outcome, "explain.attribution_share")[:2]]
    schema = mlp_subject.test.schema.names
    assert set(top) == {schema[3], schema[7]}
    assert found(outcome, "explain.mean_absolute_attribution", method="saliency")
    for m in found(outcome, "explain.randomisation_similarity", method="integrated_gradients", scope="all_layers"):
        assert m.interval.high < 0.6
    assert not any("survive" in note for note in outcome.notes)


@pytest.mark.parametrize("fixed", [False, True])
def test_layers_that_never_run_are_no_sanity_check(fixed):
    """Redrawing a layer that the model does not call leaves every explanation as it was, and says nothing about it."""

    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last, self.spare = nn.Linear(12, 8), nn.Linear(8, 2), nn.Linear(3, 3)
            self.first.requires_grad_(False)

        def forward(self, x):
            if fixed:
                return torch.cat([-(x[:, :1] ** 2), x[:, 1:2] * x[:, 2:3]], dim=1)
            return self.last(torch.tanh(self.first(x)))

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 12)).astype(np.float32)
    subject = make_subject(Spare(), x, (x[:, 3] > 0).astype(int), task="binary", positive=1)
    outcome = outcome_of("explain.saliency", subject, methods=["integrated_gradients", "saliency"])
    similar = found(outcome, "explain.randomisation_similarity")
    assert len(similar) == 4
    for m in similar:
        if fixed:
            assert m.value is None
            assert "random weights move no output" in m.reason
        else:
            assert m.interval.high < 0.99
    assert not any("survive" in note for note in outcome.notes)


def test_sizes_that_follow_the_input_do_not_pass_for_surviving_random_weights():
    """Of a linear model DeepLift, input x gradient and integrated gradients are one: weight times input."""
    rng = np.random.default_rng(0)
    x = (rng.choice([-1.0, 1.0], (120, 12)) * rng.lognormal(0.0, 2.0, (120, 12))).astype(np.float32)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 2))
    subject = make_subject(module, x, (x[:, 3] > 0).astype(int), task="binary", positive=1)
    methods = ["integrated_gradients", "deep_lift", "saliency"]
    outcome = outcome_of("explain.saliency", subject, methods=methods, draws=3)
    path, lift = (
        found(outcome, "explain.randomisation_similarity", method=method, scope="all_layers")[0]
        for method in methods[:2]
    )
    assert lift.value == pytest.approx(path.value, abs=1e-3)
    assert not any("survive" in note for note in outcome.notes if "saliency" not in note)


def test_few_inputs_on_scales_of_their_own_do_not_pass_for_surviving_random_weights():
    """Without their sign, ranks of four products of a weight and an input of its own size are alike by chance."""
    survived, values = 0, []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        x = (rng.normal(size=(60, 4)) * [1.0, 30.0, 1000.0, 30000.0]).astype(np.float32)
        torch.manual_seed(seed)
        subject = make_subject(nn.Linear(4, 2), x, (x[:, 0] > 0).astype(int), task="binary", positive=1)
        outcome = outcome_of("explain.saliency", subject, methods=["integrated_gradients"], draws=3)
        survived += any("survive" in note for note in outcome.notes)
        values += [m.value for m in found(outcome, "explain.randomisation_similarity", scope="all_layers")]
    assert survived == 0
    assert abs(float(np.mean(values))) < 0.3


def test_what_occlusion_takes_away_does_not_pass_for_surviving_random_weights(monkeypatch):
    """Bright squares move any weights more than dark ones: by absolute value occlusion would survive, by sign not."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.repeat(rng.lognormal(0.0, 5.0, (60, 1, 4, 4)), 2, axis=2), 2, axis=3).astype(np.float32)
    torch.manual_seed(0)
    subject = make_subject(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), x, np.arange(60) % 2, task="binary", positive=1
    )
    values = {}
    for followed in ((), ("occlusion",)):
        monkeypatch.setattr("auditkit.analyzers.explain.differentiated._FOLLOW_THE_INPUT", followed)
        outcome = outcome_of("explain.saliency", subject, methods=["occlusion"], draws=3)
        asked = found(outcome, "explain.randomisation_similarity", method="occlusion", scope="all_layers")[0]
        values[followed] = asked.value
    assert values[()] > 0.5
    assert abs(values[("occlusion",)]) < 0.3
    monkeypatch.undo()
    assert "occlusion" in differentiated._FOLLOW_THE_INPUT


def test_an_incomplete_path_is_unreliable(mlp_subject, monkeypatch):
    from auditkit.methods.explain import captum_engine

    honest = captum_engine.path_integral
    monkeypatch.setattr(captum_engine, "path_integral", lambda *path: 1.02 * honest(*path))
    outcome = outcome_of("explain.saliency", mlp_subject, max_steps=16, draws=0)
    delta = found(outcome, "explain.completeness_delta")[0]
    assert "miss the change of the output" in delta.unreliable
    assert all(m.unreliable for m in found(outcome, "explain.attribution_share"))


def test_an_explanation_that_survives_random_weights_is_flagged(mlp_subject, monkeypatch):
    from auditkit.methods.explain import captum_engine

    honest = captum_engine.gradient_attribution

    def edges(subject, inputs, method, **settings):
        found = honest(subject, inputs, method, **settings)
        return dataclasses.replace(found, values=inputs.detach().numpy()[..., None].astype(float))

    monkeypatch.setattr(captum_engine, "gradient_attribution", edges)
    outcome = outcome_of("explain.saliency", mlp_subject)
    (flagged,) = found(outcome, "explain.randomisation_similarity", method="saliency", scope="all_layers")
    assert flagged.value == pytest.approx(1.0)
    assert any("saliency explanations survive random weights" in note for note in outcome.notes)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_map_that_random_weights_only_turn_over_is_flagged(classes):
    """All that is learned scales one fixed filter: random weights turn its map over or not, and change nothing else."""

    class Filter(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.register_buffer("fixed", torch.linspace(-1.0, 2.0, 12))
            self.head = nn.Linear(6, classes, bias=False)

        def forward(self, x):
            return self.head((x * self.fixed).sum(dim=1, keepdim=True).expand(-1, 6))

    x = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32)
    module, task = Filter(), "binary" if classes == 2 else "multiclass"
    y = module(torch.from_numpy(x)).argmax(dim=1).numpy()
    y[:classes] = np.arange(classes)
    positive = {"positive": 1} if classes == 2 else {}
    subject = make_subject(module, x, y, task=task, **positive)
    outcome = outcome_of("explain.saliency", subject, methods=["integrated_gradients", "occlusion"], draws=6)
    for method in ("integrated_gradients", "occlusion"):
        (similar,) = found(outcome, "explain.randomisation_similarity", method=method, scope="all_layers")
        assert similar.value == pytest.approx(1.0, abs=1e-6)
        assert any(f"The {method.replace('_', ' ')} explanations survive random weights" in n for n in outcome.notes)


def test_images_give_mean_maps_that_point_at_the_class_evidence():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 160)
    x = rng.normal(0, 0.3, size=(160, 1, 8, 8)).astype(np.float32)
    x[y == 0, :, :4, :4] += 1.0
    x[y == 1, :, 4:, 4:] += 1.0
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    trained(module, torch.from_numpy(x), torch.from_numpy(y), steps=60)
    subject = make_subject(module, x, y, task="binary", positive=1, modality="image")
    outcome = outcome_of("explain.saliency", subject, max_rows=60)
    assert outcome.status == "measured", outcome.reason
    (grid,) = outcome.artifacts
    assert grid.raw is False
    assert len(grid.pictures) == 8
    assert grid.across == 4
    import base64

    pixels = np.frombuffer(base64.b64decode(grid.pictures[0].pixels), dtype=np.uint8).reshape(8, 8).astype(float)
    evidence = pixels[:4, :4].mean() + pixels[4:, 4:].mean()
    assert evidence > 2.0 * (pixels[:4, 4:].mean() + pixels[4:, :4].mean())
    assert found(outcome, "explain.attribution_concentration", method="integrated_gradients")[0].value > 0.1


class Reader(nn.Module):
    """Only the third token counts: 1 or 2 decide the class."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 6, padding_idx=0)
        self.rnn = nn.LSTM(6, 12, batch_first=True)
        self.head = nn.Linear(12, 2)

    def forward(self, ids):
        return self.head(self.rnn(self.embedding(ids))[0][:, -1])


def test_tokens_point_at_the_position_that_decides():
    rng = np.random.default_rng(0)
    ids = rng.integers(3, 12, size=(200, 6))
    y = rng.integers(0, 2, 200)
    ids[:, 2] = 1 + y
    torch.manual_seed(0)
    module = trained(Reader(), torch.from_numpy(ids), torch.from_numpy(y), steps=80)
    subject = make_subject(module, ids, y, task="binary", positive=1, modality="sequence")
    outcome = outcome_of("explain.saliency", subject)
    assert outcome.status == "measured", outcome.reason
    assert found(outcome, "explain.completeness_delta")[0].unreliable is None
    (curve,) = outcome.artifacts
    series = next(s for s in curve.series if s.name == "integrated gradients")
    assert int(np.argmax(series.y)) == 2


class Reviews:
    """A tokenizer with padding, a start token, unknown words and words to show."""

    words = ("<pad>", "<cls>", "<unk>", "good", "bad", "film", "very", "plot")
    special_ids = (0, 1, 2)
    unknown_id = 2

    def __call__(self, texts):
        rows = [[1, *(self.words.index(w) if w in self.words else 2 for w in t.split()[:5])] for t in texts]
        return torch.tensor([row + [0] * (6 - len(row)) for row in rows], dtype=torch.long)

    def tokens(self, text):
        return text.split()[:5]


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(8, 8, padding_idx=0)
        self.head = nn.Linear(8, 2)

    def forward(self, ids):
        return self.head(self.embedding(ids).sum(dim=1))


@pytest.fixture(scope="module")
def reviews():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    texts = [" ".join([("bad", "good")[k], *rng.choice(["film", "very", "plot", "zzz"], size=3)]) for k in y]
    texts[0], texts[1] = "", "zzz qqq"
    tokenizer = Reviews()
    module = trained(Mean(), tokenizer(texts), torch.from_numpy(y), steps=60)
    return make_subject(module, texts, y, tokenizer=tokenizer, task="binary", positive=1)


def test_texts_are_shown_only_when_asked_for_and_special_tokens_never(reviews):
    quiet = outcome_of("explain.saliency", reviews, max_rows=80)
    assert [artifact.kind for artifact in quiet.artifacts] == ["curve"]
    assert not any(word in str(quiet) for word in ("film", "plot", "zzz"))
    shown = outcome_of("explain.saliency", reviews, max_rows=80, show_rows=5)
    texts, _ = shown.artifacts
    assert texts.raw is True
    assert len(texts.rows) == 5
    by_token = {}
    for row in texts.rows:
        assert "<pad>" not in row.tokens
        assert "<cls>" not in row.tokens
        for token, value in zip(row.tokens, row.values, strict=True):
            by_token.setdefault(token, []).append(value)
    assert min(by_token["good"]) > max(by_token["bad"]) > -50
    assert max(by_token["bad"]) < 0 < min(by_token["good"])
    # The embeddings are summed, so the value of a token is the closed form of a linear model.
    module = reviews.model.module
    weight = (module.head.weight[1] - module.head.weight[0]).detach()
    expected = float(module.embedding.weight[3].detach() @ weight)
    np.testing.assert_allclose(by_token["good"], expected, atol=1e-5)
    assert any("2 of 80 rows hold no token that the model knows" in note for note in shown.notes)
    agree = found(shown, "explain.method_agreement")
    assert {(m.params["first"], m.params["second"]) for m in agree} == {
        ("integrated gradients", "saliency"),
        ("integrated gradients", "occlusion"),
        ("saliency", "occlusion"),
    }
    exact = next(m for m in agree if m.params["second"] == "occlusion" and m.params["first"] != "saliency")
    assert exact.value > 0.7  # occlusion moves to the unknown token, paths from padding


def test_the_words_of_a_text_add_up_to_what_the_model_gives(reviews):
    """A start token is told of nowhere: had it an amount, the words would miss the output by that much."""
    from auditkit.analyzers.explain.row_asked import Asked
    from auditkit.execution.one_row import explain_one

    module, tokenizer = reviews.model.module, Reviews()
    weight = module.embedding.weight.detach().numpy()
    toward = (module.head.weight[1] - module.head.weight[0]).detach().numpy()
    lone = float((module.head.bias[1] - module.head.bias[0]).detach())
    assert abs(weight[1] @ toward) > 0.1  # the start token does count
    for row in (2, 7):
        told = explain_one(reviews, Asked(row=row))
        assert told.base_value() + sum(told.first.parts) == pytest.approx(told.model_output(), abs=1e-4)
        ids = tokenizer([reviews.test.inputs[row]])[0].numpy()
        np.testing.assert_allclose(told.first.parts, [weight[i] @ toward for i in ids if i > 1], atol=1e-4)
        assert told.base_value() == pytest.approx(lone + weight[1] @ toward, abs=1e-4)


def test_texts_without_a_known_token_do_not_apply(reviews):
    inputs = ["zzz qqq", "", "xxx"] * 10
    test = dataclasses.replace(reviews.test, inputs=inputs, y=reviews.test.y[:30])
    outcome = outcome_of("explain.saliency", dataclasses.replace(reviews, test=test))
    assert outcome.status == "not_applicable"
    assert "AK484 no sampled text holds a token that the model knows" in outcome.reason


def test_methods_that_do_not_fit_are_told_and_the_rest_goes_on(mlp_subject, reviews):
    every = ["saliency", "input_x_gradient", "smooth_grad", "deep_lift", "expected_gradients"]
    every += ["grad_cam", "guided_grad_cam", "occlusion"]
    table = outcome_of("explain.saliency", mlp_subject, methods=every, draws=0)
    assert table.status == "measured", table.reason
    assert any("GradCAM does not apply: the model has no two-dimensional convolution" in n for n in table.notes)
    assert {m.params["method"] for m in found(table, "explain.completeness_delta")} == {
        "integrated_gradients",
        "deep_lift",
        "expected_gradients",
    }
    assert all(m.unreliable is None for m in found(table, "explain.completeness_delta"))
    assert len(found(table, "explain.method_agreement")) == 21
    text = outcome_of("explain.saliency", reviews, methods=["smooth_grad", "occlusion"], draws=0)
    assert any("SmoothGrad does not apply: token ids have no values to disturb" in n for n in text.notes)
    assert text.status == "measured"


def test_a_silently_incomplete_deep_lift_is_shown_as_failed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 1, 6, 6)).astype(np.float32)

    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.head = nn.Conv2d(1, 6, 3), nn.Linear(96, 2)

        def forward(self, z):
            return self.head(torch.sin(3.0 * self.conv(z)).flatten(1))

    subject = make_subject(Loose(), x, np.arange(60) % 2, task="binary", positive=1)
    outcome = outcome_of("explain.saliency", subject, methods=["deep_lift"], draws=0, show_rows=2)
    (delta,) = found(outcome, "explain.completeness_delta", method="deep_lift")
    assert "DeepLift does not know every layer" in delta.unreliable
    assert any("The DeepLift attributions failed their check" in note for note in outcome.notes)
    assert all("DeepLift" in m.unreliable for m in found(outcome, "explain.method_agreement"))
    rows = next(a for a in outcome.artifacts if a.name == "explain.saliency.rows")
    assert rows.pictures[2].label == "DeepLift (failed its check)"
    honest = found(outcome, "explain.completeness_delta", method="integrated_gradients")[0]
    assert honest.unreliable is None


def test_images_are_shown_only_when_asked_for():
    import base64

    rng = np.random.default_rng(0)
    x = rng.random((40, 8, 8, 3)).astype(np.float32)

    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, z):
            return self.head(self.act(self.conv(z.permute(0, 3, 1, 2))).mean(dim=(2, 3)))

    subject = make_subject(Last(), x, np.arange(40) % 2, task="binary", positive=1)
    quiet = outcome_of("explain.saliency", subject, max_rows=40)
    assert not any(getattr(artifact, "raw", False) for artifact in quiet.artifacts)
    outcome = outcome_of("explain.saliency", subject, max_rows=40, show_rows=3, methods=["saliency", "occlusion"])
    grid = next(a for a in outcome.artifacts if a.name == "explain.saliency.rows")
    assert grid.raw
    assert grid.across == 4
    assert len(grid.pictures) == 12
    pixels = np.frombuffer(base64.b64decode(grid.pictures[0].pixels), dtype=np.uint8).reshape(8, 8) / 255.0
    row = int(grid.pictures[0].label.split()[1].strip(","))
    plane = x[row].mean(axis=2)
    np.testing.assert_allclose(pixels, (plane - plane.min()) / np.ptp(plane), atol=0.01)
    assert [p.palette for p in grid.pictures[:4]] == ["grey", "overlay", "overlay", "overlay"]


def test_a_map_of_nothing_is_called_one():
    """All that the convolution finds speaks against the class explained, so GradCAM has nothing to show."""

    class Against(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.act = nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()

        def forward(self, z):
            return -self.act(self.conv(z)).mean(dim=(2, 3)).sum(dim=1, keepdim=True)

    x = np.abs(np.random.default_rng(0).normal(size=(30, 1, 8, 8))).astype(np.float32)
    module = Against()
    module.conv.weight.data.abs_()
    module.conv.bias.data.zero_()
    subject = make_subject(module, x, np.arange(30) % 2, task="binary", positive=1)
    outcome = outcome_of("explain.saliency", subject, show_rows=2, methods=["saliency", "grad_cam"], draws=0)
    labels = [p.label for a in outcome.artifacts if a.name == "explain.saliency.rows" for p in a.pictures]
    assert labels.count("GradCAM (zero everywhere)") == 2
    assert "saliency" in labels


def test_a_model_without_gradients_at_its_input_says_so():
    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 2)

        def forward(self, x):
            return self.head(x).detach().round()

    x = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    subject = make_subject(Rounded(), x, np.arange(30) % 2, task="binary", positive=1)
    outcome = outcome_of("explain.saliency", subject)
    assert outcome.status == "not_applicable"
    assert "AK510" in outcome.reason


def test_rows_with_missing_values_are_left_out_of_gradients(mlp_subject):
    inputs = np.array(mlp_subject.test.inputs, copy=True)
    inputs[:50, 2] = np.nan
    test = dataclasses.replace(mlp_subject.test, inputs=inputs)
    outcome = outcome_of("explain.saliency", dataclasses.replace(mlp_subject, test=test), max_rows=200, draws=0)
    assert outcome.status == "measured", outcome.reason
    assert any("50 of 200 rows hold a missing value" in note for note in outcome.notes)
    assert found(outcome, "explain.completeness_delta")[0].n == 150


def test_text_through_a_tokenizer_shows_no_token():
    words = {"<pad>": 0, "good": 1, "bad": 2, "film": 3, "very": 4, "plot": 5}

    def tokens(texts):
        rows = [[words[w] for w in text.split()] + [0] * (5 - len(text.split())) for text in texts]
        return torch.tensor(rows, dtype=torch.long)

    rng = np.random.default_rng(0)
    texts, y = [], []
    for _ in range(80):
        label = int(rng.integers(0, 2))
        rest = list(rng.choice(["film", "very", "plot"], size=int(rng.integers(1, 4))))
        texts.append(" ".join([("bad", "good")[label], *rest]))
        y.append(label)
    torch.manual_seed(0)

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(6, 8, padding_idx=0)
            self.head = nn.Linear(8, 2)

        def forward(self, ids):
            return self.head(self.embedding(ids).mean(dim=1))

    module = trained(Mean(), tokens(texts), torch.tensor(y), steps=60)
    subject = make_subject(module, texts, y, tokenizer=tokens, task="binary", positive=1)
    outcome = outcome_of("explain.saliency", subject)
    assert outcome.status == "measured", outcome.reason
    (curve,) = outcome.artifacts
    series = next(s for s in curve.series if s.name == "integrated gradients")
    assert max(v for v in series.y if v is not None) == series.y[0]
    assert series.y[4] is None
    assert not any(word in str(outcome) for word in ("film", "plot"))


def test_regression_and_in_place_layers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    torch.manual_seed(0)
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 1))
    subject = make_subject(module, x, x[:, 0].astype(float), task="regression")
    before = x.copy()
    outcome = outcome_of("explain.saliency", subject)
    assert outcome.status == "measured", outcome.reason
    (gap,) = found(outcome, "explain.completeness_delta")
    assert (gap.unreliable, gap.unit) == (None, "value")  # a regression has no logits
    assert np.array_equal(before, x)


def test_concentration_counts_weights_and_clusters():
    """Rows that weigh 3 are rows that are there three times; copies in one cluster tell no more than one of them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 12)).astype(np.float32) * rng.uniform(0.1, 3.0, (40, 1)).astype(np.float32)
    x[:20, 0] += 20.0
    y, weights = rng.integers(0, 2, 40), np.where(np.arange(40) < 20, 3, 1)
    torch.manual_seed(0)
    module = nn.Linear(12, 2)
    zeros = (np.zeros((10, 12), dtype=np.float32), np.arange(10) % 2)

    def concentration_of(times, **settings):
        rows = np.repeat(np.arange(40), times)
        subject = make_subject(module, x[rows], y[rows], train=zeros, positive=1, **settings)
        outcome = outcome_of("explain.saliency", subject, max_rows=1000, draws=0)
        (one,) = found(outcome, "explain.attribution_concentration", method="integrated_gradients")
        return one

    plain, weighted = concentration_of(1), concentration_of(1, weights=weights.astype(float))
    assert weighted.value == pytest.approx(concentration_of(weights).value, rel=1e-6)
    assert abs(weighted.value - plain.value) > 0.05
    copies = concentration_of(3, clusters=np.repeat(np.arange(40), 3))
    assert copies.value == pytest.approx(plain.value, rel=1e-6)
    assert (copies.interval.low, copies.interval.high) == pytest.approx(
        (plain.interval.low, plain.interval.high), rel=1e-6
    )


def test_many_features_raise_the_budget_and_say_so():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 400))
    x[:, 5] *= 20

    def model(m):
        p = 1 / (1 + np.exp(-np.asarray(m)[:, 5]))
        return np.column_stack([1 - p, p])

    subject = make_subject(model, x, np.arange(12) % 2, task="binary", positive=1)
    outcome = outcome_of("explain.shap", subject, max_rows=4, max_background=5)
    assert any("400 features need more than 512 evaluations a row; 1596 were used" in note for note in outcome.notes)
    assert found(outcome, "explain.attribution_share")[0].value == pytest.approx(1.0)
    assert len(found(outcome, "explain.attribution_share")) == 50


def test_many_features_of_trees_need_no_budget():
    x = np.random.default_rng(0).normal(size=(40, 400))
    model = RandomForestClassifier(3, random_state=0).fit(x, x[:, 5] > 0)
    outcome = outcome_of("explain.shap", make_subject(model, x, x[:, 5] > 0), max_rows=4, max_background=5)
    assert any("Engine: shapley.trees" in note for note in outcome.notes)
    assert not any("evaluations a row" in note for note in outcome.notes)


# ---- the contract


def test_contract_on_tables(clean):
    from auditkit.core.registry import load

    tiny = {"max_rows": 10, "max_background": 5, "budget": 128}
    check_analyzer(load("explain.shap"), clean, params=tiny)
    check_analyzer(load("explain.lime"), clean, params={"max_rows": 4, "samples": 100, "seeds": 2})


def test_contract_on_gradients(mlp_subject):
    from auditkit.core.registry import load

    check_analyzer(load("explain.saliency"), mlp_subject, params={"max_rows": 12, "draws": 2, "sanity_rows": 6})


def test_several_classes_explain_the_decided_class():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 6)).astype(np.float32)
    y = x[:, :3].argmax(axis=1)
    torch.manual_seed(0)
    module = trained(
        nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 3)), torch.from_numpy(x), torch.from_numpy(y)
    )
    subject = make_subject(module, x, y)
    gradients = outcome_of("explain.saliency", subject)
    assert gradients.status == "measured", gradients.reason
    top = {m.params["feature"] for m in found(gradients, "explain.attribution_share")[:3]}
    assert top == set(subject.test.schema.names[:3])
    values = outcome_of("explain.shap", subject)
    assert any("means over the 3 class scores" in note for note in values.notes)
    assert {m.params["feature"] for m in found(values, "explain.attribution_share")[:3]} == top
    assert found(values, "explain.additivity_residual")[0].unreliable is None
    assert outcome_of("explain.lime", subject).status == "measured"
