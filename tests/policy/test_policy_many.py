"""Very many comparisons: screening by cheap limits changes nothing that is shown or counted."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from auditkit.methods.fairness.gaps import disparity_limits, limit_envelope
from auditkit.methods.fairness.metrics import group_rates
from auditkit.policy import evaluate as gate
from auditkit.policy.decide import decide
from auditkit.policy.families import Family
from auditkit.policy.resolve import resolve, settle


def many(kit, seed, rows, groups=40, spread=0.3):
    """Selection rates of many groups of uneven size, a few of them with hardly a hit."""
    rng = np.random.default_rng(seed)
    sizes = np.maximum(rng.poisson(rows * rng.uniform(0.2, 2.0, groups)), 2)
    rates = np.clip(0.4 + spread * rng.normal(0, 0.3, groups), 0.0, 1.0)
    rates[:3] = (0.0, 0.01, 0.995)
    return kit.evidence(*kit.selected(**{f"g{i:03d}": (int(rng.binomial(n, p)), int(n))
                                         for i, (n, p) in enumerate(zip(sizes, rates, strict=True))}))  # fmt: skip


@pytest.mark.parametrize("rows", [12, 300, 20_000])
@pytest.mark.parametrize("keys", [{"compare": "difference", "min": None, "max": 0.2}, {"compare": "ratio", "min": 0.8}])
def test_screened_decisions_are_those_of_all_exact_limits(kit, keys, rows):
    evidence = many(kit, 0, rows, groups=24)
    policy = kit.policy(kit.rule(**keys))
    settings = settle(policy.rule[0], policy)
    families, _ = resolve(settings, policy, evidence)
    whole, part = decide(families, settings), decide(families, settings, 30)
    assert len(whole.shown) == 276
    assert part.tally == whole.tally == Counter(d.comparison.state for d in whole.shown)
    for one, two in zip(part.shown, whole.shown, strict=False):
        rest = {"n_needed": None, "message": ""}  # rows needed are worked out for some of those that are shown
        assert kit.replace(one.comparison, **rest) == kit.replace(two.comparison, **rest)
    assert len(part.shown) == 30


def test_few_exact_limits_are_worked_out(kit, monkeypatch):
    evidence = many(kit, 2, 3000, groups=30)
    asked = []
    real = Family.bounds
    monkeypatch.setattr(Family, "bounds", lambda self, level: asked.append(len(self.left)) or real(self, level))
    result = kit.judge(evidence, kit.rule(compare="difference", min=None, max=0.2)).results[0]
    assert "of 435)" in result.message
    assert len(result.comparisons) == gate.MOST_COMPARISONS
    assert asked[0] < 435 / 2


@pytest.mark.parametrize("level", [0.8, 0.95, 0.9999])
@pytest.mark.parametrize("kind", ["difference", "ratio"])
def test_the_envelope_holds_the_exact_limits(kit, kind, level):
    for seed, rows in enumerate((4, 12, 40, 400, 10_000)):
        rates = group_rates(list(many(kit, seed, rows, groups=24).counts())[1], "selection_rate")
        left, right = np.triu_indices(24, 1)
        low, high = disparity_limits(rates, left, right, kind, level)
        outer, inner = limit_envelope(rates, left, right, kind, level)
        known = np.isfinite(np.stack([low, high, *outer, *inner])).all(axis=0)
        assert known.mean() > 0.8
        low, high, outer, inner = low[known], high[known], [e[known] for e in outer], [e[known] for e in inner]
        assert (outer[0] <= low + 1e-9).all()
        assert (low <= inner[0] + 1e-9).all()
        assert (inner[1] <= high + 1e-9).all()
        assert (high <= outer[1] + 1e-9).all()


def test_the_worst_inconclusive_comparison_says_what_would_settle_it(kit):
    """Also where it is not among those that need most."""
    groups = {f"g{i:02d}": (46 + i % 9, 100) for i in range(14)}
    result = kit.judge(
        kit.evidence(*kit.selected(**groups)), kit.rule(compare="difference", min=None, max=0.05)
    ).results[0]
    assert result.state == "inconclusive"
    assert "would settle it" in result.comparisons[0].message
    assert "would settle it" not in result.comparisons[-1].message
