"""The proof that additive attributions carry: they must sum to the outputs of the user's own model."""

from __future__ import annotations

import dataclasses

import numpy as np

from auditkit.core.attribution import Attribution
from auditkit.core.subject import FloatArray

# Single precision carries about 1e-7 of the output's size through a forward pass.
RELATIVE_TO_OUTPUT = 1e-6
RELATIVE_TO_CHANGE = 1e-5
RELATIVE_TO_SUM = 1e-12


def own_or_usual(amounts: FloatArray) -> FloatArray:
    """Each amount ``(n, ...)``, or the median over the rows where that is larger: one huge row widens no other's limit.

    >>> own_or_usual(np.array([0.0, 1.0, 2.0, 3.0, 1e9])).tolist()
    [2.0, 2.0, 2.0, 3.0, 1000000000.0]
    """
    finite = np.isfinite(amounts).reshape(len(amounts), -1).all(axis=1)
    return np.maximum(amounts, np.median(amounts[finite], axis=0)) if finite.any() else amounts


def additivity_limits(values: FloatArray, base_values: FloatArray, prediction: FloatArray) -> FloatArray:
    """``(n, k)`` the residual of each row and output that counts as rounding, in output units.

    ``1e-6`` of the output (single precision) plus ``1e-5`` of the change explained, a row's own or
    the median; where values cancel and nothing is left of either, ``1e-12`` of what was summed. Arguments as in
    :func:`additivity_residuals`.

    >>> ends = np.array([[1.0, 1e-12]]), np.array([[2.0, 2e-12]])
    >>> additivity_limits(np.array([[[1.0, 1e-12]]]), *ends).round(20).tolist()
    [[1.2000001e-05, 1.2e-17]]
    """
    return np.asarray(
        RELATIVE_TO_OUTPUT * own_or_usual(np.abs(prediction))
        + RELATIVE_TO_CHANGE * own_or_usual(np.abs(prediction - base_values))
        + RELATIVE_TO_SUM * own_or_usual(np.abs(values).sum(axis=1))
        + np.finfo(np.float64).tiny
    )


def rounding_of(prediction: FloatArray) -> float:
    """Size of what may be rounding in outputs of this size: ``1e-6`` of the largest."""
    return RELATIVE_TO_OUTPUT * float(np.abs(prediction).max(initial=0.0))


def additivity_residuals(values: FloatArray, base_values: FloatArray, prediction: FloatArray) -> FloatArray:
    """``(n, k)``: ``|base + sum of values - prediction|`` of each row and output.

    Args:
        values: ``(n, f, k)``.
        base_values: ``(n, k)``.
        prediction: ``(n, k)`` of the user's model on the same rows.
    """
    total = base_values + values.sum(axis=1)
    return np.asarray(np.abs(total - prediction))


def checked(attribution: Attribution, background_mean: FloatArray | None = None) -> Attribution:
    """The same attribution with its additivity checked against ``prediction``.

    The largest residual and the limit of its row enter the diagnostics; a residual above its row's limit, or values or
    outputs that are not finite, make the status ``failed``. ``background_mean (k,)``, when given, is the mean output of
    the user's model over the whole background: base values that differ from it fail too (an engine that used others).
    """
    base = attribution.base_values
    if base is None:
        return attribution
    if not np.isfinite(attribution.prediction).all():
        return dataclasses.replace(attribution, status="failed", reason="the model gave outputs that are not finite")
    if not (np.isfinite(attribution.values).all() and np.isfinite(base).all()):
        return dataclasses.replace(
            attribution, status="failed", reason="the attributions hold values that are not finite"
        )
    limits = additivity_limits(attribution.values, base, attribution.prediction)
    residuals = additivity_residuals(attribution.values, base, attribution.prediction)
    widest = _place(residuals)
    diagnostics = {
        **attribution.diagnostics,
        "additivity_residual": float(residuals[widest]),
        "additivity_limit": float(limits[widest]),
    }
    status, reason = attribution.status, attribution.reason
    worst = _place(residuals / limits)
    if residuals[worst] > limits[worst]:
        status = "failed"
        gap, limit = residuals[worst], limits[worst]
        reason = f"base value and attributions miss the model's own output by {gap:.3g} (limit {limit:.3g})"
    if background_mean is not None:
        shifts = np.abs(base - background_mean[None, :])
        diagnostics["base_value_shift"] = float(shifts.max())
        worst = _place(shifts / limits)
        if shifts[worst] > limits[worst] and status != "failed":
            status = "failed"
            off, limit = shifts[worst], limits[worst]
            reason = f"the base value is {off:.3g} off the model's mean over the background (limit {limit:.3g})"
    return dataclasses.replace(attribution, status=status, reason=reason, diagnostics=diagnostics)


def _place(found: FloatArray) -> tuple[int, ...]:
    """Row and output of the largest."""
    return tuple(int(i) for i in np.unravel_index(found.argmax(), found.shape))
