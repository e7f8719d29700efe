"""LIME on tables in batches: lime's law of samples, kernel, feature selection and ridge, without its loops.

lime draws the perturbed rows from the reference table, wherever the explained row lies; only the coding ("in the row's
own bin") and the kernel depend on the row. One set of samples, seen by the model once, can therefore serve every row:
each explanation has the very law that lime gives it, and its neighbours share the noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from auditkit.core.subject import FloatArray
from auditkit.methods.explain.lime_sampling import Column, draw, make_columns
from auditkit.methods.explain.lime_table import LimeResult, LimeTable, Selection, checked_samples
from auditkit.methods.explain.local_surrogate import Surrogate, fit_surrogate

KERNEL_WIDTH = 0.75  # times the square root of the number of features, as in lime


def batched_lime(  # noqa: PLR0913 - one keyword for each choice that lime offers
    predict: Callable[[FloatArray], FloatArray],
    rows: FloatArray,
    table: LimeTable,
    *,
    samples: int = 5000,
    seed: int = 0,
    targets: Sequence[int] | None = None,
    shared: bool = True,
    selection: Selection = "none",
    features: int | None = None,
) -> LimeResult:
    """LIME weights of one output a row.

    Args:
        predict: Matrix ``(m, f)`` -> outputs ``(m, k)`` or ``(m,)``.
        rows: ``(n, f)`` rows to explain; NaN rows are skipped.
        table: The reference table.
        samples: Perturbed rows behind an explanation, the row itself among them; at least 10.
        seed: The same seed gives the same bits, whatever else is explained.
        targets: ``(n,)`` which output column is explained for each row; column 0 when ``None``.
        shared: One set of samples for all rows (``samples + n`` model evaluations), rather than one for each
            (``samples * n``).
        selection: See :func:`auditkit.methods.explain.local_surrogate.fit_surrogate`.
        features: Features selected; all when ``None``.

    Raises:
        UsageError: AK505 when no reference row is complete, all are alike, or ``samples`` is too small; AK476, AK477.

    Source: Ribeiro, Singh and Guestrin (2016), algorithm 1.

    >>> table = LimeTable(reference=np.arange(8.0)[:, None], names=("x",), discretizer=None)
    >>> result = batched_lime(lambda m: 2.0 * m, np.array([[3.0]]), table, samples=500)
    >>> abs(float(result.weights[0, 0]) - 2.0 * np.arange(8.0).std()) < 0.05
    True
    """
    checked_samples(samples)
    reference, labels, dropped = table.complete()
    columns = make_columns(table, reference, labels)
    usable = np.flatnonzero(np.isfinite(rows).all(axis=1)).astype(np.int64)
    chosen = np.zeros(len(usable), dtype=np.int64) if targets is None else np.asarray(targets, dtype=np.int64)[usable]
    own = _two_dimensional(predict(rows[usable])) if len(usable) else np.zeros((0, 1))
    drawn = outputs = np.zeros((0, 0))
    if shared and len(usable):
        values, drawn = draw(columns, samples - 1, np.random.default_rng([seed]))
        outputs = _two_dimensional(predict(values))
    fits, untold = [], []
    for place, row in enumerate(usable):
        if not shared:
            values, drawn = draw(columns, samples - 1, np.random.default_rng([seed, int(row)]))
            outputs = _two_dimensional(predict(values))
        column = chosen[place]
        labelled = np.concatenate([own[place, [column]], outputs[:, column]])
        data = surrogate_data(columns, rows[row], drawn)
        untold.append(untold_columns(data))
        fits.append(explain_samples(data, labelled, selection=selection, features=features, untold=untold[-1]))
    return LimeResult(
        rows=usable,
        weights=np.array([fit.weights for fit in fits]).reshape(len(usable), rows.shape[1]),
        untold=np.array(untold, dtype=np.bool_).reshape(len(usable), rows.shape[1]),
        intercepts=np.array([fit.intercept for fit in fits]),
        r2=np.array([fit.r2 for fit in fits]),
        outputs=own[np.arange(len(usable)), chosen],
        skipped=len(rows) - len(usable),
        reference_dropped=dropped,
        n_evals=len(usable) + (samples - 1) * (1 if shared and len(usable) else len(usable)),
        engine="batched",
    )


def untold_columns(data: FloatArray) -> npt.NDArray[np.bool_]:
    """Columns ``(f,)`` of what the surrogate sees ``(m, f)`` in which all samples are alike; the first row is none.

    The row alone would tell such a column's weight: half of what the others leave of its output, shared by all such.
    """
    return np.asarray((data[1:] == data[1]).all(axis=0))


def explain_samples(
    data: FloatArray,
    outputs: FloatArray,
    *,
    selection: Selection = "none",
    features: int | None = None,
    untold: npt.NDArray[np.bool_] | None = None,
) -> Surrogate:
    """The surrogate of samples ``data (m, f)`` whose first row is the row explained, weighted by lime's kernel.

    Columns ``untold (f,)`` have no weight and make no sample farther from the row; with no other the fit is NaN. A row
    that differs from all samples there counts for nothing: what it owes to that would fall to the other columns.
    """
    told = np.ones(data.shape[1], dtype=np.bool_) if untold is None else ~untold
    found = np.zeros(data.shape[1])
    if not told.any():
        return Surrogate(weights=found, intercept=float(outputs.mean()), r2=float("nan"))
    seen = data if told.all() else data[:, told]
    width = KERNEL_WIDTH * np.sqrt(data.shape[1])
    weights = np.sqrt(np.exp(-np.einsum("ij,ij->i", seen - seen[0], seen - seen[0]) / width**2))
    weights[0] = float((data[0] == data[1])[~told].all())
    count = data.shape[1] if features is None else features
    fit = fit_surrogate(seen, outputs, weights, selection=selection, features=count)
    found[told] = fit.weights
    return dataclasses.replace(fit, weights=found)


def surrogate_data(columns: tuple[Column, ...], row: FloatArray, coded: FloatArray) -> FloatArray:
    """What the surrogate sees ``(m + 1, f)``: 1 where a sample lies in the row's own bin or category, else 0;
    standardised values for continuous features without bins. The first row is the row itself."""
    data = np.empty((len(coded) + 1, len(columns)))
    counted = np.array([column.counted for column in columns])
    first = np.array([float(column.coded(row[[place]])[0]) for place, column in enumerate(columns)])
    if counted.all():
        np.equal(coded, first, out=data[1:], casting="unsafe")
        data[0] = 1.0
        return data
    mean = np.array([0.0 if column.counted else column.mean[0] for column in columns])
    scale = np.array([1.0 if column.counted else column.std[0] for column in columns])
    data[1:] = np.where(counted, coded == first, coded)
    data[0] = np.where(counted, 1.0, (row - mean) / scale)
    return data


def _two_dimensional(outputs: FloatArray) -> FloatArray:
    outputs = np.asarray(outputs, dtype=np.float64)
    return outputs[:, None] if outputs.ndim == 1 else outputs
