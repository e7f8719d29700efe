"""Membership inference by thresholds: how well the model's answer on a row tells whether it was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.stats.intervals import z_value
from auditkit.stats.ranking import auc, placements, roc_curve

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

_TINY = 1e-300


@dataclass(frozen=True, kw_only=True)
class LowFalsePositives:
    """True positive rate of an attack at a small false positive rate.

    Attributes:
        value: ``None`` when there are too few non-members to see that rate; ``reason`` says so.
        false_positives: Non-members above the threshold, and those that break a tie at it.
        interval: Distribution-free; holds whatever the number of non-members.
    """

    value: float | None
    false_positives: int
    interval: Interval
    reason: str | None = None


def attack_scores(
    scores: FloatArray | None, y: IntArray, decisions: IntArray, space: str | None
) -> dict[str, FloatArray]:
    """Attack name -> ``(n,)`` membership scores, larger for a row that looks trained on.

    ``loss``: log-odds of the true class, which orders rows as their loss does but keeps apart rows whose
    probability rounds to 1 (margin models: the margin of the true class). ``confidence``: the same for
    the most likely class. ``entropy``: minus the entropy of the prediction. ``correctness``: 1 where the
    decision is right (the gap attack), which is all that a model without scores gives away.

    Args:
        scores: ``(n, k)`` scores, or ``None`` for a model that gives labels only.
        y: ``(n,)`` true class codes.
        decisions: ``(n,)`` decided class codes.
        space: ``probability``, ``logit`` or ``margin``.

    Source: Yeom et al. (2018) for loss and correctness; Salem et al. (2019) for confidence and entropy;
    Carlini et al. (2022), section IV.C, for the log-odds.

    >>> found = attack_scores(np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([0, 0]), np.array([0, 1]), "probability")
    >>> found["loss"].round(3).tolist(), found["correctness"].tolist()
    ([2.197, -0.405], [1.0, 0.0])
    """
    found = {"correctness": (decisions == y).astype(np.float64)}
    if scores is None or space is None:
        return found
    top = scores.argmax(axis=1)
    if space == "margin":
        return {"loss": _lead(scores, y), "confidence": _lead(scores, top), **found}
    log_p = _log_softmax(scores) if space == "logit" else np.log(np.maximum(scores, _TINY))
    entropy = (np.exp(log_p) * log_p).sum(axis=1)
    return {"loss": _log_odds(log_p, y), "confidence": _log_odds(log_p, top), "entropy": entropy, **found}


def membership_auc(
    scores: FloatArray, member: BoolArray, clusters: IntArray | None = None, level: float = 0.95
) -> tuple[float, Interval | None]:
    """Chance that a member outranks a non-member, ties half: 0.5 is a blind attack.

    With ``clusters`` the variance is that of the clusters' sums of placements, as rows of one cluster
    are alike.

    Source: DeLong et al. (1988); Obuchowski (1997) for clusters.
    """
    area, interval = auc(scores, member, level=level)
    if clusters is None:
        return area, interval
    inside, outside = placements(scores, member)
    parts = np.empty(len(scores))
    parts[member] = (inside - area) / member.sum()
    parts[~member] = (outside - area) / (~member).sum()
    sums = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=parts)
    if len(sums) < 2 or not 0.0 < area < 1.0:
        return area, None
    half = z_value(level) * math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / (area * (1 - area))
    center = math.log(area / (1.0 - area))
    low, high = (1.0 / (1.0 + math.exp(-min(max(center + sign * half, -700.0), 700.0))) for sign in (-1, 1))
    return area, Interval(low=min(low, area), high=max(high, area), level=level, method="cluster-delong-logit")


def tpr_at_fpr(scores: FloatArray, member: BoolArray, fpr: float, level: float = 0.95) -> LowFalsePositives:
    """Largest share of members found by a threshold whose false positive rate is at most ``fpr``.

    Where many rows have one and the same score no threshold may come near ``fpr``. An attacker then takes some of the
    tied rows at random, so that the share is read off the straight line between the two thresholds: equal scores
    for all give ``fpr``, a blind attack, and never 0.

    The interval holds for the true positive rate at a *true* false positive rate of ``fpr``: thresholds
    that are surely strict and surely lax enough come from the order statistics of the non-members, and
    exact binomial bounds of the members found there close it; each of the four errors has a quarter of
    ``1 - level``.

    Source: Hilgers (1991), Distribution-free confidence bounds for ROC curves.
    """
    inside, outside = scores[member], np.sort(scores[~member])[::-1]
    m, n = len(inside), len(outside)
    if m == 0 or n == 0:
        raise ValueError("an attack needs members and non-members")
    rates, hits, _ = roc_curve(scores, member)
    index = int(np.flatnonzero(rates <= fpr + 1e-12)[-1])
    reached, value = float(rates[index]), float(hits[index])
    if index + 1 < len(rates) and hits[index + 1] > value:
        share = (fpr - reached) / float(rates[index + 1] - reached)
        reached, value = fpr, value + share * float(hits[index + 1] - value)
    false_positives = int(reached * n + 1e-9)
    bounds = _distribution_free(inside, outside, fpr, (1.0 - level) / 4.0)
    low, high = min(bounds[0], value), max(bounds[1], value)
    interval = Interval(low=low, high=high, level=level, method="distribution-free")
    if n * fpr < 1.0:
        reason = f"a false positive rate of {fpr:g} cannot be seen with {n} non-members; it takes {math.ceil(1 / fpr)}"
        return LowFalsePositives(value=None, false_positives=false_positives, interval=interval, reason=reason)
    return LowFalsePositives(value=value, false_positives=false_positives, interval=interval)


def thinned_roc(scores: FloatArray, member: BoolArray, points: int = 120) -> tuple[FloatArray, FloatArray]:
    """False and true positive rates for a chart: at most ``points`` corners of the curve, both ends included."""
    false, true, _ = roc_curve(scores, member)
    if len(false) <= points:
        return false, true
    keep = np.unique(np.linspace(0, len(false) - 1, points).round().astype(np.int64))
    return false[keep], true[keep]


def dp_ceiling(fpr: float, epsilon: float, delta: float) -> float:
    """Most that any attack on an (epsilon, delta) private training can find at false positive rate ``fpr``.

    ``min(e^eps fpr + delta, 1 - e^-eps (1 - delta - fpr))``, within [0, 1].

    Source: Kairouz, Oh and Viswanath (2015), theorem 2.1.

    >>> round(dp_ceiling(0.001, 1.0, 1e-5), 5)
    0.00273
    """
    by_growth = math.exp(min(epsilon, 700.0)) * fpr + delta
    by_mirror = 1.0 - math.exp(-epsilon) * (1.0 - delta - fpr)
    return min(1.0, max(0.0, min(by_growth, by_mirror)))


def _distribution_free(inside: FloatArray, outside: FloatArray, fpr: float, risk: float) -> tuple[float, float]:
    """Bounds of the true positive rate; ``outside`` is in falling order."""
    from scipy.stats import beta

    n, m = len(outside), len(inside)
    ranks = np.arange(1, n + 1)
    # The share of non-members above their k-th largest score follows Beta(k, n - k + 1).
    strict = ranks[beta.sf(fpr, ranks, n - ranks + 1) <= risk]
    lax = ranks[beta.cdf(fpr, ranks, n - ranks + 1) <= risk]
    low, high = 0.0, 1.0
    if len(strict):
        found = int((inside > outside[strict[-1] - 1]).sum())
        low = 0.0 if found == 0 else float(beta.ppf(risk, found, m - found + 1))
    if len(lax):
        found = int((inside >= outside[lax[0] - 1]).sum())
        high = 1.0 if found == m else float(beta.ppf(1.0 - risk, found + 1, m - found))
    return low, high


def _log_softmax(scores: FloatArray) -> FloatArray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), dtype=np.float64)


def _others(values: FloatArray, chosen: IntArray) -> FloatArray:
    """``values`` without the chosen column of each row, ``(n, k - 1)``."""
    keep = np.arange(values.shape[1])[None, :] != chosen[:, None]
    return np.asarray(values[keep].reshape(len(values), -1), dtype=np.float64)


def _log_odds(log_p: FloatArray, chosen: IntArray) -> FloatArray:
    rest = _others(log_p, chosen)
    top = rest.max(axis=1)
    log_rest = top + np.log(np.exp(rest - top[:, None]).sum(axis=1))
    return np.asarray(log_p[np.arange(len(log_p)), chosen] - log_rest, dtype=np.float64)


def _lead(scores: FloatArray, chosen: IntArray) -> FloatArray:
    return np.asarray(scores[np.arange(len(scores)), chosen] - _others(scores, chosen).max(axis=1), dtype=np.float64)
