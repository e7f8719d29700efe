"""The analyzer: closed form through the whole path, planted masking faults, honest twins, feasible tables, contract."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from auditkit.analyzers.robustness.adversarial import ANALYZER, AdversarialParams
from auditkit.analyzers.robustness.estimates import Rows, median
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject
from auditkit.subjects.sklearn import SklearnModel
from auditkit.subjects.torch import TorchModel
from auditkit.testing import check_analyzer

QUICK = {"hopskipjump_rows": 4, "hopskipjump_steps": 2, "max_rows": 60}


def audit(subject, **settings):
    step = Step(name=ANALYZER.name, params=AdversarialParams(**settings), analyzer=ANALYZER)
    return run_step(subject, step)


def values(outcome, name="robustness.accuracy", **where):
    return {m.params.get("eps"): m for m in outcome.measurements if m.name == name and dict(m.slice) == where}


def failed_checks(outcome):
    table = next(a for a in outcome.artifacts if a.name == "robustness.adversarial.checks")
    return {row[0] for row in table.rows if not row[1]}


def blobs(n=900, seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0.3, 0.7, size=(3, 12))
    y = rng.integers(3, size=n)
    x = np.clip(centers[y] + 0.15 * rng.standard_normal((n, 12)), 0, 1).astype(np.float32)
    return x.reshape(n, 3, 4), y


@pytest.fixture(scope="module")
def images():
    x, y = blobs()
    return x[600:], y[600:]


def trained(adversarial=False, seed=0):
    x, y = blobs()
    xt, yt = torch.from_numpy(x[:600]), torch.from_numpy(y[:600])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(150):
        points = xt
        if adversarial:
            points = xt.clone().requires_grad_(True)
            (grad,) = torch.autograd.grad(torch.nn.functional.cross_entropy(net(points), yt), points)
            points = (xt + 0.05 * grad.sign()).clamp(0, 1)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(points), yt).backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def net():
    return trained()


class Altered(torch.nn.Module):
    """A network with a fault that hides its gradients."""

    def __init__(self, net, how):
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x):
        if self.how == "scaled":
            return self.net(x) * 500.0
        if self.how == "detached":
            return self.net(x.detach())
        if self.how == "quantised":
            return self.net(torch.round(x * 16) / 16)
        if self.how == "noisy input":
            return self.net(x + 0.05 * torch.randn_like(x))
        if self.how == "noisy logits":
            return self.net(x) + 0.5 * torch.randn(len(x), 3)
        if self.how == "saturated":
            return 1000.0 * torch.tanh(self.net(x) * 100.0)
        if self.how == "hard labels":
            return torch.nn.functional.one_hot(self.net(x).argmax(1), 3).to(x.dtype) * 5.0
        if self.how == "stepped":
            return torch.round(self.net(x) * 2.0) / 2.0
        raise AssertionError(self.how)


MASKED = ["scaled", "detached", "quantised", "noisy input", "noisy logits", "saturated", "hard labels", "stepped"]


@pytest.mark.parametrize("how", MASKED)
def test_masked_models_are_unreliable(net, images, how):
    outcome = audit(make_subject(TorchModel(Altered(net, how), classes=range(3)), *images), max_rows=100, steps=20)
    assert outcome.status == "measured", outcome.reason
    assert failed_checks(outcome)
    for m in values(outcome).values():
        assert m.unreliable.startswith("failed self-checks: ")
    for m in values(outcome, "robustness.attack_success_rate").values():
        assert m.unreliable


@pytest.mark.parametrize("adversarial", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_honest_models_are_not_flagged(images, adversarial, seed):
    outcome = audit(make_subject(TorchModel(trained(adversarial, seed), classes=range(3)), *images), max_rows=150)
    assert outcome.status == "measured", outcome.reason
    assert failed_checks(outcome) == set()
    found = values(outcome)
    assert all(m.unreliable is None for m in found.values())
    assert list(found) == [0.01, 0.03, 0.1]
    clean = values(outcome, "robustness.clean_accuracy")[None].value
    assert clean >= found[0.01].value >= found[0.03].value > found[0.1].value
    assert all(m.interval.low <= m.value <= m.interval.high for m in found.values())


def test_adversarial_training_shows_in_the_number(images):
    plain, hard = (
        values(audit(make_subject(TorchModel(trained(a), classes=range(3)), *images), max_rows=150))[0.1].value
        for a in (False, True)
    )
    assert hard > plain


def table(n=500, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5)) * np.array([1.0, 10.0, 0.1, 1.0, 3.0])
    y = (x @ np.array([1.0, 0.1, 5.0, -1.0, 0.0]) + 0.3 * rng.standard_normal(n) > 0).astype(int)
    return x, y


def test_linear_model_matches_its_closed_form_by_questions_and_by_gradients():
    x, y = table()
    model = LogisticRegression(max_iter=1000).fit(x, y)
    module = torch.nn.Linear(5, 1).double()
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(model.coef_))
        module.bias.copy_(torch.from_numpy(model.intercept_))
    reach = np.abs(model.coef_[0] * x.std(axis=0)).sum()
    margin = np.where(y == 1, 1.0, -1.0) * model.decision_function(x)
    # Observed bounds end a few moves early, so the exact value is checked on the rows well inside them.
    by_questions = values(audit(make_subject(model, x, y, positive=1), max_rows=500, hopskipjump_rows=0))
    wrapped = TorchModel(module, classes=(0, 1))
    by_gradients = values(audit(make_subject(wrapped, x, y, positive=1), max_rows=500))
    for eps in (0.05, 0.1, 0.25):
        exact = float((margin > eps * reach).mean())
        assert by_gradients[eps].value == pytest.approx(exact, abs=0.008)
        assert by_gradients[eps].value >= exact - 1e-12
        assert exact - 1e-12 <= by_questions[eps].value <= exact + 0.02
        assert by_questions[eps].params["attack"] == "search"
        assert by_gradients[eps].params["attack"] == "pgd"


def loan(n=400, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "income": rng.normal(50, 15, n).round(2),
            "age": rng.integers(18, 80, n),
            "score": rng.normal(0, 1, n),
            "job": rng.choice(["a", "b", "c"], n),
            "sex": rng.choice(["F", "M"], n),
            "member": rng.random(n) < 0.5,
        }
    )
    frame.loc[::17, "score"] = np.nan
    signal = (frame["income"] - 50) / 15 + (frame["age"] - 49) / 20 + frame["score"].fillna(0)
    return frame, (signal + 0.3 * rng.standard_normal(n) > 0).astype(int).to_numpy()


class Watching(SklearnModel):
    """Remembers every table it was asked about."""

    def __init__(self, estimator):
        super().__init__(estimator)
        self.seen = []

    def predict(self, inputs):
        self.seen.append(inputs)
        return super().predict(inputs)

    def predict_scores(self, inputs):
        self.seen.append(inputs)
        return super().predict_scores(inputs)


def test_every_table_the_model_sees_is_feasible():
    frame, y = loan()
    encoder = make_column_transformer((OneHotEncoder(), ["job", "sex"]), remainder="passthrough")
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = Watching(make_pipeline(encoder, HistGradientBoostingClassifier(max_iter=20)).fit(frame, y))
    schema = {"income": {"immutable": True}}
    subject = make_subject(model, frame, y, sensitive=["sex"], positive=1, schema=schema)
    model.seen.clear()
    outcome = audit(subject, **QUICK)
    assert outcome.status == "measured", outcome.reason
    assert len(model.seen) > 20
    incomes, ages = set(frame["income"]), frame["age"]
    for seen in model.seen:
        assert list(seen.dtypes) == list(frame.dtypes)
        assert set(seen["income"]) <= incomes
        assert seen["age"].between(ages.min(), ages.max()).all()
        assert seen["score"].dropna().between(frame["score"].min(), frame["score"].max()).all()
        assert set(seen["job"]) <= {"a", "b", "c"}
        assert set(seen["sex"]) <= {"F", "M"}
    rows = pd.MultiIndex.from_frame(frame[["income", "job", "sex", "member"]])
    for seen in model.seen:
        assert pd.MultiIndex.from_frame(seen[["income", "job", "sex", "member"]]).isin(rows).all()
    assert any(
        (seen["age"].to_numpy()[:5] != frame["age"].to_numpy()[:5]).any() for seen in model.seen if len(seen) > 5
    )
    assert values(outcome, sex="F")[0.1].n + values(outcome, sex="M")[0.1].n == values(outcome)[0.1].n
    assert values(outcome)[0.1].params["attack"] == "search+hopskipjump"
    assert any("income" in note and "sex" in note for note in outcome.notes)
    assert values(outcome, "robustness.median_distance")


def test_eps_zero_equals_clean_accuracy():
    x, y = table()
    outcome = audit(make_subject(LogisticRegression().fit(x, y), x, y, positive=1), eps=(0.0, 0.1), **QUICK)
    clean = values(outcome, "robustness.clean_accuracy")[None].value
    assert values(outcome)[0.0].value == clean
    assert values(outcome)[0.1].value < clean


def test_a_noisy_callable_is_unreliable_and_a_steady_one_is_not():
    x, y = table()
    fitted = LogisticRegression().fit(x, y)

    def noisy(rows):
        scores = fitted.predict_proba(rows)
        shift = 0.2 * np.random.standard_normal(len(rows))  # noqa: NPY002
        up = np.clip(scores[:, 1] + shift, 0, 1)
        return np.stack([1 - up, up], axis=1)

    bad = audit(make_subject(noisy, x, y, positive=1), **QUICK)
    good = audit(make_subject(fitted.predict_proba, x, y, positive=1), **QUICK)
    assert "deterministic model" in failed_checks(bad)
    assert values(bad)[0.1].unreliable
    assert failed_checks(good) == set()
    assert values(good)[0.1].unreliable is None


def test_labels_alone_are_enough():
    x, y = table()
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(x, y)
    outcome = audit(make_subject(tree.predict, x, y, positive=1), **QUICK)
    assert outcome.status == "measured", outcome.reason
    assert values(outcome)[0.25].value < values(outcome, "robustness.clean_accuracy")[None].value


def test_a_preparation_that_mixes_columns_is_attacked_by_questions():
    frame, y = loan()
    frame = frame.drop(columns=["score"])

    def prepare(rows):
        parts = [
            rows[["income", "age"]].to_numpy(dtype=np.float32) @ np.array([[0.5, 1], [1, -0.5]], np.float32) / 50,
            np.stack([rows["job"] == j for j in "abc"], axis=1),
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Linear(5, 2)
    model = TorchModel(module, classes=(0, 1), prepare=prepare)
    outcome = audit(make_subject(model, frame, y, sensitive=["sex"], positive=1), **QUICK)
    assert outcome.status == "measured", outcome.reason
    assert values(outcome)[0.1].params["attack"] == "search+hopskipjump"
    assert any("attacked by questions" in note for note in outcome.notes)


class Watched:
    """Where progress goes, and how much work was done at each word of it."""

    def __init__(self):
        self.told = []

    def start(self, name, index, total):
        pass

    def advance(self, name, done, total):
        self.told.append((done, total))

    def finish(self, name, outcome, seconds, resumed):
        pass


@pytest.mark.parametrize(
    ("engine", "settings", "least"),
    [("questions", {"hopskipjump_steps": 3}, 40), ("questions", {"attack": "boundary"}, 60), ("gradients", {}, 16)],
)
def test_one_bar_moves_to_its_end_through_walks_and_cross_examination(engine, settings, least, net, images):
    x, y = images
    flat = x.reshape(len(x), -1)
    model = TorchModel(net, classes=(0, 1, 2)) if engine == "gradients" else LogisticRegression().fit(flat, y)
    rows = x if engine == "gradients" else flat
    params = AdversarialParams(**{**QUICK, "hopskipjump_rows": 4, "hopskipjump_queries": 500, **settings})
    sink = Watched()
    outcome = run_step(
        make_subject(model, rows, y), Step(name=ANALYZER.name, params=params, analyzer=ANALYZER), sink=sink
    )
    assert outcome.status == "measured", outcome.reason
    done = [at for at, _ in sink.told]
    assert {of for _, of in sink.told} == {done[-1]}, "one bar with one end, which it reaches"
    assert done == sorted(set(done)), "it never goes back"
    assert len(done) >= least
    assert max(np.diff([0, *done])) < 0.35 * done[-1]


@pytest.mark.parametrize("engine", ["questions", "gradients"])
def test_the_rows_that_are_looked_at_more_closely_are_no_first_rows(engine, monkeypatch):
    """Rows stand in the order of time; the fewer ones that a dearer attack or a check looks at come from all of it."""
    from auditkit.analyzers.robustness import gradient_strike
    from auditkit.methods.robustness import art_engine

    rng = np.random.default_rng(0)
    x = np.column_stack([np.arange(200.0), rng.normal(size=(200, 2))]).astype(np.float32)
    y = (x[:, 1] > 0).astype(int)
    seen = []

    class SeenError(Exception):
        pass

    def starts(decide, some, *args, **settings):
        seen.extend(some[:, 0])
        raise SeenError

    def tensors(arena, lens, rows, eps, seed):
        seen.extend(arena.x[rows, 0])
        raise SeenError

    monkeypatch.setattr(art_engine, "adversarial_starts", starts)
    monkeypatch.setattr(art_engine, "load", lambda name: None)
    true_examined = gradient_strike._examined

    def examined(*args):
        monkeypatch.setattr(gradient_strike, "_tensors", tensors)
        return true_examined(*args)

    monkeypatch.setattr(gradient_strike, "_examined", examined)
    net = TorchModel(torch.nn.Linear(3, 2), classes=(0, 1)) if engine == "gradients" else LogisticRegression().fit(x, y)
    audit(make_subject(net, x, y, positive=1), steps=2, hopskipjump_rows=40, check_rows=40, max_rows=200)
    assert len(seen) == 40
    assert abs(np.mean(seen) - 99.5) < 40


def test_a_scaling_preparation_is_attacked_by_gradients():
    x, y = table()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Linear(5, 2).double()
    model = TorchModel(module, classes=(0, 1), prepare=lambda rows: (np.asarray(rows) - x.mean(0)) / x.std(0))
    outcome = audit(make_subject(model, x, y, positive=1), **QUICK)
    assert values(outcome)[0.1].params["attack"] == "pgd"
    weight = module.weight.detach().numpy()
    reach = np.abs(weight[1] - weight[0]).sum()
    assert reach > 0
    assert failed_checks(outcome) == set()


def test_whole_numbers_under_gradients_stay_whole():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 40, size=(300, 4))
    y = (x.sum(axis=1) > 80).astype(int)
    module = torch.nn.Linear(4, 2)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.0] * 4, [1.0] * 4]))
        module.bias.copy_(torch.tensor([0.0, -80.5]))
    outcome = audit(make_subject(TorchModel(module, classes=(0, 1)), x, y, positive=1), max_rows=300, eps=(0.1, 0.25))
    assert values(outcome)[0.25].params["attack"] == "pgd+search"
    for eps in (0.1, 0.25):
        steps = np.floor(eps * x.std(axis=0) + 1e-9).sum()
        exact = float((np.abs(x.sum(axis=1) - 80.5) > steps).mean())
        # Rows at the observed bounds cannot move the whole way.
        assert exact <= values(outcome)[eps].value <= exact + 0.03
    assert failed_checks(outcome) == set()


def test_a_model_that_is_hardly_ever_right_has_few_rows_to_attack():
    x, _ = table(60)
    y = np.where(np.arange(60) < 59, 1, 0)
    outcome = audit(make_subject(lambda rows: np.where(rows[:, 0] > 1e9, 1, 0), x, y, positive=1), **QUICK)
    assert outcome.status == "measured", outcome.reason
    assert values(outcome, "robustness.attack_success_rate")[0.1].n == 1
    assert values(outcome)[0.1].value == pytest.approx(1 / 60)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"eps": (-0.1,)}, "eps must be one or more finite"), ({"eps": ()}, "eps must be"), ({"step": 3}, "step")],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        AdversarialParams(**settings)


def test_what_cannot_be_attacked_says_so():
    constant = np.ones((60, 2))
    outcome = audit(
        make_subject(
            lambda rows: np.zeros(len(rows), dtype=int) + (rows[:, 0] > 2), constant, np.arange(60) % 2, positive=1
        )
    )
    assert outcome.status == "not_applicable"
    assert "AK541 no column may change" in outcome.reason


def test_weights_and_clusters_widen_the_interval():
    x, y = table(200)
    model = LogisticRegression().fit(x, y)
    plain = audit(make_subject(model, x, y, positive=1), **QUICK | {"max_rows": 200})
    clustered = audit(make_subject(model, x, y, positive=1, clusters=np.arange(200) // 10), **QUICK | {"max_rows": 200})
    weighted = audit(
        make_subject(model, x, y, positive=1, weights=np.where(np.arange(200) % 10, 0.1, 5.0)),
        **QUICK | {"max_rows": 200},
    )

    def width(outcome):
        interval = values(outcome)[0.25].interval
        return interval.high - interval.low

    assert values(clustered)[0.25].value == pytest.approx(values(plain)[0.25].value)
    assert width(weighted) > 1.5 * width(plain)


def test_median_interval_covers_as_promised():
    rng = np.random.default_rng(0)
    hits = sum((found := median(rng.exponential(size=41)).interval).low <= np.log(2) <= found.high for _ in range(400))
    assert 0.93 <= hits / 400 <= 0.995
    assert "never fooled" in median(np.array([1.0, np.inf, np.inf])).reason


def test_median_of_many_rows():
    found = median(np.arange(5001.0))
    assert found.value == 2500.0
    assert found.interval.high - 2500.0 == pytest.approx(1.96 * np.sqrt(5001) / 2, abs=2)


def rows_of(n, weights=None, clusters=None):
    return Rows(positions=np.arange(n), weights=weights, clusters=clusters)


def test_median_of_weighted_and_clustered_rows():
    rng = np.random.default_rng(3)
    x = rng.exponential(size=201)
    plain = median(x)
    # Every row five times in one cluster is no more information; counting the copies as rows would be.
    copies = median(np.repeat(x, 5), rows_of(1005, clusters=np.repeat(np.arange(201), 5)))
    assert copies.value == plain.value
    assert copies.interval.high - copies.interval.low >= 0.85 * (plain.interval.high - plain.interval.low)
    # A weight of three is three rows for the value.
    weights = rng.integers(1, 4, 201).astype(float)
    assert median(x, rows_of(201, weights=weights)).value == median(np.repeat(x, weights.astype(int))).value


@pytest.mark.parametrize("kind", ["weights", "clusters"])
def test_median_interval_covers_with_a_design(kind):
    rng, hits = np.random.default_rng(1), 0
    for _ in range(400):
        if kind == "weights":
            x, rows = rng.exponential(size=120), rows_of(120, weights=rng.exponential(size=120))
        else:
            x, rows = np.repeat(rng.exponential(size=60), 4), rows_of(240, clusters=np.repeat(np.arange(60), 4))
        found = median(x, rows).interval
        hits += found.low <= np.log(2) <= found.high
    assert 0.92 <= hits / 400 <= 0.995


@pytest.mark.parametrize("kind", ["gradients", "questions"])
def test_contract(kind, net, images):
    if kind == "gradients":
        groups = {"site": np.where(np.arange(300) % 2, "a", "b")}
        subject = make_subject(TorchModel(net, classes=range(3)), *images, sensitive=groups)
    else:
        frame, y = loan(120)
        x = frame[["income", "age"]]
        subject = make_subject(LogisticRegression().fit(x, y), x, y, sensitive=frame[["sex"]], positive=1)
    settings = {"max_rows": 40, "steps": 5, "hopskipjump_rows": 2, "hopskipjump_steps": 1, "search_rounds": 5}
    outcome = check_analyzer(ANALYZER, subject, params=settings)
    assert dataclasses.is_dataclass(outcome)


def threshold_subject(threshold, wrapped=False):
    """A linear model on four columns whose decision needs a probability of ``threshold`` for the second class."""
    weight, cut = np.array([2.0, -2.0, 1.0, 0.0]), np.log(threshold / (1.0 - threshold))
    x = np.random.default_rng(0).normal(size=(120, 4)).astype(np.float32)
    net = torch.nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(np.stack([-weight, weight]) / 2.0))
        net.bias.zero_()
    y = (x.astype(np.float64) @ weight > cut).astype(np.int64)
    model = TorchModel(net, classes=(0, 1), threshold=threshold)
    if wrapped:
        model.decision_logits = model.logits  # a model of another kind, whose decision is more than its logits
    step = 0.25 * x.std(axis=0) * np.sign(weight) * np.where(y == 1, -1.0, 1.0)[:, None]
    worst = np.clip(x + step, x.min(axis=0), x.max(axis=0)).astype(np.float64) @ weight > cut
    return make_subject(model, x, y), float((worst == y).mean())


@pytest.mark.parametrize("attack", ["pgd", "autoattack-fast", "deepfool"])
@pytest.mark.parametrize("threshold", [0.9, 0.2])
def test_a_decision_threshold_is_part_of_what_is_attacked(threshold, attack):
    subject, exact = threshold_subject(threshold)
    outcome = audit(subject, eps=[0.25], max_rows=120, check_rows=20, attack=attack)
    found = values(outcome)[0.25]
    assert found.value == pytest.approx(exact)
    assert found.unreliable is None


def test_a_decision_that_is_more_than_the_logits_is_told_without_any_cross_examination():
    subject, exact = threshold_subject(0.9, wrapped=True)
    outcome = audit(subject, eps=[0.25], max_rows=120, check_rows=0)
    assert values(outcome)[0.25].value >= exact
    assert "largest logit is the decision" in failed_checks(outcome)
    assert "largest logit is the decision" in values(outcome)[0.25].unreliable
