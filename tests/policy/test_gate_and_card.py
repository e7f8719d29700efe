"""A gap has one interval: the gate's is the card's, whatever was measured and however the rows hang together."""

import datetime
import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

import auditkit
from auditkit.core.evidence import DataFacts, Evidence, Interval, Measurement, Outcome, PlanFacts, SubjectFacts
from auditkit.policy.evaluate import evaluate
from auditkit.policy.model import Policy, Rule, parse_policy
from auditkit.policy.moves import moves
from auditkit.policy.pairs import Pairs
from auditkit.policy.resolve import settle
from auditkit.policy.resolve_change import changes_between
from auditkit.stats.intervals import clopper_pearson, mean_interval

TODAY = datetime.date(2026, 1, 1)
DESIGNS = [(False, False), (True, False), (False, True)]


def keys(rng, n, weighted, clustered):
    return {
        "weights": np.exp(rng.normal(0, 0.7, n)) if weighted else None,
        "clusters": rng.integers(0, n // 4, n) if clustered else None,
    }


def decisions(groups, weighted, clustered, n=300):
    rng = np.random.default_rng(0)
    sex = rng.choice(list(groups), n)
    label = (rng.random(n) < 0.3 + 0.2 * (sex == "M")).astype(int)
    score = np.clip(0.5 * label + 0.25 + rng.normal(0, 0.25, n) - 0.1 * (sex == "F"), 0, 1).round(2)
    analyzers = {"performance": {}, "fairness.groups": {"cross_check": False}, "data.quality": {},
                 "fairness.scores": {"resamples": 40, "permutations": 0}}  # fmt: skip
    ranking = {} if weighted else {"fairness.ranking": {"resamples": 40, "permutations": 0}}
    return auditkit.audit_predictions(
        label, (score > 0.5).astype(int), scores=score, sensitive={"sex": sex}, positive=1, progress=False,
        analyzers={**analyzers, **ranking}, **keys(rng, n, weighted, clustered),
    ).evidence  # fmt: skip


def predictions(groups, weighted, clustered, n=200):
    rng = np.random.default_rng(3)
    true, sex = rng.gamma(9, 1, n), rng.choice(list(groups), n)
    analyzers = {"performance": {}, "fairness.groups": {}, "fairness.regression": {"resamples": 40}}
    return auditkit.audit_predictions(
        true, true + rng.normal(0, 1.5, n) + 0.3 * (sex == "F"), sensitive={"sex": sex}, task="regression",
        progress=False, analyzers=analyzers, **keys(rng, n, weighted, clustered),
    ).evidence  # fmt: skip


def model(groups, weighted, clustered, n=150):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(4)
    x = pd.DataFrame(rng.normal(size=(2 * n, 3)), columns=list("abc"))
    sex = rng.choice(list(groups), 2 * n)
    y = (x.a + x.b * 0.5 + rng.normal(0, 0.7, 2 * n) + 0.3 * (sex == "M") > 0).astype(int)
    return auditkit.audit(
        LogisticRegression().fit(x[:n], y[:n]), x[n:], y[n:], sensitive={"sex": sex[n:]}, train=(x[:n], y[:n]),
        positive=1, progress=False, analyzers={"robustness.noise": {}, "explain.recourse": {"max_rows": 60}},
        **{name: part for name, part in keys(rng, n, weighted, clustered).items() if part is not None},
    ).evidence  # fmt: skip


KINDS = [(kind, *design) for kind in (decisions, predictions) for design in DESIGNS] + [
    (model, False, False),
    (model, False, True),
]


def judged(evidence, gap, **limit):
    """What the gate says of the gap between the groups' values, or of the gap itself where those are not told."""
    name, _, kind = gap.name.rpartition(".")
    rule = {"id": "r", "metric": name, "compare": kind, "over": list(gap.over), "where": dict(gap.slice),
            "params": dict(gap.params), **limit}  # fmt: skip
    return evaluate(evidence, parse_policy({"rule": [rule]}, measured=(name, gap.name)), as_of=TODAY).results[0]


def gaps(evidence):
    """One gap of each name, with an interval on both sides of the value."""
    found = {}
    for m in evidence.measurements():
        if m.over and m.name.endswith((".difference", ".ratio")) and m.interval and m.value not in (0.0, 1.0):
            found.setdefault(m.name, m)
    return list(found.values())


@pytest.mark.parametrize(("made", "weighted", "clustered"), KINDS)
def test_the_gate_tells_the_interval_of_the_card(made, weighted, clustered):
    evidence = made("FM", weighted, clustered)
    found = gaps(evidence)
    assert len(found) >= (2 if made is model else 9)
    for gap in found:
        result = judged(evidence, gap, **({"max": 1e-6} if gap.name.endswith("difference") else {"min": 0.999999}))
        told = [(c.value, c.interval.low, c.interval.high) for c in result.comparisons]
        if result.metric.endswith(("equalized_odds", "conditional_use_accuracy", "decision_rates")):
            assert gap.value in [value for value, *_ in told]  # each part is judged, and is on the card by its own name
            continue
        assert told == [pytest.approx((gap.value, gap.interval.low, gap.interval.high), abs=1e-7)], gap.key


@pytest.mark.parametrize(
    ("made", "weighted", "clustered", "step"),
    [(decisions, False, False, 5), (decisions, False, True, 5), (predictions, True, False, 2)]
    + [pytest.param(*kind, 1, marks=pytest.mark.slow) for kind in KINDS],
)
def test_of_many_groups_the_gate_passes_and_fails_where_the_card_says(made, weighted, clustered, step):
    """It passes where the limit lies beyond the far end of the card's interval, and fails where before the near one."""
    evidence = made("FMX", weighted, clustered)
    decided = 0
    for gap in gaps(evidence)[::step]:
        upward = gap.name.endswith("difference")
        key, sign = ("max", 1) if upward else ("min", -1)
        near, far = (gap.interval.low, gap.interval.high) if upward else (gap.interval.high, gap.interval.low)
        top = np.inf if gap.bounds[1] is None else gap.bounds[1]
        for limit, passes, fails in (
            (far + sign * 1e-6, True, False),
            (far - sign * 1e-6, False, None),
            (near + sign * 1e-6, None, False),
            (near - sign * 1e-6, False, True),
        ):
            if not 1e-5 < limit < top - 1e-5:
                continue
            result = judged(evidence, gap, **{key: limit})
            assert result.state in ("pass", "fail", "inconclusive"), (gap.key, result.message)
            assert passes is None or passes == (result.state == "pass"), (gap.key, limit, gap.interval, result.message)
            assert fails is None or fails == (result.state == "fail"), (gap.key, limit, gap.interval, result.message)
            decided += 1
    assert decided >= (4 if made is model else 12)


def evidence_of(*measurements):
    facts = SubjectFacts(
        name="simulated", task="binary", model_kind="simulated", model_fingerprint=None, classes=("0", "1"),
        positive="1", score_space=None, capabilities=("labels",),
        test=DataFacts(fingerprint="sha256:0", n_rows=1, modality="tabular", sensitive={"g": {}}),
    )  # fmt: skip
    outcome = Outcome(analyzer="robustness.noise", version="1", status="measured", measurements=measurements)
    return Evidence(subject=facts, plan=PlanFacts(seed=0, analyzers=()), outcomes=(outcome,))


def share(name, hits, n):
    return Measurement(name="robustness.corrupted_accuracy", value=hits / n, n=n, interval=clopper_pearson(hits, n),
                       slice={"g": name}, bounds=(0.0, 1.0), direction="higher")  # fmt: skip


def rule_on(metric, compare, **limit):
    rule = {"id": "r", "metric": metric, "compare": compare, "over": ["g"], "min_n": 0, **limit}
    return parse_policy({"rule": [rule]}, measured=(metric,))


@pytest.mark.parametrize(("p", "q", "n", "m"), [(0.95, 0.8, 12, 8), (0.5, 0.4, 10, 10), (0.98, 0.9, 16, 5)])
@pytest.mark.parametrize("compare", ["difference", "ratio"])
def test_gaps_of_measured_shares_are_wrong_no_more_often_than_they_say(p, q, n, m, compare):
    """Every outcome of two groups is judged, with the truth at the limit: 2.5 % is left to each error."""
    limit = {"max": p - q} if compare == "difference" else {"min": q / p}
    policy, wrong = rule_on("robustness.corrupted_accuracy", compare, **limit), {"pass": 0.0, "fail": 0.0}
    for a, b in itertools.product(range(n + 1), range(m + 1)):
        if compare == "ratio" and a == b == 0:
            continue
        state = evaluate(evidence_of(share("a", a, n), share("b", b, m)), policy, as_of=TODAY).results[0].state
        chance = binom.pmf(a, n, p) * binom.pmf(b, m, q)
        wrong = {name: found + chance * (state == name) for name, found in wrong.items()}
    assert max(wrong.values()) <= 0.025 * (1 + 1e-4), wrong


def mean(name, values):
    value, interval = mean_interval(values)
    return Measurement(name="robustness.error_rise", value=value, n=len(values), interval=interval, slice={"g": name},
                       direction="lower")  # fmt: skip


@pytest.mark.parametrize("draws", [200, pytest.param(4000, marks=pytest.mark.slow)])
def test_means_of_few_rows_keep_their_degrees_of_freedom_after_holm(draws):
    """Four groups of five: stretched by normal quantiles, Student's limits would fail a good model too often."""
    rng = np.random.default_rng(1)
    policy, fails, stretched = rule_on("robustness.error_rise", "difference", max=1.0), 0, 0
    for _ in range(draws):
        values = rng.normal([[1.0], [0.0], [0.0], [0.0]], 0.1, (4, 5))
        groups = [mean(f"g{at}", row) for at, row in enumerate(values)]
        fails += evaluate(evidence_of(*groups), policy, as_of=TODAY).results[0].state == "fail"
        # The same with limits that are stretched from 95 % as normal ones are, at Holm's first level.
        for other in groups[1:]:
            arms = [2.638 / 1.96 * (m.interval.high - m.value) for m in (groups[0], other)]
            if groups[0].value - other.value - np.hypot(*arms) > 1.0:
                stretched += 1
                break
    allowed = 0.025 + 3 * (0.025 * 0.975 / draws) ** 0.5
    assert fails / draws <= allowed
    assert stretched >= fails


def test_a_gap_that_the_groups_do_not_give_is_judged_itself():
    held = {"a": (0.9, 0.8, 0.96), "b": (0.7, 0.6, 0.8), "c": (0.85, 0.8, 0.9)}
    groups = [
        Measurement(name="robustness.cost", value=value, n=50, slice={"g": name}, direction="higher",
                    interval=Interval(low=low, high=high, method="bootstrap"))
        for name, (value, low, high) in held.items()
    ]  # fmt: skip
    told = Measurement(name="robustness.cost.difference", value=0.2, n=150, over=("g",), direction="lower",
                       interval=Interval(low=0.11, high=0.3, method="resampled"), bounds=(0.0, 1.0))  # fmt: skip
    policy = rule_on("robustness.cost", "difference", max=0.1)
    result = evaluate(evidence_of(*groups, told), policy, as_of=TODAY).results[0]
    (comparison,) = result.comparisons
    assert result.state == "fail"
    assert (comparison.interval.low, comparison.interval.high) == (0.11, 0.3)
    assert comparison.interval.method == "resampled"
    assert {side.group for side in comparison.sides} == {"a", "b"}
    # What is asked of chosen groups, or leaves some out, is no longer that gap: pairs are judged, as far as they go.
    for rule in ({"reference": "c"}, {"small": "exclude", "min_n": 60}):
        policy = rule_on("robustness.cost", "difference", max=0.1, **rule)
        found = evaluate(evidence_of(*groups, told), policy, as_of=TODAY).results[0]
        assert all(c.interval.method == "mover" for c in found.comparisons)


def test_a_small_group_keeps_a_gap_over_all_groups_open():
    groups = [
        Measurement(name="robustness.cost", value=value, n=n, slice={"g": name}, direction="higher",
                    interval=Interval(low=value - 0.1, high=value + 0.1, method="bootstrap"))
        for name, value, n in (("a", 0.9, 50), ("b", 0.7, 50), ("c", 0.8, 5))
    ]  # fmt: skip
    told = Measurement(name="robustness.cost.difference", value=0.2, n=105, over=("g",), direction="lower",
                       interval=Interval(low=0.15, high=0.3, method="bootstrap"), bounds=(0.0, 1.0))  # fmt: skip
    policy = rule_on("robustness.cost", "difference", max=0.1, min_n=30)
    result = evaluate(evidence_of(*groups, told), policy, as_of=TODAY).results[0]
    assert result.state == "inconclusive"
    assert "fewer than min_n = 30 rows" in result.comparisons[0].message


def test_a_waiver_of_a_group_is_never_stretched_over_the_others():
    """With a waiver for one of three groups the pairs are judged one by one, so that it hides only its own."""
    groups = [
        Measurement(name="robustness.cost", value=value, n=50, slice={"g": name}, direction="higher",
                    interval=Interval(low=value - 0.02, high=value + 0.02, method="bootstrap"))
        for name, value in (("a", 0.9), ("b", 0.5), ("c", 0.7))
    ]  # fmt: skip
    told = Measurement(name="robustness.cost.difference", value=0.4, n=150, over=("g",), direction="lower",
                       interval=Interval(low=0.35, high=0.45, method="bootstrap"), bounds=(0.0, 1.0))  # fmt: skip
    rule = {"id": "r", "metric": "robustness.cost", "compare": "difference", "over": ["g"], "max": 0.1}
    waiver = {
        "rule": "r",
        "groups": ["g=b"],
        "owner": "a@b",
        "reason": "known",
        "ticket": "t1",
        "expires": datetime.date(2026, 2, 1),
    }
    policy = parse_policy({"rule": [rule], "waiver": [waiver]}, measured=("robustness.cost",))
    result = evaluate(evidence_of(*groups, told), policy, as_of=TODAY).results[0]
    assert result.state == "fail"
    assert sorted(c.state for c in result.comparisons) == ["fail", "waived", "waived"]


@pytest.mark.parametrize(
    "metric", ["performance.accuracy", "performance.f1", "fairness.true_positive_rate", "performance.roc_auc"]
)
def test_a_change_of_a_value_has_one_interval_in_the_gate_and_in_the_comparison_of_two_audits(metric):
    base, head = (decisions("FM", False, False, n) for n in (240, 300))
    found = {move.key: move for move in moves(base, head, other_data=True)}
    rule = Rule(id="r", metric=metric, compare="value", over=("sex",), max_increase=0.0, baseline="base")
    settings = settle(rule, Policy())
    ((change,), _) = changes_between(settings, Policy(), head, base, Pairs(reason="the rows are not the same"))
    low, high = change.bounds(0.95)
    for index, group in enumerate(change.names):
        move = next(m for key, m in found.items() if key.startswith(f"{metric}|sex={group}"))
        assert change.direction == "higher"
        assert (move.interval.low, move.interval.high) == pytest.approx((-high[index], -low[index]), abs=1e-9)
        assert move.interval.method == change.method() == ("mover" if metric.endswith("auc") else "melded")


@pytest.mark.parametrize(("made", "weighted", "clustered"), [(decisions, False, False), (decisions, False, True),
                                                             (predictions, True, False)])  # fmt: skip
def test_a_change_of_a_gap_has_one_interval_in_the_gate_and_in_the_comparison_of_two_audits(made, weighted, clustered):
    base, head = (made("FM", weighted, clustered, n) for n in (240, 300))
    found = {move.key: move for move in moves(base, head, other_data=True)}
    seen = {"difference": 0, "ratio": 0}
    for gap in gaps(base):
        name, _, kind = gap.name.rpartition(".")
        rule = Rule(id="r", metric=name, compare=kind, over=gap.over, params=dict(gap.params), max_increase=0.0,
                    baseline="base")  # fmt: skip
        changes, _ = changes_between(settle(rule, Policy()), Policy(), head, base, Pairs(reason="other rows"))
        if len(changes) > 1:
            continue  # equalized odds: each part is judged
        if changes[0].kind == "value":  # its direction says what is worse
            changes = (replace(changes[0], direction="lower"),)
        move, (low, high) = found[gap.key], (float(end[0]) for end in changes[0].bounds(0.95))
        if not np.isfinite([low, high]).all():
            continue
        expected = (-high, -low) if changes[0].kind == "ratio" else (low, high)
        assert (move.interval.low, move.interval.high) == pytest.approx(expected, abs=1e-9), gap.key
        assert move.interval.method == changes[0].method()
        seen[kind] += 1
    assert seen["difference"] >= 5
    assert seen["ratio"] >= (0 if made is predictions else 3)


def test_a_group_of_two_rows_stops_no_rule_on_a_quantity_with_limits_of_logs():
    """Holm over 300 pairs asks for a level at which the upper limit of two rows is beyond all numbers."""
    rng = np.random.default_rng(0)
    group = np.array([*np.repeat([f"g{code:02d}" for code in range(24)], 60), "two", "two"])
    true = rng.normal(size=len(group))
    error = rng.normal(size=len(group)) * np.where(group == "g00", 5.0, 1.0)
    error[-2:] = 0.001, 1.0
    evidence = auditkit.audit_predictions(
        true, true + error, sensitive={"group": group}, task="regression", progress=False,
        analyzers={"performance": {}},
    ).evidence  # fmt: skip
    policy = rule_on("performance.root_mean_squared_error", "difference", over=["group"], max=0.05)
    result = evaluate(evidence, policy, as_of=TODAY).results[0]
    assert result.state == "fail"
    assert result.message.startswith("group: g00 vs ")


def test_a_mean_is_no_higher_than_it_can_be_at_any_level():
    held = Interval(low=0.1, high=0.9, level=0.95, method="student-t")
    most = Measurement(name="robustness.error_rise", value=0.5, n=5, interval=held, slice={"g": "a"}, bounds=(0.0, 1.0))
    policy = rule_on("robustness.error_rise", "value", max=1.0, confidence=0.99)
    result = evaluate(evidence_of(most), policy, as_of=TODAY).results[0]
    assert result.state == "pass", result.message
    assert result.comparisons[0].interval.high == 1.0


def test_tied_rows_keep_their_degrees_of_freedom_at_a_stricter_level():
    """The gate at 99 % tells of an audit at 95 % what the card of an audit at 99 % does."""
    rng = np.random.default_rng(1)
    label, group = rng.integers(0, 2, 40), np.repeat(["a", "b", "b", "b"], 10)
    score = np.round(0.4 * label + 0.4 * rng.random(40), 1)
    shown = {}
    for level in (0.95, 0.99):
        evidence = auditkit.audit_predictions(
            label, (score > 0.5).astype(int), scores=score, sensitive={"g": group}, positive=1, progress=False,
            analyzers={"fairness.ranking": {"resamples": 20, "permutations": 0, "top": [0.3], "level": level}},
        ).evidence  # fmt: skip
        card = [m for m in evidence.by_name["fairness.top_selection_rate"] if "g" in m.slice]
        policy = rule_on("fairness.top_selection_rate", "value", min=0.5, confidence=0.99)
        told = evaluate(evidence, policy, as_of=TODAY).results[0].comparisons
        shown[level] = {c.sides[0].group: (c.interval.low, c.interval.high) for c in told}
    assert {m.slice["g"]: m.interval.method for m in card} == {"a": "korn-graubard-t", "b": "korn-graubard-t"}
    for m in card:
        assert shown[0.95][m.slice["g"]] == pytest.approx((m.interval.low, m.interval.high), abs=1e-7)


def test_limits_beyond_all_numbers_leave_a_rule_inconclusive():
    def loss(name, n, reach):
        held = Interval(low=1.0 / reach, high=reach, level=0.95, method="linearised-log")
        return Measurement(name="robustness.error_rise", value=1.0, n=n, interval=held, slice={"g": name},
                           bounds=(0.0, None), direction="lower")  # fmt: skip

    policy = rule_on("robustness.error_rise", "difference", max=0.5, confidence=0.9999)
    for reach in (2.0, 500.0, 1e30):
        result = evaluate(evidence_of(loss("a", 2, reach), loss("b", 50, 1.1)), policy, as_of=TODAY).results[0]
        assert result.state == "inconclusive", result.message
