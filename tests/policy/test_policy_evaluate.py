from __future__ import annotations

import datetime

import numpy as np
import pytest

from auditkit.core.evidence import Interval, Measurement, Outcome
from auditkit.core.verdict import GateFailed

WAIVER = '[[waiver]]\nrule = "r"\nowner = "a@b"\nreason = "known"\nticket = "T-1"\nexpires = {}\n'
LARGE = {"F": (2000, 4000), "M": (2000, 4000)}
UNFAIR = {"F": (1000, 4000), "M": (2000, 4000)}
FEW = {"F": (10, 25), "M": (14, 25)}


def only(verdict):
    (result,) = verdict.results
    return result


@pytest.mark.parametrize(
    ("groups", "state", "code"), [(LARGE, "pass", 0), (UNFAIR, "fail", 1), (FEW, "inconclusive", 4)]
)
def test_three_states(kit, groups, state, code):
    verdict = kit.judge(kit.evidence(*kit.selected(**groups)), kit.rule())
    assert (verdict.state, verdict.exit_code) == (state, code)
    result = only(verdict)
    assert (result.state, result.line, result.limit) == (state, 1, ">= 0.8")
    comparison = result.comparisons[0]
    assert comparison.label == "sex: F vs M"
    assert [side.n for side in comparison.sides] == [n for _, n in groups.values()]
    assert (comparison.n_needed is not None) == (state == "inconclusive")


def test_the_rows_said_to_be_needed_do_settle_it(kit):
    result = only(kit.judge(kit.evidence(*kit.selected(F=(80, 200), M=(84, 200))), kit.rule()))
    needed = result.comparisons[0].n_needed
    assert f"{needed:,} rows in each group would settle it" in result.message

    def state(n):
        groups = {"F": (round(0.40 * n), n), "M": (round(0.42 * n), n)}
        return only(kit.judge(kit.evidence(*kit.selected(**groups)), kit.rule())).state

    assert state(needed + 20) == "pass"
    assert state(needed // 3) == "inconclusive"  # there are rows to spare, so that chance may go against it


def test_raise_for_status(kit):
    kit.judge(kit.evidence(*kit.selected(**LARGE)), kit.rule()).raise_for_status()
    with pytest.raises(GateFailed, match="1 failed"):
        kit.judge(kit.evidence(*kit.selected(**UNFAIR)), kit.rule()).raise_for_status()


def test_any_one_pair_beyond_the_limit_fails_the_rule(kit):
    evidence = kit.evidence(*kit.selected(A=(2000, 4000), B=(2000, 4000), C=(1200, 4000)))
    result = only(kit.judge(evidence, kit.rule()))
    assert result.state == "fail"
    assert [c.state for c in result.comparisons] == ["fail", "fail", "pass"]


def test_failing_is_corrected_for_the_number_of_pairs_and_passing_is_not(kit):
    two = kit.evidence(*kit.selected(A=(250, 500), B=(183, 500)))
    many = {f"g{i:02d}": (217, 500) for i in range(20)}
    among_many = kit.evidence(*kit.selected(A=(250, 500), B=(183, 500), **many))
    text = kit.rule(compare="difference", min=None, max=0.07)
    assert only(kit.judge(two, text)).state == "fail"
    result = only(kit.judge(among_many, text))
    pair = next(c for c in result.comparisons if c.label == "sex: A vs B")
    assert pair.state == "inconclusive"
    assert "after the correction for many comparisons" in pair.message


@pytest.mark.parametrize(
    ("reference", "labels"),
    [
        ("pairwise", {"A vs B", "A vs C", "B vs C"}),
        ("best", {"A vs B", "A vs C", "B vs C"}),
        ("largest", {"A vs B", "C vs B"}),
        ("A", {"B vs A", "C vs A"}),
        ("overall", {"A vs all rows", "B vs all rows", "C vs all rows"}),
    ],
)
def test_references(kit, reference, labels):
    evidence = kit.evidence(*kit.selected(A=(40, 100), B=(100, 200), C=(60, 100)))
    result = only(kit.judge(evidence, kit.rule(reference=reference)))
    assert {c.label.removeprefix("sex: ") for c in result.comparisons} == labels


def test_point_decisions_are_said_to_be_so(kit):
    result = only(kit.judge(kit.evidence(*kit.selected(**FEW)), kit.rule(decide="point")))
    assert (result.state, result.decide) == ("fail", "point")
    assert "decided on points, not on intervals" in result.message


def test_rates_that_are_both_zero_have_no_ratio(kit):
    result = only(kit.judge(kit.evidence(*kit.selected(F=(0, 400), M=(0, 400))), kit.rule()))
    assert result.state == "error"
    assert "both 0 is undefined" in result.message


def test_small_groups_are_inconclusive_or_left_out_openly(kit):
    evidence = kit.evidence(*kit.selected(**LARGE, X=(1, 12)))
    kept = only(kit.judge(evidence, kit.rule(min_n=30)))
    assert kept.state == "inconclusive"
    assert "fewer than min_n = 30 rows" in kept.message
    left_out = only(kit.judge(evidence, kit.rule(min_n=30, small="exclude")))
    assert left_out.state == "pass"
    assert "left out as smaller than min_n = 30: X (n = 12)" in left_out.message
    none_left = only(kit.judge(evidence, kit.rule(min_n=5000, small="exclude")))
    assert none_left.state == "error"


def test_the_missing_group_counts_unless_excluded(kit):
    evidence = kit.evidence(*kit.selected(**LARGE, **{"(missing)": (200, 2000)}))
    assert only(kit.judge(evidence, kit.rule())).state == "fail"
    assert only(kit.judge(evidence, '[groups]\nmissing = "exclude"\n' + kit.rule())).state == "pass"


def crossed(kit):
    rng = np.random.default_rng(0)
    sex, race = rng.choice(["F", "M"], 8000), rng.choice(["a", "b"], 8000)
    p = (rng.random(8000) < np.where((sex == "F") & (race == "b"), 0.2, 0.5)).astype(int)
    return kit.evidence(rng.integers(0, 2, 8000), p, {"sex": sex, "race": race})


def test_where_and_intersections(kit):
    evidence = crossed(kit)
    assert only(kit.judge(evidence, kit.rule(where={"race": "a"}))).state == "pass"
    result = only(kit.judge(evidence, kit.rule(where={"race": "b"})))
    assert result.state == "fail"
    assert result.comparisons[0].label == "sex where race=b: F vs M"
    both = only(kit.judge(evidence, kit.rule(over=["race", "sex"])))
    assert "F x b" in both.comparisons[0].label
    auto = only(kit.judge(evidence, "[groups]\nintersections = 2\n" + kit.rule(over=None)))
    assert {c.label.split(":")[0] for c in auto.comparisons} == {"sex", "race", "sex x race"}


def test_values_per_group_and_equalized_odds(kit):
    evidence = kit.evidence(*kit.selected(**LARGE))
    value = only(kit.judge(evidence, kit.rule(compare="value", metric="accuracy", min=0.4)))
    assert (value.state, len(value.comparisons), value.metric) == ("pass", 2, "fairness.accuracy")
    odds = only(kit.judge(evidence, kit.rule(metric="equalized_odds", compare="difference", min=None, max=0.1)))
    assert {c.label for c in odds.comparisons} == {
        "true positive rate, sex: F vs M",
        "false positive rate, sex: F vs M",
    }


def test_classes_of_a_multiclass_model(kit):
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 6000), rng.integers(0, 3, 6000)
    evidence = kit.evidence(y, p, {"sex": rng.choice(["F", "M"], 6000)}, classes=("x", "y", "z"))
    every = only(kit.judge(evidence, kit.rule()))
    assert {c.label for c in every.comparisons} == {f"sex [class {c}]: F vs M" for c in "xyz"}
    one = only(kit.judge(evidence, kit.rule(params={"class": "y"})))
    assert len(one.comparisons) == 1


# Metrics that are measured rather than counted.


def accuracy(value, n, low=None, high=None, level=0.95, reason=None, **keys):
    interval = None if low is None else Interval(low=low, high=high, level=level, method="m")
    base = {"name": "robustness.accuracy", "direction": "higher", "bounds": (0.0, 1.0), **keys}
    return Measurement(value=value, n=n, interval=interval, reason=reason, **base)


ROBUST = {"metric": "robustness.accuracy", "compare": "value", "over": None}


@pytest.mark.parametrize(("floor", "state"), [(0.5, "pass"), (0.58, "inconclusive"), (0.7, "fail")])
def test_measured_values_are_judged_by_their_interval(kit, floor, state):
    evidence = kit.evidence(*kit.selected(**LARGE), measurements=[accuracy(0.6, 400, 0.55, 0.65)])
    assert only(kit.judge(evidence, kit.rule(**ROBUST, min=floor))).state == state


def test_params_select_and_all_that_match_must_hold(kit):
    measured = [
        accuracy(0.9, 400, 0.88, 0.92, params={"eps": 0.1, "attack": "pgd"}),
        accuracy(0.5, 400, 0.45, 0.55, params={"eps": 0.3, "attack": "pgd"}),
    ]
    evidence = kit.evidence(*kit.selected(**LARGE), measurements=measured)
    assert only(kit.judge(evidence, kit.rule(**ROBUST, min=0.8, params={"eps": 0.1}))).state == "pass"
    assert only(kit.judge(evidence, kit.rule(**ROBUST, min=0.8))).state == "fail"
    none = only(kit.judge(evidence, kit.rule(**ROBUST, min=0.8, params={"eps": 0.2})))
    assert none.state == "error"
    assert "no comparison matched: robustness.accuracy was not measured for eps=0.2; measured: " in none.message


def test_a_higher_confidence_widens_a_measured_interval(kit):
    evidence = kit.evidence(*kit.selected(**LARGE), measurements=[accuracy(0.6, 400, 0.55, 0.65)])
    assert only(kit.judge(evidence, kit.rule(**ROBUST, min=0.54))).state == "pass"
    wide = only(kit.judge(evidence, kit.rule(**ROBUST, min=0.54, confidence=0.99)))
    assert wide.state == "inconclusive"
    assert wide.comparisons[0].interval.low == pytest.approx(0.6 - 0.05 * 2.5758 / 1.95996, abs=1e-4)
    narrow = only(kit.judge(evidence, kit.rule(**ROBUST, min=0.54, confidence=0.8)))
    assert narrow.comparisons[0].interval.low == pytest.approx(0.55)


def test_gaps_of_measured_values_between_groups(kit):
    measured = [
        accuracy(0.9, 400, 0.88, 0.92, slice={"sex": "F"}),
        accuracy(0.6, 400, 0.55, 0.65, slice={"sex": "M"}),
    ]
    evidence = kit.evidence(*kit.selected(**LARGE), measurements=measured)
    keys = {"metric": "robustness.accuracy", "compare": "difference", "min": None}
    result = only(kit.judge(evidence, kit.rule(**keys, max=0.1)))
    assert result.state == "fail"
    low = 0.3 - np.hypot(0.02, 0.05)
    assert result.comparisons[0].interval.low == pytest.approx(low)


@pytest.mark.parametrize("over", [["sex"], None])
def test_values_measured_over_a_column_are_values_of_that_column(kit, over):
    def proxy(value, feature, column):
        return accuracy(
            value, 400, value - 0.02, value + 0.02, name="data.proxy_auc", over=(column,), params={"feature": feature}
        )

    measured = [proxy(0.55, "age", "sex"), proxy(0.9, "job", "sex"), proxy(0.6, "age", "site")]
    evidence = kit.evidence(*kit.selected(**LARGE), measurements=measured)
    result = only(kit.judge(evidence, kit.rule(metric="data.proxy_auc", compare="value", over=over, min=None, max=0.7)))
    assert result.state == "fail"
    labels = [c.label for c in result.comparisons]
    assert labels[0] == "sex (feature=job)"
    assert sorted(labels[1:]) == ["sex (feature=age)", *([] if over else ["site (feature=age)"])]


def test_exact_values_are_decided_on_the_value(kit):
    exact = accuracy(0.0, 10, reason="exact: a count of rows", name="robustness.accuracy")
    evidence = kit.evidence(*kit.selected(**LARGE), measurements=[exact])
    result = only(kit.judge(evidence, kit.rule(**ROBUST, min=None, max=0.0)))
    assert result.state == "pass"
    assert "exact, decided on the value" in result.message


def test_count_rules_need_no_measurement_and_follow_performance_names(kit):
    evidence = kit.evidence(*kit.selected(**LARGE))
    result = only(kit.judge(evidence, kit.rule(metric="performance.recall", compare="difference", min=None, max=0.1)))
    assert result.state == "pass"


# Waivers.


def test_a_waiver_covers_a_failure_and_says_who_answers_for_it(kit):
    verdict = kit.judge(kit.evidence(*kit.selected(**UNFAIR)), kit.rule() + WAIVER.format("2026-11-01"))
    assert (verdict.state, verdict.exit_code) == ("pass", 0)
    result = only(verdict)
    assert result.state == "waived"
    assert (result.waiver.owner, result.waiver.expires) == ("a@b", "2026-11-01")
    assert "1 waived" in verdict.summary


@pytest.mark.parametrize(
    ("expires", "match"), [("2026-05-31", "expired on 2026-05-31"), ("2026-12-30", "212 days ahead; at most 180")]
)
def test_waivers_end(kit, expires, match):
    for groups in (UNFAIR, LARGE):
        verdict = kit.judge(kit.evidence(*kit.selected(**groups)), kit.rule() + WAIVER.format(expires))
        assert verdict.exit_code == 3
        assert match in only(verdict).message


def test_the_last_day_of_a_waiver_still_counts(kit):
    text = kit.rule() + WAIVER.format("2026-06-01")
    evidence = kit.evidence(*kit.selected(**UNFAIR))
    assert kit.judge(evidence, text).exit_code == 0
    assert kit.judge(evidence, text, as_of=datetime.date(2026, 6, 2)).exit_code == 3


def test_a_waiver_for_one_group_leaves_the_others_failing(kit):
    evidence = kit.evidence(*kit.selected(A=(2000, 4000), B=(1200, 4000), C=(400, 4000)))
    text = kit.rule(reference="A") + WAIVER.format("2026-11-01")
    narrow = only(kit.judge(evidence, text + 'groups = ["sex=B"]\n'))
    assert narrow.state == "fail"
    assert {c.label: c.state for c in narrow.comparisons} == {"sex: B vs A": "waived", "sex: C vs A": "fail"}
    assert only(kit.judge(evidence, text + 'groups = ["sex=B", "sex=C"]\n')).state == "waived"
    assert only(kit.judge(evidence, text + 'groups = ["sex=Z"]\n')).state == "error"


def test_a_waiver_never_covers_an_error(kit):
    evidence = kit.evidence(*kit.selected(F=(0, 400), M=(0, 400)))
    verdict = kit.judge(evidence, kit.rule() + WAIVER.format("2026-11-01"))
    assert verdict.exit_code == 3
    assert "a waiver never covers an error" in only(verdict).message


# What counts for the exit code.


def test_warnings_do_not_fail_the_build_but_are_told(kit):
    verdict = kit.judge(kit.evidence(*kit.selected(**UNFAIR)), kit.rule(level="warning") + kit.rule(id="s", min=0.1))
    assert verdict.exit_code == 0
    assert "1 warning" in verdict.summary


def test_an_error_counts_even_at_warning_level(kit):
    evidence = kit.evidence(*kit.selected(**LARGE))
    assert kit.judge(evidence, kit.rule(level="warning", over=["age"])).exit_code == 3


def test_inconclusive_may_warn_by_policy_and_is_still_not_called_a_pass(kit):
    verdict = kit.judge(kit.evidence(*kit.selected(**FEW)), '[defaults]\ninconclusive = "warn"\n' + kit.rule())
    assert (verdict.state, verdict.exit_code) == ("inconclusive", 0)


def test_the_worst_state_decides(kit):
    rows = kit.selected(A=(2000, 4000), B=(1000, 4000))
    fail, unclear = kit.rule(), kit.rule(id="s", min=0.5)
    broken = kit.rule(id="t", metric="fairness.theil_index")
    assert kit.judge(kit.evidence(*rows), fail + unclear).exit_code == 1
    assert kit.judge(kit.evidence(*rows), unclear).exit_code == 4
    assert kit.judge(kit.evidence(*rows), fail + unclear + broken).exit_code == 3


def test_a_failed_analyzer_is_never_green(kit):
    crashed = Outcome(analyzer="privacy.membership", version="1", status="failed", reason="AK300 crashed")
    verdict = kit.judge(kit.evidence(*kit.selected(**LARGE), others=[crashed]), kit.rule())
    assert (verdict.state, verdict.exit_code) == ("error", 3)
    assert verdict.unmeasured == ("privacy.membership failed: AK300 crashed",)
    fine = Outcome(analyzer="privacy.membership", version="1", status="not_applicable", reason="needs train")
    assert kit.judge(kit.evidence(*kit.selected(**LARGE), others=[fine]), kit.rule()).exit_code == 0


def test_a_rule_names_the_crashed_analyzer_that_would_have_measured_it_and_no_other(kit):
    from auditkit.core.analyzer import Analyzer, Params
    from auditkit.core.plan import Step
    from auditkit.execution.runner import run_step
    from auditkit.subjects.build import make_predictions_subject

    def crash(subject, context, params):
        raise RuntimeError("no memory")
        yield

    def made(name, measures):
        analyzer = Analyzer(name=name, version="1", title=name, summary="x", reference="x", needs=frozenset(),
                            measures=dict.fromkeys(measures, "x"), params=Params, run=crash, limits="x")  # fmt: skip
        return run_step(make_predictions_subject([0, 1], [0, 1]), Step(name=name, params=Params(), analyzer=analyzer))

    one = made("fairness.scores", ["fairness.abroca", "fairness.roc_auc"])
    two = made("fairness.individual", ["fairness.consistency"])
    assert (one.status, one.lacking) == ("failed", ("fairness.abroca", "fairness.roc_auc"))
    rule = kit.rule(metric="fairness.consistency", compare="value", over=None, min=0.5)
    (result,) = kit.judge(kit.evidence(*kit.selected(**LARGE), others=[one, two]), rule).results
    assert result.state == "error"
    assert "fairness.individual failed" in result.message
    assert "fairness.scores" not in result.message
    # Evidence that does not say who would have measured it names all, as before.
    blank = [Outcome(analyzer=o.analyzer, version="1", status="failed", reason="crashed") for o in (one, two)]
    (result,) = kit.judge(kit.evidence(*kit.selected(**LARGE), others=blank), rule).results
    assert "fairness.scores, fairness.individual failed: crashed" in result.message
    # What no crashed analyzer measures is not laid at their door.
    wrong = kit.rule(metric="fairness.theil_index", compare="value", over=None, min=0.5)
    (result,) = kit.judge(kit.evidence(*kit.selected(**LARGE), others=[one]), wrong).results
    assert "fairness.scores" not in result.message


def test_an_optional_rule_that_does_not_apply_is_shown_and_not_counted(kit):
    absent = Outcome(analyzer="privacy.membership", version="1", status="not_applicable", reason="needs train data")
    evidence = kit.evidence(*kit.selected(**LARGE), others=[absent])
    optional = kit.rule(
        id="o", metric="privacy.membership_auc", compare="value", over=None, min=None, max=0.6, optional=True
    )
    verdict = kit.judge(evidence, kit.rule() + optional)
    assert verdict.exit_code == 0
    assert verdict.results[1].state == "inconclusive"
    assert verdict.results[1].level == "warning"
    assert "not counted: the rule is optional and does not apply here" in verdict.results[1].message
    alone = kit.judge(evidence, optional)
    assert (alone.state, alone.exit_code) == ("error", 3)
    assert "No rule could be counted" in alone.summary


def test_the_same_inputs_give_the_same_verdict(kit):
    evidence = crossed(kit)
    assert kit.judge(evidence, kit.rule()) == kit.judge(evidence, kit.rule())


@pytest.mark.parametrize(("asked", "exit_code"), [(False, 0), (True, 3)])
def test_a_skipped_analyzer_counts_when_it_was_asked_for_and_is_shown_anyway(kit, asked, exit_code):
    import dataclasses

    from auditkit.core.evidence import Outcome, PlannedAnalyzer

    evidence = kit.evidence(*kit.selected(**LARGE))
    skipped = Outcome(analyzer="explain.shap", version="1", status="skipped", reason="AK301 shap is not installed")
    plan = dataclasses.replace(evidence.plan, analyzers=(PlannedAnalyzer(name="explain.shap", asked=asked),))
    evidence = dataclasses.replace(evidence, plan=plan, outcomes=(*evidence.outcomes, skipped))
    verdict = kit.judge(evidence, kit.rule())
    assert verdict.exit_code == exit_code
    assert bool(verdict.unmeasured) == asked
