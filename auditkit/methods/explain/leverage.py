"""Paired leverage-score regression, one regression for each background row.

The worth of the interventional game is a mean over background rows, and a Shapley value is linear in the game: it is
the mean of the values of the games that each background row gives. Regressing each of these games on coalitions of
its own spends the same evaluations as evaluating few coalitions on all background rows, and averages the regressions'
errors over the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

from auditkit.core.subject import FloatArray
from auditkit.methods.explain.game import BoolArray
from auditkit.methods.explain.plans import Estimate, Known, Plan

PAIRS_A_PLAYER = 2  # fewer pairs than this for a player of a background row leave the regression unsteady
_RIDGE = 1e-10


@dataclass(frozen=True, kw_only=True)
class Design:
    """Pairs of complementary coalitions.

    Attributes:
        masks: ``(b, pairs, players)`` the first coalition of each pair.
        weights: ``(b, pairs)`` Shapley kernel over sampling probability.
        listed: The first ``listed`` pairs enumerate whole sizes; the others are sampled.
    """

    masks: BoolArray
    weights: FloatArray
    listed: int


def leverage_needs(players: int, background: int) -> int:
    """Model evaluations a row from which on this estimator is steady."""
    return 2 * PAIRS_A_PLAYER * players * background


def leverage_least(players: int, background: int) -> int:
    """Least model evaluations a row: one pair for each player of each background row."""
    return 2 * players * background


def leverage_plan(players: int, background: int, budget: int, rng: np.random.Generator) -> Plan:
    """Pairs of complementary coalitions for every background row, ``budget`` evaluations at most.

    Sizes are equally likely (the leverage scores of the regression), coalitions of a size too; sizes that the
    budget would mostly cover anyway are enumerated, from the outside in. Standard errors are those of
    weighted least squares with unequal variances (HC3), over the sampled pairs.

    Source: Musco and Witter, "Provably Accurate Shapley Value Estimation via Leverage Score Sampling", ICLR 2025,
    algorithm 1; HC3 after MacKinnon and White (1985).
    """
    design = make_design(players, background, budget // (2 * background), rng)
    pairs = design.masks.shape[1]
    flat = design.masks.reshape(-1, players)
    sources = np.repeat(np.arange(background), pairs)

    def finish(outputs: FloatArray, known: Known) -> Estimate:
        half = len(outputs) // 2
        odd = (outputs[:half] - outputs[half:]).reshape(background, pairs, -1)
        return regress(design, odd, known.full[None, :] - known.empty)

    return Plan(
        masks=np.concatenate([flat, ~flat]), sources=np.concatenate([sources, sources]), finish=finish, name="leverage"
    )


def make_design(players: int, background: int, pairs: int, rng: np.random.Generator) -> Design:
    """``pairs`` pairs for each background row: whole sizes from the outside in, then equally likely sizes."""
    listed, weights, size = _listed(players, pairs)
    rest = pairs - len(listed)
    inner = players - 1 - 2 * size
    if inner <= 0 or rest <= 0:
        masks = np.broadcast_to(listed, (background, *listed.shape))
        return Design(masks=masks, weights=np.broadcast_to(weights, (background, len(weights))), listed=len(listed))
    drawn = drawn_coalitions(players, size, (background, rest), rng)
    sizes = drawn.sum(axis=2)
    sampled = inner / (rest * sizes * (players - sizes))
    return Design(
        masks=np.concatenate([np.broadcast_to(listed, (background, *listed.shape)), drawn], axis=1),
        weights=np.concatenate([np.broadcast_to(weights, (background, len(weights))), sampled], axis=1),
        listed=len(listed),
    )


def regress(design: Design, odd: FloatArray, total: FloatArray) -> Estimate:
    """Weighted least squares of the pairs' differences on signs, under each background row's sum.

    Args:
        design: The pairs.
        odd: ``(b, pairs, k)`` worth of a coalition minus that of its complement.
        total: ``(b, k)`` what the values of each background row's game sum to.
    """
    b, _, players = design.masks.shape
    signs = 2.0 * design.masks - 1.0
    mean = signs.mean(axis=2)
    centred = signs - mean[:, :, None]
    target = odd - mean[:, :, None] * total[:, None, :]
    weighted = centred * (design.weights * players**2)[:, :, None]
    gram = weighted.transpose(0, 2, 1) @ centred
    scale = np.trace(gram, axis1=1, axis2=2) / players
    # The sums are settled apart, so nothing is lost along the constant; the ridge only guards against repeats.
    gram += scale[:, None, None] * (1.0 / players + _RIDGE * np.eye(players))
    read = np.linalg.inv(gram) @ weighted.transpose(0, 2, 1)
    slopes = read @ target
    # They sum to 0 but for rounding, which a row whose coalitions repeat magnifies.
    slopes -= slopes.mean(axis=1, keepdims=True)
    residual = target - centred @ slopes
    lever = np.minimum((centred * read.transpose(0, 2, 1)).sum(axis=2), 1.0 - 1e-9)
    sampled = np.arange(design.masks.shape[1]) >= design.listed
    spread = np.where(sampled[None, :, None], residual / (1.0 - lever)[:, :, None], 0.0) ** 2
    variance = (read**2 @ spread).sum(axis=0) / b**2
    values = slopes.mean(axis=0) + total.mean(axis=0) / players
    return Estimate(values=values, error=np.sqrt(variance))


def _listed(players: int, pairs: int) -> tuple[BoolArray, FloatArray, int]:
    """Sizes worth enumerating: pairs, weights, and the largest size done (its complement's size is done with it)."""
    found: list[BoolArray] = []
    weights: list[FloatArray] = []
    size, left = 0, pairs
    while size < players // 2:
        wanted = size + 1
        middle = 2 * wanted == players
        count = comb(players, wanted) // (2 if middle else 1)
        share = left * (1 if middle else 2) / (players - 1 - 2 * size)
        rest = players - 1 - 2 * wanted
        # What stays must still be worth sampling, or be nothing.
        if count > left or share < count / 2 or (rest > 0 and left - count < players):
            break
        found.append(_sets(players, wanted)[:count])
        weights.append(np.full(count, (1 if middle else 2) / (wanted * (players - wanted) * count)))
        size, left = wanted, left - count
    if not found:
        return np.zeros((0, players), dtype=np.bool_), np.zeros(0), 0
    return np.concatenate(found), np.concatenate(weights), size


def _sets(players: int, size: int) -> BoolArray:
    """Every set of ``size`` players in lexical order: of the middle size, complements follow in reverse order."""
    from itertools import combinations

    chosen = np.array(list(combinations(range(players), size)), dtype=np.int64)
    masks = np.zeros((len(chosen), players), dtype=np.bool_)
    np.put_along_axis(masks, chosen, True, axis=1)
    return masks


def drawn_coalitions(players: int, done: int, shape: tuple[int, int], rng: np.random.Generator) -> BoolArray:
    """Coalitions ``(b, pairs, players)`` of equally likely sizes ``done + 1 .. players - done - 1``.

    Players join with a common probability that is itself uniform: every size is then equally likely, and every
    coalition of a size. The probabilities are stratified; sizes outside the range are drawn again.
    """
    b, pairs = shape
    chance = (np.arange(pairs) + rng.random((b, pairs))) / pairs
    masks = rng.random((b, pairs, players), dtype=np.float32) < chance[:, :, None]
    while True:
        size = masks.sum(axis=2)
        bad = (size <= done) | (size >= players - done)
        if not bad.any():
            return np.asarray(masks)
        again = int(bad.sum())
        masks[bad] = rng.random((again, players), dtype=np.float32) < rng.random(again)[:, None]
