"""fairness.ranking: exposure and divergence against loops over places, a planted order, a random twin."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta, norm, poisson, t

from auditkit.analyzers.fairness.ranking import ANALYZER
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness.ranking import (
    Resampled,
    bootstrap_exposure,
    discounts,
    group_estimate,
    ndkl,
    places,
    relative_exposure,
    top_chances,
    worst_pair,
)
from auditkit.subjects.build import make_predictions_subject


def run(subject, **params):
    settings = ANALYZER.params(**{"resamples": 100, "permutations": 99, **params})
    return run_step(subject, Step(name=ANALYZER.name, params=settings, analyzer=ANALYZER))


def find(outcome, name, over=(), **where):
    found = [m for m in outcome.measurements if m.name == f"fairness.{name}" and m.over == over]
    return next(m for m in found if dict(m.slice) == where)


def subject(shift, seed=0, n=900):
    """Group b's scores are ``shift`` lower than its labels deserve."""
    rng = np.random.default_rng(seed)
    group = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    y = (rng.random(n) < 0.4).astype(int)
    z = 1.5 * (y - 0.5) + rng.normal(0, 0.6, n) - shift * (group == "b")
    score = 1 / (1 + np.exp(-z))
    return make_predictions_subject(y, (score > 0.5).astype(int), score, sensitive={"g": group})


# References: loops over places, averaged over random orders of ties.


def orders(scores, rng, draws):
    for _ in range(draws):
        yield sorted(range(len(scores)), key=lambda row: (-scores[row], rng.random()))


def test_exposure_is_the_average_over_random_orders_of_ties():
    rng = np.random.default_rng(1)
    scores, group = rng.integers(0, 4, 12).astype(float), rng.integers(0, 3, 12)
    total = np.zeros(3)
    for order in orders(scores, rng, 4000):
        attention = np.zeros(12)
        attention[order] = [1 / math.log2(1 + place) for place in range(1, 13)]
        total += [attention[group == g].mean() / attention.mean() for g in range(3)]
    np.testing.assert_allclose(relative_exposure(places(scores, group, 3)), total / 4000, atol=0.02)


def test_exposure_of_a_resample_is_that_of_repeated_rows():
    rng = np.random.default_rng(2)
    scores, group, counts = rng.normal(size=40), rng.integers(0, 3, 40), rng.integers(0, 4, 40)
    repeated = np.repeat(np.arange(40), counts)
    np.testing.assert_allclose(
        relative_exposure(places(scores, group, 3), counts.astype(float)),
        relative_exposure(places(scores[repeated], group[repeated], 3)),
        atol=1e-12,
    )


def test_ndkl_is_the_formula_of_the_paper():
    rng = np.random.default_rng(3)
    scores, group = rng.normal(size=60), rng.integers(0, 3, 60)
    order, whole = np.argsort(-scores), np.bincount(group, minlength=3) / 60
    top = norm = 0.0
    for place in range(1, 61):
        prefix = np.bincount(group[order[:place]], minlength=3) / place
        divergence = sum(p * math.log(p / q) for p, q in zip(prefix, whole, strict=True) if p > 0)
        top, norm = top + divergence / math.log2(1 + place), norm + 1 / math.log2(1 + place)
    assert ndkl(places(scores, group, 3)) == pytest.approx(top / norm, abs=1e-12)


def test_top_places_are_all_given_out_and_ties_share():
    scores = np.array([5.0, 4.0, 4.0, 4.0, 1.0])
    assert top_chances(places(scores, np.zeros(5, dtype=int), 1), 3).tolist() == pytest.approx(
        [1, 2 / 3, 2 / 3, 2 / 3, 0]
    )
    for top in range(1, 6):
        assert top_chances(places(scores, np.zeros(5, dtype=int), 1), top).sum() == pytest.approx(top)


def test_the_order_that_is_best_for_a_group_has_its_highest_exposure():
    group = np.array([0, 0, 1, 1, 1])
    best = relative_exposure(places(np.array([5.0, 4, 3, 2, 1]), group, 2))
    gains = discounts(5)
    assert best[0] == pytest.approx(gains[:2].mean() / gains.mean())
    assert best[1] == pytest.approx(gains[2:].mean() / gains.mean())


# The analyzer.


def test_planted_order_is_found():
    outcome = run(subject(2.0))
    exposure, ratio = find(outcome, "exposure", g="b"), find(outcome, "exposure.ratio", ("g",))
    assert exposure.interval.high < 1.0
    assert ratio.interval.high < 0.95
    assert find(outcome, "exposure_p_value", ("g",)).value == 0.01
    assert find(outcome, "ranking_divergence_p_value", ("g",)).value == 0.01
    top = [m for m in outcome.measurements if m.name == "fairness.top_selection_rate.ratio"]
    assert all(m.interval.high < 0.5 for m in top)
    merit = find(outcome, "exposure_for_merit.ratio", ("g",))
    assert merit.value < 0.95


def test_random_twin_is_quiet():
    outcome = run(subject(0.0))
    assert find(outcome, "exposure.ratio", ("g",)).interval.high > 0.98
    assert find(outcome, "exposure_p_value", ("g",)).value > 0.05
    assert find(outcome, "ranking_divergence_p_value", ("g",)).value > 0.05
    for m in outcome.measurements:
        if m.name == "fairness.top_selection_rate.difference":
            assert m.interval.low == 0.0
        if m.name == "fairness.top_skew":
            assert m.interval.low < 0.0 < m.interval.high


def test_top_shares_add_up_and_skew_is_their_log_ratio():
    outcome = run(subject(1.0), top=[0.2])
    shares = {m.slice["g"]: m for m in outcome.measurements if m.name == "fairness.top_share"}
    assert sum(m.value for m in shares.values()) == pytest.approx(1.0)
    groups = subject(1.0).test.sensitive["g"]
    skew = find(outcome, "top_skew", g="b")
    assert skew.value == pytest.approx(math.log(shares["b"].value / (groups == "b").mean()))
    assert skew.interval.low < skew.value < skew.interval.high


def test_labels_only_multiclass_weights_and_constants_are_refused():
    rng = np.random.default_rng(4)
    y, group = rng.integers(0, 2, 50), rng.choice(["a", "b"], 50)
    plain = make_predictions_subject(y, y, sensitive={"g": group})
    assert "AK439" in run(plain).reason
    constant = make_predictions_subject(y, y, np.full(50, 0.5), sensitive={"g": group})
    assert "the same score" in run(constant).reason
    weighted = make_predictions_subject(y, y, rng.random(50), sensitive={"g": group}, weights=np.ones(50) * 2)
    assert "AK438" in run(weighted).reason


def test_clusters_have_intervals_and_no_permutation_test():
    rng = np.random.default_rng(5)
    score, group = rng.random(200), rng.choice(["a", "b"], 200)
    clustered = make_predictions_subject(
        (score > 0.5).astype(int),
        (score > 0.6).astype(int),
        score,
        sensitive={"g": group},
        clusters=np.arange(200) // 4,
    )
    outcome = run(clustered)
    assert find(outcome, "exposure.ratio", ("g",)).interval is not None
    assert find(outcome, "exposure_p_value", ("g",)).value is None


def test_one_row_of_a_group_and_one_group_are_survived():
    score = np.linspace(0.1, 0.9, 30)
    lone = make_predictions_subject(score > 0.5, score > 0.5, score, sensitive={"g": ["a"] + ["b"] * 29})
    assert find(run(lone), "exposure", g="a").interval is None
    alone = make_predictions_subject(score > 0.5, score > 0.5, score, sensitive={"g": ["a"] * 30})
    outcome = run(alone)
    assert find(outcome, "exposure.ratio", ("g",)).value is None
    assert find(outcome, "ranking_divergence", ("g",)).value is None


@pytest.mark.slow
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_exposure_ratio_covers(shift):
    """Share of simulated rankings whose interval holds the ratio of a very long one, at the same number of rows."""
    rng = np.random.default_rng(6)

    def ranking(n):
        group = rng.integers(0, 2, n)
        return places(rng.normal(size=n) - shift * group, group, 2)

    truths = np.array([relative_exposure(ranking(400)) for _ in range(4000)]).mean(axis=0)
    exact = truths.min() / truths.max()
    missed = np.zeros(2)
    for _ in range(300):
        found = next(bootstrap_exposure(ranking(400), rng, resamples=100))
        interval = worst_pair(found, "ratio").interval
        missed += [interval.low > exact, interval.high < exact]
    assert missed.max() <= 300 * 0.025 + 3 * math.sqrt(300 * 0.025 * 0.975)


def by_loops(scores, group, clusters):
    """Variance of the mean attention of groups that rows (clusters) fell into by chance, two rows at a time."""
    n = len(scores)
    attention = np.empty(n)
    attention[np.argsort(-scores)] = 1 / np.log2(np.arange(2, n + 2))
    moved = attention / attention.mean() - 1
    single = (moved**2).sum() / n
    together = [(i, j) for i in range(n) for j in range(n) if i != j and clusters[i] == clusters[j]]
    shared = np.mean([moved[i] * moved[j] for i, j in together]) if together else 0.0
    shared = min(max(shared, 0.0), single)

    def variance(rows):
        pairs = sum(1 for i, j in together if i in rows and j in rows)
        return (single + shared * pairs / len(rows)) / len(rows)

    return [variance(set(np.flatnonzero(group == g).tolist())) for g in range(3)], variance(set(range(n)))


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_of_exposure_are_no_narrower_than_those_of_groups_by_chance(clustered):
    rng = np.random.default_rng(8)
    n = 120
    clusters = np.arange(n) // 4 if clustered else np.arange(n)
    scores, group = rng.normal(size=n) + rng.normal(size=n)[clusters], rng.choice(3, n, p=[0.5, 0.3, 0.2])
    least, whole = by_loops(scores, group, clusters)
    ranked = places(scores, group, 3)
    found = next(bootstrap_exposure(ranked, np.random.default_rng(9), clusters=clusters if clustered else None))
    assert (found.least, found.whole) == (pytest.approx(least), pytest.approx(whole))
    logs = np.log(found.draws)
    for g in range(3):
        interval = group_estimate(found, g, 40).interval(0.95)
        units = len(set(clusters[group == g]))
        error = max(math.sqrt(least[g] - whole), logs[:, g].std(ddof=1) * math.sqrt(units / (units - 1)))
        assert math.log(interval.high / interval.low) / 2 == pytest.approx(t.ppf(0.975, units - 1) * error, rel=1e-6)
    center, ends = np.log(found.value), []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        units = min(len(set(clusters[group == g])) for g in (i, j))
        seen = (logs[:, i] - logs[:, j]).std(ddof=1) * math.sqrt(units / (units - 1))
        error = max(math.sqrt(least[i] + least[j]), seen)
        ends.append(abs(center[i] - center[j]) + t.ppf(0.975, units - 1) * error)
    assert math.log(worst_pair(found, "ratio").interval.low) == pytest.approx(-max(ends), rel=1e-6)


def exposure_misses(draws, rows, shift, floor=True):
    """How often the lower and the upper limit of the exposure of a group of a third of the rows miss its truth."""
    rng = np.random.default_rng(10)

    def ranking(n):
        group = (rng.random(n) < 1 / 3).astype(np.int64)
        return places(rng.normal(size=n) - shift * group, group, 2)

    truth = np.mean([relative_exposure(ranking(rows))[1] for _ in range(1500)])
    missed = np.zeros(2)
    for _ in range(draws):
        found = next(bootstrap_exposure(ranking(rows), rng, resamples=40))
        found = found if floor else replace(found, least=np.zeros(2), whole=0.0)
        interval = group_estimate(found, 1, rows).interval(0.95)
        missed += [interval.low > truth, interval.high < truth]
    return missed / draws


def test_limits_of_exposure_hold_where_those_of_the_replicates_alone_do_not():
    noise = 3 * math.sqrt(0.025 * 0.975 / 200)
    assert exposure_misses(200, 80, 0.0).max() <= 0.025 + noise
    assert exposure_misses(200, 80, 0.0, floor=False)[1] > 0.07


def test_top_shares_and_top_rates_have_scipys_limits():
    made = subject(0.6, n=300)
    outcome, groups = run(made, top=[0.2]), made.test.sensitive["g"]
    scores = made.model.predict_scores(made.test.inputs)[:, 1]
    top = np.argsort(-scores)[:60]
    assert len(np.unique(scores)) == 300
    for name in "abc":
        hits, rows = int((groups[top] == name).sum()), int((groups == name).sum())
        for quantity, n in (("top_share", 60), ("top_selection_rate", rows)):
            found = find(outcome, quantity, g=name)
            limits = beta.ppf(0.025, hits, n - hits + 1), beta.ppf(0.975, hits + 1, n - hits)
            assert (found.value, found.n) == (pytest.approx(hits / n), n)
            assert (found.interval.low, found.interval.high) == pytest.approx(limits, abs=1e-9)
        skew, of_all = find(outcome, "top_skew", g=name), rows / 300
        limits = np.log(np.array([beta.ppf(0.025, hits, 61 - hits), beta.ppf(0.975, hits + 1, 60 - hits)]) / of_all)
        assert (skew.interval.low, skew.interval.high) == pytest.approx(limits, abs=1e-9)


def test_top_shares_of_clustered_rows_and_of_ties_count_what_they_are_worth():
    rng = np.random.default_rng(10)
    person = np.repeat(np.arange(80), 5)
    group = rng.choice(["a", "b"], 80)[person]
    score = (rng.random(80)[person] + 0.01 * rng.random(400)) / 1.1
    labels = (score > 0.5).astype(int)
    whole = {"sensitive": {"g": group}}
    told, plain = (
        find(run(make_predictions_subject(labels, labels, score, **whole, **keys), top=[0.25]), "top_share", g="a")
        for keys in ({"clusters": person}, {})
    )
    assert told.value == plain.value
    # Rows of a person all have the person's group: the 100 places are worth about the 20 persons that hold them.
    widths = [m.interval.high - m.interval.low for m in (told, plain)]
    assert 1.6 < widths[0] / widths[1] < 3.2
    coarse = np.round(score, 1)
    tied = find(run(make_predictions_subject(labels, labels, coarse, **whole), top=[0.25]), "top_share", g="a")
    chance = top_chances(places(coarse, (group == "b").astype(int), 2), 100)
    assert tied.value == pytest.approx(chance[group == "a"].sum() / 100)
    worth = chance.sum() ** 2 / (chance**2).sum()
    limits = (
        beta.ppf(0.025, tied.value * worth, worth * (1 - tied.value) + 1),
        beta.ppf(0.975, tied.value * worth + 1, worth * (1 - tied.value)),
    )
    ends = tied.interval.low, tied.interval.high
    assert ends[0] <= limits[0] + 1e-9
    assert ends[1] >= limits[1] - 1e-9
    assert ends == pytest.approx(limits, abs=0.02)


def test_worst_pair_by_hand():
    draws = np.random.default_rng(7).lognormal(0, 0.1, (500, 2)) * [0.5, 1.0]
    found = Resampled(np.array([0.5, 1.0]), draws, np.zeros(2), 0.0, np.array([40, 13]))
    gap = worst_pair(found, "ratio")
    assert gap.value == pytest.approx(0.5)
    spread = np.log(found.draws[:, 0] / found.draws[:, 1]).std(ddof=1) * math.sqrt(13 / 12)
    assert gap.interval.low == pytest.approx(math.exp(-(math.log(2) + t.ppf(0.975, 12) * spread)), rel=1e-6)
    # Far from parity the near limit has all of the error on its side, as every gap's has.
    assert gap.interval.high == pytest.approx(math.exp(-(math.log(2) - t.ppf(0.975, 12) * spread)), rel=1e-6)


def merit_misses(draws, rows, base, kind="label", clustered=False, resamples=40, uneven=True):
    """How often each limit of exposure for merit, of two groups and of their ratio, misses its truth.

    The truth is the mean exposure of many rankings of as many rows, over the merit of each group in the population.
    """
    rng = np.random.default_rng(11)

    def ranking():
        size = 4 if clustered else 1
        group = np.repeat(rng.random(rows // size) < 1 / 3, size).astype(np.int64)
        shared = np.repeat(rng.normal(size=rows // size), size) if clustered else np.zeros(rows)
        mean = np.where(group == 1, base[1], base[0])
        if kind == "label":
            latent = 0.7 * shared + math.sqrt(0.51 if clustered else 1.0) * rng.normal(size=rows)
            merit = (latent > norm.isf(mean)).astype(float)
        else:
            merit = rng.gamma(1.0, mean * np.exp(0.7 * shared - 0.245 * clustered))
        clusters = np.repeat(np.arange(rows // 4), 4) if clustered else None
        return places((merit > 0.5) + rng.normal(size=rows), group, 2), merit, clusters

    many = [ranking() for _ in range(2500)]
    exposure = np.mean([relative_exposure(ranked) for ranked, *_ in many], axis=0)
    whole = np.mean([merit.mean() for _, merit, _ in many])
    truth = exposure / (np.array(base) / whole)
    goals = [*truth, truth.min() / truth.max()]
    missed, known = np.zeros((3, 2)), np.zeros(3)
    for _ in range(draws):
        ranked, merit, clusters = ranking()
        found = list(bootstrap_exposure(ranked, rng, merit=merit, clusters=clusters, resamples=resamples))[1]
        found = found if uneven else replace(found, acceleration=None)
        each = [group_estimate(found, g, rows).interval(0.95) for g in (0, 1)]
        for at, interval in enumerate([*each, worst_pair(found, "ratio").interval]):
            if interval is not None:
                known[at] += 1
                missed[at] += [interval.low > goals[at], interval.high < goals[at]]
    return missed / known[:, None], known


def test_limits_of_exposure_for_merit_hold():
    missed, known = merit_misses(200, 80, (0.5, 0.3))
    assert known.min() > 150
    assert missed.max() <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / known.min()), missed


@pytest.mark.slow
@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize(
    ("kind", "rows", "base"), [("label", 80, (0.5, 0.25)), ("label", 200, (0.3, 0.3)), ("gamma", 80, (1.0, 0.5))]
)
def test_limits_of_exposure_for_merit_hold_in_many_settings(kind, rows, base, clustered):
    missed, known = merit_misses(1200, rows, base, kind, clustered, resamples=60)
    assert (missed <= (0.025 + 3 * np.sqrt(0.025 * 0.975 / known))[:, None]).all(), missed


def one_over_a_count(seen):
    """Estimates of one over the mean of a Poisson count that came out at ``seen``, with its whole bootstrap."""
    with np.errstate(divide="ignore"):
        draws = 1.0 / poisson.ppf((np.arange(2000) + 0.5) / 2000, seen)[:, None]
    skew = np.array([-1.0 / (6.0 * math.sqrt(seen))])
    found = Resampled(np.array([1.0 / seen]), draws, np.zeros(1), 0.0, np.array([10**6]), skew)
    return found, [group_estimate(part, 0, 9).interval(0.95) for part in (found, replace(found, acceleration=None))]


def test_limits_of_one_over_few_merits_hold_in_a_listing_of_all_outcomes():
    """One over a count is skewed on the log scale too; limits that are even there miss on one side."""
    made = {seen: one_over_a_count(seen)[1] for seen in range(1, 90)}
    known = [seen for seen, (uneven, _) in made.items() if uneven is not None]
    worst = np.zeros((2, 2))
    for mean in np.arange(5.0, 40.0, 0.5):
        chance = poisson.pmf(known, mean)
        missed = [
            [[ends[which].high < 1 / mean, ends[which].low > 1 / mean] for ends in (made[seen] for seen in known)]
            for which in (0, 1)
        ]
        worst = np.maximum(worst, np.einsum("s,wsl->wl", chance / chance.sum(), np.array(missed, dtype=float)))
    assert worst[0].max() <= 0.028, worst
    assert worst[1, 0] > 0.036, worst


def test_the_shift_is_what_the_skewness_of_students_t_asks_for():
    for seen in (100, 400):
        found, _ = one_over_a_count(seen)
        # Of Student's t of a count the 2.5 % quantile lies (z^2 - 1) / 6 times the skewness further out (Johnson 1978).
        asked = (norm.ppf(0.975) ** 2 - 1.0) / (6.0 * math.sqrt(seen))
        assert found.shift(0, np.log(found.draws[:, 0]), 0.95) == pytest.approx(asked, rel=0.08)


@pytest.mark.slow
def test_the_upper_limit_of_exposure_for_few_merits_is_far_enough():
    """Even limits of a group of 27 rows with 7 positives lie below the truth in 3.6 of 100 audits."""
    missed, even = (merit_misses(1500, 80, (0.5, 0.25), resamples=60, uneven=each)[0] for each in (True, False))
    assert missed.max() <= 0.025
    assert even[1, 1] > 0.03


def test_exposure_of_two_clusters_has_limits_at_every_level():
    """Of two clusters they lie beyond all numbers at high levels, and the whole analysis failed for that."""
    rng = np.random.default_rng(0)
    clusters, group = np.repeat([0, 1, 1], 20), np.arange(60) % 2
    found = next(bootstrap_exposure(places(0.3 * clusters + rng.random(60), group, 2), rng, clusters=clusters))
    widths = []
    for level in (0.95, 0.99, 0.999999):
        interval = group_estimate(found, 0, 30).interval(level)
        assert 0.0 < interval.low < found.value[0] < interval.high < math.inf
        widths.append(math.log(interval.high / found.value[0]))
    assert widths == sorted(widths)
