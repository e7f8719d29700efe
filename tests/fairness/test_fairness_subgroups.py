from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from auditkit.analyzers.fairness.subgroups import ANALYZER
from auditkit.core.evidence import Table
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.fairness.subgroups import Binned, Settings, bin_numbers, search
from auditkit.subjects.build import make_subject


def features(n, columns=4, bins=3, seed=0):
    rng = np.random.default_rng(seed)
    names = tuple("abcdefgh"[:bins])
    return [Binned(f"x{i}", names, rng.integers(0, bins, n)) for i in range(columns)]


def test_every_subgroup_is_the_one_of_a_loop_over_masks():
    cut, rng = features(400), np.random.default_rng(1)
    hits = rng.random(400) < 0.3
    found = search(cut, hits, rng, Settings(depth=2, min_rows=20, permutations=19, top=10_000))
    expected = {}
    for size in (1, 2):
        for chosen in itertools.combinations(cut, size):
            for bins in itertools.product(range(3), repeat=size):
                mask = np.logical_and.reduce([f.code == b for f, b in zip(chosen, bins, strict=True)])
                if mask.sum() >= 20:
                    key = tuple((f.name, f.bins[b]) for f, b in zip(chosen, bins, strict=True))
                    chi2 = stats.chi2_contingency(
                        [[hits[m].sum(), (~hits[m]).sum()] for m in (mask, ~mask)], correction=False
                    ).statistic
                    expected[key] = (mask.sum(), hits[mask].mean(), hits[~mask].mean(), chi2)
    assert found.looked_at == len(found.found) == len(expected)
    for item in found.found:
        n, rate, rest, chi2 = expected[item.conditions]
        assert (item.n, item.rate, item.rest) == (n, pytest.approx(rate), pytest.approx(rest))
        assert item.z**2 == pytest.approx(chi2, rel=1e-5)
        assert item.low <= item.rate - item.rest <= item.high
    assert [abs(item.z) for item in found.found] == sorted((abs(item.z) for item in found.found), reverse=True)


def test_among_noise_something_is_found_no_more_often_than_it_says():
    false = naive = 0
    for seed in range(80):
        rng = np.random.default_rng(seed)
        found = search(features(300, seed=seed), rng.random(300) < 0.3, rng, Settings(min_rows=20, permutations=39))
        false += found.found[0].p_value <= 0.05
        naive += 2 * stats.norm.sf(abs(found.found[0].z)) <= 0.05
        assert 0.0 < found.found[0].p_value <= 1.0
    assert false <= 80 * 0.05 + 3 * (80 * 0.05 * 0.95) ** 0.5
    # A subgroup's own p-value would find something most of the time.
    assert naive > 80 * 0.6


def test_a_planted_conjunction_is_found_at_each_depth():
    rng = np.random.default_rng(0)
    cut = features(3000, columns=5)
    for depth in (1, 2, 3):
        mask = np.logical_and.reduce([cut[i].code == 1 for i in range(depth)])
        hits = rng.random(3000) < np.where(mask, 0.75, 0.3)
        worst = search(cut, hits, rng, Settings(depth=depth, permutations=99)).found[0]
        assert worst.conditions == tuple((f"x{i}", "b") for i in range(depth))
        assert worst.p_value == 0.01
        assert worst.low > 0.15


def test_bins_of_numbers():
    values = np.array([1.0, 2, 3, 4, np.nan, 5, 6, 7, 8])
    cut = bin_numbers("age", values, 4)
    assert cut.bins == ("at most 2", "above 2, at most 4", "above 4, at most 6", "above 6", "missing")
    assert cut.code.tolist() == [0, 0, 1, 1, 4, 2, 2, 3, 3]
    assert bin_numbers("same", np.ones(3), 4).bins == ("any", "missing")
    assert bin_numbers("none", np.full(3, np.nan), 4).code.tolist() == [1, 1, 1]


def table(planted, n=3000, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"age": rng.uniform(20, 80, n), "home": rng.choice(["rent", "own"], n), "income": rng.normal(size=n)}
    )
    y = rng.integers(0, 2, n)
    where = (frame["age"] > 65) & (frame["home"] == "rent")
    wrong = rng.random(n) < np.where(where & planted, 0.6, 0.15)
    answer = pd.Series(np.where(wrong, 1 - y, y), index=frame.index)
    return make_subject(
        lambda inputs: answer.loc[inputs.index].to_numpy(), frame, y, sensitive={"sex": rng.choice(["F", "M"], n)}
    )


def run(subject, **params):
    settings = ANALYZER.params(**{"permutations": 99, **params})
    return run_step(subject, Step(name=ANALYZER.name, params=settings, analyzer=ANALYZER))


def find(outcome, name, rate="error_rate"):
    return next(m for m in outcome.measurements if m.name == f"fairness.{name}" and m.params["rate"] == rate)


def test_the_analyzer_names_a_planted_subgroup_and_leaves_the_clean_twin_alone():
    outcome = run(table(True))
    listed = next(a for a in outcome.artifacts if isinstance(a, Table) and a.name == "fairness.subgroups.error_rate")
    assert "home: rent" in listed.rows[0][0]
    assert "age: above 6" in listed.rows[0][0]
    assert find(outcome, "worst_subgroup_p_value").value == 0.01
    assert find(outcome, "worst_subgroup_gap").interval.low > 0.1
    assert any("exploratory" in note for note in outcome.notes)
    clean = run(table(False))
    assert find(clean, "worst_subgroup_p_value").value > 0.05
    assert find(clean, "worst_subgroup_gap").interval.low == 0.0


def test_rates_count_their_own_rows():
    subject = table(False)
    outcome = run(subject, rates=("false_positive_rate", "false_negative_rate"), depth=1)
    assert (
        find(outcome, "worst_subgroup_p_value", "false_positive_rate").n == (subject.test.y != subject.positive).sum()
    )
    assert (
        find(outcome, "worst_subgroup_p_value", "false_negative_rate").n == (subject.test.y == subject.positive).sum()
    )


def test_weights_and_too_few_rows_are_told():
    few = run(table(False, n=60))
    assert find(few, "worst_subgroup_gap").reason == "no subgroup has 50 rows, with as many outside it"
    frame = pd.DataFrame({"x": np.arange(100.0)})
    y = np.arange(100) % 2
    weighted = make_subject(lambda inputs: np.zeros(len(inputs), dtype=int), frame, y, weights=np.ones(100) + y)
    outcome = run(weighted)
    assert outcome.status == "not_applicable"
    assert "AK460 weighted or clustered rows" in outcome.reason
