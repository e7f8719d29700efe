"""Lower bounds on epsilon from one training: how many coins an attacker guessed who saw only what was released.

Every canary was put into the training, or left out, by the toss of its own fair coin. A guesser who does not
know the coins says of some canaries "in" or "out". Privacy limits how often it can be right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.methods.privacy.tradeoff import TradeOff, gaussian_tradeoff

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LARGEST_EPSILON = 60.0
LARGEST_MU = 60.0


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """What a guesser did.

    Attributes:
        canaries: Number of coins tossed.
        made: Guesses made, at most ``canaries``; their number must not depend on the coins.
        correct: Guesses that were right.
    """

    canaries: int
    made: int
    correct: int

    def __post_init__(self) -> None:
        if not 0 <= self.correct <= self.made <= self.canaries or self.made == 0:
            raise ValueError(f"{self.correct} of {self.made} guesses on {self.canaries} canaries is impossible")


def guess(scores: FloatArray, included: BoolArray, made: int) -> Guesses:
    """Say "in" of the ``made / 2`` largest scores and "out" of as many smallest; count what was right.

    Args:
        scores: ``(m,)``; must not depend on ``included`` other than through the training's release.
        included: ``(m,)`` the coins.
        made: Number of guesses, even, at most ``m``.

    >>> guess(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False]), 2)
    Guesses(canaries=4, made=2, correct=2)
    """
    order = np.argsort(scores, kind="stable")
    half = made // 2
    correct = int(included[order[len(order) - half :]].sum()) + int((~included[order[:half]]).sum())
    return Guesses(canaries=len(scores), made=2 * half, correct=correct)


def guess_by_mean(scores: FloatArray, included: BoolArray) -> Guesses:
    """Say "in" of every score above the mean of all, "out" of the others; the mean needs no knowledge of the coins.

    >>> guess_by_mean(np.array([3.0, 2.0, 1.0, 0.0, 3.0]), np.array([True, True, False, False, True]))
    Guesses(canaries=5, made=5, correct=5)
    """
    correct = int(((scores > scores.mean()) == included).sum())
    return Guesses(canaries=len(scores), made=len(scores), correct=correct)


def one_run_p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """Largest chance that any (epsilon, delta) private training lets so many guesses be right.

    Source: Steinke, Nasr and Jagielski (2023), Privacy auditing with one (1) training run, theorem 5.2 and
    its implementation in appendix D.

    >>> round(one_run_p_value(Guesses(canaries=10, made=10, correct=10), 0.0, 0.0), 6)
    0.000977
    """
    from scipy.stats import binom

    right = 1.0 / (1.0 + math.exp(-epsilon))
    tail = float(binom.sf(guesses.correct - 1, guesses.made, right))
    if delta == 0.0:
        return tail
    fewer = np.arange(1, guesses.correct + 1)
    between = binom.sf(guesses.correct - fewer - 1, guesses.made, right) - tail
    slack = float((between / fewer).max(initial=0.0))
    return min(1.0, tail + 2.0 * guesses.canaries * delta * slack)


def one_run_epsilon(guesses: Guesses, delta: float, level: float = 0.95) -> float:
    """Largest epsilon that is refuted at confidence ``level`` for any mechanism whatever; 0 when none is.

    Source: as :func:`one_run_p_value`.

    >>> round(one_run_epsilon(Guesses(canaries=1000, made=1000, correct=1000), 0.0), 2)
    5.81
    """
    return _largest(lambda epsilon: one_run_p_value(guesses, epsilon, delta) < 1.0 - level, LARGEST_EPSILON)


def tradeoff_is_refuted(guesses: Guesses, tradeoff: TradeOff, level: float = 0.95) -> bool:
    """Whether so many right guesses have less than a chance of ``1 - level`` under every training of this trade-off.

    Follows the joint shares of canaries that are guessed right and guessed wrong, given at least ``i`` right
    guesses, downwards from ``i = correct``: the trade-off function gives a floor of the wrong ones. When right and
    wrong together exceed all guesses, the assumed chance of the outcome cannot be.

    Source: Mahloujifar, Melis and Chaudhuri (2025), Auditing f-differential privacy in one run, algorithm 3.
    """
    m, made, correct = guesses.canaries, guesses.made, guesses.correct
    chance = 1.0 - level
    right, wrong = chance * correct / m, chance * (made - correct) / m
    limit = made / m
    for i in range(correct - 1, -1, -1):
        floor = max(wrong, tradeoff(1.0 - right))
        if floor == wrong:
            break
        right, wrong = min(1.0, right + i / (made - i) * (floor - wrong)), floor
        if right + wrong > limit:
            return True
    return right + wrong > limit


def gaussian_mu_bound(guesses: Guesses, level: float = 0.95) -> float:
    """Largest ``mu`` such that ``mu``-Gaussian privacy is refuted; 0 when none is.

    No independence of the canaries is assumed, and no distribution of the noise.

    Source: as :func:`tradeoff_is_refuted`.
    """
    return _largest(lambda mu: tradeoff_is_refuted(guesses, gaussian_tradeoff(mu), level), LARGEST_MU)


def critical_count(canaries: int, made: int, tradeoff: TradeOff, level: float = 0.95) -> int | None:
    """Fewest right guesses that refute ``tradeoff``; ``None`` when not even all of them would."""

    def refuted(correct: int) -> bool:
        return tradeoff_is_refuted(Guesses(canaries=canaries, made=made, correct=correct), tradeoff, level)

    if not refuted(made):
        return None
    low, high = made // 2, made
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refuted(middle) else (middle, high)
    return high


def _largest(refuted: Callable[[float], bool], ceiling: float) -> float:
    """Largest value below ``ceiling`` that is refuted; refutation is monotone."""
    if not refuted(0.0):
        return 0.0
    if refuted(ceiling):
        return ceiling
    low, high = 0.0, ceiling
    while high - low > 1e-5 * max(1.0, low):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
