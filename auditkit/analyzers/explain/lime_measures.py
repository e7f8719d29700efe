"""How well LIME's surrogates fit, and whether seeds agree: the same two measurements for tables, texts and images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.explain.explained import LEVEL, TOO_FEW
from auditkit.core.analyzer import Note, Produced, first_of
from auditkit.core.evidence import Measurement, Scalar
from auditkit.core.subject import Dataset, FloatArray
from auditkit.methods.explain.agreement import top_overlap
from auditkit.stats.bounded import bounded_mean
from auditkit.stats.intervals import mean_interval

TOP = 5
UNTOLD = "the perturbed rows are all alike there, or none lies in the bin or category of the row"


def untold(result: npt.NDArray[np.bool_], names: Sequence[str]) -> Iterator[Note]:
    """What the samples of a table could not tell ``(m, f)``: whole rows, whole columns, and single values."""
    apart = np.asarray(result.all(axis=1))
    if apart.any():
        yield Note(
            f"{int(apart.sum())} of {len(apart):,} rows were left out: none of their values lies in a bin or category "
            "that varies over the perturbed rows."
        )
    kept = result[~apart]
    shares = kept.mean(axis=0) if len(kept) else np.zeros(len(names))
    for words, chosen in (("No weight", shares == 1.0), ("In some rows no weight", (shares > 0.0) & (shares < 1.0))):
        found = [name for name, one in zip(names, chosen, strict=True) if one]
        if found:
            yield Note(f"{words} for {first_of(found)}: {UNTOLD}.")


def fidelity(r2: FloatArray, data: Dataset, identity: Mapping[str, Scalar]) -> Iterator[Produced]:
    """Mean weighted R2 over the rows ``data`` explained; rows whose output never changes have none and are told."""
    fitted = np.flatnonzero(np.isfinite(r2)).astype(np.int64)
    if len(fitted) < len(r2):
        yield Note(
            f"{len(r2) - len(fitted)} of {len(r2)} rows have no fit: the model gives the same output to all samples."
        )
    value, interval = None, None
    if len(fitted):
        some = data.take(fitted)
        value, interval = mean_interval(r2[fitted], some.weights, some.clusters)
    if interval is not None:
        interval = dataclasses.replace(interval, high=min(interval.high, 1.0))
    reason = None if interval else TOO_FEW
    if value is None:
        reason = "the model gives the same output to all samples, so there is nothing to fit"
    yield Measurement(
        name="explain.local_fidelity_r2",
        value=value,
        n=len(fitted),
        interval=interval,
        params=identity,
        direction="higher",
        bounds=(None, 1.0),
        reason=reason,
    )


def stability(
    weights: Sequence[Sequence[FloatArray]], data: Dataset, identity: Mapping[str, Scalar], what: str
) -> Measurement:
    """Mean overlap of the five largest weights over all pairs of seeds.

    The interval is that of a mean of values in [0, 1] over rows, or clusters.

    Args:
        weights: One sequence a seed, of one array of weights a row; arrays of five or fewer are left out, and those
            that are zero.
        data: The rows.
        identity: Parameters of the measurement.
        what: What is ranked: ``features``, ``words`` or ``segments``.
    """
    rows = np.array([place for place, row in enumerate(weights[0]) if len(row) > TOP], dtype=np.int64)
    value, interval, reason = None, None, None
    if len(rows) == 0:
        reason = f"no row has more than {TOP} {what}: the largest are always the same"
    elif len(weights) < 2:
        reason = "one seed has nothing to agree with"
    else:
        overlaps = np.array([_pairwise([seed[row] for seed in weights]) for row in rows])
        rows, overlaps = rows[np.isfinite(overlaps)], overlaps[np.isfinite(overlaps)]
        reason = None if len(rows) else "every weight is zero: the model gives the same output to all samples"
        if len(rows):
            some = data.take(rows)
            found = bounded_mean(overlaps, some.weights, some.clusters)
            value, interval = found.value, found.interval(LEVEL)
            reason = None if interval else TOO_FEW
    return Measurement(
        name="explain.stability_top5_overlap",
        value=value,
        n=len(rows),
        interval=interval,
        params=identity,
        direction="higher",
        bounds=(0.0, 1.0),
        reason=reason,
    )


def _pairwise(weights: Sequence[FloatArray]) -> float:
    """Mean overlap over all pairs of seeds; NaN where two of them give no weight to anything."""
    pairs = [float(top_overlap(a[None, :], b[None, :], TOP)[0]) for a, b in combinations(weights, 2)]
    return float(np.mean(pairs))
