"""Regression on players and on triples of players that interact; the triples are read off what pairs have in common.

A coalition and its complement differ by the terms of odd order alone: pairing settles interactions of two players, and
what it leaves are interactions of three and more. Which triples those are is told by the other half of what was paid
for: the *sum* of a pair holds the terms of even order, so the players that interact in twos. Triples whose three edges
are strong there enter the regression under a ridge. Their Shapley values are known in closed form, and what they
miss goes through the plain regression, so the estimate stays consistent whatever the ridge does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np

from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.leverage import make_design, regress
from auditkit.methods.explain.plans import Estimate, Known, Plan

PAIRS_A_PLAYER = 6
_PAIRS_A_TRIPLE = 8
_MOST_TRIPLES = 128
_MOST_LINKED = 40  # players among whom triples are sought
_STEPS = 6  # of conjugate gradients: stopping early is the ridge of the search for edges
_RIDGES = (0.01, 0.05, 0.2, 1.0, 5.0)  # shares of the mean eigenvalue, chosen by leave-one-out error
_RIDGE = 1e-10


def triples_need(players: int, background: int) -> int:
    """Least model evaluations a row: fewer pairs do not tell which players interact."""
    return 2 * PAIRS_A_PLAYER * players * background


def triples_plan(players: int, background: int, budget: int, rng: np.random.Generator) -> Plan:
    """Pairs of complementary coalitions as Leverage SHAP draws them, read with the triples that their sums point to.

    Source: sampling after Musco and Witter (ICLR 2025), algorithm 1; regression with interaction terms after the
    k-additive values of Pelegrina, Duarte and Grabisch (2023); the choice of triples is ours.
    """
    design = make_design(players, background, budget // (2 * background), rng)
    pairs = design.masks.shape[1]
    flat = design.masks.reshape(-1, players)
    sources = np.repeat(np.arange(background), pairs)

    def finish(outputs: FloatArray, known: Known) -> Estimate:
        half = len(outputs) // 2
        shape = (background, pairs, -1)
        odd = (outputs[:half] - outputs[half:]).reshape(shape)
        even = (outputs[:half] + outputs[half:]).reshape(shape)
        total = known.full[None, :] - known.empty
        if design.listed == pairs:  # nothing was sampled
            return regress(design, odd, total)
        parts = [
            regress_with_triples(design.masks[b], design.weights[b], design.listed, (odd[b], even[b]), total[b])
            for b in range(background)
        ]
        values = np.mean([part.values for part in parts], axis=0)
        error = np.sqrt(np.sum([part.error**2 for part in parts], axis=0)) / background
        return Estimate(values=values, error=error)

    return Plan(
        masks=np.concatenate([flat, ~flat]), sources=np.concatenate([sources, sources]), finish=finish, name="triples"
    )


@dataclass(frozen=True, kw_only=True)
class _Line:
    """The weighted regression on players alone, under the sum of their values.

    Attributes:
        root: ``(m, 1)`` square roots of the weights.
        read: ``(players, m)`` weighted targets -> slopes.
        columns: ``(m, players)`` weighted, centred signs.
        lever: ``(m,)`` leverages.
    """

    root: FloatArray
    read: FloatArray
    columns: FloatArray
    lever: FloatArray

    def rest(self, weighted: FloatArray) -> FloatArray:
        """What the line leaves of weighted targets or columns ``(m, k)``."""
        return np.asarray(weighted - self.columns @ (self.read @ weighted))


def regress_with_triples(
    masks: np.typing.NDArray[np.bool_],
    weights: FloatArray,
    listed: int,
    worth: tuple[FloatArray, FloatArray],
    total: FloatArray,
) -> Estimate:
    """Values of one background row's game from ``m`` pairs.

    Args:
        masks: ``(m, players)`` the first coalition of each pair.
        weights: ``(m,)`` Shapley kernel over sampling probability.
        listed: The first ``listed`` pairs were not drawn at random.
        worth: ``(m, k)`` differences and sums of the worths of a coalition and its complement.
        total: ``(k,)`` what the values sum to.

    Returns:
        Values and standard errors ``(players, k)``: HC3 of the whole linear estimate, given triples and ridge.
    """
    players = masks.shape[1]
    signs: FloatArray = np.where(masks, 1.0, -1.0)
    mean = signs.mean(axis=1)[:, None]
    line = _line(signs - mean, weights)
    target = (worth[0] - mean * total) * line.root
    chosen = _triples(_edges(signs, line.root, worth[1]), max(1, min(_MOST_TRIPLES, len(masks) // _PAIRS_A_TRIPLE)))
    # Each triple's parity less its share of size: worth nothing to nobody and to everybody, as the line already is.
    columns = (signs[:, chosen[:, 0]] * signs[:, chosen[:, 1]] * signs[:, chosen[:, 2]] - mean) * line.root
    worth_of = np.full((players, len(chosen)), -1.0 / players)
    worth_of[chosen.T, np.arange(len(chosen))] += 1.0 / 3.0
    left = line.rest(columns)
    scale, axes = np.linalg.eigh(left.T @ left)
    turned = left @ axes
    squared = turned**2
    through = (worth_of - line.read @ columns) @ axes
    slopes = line.read @ target
    rest = target - line.columns @ slopes
    aim = turned.T @ rest
    values, error = np.empty((players, len(total))), np.empty((players, len(total)))
    for output in range(len(total)):
        shrunk = _ridge(scale, (turned, squared), aim[:, output], rest[:, output], line.lever)
        # The whole estimate is linear in the targets: triples by the ridge, the line on what they leave.
        read = line.read + (through * shrunk) @ turned.T
        missed = rest[:, output] - turned @ (shrunk * aim[:, output])
        spread = missed / np.maximum(1.0 - line.lever - squared @ shrunk, 1e-9)
        spread[:listed] = 0.0
        found = slopes[:, output] + through @ (shrunk * aim[:, output])
        values[:, output] = found - found.mean() + total[output] / players
        error[:, output] = np.sqrt(read**2 @ spread**2)
    return Estimate(values=values, error=error)


def _line(centred: FloatArray, weights: FloatArray) -> _Line:
    players = centred.shape[1]
    root = np.sqrt(weights * players**2)[:, None]
    columns = centred * root
    gram = columns.T @ columns
    # The sums are settled apart, so nothing is lost along the constant; the ridge only guards against repeats.
    gram += np.trace(gram) / players * (1.0 / players + _RIDGE * np.eye(players))
    read = np.linalg.solve(gram, columns.T)
    return _Line(root=root, read=read, columns=columns, lever=(columns * read.T).sum(axis=1))


def _ridge(
    scale: FloatArray, turned: tuple[FloatArray, FloatArray], aim: FloatArray, rest: FloatArray, lever: FloatArray
) -> FloatArray:
    """``1 / (eigenvalue + ridge)`` at the ridge of least leave-one-out error; zeros where no ridge beats the line."""
    columns, squared = turned
    best, chosen = float(np.square(rest / np.maximum(1.0 - lever, 0.05)).sum()), np.zeros_like(scale)
    for share in _RIDGES:
        shrunk = 1.0 / (scale + share * max(float(scale.mean()), 1e-300))
        room = np.maximum(1.0 - lever - squared @ shrunk, 0.05)
        missed = float(np.square((rest - columns @ (shrunk * aim)) / room).sum())
        if missed < best:
            best, chosen = missed, shrunk
    return chosen


def _edges(signs: FloatArray, root: FloatArray, even: FloatArray) -> FloatArray:
    """``(players, players)`` how strongly two players interact, over all outputs, from the sums of pairs ``(m, k)``.

    Least squares on all products of two signs by a few conjugate gradients, after effects of size and of single
    players by size are taken out.
    """
    size = signs.sum(axis=1, keepdims=True)
    common, _ = np.linalg.qr(np.concatenate([np.ones_like(size), signs * size], axis=1) * root)
    found = np.zeros((signs.shape[1], signs.shape[1]))
    for output in even.T:
        target = output[:, None] * root
        target -= common @ (common.T @ target)
        if float(np.abs(target).max(initial=0.0)) > 0.0:
            found += _pair_terms(signs, root[:, 0], common, target[:, 0]) ** 2
    return np.sqrt(found)


def _pair_terms(signs: FloatArray, root: FloatArray, common: FloatArray, target: FloatArray) -> FloatArray:
    """Coefficients of the products of two signs; the matrix of products is never made."""

    def seen(vector: FloatArray) -> FloatArray:
        vector = root * (vector - common @ (common.T @ vector))
        products = (signs * vector[:, None]).T @ signs
        np.fill_diagonal(products, 0.0)
        return products

    terms = np.zeros((signs.shape[1], signs.shape[1]))
    rest = target
    ahead = gradient = seen(rest)
    norm = float((gradient**2).sum())
    for _ in range(_STEPS):
        image = root * ((signs @ ahead) * signs).sum(axis=1)
        image -= common @ (common.T @ image)
        length = float(image @ image)
        if not length > 0.0:
            break
        step = norm / length
        terms, rest = terms + step * ahead, rest - step * image
        gradient = seen(rest)
        fresh = float((gradient**2).sum())
        ahead, norm = gradient + fresh / max(norm, 1e-300) * ahead, fresh
    return terms


def _triples(edges: FloatArray, count: int) -> IntArray:
    """``(count, 3)`` the triples with the largest product of their three edges."""
    linked = np.argsort(-edges.sum(axis=1), kind="stable")[:_MOST_LINKED]
    among = _every_triple(len(linked))
    near = edges[np.ix_(linked, linked)]
    first, second, third = among.T
    strength = near[first, second] * near[second, third] * near[first, third]
    if count < len(strength):
        among = among[np.sort(np.argpartition(-strength, count)[:count])]
    return np.asarray(linked[among], dtype=np.int64)


@cache
def _every_triple(players: int) -> IntArray:
    return np.array(list(combinations(range(players), 3)), dtype=np.int64).reshape(-1, 3)
