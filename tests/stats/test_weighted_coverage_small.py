"""The simulations of benchmarks/weighted_coverage.py in small, and that they would see a limit that is too near."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def coverage(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import weighted_coverage

    yield weighted_coverage
    sys.modules.pop("weighted_coverage")


def test_limits_of_weighted_and_clustered_rows_hold(coverage):
    derived = ("balanced_accuracy", "positive_predictive_value", "f1", "true_positive_rate",
               "negative_predictive_value", "threat_score", "false_negative_share")  # fmt: skip
    for setting in (
        coverage.Setting(0.05, "one in ten counts tenfold", rows=100),
        coverage.Setting(0.2, "linked", rows=100),
        coverage.Setting(0.05, clusters=30, size="4", correlation=0.5),
        coverage.Setting(0.2, "lognormal", clusters=30, size="2 or 20", correlation=1.0),
        # Large clusters wrong as a whole, of which few were seen: F1 missed up to 21 % here.
        coverage.Setting(0.05, clusters=30, size="20", correlation=1.0),
        coverage.Setting(0.2, clusters=10, size="20", correlation=1.0),
    ):
        found = list(coverage.measured(setting, 400))
        clustered = [f"{name}, a label a cluster" for name in derived] if setting.clusters else []
        assert [part.what for part in found] == ["share", "difference", "ratio", *derived, *clustered]
        for part in found:
            assert not part.missing, (part.what, setting.told(), part.below, part.above)


@pytest.mark.parametrize("size", ["4", "20", "2 or 20"])
@pytest.mark.parametrize("weights", ["none", "lognormal", "linked"])
def test_what_is_drawn_has_the_rate_and_the_correlation_that_it_is_said_to_have(coverage, size, weights):
    setting = coverage.Setting(0.2, weights, clusters=30, size=size, correlation=0.5)
    rng = np.random.default_rng(1)
    rows = coverage.drawn(setting, 400, rng)
    hit = rng.random(len(rows.draw)) < rows.chance(0.2, 0.5, rng)
    assert np.average(hit, weights=rows.weight) == pytest.approx(0.2, abs=0.01)
    if weights != "linked":
        sizes = np.bincount(rows.cluster)
        sums = np.bincount(rows.cluster, weights=hit - 0.2)
        own = np.bincount(rows.cluster, weights=(hit - 0.2) ** 2)
        assert (sums**2 - own).sum() / (sizes * (sizes - 1)).sum() / 0.16 == pytest.approx(0.5, abs=0.05)


def test_rows_taken_for_independent_are_seen_to_miss(coverage):
    setting = coverage.Setting(0.2, clusters=30, size="20", correlation=0.5)
    rows = coverage.drawn(setting, 300, np.random.default_rng(2))
    blind = replace(rows, cluster=None)
    rng = np.random.default_rng(3)
    hit = (rng.random(len(rows.draw)) < rows.chance(0.2, 0.5, rng)).astype(int)
    found = []
    for each in (rows, blind):
        rates = coverage.group_rates(coverage._counts(each, 0 * hit, hit), "selection_rate")
        found.append(coverage._found("share", setting, *rates.limits(0.95), 0.2))
    assert not found[0].missing
    assert found[1].missing
    assert found[1].worst > 0.15


def test_the_page_tells_every_setting_that_misses(coverage):
    setting = coverage.Setting(0.2, rows=100)
    clustered = coverage.Setting(0.2, clusters=30, correlation=0.5)
    few = coverage.Setting(0.05, clusters=30, correlation=0.5)
    whole = [coverage.Found("share", each, 0.02, 0.02, 0.1, 2000) for each in (setting, clustered, few)]
    bad = replace(whole[2], above=0.06)
    assert [part.missing for part in (*whole, bad)] == [False, False, False, True]
    text = coverage.page([*whole[:2], bad], 2000)
    assert "| share | 30 clusters of 4, r=0.5, weights none, p=0.05 | 0.0200 | 0.0600 |" in text
    assert "0.0600 upper" in text
