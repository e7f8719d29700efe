"""Bad input to every explainer: a status and a sentence, and never a wrong number."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from explain.test_explain_analyzers import found, outcome_of
from explain.test_explain_captum_engine import differentiated
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from torch import nn

from auditkit.core.errors import AuditkitError, NotApplicable
from auditkit.methods.explain import hooked
from auditkit.methods.explain.captum_engine import gradient_attribution, integrated_gradients
from auditkit.methods.explain.expected_gradients import expected_gradients
from auditkit.subjects.build import make_subject
from auditkit.subjects.torch import TorchModel

TABLES = ("explain.shap", "explain.lime")
SETTINGS = {"explain.saliency": {"draws": 0}}


def told(outcome):
    """A status with a sentence where nothing was measured; numbers that are finite, or absent with a reason."""
    assert outcome.status in ("measured", "not_applicable", "failed")
    if outcome.status != "measured":
        assert len(outcome.reason.split()) > 4
    for one in outcome.measurements:
        assert one.value is None or math.isfinite(one.value), one
        assert one.value is not None or one.reason, one
        assert one.interval is None or (math.isfinite(one.interval.low) and math.isfinite(one.interval.high)), one
    return outcome


def explain(name, subject, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return told(outcome_of(name, subject, **{**SETTINGS.get(name, {}), **settings}))


def numbers(n=160, f=4, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, f))
    return x, (x[:, 0] - x[:, 1] > 0).astype(int)


def network(f, outputs=2, activation=None):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(f, 8), activation or nn.Tanh(), nn.Linear(8, outputs))


# Labels alone, no gradients


@pytest.mark.parametrize("name", [*TABLES, "explain.saliency"])
def test_a_model_that_gives_labels_only(name):
    x, y = numbers()
    model = RandomForestClassifier(5, random_state=0).fit(x, y)

    class Labels:
        def __call__(self, m):
            return model.predict(np.asarray(m, dtype=float))

    outcome = explain(name, make_subject(Labels(), x, y, positive=1, task="binary"))
    assert outcome.status == "not_applicable"
    assert outcome.measurements == ()


def test_margins_of_a_model_without_probabilities_are_explained_as_margins():
    x, y = numbers()
    outcome = explain("explain.shap", make_subject(RidgeClassifier().fit(x, y), x, y))
    assert outcome.status == "measured"
    (residual,) = found(outcome, "explain.additivity_residual")
    assert residual.unit in ("margin", "logit")
    assert residual.value < 1e-9


def test_gradients_of_models_that_have_none():
    x, y = numbers()
    outcome = explain("explain.saliency", make_subject(RandomForestClassifier(3, random_state=0).fit(x, y), x, y))
    assert outcome.status == "not_applicable"

    class Rounded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(4)

        def forward(self, z):
            return torch.round(self.inner(z.detach()))

    subject = make_subject(Rounded(), x.astype(np.float32), y, task="binary", positive=1)
    for methods in (None, ["deep_lift", "expected_gradients", "smooth_grad", "input_x_gradient"]):
        outcome = explain("explain.saliency", subject, methods=methods)
        assert outcome.status == "not_applicable"
        assert "does not depend differentiably on its input" in outcome.reason


def test_gradients_that_are_zero_everywhere_are_never_shares():
    class Stairs(nn.Module):
        """Rounding inside: differentiable for torch, with gradients that are zero everywhere."""

        def forward(self, z):
            step = torch.round(z.sum(dim=1, keepdim=True))
            return torch.cat([-step, step], dim=1)

    x, y = numbers()
    subject = make_subject(Stairs(), x.astype(np.float32), y, task="binary", positive=1)
    outcome = explain("explain.saliency", subject)
    (delta,) = found(outcome, "explain.completeness_delta")
    assert "miss the change of the output" in delta.unreliable
    assert all(m.value is None for m in found(outcome, "explain.attribution_share"))


# Hooks


class Shared(nn.Module):
    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(64, 2)
        self.act = nn.ReLU(inplace=kind == "in place")
        self.other = self.act if kind == "reused" else nn.ReLU(inplace=kind == "in place")

    def forward(self, z):
        return self.head(self.other(self.second(self.act(self.first(z)))).flatten(1))


@pytest.mark.parametrize("kind", ["in place", "reused"])
def test_rectifiers_in_place_or_reused_are_told_and_the_rest_is_measured(kind):
    x = np.random.default_rng(0).normal(size=(40, 1, 8, 8)).astype(np.float32)
    subject = make_subject(Shared(kind), x, np.arange(40) % 2, task="binary", positive=1)
    methods = ["deep_lift", "guided_grad_cam", "grad_cam", "occlusion", "expected_gradients"]
    outcome = explain("explain.saliency", subject, methods=methods)
    assert outcome.status == "measured"
    notes = " ".join(outcome.notes)
    # Guided backpropagation passes each use of a reused rectifier; see the next test.
    refused = {"guided_grad_cam"} if kind == "in place" else set()
    told = "Guided GradCAM does not apply: this method needs hooks that the model's layers refuse" in notes
    assert told == bool(refused)
    assert "DeepLift is worked out without captum's hooks: captum refuses the model" in notes
    measured = {m.params["method"] for m in outcome.measurements if "method" in m.params}
    assert measured == {"integrated_gradients", *methods} - refused
    assert all(m.unreliable is None for m in found(outcome, "explain.completeness_delta"))


def test_guided_backpropagation_through_a_reused_rectifier_is_that_of_two():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32))
    one, two = Shared("reused"), Shared("two")
    found = [hooked.guided_grad_cam(differentiated(module, 5), x, module.second) for module in (one, two)]
    np.testing.assert_array_equal(found[0].values, found[1].values)
    assert np.abs(found[0].values).max() > 0.0


def test_a_scripted_module_whose_layers_hooks_cannot_see_is_failed():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls scripting old
        module = torch.jit.script(network(4, activation=nn.ReLU()).eval())
    x = torch.from_numpy(numbers(9)[0]).float()
    subject = differentiated(module, 9)
    plain = integrated_gradients(subject, x, torch.zeros(1, 4))
    assert plain.status in ("exact", "estimated")
    unseen = hooked.deep_lift(subject, x, torch.zeros(1, 4))
    assert unseen.status == "failed"
    assert "miss the change of the output" in unseen.reason
    assert "DeepLift does not know every layer of this model" in unseen.reason


@pytest.mark.parametrize("scripted", [True, False])
def test_a_module_that_refuses_hooks_is_measured_to_the_end(scripted):
    class Closed(nn.Tanh):
        def register_forward_pre_hook(self, *_args, **_settings):
            raise RuntimeError("no hooks")

    x, y = numbers(60)
    module = network(4, activation=nn.Tanh() if scripted else Closed()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls scripting old
        module = torch.jit.script(module) if scripted else module
        subject = make_subject(module, x.astype(np.float32), y, task="binary", positive=1)
        outcome = told(outcome_of("explain.saliency", subject, methods=["deep_lift"], draws=2, sanity_rows=8))
    assert outcome.status == "measured"
    scopes = {m.params["scope"]: m.value for m in found(outcome, "explain.randomisation_similarity")}
    assert set(scopes) == {"all_layers", "last_layer"}
    assert None not in scopes.values()
    (delta,) = [m for m in found(outcome, "explain.completeness_delta") if m.params["method"] == "deep_lift"]
    assert (delta.unreliable is None) == (not scripted)  # what is scripted passes functions by


# Missing values


def test_rows_with_missing_values_are_explained_where_the_model_takes_them():
    x, y = numbers()
    x[::5, 2] = np.nan
    model = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(x, y)
    outcome = explain("explain.shap", make_subject(model, x, y))
    (residual,) = found(outcome, "explain.additivity_residual")
    assert residual.value < 1e-9
    lime = explain("explain.lime", make_subject(model, x, y))
    assert lime.status == "measured"
    assert any("missing" in note for note in lime.notes)


def test_rows_with_missing_values_that_the_model_refuses_stop_at_the_door():
    x, y = numbers()
    model = LogisticRegression().fit(x, y)
    holes = x.copy()
    holes[:, 1] = np.nan
    with pytest.raises(AuditkitError, match="(?s)AK210 the model raised an error.*missing values in column 1"):
        make_subject(model, holes, y)
    outcome = explain("explain.shap", make_subject(model, x, y, train=(holes, y)))  # the background has holes
    assert outcome.status == "failed"
    assert "there are missing values in" in outcome.reason


def test_only_missing_rows_have_no_gradients():
    x, y = numbers()
    x[:, 0] = np.nan

    class Filled(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network(4)

        def forward(self, z):
            return self.inner(torch.nan_to_num(z))

    outcome = explain("explain.saliency", make_subject(Filled(), x.astype(np.float32), y, task="binary", positive=1))
    assert outcome.status == "not_applicable"
    assert "every sampled row holds a missing value" in outcome.reason


# Constant features, one background row


@pytest.mark.parametrize("name", [*TABLES, "explain.saliency"])
def test_constant_features_get_nothing(name):
    x, y = numbers()
    x[:, 3] = 7.0
    if name == "explain.saliency":
        subject = make_subject(network(4), x.astype(np.float32), y, task="binary", positive=1)
    else:
        subject = make_subject(LogisticRegression().fit(x, y), x, y)
    outcome = explain(name, subject)
    assert outcome.status == "measured"
    feature = subject.test.schema.names[3]
    method = {"explain.saliency": "integrated_gradients"}.get(name, name.split(".")[1])
    (size,) = [
        m for m in found(outcome, "explain.mean_absolute_attribution", feature=feature, method=method) if not m.slice
    ]
    assert size.value == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("model", ["forest", "line", "evaluated"])
def test_a_background_of_one_row(model):
    x, y = numbers()
    made = {
        "forest": RandomForestClassifier(5, random_state=0),
        "line": LogisticRegression(),
        "evaluated": LogisticRegression(),
    }[model].fit(x, y)
    settings = {"space": "logit"} if model == "line" else {}
    subject = make_subject(made, x, y, train=(x[:1], y[:1]))
    outcome = explain("explain.shap", subject, **settings)
    (residual,) = found(outcome, "explain.additivity_residual")
    assert residual.value < 1e-9
    assert residual.unreliable is None
    assert "The background is the only training row." in outcome.notes
    assert any("the one background row for every row" in note for note in outcome.notes)


def test_expected_gradients_from_one_row_are_integrated_gradients():
    x = torch.from_numpy(numbers(6)[0])
    module = network(4).double()
    subject = differentiated(module, 6)
    one = expected_gradients(subject, x, x[:1], tolerance=1e-8)
    path = integrated_gradients(subject, x, x[:1], tolerance=1e-8)
    np.testing.assert_allclose(one.values, path.values, atol=1e-5)


# Category dtype, many features


@pytest.mark.parametrize("name", TABLES)
def test_category_columns_reach_the_model_as_categories(name):
    rng = np.random.default_rng(0)
    x, y = numbers()
    table = pd.DataFrame(x, columns=list("abcd"))
    table["town"] = pd.Categorical(rng.choice(["oslo", "rome", "lima"], len(x)))
    y = np.where(table["town"] == "rome", 1 - y, y)
    model = HistGradientBoostingClassifier(max_iter=30, categorical_features="from_dtype", random_state=0)
    outcome = explain(name, make_subject(model.fit(table, y), table, y))
    assert outcome.status == "measured"
    order = [m.params["feature"] for m in found(outcome, "explain.mean_absolute_attribution") if not m.slice]
    assert "town" in order[:3]
    if name == "explain.shap":
        (residual,) = found(outcome, "explain.additivity_residual")
        assert residual.value < 1e-9


@pytest.mark.parametrize("name", [*TABLES, "explain.saliency"])
def test_two_thousand_features(name):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2000)).astype(np.float32)
    y = (x[:, 5] > 0).astype(int)
    if name == "explain.saliency":
        torch.manual_seed(0)
        subject = make_subject(nn.Linear(2000, 2), x, y, task="binary", positive=1)
        settings = {"max_rows": 5}
    else:
        model = RandomForestClassifier(20, max_features=None, max_depth=2, random_state=0).fit(x, y)
        subject = make_subject(model, x, y)
        settings = {"max_rows": 3} | (
            {"samples": 100, "max_rows": 1, "seeds": 2} if name == "explain.lime" else {"max_background": 10}
        )
    outcome = explain(name, subject, **settings)
    assert outcome.status == "measured"
    sizes = [m for m in found(outcome, "explain.mean_absolute_attribution") if not m.slice]
    assert 0 < len(sizes) <= 100
    if name == "explain.shap":
        assert sizes[0].params["feature"] == subject.test.schema.names[5]
        assert found(outcome, "explain.additivity_residual")[0].value < 1e-9


# Texts


WORDS = {"good": 3, "bad": 4, "film": 5}


class Tokenizer:
    special_ids, unknown_id, mask_id = (0, 2), 1, 2

    def __call__(self, texts):
        rows = torch.zeros((len(texts), 6), dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [WORDS.get(word, 1) for word in text.split()[:6]]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        return rows

    def tokens(self, text):
        return text.split()[:6]


def text_subject(texts):
    torch.manual_seed(0)

    class Bag(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(6, 8, padding_idx=0), nn.Linear(8, 2)

        def forward(self, ids):
            return self.head(torch.tanh(self.embedding(ids)).sum(dim=1))

    model = TorchModel(Bag().eval(), classes=("no", "yes"), prepare=Tokenizer())
    return make_subject(model, texts, ["no", "yes"] * (len(texts) // 2), positive="yes")


@pytest.mark.parametrize("name", ["explain.lime", "explain.saliency"])
@pytest.mark.parametrize("empty", ["", "   ", "zzz qqq"])
def test_texts_that_hold_nothing(name, empty):
    outcome = explain(name, text_subject([empty] * 8))
    if name == "explain.saliency":
        assert outcome.status == "not_applicable"
        assert "no sampled text holds a token that the model knows" in outcome.reason
    elif outcome.status == "measured":
        # Unknown words are words to LIME: they have weights, and here a fit that says how little they explain.
        assert empty == "zzz qqq"
    some = explain(name, text_subject([empty, "good film"] * 6), max_rows=120)
    assert some.status == "measured"
    if name == "explain.saliency":
        assert any("6 of 12 rows hold no token that the model knows: left out" in note for note in some.notes)


def test_shapley_values_of_columns_do_not_apply_to_texts():
    assert explain("explain.shap", text_subject(["good film", "bad film"] * 4)).status == "not_applicable"


def test_saliency_of_ids_without_an_embedding():
    class Sum(nn.Module):
        def forward(self, ids):
            total = ids.float().sum(dim=1, keepdim=True)
            return torch.cat([-total, total], dim=1)

    subject = differentiated(Sum(), 3)
    with pytest.raises(NotApplicable, match="AK510"):
        gradient_attribution(subject, torch.ones((3, 4), dtype=torch.long), "saliency")
