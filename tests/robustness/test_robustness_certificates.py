"""Certificates by randomized smoothing: closed forms on linear models, coverage, what must not count, bad input."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import torch

import subject_zoo
from auditkit.core.errors import UsageError
from auditkit.core.plan import Step
from auditkit.core.registry import load
from auditkit.execution.runner import run_step
from auditkit.methods.robustness.art_torch import clever_scores, smoothed_radius
from auditkit.methods.robustness.smoothing import certify, largest_radius
from auditkit.subjects.build import make_subject
from auditkit.subjects.torch import TorchModel

WEIGHT = torch.tensor([3.0, -1.0, 2.0, 0.5])
QUICK = {"draws": 200, "clever_rows": 0}


def decide(x):
    return ((x - 0.5) @ WEIGHT.to(x.dtype) > 0).long()


def distance(x):
    return ((x - 0.5) @ WEIGHT).abs().double() / float(torch.linalg.vector_norm(WEIGHT))


def rows(n=8):
    return torch.rand(n, 4, generator=torch.Generator().manual_seed(0))


def module_of(weight, bias):
    """Two logits ``(-m, m) / 2`` whose margin is ``x @ weight + bias``."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(len(weight), 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.stack([-weight, weight]) / 2)
        net[1].bias.copy_(torch.tensor([-bias, bias]) / 2)
    return net


def table_subject(net=None, n=60, whole=False, flipped=0, **more):
    x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    x = (3.0 * x).round() + np.float32([0.0, 0.0, 1.0]) if whole else x
    y = (x @ np.array([1.0, -1.0, 0.5], dtype=np.float32) > 0).astype(np.int64)
    y[np.abs(x).sum(axis=1).argsort()[n - flipped :]] ^= 1
    net = net or module_of(torch.tensor([1.0, -1.0, 0.5]), 0.0)
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    sex = np.where(np.arange(n) % 2, "F", "M")
    return make_subject(TorchModel(net, classes=(0, 1), **more), frame, y, sensitive={"sex": sex})


def outcome_of(subject, **params):
    analyzer = load("robustness.certificates")
    return run_step(subject, Step(name=analyzer.name, params=analyzer.params(**{**QUICK, **params}), analyzer=analyzer))


def values(outcome, name, **keys):
    found = [m for m in outcome.measurements if m.name == f"robustness.{name}"]
    return [m for m in found if all({**m.params, **m.slice}.get(key) == wanted for key, wanted in keys.items())]


def overall(outcome, radius):
    (one,) = [m for m in values(outcome, "certified_accuracy", radius=radius) if not m.slice]
    return one


def test_the_radius_of_a_linear_model_is_the_quantile_of_its_share_and_nears_the_margin():
    # Under noise of deviation s a linear model is right with chance Phi(d / s), d = margin / |w|, so that
    # s * Phi^-1 of that chance is d itself: the certificate, made from a lower limit, lies a little below.
    x, sigma = rows(), 0.25
    found = certify(decide, x, sigma=sigma, draws=20_000)
    true = distance(x)
    reachable = true < 0.8 * largest_radius(sigma, 20_000, 0.001)
    assert int(reachable.sum()) >= 5
    assert torch.equal(found.classes[reachable], decide(x)[reachable])
    assert bool((found.radii <= true + 1e-9).all())
    lost = (true - found.radii)[reachable]
    assert float(lost.max()) < 0.02
    assert found.alone
    assert found.undecided == 0.0
    assert found.n_evaluations == 8 * 20_100 + 5 * 8


def test_the_radius_is_that_of_scipy_on_the_counted_copies():
    from scipy.stats import beta, norm

    seen = []

    def counted(points):
        said = decide(points)
        if len(points) > 1:
            seen.append(said)
        return said

    found = certify(counted, rows(1), sigma=0.25, draws=500, selection=50, alpha=0.01, batch_size=4096)
    (said,) = seen
    top = int(torch.bincount(said[:50]).argmax())
    hits = int((said[50:] == top).sum())
    expected = 0.25 * norm.ppf(beta.ppf(0.01, hits, 500 - hits + 1))
    assert 250 < hits < 500
    assert float(found.radii[0]) == pytest.approx(expected, rel=1e-6)


def test_it_agrees_with_the_toolbox():
    x = rows()
    ours = certify(decide, x, sigma=0.25, draws=4000)

    def logits(z):
        m = (z - 0.5) @ WEIGHT.to(z.dtype)
        return torch.stack([-m, m], dim=1)

    classes, radii = smoothed_radius(logits, x, sigma=0.25, draws=4000)
    clear = distance(x) > 0.05
    assert torch.equal(ours.classes[clear], classes[clear])
    assert float((ours.radii - radii).abs().max()) < 0.06
    assert float((ours.radii - radii).mean().abs()) < 0.02


def test_a_certificate_is_wrong_no_more_often_than_alpha():
    # One row at distance d; a radius above d is wrong. Each of 400 certificates has noise of its own.
    x = (0.5 + 0.1 * WEIGHT / torch.linalg.vector_norm(WEIGHT))[None].repeat(400, 1)
    found = certify(decide, x, sigma=0.2, draws=200, alpha=0.1)
    wrong = float((found.radii > 0.1).double().mean())
    assert 0.02 < wrong < 0.1 + 3 * (0.1 * 0.9 / 400) ** 0.5
    assert float(found.radii.mean()) > 0.05


def test_what_no_draw_can_settle_is_an_abstention():
    on_the_boundary = torch.full((3, 4), 0.5)
    found = certify(decide, on_the_boundary, sigma=0.25, draws=500)
    assert found.classes.tolist() == [-1, -1, -1]
    assert found.radii.tolist() == [0.0, 0.0, 0.0]
    few = certify(decide, rows(), sigma=0.25, draws=9, alpha=0.001)  # 0.001 ** (1/9) < 0.5
    assert largest_radius(0.25, 9, 0.001) == 0.0
    assert bool((few.classes == -1).all())


def test_copies_without_an_answer_count_against_every_class():
    def mostly_mute(points):
        return torch.where(points[:, 0] > points[:, 0].median(), decide(points), -1)

    x = 0.5 + 2.0 * WEIGHT[None]
    assert certify(decide, x, sigma=0.1).classes.tolist() == [1]
    found = certify(mostly_mute, x, sigma=0.1)
    assert found.classes.tolist() == [-1]
    assert 0.4 < found.undecided < 0.6

    def not_a_number(z):
        logits = torch.stack([torch.zeros(len(z)), torch.ones(len(z))], dim=1)
        return torch.where((z[:, :1] > x[0, 0]), torch.full_like(logits, torch.nan), logits)

    classes, radii = smoothed_radius(not_a_number, x, sigma=0.1)
    assert classes.tolist() == [-1]
    assert radii.tolist() == [0.0]


def test_frozen_features_get_no_noise_and_scales_are_units():
    x = rows(4)
    scale = torch.tensor([2.0, 0.0, 1.0, 1.0])
    seen = []
    found = certify(lambda z: seen.append(z) or decide(z), x, sigma=0.1, scale=scale, draws=20_000)
    points = torch.cat([part for part in seen if len(part) > 1])
    assert bool((points[:, 1, None] == x[:, 1]).any(dim=1).all())
    true = ((x - 0.5) @ WEIGHT).abs().double() / float(torch.linalg.vector_norm(WEIGHT * scale))
    reachable = true < 0.8 * largest_radius(0.1, 20_000, 0.001)
    assert int(reachable.sum()) >= 2
    assert float((true - found.radii)[reachable].abs().max()) < 0.01


def test_a_model_is_given_back_and_its_rows_are_seen_not_to_stand_alone():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    found = certify(lambda z: net(z).argmax(dim=1), rows(2), sigma=0.1, draws=50, model=net)
    assert found.alone
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    together = certify(lambda z: (z[:, 0] > z[:, 0].mean()).long(), rows(2), sigma=0.1, draws=50)
    assert not together.alone


@pytest.mark.parametrize("bad", [{"sigma": 0.0}, {"sigma": 0.1, "alpha": 0.5}, {"sigma": 0.1, "draws": 0}])
def test_settings_out_of_range_are_told(bad):
    with pytest.raises(UsageError, match="AK516"):
        certify(decide, rows(1), **bad)


def test_inputs_that_are_no_numbers_are_told():
    with pytest.raises(UsageError, match="AK531"):
        certify(decide, torch.full((1, 4), torch.nan), sigma=0.1)
    assert len(certify(decide, rows(0), sigma=0.1).radii) == 0


def test_clever_is_in_units_holds_frozen_features_and_says_nothing_without_gradients():
    scale = torch.tensor([2.0, 0.0, 1.0, 1.0])
    x = 0.4 + 0.2 * rows(2)

    def logits(z):
        m = (z - 0.5) @ WEIGHT
        return torch.stack([-m, m], dim=1)

    wide = (-float("inf"), float("inf"))
    found = clever_scores(logits, x, radius=5.0, scale=scale, bounds=wide, batch_size=8)
    true = ((x - 0.5) @ WEIGHT).abs() / torch.linalg.vector_norm(WEIGHT * scale)
    np.testing.assert_allclose(found.numpy(), true.numpy(), rtol=0.02)
    deaf = clever_scores(lambda z: logits((z * 4).round() / 4), x, radius=5.0, batch_size=8)
    assert bool(torch.isnan(deaf).all())


def test_certified_accuracy_of_a_table_follows_from_the_distances():
    subject = table_subject()
    outcome = outcome_of(subject, draws=4000, sigma=0.5, radii=[0.25, 0.75], max_rows=60)
    assert outcome.status == "measured", outcome.reason
    x = subject.test.inputs.to_numpy().astype(np.float64)
    gap = np.abs(x @ np.array([1.0, -1.0, 0.5]))
    # In standard deviations of each column, as the population deviation of the test rows.
    true = gap / np.linalg.norm(np.array([1.0, -1.0, 0.5]) * x.std(axis=0))
    for radius in (0.25, 0.75):
        found = overall(outcome, radius)
        upper, lower = float((true >= radius - 0.005).mean()), float((true >= radius + 0.06).mean())
        assert lower <= found.value <= upper
        assert found.interval.method == "clopper-pearson"
        assert found.n == 60
    (plain,) = values(outcome, "unsmoothed_accuracy")
    assert plain.value == 1.0
    assert overall(outcome, 0.0).value + values(outcome, "abstention_rate")[0].value == pytest.approx(1.0)
    assert {m.slice.get("sex") for m in values(outcome, "certified_accuracy")} == {None, "F", "M"}
    assert len(values(outcome, "certified_accuracy.difference")) == 3
    (curve,) = [a for a in outcome.artifacts if a.kind == "curve"]
    assert curve.series[0].y[0] == overall(outcome, 0.0).value
    assert all(a >= b for a, b in zip(curve.series[0].y, curve.series[0].y[1:], strict=False))
    assert curve.series[0].x[-1] == pytest.approx(0.5 * NormalDist().inv_cdf(0.001 ** (1 / 4000)))


def test_a_radius_that_no_draws_could_certify_has_no_value():
    outcome = outcome_of(table_subject(), sigma=0.25, radii=[0.3, 5.0])
    assert overall(outcome, 0.3).value is not None
    beyond = overall(outcome, 5.0)
    assert beyond.value is None
    assert beyond.interval is None
    largest = 0.25 * NormalDist().inv_cdf(0.001 ** (1 / 200))
    assert f"200 draws certify no radius above {largest:.3g}," in beyond.reason
    none = outcome_of(table_subject(), draws=10, alpha=0.0005)
    assert {m.value for m in values(none, "certified_accuracy")} == {None}


class Crowd(torch.nn.Module):
    """Decides a row by where it stands among the rows beside it."""

    def forward(self, x):
        m = x[:, 0] - x[:, 0].mean()
        return torch.stack([-m, m], dim=1)


class Mute(torch.nn.Module):
    """A fine linear model on the clean rows, and NaN wherever noise has moved them off the grid."""

    def forward(self, x):
        m = x @ torch.tensor([1.0, -1.0, 0.5])
        logits = torch.stack([-m, m], dim=1)
        return torch.where((x == x.round()).all(dim=1, keepdim=True), logits, torch.nan)


def test_a_model_whose_rows_do_not_stand_alone_is_unreliable():
    outcome = outcome_of(table_subject(Crowd()))
    found = overall(outcome, 0.0)
    assert found.unreliable
    assert outcome_of(table_subject()).measurements[0].unreliable is None
    assert overall(outcome_of(table_subject()), 0.0).unreliable is None


def test_a_model_that_does_not_answer_under_noise_is_not_certified():
    outcome = outcome_of(table_subject(Mute(), whole=True))
    assert outcome.status == "measured", outcome.reason
    assert overall(outcome, 0.0).value == 0.0
    assert values(outcome, "abstention_rate")[0].value == 1.0
    assert any("no finite answer" in note for note in outcome.notes)


def test_the_decision_that_is_smoothed_is_the_models_own():
    # A threshold of 0.9 on the probability moves the boundary by log 9 on the margin.
    net = module_of(torch.tensor([1.0, -1.0, 0.5]), 0.0)
    plain, strict = outcome_of(table_subject(net)), outcome_of(table_subject(net, threshold=0.9))
    (a,), (b,) = (values(o, "unsmoothed_accuracy") for o in (plain, strict))
    assert a.value == 1.0
    assert b.value < 0.8
    assert overall(strict, 0.0).value < b.value + 0.05
    assert overall(strict, 0.0).unreliable is None


def test_images_of_whole_numbers_are_certified_in_fractions_of_their_range():
    weight = torch.where(torch.arange(16) % 4 >= 2, 1.0, -1.0) / 255.0
    net = module_of(weight, 0.0)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(40, 1, 4, 4)).astype(np.uint8)
    images[0], images[1] = 0, 255
    gap = images.reshape(40, -1).astype(np.float64) @ weight.double().numpy()
    subject = make_subject(TorchModel(net, classes=(0, 1)), images, (gap > 0).astype(np.int64))
    outcome = outcome_of(subject, sigma=0.25, draws=2000, radii=[0.25])
    true = np.abs(gap) / 4.0  # the norm of the weights in units of the range is 4
    found = overall(outcome, 0.25)
    assert float((true >= 0.29).mean()) <= found.value <= float((true >= 0.245).mean())


def test_clever_is_measured_as_an_estimate():
    outcome = outcome_of(table_subject(), clever_rows=3, draws=20, clever_radius=8.0)
    (found,) = values(outcome, "clever_score")
    assert found.n == 3
    assert 0.0 < found.value < 3.0
    assert any("not certificates" in note for note in outcome.notes)
    (capped,) = values(outcome_of(table_subject(), clever_rows=3, draws=20, clever_radius=1e-4), "clever_score")
    assert capped.value is None
    assert "0.0001, the largest looked for" in capped.reason

    class Deaf(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = module_of(torch.tensor([1.0, -1.0, 0.5]), 0.0)

        def forward(self, x):
            return self.net((x * 4).round() / 4)

    (deaf,) = values(outcome_of(table_subject(Deaf()), clever_rows=3, draws=20), "clever_score")
    assert deaf.value is None
    assert "unverified: no gradient on 100%" in deaf.reason


def test_what_cannot_be_certified_does_not_apply():
    mixed = table_subject(prepare=lambda f: np.asarray(f, dtype=np.float32) @ np.ones((3, 3), dtype=np.float32))
    outcome = outcome_of(mixed)
    assert outcome.status == "not_applicable"
    assert "AK599" in outcome.reason
    assert outcome_of(subject_zoo.pipeline_subject()).status == "not_applicable"


def test_the_mean_radius_counts_rows_that_are_not_certified_and_stays_in_its_range():
    # By definition the area under the curve of certified accuracy over all radii.
    radii = np.linspace(0.0, largest_radius(0.25, 200, 0.001), 400)
    told = outcome_of(table_subject(), radii=tuple(radii))
    (mean,) = values(told, "average_certified_radius")
    area = np.trapezoid([overall(told, float(radius)).value for radius in radii], radii)
    assert mean.value == pytest.approx(area, abs=2e-3)
    assert mean.interval.low < mean.value < mean.interval.high <= radii[-1]
    # Turned labels: nothing is certified, which the limits of so many rows bound too.
    weight = torch.tensor([1.0, -1.0, 0.5])
    (none,) = values(outcome_of(table_subject(module_of(-weight, 0.0))), "average_certified_radius")
    assert none.value == 0.0
    assert none.interval.low == 0.0
    assert none.interval.high == pytest.approx((1 - 0.025 ** (1 / 60)) * radii[-1], rel=1e-6)
    # One row of sixty: a symmetric interval would reach below 0.
    (few,) = values(outcome_of(table_subject(module_of(-weight, 0.0), flipped=1)), "average_certified_radius")
    assert 0.0 <= few.interval.low <= few.value <= few.interval.high


def test_draws_that_certify_nothing_give_no_mean_radius():
    (mean,) = values(outcome_of(table_subject(), draws=10, alpha=0.0005), "average_certified_radius")
    assert mean.value is None
    assert "certify no radius" in mean.reason
