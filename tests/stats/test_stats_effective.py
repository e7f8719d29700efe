"""Limits of weighted and clustered shares hold where few hits are seen, and cost nothing where rows are equal."""

import numpy as np
import pytest
from scipy.stats import beta, t

from auditkit.methods.fairness import count_groups
from auditkit.methods.fairness.metrics import group_rates
from auditkit.methods.performance.classification import f1, precision
from auditkit.stats.effective import Squares, corrected_rows, effective_rows
from auditkit.stats.linearised import Design, proportion


def by_loops(hits, weights, clusters):
    """The sums of squares one row and one cluster at a time."""
    found = dict.fromkeys(("rows", "hit_rows", "clusters", "hit_clusters", "crossed"), 0.0)
    for hit, weight in zip(hits, weights, strict=True):
        found["rows"] += weight**2
        found["hit_rows"] += weight**2 * hit
    for name in sorted(set(clusters)):
        whole = sum(w for w, c in zip(weights, clusters, strict=True) if c == name)
        held = sum(w for w, c, h in zip(weights, clusters, hits, strict=True) if c == name and h)
        found["clusters"] += whole**2
        found["hit_clusters"] += held**2
        found["crossed"] += whole * held
    return Squares(**{name: np.array([value]) for name, value in found.items()})


def test_rows_of_a_cluster_that_always_agree_are_fully_alike_and_independent_ones_are_not():
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(300), rng.integers(1, 9, 300))
    person = rng.random(300) < 0.3
    weights = np.ones(len(clusters))
    agreeing = person[clusters]
    share, total = agreeing.mean(), np.array([weights.sum()])
    found = by_loops(agreeing, weights, clusters).shared(np.array([share]), total)[0]
    assert found == pytest.approx(share * (1 - share))
    loose = rng.random(len(clusters)) < 0.3
    share = loose.mean()
    assert by_loops(loose, weights, clusters).shared(np.array([share]), total)[0] < 0.1 * share * (1 - share)


def test_the_least_variance_is_that_of_the_textbook():
    """Independent rows: p(1-p) sum w^2 / (sum w)^2. Clusters that agree: p(1-p) sum of squared cluster weights."""
    rng = np.random.default_rng(2)
    weights, clusters = rng.uniform(1, 9, 60), np.repeat(np.arange(20), 3)
    hits = np.repeat(rng.random(20) < 0.4, 3)
    share, total = np.array([np.average(hits, weights=weights)]), np.array([weights.sum()])
    one_each = by_loops(hits, weights, np.arange(60)).least_variance(share, total)[0]
    assert one_each == pytest.approx(share[0] * (1 - share[0]) * (weights**2).sum() / weights.sum() ** 2)
    masses = np.array([weights[clusters == c].sum() for c in range(20)])
    together = by_loops(hits, weights, clusters)
    assert together.least_variance(share, total)[0] == pytest.approx(
        share[0] * (1 - share[0]) * (weights**2).sum() / total[0] ** 2
        + together.shared(share, total)[0] * ((masses**2).sum() - (weights**2).sum()) / total[0] ** 2
    )


@pytest.mark.parametrize("hits", [0, 1, 7, 39, 40])
def test_equal_weights_give_the_exact_limits_of_plain_rows(hits):
    values = np.arange(40) < hits
    plain = proportion(values).interval(0.95)
    weighted = proportion(values, np.full(40, 2.5)).interval(0.95)
    assert (weighted.low, weighted.high) == pytest.approx((plain.low, plain.high), abs=1e-9)


@pytest.mark.parametrize("kind", ["weights", "clusters", "both"])
@pytest.mark.parametrize("rate", [0.03, 0.3, 0.9])
def test_both_families_give_a_share_the_same_limits(kind, rate):
    """What one card shows of one share must be one interval, whether it comes from rows or from counts."""
    rng = np.random.default_rng(3)
    n = 300
    keys = {}
    if kind != "clusters":
        keys["weights"] = np.exp(rng.normal(0, 1, n))
    if kind != "weights":
        keys["clusters"] = rng.integers(0, 60, n).astype(np.int64)
    label, decision = (rng.random(n) < 0.5).astype(int), (rng.random(n) < rate).astype(int)
    counts = count_groups(label, decision, {"g": np.repeat("a", n)}, **keys).finest()
    every = np.ones(n, dtype=bool)
    for metric, rows, hits in (
        ("selection_rate", every, decision == 1),
        ("accuracy", every, decision == label),
        ("true_positive_rate", label == 1, decision == 1),
        ("positive_predictive_value", None, precision),
        ("f1", None, f1),
    ):
        if rows is None:  # decisions choose the rows: what the others would do counts too
            ours = hits(label, decision, 1, Design(keys.get("weights"), keys.get("clusters")))
        else:
            part = {name: values[rows] for name, values in keys.items()}
            ours = proportion(hits[rows], part.get("weights"), part.get("clusters"))
        one, two = ours.interval(0.95), group_rates(counts, metric).interval(0, 0.95)
        assert ours.value == pytest.approx(group_rates(counts, metric).value[0], abs=1e-12)
        assert (one is None) == (two is None)
        if one is not None:
            assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=1e-9), metric


def errors(rows, share, truth):
    """How often the lower and the upper of Clopper and Pearson's limits on ``rows`` miss ``truth``, by scipy."""
    rows = np.maximum(rows, 1e-9)
    x = share * rows
    low = np.where(x > 0, beta.ppf(0.025, np.maximum(x, 1e-300), rows - x + 1), 0.0)
    high = np.where(x < rows, beta.ppf(0.975, x + 1, np.maximum(rows - x, 1e-300)), 1.0)
    return float((truth < low - 1e-12).mean()), float((truth > high + 1e-12).mean())


def weighted_rows(kind, shape, rng):
    drawn = {
        "one in ten counts tenfold": lambda: np.where(rng.random(shape) < 0.1, 10.0, 1.0),
        "lognormal": lambda: np.exp(rng.normal(0, 1, shape)),
        "a few are huge": lambda: 1.0 + rng.pareto(1.5, shape),
        "whole numbers": lambda: rng.integers(1, 5, shape).astype(float),
    }
    return drawn[kind]()


def simulated_weights(kind, n, truth, repeats, floor=True):
    rng = np.random.default_rng(4)
    w = weighted_rows(kind, (repeats, n), rng)
    hit = rng.random((repeats, n)) < truth
    total = w.sum(axis=1)
    share = (w * hit).sum(axis=1) / total
    variance = ((w * (hit - share[:, None])) ** 2).sum(axis=1) / total**2
    square = (w**2).sum(axis=1)
    held = (w**2 * hit).sum(axis=1)
    if floor:
        variance = np.maximum(variance, Squares(square, held, square, held, held).least_variance(share, total))
    rows, freedom = effective_rows(share, variance, total**2 / square)
    return errors(corrected_rows(rows, freedom, 0.95), share, truth)


def simulated_clusters(sizes, correlation, truth, repeats, floor=True):
    rng = np.random.default_rng(5)
    size = sizes(rng, repeats)
    if correlation == 1.0:
        hits = np.where(rng.random(size.shape) < truth, size, 0)
    else:
        scale = (1 - correlation) / correlation
        hits = rng.binomial(size, rng.beta(truth * scale, (1 - truth) * scale, size.shape))
    total = size.sum(axis=1).astype(float)
    share = hits.sum(axis=1) / total
    variance = ((hits - share[:, None] * size) ** 2).sum(axis=1) / total**2
    if floor:
        squares = Squares(total, hits.sum(axis=1).astype(float), (size**2).sum(axis=1).astype(float),
                          (hits**2).sum(axis=1).astype(float), (hits * size).sum(axis=1).astype(float))  # fmt: skip
        least = unwarned(squares, share, total) if floor == "unwarned" else squares.least_variance(share, total)
        variance = np.maximum(variance, least)
    rows, freedom = effective_rows(share, variance, total**2 / (size**2).sum(axis=1), clustered=True)
    return errors(corrected_rows(rows, freedom, 0.95), share, truth)


def unwarned(squares, share, total):
    """The least variance without the row that is added: how often two rows of a cluster were hits, and no more."""

    def beyond(p, pairs, both):
        return p * (np.where(pairs > 0, both / np.where(pairs > 0, pairs, 1.0), 0.0) - p)

    hits = beyond(share, squares.crossed - squares.hit_rows, squares.hit_clusters - squares.hit_rows)
    rest, crossed = squares.rows - squares.hit_rows, squares.clusters - squares.crossed
    misses = beyond(1 - share, crossed - rest, crossed - squares.crossed + squares.hit_clusters - rest)
    shared = np.clip(np.maximum(hits, misses), 0, share * (1 - share))
    return (share * (1 - share) * squares.rows + shared * (squares.clusters - squares.rows)) / total**2


def few_large(rng, repeats, clusters=100):
    return np.where(rng.random((repeats, clusters)) < 0.1, 20, 2)


def noise(repeats):
    return 3 * np.sqrt(0.025 * 0.975 / repeats)


@pytest.mark.parametrize("kind", ["one in ten counts tenfold", "lognormal", "a few are huge", "whole numbers"])
def test_limits_of_weighted_shares_near_0_miss_no_more_than_they_say(kind):
    assert max(simulated_weights(kind, 400, 0.05, 1500)) <= 0.025 + noise(1500)


def test_without_the_floor_they_miss_several_times_as_often():
    assert simulated_weights("one in ten counts tenfold", 400, 0.05, 1500, floor=False)[1] > 0.07
    assert simulated_weights("whole numbers", 400, 0.5, 1500, floor=False)[1] <= 0.025 + noise(1500)


@pytest.mark.parametrize(("correlation", "truth"), [(1.0, 0.05), (0.5, 0.05), (0.5, 0.2)])
def test_limits_of_shares_over_clusters_of_unequal_size_hold(correlation, truth):
    assert max(simulated_clusters(few_large, correlation, truth, 1500)) <= 0.025 + noise(1500)


def test_without_the_floor_large_clusters_mislead():
    assert simulated_clusters(few_large, 1.0, 0.05, 1500, floor=False)[1] > 0.1


def test_a_single_hit_is_no_sign_that_rows_of_a_cluster_do_not_go_together():
    def fours(rng, repeats):
        return np.full((repeats, 30), 4)

    assert max(simulated_clusters(fours, 0.5, 0.05, 1500)) <= 0.025 + noise(1500)
    assert simulated_clusters(fours, 0.5, 0.05, 1500, floor="unwarned")[1] > 0.05
    plenty = [simulated_clusters(fours, 0.5, 0.5, 1500, floor=floor) for floor in (True, "unwarned")]
    assert max(map(max, plenty)) <= 0.025 + noise(1500)


def test_a_few_hits_of_large_clusters_are_no_sign_that_their_rows_do_not_go_together(monkeypatch):
    def fifties(rng, repeats):
        return np.full((repeats, 30), 50)

    assert max(simulated_clusters(fifties, 0.5, 0.05, 1500)) <= 0.025 + noise(1500)
    monkeypatch.setattr("auditkit.stats.effective._AGREEING", 0.0)  # one row alone
    assert simulated_clusters(fifties, 0.5, 0.05, 1500)[1] > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one in ten counts tenfold", "lognormal", "a few are huge", "whole numbers"])
def test_every_weighted_limit_holds_over_a_grid(kind):
    for n in (30, 100, 400, 2000):
        for truth in (0.02, 0.05, 0.2, 0.5, 0.85):
            assert max(simulated_weights(kind, n, truth, 4000)) <= 0.025 + noise(4000), (n, truth)


@pytest.mark.slow
def test_every_clustered_limit_holds_over_a_grid():
    kinds = {
        "equal": lambda clusters: lambda rng, repeats: np.full((repeats, clusters), 4),
        "few large": lambda clusters: lambda rng, repeats: few_large(rng, repeats, clusters),
        "lognormal": lambda clusters: (
            lambda rng, repeats: np.ceil(np.exp(rng.normal(0.7, 1, (repeats, clusters)))).astype(int)
        ),
    }
    for name, kind in kinds.items():
        for clusters in (30, 100, 400):
            for correlation in (0.1, 0.5, 1.0):
                for truth in (0.05, 0.2, 0.5):
                    found = max(simulated_clusters(kind(clusters), correlation, truth, 3000))
                    assert found <= 0.025 + noise(3000), (name, clusters, correlation, truth, found)


def clustered_counts(label, decision, clusters):
    return count_groups(label, decision, {"g": np.repeat("a", len(label))}, positive=1, clusters=clusters).finest()


def test_a_wrong_cluster_that_was_not_seen_enters_f1_and_precision_as_a_whole():
    """30 clusters of 20, all right, 6 rows of each positive: of F1 the first wrong one would bring 20 rows below the
    line where a right one has 6, of precision 14; n is the sum of what turns times that below over that of squares."""
    clusters = np.repeat(np.arange(30), 20)
    label = np.tile(np.arange(20) < 6, 30).astype(int)
    counts = clustered_counts(label, label, clusters)
    for metric, turns in (("f1", 20), ("positive_predictive_value", 14)):
        rows = (30 * turns) * (30 * 6) / (30 * turns**2)
        rates = group_rates(counts, metric)
        assert (rates.value[0], rates.effective[0, 0]) == (1.0, pytest.approx(rows))
        freedom = rates.freedom[0, 0]
        assert freedom == pytest.approx(rows - 1)
        size = rows * (1.959964 / t.ppf(0.975, freedom)) ** 2
        part = 0.025 ** (1 / size)
        low = 2 * part / (1 + part) if metric == "f1" else part
        assert rates.interval(0, 0.95).low == pytest.approx(low, rel=1e-3)
        # Recall, whose rows the decisions do not choose, keeps its 30 clusters.
        assert group_rates(counts, "true_positive_rate").effective[0, 0] == pytest.approx(30)


@pytest.mark.parametrize("weighted", [False, True])
def test_how_a_share_moves_as_clusters_turn_is_what_turning_every_row_shows(weighted):
    """The least variance of F1 and precision, from each row turned in a loop, and each cluster summed."""
    rng = np.random.default_rng(6)
    n = 240
    clusters, label = rng.integers(0, 40, n), (rng.random(n) < 0.3).astype(int)
    small = np.argsort(np.bincount(clusters))[:2]  # by chance the wrong clusters that were seen are small
    decision = np.where(np.isin(clusters, small), 1 - label, label)
    weights = np.exp(rng.normal(0, 0.5, n)) if weighted else np.ones(n)
    value = {"f1": lambda y, d: ((y & d), (y | d)), "positive_predictive_value": lambda y, d: ((y & d), d)}
    failed = [np.average(decision[label == side] != side, weights=weights[label == side]) for side in (0, 1)]
    right = label == decision
    for metric, sides in value.items():
        hits, below = sides(label, decision)
        mass = (weights * below).sum()
        share = (weights * hits).sum() / mass
        moves = np.zeros(n)
        for row in range(n):
            other_hit, other_below = sides(label[row], 1 - decision[row])
            moves[row] = abs(hits[row] - share * below[row] - other_hit + share * other_below)
        spread = weights * moves * np.sqrt([failed[side] * (1 - failed[side]) for side in label])
        summed = sum(spread[clusters == c].sum() ** 2 for c in set(clusters))
        whole = by_loops(right, weights, clusters)
        p, total = np.average(right, weights=weights), weights.sum()
        alike = whole.shared(np.array([p]), np.array([total]))[0] / (p * (1 - p))
        least = ((spread**2).sum() + alike * (summed - (spread**2).sum())) / mass**2
        counts = count_groups(label, decision, {"g": np.repeat("a", n)}, positive=1, clusters=clusters,
                              **({"weights": weights} if weighted else {})).finest()  # fmt: skip
        rates = group_rates(counts, metric)
        found = share * (1 - share) / rates.effective[0, 0] / (1 + 1 / rates.freedom[0, 0])
        parts = weights * (hits - share * below) / mass
        linear = sum(parts[clusters == c].sum() ** 2 for c in set(clusters))
        own = by_loops(hits[below > 0], weights[below > 0], clusters[below > 0])
        before = max(linear, own.least_variance(np.array([share]), np.array([mass]))[0])
        assert least > 1.05 * before  # here it is the one that counts
        assert found == pytest.approx(least)


def test_where_rows_of_a_cluster_do_not_go_together_f1_and_precision_cost_nothing_more(monkeypatch):
    from auditkit.methods.fairness import metrics

    rng, widths = np.random.default_rng(7), {"f1": [], "positive_predictive_value": []}
    for _ in range(40):
        clusters, label = rng.integers(0, 60, 300), (rng.random(300) < 0.3).astype(int)
        counts = clustered_counts(label, np.where(rng.random(300) < 0.1, 1 - label, label), clusters)
        for metric, each in widths.items():
            ours = group_rates(counts, metric).interval(0, 0.95)
            with monkeypatch.context() as patch:
                patch.setattr(metrics, "_turning", lambda *_: None)
                plain = group_rates(counts, metric).interval(0, 0.95)
            each.append((ours.high - ours.low) / (plain.high - plain.low))
    assert all(1.0 <= np.mean(each) < 1.02 for each in widths.values()), widths
