"""The enumerations and simulations of benchmarks/gate_coverage.py in small."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize


@pytest.fixture
def coverage(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import gate_coverage

    yield gate_coverage
    sys.modules.pop("gate_coverage")


def test_limits_of_one_rate_hold_exactly_where_wilsons_do_not(coverage):
    found = list(coverage.single(sizes=(5, 30, 500)))
    assert min(part.share for part in found if part.method == "ours") >= 0.95
    assert min(part.share for part in found if part.method == "Wilson") < 0.93


def test_differences_and_ratios_hold_exactly_where_approximations_do_not(coverage):
    found = list(coverage.pair_coverage(rates=(0.02, 0.1, 0.5, 0.95), sizes=(3, 12, 25)))
    ours = [part for part in found if part.method == "ours"]
    held = [part for part in ours if part.what in ("difference", "ratio")]
    assert len(held) > 150
    assert min(part.share for part in held) >= 0.95
    # Each error of the gate with the truth at the limit, too, and not only both together.
    wrong = [part for part in ours if part.what.startswith("false")]
    assert {part.what for part in wrong} == {"false pass, two groups", "false fail, two groups"}
    assert max(part.share for part in wrong) <= 0.025 * (1 + 1e-4)
    others = [part for part in found if part.method != "ours" and part.what == "difference"]
    assert {part.method for part in others} == {"Newcombe / MOVER", "Miettinen-Nurminen"}
    assert min(part.share for part in others) < 0.92


def score_by_maximisation(p, n, q, m, d):
    """The score statistic with the restricted estimates found by maximising the likelihood, not in closed form."""

    def loss(below):
        above = below + d
        hits = p * n * np.log(above) + q * m * np.log(below)
        return -(hits + (n - p * n) * np.log1p(-above) + (m - q * m) * np.log1p(-below))

    ends = (max(0.0, -d) + 1e-12, min(1.0, 1.0 - d) - 1e-12)
    below = optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    above = below + d
    variance = (above * (1 - above) / n + below * (1 - below) / m) * (n + m) / (n + m - 1)
    return (p - q - d) / np.sqrt(variance)


def test_miettinen_and_nurminens_limits_are_where_the_score_is_at_its_level(coverage):
    for a, n, b, m in ((30, 100, 45, 90), (2, 40, 25, 50), (7, 15, 1, 18)):
        p, q = a / n, b / m
        near, far = coverage.miettinen_nurminen(np.array([p]), n, np.array([q]), m)
        sign = 1 if p > q else -1
        for end in (near[0], far[0]):
            assert abs(score_by_maximisation(p, n, q, m, sign * end)) == pytest.approx(1.959964, abs=1e-6)


def test_a_worst_gap_over_groups_is_covered_where_its_percentile_bootstrap_is_not(coverage):
    found = list(coverage.worst(np.random.default_rng(0), 60, rates=(0.3,), sizes=(100,), gaps=(0.0,), many=(6,)))
    assert len(found) == 2
    assert min(part.share for part in found) >= 0.94
    # The same gap by the percentile bootstrap of the maximum: the truth, 0, is never held.
    rng = np.random.default_rng(1)
    rates = rng.binomial(100, 0.3, 6) / 100
    gaps = np.ptp(rng.binomial(100, rates, (1000, 6)) / 100, axis=1)
    assert np.quantile(gaps, 0.025) > 0.0


def test_the_whole_gate_at_its_limit_is_wrong_no_more_often_than_it_says(coverage):
    found = list(coverage.gate(np.random.default_rng(0), 60, rates=(0.5,), sizes=(1000,), many=(2,)))
    assert {part.what for part in found} == {"false pass, many groups", "false fail, many groups"}
    assert not [part for part in found if part.share > 0.025 + 3 * part.sd]


def test_the_report_tells_what_is_below(coverage):
    low = coverage.Found("rate", "ours", "p=0.5, n=30", 0.80)
    gate = [coverage.Found(what, "ours", "x", 0.5) for what in ("false pass", "false fail")]
    text = coverage.summary([low, *gate], 100)
    assert "| rate | ours | 1 | 0.8000 | 0.8000 (p=0.5, n=30) | 1 |" in text
    assert "| false pass | ours | 1 | 0.5000 | 0.5000 (x) | 1 |" in text
