"""Exact interventional Shapley values of the probability of a logistic regression.

Let ``s`` be the log-odds of a background row and ``d_j`` what player ``j`` adds to them. Players come before ``j`` in a
random order as if each entered with a common probability ``t``, itself uniform on [0, 1]: ``j`` gains the integral over
``t`` of the mean of ``sigma(s + R + d_j) - sigma(s + R)``, with ``R`` what the others add that entered. The mean of a
wave ``exp(i w (s + R))`` is a product over the players, and the sigmoid is a sum of waves to rounding: a square wave
smoothed by the logistic density, with its other edges beyond all that mixtures reach.

Source: Owen, "Multilinear extensions of games", Management Science 18 (1972), section 5, for the integral.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.tree_table import UnreadError

_ROUNDING = 25.0  # exp(-25), about 1e-11, is what is left out
_MOST_CELLS = 2_000_000_000  # waves x points x players x pairs of rows: some 20 seconds
_CELLS = 20_000  # at once: what stays in the cache
_MOST_OF_A_PAIR = 5_000_000  # of one row and background row, which are not divided: 80 MB a copy


@dataclass(frozen=True, kw_only=True)
class Logistic:
    """The probability of a logistic regression ``coefficients (1, f)``, ``intercept``."""

    coefficients: FloatArray
    intercept: float
    single: bool = False

    def log_odds(self, matrix: FloatArray) -> FloatArray:
        """``(m,)``."""
        return np.asarray(matrix @ self.coefficients[0] + self.intercept)

    def evaluate(self, matrix: FloatArray) -> FloatArray:
        """``(m, 1)`` probabilities."""
        from scipy.special import expit

        return np.asarray(expit(self.log_odds(matrix)))[:, None]

    def shapley(self, rows: FloatArray, background: FloatArray, player_of: IntArray, players: int) -> FloatArray:
        """``(n, players, 1)`` values.

        Raises:
            UnreadError: So many players and background rows, or so wide log-odds, that it takes too long.
        """
        owner = np.zeros((len(player_of), players))
        owner[np.arange(len(player_of)), player_of] = self.coefficients[0]
        ours, theirs = rows @ owner, background @ owner  # parts of the log-odds, by player
        start = self.log_odds(background)
        reach = [_reach(part - theirs, start) for part in ours]
        size = players * len(_points(players)[0])
        cells = [size * (1.0 + _waves_of(far)) for far in reach]
        fits = sum(each.sum() for each in cells) <= _MOST_CELLS and max(each.max() for each in cells) <= _MOST_OF_A_PAIR
        if not fits:  # as is one beyond all numbers
            raise UnreadError("exact values of so many probabilities would take too long")
        values = [_of_row(part - theirs, start, far) for part, far in zip(ours, reach, strict=True)]
        return np.stack(values)[:, :, None]


def _reach(added: FloatArray, start: FloatArray) -> FloatArray:
    """``(b,)`` the largest distance from 0 of the log-odds of a row's mixtures with each background row."""
    high, low = start + np.maximum(added, 0.0).sum(axis=1), start + np.minimum(added, 0.0).sum(axis=1)
    return np.asarray(np.maximum(np.abs(high), np.abs(low)))


def _waves_of(reach: Any) -> Any:
    """How many waves it takes: amplitudes fall as ``exp(-pi w)``."""
    return np.ceil(_ROUNDING * (reach + _ROUNDING) / (2.0 * np.pi**2))


def _waves(reach: float) -> tuple[FloatArray, FloatArray]:
    """Frequencies and amplitudes of the sines that make up ``sigma(s) - 1/2`` for ``|s| <= reach``.

    The characteristic function of the logistic density is ``pi w / sinh(pi w)``.
    """
    period = reach + _ROUNDING  # half of it: from edge to edge
    frequency = np.pi / period * np.arange(1.0, 2.0 + 2.0 * _waves_of(reach), 2.0)
    return frequency, 2.0 * np.pi / period / np.sinh(np.pi * frequency)


def _points(players: int) -> tuple[FloatArray, FloatArray]:
    """Gauss and Legendre's points below 1/2 and their weights on [0, 1]; an even number in all, so none is 1/2.

    A gain is a polynomial in the probability, of one degree less than there are players: all of them make it exact.
    """
    points, weights = np.polynomial.legendre.leggauss(2 * -(-players // 4))
    half = len(points) // 2
    return (points[:half] + 1.0) / 2.0, weights[:half] / 2.0


def _of_row(added: FloatArray, start: FloatArray, reach: FloatArray) -> FloatArray:
    """Values ``(players,)`` of one row: ``added (b, players)`` to the log-odds ``start (b,)`` of the background.

    With ``g = exp(i w d) - 1``, a player that enters with probability ``t`` makes a factor ``1 + t g``, and gains ``g``
    over it. At ``1 - t`` each factor is ``exp(i w d)`` times its conjugate at ``t``, so points below 1/2 tell all.
    """
    b, players = added.shape
    points, weights = _points(players)
    total = np.zeros(players)
    order = np.argsort(-reach, kind="stable")  # background rows that take equally many waves together
    done = 0
    while done < b:
        frequency, amplitude = _waves(float(reach[order[done]]))
        some = order[done : done + max(1, _CELLS // (players * len(frequency) * len(points)))]
        done += len(some)
        wave = np.exp(1j * added[some, :, None] * frequency) - 1.0  # (b, players, waves)
        end = start[some] + added[some].sum(axis=1)
        ends = np.exp(1j * start[some, None] * frequency) + np.exp(-1j * end[:, None] * frequency)
        factor = wave[..., None] * points
        factor += 1.0
        mean = np.multiply.reduce(factor, axis=1) * (amplitude * ends)[..., None] * weights  # (b, waves, points)
        gain = np.divide(wave[..., None], factor, out=factor).reshape(len(some), players, -1)
        total += (gain @ mean.reshape(len(some), -1, 1)).imag.sum(axis=(0, 2))
    return np.asarray(total / b)
