"""Self-checks that stand beside a robustness number: signs that an attack was too weak to mean anything."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.methods.robustness.feasible import BoolArray, FloatArray

IntArray = npt.NDArray[np.int64]

# A gradient that is exactly zero everywhere points nowhere; honest networks have next to none.
ZERO_GRADIENT_LIMIT = 0.05
# Cross-entropy and margin losses agree closely on honest models; a wide gap is a sign of scaled logits.
LOSS_GAP_LIMIT = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: what was seen, what was allowed, and what a failure means."""

    name: str
    passed: bool
    observed: float
    limit: float
    meaning: str


def tolerance(n: int, share: float = 0.02) -> float:
    """Share of rows by which two attacks may differ by luck: ``share``, and never less than one row and a half.

    >>> tolerance(1000), tolerance(30)
    (0.02, 0.05)
    """
    return max(share, 1.5 / n) if n else 1.0


def clean_agrees(cached: FloatArray, fresh: FloatArray) -> Check:
    """The clean rows, taken through the attack's own encoding, are decided as the user's model decided them."""
    differing = float((cached != fresh).mean()) if len(cached) else 0.0
    return Check(
        name="clean decisions agree",
        passed=differing == 0.0,
        observed=differing,
        limit=0.0,
        meaning="the attacked rows are decided otherwise than the audited rows before any change",
    )


def deterministic(first: FloatArray, second: FloatArray) -> Check:
    """Two passes over the same rows give the same scores, up to rounding."""
    if not len(first):
        return Check(name="deterministic model", passed=True, observed=0.0, limit=0.0, meaning="no rows")
    size = float(np.abs(first).max())
    gap = float(np.abs(first - second).max())
    limit = 1e-4 * max(size, 1e-6)
    return Check(
        name="deterministic model",
        passed=gap <= limit,
        observed=gap,
        limit=limit,
        meaning="the model answers differently each time, so that a fooled row may be luck",
    )


def moved(share: float) -> Check:
    """The attack changed at least one row."""
    return Check(
        name="attack moved",
        passed=share > 0.0,
        observed=share,
        limit=0.0,
        meaning="the attack left every row where it was; that none was fooled says nothing",
    )


def inside(violations: int) -> Check:
    """Every point lies within eps, bounds and kinds."""
    return Check(
        name="within eps, bounds and kinds",
        passed=violations == 0,
        observed=float(violations),
        limit=0.0,
        meaning="some points are not feasible",
    )


def gradients_alive(share: float | None) -> Check:
    """Few input gradients are exactly zero."""
    return Check(
        name="gradients are not zero",
        passed=share is None or share <= ZERO_GRADIENT_LIMIT,
        observed=share or 0.0,
        limit=ZERO_GRADIENT_LIMIT,
        meaning="gradients vanish (saturated, detached or quantised), so that a gradient attack is blind",
    )


def logits_decide(largest: IntArray, decisions: IntArray) -> Check:
    """The largest logit is the model's decision: an attack stops at rows that the logits give up already."""
    differing = float((largest != decisions).mean()) if len(decisions) else 0.0
    return Check(
        name="largest logit is the decision",
        passed=differing == 0.0,
        observed=differing,
        limit=0.0,
        meaning="the model decides by more than its logits, so that rows which their logits give up are not attacked",
    )


def monotone(accuracy: Mapping[float, float], n: int) -> Check:
    """Accuracy does not rise with eps by more than luck."""
    ordered = [accuracy[eps] for eps in sorted(accuracy)]
    rise = max((later - earlier for earlier, later in itertools.pairwise(ordered)), default=0.0)
    return Check(
        name="accuracy falls with eps",
        passed=rise <= tolerance(n),
        observed=max(rise, 0.0),
        limit=tolerance(n),
        meaning="a larger budget found less, so the search is not finding what is there",
    )


def never_beaten(name: str, attack: Sequence[BoolArray], rival: Sequence[BoolArray], meaning: str) -> Check:
    """A weaker rival never fools more rows than the attack, at any eps, beyond luck."""
    gaps = [float(r.mean() - a.mean()) for a, r in zip(attack, rival, strict=True) if len(a)]
    n = min((len(a) for a in attack), default=0)
    worst = max(gaps, default=0.0)
    return Check(name=name, passed=worst <= tolerance(n), observed=max(worst, 0.0), limit=tolerance(n), meaning=meaning)


def losses_agree(cross_entropy: BoolArray, both: BoolArray) -> Check:
    """Cross-entropy alone fools nearly as many rows as cross-entropy and margin together."""
    gap = float(both.mean() - cross_entropy.mean()) if len(both) else 0.0
    limit = tolerance(len(both), LOSS_GAP_LIMIT)
    return Check(
        name="cross-entropy agrees with margin",
        passed=gap <= limit,
        observed=gap,
        limit=limit,
        meaning="the margin loss finds far more than cross-entropy, a sign of scaled or saturated logits",
    )


def verdict(checks: Sequence[Check]) -> str | None:
    """One sentence that names every failed check, or ``None`` when all passed."""
    failed = [f"{check.name} ({check.meaning})" for check in checks if not check.passed]
    return "failed self-checks: " + "; ".join(failed) if failed else None
