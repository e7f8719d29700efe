"""Control variates: a game with known Shapley values that moves with the one that is sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from auditkit.core.subject import FloatArray
from auditkit.methods.explain.plans import Estimate, Known, Plan


@dataclass(frozen=True, kw_only=True)
class Control:
    """A game whose outputs follow from those of the game that is sampled, and whose Shapley values are known.

    Attributes:
        of: Outputs ``(m, k)`` of the game sampled -> those of this game on the same mixtures.
        values: ``(n, players, k)`` its exact values at the rows explained.
    """

    of: Callable[[FloatArray], FloatArray] = field(repr=False)
    values: FloatArray


def steadied(plan: Plan, outputs: FloatArray, known: Known, control: Control, values: FloatArray) -> Estimate:
    """What ``plan`` finds for one row, with its control's part taken from the known ``values (players, k)``.

    Shapley values are linear in the game: those of ``game - slope * control`` are estimated, which varies less, and
    ``slope`` times the known ones added. The slope is that of the game on its control from each background row to the
    row explained; no draw decides it, so an unbiased estimate stays one and its standard error holds. Where the control
    is not finite somewhere, the plan does without.

    Source: Owen, Monte Carlo theory, methods and examples (2013), section 8.9.
    """
    empty, full, asked = control.of(known.empty), control.of(known.full[None, :])[0], control.of(outputs)
    if not (np.isfinite(empty).all() and np.isfinite(full).all() and np.isfinite(asked).all()):
        return plan.finish(outputs, known)
    slope = _slope(full - empty, known.full - known.empty)
    rest = Known(empty=known.empty - slope * empty, full=known.full - slope * full)
    found = plan.finish(outputs - slope * asked, rest)
    return Estimate(values=found.values + slope * values, error=found.error)


def _slope(moved: FloatArray, gained: FloatArray) -> FloatArray:
    """``(k,)`` least squares through the origin of ``gained (b, k)`` on ``moved (b, k)``; 0 where nothing moves."""
    size = (moved**2).sum(axis=0)
    return np.asarray((moved * gained).sum(axis=0) / np.where(size > 0.0, size, np.inf))
