"""Two models' decisions on the same rows: joint cells, and how far a metric moved from one to the other.

Two models mostly err on the same people. Joint cells (group x label x decision then x decision now) keep that, so that
the change of a rate has the narrow interval of matched pairs instead of that of two independent samples. They are
sums: no row is in them, and their margins are the cells of the two audits, which is how they are checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Counts
from auditkit.methods.fairness.metrics import Rates, metric_vectors
from auditkit.stats.beta import MOST_ROWS
from auditkit.stats.effective import corrected_rows
from auditkit.stats.matched import matched_limits

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# k^3 joint cells a group, and with clusters the square of that.
MAX_CLASSES = 12
MAX_CLASSES_WITH_CLUSTERS = 4
_CHUNK = 1 << 14


@dataclass(frozen=True, kw_only=True)
class JointCounts:
    """Group x label x decision then x decision now, over the columns ``over``.

    Attributes:
        groups: ``G`` tuples of group names in the order of ``over``; ``((),)`` for all rows.
        k: Number of classes.
        n: ``(G, k, k, k)`` rows.
        weight, weight_sq: The same with sums of weights and of squared weights, with weights.
        moment: ``(G, k^3, k^3)`` second moments over clusters, with clusters.
    """

    over: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    k: int
    n: IntArray
    weight: FloatArray | None = None
    weight_sq: FloatArray | None = None
    moment: FloatArray | None = None

    def then(self) -> IntArray:
        """``(G, k, k)`` label x decision cells of the earlier audit."""
        return np.asarray(self.n.sum(axis=3))

    def now(self) -> IntArray:
        """``(G, k, k)`` label x decision cells of today's audit."""
        return np.asarray(self.n.sum(axis=2))

    def take(self, groups: Sequence[int]) -> JointCounts:
        """Some of the groups."""
        index = list(groups)

        def part(field: Any) -> Any:
            return None if field is None else field[index]

        return replace(
            self,
            groups=tuple(self.groups[i] for i in index),
            n=self.n[index],
            weight=part(self.weight),
            weight_sq=part(self.weight_sq),
            moment=part(self.moment),
        )

    def joined(self, other: JointCounts) -> JointCounts:
        """The groups of both."""

        def both(one: Any, two: Any) -> Any:
            return None if one is None or two is None else np.concatenate([one, two])

        return replace(
            self,
            groups=(*self.groups, *other.groups),
            n=np.concatenate([self.n, other.n]),
            weight=both(self.weight, other.weight),
            weight_sq=both(self.weight_sq, other.weight_sq),
            moment=both(self.moment, other.moment),
        )


def joint_counts(
    y: IntArray,
    then: IntArray,
    now: IntArray,
    tables: Sequence[Counts],
    groups: Mapping[str, npt.NDArray[Any]],
    *,
    weights: FloatArray | None = None,
    clusters: IntArray | None = None,
) -> tuple[JointCounts, ...]:
    """The joint cells of every table of ``tables``, for the same groups in the same order.

    Args:
        y: ``(n,)`` class codes of the labels.
        then, now: ``(n,)`` class codes of the two models' decisions.
        tables: Counts of one of the audits.
        groups: Column -> ``(n,)`` group names.
        weights: ``(n,)`` row weights.
        clusters: ``(n,)`` codes of the person or site of each row.

    Raises:
        UsageError: AK254 too many classes; AK255 rows in groups that the tables do not have.
    """
    k = len(tables[0].classes) if tables else 2
    most = MAX_CLASSES if clusters is None else MAX_CLASSES_WITH_CLUSTERS
    if k > most:
        kind = "clustered rows" if clusters is not None else "rows"
        raise UsageError("AK254", f"{kind} of {k} classes are not paired: at most {most} are")
    cell = (np.asarray(y, dtype=np.int64) * k + then) * k + now
    return tuple(_joint(table, k, cell, groups, weights, clusters) for table in tables)


def _joint(
    table: Counts,
    k: int,
    cell: IntArray,
    groups: Mapping[str, npt.NDArray[Any]],
    weights: FloatArray | None,
    clusters: IntArray | None,
) -> JointCounts:
    size, shape = k**3, (len(table.groups), k, k, k)
    flat = _group_codes(table, groups, len(cell)) * size + cell
    total = len(table.groups) * size
    found = JointCounts(
        over=table.over, groups=table.groups, k=k, n=np.bincount(flat, minlength=total).reshape(shape).astype(np.int64)
    )
    if weights is not None:
        sums = [np.bincount(flat, weights=mass, minlength=total) for mass in (weights, weights**2)]
        weight, square = (np.asarray(part, dtype=np.float64).reshape(shape) for part in sums)
        found = replace(found, weight=weight, weight_sq=square)
    if clusters is not None:
        found = replace(found, moment=_moments(flat, len(table.groups), size, weights, clusters))
    return found


def _group_codes(table: Counts, groups: Mapping[str, npt.NDArray[Any]], n: int) -> IntArray:
    """``(n,)`` position of each row's group among the table's."""
    code = np.zeros(n, dtype=np.int64)
    place = np.zeros(len(table.groups), dtype=np.int64)
    for index, column in enumerate(table.over):
        names, own = np.unique(np.asarray(groups[column]).astype(str), return_inverse=True)
        known = {str(name): at for at, name in enumerate(names)}
        code = code * (len(names) + 1) + own
        own_place = np.array([known.get(group[index], len(names)) for group in table.groups], dtype=np.int64)
        place = place * (len(names) + 1) + own_place
    order = np.argsort(place, kind="stable")
    at = np.minimum(np.searchsorted(place[order], code), len(place) - 1)
    found = order[at]
    if not np.array_equal(place[found], code):
        raise UsageError("AK255", f"some rows are in groups of {' x '.join(table.over)} that were not counted")
    return np.asarray(found, dtype=np.int64)


def _moments(flat: IntArray, count: int, size: int, weights: FloatArray | None, clusters: IntArray) -> FloatArray:
    """``(G, size, size)`` sums over clusters of the outer product of the cluster's cell vector, sparse in the cells."""
    group, cell = np.divmod(flat, size)
    _, code = np.unique(clusters, return_inverse=True)
    blocks, block = np.unique(group * (int(code.max()) + 1) + code, return_inverse=True)
    owner = blocks // (int(code.max()) + 1)
    moments = np.zeros((count, size, size))
    mass = np.ones(len(flat)) if weights is None else weights
    order = np.argsort(block, kind="stable")
    block, cell, mass = block[order], cell[order], mass[order]
    for start in range(0, len(blocks), _CHUNK):
        stop = min(start + _CHUNK, len(blocks))
        low, high = np.searchsorted(block, [start, stop])
        index = (block[low:high] - start) * size + cell[low:high]
        summed = np.bincount(index, weights=mass[low:high], minlength=(stop - start) * size)
        vectors = summed.astype(np.float64).reshape(-1, size)
        for g in np.unique(owner[start:stop]):
            rows = vectors[owner[start:stop] == g]
            moments[g] += rows.T @ rows
    return moments


class Values(Protocol):
    """Estimates of one quantity in several groups, with their own limits."""

    @property
    def value(self) -> FloatArray:
        """``(G,)`` estimates."""
        ...

    def limits(self, level: float) -> tuple[FloatArray, FloatArray]:
        """Limits ``(G,), (G,)`` at two-sided ``level``."""
        ...

    def rough_limits(self, level: float, factor: FloatArray | float) -> tuple[FloatArray, FloatArray]:
        """The same of about ``factor`` times the rows."""
        ...

    def take(self, groups: Sequence[int]) -> Values:
        """Some of the groups."""
        ...


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """What the joint cells say about a metric's change in every group.

    Attributes:
        now, then: The metric's rates in both audits.
        correlation: ``(G,)`` of the two estimates.
        shares: ``(G, 4)`` of the rows below the line: changed up, changed down, above the line in both, in neither;
            ``None`` for metrics whose denominator moves with the decisions, or that are means of rates.
        effective: ``(G, 2)`` effective rows of the difference and of the sum of the two rates.
        spread: ``(G, 2)`` variances of the estimates, now and then.
    """

    now: Rates
    then: Rates
    correlation: FloatArray
    spread: FloatArray
    shares: FloatArray | None
    effective: FloatArray

    @property
    def method(self) -> str:
        """How :meth:`limits` are made."""
        return "matched-melded" if self.shares is not None else "mover-correlated"

    def limits(
        self, level: float, sign: float = -1.0, factor: FloatArray | float | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Limits ``(G,), (G,)`` of ``now + sign * then``, ``sign`` -1 or +1, at two-sided ``level``.

        With a ``factor`` they are the approximate ones of that many times the rows.

        The sum of two rates of the same rows is 1 more than the share of rows above the line in both less the share
        in neither, so both are differences of two shares of the same rows.

        Source: Fay and Lumbard (2021), Statistics in Medicine 40; Zou and Donner (2008), Statistics in Medicine 27,
        section 2.3, for correlated estimates.
        """
        if self.shares is None or factor is not None:
            return correlated_limits(self.now, self.then, self.correlation, level, sign, factor)
        freedom = np.minimum(self.now.freedom, self.then.freedom).min(axis=1)
        column = 0 if sign < 0 else 1
        rows = corrected_rows(self.effective[:, column], freedom, level)
        one, two = (0, 1) if sign < 0 else (2, 3)
        low, high = matched_limits(self.shares[:, one], self.shares[:, two], rows, level)
        return (low, high) if sign < 0 else (1.0 + low, 1.0 + high)

    def alone(self, left: IntArray, right: IntArray, kind: str, few: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """``(m,)`` comparisons of ``left`` and ``right`` whose pairs are too few for the approximations they need."""
        return few if self.shares is None or kind == "ratio" else np.zeros(len(left), dtype=np.bool_)

    def take(self, groups: Sequence[int]) -> Pairing:
        """Some of the groups."""
        index = list(groups)
        return Pairing(
            now=self.now.take(index),
            then=self.then.take(index),
            correlation=self.correlation[index],
            spread=self.spread[index],
            shares=None if self.shares is None else self.shares[index],
            effective=self.effective[index],
        )


def correlated_limits(
    now: Values,
    then: Values,
    correlation: FloatArray,
    level: float,
    sign: float,
    factor: FloatArray | float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """MOVER limits of ``now + sign * then``, from the limits of each and their correlation.

    With a ``factor`` the limits are the approximate ones of that many times the rows.
    """
    ends = [part.limits(level) if factor is None else part.rough_limits(level, factor) for part in (now, then)]
    (low, high), (base_low, base_high) = ends
    down, up = now.value - low, high - now.value
    base_down, base_up = (then.value - base_low, base_high - then.value)
    if sign < 0:
        base_down, base_up = base_up, base_down
    cross = 2.0 * sign * correlation
    point = now.value + sign * then.value
    below = np.sqrt(np.maximum(down**2 + base_down**2 + cross * down * base_down, 0.0))
    above = np.sqrt(np.maximum(up**2 + base_up**2 + cross * up * base_up, 0.0))
    return point - below, point + above


def pair_rates(joint: JointCounts, now: Rates, then: Rates) -> Pairing:
    """The pairing of a metric in the groups of ``joint``, which are those of ``now`` and ``then`` in this order.

    Source: Binder (1983) for the linearised covariance; Korn and Graubard (1998) for effective rows.
    """
    k = joint.k
    above, below = metric_vectors(now.metric, k, now.code)
    lifted = {name: (_lift(above, k, name), _lift(below, k, name)) for name in ("then", "now")}
    mass = (joint.n if joint.weight is None else joint.weight).reshape(-1, k**3).astype(np.float64)
    second = _second(joint)
    linear = {name: _linear(mass, *vectors) for name, vectors in lifted.items()}
    spread = {name: second(u, u) for name, u in linear.items()}
    shared = second(linear["then"], linear["now"])
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = shared / np.sqrt(spread["then"] * spread["now"])
    correlation = np.clip(np.nan_to_num(correlation), -1.0, 1.0)
    freedom = np.minimum(now.freedom, then.freedom).min(axis=1)
    shares, effective = _shares(joint, mass, second, lifted, freedom)
    both = np.stack([spread["now"], spread["then"]], axis=1)
    return Pairing(now=now, then=then, correlation=correlation, spread=both, shares=shares, effective=effective)


def _lift(vectors: FloatArray, k: int, which: str) -> FloatArray:
    """Coefficients over label x decision as coefficients over label x decision then x decision now."""
    cells = vectors.reshape(-1, k, k)
    spread = cells[:, :, :, None] if which == "then" else cells[:, :, None, :]
    return np.asarray(np.broadcast_to(spread, (len(cells), k, k, k)).reshape(len(cells), k**3))


def _second(joint: JointCounts) -> Any:
    """``(u, v) -> u' M v`` in every group, ``M`` the second moments of the joint cells."""
    if joint.moment is not None:
        moment = joint.moment
        return lambda u, v: np.einsum("gc,gcd,gd->g", u, moment, v, optimize=True)
    size = joint.k**3
    square = (joint.n if joint.weight_sq is None else joint.weight_sq).reshape(-1, size).astype(np.float64)
    return lambda u, v: (u * v * square).sum(axis=1)


def _linear(mass: FloatArray, above: FloatArray, below: FloatArray) -> FloatArray:
    """``(G, k^3)`` influence of a unit of each joint cell on the metric, a mean of rates."""
    top, bottom = mass @ above.T, mass @ below.T
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = (above[None] - (top / bottom)[..., None] * below[None]) / bottom[..., None]
    return np.asarray(np.nan_to_num(parts).mean(axis=1))


def _shares(
    joint: JointCounts,
    mass: FloatArray,
    second: Any,
    lifted: Mapping[str, tuple[FloatArray, FloatArray]],
    freedom: FloatArray,
) -> tuple[FloatArray | None, FloatArray]:
    """Shares of the rows below the line by what became of them, and the effective rows of their differences."""
    (above_then, below), (above_now, below_now) = lifted["then"], lifted["now"]
    proportion = len(below) == 1 and np.array_equal(below, below_now) and set(np.unique(below)) <= {0.0, 1.0}
    if not (proportion and set(np.unique(above_then)) <= {0.0, 1.0}):
        return None, np.full((len(mass), 2), np.nan)
    inside = below[0]
    then, now = above_then[0] * inside, above_now[0] * inside
    cells = np.stack([now * (1 - then), then * (1 - now), then * now, inside * (1 - then) * (1 - now)])
    total = mass @ inside
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (mass @ cells.T) / total[:, None]
    squared = (joint.n if joint.weight_sq is None else joint.weight_sq).reshape(len(mass), -1) @ inside
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = total**2 / squared  # no more than weights leave that have nothing to do with the decisions
    base = second(np.broadcast_to(inside, mass.shape), np.broadcast_to(inside, mass.shape))
    effective = []
    for plus, minus in ((0, 1), (2, 3)):
        gap = shares[:, plus] - shares[:, minus]
        with np.errstate(divide="ignore", invalid="ignore"):
            linear = np.nan_to_num((cells[plus] - cells[minus] - gap[:, None] * inside) / total[:, None])
            variance = second(linear, linear) * (1.0 + 1.0 / np.maximum(freedom, 1e-12))
            kish = total**2 / base
            one_row = shares[:, plus] + shares[:, minus] - gap**2
            size = np.where((variance * MOST_ROWS > one_row) & (one_row > 1e-12), one_row / variance, kish)
        effective.append(np.minimum(size, rows))
    return shares, np.nan_to_num(np.stack(effective, axis=1))
