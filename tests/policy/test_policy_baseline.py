from __future__ import annotations

import datetime
import json

import numpy as np
import pytest
from statsmodels.stats.proportion import confint_proportions_2indep

from auditkit.core.errors import PolicyError, UsageError
from auditkit.core.evidence import Counts, Interval, Measurement
from auditkit.core.schema import dumps, plain
from auditkit.methods.fairness.metrics import group_rates
from auditkit.policy.baseline import make_baseline, read_baseline
from auditkit.policy.change import Change
from auditkit.policy.evaluate import evaluate
from auditkit.policy.files import load_policy
from auditkit.policy.model import parse_policy
from auditkit.render.redact import redact

DAY = datetime.date(2026, 5, 1)
THEN = {"F": (1900, 4000), "M": (2000, 4000)}
WORSE = {"F": (1300, 4000), "M": (2000, 4000)}


def accepted(evidence, reason="release 1"):
    return make_baseline(evidence, reason=reason, accepted=DAY)


def judged(kit, now, base, text=None, **keys):
    """The one rule's result with ``base`` as the baseline named ``b``."""
    import tomllib

    rule = {"compare": "difference", "min": None, "baseline": "b", "max_increase": 0.05, **keys}
    document = {**tomllib.loads(text or kit.rule(**rule)), "baseline": {"b": base}}
    measured = {m.name for m in now.measurements()}
    return evaluate(now, parse_policy(document, measured=measured), as_of=kit.AS_OF).results[0]


def test_a_gap_that_grew_fails_and_its_clean_twin_passes(kit):
    base = accepted(kit.evidence(*kit.selected(**THEN)))
    clean = judged(kit, kit.evidence(*kit.selected(**{"F": (1910, 4000), "M": (1990, 4000)})), base)
    assert (clean.state, clean.limit) == ("pass", "worse than b by <= 0.05")
    worse = judged(kit, kit.evidence(*kit.selected(**WORSE)), base)
    assert worse.state == "fail"
    only = worse.comparisons[0]
    assert only.value == pytest.approx(0.175 - 0.025)
    assert only.interval.low > 0.05
    assert "difference 0.175, 0.025 in the baseline: worse by 0.15" in worse.message
    assert "baseline of 2026-05-01 (release 1)" in worse.message


def test_a_gap_that_grew_fails_with_best_too_where_a_small_group_came_out_best(kit):
    base = accepted(kit.evidence(*kit.selected(**THEN, X=(7, 8))))
    now = kit.evidence(*kit.selected(**WORSE, X=(7, 8)))
    best, every = (judged(kit, now, base, reference=of) for of in ("best", "pairwise"))
    assert (best.state, best.comparisons[0].label) == ("fail", "sex: F vs M")
    assert best.comparisons == every.comparisons


def test_an_improved_gap_passes_whatever_its_size(kit):
    base = accepted(kit.evidence(*kit.selected(**WORSE)))
    assert judged(kit, kit.evidence(*kit.selected(**THEN)), base, max_increase=0.0).state == "pass"


def test_few_rows_are_inconclusive_and_say_what_would_settle(kit):
    base = accepted(kit.evidence(*kit.selected(F=(48, 100), M=(50, 100))))
    now = judged(kit, kit.evidence(*kit.selected(F=(48, 100), M=(50, 100))), base, max_increase=0.2)
    assert now.state == "inconclusive"
    assert 100 < now.comparisons[0].n_needed < 2000
    tight = judged(kit, kit.evidence(*kit.selected(F=(48, 100), M=(50, 100))), base, max_increase=0.01)
    assert "with the rows of the baseline, no number of rows today would settle it" in tight.message


@pytest.mark.parametrize(("direction", "wrong", "right"), [("lower", 0.30, 0.20), ("higher", 0.20, 0.30)])
def test_a_value_is_worse_against_its_direction(kit, direction, wrong, right):
    def measured(value):
        interval = Interval(low=value - 0.01, high=value + 0.01, level=0.95, method="t")
        m = Measurement(name="robustness.x", value=value, n=100, interval=interval, direction=direction)
        return kit.evidence(*kit.selected(**THEN), measurements=[m])

    keys = {"metric": "robustness.x", "compare": "value", "over": None, "max_increase": 0.05}
    base = accepted(measured(0.25))
    assert judged(kit, measured(wrong), base, **keys | {"max_increase": 0.02}).state == "fail"
    assert judged(kit, measured(right), base, **keys).state == "pass"
    interval = judged(kit, measured(wrong), base, **keys).comparisons[0].interval
    assert interval.high - interval.low == pytest.approx(2 * np.hypot(0.01, 0.01))


def test_a_value_without_a_direction_is_judged_both_ways_by_exact_limits(kit):
    base = accepted(kit.evidence(*kit.selected(**THEN)))
    now = kit.evidence(*kit.selected(**{"F": (1900, 4000), "M": (1800, 4000)}))
    result = judged(kit, now, base, compare="value", over=["sex"], max_increase=0.02)
    found = {c.sides[0].group: c for c in result.comparisons}
    assert (found["M"].state, found["F"].state) == ("fail", "inconclusive")
    low, high = confint_proportions_2indep(2000, 4000, 1800, 4000, method="newcomb", compare="diff")
    assert (found["M"].interval.low, found["M"].interval.high) == pytest.approx((low, high), abs=1e-3)
    assert found["M"].interval.low < low < high < found["M"].interval.high  # exact limits are a little wider
    assert found["M"].interval.method == "melded"
    assert "changed by 0.05" in found["M"].message


def test_a_ratio_is_worse_when_it_falls(kit):
    base = accepted(kit.evidence(*kit.selected(**THEN)))
    fell = judged(kit, kit.evidence(*kit.selected(**WORSE)), base, compare="ratio")
    assert fell.state == "fail"
    assert fell.comparisons[0].value == pytest.approx(0.95 - 0.65)
    assert judged(kit, kit.evidence(*kit.selected(**THEN)), accepted(kit.evidence(*kit.selected(**WORSE))),
                  compare="ratio").state == "pass"  # fmt: skip


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (lambda kit: kit.evidence(*kit.selected(F=(50, 100), X=(50, 100))), "the groups differ .*X only now; M only"),
        (lambda kit: kit.evidence(*kit.selected(**THEN), classes=("no", "maybe")), "the classes differs"),
    ],
)
def test_what_cannot_be_compared_is_an_error(kit, now, told):
    base = accepted(kit.evidence(*kit.selected(**THEN)))
    result = judged(kit, now(kit), base)
    assert result.state == "error"
    import re

    assert re.search(told, result.message), result.message


def test_a_metric_that_the_baseline_lacks_is_an_error_even_when_optional(kit):
    m = Measurement(name="robustness.x", value=0.5, n=9, reason="exact: counted")
    base = accepted(kit.evidence(*kit.selected(**THEN)))
    now = kit.evidence(*kit.selected(**THEN), measurements=[m])
    result = judged(kit, now, base, metric="robustness.x", compare="value", over=None, optional=True)
    assert (result.state, result.message.startswith("in the baseline: ")) == ("error", True)


def test_a_rate_undefined_in_the_baseline_is_an_error(kit):
    y, p, g = kit.selected(**THEN)
    base = accepted(kit.evidence(np.where(g["sex"] == "F", 0, y), p, g))
    result = judged(kit, kit.evidence(y, p, g), base, metric="true_positive_rate")
    assert (result.state, "in the baseline: " in result.message) == ("error", True)


def test_a_baseline_that_was_edited_is_refused(kit):
    base = accepted(kit.evidence(*kit.selected(**THEN)))
    assert read_baseline(base, where="b").reason == "release 1"
    edited = json.loads(json.dumps(base).replace("950", "650"))
    assert edited != base
    with pytest.raises(PolicyError, match="AK418 the baseline is damaged"):
        read_baseline(edited, where="b")
    result = judged(kit, kit.evidence(*kit.selected(**THEN)), edited)
    assert (result.state, "AK418" in result.message) == ("error", True)
    for junk in ({}, [], {"schema": "auditkit-baseline/1"}, {**base, "evidence": 3}, {**base, "accepted": "soon"}):
        with pytest.raises(PolicyError, match="AK418"):
            read_baseline(junk, where="b")


def test_only_a_whole_audit_with_a_reason_is_accepted(kit):
    evidence = kit.evidence(*kit.selected(**THEN))
    with pytest.raises(UsageError, match="AK419 a baseline needs a reason"):
        accepted(evidence, reason="  ")
    with pytest.raises(UsageError, match="AK420 a redacted copy cannot"):
        accepted(redact(evidence))
    empty = kit.evidence(*kit.selected(**THEN), status="failed", reason="boom")
    with pytest.raises(UsageError, match="AK420 nothing was measured"):
        accepted(empty)


def test_baseline_rules_that_make_no_sense_are_faults(kit):
    for keys, told in (
        ({"baseline": "b"}, "baseline and max_increase go together"),
        ({"baseline": "b", "max_increase": 0.1}, "a rule with a baseline is limited by max_increase"),
    ):
        with pytest.raises(PolicyError, match=told):
            kit.judge(kit.evidence(*kit.selected(**THEN)), kit.rule(**keys))


def test_the_policy_reads_its_baselines_from_files_beside_it(kit, tmp_path):
    (tmp_path / "audit.toml").write_text(
        kit.rule(compare="difference", min=None, baseline="release", max_increase=0.05), encoding="utf-8"
    )
    with pytest.raises(PolicyError, match="AK417 the baseline 'release' cannot be read"):
        load_policy(tmp_path / "audit.toml")
    (tmp_path / "baselines").mkdir()
    target = tmp_path / "baselines" / "release.json"
    target.write_text("{")
    with pytest.raises(PolicyError, match="AK417"):
        load_policy(tmp_path / "audit.toml")
    target.write_text(json.dumps(accepted(kit.evidence(*kit.selected(**THEN)))))
    policy = load_policy(tmp_path / "audit.toml")
    verdict = evaluate(kit.evidence(*kit.selected(**WORSE)), policy, as_of=kit.AS_OF)
    assert verdict.exit_code == 1


def test_an_embedded_baseline_judges_alike_and_is_redacted_in_shared_copies(kit):
    small = kit.evidence(*kit.selected(F=(1900, 4000), M=(2000, 4000), X=(2, 5)))
    policy = {
        "rule": [{"id": "r", "metric": "selection_rate", "compare": "difference", "over": ["sex"], "baseline": "b",
                  "max_increase": 0.05}],
        "baseline": {"b": accepted(small)},
    }  # fmt: skip
    evidence = kit.replace(small, policy=policy)
    from auditkit.core.schema import loads

    again = loads(dumps(evidence))
    states = [evaluate(e, parse_policy(plain(e.policy)), as_of=kit.AS_OF).state for e in (evidence, again)]
    assert states[0] == states[1] == "inconclusive"
    copy = redact(again)
    inner = read_baseline(plain(copy.policy)["baseline"]["b"], where="b").evidence
    for counts in inner.counts():
        for group, cells in zip(counts.groups, counts.n, strict=True):
            if "X" in group:
                assert sum(map(sum, cells)) == 0
    assert inner.redacted


@pytest.mark.parametrize(
    ("then", "now"), [((0.4, 0.4), (0.4, 0.4)), ((0.4, 0.5), (0.4, 0.5)), ((0.3, 0.35), (0.3, 0.45))]
)
def test_limits_of_a_changed_gap_cover_it(then, now):
    """Also where both gaps are 0, where the observed gaps are biased upward and a plain MOVER misses 5 % a side."""
    pairs, rows = 20_000, 400
    rng = np.random.default_rng(5)

    def family(rates):
        chosen = rng.binomial(rows, np.tile(rates, pairs))
        cells = tuple(((int(rows - k), int(k)), (0, 0)) for k in chosen)
        groups = tuple((str(index),) for index in range(2 * pairs))
        counts = Counts(name="c", over=("g",), groups=groups, classes=("n", "y"), n=cells, positive=1)
        return group_rates(counts, "selection_rate", 1)

    size = 2 * pairs
    change = Change(
        label="", kind="difference", names=("",) * size, slices=({},) * size, estimates=family(now), base=family(then),
        undefined=(None,) * size, unbounded=(None,) * size, totals=np.full(size, rows), small=np.zeros(size, bool),
        left=np.arange(0, size, 2), right=np.arange(1, size, 2), tests=1,
    )  # fmt: skip
    truth = abs(now[0] - now[1]) - abs(then[0] - then[1])
    low, high = change.bounds(0.95)
    slack = 3 * np.sqrt(0.025 * 0.975 / pairs)
    assert np.mean(low > truth) <= 0.025 + slack
    assert np.mean(high < truth) <= 0.025 + slack
    if then[0] != then[1]:  # at no gap at all the bound is of the larger of two and must be wide
        assert np.mean((low <= truth) & (truth <= high)) < 0.985, "wider than it need be"
    assert ((low <= change.values()) & (change.values() <= high)).all()
