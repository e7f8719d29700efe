"""What LIME on tables is given and gives back, whichever engine does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.attribution import Attribution
from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray

Discretizer = Literal["quartile", "decile", "entropy"]
Selection = Literal["none", "auto", "forward_selection", "highest_weights", "lasso_path"]


def unusable(reference: FloatArray) -> UsageError | None:
    """AK505: why lime cannot sample around a reference table ``(b, f)``; ``None`` where it can."""
    complete = reference[np.isfinite(reference).all(axis=1)]
    if len(complete) == 0:
        return UsageError(
            "AK505",
            "no row of the reference table is complete, so lime has nothing to sample around",
            fix="impute missing values before the model, or pass train= with complete rows",
        )
    if (complete == complete[0]).all():
        rows = "one complete row" if len(complete) == 1 else f"{len(complete):,} complete rows, all alike"
        return UsageError(
            "AK505",
            f"the reference table has {rows}, so lime has nothing to vary",
            fix="pass train= with rows that differ, or use explain.shap, which takes a background of one row",
        )
    return None


@dataclass(frozen=True, kw_only=True)
class LimeTable:
    """What lime perturbs around: the reference table.

    Attributes:
        reference: ``(b, f)`` rows whose bins and frequencies shape the samples; rows with NaN are dropped.
        names: ``(f,)``.
        categorical: Columns that hold category codes.
        discretizer: Describe a continuous feature by whether it lies in the row's own bin: ``quartile`` (lime's
            default), ``decile`` or ``entropy`` (cuts that tell ``labels`` apart); ``None`` describes it by its
            standardised value.
        labels: ``(b,)`` class codes of the reference rows, for ``entropy``.
        whole: Columns that take whole numbers only: the batched engine draws no others for them (lime does).
    """

    reference: FloatArray
    names: tuple[str, ...]
    categorical: tuple[int, ...] = ()
    discretizer: Discretizer | None = "quartile"
    labels: IntArray | None = None
    whole: tuple[int, ...] = ()

    def complete(self) -> tuple[FloatArray, IntArray | None, int]:
        """The reference rows without a missing value, their labels, and how many were dropped.

        Raises:
            UsageError: AK505 no row is complete, or all are alike; AK476 ``entropy`` without labels.
        """
        whole = np.isfinite(self.reference).all(axis=1)
        why = unusable(self.reference)
        if why is not None:
            raise why
        if self.discretizer == "entropy" and self.labels is None:
            raise UsageError(
                "AK476",
                "entropy bins are cut where the labels change, and there are no class labels",
                fix='use discretizer = "quartile" or "decile"',
            )
        labels = None if self.labels is None else self.labels[whole]
        return self.reference[whole], labels, int((~whole).sum())


@dataclass(frozen=True, kw_only=True)
class LimeResult:
    """Explanations of the rows that could be explained.

    Attributes:
        rows: Positions of the explained rows in what was given; the others hold a missing value.
        weights: ``(m, f)`` surrogate weights, 0 for features not selected or untold; for a continuous feature the
            effect of being in the row's bin, or of one standard deviation where there are no bins.
        untold: ``(m, f)`` features in which all samples of a row are alike to the surrogate, so that they say nothing
            of it: a column of one value, or a bin or category of the row that no sample lies in.
        intercepts: ``(m,)`` of the surrogates.
        r2: ``(m,)`` weighted R2 of each surrogate on its own samples; NaN where there is nothing to fit: the model's
            output is constant there, or every feature is untold.
        outputs: ``(m,)`` the model's own output on each row.
        skipped: Rows left out for a missing value.
        reference_dropped: Reference rows left out for a missing value.
        n_evals: Model evaluations in all.
        engine: ``batched`` or ``lime``.
    """

    rows: IntArray
    weights: FloatArray
    untold: npt.NDArray[np.bool_]
    intercepts: FloatArray
    r2: FloatArray
    outputs: FloatArray
    skipped: int
    reference_dropped: int
    n_evals: int
    engine: str

    def attribution(self, names: tuple[str, ...], output_space: str, seed: int) -> Attribution:
        """The weights as an :class:`Attribution`, ``unverified``: surrogate weights have no sum to check."""
        finite = self.r2[np.isfinite(self.r2)]
        return Attribution(
            values=self.weights[:, :, None],
            prediction=self.outputs[:, None],
            method=f"lime.{self.engine}",
            output_space=output_space,
            output_names=("target",),
            feature_names=names,
            status="unverified",
            reason="the weights of a local surrogate have no sum that could be compared with the model's output",
            seed=seed,
            n_evals=self.n_evals,
            masker="values drawn feature by feature from the reference table",
            diagnostics={"mean_r2": float(finite.mean())} if len(finite) else {},
        )


def checked_samples(samples: int) -> None:
    """Refuse a number of samples that cannot carry a fit.

    Raises:
        UsageError: AK505.
    """
    if samples < 10:
        raise UsageError("AK505", f"lime needs at least 10 samples a row, got {samples}", fix="raise samples")
