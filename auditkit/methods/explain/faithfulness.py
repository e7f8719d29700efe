"""Do attributions say what the model does? Parts are removed, the model is asked again, and the answers compared.

One pass over the model gives the deletion and insertion curves of every method, their random control, and infidelity:
the random orders of the control are the perturbations of infidelity too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.least import need_rows

BoolArray = npt.NDArray[np.bool_]
Ask = Callable[[IntArray, BoolArray], FloatArray]

_MASKS_A_PASS = 2**22


@dataclass(frozen=True, kw_only=True)
class Removals:
    """What the model answers when parts are removed in order.

    Attributes:
        shares: ``(s,)`` share of the parts removed (deletion) or put back (insertion), from 0 to 1.
        deletion: Method -> ``(n, s)`` outputs with the parts of largest attribution removed first.
        insertion: Method -> ``(n, s)`` outputs with them put back first, from nothing.
        random_deletion: ``(r, n, s)`` the same in random orders.
        random_insertion: ``(r, n, s)``.
        removed: ``(n, d, p)`` the random sets of parts removed, neither none nor all.
        drops: ``(n, d)`` how far the output falls when they are removed.
    """

    shares: FloatArray
    deletion: Mapping[str, FloatArray]
    insertion: Mapping[str, FloatArray]
    random_deletion: FloatArray
    random_insertion: FloatArray
    removed: BoolArray
    drops: FloatArray


def remove_in_order(
    ask: Ask,
    attributions: Mapping[str, FloatArray],
    rng: np.random.Generator,
    *,
    present: BoolArray | None = None,
    steps: int = 10,
    random_orders: int = 4,
) -> Removals:
    """Ask the model with parts removed: largest attribution first, last, and in random orders.

    Args:
        ask: Positions of rows ``(m,)`` and parts removed ``(m, p)`` -> output ``(m,)`` of each.
        attributions: Method -> ``(n, p)`` signed attributions to that output; ties are broken at random.
        rng: Source of the random orders, one for each row.
        present: ``(n, p)`` which parts a row has; the others are never removed.
        steps: Steps of a curve, at least 2; as many as there are parts where these are fewer.
        random_orders: Random orders a row, at least 1.

    Raises:
        UsageError: AK500 no rows, no method, fewer than two parts, or a budget below the least.

    Source: Petsiuk, Das and Saenko (2018), section 4.1; Samek et al. (2017), section III.

    >>> ask = lambda rows, removed: (~removed @ np.array([3.0, 2.0, 1.0]))
    >>> found = remove_in_order(ask, {"own": np.array([[3.0, 2.0, 1.0]])}, np.random.default_rng(0))
    >>> found.deletion["own"].tolist(), found.insertion["own"].tolist()
    ([[6.0, 3.0, 1.0, 0.0]], [[0.0, 3.0, 5.0, 6.0]])
    """
    if not attributions or steps < 2 or random_orders < 1:
        raise UsageError(
            "AK500", "a method, two steps and one random order are the least", fix="raise steps or random_orders"
        )
    n, parts = next(iter(attributions.values())).shape
    if parts < 2:
        raise UsageError("AK500", "a single part has no order", fix="give two parts or more")
    need_rows(n)
    present = np.ones((n, parts), dtype=np.bool_) if present is None else present
    counts = present.sum(axis=1)
    shares = np.linspace(0.0, 1.0, min(steps, int(counts.max())) + 1)
    removed_at = np.rint(shares[None, :] * counts[:, None]).astype(np.int64)
    # By position an explanation of zeros would be as faithful as the features happen to be sorted.
    ties = rng.spawn(1)[0].random((n, parts))
    orders = {name: _ranks(-values, present, ties) for name, values in attributions.items()}
    drawn = [_ranks(rng.random((n, parts)), present) for _ in range(random_orders)]
    masks = [rank for one in (*orders.values(), *drawn) for rank in _curves(one, removed_at, present)]
    ends = _answers(ask, np.stack([np.zeros_like(present), present], axis=1))
    outputs = [_with_ends(_answers(ask, mask[:, 1:-1]), ends, falling=j % 2 == 0) for j, mask in enumerate(masks)]
    named = len(orders)
    sets = np.concatenate([mask[:, 1:-1] for mask in masks[2 * named :]], axis=1)
    answers = np.concatenate([curve[:, 1:-1] for curve in outputs[2 * named :]], axis=1)
    return Removals(
        shares=shares,
        deletion={name: outputs[2 * j] for j, name in enumerate(orders)},
        insertion={name: outputs[2 * j + 1] for j, name in enumerate(orders)},
        random_deletion=np.stack(outputs[2 * named :: 2]),
        random_insertion=np.stack(outputs[2 * named + 1 :: 2]),
        removed=sets,
        drops=ends[:, :1] - answers,
    )


def area(curve: FloatArray, shares: FloatArray) -> FloatArray:
    """Area under curves ``(..., s)`` over ``shares (s,)`` by trapezoids: the mean output along the way.

    >>> area(np.array([[1.0, 0.5, 0.0]]), np.array([0.0, 0.5, 1.0])).tolist()
    [0.5]
    """
    middles = (curve[..., 1:] + curve[..., :-1]) / 2.0
    return np.asarray((middles * np.diff(shares)).sum(axis=-1), dtype=np.float64)


def gains(found: Removals, method: str) -> tuple[FloatArray, FloatArray]:
    """How much lower the deletion curve, and how much higher the insertion curve, lies than in random order: ``(n,)``.

    Both are 0 on average for an order that knows nothing of the model, in output units.
    """
    random_deletion = area(found.random_deletion, found.shares).mean(axis=0)
    random_insertion = area(found.random_insertion, found.shares).mean(axis=0)
    lower = random_deletion - area(found.deletion[method], found.shares)
    higher = area(found.insertion[method], found.shares) - random_insertion
    return lower, higher


@dataclass(frozen=True, kw_only=True)
class Infidelity:
    """Squared gaps between what attributions foretell and what the model does, ``(n,)`` each, in squared output units.

    Attributes:
        raw: Attributions as they are.
        scaled: Attributions of each row times the one number that fits best, so that methods of any scale compare.
        null: The same gaps for attributions of zero: the mean squared change.
    """

    raw: FloatArray
    scaled: FloatArray
    null: FloatArray


def infidelity(attributions: FloatArray, removed: BoolArray, drops: FloatArray) -> Infidelity:
    """Infidelity: mean squared gap between the attributions of the parts removed and the fall of the output.

    Args:
        attributions: ``(n, p)``, in the sense of "amount that the part adds".
        removed: ``(n, d, p)`` parts removed.
        drops: ``(n, d)`` fall of the output.

    Source: Yeh et al. (2019), definition 2.1, and its optimal scaling (section 2, equation 4).

    >>> found = infidelity(np.array([[2.0, 1.0]]), np.array([[[True, False], [True, True]]]), np.array([[2.0, 3.0]]))
    >>> found.raw.tolist(), found.scaled.tolist()
    ([0.0], [0.0])
    """
    foretold = np.einsum("ndp,np->nd", removed.astype(np.float64), attributions)
    size = (foretold**2).sum(axis=1)
    scale = np.divide((foretold * drops).sum(axis=1), size, out=np.zeros_like(size), where=size > 0.0)
    return Infidelity(
        raw=((foretold - drops) ** 2).mean(axis=1),
        scaled=((scale[:, None] * foretold - drops) ** 2).mean(axis=1),
        null=(drops**2).mean(axis=1),
    )


def max_sensitivity(attributions: FloatArray, perturbed: FloatArray) -> FloatArray:
    """Largest change of an explanation over small changes of the input, as a share of its length ``(n,)``.

    Args:
        attributions: ``(n, p)``.
        perturbed: ``(n, d, p)`` attributions of ``d`` copies of each row that were moved a little.

    Returns:
        ``max_d |perturbed - attributions| / |attributions|`` in Euclidean length; NaN where the explanation is zero.

    Source: Yeh et al. (2019), definition 3.1, relative as in section 5.

    >>> max_sensitivity(np.array([[3.0, 4.0]]), np.array([[[3.0, 4.0], [3.0, 3.0]]])).tolist()
    [0.2]
    """
    length = np.linalg.norm(attributions, axis=1)
    moved = np.linalg.norm(perturbed - attributions[:, None, :], axis=2).max(axis=1)
    found = np.divide(moved, length, out=np.full_like(length, np.nan), where=length > 0.0)
    return np.asarray(found, dtype=np.float64)


def _ranks(keys: FloatArray, present: BoolArray, ties: FloatArray | None = None) -> IntArray:
    """Place of each part when ``keys`` are put in ascending order; parts that a row lacks come last."""
    shown = np.where(present, keys, np.inf)
    order = np.argsort(shown, axis=1, kind="stable") if ties is None else np.lexsort((ties, shown), axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(keys.shape[1])[None, :], axis=1)
    return ranks


def _curves(ranks: IntArray, removed_at: IntArray, present: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Parts removed at each step of deletion and of insertion, ``(n, s, p)``."""
    first = ranks[:, None, :] < removed_at[:, :, None]
    return first & present[:, None, :], ~first & present[:, None, :]


def _answers(ask: Ask, removed: BoolArray) -> FloatArray:
    """Outputs ``(n, s)`` for parts removed ``(n, s, p)``, in batches of bounded size."""
    n, s, parts = removed.shape
    flat = removed.reshape(n * s, parts)
    rows = np.repeat(np.arange(n, dtype=np.int64), s)
    size = max(1, _MASKS_A_PASS // parts)
    found = [ask(rows[at : at + size], flat[at : at + size]) for at in range(0, len(flat), size)]
    return np.concatenate([*found, np.empty(0)]).reshape(n, s)


def _with_ends(inner: FloatArray, ends: FloatArray, *, falling: bool) -> FloatArray:
    whole, nothing = ends[:, :1], ends[:, 1:]
    first, last = (whole, nothing) if falling else (nothing, whole)
    return np.concatenate([first, inner, last], axis=1)
