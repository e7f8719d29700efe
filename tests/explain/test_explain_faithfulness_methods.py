"""Faithfulness, infidelity, sensitivity: against loops, captum, closed forms; random explanations gain nothing."""

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max

from auditkit.core.errors import UsageError
from auditkit.methods.explain.faithfulness import area, gains, infidelity, max_sensitivity, remove_in_order
from auditkit.stats.intervals import mean_interval

P = 7
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=P)


def interacting(x):
    """A model with an interaction and a bend."""
    return x @ WEIGHTS + 2.0 * x[:, 0] * x[:, 1] + np.maximum(x[:, 2], 0.0)


def asker(x, model=interacting, baseline=0.0):
    def ask(rows, removed):
        return model(np.where(removed, baseline, x[rows]))

    return ask


def by_loop(x, amounts, model=interacting):
    """Deletion and insertion areas of one row, one part at a time."""
    order = sorted(range(P), key=lambda j: -amounts[j])
    whole, nothing = x.copy(), np.zeros(P)
    fall, rise = [model(whole[None])[0]], [model(nothing[None])[0]]
    for j in order:
        whole[j], nothing[j] = 0.0, x[j]
        fall.append(model(whole[None])[0])
        rise.append(model(nothing[None])[0])
    return np.trapezoid(fall, dx=1 / P), np.trapezoid(rise, dx=1 / P)


def test_curves_equal_a_loop_over_parts():
    x = RNG.normal(size=(6, P))
    amounts = RNG.normal(size=(6, P))
    found = remove_in_order(asker(x), {"one": amounts, "two": -amounts}, RNG, steps=50)
    assert len(found.shares) == P + 1
    for name, values in (("one", amounts), ("two", -amounts)):
        ours = area(found.deletion[name], found.shares), area(found.insertion[name], found.shares)
        theirs = np.array([by_loop(row, value) for row, value in zip(x, values, strict=True)]).T
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_random_sets_are_what_the_model_was_asked_about():
    x = RNG.normal(size=(5, P))
    found = remove_in_order(asker(x), {"one": x}, np.random.default_rng(1), steps=4, random_orders=3)
    assert found.removed.shape == (5, 2 * 3 * 3, P)
    for row in range(5):
        for mask, drop in zip(found.removed[row], found.drops[row], strict=True):
            altered = np.where(mask, 0.0, x[row])
            assert drop == pytest.approx(interacting(x[row][None])[0] - interacting(altered[None])[0], abs=1e-12)
            assert 0 < mask.sum() < P


def test_parts_that_a_row_lacks_are_never_removed():
    x = RNG.normal(size=(4, P))
    present = np.ones((4, P), dtype=bool)
    present[1, 3:] = False
    present[2, 0] = False
    asked = []

    def ask(rows, removed):
        asked.append((rows, removed))
        return asker(x)(rows, removed)

    found = remove_in_order(ask, {"one": np.abs(x)}, RNG, present=present)
    for rows, removed in asked:
        assert not (removed & ~present[rows]).any()
    lacking = np.where(present[1], 0.0, x[1])
    assert found.deletion["one"][1, -1] == pytest.approx(interacting(lacking[None])[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_random_explanation_gains_nothing_and_the_true_one_gains(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(150, P))
    own, noise = x * WEIGHTS, rng.normal(size=(150, P))
    model = lambda z: z @ WEIGHTS  # noqa: E731
    found = remove_in_order(asker(x, model), {"own": own, "noise": noise}, rng, steps=P)
    for side in (0, 1):
        _, good = mean_interval(gains(found, "own")[side])
        _, bad = mean_interval(gains(found, "noise")[side])
        assert good.low > 0.1
        assert bad.low <= 0.0 <= bad.high
    right = infidelity(own, found.removed, found.drops)
    np.testing.assert_allclose(right.raw, 0.0, atol=1e-20)
    wrong = infidelity(noise, found.removed, found.drops)
    assert (wrong.scaled.mean() / wrong.null.mean()) > 0.6
    assert wrong.raw.mean() > wrong.null.mean()


def test_an_explanation_of_zeros_gains_nothing_where_the_features_stand_in_order():
    """Ties in the order of the columns would follow the model here, and nothing but the columns' order."""
    slopes = np.arange(P, 0.0, -1.0)
    x = np.ones((800, P))
    found = remove_in_order(asker(x, lambda m: m @ slopes), {"none": np.zeros((800, P))}, np.random.default_rng(3))
    for gained in gains(found, "none"):
        mean, interval = mean_interval(gained)
        assert interval.low < 0.0 < interval.high
        assert abs(mean) < 0.2
    ordered = gains(
        remove_in_order(asker(x, lambda m: m @ slopes), {"own": x * slopes}, np.random.default_rng(4)), "own"
    )
    assert min(gained.mean() for gained in ordered) > 2.0


def test_gains_of_an_additive_model_have_a_closed_form():
    """Under a random order the expected output falls in a straight line, so its area is the mean of both ends."""
    x = np.abs(RNG.normal(size=(3, P)))
    weights = np.abs(WEIGHTS)
    model = lambda z: z @ weights  # noqa: E731
    found = remove_in_order(
        asker(x, model), {"own": x * weights}, np.random.default_rng(0), steps=P, random_orders=4000
    )
    straight = model(x) / 2.0
    np.testing.assert_allclose(area(found.random_deletion, found.shares).mean(axis=0), straight, rtol=0.01)
    ordered = -np.sort(-x * weights, axis=1)
    left = np.concatenate([model(x)[:, None], model(x)[:, None] - ordered.cumsum(axis=1)], axis=1)
    exact = straight - (left[:, 1:] + left[:, :-1]).mean(axis=1) / 2.0
    np.testing.assert_allclose(gains(found, "own")[0], exact, atol=0.02)
    np.testing.assert_allclose(gains(found, "own")[0], gains(found, "own")[1], atol=0.04)


@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_equals_captums_on_the_same_perturbations(normalize):
    x = RNG.normal(size=(4, P))
    amounts = RNG.normal(size=(4, P))
    removed = RNG.random((4, 9, P)) < 0.5
    removed[:, :, 0] = True
    drops = interacting(x)[:, None] - np.stack([interacting(np.where(removed[:, d], 0.0, x)) for d in range(9)], axis=1)
    place = iter(range(9))

    def perturb(inputs):
        mask = torch.from_numpy(removed[:, next(place)])
        # Captum's attributions multiply the perturbation itself; ours are amounts already.
        return mask.to(inputs.dtype), torch.where(mask, torch.zeros_like(inputs), inputs)

    theirs = captum_infidelity(
        lambda z: torch.from_numpy(interacting(z.numpy())),
        perturb,
        torch.from_numpy(x),
        torch.from_numpy(amounts),
        n_perturb_samples=9,
        max_examples_per_batch=4,
        normalize=normalize,
    )
    ours = infidelity(amounts, removed, drops)
    np.testing.assert_allclose(ours.scaled if normalize else ours.raw, theirs.numpy(), rtol=1e-10)
    np.testing.assert_allclose(ours.null, infidelity(0 * amounts, removed, drops).raw)


def test_max_sensitivity_equals_captums_on_the_same_moves():
    x = RNG.normal(size=(3, P))
    moves = RNG.uniform(-0.1, 0.1, size=(3, 5, P))

    def explain(inputs):
        return torch.stack([inputs[:, 0] * inputs[:, 1], inputs[:, 2] ** 2, inputs.sum(dim=1)], dim=1)

    def perturb(inputs):  # each row five times in a line
        return inputs + torch.from_numpy(moves.reshape(15, P))

    theirs = sensitivity_max(
        lambda inputs: (explain(inputs[0] if isinstance(inputs, tuple) else inputs),),
        torch.from_numpy(x),
        perturb_func=perturb,
        n_perturb_samples=5,
    )
    own = explain(torch.from_numpy(x)).numpy()
    moved = np.stack([explain(torch.from_numpy(x + moves[:, d])).numpy() for d in range(5)], axis=1)
    np.testing.assert_allclose(max_sensitivity(own, moved), theirs.numpy(), rtol=1e-10)
    assert np.isnan(max_sensitivity(np.zeros((1, 3)), moved[:1])).all()


def test_too_little_to_order_is_refused():
    ask = asker(np.zeros((1, 1)), lambda z: z[:, 0])
    with pytest.raises(UsageError, match="single part"):
        remove_in_order(ask, {"one": np.zeros((1, 1))}, RNG)
    with pytest.raises(UsageError, match="two steps"):
        remove_in_order(ask, {"one": np.zeros((1, 2))}, RNG, steps=1)
    with pytest.raises(UsageError, match="a method"):
        remove_in_order(ask, {}, RNG)
