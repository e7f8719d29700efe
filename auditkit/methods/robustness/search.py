"""Random search inside the feasible points: blind noise as a control, and a guided search as an attack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.methods.robustness.feasible import BoolArray, Feasible, FloatArray

IntArray = npt.NDArray[np.int64]

# Cells of one batch of candidates: 32 MB of float64 each for a handful of temporaries.
CELLS = 4_000_000
# Draws of noise decided in one call: a call costs a pipeline more than a row does.
AT_ONCE = 5

Decide = Callable[[FloatArray], IntArray]
# (points (m, f), labels (m,)) -> (fooled (m,), loss (m,)); a larger loss is nearer to being fooled.
Judge = Callable[[FloatArray, IntArray], tuple[BoolArray, FloatArray]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found: a point for each row, and whether it fools the model."""

    points: FloatArray
    success: BoolArray
    n_evaluations: int


def margin_loss(scores: FloatArray, y: IntArray) -> FloatArray:
    """``max(other scores) - score of y`` for scores ``(n, k)``; above 0 where the highest score is another class.

    >>> margin_loss(np.array([[0.7, 0.2, 0.1]]), np.array([0])).round(6).tolist()
    [-0.5]
    """
    rows = np.arange(len(y))
    others = scores.copy()
    others[rows, y] = -np.inf
    margin = others.max(axis=1, initial=-np.inf) - scores[rows, y]
    return np.asarray(np.nan_to_num(margin, nan=np.inf, posinf=np.inf, neginf=-np.inf), dtype=np.float64)


def row_blocks(rows: int, cells: int) -> list[slice]:
    """Slices of rows whose candidates fit in memory together; none when there are no rows."""
    size = max(1, CELLS // max(cells, 1))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]


def joined(parts: list[Found], x: FloatArray) -> Found:
    """What was found for blocks of the rows ``x``, as one."""
    if not parts:
        return Found(points=x.copy(), success=np.zeros(len(x), dtype=np.bool_), n_evaluations=0)
    return Found(
        points=np.concatenate([part.points for part in parts]),
        success=np.concatenate([part.success for part in parts]),
        n_evaluations=sum(part.n_evaluations for part in parts),
    )


def _box(space: Feasible, x: FloatArray, eps: float) -> tuple[FloatArray, FloatArray]:
    """Lowest feasible value of every cell, and how far it is to the highest; 0 for infinite cells, which stay."""
    low, high = space.box(x, eps)
    return low, np.subtract(high, low, out=np.zeros_like(low), where=high > low)


def random_noise(
    decide: Decide, x: FloatArray, y: IntArray, space: Feasible, eps: float, *, draws: int, rng: np.random.Generator
) -> Found:
    """Blind noise: half the draws uniform in the box, half at its corners. The control that an attack must beat.

    Args:
        decide: ``(m, f)`` points -> ``(m,)`` decisions.
        x: ``(n, f)`` clean rows.
        y: ``(n,)`` labels.
        space: What is feasible.
        eps: Radius in scaled units.
        draws: Points tried a row; each is one evaluation.
        rng: Source of the draws.
    """
    blocks = row_blocks(len(x), x.shape[1] * AT_ONCE)
    if len(blocks) != 1:
        parts = [random_noise(decide, x[b], y[b], space, eps, draws=draws, rng=rng) for b in blocks]
        return joined(parts, x)
    points, success = x.copy(), np.zeros(len(x), dtype=np.bool_)
    low, reach = _box(space, x, eps)
    spent = 0
    for begin in range(0, draws, AT_ONCE):
        rows = np.flatnonzero(~success)
        if len(rows) == 0:
            break
        width = min(AT_ONCE, draws - begin)
        share = rng.random((len(x), width, x.shape[1]))[rows]
        share[:, ::2] = np.round(share[:, ::2])
        tried = space.project(x[rows], low[rows, None] + share * reach[rows, None], eps)
        fooled = np.asarray(decide(tried.reshape(-1, x.shape[1])) != np.repeat(y[rows], width)).reshape(-1, width)
        spent += len(rows) * width
        hit = fooled.any(axis=1)
        points[rows[hit]] = tried[hit, fooled[hit].argmax(axis=1)]
        success[rows[hit]] = True
    return Found(points=points, success=success, n_evaluations=spent)


def feasible_search(  # noqa: PLR0913 - each budget is named at the call
    judge: Judge,
    x: FloatArray,
    y: IntArray,
    space: Feasible,
    eps: float,
    *,
    rounds: int = 25,
    width: int = 8,
    start: FloatArray | None = None,
    rng: np.random.Generator,
) -> Found:
    """Guided random search over feasible points, all rows in one batch a round.

    Each round redraws a shrinking random subset of a row's features, at the ends of their box or (every other
    candidate) uniformly inside, and keeps the candidate of highest loss. With labels alone the loss is flat
    and the search is a random walk. Rows that are fooled leave the search.

    Args:
        judge: Whether points fool the model, and by how much.
        x: ``(n, f)`` clean rows.
        y: ``(n,)`` labels.
        space: What is feasible.
        eps: Radius in scaled units.
        rounds: Batched calls of ``judge``.
        width: Candidates a row in each round.
        start: ``(n, f)`` points to begin from (those of a smaller eps); the clean rows by default.
        rng: Source of the candidates.

    Source: random search with shrinking blocks after Andriushchenko et al. (2020), section 3.
    """
    begin = x if start is None else start
    blocks = row_blocks(len(x), x.shape[1] * width)
    if len(blocks) != 1:
        settings = {"rounds": rounds, "width": width, "rng": rng}
        parts = [feasible_search(judge, x[b], y[b], space, eps, start=begin[b], **settings) for b in blocks]  # type: ignore[arg-type]
        return joined(parts, x)
    best = space.project(x, begin, eps)
    low, reach = _box(space, x, eps)
    success, loss = judge(best, y)
    success, loss, spent = success.copy(), loss.copy(), len(x)
    features = x.shape[1]
    for turn in range(rounds):
        rows = np.flatnonzero(~success)
        if len(rows) == 0:
            break
        # The share of features redrawn falls from all of them to one.
        share = max(1.0 / features, 1.0 - turn / max(rounds * 0.75, 1.0))
        redraw = rng.random((len(x), width, features))[rows] < share
        redraw[np.arange(len(rows)), :, rng.integers(features, size=len(rows))] = True
        place = rng.random((len(x), width, features))[rows]
        place[:, ::2] = np.round(place[:, ::2])
        fresh = low[rows, None] + place * reach[rows, None]
        tried = space.project(x[rows], np.where(redraw, fresh, best[rows, None]), eps)
        flat_fooled, flat_loss = judge(tried.reshape(-1, features), np.repeat(y[rows], width))
        spent += len(rows) * width
        fooled, value = flat_fooled.reshape(-1, width), flat_loss.reshape(-1, width)
        value = np.where(fooled, np.inf, value)
        pick = value.argmax(axis=1)
        picked = np.take_along_axis(value, pick[:, None], axis=1)[:, 0]
        better = picked >= loss[rows]
        chosen = tried[np.arange(len(rows)), pick]
        best[rows[better]], loss[rows[better]] = chosen[better], picked[better]
        success[rows] |= fooled.any(axis=1)
    return Found(points=best, success=success, n_evaluations=spent)
