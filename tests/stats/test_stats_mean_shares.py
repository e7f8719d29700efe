"""Limits of balanced accuracy and F1: they hold where few rows or rates near 0 and 1 mislead a variance."""

import numpy as np
import pytest
from scipy.stats import beta

from auditkit.methods.fairness import count_groups
from auditkit.methods.fairness.gaps import disparity_limits
from auditkit.methods.fairness.metrics import group_rates
from auditkit.methods.performance import classification
from auditkit.stats.linearised import Design, proportion
from auditkit.stats.mean_shares import mean_limits, mean_of_shares

REPEATS = 1500
NOISE = 3 * np.sqrt(0.025 * 0.975 / REPEATS)


def decisions(n, positives, rates, *, together=0.0, size=1, repeats=REPEATS):
    """Labels and decisions ``(repeats, n)`` with recalls ``rates`` of the classes 0 and 1, and the rows' clusters.

    A share ``together`` of the rows of a cluster of ``size`` rows go the way of their cluster: all right or all wrong.
    """
    rng = np.random.default_rng(11)
    label = rng.random((repeats, n)) < positives
    own, shared = rng.random((repeats, n)), np.repeat(rng.random((repeats, n // size)), size, axis=1)
    draw = np.where(rng.random((repeats, n)) < together, shared, own)
    right = draw < np.where(label, rates[1], rates[0])
    clusters = np.arange(repeats * n // size).repeat(size).reshape(repeats, n)
    return label.astype(int), np.where(right, label, ~label).astype(int), clusters


def missed(low, high, truth):
    known = np.isfinite(low)
    return float((truth < low - 1e-12)[known].mean()), float((truth > high + 1e-12)[known].mean())


def limits(label, decided, metric, clusters=None, weights=None):
    groups = np.repeat(np.arange(len(label)), label.shape[1])
    keys = {} if clusters is None else {"clusters": clusters.ravel()}
    keys |= {} if weights is None else {"weights": weights.ravel()}
    rates = group_rates(count_groups(label.ravel(), decided.ravel(), {"g": groups}, **keys).finest(), metric)
    return rates, rates.limits(0.95)


def from_a_variance(label, decided):
    """Clopper and Pearson's limits of balanced accuracy on ``v (1 - v) / variance`` rows, as scipy gives them."""
    right = label == decided
    rows = np.stack([(label == code).sum(axis=1) for code in (0, 1)])
    recall = np.stack([(right & (label == code)).sum(axis=1) for code in (0, 1)]) / rows
    value, variance = recall.mean(axis=0), (recall * (1 - recall) / rows).sum(axis=0) / 4
    size = np.where(variance > 0, value * (1 - value) / np.maximum(variance, 1e-300), rows.min(axis=0))
    hits = value * size
    low = beta.ppf(0.025, np.maximum(hits, 1e-9), size - hits + 1)
    return low, np.where(value < 1, beta.ppf(0.975, hits + 1, np.maximum(size - hits, 1e-9)), 1.0)


def test_balanced_accuracy_with_few_rows_of_a_class_holds_where_a_variance_does_not():
    label, decided, _ = decisions(100, 0.1, (0.95, 0.9))
    assert max(missed(*limits(label, decided, "balanced_accuracy")[1], 0.925)) <= 0.025 + NOISE
    assert missed(*from_a_variance(label, decided), 0.925)[0] > 0.2
    plenty, seen, _ = decisions(1000, 0.5, (0.7, 0.7))
    wide = [high - low for low, high in (limits(plenty, seen, "balanced_accuracy")[1], from_a_variance(plenty, seen))]
    assert max(missed(*from_a_variance(plenty, seen), 0.7)) <= 0.025 + NOISE  # the clean twin
    assert wide[0].mean() < 1.02 * wide[1].mean()


def test_classes_that_fail_together_within_clusters_widen_balanced_accuracy():
    label, decided, clusters = decisions(1000, 0.5, (0.8, 0.8), together=0.9, size=10)
    rates, ends = limits(label, decided, "balanced_accuracy", clusters)
    assert max(missed(*ends, 0.8)) <= 0.025 + NOISE
    unaware = mean_limits(rates.parts, *(end.reshape(-1, 2) for end in part_limits(rates)))
    assert max(missed(*unaware, 0.8)) > 0.045
    assert rates.correlation[:, 0, 1].mean() > 0.5


def part_limits(rates):
    """Korn and Graubard's limits of each part, by scipy."""
    rows, shares = rates.sizes(0.95).ravel(), rates.parts.ravel()
    return beta.ppf(0.025, rows * shares, rows - rows * shares + 1), beta.ppf(
        0.975, rows * shares + 1, rows - rows * shares
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_weighted_balanced_accuracy_and_f1_near_1_hold(weighted):
    label, decided, _ = decisions(400, 0.2, (0.97, 0.95))
    w = np.exp(np.random.default_rng(12).normal(0, 1.0 if weighted else 0.0, label.shape))
    assert max(missed(*limits(label, decided, "balanced_accuracy", weights=w)[1], 0.96)) <= 0.025 + NOISE
    f1 = 2 * 0.19 / (0.19 + 0.024 + 0.2)
    assert max(missed(*limits(label, decided, "f1", weights=w)[1], f1)) <= 0.025 + NOISE


def test_differences_and_ratios_of_f1_hold():
    label, decided, _ = decisions(120, 0.2, (0.9, 0.9), repeats=2 * REPEATS)
    rates, _ = limits(label, decided, "f1")
    left = np.arange(REPEATS)
    low, high = disparity_limits(rates, left, left + REPEATS, "difference", 0.95)
    assert np.mean((low > 0) | (high < 0)) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / REPEATS)
    low, high = disparity_limits(rates, left, left + REPEATS, "ratio", 0.95)
    assert np.mean(high < 1) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / REPEATS)


def test_f1_is_the_share_of_hits_among_relevant_rows_on_another_scale():
    """Dice 2 TP / (2 TP + FP + FN) against Jaccard TP / (TP + FP + FN), whose limits are scipy's."""
    label, decided = np.repeat([1, 1, 0, 0], [30, 12, 9, 49]), np.repeat([1, 0, 1, 0], [30, 12, 9, 49])
    q = np.array([beta.ppf(0.025, 30, 22), beta.ppf(0.975, 31, 21)])
    rates = group_rates(count_groups(label, decided, {"g": np.repeat("a", 100)}).finest(), "f1")
    assert np.ravel(rates.limits(0.95)) == pytest.approx(2 * q / (1 + q), abs=1e-9)
    assert rates.shares == pytest.approx(np.array([[30 / 51]]))


@pytest.mark.parametrize("kind", ["plain", "weights", "clusters", "both"])
@pytest.mark.parametrize("metric", ["balanced_accuracy", "f1"])
def test_both_families_give_a_composite_rate_the_same_limits(kind, metric):
    rng = np.random.default_rng(13)
    n = 260
    w = np.exp(rng.normal(0, 1, n)) if kind in ("weights", "both") else None
    clusters = rng.integers(0, 50, n) if kind in ("clusters", "both") else None
    label = (rng.random(n) < 0.3).astype(int)
    decided = np.where(rng.random(n) < 0.85, label, 1 - label)
    keys = {name: v for name, v in (("weights", w), ("clusters", clusters)) if v is not None}
    fair = group_rates(count_groups(label, decided, {"g": np.repeat("a", n)}, **keys).finest(), metric)
    design = Design(w, clusters)
    if metric == "f1":
        ours = classification.f1(label, decided, 1, design)
    else:
        ours = classification.balanced_accuracy(label, decided, ["a", "b"], design)
    one, two = ours.interval(0.9), fair.interval(0, 0.9)
    assert ours.value == pytest.approx(fair.value[0], abs=1e-12)
    assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-9)
    assert one.method == two.method


def test_a_mean_without_an_interval_of_a_part_has_none():
    alone = proportion(np.array([True]), np.array([2.0]))
    found = mean_of_shares([proportion(np.array([True, False])), alone], 3)
    assert (found.value, found.interval(0.95)) == (0.75, None)
    assert "one independent row" in found.reason


def simulate_macro_f1(n, repeats):
    """Three classes of 0.6, 0.3 and 0.1 of the rows; a third of the wrong decisions go to each other class."""
    rng = np.random.default_rng(14)
    right, label = 0.75, rng.choice(3, (repeats, n), p=[0.6, 0.3, 0.1])
    moved = np.where(rng.random((repeats, n)) < right, 0, rng.integers(1, 3, (repeats, n)))
    truth_cells = np.array([0.6, 0.3, 0.1])[:, None] * (np.eye(3) * (right - 0.125) + 0.125)
    truth = np.mean(2 * np.diag(truth_cells) / (truth_cells.sum(0) + truth_cells.sum(1)))
    ends = []
    for y, d in zip(label, (label + moved) % 3, strict=True):
        found = classification.macro(y, d, "abc", "f1").interval(0.95)
        ends.append((np.nan, np.nan) if found is None else (found.low, found.high))
    return missed(*np.transpose(ends), truth)


def test_macro_f1_holds():
    assert max(simulate_macro_f1(150, 400)) <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 400)
