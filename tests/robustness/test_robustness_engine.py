"""Auto-PGD, FAB, Square and AutoAttack: closed forms, brute force, projections by another solver, state, bad input."""

import copy
import functools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize
from test_robustness_pgd import WIDE, linear, signed_margin, small_net
from test_robustness_pgd import fitted_net as whole_fitted_net

from auditkit.core.errors import UsageError
from auditkit.methods.robustness import apgd, autoattack, fab, pgd, square, window_search
from auditkit.methods.robustness.auto_pgd import checkpoints
from auditkit.methods.robustness.boundary_walk import to_boundary
from auditkit.methods.robustness.oracle import dlr, targeted_dlr
from auditkit.methods.robustness.threat import make_threat, project_l1
from auditkit.methods.robustness.window_search import bump, share_at, two_bumps


@functools.cache
def fitted_net(rows=16):
    net, x, y = whole_fitted_net()
    return net, x[:rows], y[:rows]


SET = {
    "apgd-ce": lambda *a, **k: apgd(*a, **k),
    "apgd-dlr": lambda *a, **k: apgd(*a, loss="dlr", **k),
    "apgd-t": lambda *a, **k: apgd(*a, loss="targeted_dlr", **k),
    "fab": fab,
    "square": lambda *a, **k: square(*a, queries=200, **k),
    "fast": lambda *a, **k: autoattack(*a, version="fast", **k),
}
SLOW = pytest.mark.slow


def some(*fast):
    """The attacks named, and the rest of the set marked slow."""
    return [pytest.param(name, marks=() if name in fast else SLOW) for name in SET]


WHITE = ["apgd-ce", "apgd-dlr", "apgd-t", "fab"]


@pytest.mark.parametrize(("norm", "order"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("name", [n for n in some("fab") if n.values[0] != "square"])
def test_a_linear_model_falls_exactly_where_its_margin_is_within_eps_times_the_dual_norm(name, norm, order):
    weight, x, y = linear()
    dual = np.linalg.norm((weight[0] - weight[1]).numpy(), ord=order)
    expected = signed_margin(weight, x, y) < 0.1 * dual
    found = SET[name](lambda z: z @ weight.T, x, y, eps=0.1, norm=norm, bounds=WIDE)
    np.testing.assert_array_equal(found.success.numpy(), expected)
    assert 0.0 < expected.mean() < 1.0
    assert float(found.distance.max()) <= 0.1 + 1e-12


def test_square_finds_what_a_linear_model_hides_and_nothing_else():
    weight, x, y = linear()
    margin, reach = signed_margin(weight, x, y), 0.1 * np.abs((weight[0] - weight[1]).numpy()).sum()
    found = square(lambda z: z @ weight.T, x, y, eps=0.1, bounds=WIDE, queries=500).success.numpy()
    assert not found[margin > reach].any()
    assert found[margin < 0.95 * reach].all()


@pytest.mark.slow
def test_minimum_distance_of_fab_is_the_distance_to_the_hyperplane():
    weight, x, y = linear()
    gap = weight[0] - weight[1]
    exact = signed_margin(weight, x, y) / float(gap.abs().sum())
    found = fab(lambda z: z @ weight.T, x, y, eps=10.0, bounds=WIDE)
    assert found.success.all()
    np.testing.assert_allclose(found.distance.numpy(), exact, rtol=0.051)
    assert (found.distance.numpy() >= exact - 1e-12).all()


@pytest.mark.parametrize("norm", [pytest.param("linf", marks=SLOW), "l2"])
@pytest.mark.parametrize("name", some("apgd-t", "square"))
def test_points_stay_inside_eps_and_bounds_and_fool_on_a_fresh_pass(name, norm):
    net, x, y = fitted_net()
    eps = 0.08 if norm == "linf" else 0.2
    found = SET[name](net, x, y, eps=eps, norm=norm)
    moved = (found.adversarial - x).double()
    size = moved.abs().amax(dim=1) if norm == "linf" else moved.norm(dim=1)
    assert float(size.max()) <= eps + 1e-6
    torch.testing.assert_close(size, found.distance)
    assert float(found.adversarial.min()) >= 0.0
    assert float(found.adversarial.max()) <= 1.0
    with torch.no_grad():
        assert torch.equal(net(found.adversarial).argmax(1) != y, found.success)
        clean = net(x).argmax(1) == y
    assert int(found.success.sum()) > int((~clean).sum())


@pytest.mark.slow
def test_no_attack_finds_more_than_a_fine_grid_and_the_set_finds_all_of_it():
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(2, 24), torch.nn.Tanh(), torch.nn.Linear(24, 4))
    with torch.no_grad():
        net[0].weight *= 15.0
    x = torch.rand(40, 2) * 0.8 + 0.1
    with torch.no_grad():
        y = net(x).argmax(1)
        steps = torch.linspace(-0.06, 0.06, 121)
        offsets = torch.cartesian_prod(steps, steps)
        grid = np.array(
            [bool((net((p + offsets).clamp(0, 1)).argmax(1) != label).any()) for p, label in zip(x, y, strict=True)]
        )
    assert 0.1 < grid.mean() < 0.9
    whole = autoattack(net, x, y, eps=0.06).success.numpy()
    assert (whole >= grid).all()
    # A grid may miss a sliver next to a corner, but hardly ever.
    assert (whole & ~grid).sum() <= 2
    for name, attack in SET.items():
        if name != "fast":
            assert not (attack(net, x, y, eps=0.06).success.numpy() & ~whole).any(), name


def test_the_set_is_the_published_one_and_each_attack_sees_the_rows_that_still_stand():
    net, x, y = fitted_net()
    found = autoattack(net, x, y, eps=0.06)
    assert [part.name for part in found.parts] == ["apgd-ce", "apgd-t", "fab-t", "square"]
    standing = int((net(x).argmax(1) == y).sum())
    for part in found.parts:
        assert part.attacked == standing
        standing -= part.fooled
    assert int((~found.success).sum()) == standing
    assert found.n_evaluations == sum(part.n_evaluations for part in found.parts) + 2 * len(x)
    fast = autoattack(net, x, y, eps=0.06, version="fast")
    assert [part.name for part in fast.parts] == ["apgd-ce", "apgd-t", "square"]
    assert fast.n_evaluations < found.n_evaluations
    assert not (fast.success & ~found.success).any()


def test_survivors_get_the_whole_published_budget():
    calls = {"n": 0}
    generator = torch.Generator().manual_seed(0)
    tilt = torch.randn(5, 12, generator=generator) * 0.01

    def stubborn(z):
        calls["n"] += len(z)
        flat = z.flatten(1)
        return torch.nn.functional.pad(torch.ones(len(z), 1) * 9.0, (0, 4)) + torch.sin(40.0 * flat @ tilt.T)

    x, y = torch.rand(3, 1, 3, 4, generator=generator), torch.zeros(3, dtype=torch.int64)
    found = autoattack(stubborn, x, y, eps=0.3)
    assert not found.success.any()
    assert calls["n"] == found.n_evaluations
    spent = {part.name: part.n_evaluations / 3 for part in found.parts}
    assert spent["apgd-ce"] <= 101
    assert spent["apgd-t"] <= 4 * 101
    assert spent["fab-t"] <= 4 * 201
    assert spent["square"] <= 5001
    assert spent["apgd-ce"] > 20


def test_known_refusals_change_nothing_but_the_count():
    net, x, y = fitted_net()

    class Forgetful(dict):
        def get(self, key, default=None):
            return default

    lazy = square(net, x, y, eps=0.05, queries=400)
    original = window_search.search
    source = "refused_at: dict[tuple[object, ...], int] = {}"
    import inspect

    text = inspect.getsource(original)
    assert source in text
    space = dict(vars(window_search), Forgetful=Forgetful)
    exec(compile(text.replace(source, "refused_at = Forgetful()"), "forgetful", "exec"), space)
    window_search.search = space["search"]
    try:
        asking = square(net, x, y, eps=0.05, queries=400)
    finally:
        window_search.search = original
    assert torch.equal(lazy.adversarial, asking.adversarial)
    assert torch.equal(lazy.success, asking.success)
    assert lazy.n_evaluations < asking.n_evaluations


@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 4, 4), (7,)])
def test_square_goes_where_a_search_goes_that_builds_every_point_anew(shape):
    """Windows are written into points that are kept; the reference projects whole rows and asks about all of them."""
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(shape), 3))
    x = torch.rand(40, *shape)
    y = net(x).argmax(1)
    eps, queries, seed = 0.08, 200, 4
    settings = {"scale": torch.rand(shape), "mask": torch.rand(shape) > 0.2, "seed": seed, "queries": queries}
    found = square(net, x, y, eps=eps, **settings)

    scale = settings["scale"] * settings["mask"]
    clean = make_threat(x, eps, "linf", (0.0, 1.0), scale).batch(x, y, torch.arange(len(x)))
    plane, draws = (
        window_search._plane(x.shape[1:]),
        window_search._Draws((seed, 0), shape[0] if len(shape) == 3 else 1),
    )
    unit = window_search._stripes(clean, plane, (seed, 0))

    def asked(unit):
        logits = net(torch.where(unit == 0, x, (x + scale * unit).clamp(0.0, 1.0))).detach()
        others = logits.scatter(1, y[:, None], -math.inf).amax(1)
        return (others - logits.gather(1, y[:, None])[:, 0]).double(), logits.argmax(1) != y

    margin, fooled = asked(unit)
    for query in range(queries):
        tall, wide = plane.window(share_at(query))
        top, left = draws.below(plane.height - tall + 1), draws.below(plane.width - wide + 1)
        new = plane.view(unit).clone()
        new[:, :, top : top + tall, left : left + wide] = eps * torch.tensor(draws.signs()).reshape(-1, 1, 1)
        new = clean.project(new.reshape(unit.shape))
        gap, hit = asked(new)
        better = ~fooled & ((gap > margin) | hit)
        unit[better], margin[better], fooled[better] = new[better], gap[better], hit[better]
    assert 0 < int(fooled.sum()) < len(x)
    assert torch.equal(found.success, fooled)
    end = torch.where(unit == 0, x, (x + scale * unit).clamp(0.0, 1.0))
    clean_margin = asked(torch.zeros_like(unit))[0]
    kept = fooled | (margin > clean_margin)
    assert torch.equal(found.adversarial[kept], end[kept])


@pytest.mark.parametrize("name", some("fab", "fast"))
def test_eps_zero_is_clean_accuracy_and_an_empty_batch_asks_nothing(name):
    net, x, y = fitted_net()
    found = SET[name](net, x, y, eps=0.0)
    assert torch.equal(found.adversarial, x)
    with torch.no_grad():
        assert torch.equal(found.success, net(x).argmax(1) != y)
    nothing = SET[name](lambda z: pytest.fail("asked"), x[:0], y[:0], eps=0.1)
    assert nothing.adversarial.shape == (0, 10)
    assert nothing.n_evaluations == 0


@pytest.mark.parametrize("name", some("apgd-ce", "square"))
def test_a_huge_eps_fools_every_row_of_an_honest_model(name):
    net, x, y = fitted_net()
    found = SET[name](net, x, y, eps=50.0, norm="linf")
    assert found.success.all()
    assert float(found.adversarial.min()) >= 0.0


@pytest.mark.parametrize("name", [n for n in some("apgd-t") if n.values[0] != "fast"])
def test_answers_do_not_depend_on_the_batch_size_or_the_order(name):
    net, x, y = fitted_net()
    one, many = (SET[name](net, x, y, eps=0.06, batch_size=size) for size in (17, 512))
    assert int((one.success != many.success).sum()) <= 1
    again = SET[name](net, x, y, eps=0.06)
    assert torch.equal(again.adversarial, many.adversarial)


@pytest.mark.parametrize("name", some("fast"))
def test_the_model_and_the_generators_are_left_bitwise_as_they_were(name):
    net = small_net(batch_norm=True).train()
    net[0].weight.requires_grad_(False)
    net(torch.rand(8, 10)).sum().backward()
    state = copy.deepcopy(net.state_dict())
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    SET[name](net, torch.rand(12, 10), torch.zeros(12, dtype=torch.int64), eps=0.02)
    after = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    # The inputs above were drawn from the generator; only what came after counts.
    torch.set_rng_state(before[0])
    torch.rand(12, 10)
    assert torch.equal(torch.get_rng_state(), after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert all(part.training for part in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    for parameter, grad in zip(net.parameters(), grads, strict=True):
        assert (parameter.grad is None) if grad is None else torch.equal(parameter.grad, grad)
    assert not net[0].weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
@pytest.mark.parametrize("name", some("apgd-dlr"))
def test_double_and_half_models(name, dtype):
    net, x, y = fitted_net()
    net = copy.deepcopy(net).to(dtype)
    x = x.to(dtype)
    found = SET[name](net, x, y, eps=0.12)
    assert found.adversarial.dtype == dtype
    assert float(found.distance.max()) <= 0.12 + 4 * torch.finfo(dtype).eps
    with torch.no_grad():
        clean = int((net(x).argmax(1) != y).sum())
        assert torch.equal(net(found.adversarial).argmax(1) != y, found.success)
    assert int(found.success.sum()) > clean


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_use_the_margin_where_the_ratio_is_not_defined(classes):
    weight, x, y = linear(classes=classes)
    found = autoattack(lambda z: z @ weight.T, x, y, eps=0.05, bounds=WIDE, version="fast")
    reach = [0.05 * (weight - weight[c]).abs().sum(dim=1) for c in range(classes)]
    logits = x @ weight.T
    lead = torch.stack([logits[i, y[i]] - logits[i] - reach[int(y[i])] for i in range(len(x))])
    lead[torch.arange(len(x)), y] = 1.0
    np.testing.assert_array_equal(found.success.numpy(), (lead < 0).any(dim=1).numpy())


@pytest.mark.slow
def test_masked_and_scaled_features():
    weight, x, y = linear()
    mask = torch.tensor([True, True, True, False, True, False])
    scale = torch.tensor([1.0, 5.0, 0.1, 2.0, 1.0, 1.0], dtype=torch.float64)
    reach = (np.abs((weight[0] - weight[1]).numpy()) * scale.numpy() * mask.numpy()).sum()
    expected = signed_margin(weight, x, y) < 0.05 * reach
    for name in WHITE:
        found = SET[name](lambda z: z @ weight.T, x, y, eps=0.05, bounds=WIDE, scale=scale, mask=mask)
        np.testing.assert_array_equal(found.success.numpy(), expected, err_msg=name)
        assert torch.equal(found.adversarial[:, ~mask], x[:, ~mask])


def test_ratio_losses_match_their_formulas_and_do_not_see_scale_or_shift():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    y, t = torch.randint(6, (20,), generator=generator), torch.randint(6, (20,), generator=generator)
    for i in range(20):
        z = sorted(logits[i].tolist(), reverse=True)
        own = float(logits[i, y[i]])
        rival = max(v for j, v in enumerate(logits[i].tolist()) if j != int(y[i]))
        assert float(dlr(logits, y, t)[i]) == pytest.approx(-(own - rival) / (z[0] - z[2]))
        expected = -(own - float(logits[i, t[i]])) / (z[0] - (z[2] + z[3]) / 2)
        assert float(targeted_dlr(logits, y, t)[i]) == pytest.approx(expected)
    for loss in (dlr, targeted_dlr):
        torch.testing.assert_close(loss(logits, y, t), loss(logits * 500 + 3, y, t))


def test_checkpoints_are_the_published_ones():
    # Croce and Hein (2020), section 3: w_0 = 0, w_1 = 0.22, and w_(j+1) = w_j + max(w_j - w_(j-1) - 0.03, 0.06).
    shares = [0.0, 0.22]
    while shares[-1] < 1.0:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    assert checkpoints(100) == [round(100 * share) for share in shares[1:] if share <= 1.0 + 1e-9]


def test_window_shares_follow_the_published_schedule():
    # Andriushchenko et al. (2020), section 4: p is halved at these iterations of 10,000.
    expected = [(0, 0.8), (10, 0.8), (11, 0.4), (51, 0.2), (201, 0.1), (501, 0.05), (1001, 0.025), (4999, 0.00625)]
    assert [(query, share_at(query)) for query, _ in expected] == [pytest.approx(pair) for pair in expected]


def test_bumps_are_piles_of_squares_of_norm_one():
    pile = np.zeros((5, 5))
    for half in range(3):
        pile[2 - half : 3 + half, 2 - half : 3 + half] += 1.0 / (half + 1) ** 2
    np.testing.assert_allclose(bump(5, 5).numpy(), pile / np.linalg.norm(pile))
    for upright in (True, False):
        both = two_bumps(7, 7, upright=upright)
        assert float(torch.linalg.vector_norm(both)) == pytest.approx(1.0)
        first = both[:3] if upright else both[:, :3]
        assert (first > 0).all()
        assert (both[3:] < 0).all() if upright else (both[:, 3:] < 0).all()


def by_solver(objective, constraint, box, start):
    found = minimize(
        objective,
        start,
        bounds=box,
        constraints=[constraint],
        method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-12},
    )
    # Status 8 is a line search that finds nothing lower at the precision asked for: what it holds is as good.
    assert found.success or found.status == 8, found.message
    return found.x


def test_l1_projection_matches_a_solver():
    rng = np.random.default_rng(0)
    for _ in range(20):
        unit = rng.normal(size=5)
        lower, upper = -rng.uniform(0, 0.8, 5), rng.uniform(0, 0.8, 5)
        mine = project_l1(*(torch.tensor(v)[None] if i != 1 else v for i, v in enumerate((unit, 0.7, lower, upper))))
        # v = p - q with p, q >= 0 makes the norm linear.
        split = by_solver(
            lambda v, unit=unit: ((v[:5] - v[5:] - unit) ** 2).sum(),
            {"type": "ineq", "fun": lambda v: 0.7 - v.sum()},
            [(0, high) for high in upper] + [(0, -low) for low in lower],
            np.concatenate([upper, -lower]) * 0.05,
        )
        np.testing.assert_allclose(mine[0].numpy(), split[:5] - split[5:], atol=2e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_steps_to_a_hyperplane_inside_a_box_match_a_solver(norm):
    rng = np.random.default_rng(1)
    checked = 0
    for _ in range(30):
        x, unit, slope = rng.uniform(size=5), rng.uniform(-0.3, 0.3, 5), rng.normal(size=5)
        threat = make_threat(torch.tensor(x)[None], 0.5, norm, (0.0, 1.0))
        batch = threat.batch(torch.tensor(x)[None], torch.zeros(1, dtype=torch.int64), torch.arange(1))
        unit = np.clip(x + unit, 0, 1) - x
        rise = rng.normal() * 0.7
        step = to_boundary(
            batch, *(torch.tensor(v)[None] for v in (unit, slope)), torch.tensor([rise], dtype=torch.float64)
        )[0].numpy()
        room = [(-(x + unit)[i], 1 - (x + unit)[i]) for i in range(5)]
        most = sum(max(slope[i] * np.sign(rise) * side for side in room[i]) for i in range(5))
        if most < abs(rise):
            assert slope @ step == pytest.approx(np.sign(rise) * most)
            continue
        checked += 1

        def exact(v, slope=slope, rise=rise):
            return slope @ v - rise

        assert slope @ step == pytest.approx(rise, abs=1e-12)
        assert all(low - 1e-9 <= s <= high + 1e-9 for s, (low, high) in zip(step, room, strict=True))
        if norm == "l2":
            best = by_solver(lambda v: (v**2).sum(), {"type": "eq", "fun": exact}, room, np.zeros(5))
            assert (step**2).sum() <= (best**2).sum() + 1e-7
        else:
            ones, wide = np.ones((5, 1)), np.eye(5)
            best = linprog(
                [0, 0, 0, 0, 0, 1],
                A_ub=np.block([[wide, -ones], [-wide, -ones]]),
                b_ub=np.zeros(10),
                A_eq=[[*slope, 0]],
                b_eq=[rise],
                bounds=[*room, (0, None)],
            )
            assert np.abs(step).max() == pytest.approx(best.x[5], abs=1e-7)
    assert checked > 10


def test_l1_descent_drops_a_linear_margin_by_eps_times_the_largest_weight():
    weight, x, y = linear()
    found = pgd(lambda z: z @ weight.T, x, y, eps=0.1, norm="l1", bounds=WIDE, early_stop=False, random_start=False)
    drop = signed_margin(weight, x, y) - signed_margin(weight, found.adversarial, y)
    np.testing.assert_allclose(drop, 0.1 * float((weight[0] - weight[1]).abs().max()), rtol=1e-9)
    np.testing.assert_allclose(found.distance.numpy(), 0.1, rtol=1e-9)


def test_l1_descent_stays_inside_eps_and_bounds():
    net, x, y = fitted_net()
    found = pgd(net, x, y, eps=0.5, norm="l1", early_stop=False, restarts=2)
    assert float((found.adversarial - x).abs().sum(dim=1).max()) <= 0.5 + 1e-6
    assert float(found.adversarial.min()) >= 0.0
    assert int(found.success.sum()) > int((net(x).argmax(1) != y).sum())


X = torch.rand(4, 3)
Y = torch.zeros(4, dtype=torch.int64)
TWO = torch.nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: autoattack(TWO, X, Y, eps=0.1, norm="l1"), "AK513 this attack knows the norms linf and l2, got 'l1'"),
        (lambda: autoattack(TWO, X, Y, eps=0.1, version="plus"), "AK513 version must be 'standard' or 'fast'"),
        (lambda: apgd(TWO, X, Y, eps=0.1, steps=0), "AK513 steps must be 1 or more, got 0"),
        (lambda: fab(TWO, X, Y, eps=0.1, n_targets=0), "AK513 n_targets must be 1 or more"),
        (lambda: square(TWO, X, Y, eps=0.1, queries=-1), "AK513 queries must be 1 or more"),
        (lambda: square(TWO, X, Y + 2, eps=0.1), "AK514 labels run from 2 to 2, and the model gives 2 logits"),
        (lambda: pgd(TWO, X, Y - 1, eps=0.1), "AK514 labels run from -1 to -1"),
        (lambda: apgd(TWO, X + 1, Y, eps=0.1), "AK531 4 of 4 rows lie outside the bounds"),
        (lambda: fab(TWO, X, Y, eps=-1.0), "AK530 eps must be finite"),
        (lambda: autoattack(lambda z: z[:, :2] / 0.0, X, Y, eps=0.1), "AK533 the model gives logits that are not fin"),
        (lambda: autoattack(lambda z: z.argmax(1), X, Y, eps=0.1), r"AK534 the model gave \(4,\) for 4 rows"),
    ],
)
def test_bad_input_is_told(call, message):
    with pytest.raises(UsageError, match=message):
        call()
