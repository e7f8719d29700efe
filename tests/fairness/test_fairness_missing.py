"""fairness.missing: bounds equal brute force over every filling-in, intervals cover the region, the gate uses them."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linprog

from auditkit.analyzers.fairness.missing import ANALYZER
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness.missing_groups import Tally, disparity_bounds, disparity_region, rate_ranges, tally
from auditkit.stats.linearised import Design
from auditkit.subjects.build import make_predictions_subject


def fillings(hits, rows, free_hits, free_misses):
    """Rates of all groups under every way to give whole rows to groups."""
    groups = len(hits)

    def splits(total):
        for cuts in itertools.combinations(range(total + groups - 1), groups - 1):
            edges = (-1, *cuts, total + groups - 1)
            yield np.array([b - a - 1 for a, b in itertools.pairwise(edges)])

    for a in splits(free_hits):
        for c in splits(free_misses):
            yield (hits + a) / (rows + a + c)


@pytest.mark.parametrize("seed", range(12))
def test_worst_case_is_that_of_every_filling_in(seed):
    rng = np.random.default_rng(seed)
    groups = 2 + seed % 3
    rows = rng.integers(2, 8, groups)
    hits = rng.integers(0, rows + 1)
    free = rng.integers(0, 4, 2)
    every = list(fillings(hits, rows, *free))
    cells = Tally(hits.astype(float), rows.astype(float), float(free[0]), float(free[1]))
    best, worst = disparity_bounds(cells)
    assert worst == pytest.approx(max(np.ptp(rates) for rates in every), abs=1e-12)
    # Whole rows cannot be more even than rows that may be split.
    assert best <= min(np.ptp(rates) for rates in every) + 1e-12
    if all(rates.max() > 0 for rates in every):
        best, worst = disparity_bounds(cells, "ratio")
        ratios = [rates.min() / rates.max() for rates in every]
        assert worst == pytest.approx(min(ratios), abs=1e-12)
        assert best >= max(ratios) - 1e-12
    low, high = rate_ranges(cells)
    np.testing.assert_allclose(low, np.min(every, axis=0))
    np.testing.assert_allclose(high, np.max(every, axis=0))


def feasible(cells, t, u):
    """Whether free rows can be split so that every rate lies from t to u: a linear programme, another way to say it."""
    g = len(cells.hits)
    lower = np.hstack([np.diag(np.full(g, t - 1.0)), np.diag(np.full(g, t))])
    upper = np.hstack([np.diag(np.full(g, 1.0 - u)), np.diag(np.full(g, -u))])
    found = linprog(
        np.zeros(2 * g),
        A_ub=np.vstack([lower, upper]),
        b_ub=np.concatenate([cells.hits - t * cells.rows, u * cells.rows - cells.hits]) + 1e-9,
        A_eq=np.vstack([[1.0] * g + [0.0] * g, [0.0] * g + [1.0] * g]),
        b_eq=[cells.free_hits, cells.free_misses],
    )
    return found.status == 0


@pytest.mark.parametrize("seed", range(10))
def test_best_case_is_sharp_by_a_linear_programme(seed):
    rng = np.random.default_rng(100 + seed)
    groups = 2 + seed % 4
    rows = rng.integers(5, 40, groups).astype(float)
    cells = Tally(np.floor(rng.random(groups) * rows), rows, float(rng.integers(0, 12)), float(rng.integers(0, 12)))
    best, _ = disparity_bounds(cells)
    grid = np.linspace(0.001, 0.998, 120)
    assert any(feasible(cells, t, min(t + best + 0.009, 0.999)) for t in grid)
    if best > 0.01:
        assert not any(feasible(cells, t, t + best - 0.005) for t in grid if t + best - 0.005 < 0.999)


def test_nothing_missing_gives_the_usual_disparity_and_weights_count():
    from auditkit.methods.fairness import count_groups, disparity

    rng = np.random.default_rng(1)
    hit, codes = rng.random(300) < 0.4, rng.integers(0, 3, 300)
    counts = count_groups(hit.astype(int), hit.astype(int), {"g": codes.astype(str)})
    for kind in ("difference", "ratio"):
        usual = disparity(counts, "selection_rate", kind)
        found = disparity_region(hit, codes, 3, kind)
        assert found.best == pytest.approx(found.worst) == pytest.approx(usual.value)
        assert (found.interval.low, found.interval.high) == pytest.approx(
            (usual.interval.low, usual.interval.high), abs=1e-7
        )
    codes[:40] = -1
    doubled = disparity_region(np.repeat(hit, 2), np.repeat(codes, 2), 3)
    weighted = disparity_region(hit, codes, 3, design=Design(np.full(300, 2.0)))
    assert (weighted.best, weighted.worst) == pytest.approx((doubled.best, doubled.worst))
    assert tally(hit, codes, 3).free_hits == hit[:40].sum()


def by_draws(x, n, y, m, tail, rng):
    """The quantiles of the difference of two beta draws, by drawing: the melded limits of ``x/n - y/m``."""
    lower = (rng.beta(x, n - x + 1, 400_000) if x > 0 else 0.0) - rng.beta(y + 1, m - y, 400_000)
    upper = rng.beta(x + 1, n - x, 400_000) - (rng.beta(y, m - y + 1, 400_000) if y > 0 else 0.0)
    return np.quantile(lower, tail), np.quantile(upper, 1 - tail)


def test_the_interval_of_the_region_by_brute_force():
    """Every ordered pair of groups, every free row given to suit it: the limits of each by drawing from its betas."""
    rng = np.random.default_rng(2)
    hit, codes = rng.random(240) < 0.45, rng.integers(-1, 3, 240)
    found = disparity_region(hit, codes, 3)
    far, near = [], []
    for i, j in itertools.permutations(range(3), 2):
        top, bottom = (codes == i) | ((codes < 0) & hit), (codes == j) | ((codes < 0) & ~hit)
        sizes = hit[top].sum(), top.sum(), hit[bottom].sum(), bottom.sum()
        far.append(by_draws(*sizes, 0.025, rng)[1])
        poor, rich = (codes == i) | ((codes < 0) & ~hit), (codes == j) | ((codes < 0) & hit)
        sizes = hit[poor].sum(), poor.sum(), hit[rich].sum(), rich.sum()
        near.append(by_draws(*sizes, 0.025 / 6, rng)[0])
    assert found.interval.high == pytest.approx(max(far), abs=2e-3)
    assert found.interval.low == pytest.approx(max(0.0, *near), abs=2e-3)
    assert found.interval.low <= found.best <= found.worst <= found.interval.high


@pytest.mark.parametrize(
    ("kind", "rates"), [("difference", (0.3, 0.3)), ("difference", (0.2, 0.6)), ("ratio", (0.3, 0.45))]
)
def test_interval_covers_the_whole_region(kind, rates):
    """Both ends of the population's region lie in the interval in at least 95 of 100 samples, to Monte-Carlo error."""
    rng = np.random.default_rng(2)

    def sample(n):
        group = rng.integers(0, 2, n)
        hit = rng.random(n) < np.array(rates)[group]
        hidden = rng.random(n) < np.where(hit, 0.15, 0.05)
        return hit, np.where(hidden, -1, group)

    exact = disparity_region(*sample(2_000_000), 2, kind)
    held = 0
    for _ in range(300):
        interval = disparity_region(*sample(250), 2, kind).interval
        held += (
            interval.low - 2e-3 <= min(exact.best, exact.worst) and max(exact.best, exact.worst) <= interval.high + 2e-3
        )
    assert held >= 300 * 0.95 - 3 * math.sqrt(300 * 0.05 * 0.95)


def run(subject):
    return run_step(subject, Step(name=ANALYZER.name, params=ANALYZER.params(), analyzer=ANALYZER))


def hidden_subject(share, n=1000):
    """The same decisions with ``share`` of the selected rows' groups missing."""
    rng = np.random.default_rng(3)
    group = rng.choice(["a", "b"], n).astype(object)
    y = (rng.random(n) < 0.5).astype(int)
    decided = np.where(rng.random(n) < 0.85, y, 1 - y)
    group[(rng.random(n) < share) & (decided == 1)] = None
    return make_predictions_subject(y, decided, sensitive={"g": group})


def find(outcome, name):
    return next((m for m in outcome.measurements if m.name == f"fairness.{name}"), None)


def test_hidden_groups_widen_the_bounds_and_none_hidden_says_nothing():
    hidden, open_ = run(hidden_subject(0.4)), run(hidden_subject(0.0))
    worst, best = find(hidden, "selection_rate_if_worst.difference"), find(hidden, "selection_rate_if_best.difference")
    assert worst.value > 0.2 > best.value
    assert worst.interval.low <= best.value <= worst.value <= worst.interval.high
    assert find(hidden, "missing_group_share").interval.low > 0.1
    assert find(open_, "missing_group_share").value == 0.0
    assert len(open_.measurements) == 1
    table = hidden.artifacts[0]
    assert [row[0] for row in table.rows] == [
        "accuracy",
        "selection_rate",
        "true_positive_rate",
        "false_positive_rate",
        "positive_predictive_value",
    ]


@pytest.mark.parametrize(
    ("share", "limit", "state"), [(0.4, 0.1, "inconclusive"), (0.4, 0.9, "pass"), (0.005, 0.2, "pass")]
)
def test_the_gate_is_inconclusive_where_the_bounds_straddle_the_limit(share, limit, state):
    import auditkit

    subject = hidden_subject(share)
    report = auditkit.audit_predictions(
        subject.test.y,
        [int(c) for c in subject.model.predict(subject.test.inputs)],
        sensitive={"g": [None if g == "(missing)" else g for g in subject.test.sensitive["g"]]},
        analyzers=["fairness.missing"],
        policy={
            "version": 1,
            "rule": [
                {
                    "id": "missing",
                    "metric": "fairness.selection_rate_if_worst.difference",
                    "compare": "value",
                    "over": ["g"],
                    "max": limit,
                }
            ],
        },
        progress=False,
    )
    assert report.gate().state == state, report.gate().results


def test_one_known_group_is_told():
    y = np.array([0, 1, 1, 0])
    outcome = run(make_predictions_subject(y, y, sensitive={"g": np.array(["a", None, "a", None], dtype=object)}))
    assert "only one group" in find(outcome, "selection_rate_if_worst.difference").reason
