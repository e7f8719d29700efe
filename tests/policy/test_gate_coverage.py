"""The gate is wrong no more often than it says: simulated at the boundary of the limit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from auditkit.methods.fairness.counts import count_groups
from auditkit.methods.fairness.metrics import group_rates
from auditkit.policy.decide import decide
from auditkit.policy.families import Family, comparisons_of
from auditkit.policy.lookup import Settings
from auditkit.policy.model import Rule

DRAWS = 200


@pytest.fixture(autouse=True)
def _no_sizing(monkeypatch):
    """The rows needed are tested elsewhere, and are most of the time here."""
    monkeypatch.setattr("auditkit.policy.decide.rows_needed", lambda *args, **keys: None)


def states(rng, truth, n, kind, limit, draws=DRAWS):
    """How often each state comes out, with selection rates ``truth`` and ``n`` rows a group."""
    found = {"pass": 0, "fail": 0, "inconclusive": 0}
    key = {"max": limit} if kind == "difference" else {"min": limit}
    rule = Rule(id="r", metric="m", compare=kind, **key)
    settings = Settings(
        rule=rule, metric="m", reference="pairwise", decide="interval", confidence=0.95, small="inconclusive", min_n=0,
        missing="group",
    )  # fmt: skip
    names = tuple(f"g{i}" for i in range(len(truth)))
    template = count_groups(
        np.zeros(len(truth), dtype=int),
        np.zeros(len(truth), dtype=int),
        {"g": np.array(names)},
        classes=("n", "y"),
        positive=1,
    )[1]
    for _ in range(draws):
        hits = rng.binomial(n, truth)
        cells = tuple(((int(n - k), int(k)), (0, 0)) for k in hits)
        rates = group_rates(dataclasses.replace(template, n=cells), "selection_rate")
        left, right, tests = comparisons_of(kind, rates, names, "pairwise", False)
        family = Family(
            label="g", kind=kind, names=names, slices=({},) * len(names), estimates=rates,
            undefined=rates.undefined, unbounded=(None,) * len(names), totals=rates.rows,
            small=np.zeros(len(names), dtype=bool), left=left, right=right, tests=tests,
        )  # fmt: skip
        found[decide([family], settings).shown[0].comparison.state] += 1
    return found


@pytest.mark.parametrize(("groups", "n"), [(2, 200), (2, 1000), (6, 400)])
@pytest.mark.parametrize("kind", ["difference", "ratio"])
def test_at_the_limit_false_passes_and_false_fails_stay_under_alpha(groups, n, kind):
    rng = np.random.default_rng(groups * n)
    truth = np.full(groups, 0.5)
    truth[0] = 0.4
    limit = 0.1 if kind == "difference" else 0.8
    found = states(rng, truth, n, kind, limit, draws=DRAWS if groups == 2 else DRAWS // 4)
    total = sum(found.values())
    # One-sided error (1 - 0.95) / 2, and three standard errors of the simulation.
    allowed = total * 0.025 + 3 * (total * 0.025 * 0.975) ** 0.5
    assert found["pass"] <= allowed, found
    assert found["fail"] <= allowed, found


def test_with_enough_rows_parity_passes_and_a_large_gap_fails():
    rng = np.random.default_rng(1)
    assert states(rng, np.full(6, 0.4), 2000, "difference", 0.1, 15)["pass"] == 15
    assert states(rng, np.array([0.2] + [0.4] * 5), 2000, "difference", 0.1, 15)["fail"] == 15
    # Six groups of 100 at exact parity look 0.1 apart more often than not: no verdict either way.
    assert states(rng, np.full(6, 0.3), 100, "difference", 0.1, 30)["fail"] <= 1
