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


def additivity_limits(values: FloatArray, base_values: FloatArray, prediction: FloatArray) -> FloatArray:
    """``(k,)`` largest residual of each output that counts as rounding, in output units.

    ``1e-6`` of the largest output (single precision) plus ``1e-5`` of the largest change explained; where values cancel
    and nothing is left of either, ``1e-12`` of what was summed. Arguments as in :func:`additivity_residuals`.

    >>> ends = np.array([[1.0, 1e-12]]), np.array([[2.0, 2e-12]])
    >>> additivity_limits(np.array([[[1.0, 1e-12]]]), *ends).round(20).tolist()
    [1.2000001e-05, 1.2e-17]
    """
    change = np.abs(prediction - base_values).max(axis=0, initial=0.0)
    return np.asarray(
        RELATIVE_TO_OUTPUT * np.abs(prediction).max(axis=0, initial=0.0)
        + RELATIVE_TO_CHANGE * change
        + RELATIVE_TO_SUM * np.abs(values).sum(axis=1).max(axis=0, initial=0.0)
        + np.finfo(np.float64).tiny
    )


def rounding_of(prediction: FloatArray) -> float:
    """Size of what may be rounding in outputs of this size: ``1e-6`` of the largest."""
    return RELATIVE_TO_OUTPUT * float(np.abs(prediction).max(initial=0.0))


def additivity_residuals(values: FloatArray, base_values: FloatArray, prediction: FloatArray) -> FloatArray:
    """``(k,)`` largest ``|base + sum of values - prediction|`` over the rows, for each output.

    Args:
        values: ``(n, f, k)``.
        base_values: ``(n, k)``.
        prediction: ``(n, k)`` of the user's model on the same rows.
    """
    total = base_values + values.sum(axis=1)
    return np.asarray(np.abs(total - prediction).max(axis=0, initial=0.0))


def checked(attribution: Attribution, background_mean: FloatArray | None = None) -> Attribution:
    """The same attribution with its additivity checked against ``prediction``.

    The residual and its limit enter the diagnostics; a residual above the limit, or values that are not finite, make
    the status ``failed``. ``background_mean (k,)``, when given, is the mean output of the user's model
    over the whole background: base values that differ from it fail too (an engine that used other rows).
    """
    base = attribution.base_values
    if base is None:
        return attribution
    if not (np.isfinite(attribution.values).all() and np.isfinite(base).all()):
        return dataclasses.replace(
            attribution, status="failed", reason="the attributions hold values that are not finite"
        )
    limits = additivity_limits(attribution.values, base, attribution.prediction)
    residuals = additivity_residuals(attribution.values, base, attribution.prediction)
    widest = int(residuals.argmax())
    diagnostics = {
        **attribution.diagnostics,
        "additivity_residual": float(residuals[widest]),
        "additivity_limit": float(limits[widest]),
    }
    status, reason = attribution.status, attribution.reason
    worst = int((residuals / limits).argmax())
    if residuals[worst] > limits[worst]:
        status = "failed"
        gap, limit = residuals[worst], limits[worst]
        reason = f"base value and attributions miss the model's own output by {gap:.3g} (limit {limit:.3g})"
    if background_mean is not None:
        shifts = np.abs(base - background_mean[None, :]).max(axis=0, initial=0.0)
        diagnostics["base_value_shift"] = float(shifts.max(initial=0.0))
        worst = int((shifts / limits).argmax())
        if shifts[worst] > limits[worst] and status != "failed":
            status = "failed"
            off, limit = shifts[worst], limits[worst]
            reason = f"the base value is {off:.3g} off the model's mean over the background (limit {limit:.3g})"
    return dataclasses.replace(attribution, status=status, reason=reason, diagnostics=diagnostics)
