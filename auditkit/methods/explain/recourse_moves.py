"""What the search for recourse tries: single changes of one feature or category, and how hard to look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.feasible import Feasible

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How hard to look.

    Attributes:
        steps: Values of each number tried on each side of the row's own; both bounds are tried too.
        beam: Partial changes kept a round.
        max_changes: Most features (or categories) that the beam changes together.
        pool: Accepted changes of each row that are pulled back; the cheapest after that is the answer.
        starts: Accepted rows tried as a whole where the beam found nothing.
        max_parts: Of more features and categories, those that alone move the score most for their cost.
        probes: Rows on which that is tried.
    """

    steps: int = 5
    beam: int = 9
    max_changes: int = 3
    pool: int = 6
    starts: int = 16
    max_parts: int = 40
    probes: int = 10


def changed_parts(space: Feasible, x: FloatArray, points: FloatArray) -> BoolArray:
    """``(..., p)`` which parts differ: every feature that is no category first, then every category of ``space``."""
    moved = ~((points == x) | (np.isnan(points) & np.isnan(x)))
    flags = [moved[..., columns].any(axis=-1) for columns in part_columns(space)]
    return np.stack(flags, axis=-1) if flags else np.zeros((*moved.shape[:-1], 0), dtype=np.bool_)


def part_columns(space: Feasible) -> tuple[IntArray, ...]:
    """The columns of each part: features that may change as numbers, then categories."""
    numbers = tuple(np.array([j]) for j in np.flatnonzero(space.mutable))
    return (*numbers, *(choice.columns for choice in space.choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """Single changes of each of ``n`` rows.

    Attributes:
        values: ``(n, m, f)`` what a move writes where ``mask (m, f)``.
        mask: The columns that each move changes.
        part: ``(m,)`` the part that it changes.
        columns: The columns of each part.
        chosen: Whether each part is a category.
    """

    values: FloatArray
    mask: BoolArray
    part: IntArray
    columns: tuple[IntArray, ...]
    chosen: tuple[bool, ...]


def single_moves(
    space: Feasible, reference: FloatArray, x: FloatArray, steps: int, wanted: IntArray | None = None
) -> Moves:
    """Numbers by steps in rank, small ones near the row, and to both bounds; categories to every option.

    Args:
        space: What is feasible.
        reference: ``(r, f)`` rows whose values give the ranks.
        x: ``(n, f)`` the rows.
        steps: Steps to each side, from 2 % to half of the reference rows.
        wanted: Positions among all parts of those to move; all by default.
    """
    n, f = x.shape
    every = part_columns(space)
    numbers = len(every) - len(space.choices)
    kept = list(range(len(every))) if wanted is None else wanted.tolist()
    columns = tuple(every[place] for place in kept)
    parts: list[tuple[int, FloatArray]] = []
    for part, place in enumerate(columns):
        if kept[part] >= numbers:
            options = space.choices[kept[part] - numbers].options
            parts.append((part, np.broadcast_to(options, (n, *options.shape))))
        else:
            parts.append(
                (part, _targets(space, reference[:, place[0]], x[:, place[0]], int(place[0]), steps)[..., None])
            )
    width = sum(targets.shape[1] for _, targets in parts)
    values, mask = np.zeros((n, width, f)), np.zeros((width, f), dtype=np.bool_)
    owner = np.zeros(width, dtype=np.int64)
    start = 0
    for part, targets in parts:
        own = np.arange(start, start + targets.shape[1])
        values[:, own[:, None], columns[part]] = targets
        mask[own[:, None], columns[part]] = True
        owner[own] = part
        start += targets.shape[1]
    chosen = tuple(place >= numbers for place in kept)
    return Moves(values=values, mask=mask, part=owner, columns=columns, chosen=chosen)


def _targets(space: Feasible, reference: FloatArray, x: FloatArray, place: int, steps: int) -> FloatArray:
    """``(n, t)`` values to try; the row's own where there is none."""
    known = np.sort(reference[np.isfinite(reference)])
    ends = [np.full(len(x), end) for end in (space.low[place], space.high[place]) if np.isfinite(end)]
    parts = [np.stack(ends, axis=1)] if ends else []
    if len(known):
        rank = np.searchsorted(known, np.nan_to_num(x)) / len(known)
        size = np.geomspace(0.02, 0.5, steps)
        wanted = np.clip(rank[:, None] + np.concatenate([-size, size]), 0.0, 1.0)
        parts.append(np.interp(wanted, np.linspace(0.0, 1.0, len(known)), known))
    return np.concatenate(parts, axis=1) if parts else x[:, None]
