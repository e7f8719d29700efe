"""The change of an estimate from one model to another on the same rows, from each row's share in both.

Both estimates move by a sum over rows (``stats/linearised.py``); the sums share their rows, which is their covariance.
The change has Student-t limits from it: for means of errors these are those of the paired t test, for areas under the
ROC curve those of DeLong's test of two correlated curves.

Source: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44; Binder (1983) for rows with weights and clusters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.stats.intervals import t_value
from auditkit.stats.linearised import Design, cluster_sums
from auditkit.stats.ranking import auc_parts, placements

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An estimate of ``n`` rows and each row's share ``(n,)`` in its error.

    Attributes:
        rare: About how many independent rows keep an area under the curve from 1 or 0; infinite for what has no ends.
        freedom: Degrees of freedom where they are fewer than the independent units less one.
        exact: The squares of the shares sum to the variance itself, with no correction for the number of units.
    """

    value: float
    shares: FloatArray
    rare: float = math.inf
    freedom: int | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedEstimate:
    """Two estimates of the same rows.

    Attributes:
        then, now: Their values.
        variance_then, variance_now, covariance: Of the two.
        n: Rows behind them.
        freedom: Degrees of freedom of the variances.
        rare: As in :class:`Part`, the fewer of the two.
    """

    then: float
    now: float
    variance_then: float
    variance_now: float
    covariance: float
    n: int
    freedom: int
    rare: float = math.inf

    @property
    def correlation(self) -> float:
        """Of the two estimates, 0 where one of them does not vary."""
        spread = math.sqrt(max(self.variance_then, 0.0) * max(self.variance_now, 0.0))
        return min(max(self.covariance / spread, -1.0), 1.0) if spread > 0.0 else 0.0

    def variance(self, sign: float) -> float:
        """Of ``now + sign * then``."""
        return max(self.variance_now + self.variance_then + 2.0 * sign * self.covariance, 0.0)

    @property
    def still(self) -> bool:
        """Whether no row tells the two apart, so that pairs say nothing about the spread of the change."""
        scale = max(self.variance_then, self.variance_now)
        return self.freedom < 1 or scale <= 0.0 or self.variance(-1.0) <= 1e-14 * scale

    def limits(self, level: float, sign: float = -1.0) -> tuple[float, float]:
        """Student-t limits of ``now + sign * then`` at two-sided ``level``."""
        half = t_value(level, self.freedom) * math.sqrt(self.variance(sign))
        point = self.now + sign * self.then
        return point - half, point + half


def paired(then: Part, now: Part, design: Design) -> PairedEstimate:
    """Two estimates of the same rows in the same order, from their shares.

    >>> from auditkit.stats.linearised import PLAIN
    >>> one, two = mean_part(np.array([1.0, 3.0])), mean_part(np.array([2.0, 4.0]))
    >>> paired(one, two, PLAIN).variance(-1.0)
    0.0
    """
    one, two = (cluster_sums(part.shares, design.clusters) for part in (then, now))
    units = len(one)
    scale = 1.0 if then.exact and now.exact else units / (units - 1) if units > 1 else 0.0
    freedom = min(units - 1, *(part.freedom for part in (then, now) if part.freedom is not None), units - 1)
    return PairedEstimate(
        then=then.value,
        now=now.value,
        variance_then=scale * float(one @ one),
        variance_now=scale * float(two @ two),
        covariance=scale * float(one @ two),
        n=len(then.shares),
        freedom=freedom,
        rare=min(then.rare, now.rare),
    )


def mean_part(values: FloatArray, design: Design | None = None) -> Part:
    """The (weighted) mean of ``values (n,)``."""
    masses = (design or Design()).masses(len(values))
    total = float(masses.sum())
    value = float((masses * values).sum()) / total
    return Part(value=value, shares=masses * (values - value) / total)


def root_part(part: Part) -> Part:
    """The square root of a mean above 0, by the delta method."""
    root = math.sqrt(part.value)
    return Part(value=root, shares=part.shares / (2.0 * root))


def explained_part(y: FloatArray, predicted: FloatArray, design: Design) -> Part:
    """R2: one less the squared error over that of the mean of ``y (n,)``, which must vary."""
    masses = design.masses(len(y))
    deviation = (y - float((masses * y).sum() / masses.sum())) ** 2
    total = float((masses * deviation).sum())
    squared = (y - predicted) ** 2
    ratio = float((masses * squared).sum()) / total
    return Part(value=1.0 - ratio, shares=-masses * (squared - ratio * deviation) / total)


def auc_part(scores: FloatArray, positive: BoolArray, design: Design) -> Part:
    """The area under the ROC curve of ``scores (n,)``; both classes must have a row.

    Plain rows have DeLong's own variance, each class with its own correction.
    """
    sizes = [design.take(side).units(int(side.sum())) for side in (positive, ~positive)]
    freedom = max(math.floor(min(sizes) + 1e-9) - 1, 0)
    if design.plain:
        v10, v01 = placements(scores, positive)
        area = float(v10.mean())
        shares = np.empty(len(scores))
        for side, placed in ((positive, v10), (~positive, v01)):
            count = len(placed)
            shares[side] = (placed - area) / math.sqrt(count * max(count - 1, 1))
    else:
        area, shares = auc_parts(scores, positive, design.weights)
    rare = min(area, 1.0 - area) * min(sizes)
    return Part(value=area, shares=shares, rare=rare, freedom=freedom, exact=design.plain)


def macro_part(parts: list[Part]) -> Part:
    """The plain mean of several estimates of the same rows, such as the areas of one class against the rest."""
    known = [part.freedom for part in parts if part.freedom is not None]
    return Part(
        value=float(np.mean([part.value for part in parts])),
        shares=np.asarray(np.mean([part.shares for part in parts], axis=0)),
        rare=min(part.rare for part in parts),
        freedom=min(known, default=None),
        exact=all(part.exact for part in parts),
    )
