"""R2, mean absolute error, root mean squared error and pinball loss, each with an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from auditkit.stats.estimate import Estimate
from auditkit.stats.linearised import PLAIN, Design, mean
from auditkit.stats.residuals import mean_absolute_error, r2, root_mean_squared_error

__all__ = ["mean_absolute_error", "pinball_loss", "r2", "root_mean_squared_error"]

FloatArray = npt.NDArray[np.float64]


def pinball_loss(y: FloatArray, predicted: FloatArray, quantile: float, design: Design = PLAIN) -> Estimate:
    """Mean of ``quantile * max(y - p, 0) + (1 - quantile) * max(p - y, 0)``; Student-t interval.

    Source: Koenker and Bassett (1978).

    >>> pinball_loss(np.array([1.0]), np.array([3.0]), 0.1).value
    1.8
    """
    gap = y - predicted
    return mean(np.maximum(quantile * gap, (quantile - 1.0) * gap), design.weights, design.clusters, least=0.0)
