"""Probable groups: the weighted estimator against sure groups, drawn groups and simulated truth."""

import math

import numpy as np
import pytest

from auditkit.core.errors import UsageError
from auditkit.methods.fairness import count_groups, disparity, probable_disparity
from auditkit.stats.linearised import Design


def test_sure_groups_give_the_usual_rates_and_gap():
    rng = np.random.default_rng(0)
    hit, group = rng.random(400) < 0.4, rng.integers(0, 3, 400)
    found = probable_disparity(hit, np.eye(3)[group])
    usual = disparity(count_groups(hit.astype(int), hit.astype(int), {"g": group.astype(str)}), "selection_rate")
    assert [r.value for r in found.rates] == pytest.approx([hit[group == g].mean() for g in range(3)])
    assert found.difference.value == pytest.approx(usual.value)
    assert found.difference.interval.high == pytest.approx(usual.interval.high, abs=0.01)


def test_rates_are_those_of_groups_drawn_by_their_chances():
    rng = np.random.default_rng(1)
    hit, first = rng.random(200) < 0.5, rng.random(200)
    drawn = [(hit[rows].sum(), rows.sum()) for rows in (rng.random(200) < first for _ in range(4000))]
    expected = np.mean([h for h, _ in drawn]) / np.mean([n for _, n in drawn])
    found = probable_disparity(hit, np.column_stack([first, 1 - first]))
    assert found.rates[0].value == pytest.approx(expected, abs=0.004)


def test_weights_are_repeats_and_clusters_widen():
    rng = np.random.default_rng(2)
    hit, first, weights = rng.random(100) < 0.5, rng.random(100), rng.integers(1, 4, 100)
    chance = np.column_stack([first, 1 - first])
    repeat = np.repeat(np.arange(100), weights)
    weighted = probable_disparity(hit, chance, design=Design(weights.astype(float)))
    assert weighted.difference.value == pytest.approx(probable_disparity(hit[repeat], chance[repeat]).difference.value)
    alike = np.repeat(np.arange(100), 4)
    plain = probable_disparity(hit[alike], chance[alike]).difference.interval
    clustered = probable_disparity(hit[alike], chance[alike], design=Design(None, alike)).difference.interval
    assert clustered.high - clustered.low > 1.5 * (plain.high - plain.low)


@pytest.mark.parametrize("gap", [0.0, 0.25])
def test_interval_covers_where_a_hit_depends_on_the_chance_alone(gap):
    rng = np.random.default_rng(3)

    def sample(n):
        first = rng.beta(0.5, 0.5, n)
        return rng.random(n) < 0.3 + gap * first, np.column_stack([first, 1 - first])

    exact = probable_disparity(*sample(1_000_000)).difference.value if gap else 0.0
    held = 0
    for _ in range(300):
        interval = probable_disparity(*sample(200)).difference.interval
        held += interval.low <= exact <= interval.high
    assert held >= 300 * 0.95 - 3 * math.sqrt(300 * 0.05 * 0.95)


def test_vague_chances_hide_a_gap_which_is_why_bounds_are_there():
    rng = np.random.default_rng(4)
    group = rng.integers(0, 2, 5000)
    hit = rng.random(5000) < np.where(group == 0, 0.2, 0.6)
    sure = probable_disparity(hit, np.eye(2)[group]).difference.value
    vague = np.clip(0.5 + 0.1 * (1 - 2 * group) + rng.normal(0, 0.05, 5000), 0, 1)
    assert probable_disparity(hit, np.column_stack([vague, 1 - vague])).difference.value < 0.3 * sure


@pytest.mark.parametrize(
    "chances", [[[0.5, 0.6]], [[1.0]], [[0.5, 0.5], [0.5, 0.5]], [[-0.1, 1.1]], [[float("nan"), 0.5]], [0.5]]
)
def test_what_is_no_chance_is_refused(chances):
    with pytest.raises(UsageError, match="AK442"):
        probable_disparity([True], chances)


def test_a_group_without_any_chance_is_undefined():
    found = probable_disparity([True, False], [[1.0, 0.0], [1.0, 0.0]])
    assert found.difference.value is None
    assert "no chance" in found.difference.reason
