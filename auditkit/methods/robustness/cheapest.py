"""The cheapest feasible change that turns a decision, searched for with questions alone, all rows in one batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from auditkit.core.feasible import Feasible, FloatArray, IntArray
from auditkit.methods.robustness.search import Decide, Found, joined, row_blocks

# Single moves tried a row at the start; wider tables try a random part of theirs.
_SINGLES = 400
# Their sizes, in units of cost.
_LADDER = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)


def cheapest_change(  # noqa: PLR0913 - each budget is named at the call
    decide: Decide,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    *,
    pool: FloatArray,
    rounds: int = 30,
    width: int = 8,
    rng: np.random.Generator,
    tick: Callable[[int, int], None] | None = None,
) -> Found:
    """Points that turn the decision away from ``y`` at a low :meth:`~auditkit.core.feasible.Feasible.cost`.

    A row starts from single changes (a number by a ladder of steps both ways, a category to each option) and from real
    rows made feasible for it; the cheapest that turns the decision is then made cheaper by undoing changes and
    shrinking them, alone and together, and by random changes that would cost less. The cost found is an
    upper bound of the least.

    Args:
        decide: ``(m, f)`` points -> ``(m,)`` decisions.
        x: ``(n, f)`` clean rows.
        y: ``(n,)`` their decisions.
        space: What is feasible.
        pool: ``(p, f)`` real rows.
        rounds: Batched calls that make a change cheaper.
        width: Candidates a row in each.
        rng: Source of what is random.
        tick: ``tick(done, total)``, told after each batched call; may raise to stop.

    Returns:
        Points ``(n, f)``, the clean row where nothing was found, and for which rows something was.
    """
    blocks = row_blocks(len(x), x.shape[1] * max(_SINGLES, 2 * width))
    calls, parts = rounds + 2, []
    for place, block in enumerate(blocks):

        def told(done: int, place: int = place) -> None:
            if tick is not None:
                tick(place * calls + done, len(blocks) * calls)

        parts.append(_cheapest(decide, x[block], y[block], space, pool, (rounds, width), rng, told))
    return joined(parts, x)


def _cheapest(  # noqa: PLR0913 - one block of the above
    decide: Decide,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    pool: FloatArray,
    budget: tuple[int, int],
    rng: np.random.Generator,
    told: Callable[[int], None],
) -> Found:
    rounds, width = budget
    best, cost = x.copy(), np.full(len(x), np.inf)
    spent = 0
    spent += _keep_cheapest(decide, x, y, space, _singles(x, space, rng), best, cost)
    told(1)
    spent += _keep_cheapest(decide, x, y, space, _from_pool(x, space, pool, rng), best, cost)
    told(2)
    for turn in range(rounds):
        rows = np.flatnonzero(np.isfinite(cost))
        if not len(rows):
            break
        shrunk = _cheaper(x[rows], best[rows], space, width, turn / rounds, rng)
        fresh = blind_change(x[rows], space, 0.999 * cost[rows], draws=max(width // 2, 1), rng=rng)
        tried = np.concatenate([shrunk, fresh], axis=1)
        part, value = best[rows], cost[rows]
        spent += _keep_cheapest(decide, x[rows], y[rows], space, tried, part, value)
        best[rows], cost[rows] = part, value
        told(turn + 3)
    return Found(points=best, success=np.isfinite(cost), n_evaluations=spent)


def _keep_cheapest(
    decide: Decide,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    tried: FloatArray,
    best: FloatArray,
    cost: FloatArray,
) -> int:
    """Decide those of ``tried (n, c, f)`` that would be cheaper; keep the cheapest that turns the decision."""
    price = space.cost(x[:, None], tried)
    owner, place = np.nonzero((price < cost[:, None]) & (price > 0))
    if not len(owner):
        return 0
    turned = decide(tried[owner, place]) != y[owner]
    price[:] = np.where(np.isfinite(price), price, np.inf)
    good = np.full(price.shape, np.inf)
    good[owner[turned], place[turned]] = price[owner[turned], place[turned]]
    pick = good.argmin(axis=1)
    lowest = good[np.arange(len(x)), pick]
    found = np.flatnonzero(lowest < cost)
    best[found], cost[found] = tried[found, pick[found]], lowest[found]
    return len(owner)


def _singles(x: FloatArray, space: Feasible, rng: np.random.Generator) -> FloatArray:
    """``(n, c, f)`` single changes on a ladder of sizes, or a random part of a wide table's, made feasible."""
    moves: list[tuple[IntArray, FloatArray | None, float]] = []
    for place in np.flatnonzero(space.mutable):
        least = 1.0 if space.whole[place] else 0.0
        steps = {max(least, float(size * space.scale[place])) for size in _LADDER}
        moves += [(np.array([place]), None, sign * step) for step in sorted(steps) for sign in (-1.0, 1.0)]
    for choice in space.choices:
        moves += [(choice.columns, option, 0.0) for option in choice.options]
    if len(moves) > _SINGLES:
        moves = [moves[k] for k in rng.choice(len(moves), _SINGLES, replace=False)]
    tried = np.repeat(x[:, None], len(moves), axis=1)
    for k, (columns, option, step) in enumerate(moves):
        tried[:, k, columns] = option if option is not None else x[:, columns] + step
    return space.project(x, tried, None) if moves else tried


def _from_pool(x: FloatArray, space: Feasible, pool: FloatArray, rng: np.random.Generator) -> FloatArray:
    """``(n, c, f)`` some real rows, made feasible for each row."""
    if not len(pool):
        return np.zeros((len(x), 0, x.shape[1]))
    drawn = pool[rng.choice(len(pool), min(len(pool), 64), replace=False)]
    return space.project(x, np.repeat(drawn[None], len(x), axis=0), None)


def _cheaper(
    x: FloatArray, best: FloatArray, space: Feasible, width: int, progress: float, rng: np.random.Generator
) -> FloatArray:
    """``(n, width, f)`` the best points with changes undone or shrunk; the steps become finer as ``progress`` grows."""
    n, features = x.shape
    unit = np.arange(features)
    for choice in space.choices:
        unit[choice.columns] = choice.columns[0]
    changed = ~((best == x) | (np.isnan(best) & np.isnan(x)))
    draw = rng.random((n, width, features))[:, :, unit]
    draw = np.where(changed[:, None], draw, -1.0)
    # One change each for half of the candidates, a random half of the changes for the others.
    single = draw == draw.max(axis=2, keepdims=True)
    chosen = np.where(np.arange(width)[None, :, None] % 2 == 0, single, draw > 0.5) & changed[:, None]
    left = rng.random((n, width, 1))
    left = np.where(rng.random((n, width, 1)) < 0.3 * (1.0 - progress), 0.0, left ** (1.0 - 0.8 * progress))
    # What has not moved is left out: the difference of infinite cells is no number.
    far = np.where(changed, best, 0.0) - np.where(changed, x, 0.0)
    shrunk = np.where(chosen, x[:, None] + left * far[:, None], best[:, None])
    for choice in space.choices:
        undone = chosen[:, :, choice.columns]
        shrunk[:, :, choice.columns] = np.where(undone, x[:, None, choice.columns], best[:, None, choice.columns])
    return space.project(x, shrunk, None)


def blind_change(
    x: FloatArray, space: Feasible, budget: float | FloatArray, *, draws: int, rng: np.random.Generator
) -> FloatArray:
    """``(n, draws, f)`` feasible points of a cost of at most ``budget`` (one, or one a row), drawn blindly.

    The control that a search must beat: a few random features move by random shares of the budget.
    """
    n, features = x.shape
    budget = np.broadcast_to(np.asarray(budget, dtype=np.float64), (n,))
    weight = rng.random((n, draws, features)) ** 4
    weight /= weight.sum(axis=2, keepdims=True)
    sign = np.where(rng.random((n, draws, features)) < 0.5, -1.0, 1.0)
    points = x[:, None] + sign * weight * budget[:, None, None] * space.scale
    for choice in space.choices:
        picks = choice.options[rng.integers(len(choice.options), size=(n, draws))]
        use = rng.random((n, draws, 1)) < 0.3
        points[:, :, choice.columns] = np.where(use, picks, points[:, :, choice.columns])
    points = space.project(x, points, None)
    over = space.cost(x[:, None], points) > budget[:, None]
    return np.where(over[..., None], x[:, None], points)
