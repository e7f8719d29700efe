"""Local linear surrogates through lime's tabular explainer, with the guards that it lacks.

Rows with a missing value are skipped and counted, a row's answer depends on the seed and the row alone,
and every explanation carries the weighted R2 of its surrogate. This is the one module that imports lime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.quiet import quiet


@dataclass(frozen=True, kw_only=True)
class LimeTable:
    """What lime perturbs around: the reference table.

    Attributes:
        reference: ``(b, f)`` rows whose quartiles and frequencies shape the samples; rows with NaN are dropped.
        names: ``(f,)``.
        categorical: Columns that hold category codes.
        discretize: Describe a continuous feature by whether it lies in the row's quartile (lime's default), rather
            than by its standardised value.
    """

    reference: FloatArray
    names: tuple[str, ...]
    categorical: tuple[int, ...] = ()
    discretize: bool = True


@dataclass(frozen=True, kw_only=True)
class LimeResult:
    """Explanations of the rows that could be explained.

    Attributes:
        rows: Positions of the explained rows in what was given; the others hold a missing value.
        weights: ``(m, f)`` surrogate weights; for a continuous feature the effect of being in the row's quartile, or
            of one standard deviation where ``discretize`` is off.
        r2: ``(m,)`` weighted R2 of each surrogate on its own samples.
        skipped: Rows left out for a missing value.
        reference_dropped: Reference rows left out for a missing value.
    """

    rows: IntArray
    weights: FloatArray
    r2: FloatArray
    skipped: int
    reference_dropped: int
    n_evals: int


def lime_explanations(
    predict: Callable[[FloatArray], FloatArray],
    rows: FloatArray,
    table: LimeTable,
    *,
    samples: int = 1000,
    seed: int = 0,
    targets: Sequence[int] | None = None,
) -> LimeResult:
    """LIME weights of one output a row, over all features.

    Args:
        predict: Matrix ``(m, f)`` -> outputs ``(m, k)``.
        rows: ``(n, f)`` rows to explain; NaN rows are skipped.
        table: The reference table.
        samples: Perturbed rows a row (model evaluations a row), at least 10.
        seed: The same seed gives the same bits, whatever was explained before.
        targets: ``(n,)`` which output column is explained for each row; column 0 when ``None``.

    Raises:
        UsageError: AK505 when no reference row is complete, or ``samples`` is too small.

    Source: Ribeiro, Singh and Guestrin (2016), algorithm 1.
    """
    complete = np.isfinite(table.reference).all(axis=1)
    reference = table.reference[complete]
    if len(reference) == 0:
        raise UsageError(
            "AK505",
            "no row of the reference table is complete, so lime has nothing to sample around",
            fix="impute missing values before the model, or pass train= with complete rows",
        )
    if samples < 10:
        raise UsageError("AK505", f"lime needs at least 10 samples a row, got {samples}", fix="raise samples")
    usable = np.flatnonzero(np.isfinite(rows).all(axis=1)).astype(np.int64)
    weights = np.zeros((len(usable), rows.shape[1]))
    r2 = np.zeros(len(usable))
    explainer = _explainer(reference, table)
    for position, row in enumerate(usable):
        column = 0 if targets is None else int(targets[int(row)])
        with quiet(seed=0):
            _reseed(explainer, np.random.SeedSequence([seed, int(row)]))
            explanation = explainer.explain_instance(
                rows[row],
                lambda matrix, column=column: _column(predict, matrix, column),
                num_features=rows.shape[1],
                num_samples=samples,
            )
        for feature, weight in explanation.local_exp[1]:
            weights[position, int(feature)] = float(weight)
        r2[position] = float(explanation.score)
    return LimeResult(
        rows=usable,
        weights=weights,
        r2=r2,
        skipped=len(rows) - len(usable),
        reference_dropped=int((~complete).sum()),
        n_evals=samples * len(usable),
    )


def top_overlap(first: FloatArray, second: FloatArray, k: int = 5) -> FloatArray:
    """Share ``(n,)`` of the ``k`` features largest in absolute weight that two explanations of a row have in common.

    >>> top_overlap(np.array([[3.0, 2.0, 0.0]]), np.array([[3.0, 0.0, 2.0]]), k=2).tolist()
    [0.5]
    """
    k = min(k, first.shape[1])
    tops = [np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :k] for weights in (first, second)]
    shared = (tops[0][:, :, None] == tops[1][:, None, :]).any(axis=2)
    return np.asarray(shared.mean(axis=1), dtype=np.float64)


def _column(predict: Callable[[FloatArray], FloatArray], matrix: FloatArray, column: int) -> FloatArray:
    outputs = np.asarray(predict(np.asarray(matrix, dtype=np.float64)), dtype=np.float64)
    return outputs if outputs.ndim == 1 else outputs[:, column]


def _explainer(reference: FloatArray, table: LimeTable) -> Any:
    """An explainer in regression mode: it then explains any score, and does not insist that rows sum to one."""
    with quiet(seed=0):
        from lime.lime_tabular import LimeTabularExplainer

        return LimeTabularExplainer(
            reference,
            mode="regression",
            feature_names=list(table.names),
            categorical_features=list(table.categorical),
            discretize_continuous=table.discretize,
            feature_selection="none",
            random_state=0,
        )


def _reseed(explainer: Any, sequence: np.random.SeedSequence) -> None:
    """Start lime's three generators from the row's own seed: its answers then do not depend on earlier calls."""
    state = np.random.RandomState(np.random.MT19937(sequence))  # the kind that lime takes
    explainer.random_state = state
    explainer.base.random_state = state
    if explainer.discretizer is not None:
        explainer.discretizer.random_state = state
