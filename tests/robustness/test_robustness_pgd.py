"""Projected gradient descent: closed forms, another library, state left bitwise, and bad input."""

import copy
import random

import numpy as np
import pytest
import torch

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.projected_gradient import pgd
from auditkit.methods.robustness.state import undisturbed

WIDE = (-100.0, 100.0)


def linear(features=6, classes=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    x = torch.randn(200, features, generator=generator, dtype=torch.float64)
    return weight, x, (x @ weight.T).argmax(dim=1)


def signed_margin(weight, x, y):
    return ((x @ (weight[0] - weight[1])) * (1.0 - 2.0 * y)).numpy()


@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_linear_margin_drops_by_eps_times_the_dual_norm(norm, order, loss):
    weight, x, y = linear()
    found = pgd(
        lambda z: z @ weight.T,
        x,
        y,
        eps=0.1,
        norm=norm,
        bounds=WIDE,
        early_stop=False,
        random_start=False,
        loss=loss,
    )
    drop = signed_margin(weight, x, y) - signed_margin(weight, found.adversarial, y)
    dual = np.linalg.norm((weight[0] - weight[1]).numpy(), ord=order)
    np.testing.assert_allclose(drop, 0.1 * dual, rtol=1e-9)
    np.testing.assert_allclose(found.distance.numpy(), 0.1, rtol=1e-9)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.3])
def test_robust_accuracy_of_a_linear_model_is_the_share_of_large_margins(eps):
    weight, x, y = linear()
    found = pgd(lambda z: z @ weight.T, x, y, eps=eps, bounds=WIDE)
    expected = signed_margin(weight, x, y) <= eps * np.abs((weight[0] - weight[1]).numpy()).sum()
    np.testing.assert_array_equal(found.success.numpy(), expected)
    assert 0.0 < expected.mean() < 1.0


def test_scale_and_mask_follow_the_closed_form():
    weight, x, y = linear()
    scale = torch.tensor([1.0, 5.0, 0.1, 2.0, 1.0, 1.0], dtype=torch.float64)
    mask = torch.tensor([True, True, True, False, True, False])
    found = pgd(lambda z: z @ weight.T, x, y, eps=0.05, bounds=WIDE, scale=scale, mask=mask, early_stop=False)
    drop = signed_margin(weight, x, y) - signed_margin(weight, found.adversarial, y)
    reach = (np.abs((weight[0] - weight[1]).numpy()) * scale.numpy() * mask.numpy()).sum()
    np.testing.assert_allclose(drop, 0.05 * reach, rtol=1e-9)
    assert torch.equal(found.adversarial[:, ~mask], x[:, ~mask])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_points_stay_inside_eps_and_bounds(norm):
    weight, x, y = linear(classes=4)
    x = torch.sigmoid(x)
    y = (x @ weight.T).argmax(dim=1)
    found = pgd(lambda z: z @ weight.T, x, y, eps=0.2, norm=norm, early_stop=False)
    moved = found.adversarial - x
    size = moved.abs().amax(dim=1) if norm == "linf" else moved.norm(dim=1)
    assert float(size.max()) <= 0.2 + 1e-12
    assert float(found.adversarial.min()) >= 0.0
    assert float(found.adversarial.max()) <= 1.0


def small_net(seed=0, batch_norm=False):
    torch.manual_seed(seed)
    middle = [torch.nn.BatchNorm1d(32)] if batch_norm else []
    return torch.nn.Sequential(torch.nn.Linear(10, 32), *middle, torch.nn.ReLU(), torch.nn.Linear(32, 3))


def fitted_net(seed=0):
    rng = np.random.default_rng(seed)
    centers = rng.uniform(0.2, 0.8, size=(3, 10))
    y = rng.integers(3, size=600)
    x = np.clip(centers[y] + 0.18 * rng.standard_normal((600, 10)), 0, 1).astype(np.float32)
    xt, yt = torch.from_numpy(x), torch.from_numpy(y)
    net = small_net(seed)
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(120):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(xt[:400]), yt[:400]).backward()
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return net.eval(), xt[400:], yt[400:]


@pytest.mark.parametrize("eps", [0.03, 0.06, 0.1])
def test_at_least_as_strong_as_the_toolbox(eps):
    from auditkit.methods.robustness.art_engine import load

    net, x, y = fitted_net()
    found = pgd(net, x, y, eps=eps, steps=40)
    estimators = load("art.estimators.classification")
    evasion = load("art.attacks.evasion")
    theirs = estimators.PyTorchClassifier(
        copy.deepcopy(net), torch.nn.CrossEntropyLoss(), input_shape=(10,), nb_classes=3, clip_values=(0.0, 1.0)
    )
    attack = evasion.ProjectedGradientDescent(
        theirs, eps=eps, eps_step=eps / 8, max_iter=40, batch_size=256, verbose=False
    )
    points = torch.from_numpy(attack.generate(x.numpy(), y=y.numpy()))
    with torch.no_grad():
        theirs_standing = int((net(points).argmax(1) == y).sum())
        clean_standing = int((net(x).argmax(1) == y).sum())
    assert int((~found.success).sum()) <= theirs_standing
    assert theirs_standing < clean_standing


def test_rows_already_fooled_cost_one_look_and_stay():
    weight, x, y = linear()
    found = pgd(lambda z: z @ weight.T, x, 1 - y, eps=0.5, bounds=WIDE)
    assert found.success.all()
    assert torch.equal(found.adversarial, x)
    assert found.n_evaluations == 2 * len(x)
    assert found.zero_gradient_share is None


def test_answers_do_not_depend_on_the_batch_size():
    net, x, y = fitted_net()
    one, many = (pgd(net, x, y, eps=0.05, batch_size=size, restarts=2) for size in (7, 512))
    assert torch.equal(one.success, many.success)
    torch.testing.assert_close(one.adversarial, many.adversarial)


def test_restarts_never_fool_fewer():
    net, x, y = fitted_net()
    once, thrice = (pgd(net, x, y, eps=0.05, steps=5, restarts=r) for r in (1, 3))
    assert bool((thrice.success | ~once.success).all())


def test_everything_is_left_bitwise_as_it_was():
    net = small_net(batch_norm=True).train()
    net[0].weight.requires_grad_(False)
    net(torch.rand(8, 10)).sum().backward()
    state = copy.deepcopy(net.state_dict())
    grads = [(p, None if p.grad is None else (p.grad, p.grad.clone())) for p in net.parameters()]
    x = torch.rand(20, 10)
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    pgd(net, x, torch.zeros(20, dtype=torch.int64), eps=0.1, steps=3)
    assert all(part.training for part in net.modules())
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name
    for parameter, before in grads:
        if before is None:
            assert parameter.grad is None
        else:
            assert parameter.grad is before[0]
            assert torch.equal(parameter.grad, before[1])
    assert not net[0].weight.requires_grad
    assert net[3].weight.requires_grad
    assert torch.equal(torch.get_rng_state(), generators[0])
    np.testing.assert_array_equal(np.random.get_state()[1], generators[1])  # noqa: NPY002
    assert random.getstate() == generators[2]


def test_a_module_that_changes_itself_and_draws_is_given_back():
    class Restless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))
            self.layer = torch.nn.Linear(4, 2)

        def forward(self, x):
            self.calls += 1
            return self.layer(x) + 0.01 * torch.randn(len(x), 2)

    net = Restless()
    before = torch.get_rng_state()
    with undisturbed(net):
        net(torch.rand(3, 4))
    assert float(net.calls) == 0.0
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_norm_in_train_mode_is_attacked_in_eval_mode():
    net = small_net(batch_norm=True)
    x, y = torch.rand(50, 10), torch.randint(3, (50,))
    train = pgd(net.train(), x, y, eps=0.05, steps=5)
    evaluated = pgd(net.eval(), x, y, eps=0.05, steps=5)
    assert torch.equal(train.adversarial, evaluated.adversarial)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_models_of_every_precision(dtype):
    net, x, y = fitted_net()
    net = net.to(dtype)
    found = pgd(net, x.to(dtype), y, eps=0.1)
    assert found.adversarial.dtype == dtype
    slack = 4 * torch.finfo(dtype).eps
    assert float(found.distance.max()) <= 0.1 + slack
    assert 0.3 < float(found.success.float().mean()) <= 1.0
    with torch.no_grad():
        assert torch.equal(net(found.adversarial).argmax(1) != y, found.success)


def test_single_inputs_for_a_half_model_are_cast_for_it():
    net, x, y = fitted_net()
    found = pgd(net.half(), x, y, eps=0.1, steps=5)
    assert found.adversarial.dtype == torch.float32
    assert float(found.distance.max()) <= 0.1 + 1e-6


def test_eps_zero_is_clean_accuracy():
    net, x, y = fitted_net()
    found = pgd(net, x, y, eps=0.0)
    assert torch.equal(found.adversarial, x)
    with torch.no_grad():
        assert torch.equal(found.success, net(x).argmax(1) != y)


def test_eps_beyond_the_range_stays_inside_it():
    net, x, y = fitted_net()
    found = pgd(net, x, y, eps=50.0, steps=10)
    assert found.success.all()
    assert float(found.adversarial.min()) >= 0.0
    assert float(found.adversarial.max()) <= 1.0


def test_empty_batch_asks_the_model_nothing():
    found = pgd(lambda z: pytest.fail("asked"), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), eps=0.1)
    assert found.adversarial.shape == (0, 4)
    assert found.n_evaluations == 0


def test_success_is_scored_on_a_fresh_pass_not_remembered():
    calls = {"n": 0}

    def once_wrong(z):
        calls["n"] += 1
        first_attack_pass = calls["n"] == 2
        return torch.stack([z[:, 0] * 0, z[:, 0] * 0 + (1.0 if first_attack_pass else -1.0)], dim=1)

    found = pgd(once_wrong, torch.rand(5, 2), torch.zeros(5, dtype=torch.int64), eps=0.1)
    assert not found.success.any()


def test_a_decision_from_nan_under_attack_counts_as_fooled():
    def fragile(z):
        score = torch.where(z[:, 0] > 0.55, float("nan"), z[:, 0] - 1.0)
        return torch.stack([-score, score], dim=1)

    found = pgd(fragile, torch.full((4, 2), 0.5), torch.zeros(4, dtype=torch.int64), eps=0.1)
    assert found.success.all()


def test_cut_graphs_and_saturated_logits_are_counted():
    net, x, y = fitted_net()
    with torch.no_grad():
        y = net(x).argmax(1)
    detached = pgd(lambda z: net(z.detach()), x, y, eps=0.02)
    assert detached.zero_gradient_share == 1.0
    honest = pgd(net, x, y, eps=0.02)
    assert honest.zero_gradient_share == 0.0


X = torch.rand(4, 3)
Y = torch.zeros(4, dtype=torch.int64)
TWO = torch.nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pgd(TWO, X, Y, eps=-0.1), r"AK530 eps must be finite and 0 or more, got -0\.1"),
        (lambda: pgd(TWO, X, Y, eps=float("nan")), "AK530 eps must be finite"),
        (lambda: pgd(TWO, X, Y, eps=0.1, norm="l7"), "AK530 norm must be 'linf', 'l2' or 'l1', got 'l7'"),
        (lambda: pgd(TWO, X, Y, eps=0.1, restarts=0), "AK530 steps must be 0 or more"),
        (lambda: pgd(TWO, X, Y, eps=0.1, step_size=0.0), "AK530 step_size must be above 0"),
        (lambda: pgd(TWO, X, Y, eps=0.1, scale=-1.0), "AK530 scale must be finite"),
        (lambda: pgd(TWO, X + 1, Y, eps=0.1), "AK531 4 of 4 rows lie outside the bounds"),
        (lambda: pgd(TWO, X * float("nan"), Y, eps=0.1), "AK531 inputs hold NaN"),
        (lambda: pgd(TWO, X.long(), Y, eps=0.1), "AK531 inputs must be floating point"),
        (lambda: pgd(TWO, X, Y[:2], eps=0.1), r"AK532 labels must be \(4,\) int64"),
        (lambda: pgd(TWO, X, Y.float(), eps=0.1), r"AK532 labels must be \(4,\) int64, got \(4,\) torch.float32"),
        (lambda: pgd(lambda z: z[:, :2] / 0.0, X, Y, eps=0.1), "AK533 the model gives logits that are not finite"),
        (lambda: pgd(lambda z: z[:, :2].argmax(1), X, Y, eps=0.1), r"AK534 the model gave \(4,\) for 4 rows"),
        (lambda: pgd(lambda z: z[:, :1], X, Y, eps=0.1), r"AK534 the model gave \(4, 1\) for 4 rows"),
        (lambda: pgd(lambda z: [1], X, Y, eps=0.1), "AK534 the model gave list for 4 rows"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.4), ("l1", 1.0)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_to_half_precision_leaves_no_point_outside_the_ball(dtype, norm, eps):
    generator = torch.Generator().manual_seed(0)
    net = torch.nn.Linear(50, 3).to(dtype)
    with torch.no_grad():
        net.weight.copy_(torch.randn(3, 50, generator=generator))
    x = torch.rand(60, 50, generator=generator).to(dtype)
    y = net(x).argmax(dim=1)
    found = pgd(net, x, y, eps=eps, norm=norm)
    order = {"linf": float("inf"), "l2": 2, "l1": 1}[norm]
    moved = torch.linalg.vector_norm(found.adversarial.double() - x.double(), ord=order, dim=1)
    assert float(moved.max()) <= eps * (1.0 + 1e-6)
    assert float(moved.max()) > 0.9 * eps
    assert float(found.success.double().mean()) > 0.5
