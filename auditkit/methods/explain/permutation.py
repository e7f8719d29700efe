"""Antithetic permutation sampling: random orders walked forwards and backwards from background rows to the row."""

from __future__ import annotations

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.plans import Estimate, Known, Plan, told_error


def permutation_needs(players: int, background: int) -> int:
    """Model evaluations a row of two pairs of walks: the least that gives a standard error."""
    return 4 * (players - 1)


def permutation_plan(players: int, background: int, budget: int, rng: np.random.Generator) -> Plan:
    """As many pairs of walks as ``budget`` pays for, whole rounds over the background where it pays for one.

    A pair is exact for interactions of two players. Where there are fewer pairs than background rows, walks start
    from a part of them; the difference to the mean over all is known, and shared out by the variance of the estimates.

    Source: Strumbelj and Kononenko (2014), algorithm 1; antithetic pairs after Mitchell, Cooper, Frank and Holmes
    (2022), section 4.
    """
    pairs = budget // (2 * (players - 1))
    if pairs > background:
        pairs -= pairs % background  # whole rounds, so that every background row counts the same
    starts = _deal(background, pairs, rng)
    orders = np.argsort(rng.random((pairs, players)), axis=1)
    rank = np.argsort(np.concatenate([orders, orders[:, ::-1]]), axis=1)
    origin = np.concatenate([starts, starts])
    entered = rank[:, None, :] < np.arange(1, players)[None, :, None]

    def finish(outputs: FloatArray, known: Known) -> Estimate:
        k = outputs.shape[1]
        path = np.empty((len(rank), players + 1, k))
        path[:, 0], path[:, -1] = known.empty[origin], known.full
        path[:, 1:-1] = outputs.reshape(len(rank), players - 1, k)
        gains = np.take_along_axis(np.diff(path, axis=1), rank[:, :, None], axis=1)
        both = gains.reshape(2, pairs, players, k).mean(axis=0)
        values, error = both.mean(axis=0), _standard_error(both, starts, background)
        if pairs < background:
            gap = known.empty[starts].mean(axis=0) - known.empty.mean(axis=0)
            values = values + _shared_out(gap, error, values)
        return Estimate(values=values, error=error)

    return Plan(
        masks=entered.reshape(-1, players),
        sources=np.repeat(origin, players - 1),
        finish=finish,
        name="permutation",
    )


def _shared_out(gap: FloatArray, error: FloatArray, values: FloatArray) -> FloatArray:
    """What each player ``(players, k)`` takes of the ``gap (k,)`` that a part of the background leaves.

    The pairs sum to the prediction minus the mean over the rows drawn, not over all. Players take the rest in
    proportion to the variance of their estimate (generalised least squares under the sum constraint): one that
    never moves the model takes nothing.
    """
    weight = error**2
    for fallback in (np.abs(values), np.ones_like(values)):
        weight = np.where(weight.sum(axis=0, keepdims=True) > 0.0, weight, fallback)
    return np.asarray(gap[None, :] * weight / weight.sum(axis=0, keepdims=True))


def _deal(b: int, pairs: int, rng: np.random.Generator) -> IntArray:
    """Background rows for ``pairs`` walks: shuffled rounds, so that none is used again before all are used."""
    return np.concatenate([rng.permutation(b) for _ in range(-(-pairs // b))])[:pairs].astype(np.int64)


def _standard_error(gains: FloatArray, starts: IntArray, b: int) -> FloatArray:
    """Standard error of the mean gain over pairs.

    With two rounds or more over the background the spread is taken within each background row (the rounds are a
    stratified sample); with fewer it is the spread over all pairs, which is an upper bound: it holds what differs
    between background rows too, though most or all of them are used. One pair a row does not tell the two apart. The
    spread between neighbours by the row's output (collapsed strata) is an upper bound too and hardly tighter, 10 to
    25 % where this one is 1.7 to 6 times the error: it is mostly the player's own values that differ, unseen here.
    """
    pairs = len(gains)
    rounds = pairs // b
    if rounds < 2:
        return told_error(gains.var(axis=0, ddof=1) / pairs, pairs - 1)
    ordered = gains[np.argsort(starts, kind="stable")].reshape(b, rounds, *gains.shape[1:])
    within = ordered.var(axis=1, ddof=1) / rounds
    return told_error(within.sum(axis=0) / b**2, b * (rounds - 1))
