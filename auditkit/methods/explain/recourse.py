"""The cheapest feasible change of a row that brings the decision wanted: counterfactuals for tables.

A search over the user's own decisions, not over a copy of the model: a beam of single changes, each of one feature or
category, is widened by one change a round; what is accepted is then pulled back towards the row, one feature at a time,
by bisection. What it finds is accepted and feasible, so its cost is an upper limit of the least cost; on linear models
and on small grids it is the least cost (see the tests).

Source: Ustun, Spangher and Liu (2019), Actionable recourse in linear classification, FAT*; Wachter, Mittelstadt and
Russell (2017) for counterfactuals; Karimi et al. (2022), ACM Computing Surveys 55, for what is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.feasible import Feasible
from auditkit.methods.explain.recourse_moves import Moves, Search, part_columns, single_moves

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
# (points (m, f)) -> (accepted (m,), score (m,)); a larger score is nearer to being accepted.
Judge = Callable[[FloatArray], tuple[BoolArray, FloatArray]]

# Cells of one batch of candidates.
_CELLS = 4_000_000
_TINY = 1e-12
_BISECTIONS = 16
# Pulling back is repeated while it saves more than this part of the cost.
_SWEEPS, _GAIN = 3, 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Recourses:
    """The cheapest change found for each row.

    Attributes:
        points: ``(n, f)`` the changed rows; the row itself where nothing was found.
        found: ``(n,)``.
        cost: ``(n,)`` scaled changes summed; infinite where nothing was found.
        n_evaluations: Decisions asked of the model.
        parts: Positions of the features and categories that were moved, among all that may.
    """

    points: FloatArray
    found: BoolArray
    cost: FloatArray
    n_evaluations: int
    parts: IntArray


def find_recourse(
    judge: Judge, x: FloatArray, space: Feasible, donors: FloatArray, search: Search | None = None
) -> Recourses:
    """The cheapest accepted and feasible point found near each row; nothing is drawn at random.

    Args:
        judge: Whether the model decides points as wanted, and the score of that decision (all equal without scores).
        x: ``(n, f)`` rows that are not decided as wanted.
        space: What is feasible, and what a change costs.
        donors: ``(d, f)`` rows that are decided as wanted; none is fine.
        search: How hard to look.

    >>> space = Feasible(low=np.zeros(2), high=np.full(2, 10.0), scale=np.array([1.0, 4.0]), whole=np.zeros(2, bool))
    >>> found = find_recourse(lambda p: (p.sum(axis=1) >= 6, p.sum(axis=1)), np.array([[1.0, 1.0]]), space,
    ...                       np.array([[5.0, 5.0]]))
    >>> found.points.round(3).tolist(), found.cost.round(3).tolist()
    ([[1.0, 5.0]], [1.0])
    """
    search = search or Search()
    reference = np.concatenate([donors, x])
    wanted, spent = np.arange(len(part_columns(space))), 0
    if len(wanted) > search.max_parts and len(x):
        wanted, spent = _leading_parts(judge, x[:: -(-len(x) // search.probes)], space, reference, search.max_parts)
    width = max(len(single_moves(space, reference, x[:1], search.steps, wanted).part), 1)
    size = max(1, _CELLS // max(1, search.beam * width * x.shape[1]))
    found = [Recourses(points=x[:0], found=np.zeros(0, bool), cost=np.zeros(0), n_evaluations=spent, parts=wanted)]
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        moves = single_moves(space, reference, rows, search.steps, wanted)
        found.append(_found(judge, rows, space, donors, moves, search))
    return Recourses(
        points=np.concatenate([part.points for part in found]),
        found=np.concatenate([part.found for part in found]),
        cost=np.concatenate([part.cost for part in found]),
        n_evaluations=sum(part.n_evaluations for part in found),
        parts=wanted,
    )


def _leading_parts(
    judge: Judge, x: FloatArray, space: Feasible, reference: FloatArray, most: int
) -> tuple[IntArray, int]:
    """The parts that alone move the score of some rows most for their cost, and the decisions asked for that."""
    every = len(part_columns(space))
    _, base = judge(x)
    size = max(1, _CELLS // max(1, len(x) * 6 * x.shape[1]))
    worth, spent = np.zeros((len(x), every)), len(x)
    for start in range(0, every, size):
        own = np.arange(start, min(start + size, every))
        moves = single_moves(space, reference, x, 2, own)
        points = space.project(x, np.where(moves.mask, moves.values, x[:, None, :]), None)
        cost = space.cost(x[:, None, :], points)
        usable = np.isfinite(cost) & (cost > _TINY)
        accepted, score = np.zeros(cost.shape, dtype=np.bool_), np.full(cost.shape, -np.inf)
        if usable.any():
            accepted[usable], score[usable] = judge(points[usable])
        spent += int(usable.sum())
        won = np.where(usable, np.maximum(score - base[:, None], 0.0) + accepted, 0.0) / np.maximum(cost, _TINY)
        for code, part in enumerate(own):
            worth[:, part] = won[:, moves.part == code].max(axis=1, initial=0.0)
    rank = (worth / np.maximum(worth.max(axis=1, keepdims=True), _TINY)).sum(axis=0)
    return np.sort(np.argsort(-rank, kind="stable")[:most]), spent


@dataclass(slots=True)
class _State:
    """The pool ``(n, k, f)`` of accepted points of each row with their costs, the cheapest first."""

    judge: Judge
    x: FloatArray
    space: Feasible
    pool: FloatArray
    cost: FloatArray
    spent: int = 0

    def ask(self, points: FloatArray, wanted: BoolArray) -> tuple[BoolArray, FloatArray]:
        """Accepted and score of ``points (n, c, f)`` where ``wanted (n, c)``; refused at minus infinity elsewhere."""
        accepted, score = np.zeros(wanted.shape, dtype=np.bool_), np.full(wanted.shape, -np.inf)
        if wanted.any():
            accepted[wanted], score[wanted] = self.judge(points[wanted])
            self.spent += int(wanted.sum())
        return accepted, score

    def price(self, points: FloatArray) -> FloatArray:
        """``(n, c)`` cost of points ``(n, c, f)``."""
        return self.space.cost(self.x[:, None, :], points)

    def keep(self, points: FloatArray, cost: FloatArray) -> None:
        """Merge accepted ``points (n, c, f)`` into the pool; those of infinite cost are not accepted."""
        both = np.concatenate([self.cost, cost], axis=1)
        order = np.argsort(both, axis=1, kind="stable")[:, : self.cost.shape[1]]
        joined = np.concatenate([self.pool, points], axis=1)
        self.pool = np.take_along_axis(joined, order[:, :, None], axis=1)
        self.cost = np.take_along_axis(both, order, axis=1)


def _found(judge: Judge, x: FloatArray, space: Feasible, donors: FloatArray, moves: Moves, search: Search) -> Recourses:
    n = len(x)
    state = _State(judge, x, space, np.repeat(x[:, None, :], search.pool, axis=1), np.full((n, search.pool), np.inf))
    _, base = judge(x)
    state.spent += n
    beam = x[:, None, :]
    for _ in range(search.max_changes if len(moves.part) else 0):
        beam = _widened(state, beam, base, moves, search)
    _pull_back(state, moves, search.max_changes)
    if len(moves.part):
        _traded(state, base, moves, search)
    missing = np.flatnonzero(~np.isfinite(state.cost[:, 0]))
    if len(missing) and len(donors):
        _from_donors(state, missing, donors, moves, search)
    best, cost = state.pool[:, 0], state.cost[:, 0]
    return Recourses(
        points=best, found=np.isfinite(cost), cost=cost, n_evaluations=state.spent, parts=np.zeros(0, dtype=np.int64)
    )


def _widened(state: _State, beam: FloatArray, base: FloatArray, moves: Moves, search: Search) -> FloatArray:
    """Try every move on every point of the beam; file what is accepted, return the next beam."""
    n, width, f = beam.shape
    tried = np.where(moves.mask, moves.values[:, None], beam[:, :, None, :]).reshape(n, -1, f)
    points = state.space.project(state.x, tried, None)
    cost = state.price(points).reshape(n, width, -1)
    before = state.price(beam)
    lines = _lines(points.reshape(n, width, -1, f), beam, moves)
    wanted = np.isfinite(cost) & (cost > before[:, :, None] + _TINY) & (before < state.cost[:, :1])[:, :, None]
    if width > 1:  # the row itself fills a beam that is not full
        wanted &= before[:, :, None] > 0
    for line in lines:  # up to the first value that costs more than what is known
        dear = np.where(line & (cost >= state.cost[:, :1, None]), cost, np.inf).min(axis=2, keepdims=True)
        wanted &= ~line | (cost <= dear)
    yes, worth = state.ask(points, wanted.reshape(n, -1))
    accepted, score = yes.reshape(cost.shape), worth.reshape(cost.shape)
    guess, place = _accepted_on_lines(lines, cost, score, accepted, (before, base))
    order = np.argsort(guess, axis=1, kind="stable")[:, : search.pool]
    chosen = np.take_along_axis(place, order, axis=1)
    hits = np.isfinite(np.take_along_axis(guess, order, axis=1))
    price = np.where(hits, np.take_along_axis(cost.reshape(n, -1), chosen, axis=1), np.inf)
    part = moves.part[chosen % len(moves.part)]
    state.keep(*_shrunk(state, _rows(points, chosen), price, part, hits, moves))
    gain = np.where(wanted & ~accepted, (score - base[:, None, None]) / np.maximum(cost, _TINY), -np.inf)
    return _next_beam(state, points, gain.reshape(n, -1), cost.reshape(n, -1), moves, search)


def _lines(points: FloatArray, beam: FloatArray, moves: Moves) -> list[BoolArray]:
    """For each part, which moves ``(n, b, m)`` go up and which go down; of a category, each option is on its own."""
    lines = []
    for code, columns in enumerate(moves.columns):
        own = moves.part == code
        if len(columns) == 1 and not moves.chosen[code]:
            moved = points[..., columns[0]] - beam[:, :, None, columns[0]]
            lines += [own & (moved > 0), own & (moved < 0)]
        else:
            lines += [np.broadcast_to(np.arange(len(own)) == m, points.shape[:3]) for m in np.flatnonzero(own)]
    return lines


def _accepted_on_lines(
    lines: list[BoolArray],
    cost: FloatArray,
    score: FloatArray,
    accepted: BoolArray,
    begin: tuple[FloatArray, FloatArray],
) -> tuple[FloatArray, IntArray]:
    """The cheapest accepted move on each line: a guess of its cost once pulled back, and its place; ``(n, l * b)``.

    The guess is where the score, taken as straight between the last refused value and the accepted one, crosses the
    middle between the highest refused and the lowest accepted score. ``begin`` is the cost ``(n, b)`` of the beam and
    the score ``(n,)`` of the row.
    """
    n, before = len(cost), begin[0]
    asked = np.isfinite(score)
    refused = asked & ~accepted
    highest = np.maximum(np.where(refused, score, -np.inf).max(axis=(1, 2)), begin[1])
    lowest = np.where(accepted, score, np.inf).min(axis=(1, 2))
    edge = np.where(np.isfinite(lowest), (highest + lowest) / 2.0, highest)[:, None]
    guesses, places = [], []
    for line in lines:
        hit = np.where(line & accepted, cost, np.inf)
        first, at = hit.min(axis=2), hit.argmin(axis=2)
        below = np.where(line & refused & (cost < first[:, :, None]), cost, -np.inf)
        last = np.maximum(below.max(axis=2), before)
        low = np.where(
            below.max(axis=2) > before,
            np.take_along_axis(score, below.argmax(axis=2)[:, :, None], axis=2)[:, :, 0],
            begin[1][:, None],
        )
        high = np.take_along_axis(score, at[:, :, None], axis=2)[:, :, 0]
        rise = np.where(np.isfinite(high) & np.isfinite(low) & (high > low), high - low, np.inf)
        along = np.where(
            np.isfinite(rise), np.clip((edge - np.where(np.isfinite(low), low, 0.0)) / rise, 0.0, 1.0), 0.5
        )
        known = np.isfinite(first)
        guess = last + along * (np.where(known, first, last) - last)
        guesses.append(np.where(known, guess, np.inf))
        places.append(at + np.arange(cost.shape[1]) * cost.shape[2])
    return np.stack(guesses, axis=1).reshape(n, -1), np.stack(places, axis=1).reshape(n, -1)


def _next_beam(
    state: _State, points: FloatArray, gain: FloatArray, cost: FloatArray, moves: Moves, search: Search
) -> FloatArray:
    """Refused points to go on from: a third each of the furthest, the steepest, and the nearest that moved the score.

    ``gain (n, c)`` is the score won for its cost, minus infinity for points that are out. A small step of the best
    feature gains most for its cost, yet the cheapest change may need the whole way; and behind a step down the score
    there may be an accepted point, as in trees. Each part has one point in each third.
    """
    part = moves.part[np.arange(gain.shape[1]) % len(moves.part)]
    out = ~np.isfinite(gain)
    won = np.where(out, 0.0, gain) * np.where(out, 0.0, cost)
    keys = (
        np.where(out, np.inf, -won),
        np.where(out, np.inf, -gain),
        np.where(np.abs(won) <= _TINY, np.inf, cost),
    )
    taken = np.zeros(gain.shape, dtype=np.bool_)
    kept = []
    for turn, key in enumerate(keys):
        key = np.where(taken, np.inf, key)
        best = [np.flatnonzero(part == code) for code in range(len(moves.columns))]
        places = np.stack([own[key[:, own].argmin(axis=1)] for own in best if len(own)], axis=1)
        size = (search.beam + 2 - turn) // 3
        # The furthest compete by what they gain for their cost.
        rank = np.take_along_axis(np.where(taken, np.inf, keys[1]) if turn == 0 else key, places, axis=1)
        order = np.argsort(rank, axis=1, kind="stable")[:, :size]
        usable = np.isfinite(np.take_along_axis(rank, order, axis=1))
        chosen = np.take_along_axis(places, order, axis=1)
        np.put_along_axis(taken, chosen, True, axis=1)
        kept.append(np.where(usable[:, :, None], _rows(points, chosen), state.x[:, None, :]))
    return np.concatenate(kept, axis=1)


def _rows(points: FloatArray, places: IntArray) -> FloatArray:
    return np.take_along_axis(points, places[:, :, None], axis=1)


def _pull_back(state: _State, moves: Moves, changes: int) -> None:
    """Move accepted points of the pool back towards their rows, the dearest part first, as far as they stay so."""
    points, cost = state.pool, state.cost
    for _ in range(_SWEEPS):
        known = np.isfinite(cost)
        if not known.any():
            break
        last = cost[known].sum()
        prices = np.stack([_part_cost(state, points, columns) for columns in moves.columns], axis=-1)
        for rank in range(min(changes, prices.shape[-1])):
            part = np.argsort(-prices, axis=-1, kind="stable")[..., rank]
            dear = np.take_along_axis(prices, part[..., None], axis=-1)[..., 0] > 0
            points, cost = _shrunk(state, points, cost, part, dear & np.isfinite(cost), moves)
        if cost[known].sum() > (1.0 - _GAIN) * last:
            break
    order = np.argsort(cost, axis=1, kind="stable")
    state.pool, state.cost = _rows(points, order), np.take_along_axis(cost, order, axis=1)


def _part_cost(state: _State, points: FloatArray, columns: IntArray) -> FloatArray:
    only = np.repeat(state.x[:, None, :], points.shape[1], axis=1)
    only[..., columns] = points[..., columns]
    return state.price(only)


def _shrunk(
    state: _State, points: FloatArray, cost: FloatArray, part: IntArray, wanted: BoolArray, moves: Moves
) -> tuple[FloatArray, FloatArray]:
    """Bisect between the row's own value of one part and that of each point; categories go back or stay."""
    owner = np.zeros((len(moves.columns), points.shape[2]), dtype=np.bool_)
    for code, columns in enumerate(moves.columns):
        owner[code, columns] = True
    mask = owner[part]
    clean = state.x[:, None, :]
    near, far = np.zeros(part.shape), np.ones(part.shape)
    start = points
    for step in range(_BISECTIONS + 1):
        at = near if step == 0 else (near + far) / 2.0
        value = clean + at[..., None] * np.where(mask, start - clean, 0.0)
        trial = state.space.project(state.x, np.where(mask, value, points), None)
        price = state.price(trial)
        try_ = wanted & (price < cost - _TINY)
        accepted, _ = state.ask(trial, try_)
        better = accepted & try_
        points = np.where(better[..., None], trial, points)
        cost = np.where(better, price, cost)
        far = np.where(better, at, far)
        near = np.where(wanted & ~better, at, near)
        # Whole way back: nothing left to halve.
        wanted = wanted & (far > 0.0)
        if not wanted.any():
            break
    return points, cost


def _traded(state: _State, base: FloatArray, moves: Moves, search: Search) -> None:
    """Give up half of one part of the best point, and look for another change that makes up for it at less cost."""
    best = state.pool[:, :1]
    seeds: Sequence[FloatArray] = []
    for columns in moves.columns:
        seed = best.copy()
        seed[..., columns] = (best[..., columns] + state.x[:, None, columns]) / 2.0
        seeds = [*seeds, seed]
    prices = np.concatenate([_part_cost(state, best, columns) for columns in moves.columns], axis=1)
    order = np.argsort(-prices, axis=1, kind="stable")[:, : search.max_changes]
    halves = state.space.project(state.x, _rows(np.concatenate(seeds, axis=1), order), None)
    before = state.cost.copy()
    _widened(state, halves, base, moves, search)
    if (state.cost < before).any():
        _pull_back(state, moves, search.max_changes + 1)


def _from_donors(state: _State, rows: IntArray, donors: FloatArray, moves: Moves, search: Search) -> None:
    """Where the beam found nothing: the cheapest accepted rows as they are, as far as they are feasible."""
    inner = _State(state.judge, state.x[rows], state.space, state.pool[rows], state.cost[rows])
    size = max(1, _CELLS // max(donors.size, 1))
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        some = _State(state.judge, inner.x[part], state.space, inner.pool[part], inner.cost[part])
        candidates = np.repeat(donors[None], len(some.x), axis=0)
        free = np.zeros(donors.shape[1], dtype=np.bool_)
        for columns in moves.columns:
            free[columns] = True
        points = state.space.project(some.x, np.where(free, candidates, some.x[:, None, :]), None)
        cost = some.price(points)
        order = np.argsort(cost, axis=1, kind="stable")[:, : search.starts]
        points, cost = _rows(points, order), np.take_along_axis(cost, order, axis=1)
        accepted, _ = some.ask(points, np.isfinite(cost) & (cost > _TINY))
        some.keep(points, np.where(accepted, cost, np.inf))
        _pull_back(some, moves, len(moves.columns))
        state.pool[rows[part]], state.cost[rows[part]] = some.pool, some.cost
        state.spent += some.spent
