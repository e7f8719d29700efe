"""Expected calibration error in equal-mass bins, corrected for its bias, with an interval that holds at zero."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.coding import rows_of_codes
from auditkit.stats.estimate import Estimate, undefined
from auditkit.stats.intervals import kish_n, z_value
from auditkit.stats.linearised import PLAIN, Design, cluster_sums, proportion, variance_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_HALF_NORMAL_MEAN = math.sqrt(2.0 / math.pi)
_HALF_NORMAL_SKEW = 0.9952717464311567


@dataclass(frozen=True, slots=True)
class Bins:
    """Rows binned by confidence.

    ``code (n,)`` is each row's bin; the other arrays are ``(b,)``: rows, share of the mass, mean confidence,
    observed rate, and the standard error of their gap.
    """

    code: IntArray
    n: IntArray
    share: FloatArray
    confidence: FloatArray
    observed: FloatArray
    error: FloatArray


def equal_mass_bins(confidence: FloatArray, bins: int) -> IntArray:
    """Bin codes ``(n,)``, 0 .. at most ``bins - 1``, with about as many rows each; equal values share a bin.

    >>> equal_mass_bins(np.array([0.1, 0.2, 0.3, 0.4]), 2).tolist()
    [0, 0, 1, 1]
    """
    edges = np.unique(np.quantile(confidence, np.arange(1, bins) / bins, method="inverted_cdf"))
    codes = np.searchsorted(edges, confidence, side="left")
    filled = np.bincount(codes) > 0
    return np.asarray((np.cumsum(filled) - 1)[codes], dtype=np.int64)


def bin_rows(
    confidence: FloatArray, hit: BoolArray, design: Design = PLAIN, *, bins: int = 15, min_rows: int = 20
) -> Bins:
    """Rows in equal-mass bins with the standard error of each bin's gap.

    Args:
        confidence: ``(n,)`` stated probabilities.
        hit: ``(n,)`` whether what was stated came true.
        design: Weights and clusters.
        bins: Most bins.
        min_rows: Fewest rows a bin should have; fewer bins are made when rows are few.
    """
    n = len(confidence)
    code = equal_mass_bins(confidence, max(1, min(bins, n // min_rows)))
    b = int(code.max()) + 1
    w = design.masses(n)
    mass = np.bincount(code, weights=w, minlength=b)
    stated = np.bincount(code, weights=w * confidence, minlength=b) / mass
    seen = np.bincount(code, weights=w * hit, minlength=b) / mass
    # The spread of a bin's outcomes is at least what its own probabilities promise: an all-hit bin is no proof.
    promised = np.bincount(code, weights=w * confidence * (1.0 - confidence), minlength=b) / mass
    residual = w * (hit - confidence - (seen - stated)[code]) / mass[code]
    error = np.empty(b)
    for bin_, rows in enumerate(rows_of_codes(code, b)):
        part = design.take(rows)
        spread, _ = variance_of(residual[rows], part.clusters)
        units = kish_n(cluster_sums(w[rows], part.clusters))
        error[bin_] = math.sqrt(max(spread, promised[bin_] / units))
    return Bins(code, np.bincount(code, minlength=b).astype(np.int64), mass / mass.sum(), stated, seen, error)


def expected_calibration_error(
    confidence: FloatArray, hit: BoolArray, design: Design = PLAIN, *, bins: int = 15, min_rows: int = 20
) -> Estimate:
    """Mean absolute gap between stated and observed rates over equal-mass bins, less its bias; never below 0.

    The plug-in sum ``T = sum_b share_b |gap_b|`` is above 0 even for a calibrated model. Its bias is estimated
    from normal gaps and taken off. The interval is for the population's gaps in these bins, and holds at 0:

    * above: with ``s`` the true signs of the gaps, the truth is ``sum share s gap``, and the same sum over the
      observed gaps is at most ``T``; so the upper limit is ``T + z * se`` of such a signed sum;
    * below: ``|T - truth| <= sum share |error|``, so the lower limit is ``T`` less the upper quantile of a weighted sum
      of half-normals (Cornish-Fisher).

    Clustered rows tie the bins together: their errors are then added, not pooled.

    Source: Kumar, Liang and Ma (2019), NeurIPS, for the correction; Nixon et al. (2019) for equal-mass bins.
    """
    if len(confidence) == 0:
        return undefined("no rows")
    binned = bin_rows(confidence, hit, design, bins=bins, min_rows=min_rows)
    gaps, errors = binned.observed - binned.confidence, binned.error
    plug_in = float((binned.share * np.abs(gaps)).sum())
    value = max(plug_in - float((binned.share * (_folded_mean(gaps, errors) - np.abs(gaps))).sum()), 0.0)
    spread = binned.share * errors
    joint = float(spread.sum()) if design.clusters is not None else math.sqrt(float((spread**2).sum()))
    method = "triangle-normal" if design.clusters is None else "triangle-normal-clustered"

    def bounds(level: float) -> Interval:
        z = z_value(level)
        high = min(max(plug_in + z * joint, value), 1.0)
        low = min(max(plug_in - _noise_quantile(spread, z, design.clusters is not None), 0.0), value)
        return Interval(low=low, high=high, level=level, method=method)

    return Estimate(min(value, 1.0), len(confidence), bounds)


def plug_in_calibration_error(binned: Bins) -> float:
    """The uncorrected sum, as other tools report it."""
    return float((binned.share * np.abs(binned.observed - binned.confidence)).sum())


def observed_rates(binned: Bins, hit: BoolArray, design: Design = PLAIN) -> tuple[Estimate, ...]:
    """The observed rate of each bin with its exact interval."""
    found = []
    for rows in rows_of_codes(binned.code, len(binned.n)):
        part = design.take(rows)
        found.append(proportion(hit[rows], part.weights, part.clusters))
    return tuple(found)


def _folded_mean(center: FloatArray, error: FloatArray) -> FloatArray:
    """``E|N(center, error^2)|``."""
    normal = NormalDist()
    found = np.abs(center)
    for i in np.flatnonzero(error > 0.0):
        ratio = float(center[i] / error[i])
        tail = normal.cdf(-abs(ratio))
        found[i] = error[i] * _HALF_NORMAL_MEAN * math.exp(-0.5 * ratio * ratio) + abs(center[i]) * (1.0 - 2.0 * tail)
    return found


def _noise_quantile(spread: FloatArray, z: float, tied: bool) -> float:
    """Upper quantile at normal deviate ``z`` of ``sum spread |Z|`` with independent (or equal) ``Z``."""
    if tied or len(spread) == 1:
        upper = NormalDist().cdf(z)
        return float(spread.sum()) * NormalDist().inv_cdf(0.5 + upper / 2.0)
    center = _HALF_NORMAL_MEAN * float(spread.sum())
    square = float((spread**2).sum())
    if square <= 0.0:
        return 0.0
    sd = math.sqrt((1.0 - _HALF_NORMAL_MEAN**2) * square)
    skew = _HALF_NORMAL_SKEW * float((spread**3).sum()) / (square * math.sqrt(square))
    return center + sd * (z + (z * z - 1.0) * skew / 6.0)
