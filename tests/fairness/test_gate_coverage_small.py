"""The simulations of benchmarks/gate_coverage.py in small."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def simulation(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import gate_coverage

    yield gate_coverage
    sys.modules.pop("gate_coverage")


def test_intervals_of_rates_and_pairs_cover_the_truth(simulation):
    found = list(
        simulation.coverage(
            np.random.default_rng(0), 600, rates=(0.1, 0.5), sizes=(100, 5000), gaps=(0.0, 0.3), many=()
        )
    )
    assert len(found) == 4 + 2 * 2 * 2 * 2 * 2
    assert not [part for part in found if part.share < 0.94 - 3 * part.sd]
    assert np.mean([part.share for part in found]) > 0.945


def test_a_worst_gap_over_groups_is_covered_where_its_percentile_bootstrap_is_not(simulation):
    found = list(simulation.coverage(np.random.default_rng(0), 400, rates=(0.3,), sizes=(100,), gaps=(0.0,), many=(6,)))
    worst = [part for part in found if part.what.startswith("worst")]
    assert len(worst) == 2
    assert min(part.share for part in worst) >= 0.94
    # The same gap by the percentile bootstrap of the maximum: the truth, 0, is never held.
    rng = np.random.default_rng(1)
    rates = rng.binomial(100, 0.3, 6) / 100
    gaps = np.ptp(rng.binomial(100, rates, (1000, 6)) / 100, axis=1)
    assert np.quantile(gaps, 0.025) > 0.0


def test_the_whole_gate_at_its_limit_is_wrong_no_more_often_than_it_says(simulation):
    found = list(simulation.gate(np.random.default_rng(0), 60, rates=(0.5,), sizes=(1000,), many=(2,)))
    assert {part.what for part in found} == {"false pass", "false fail"}
    assert not [part for part in found if part.share > 0.025 + 3 * part.sd]


def test_the_report_tells_what_is_below(simulation):
    low = simulation.Found("rate", "p=0.5, n=30", 0.80, 0.01)
    gate = [simulation.Found(what, "x", 0.5, 0.01) for what in ("false pass", "false fail")]
    text = simulation.summary([low, *gate], 100)
    assert "| rate | 1 | 0.800 | 0.800 (p=0.5, n=30) | 1 | 1 |" in text
    assert "| false pass | 1 | 0.500 | 0.500 (x) | 1 |" in text
