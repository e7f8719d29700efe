"""Rates of groups with a small cell are those of cells that are rounded and still add up."""

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn import metrics as sk

import auditkit
from auditkit.core.evidence import Interval, Measurement
from auditkit.methods.fairness.metric_table import METRICS
from auditkit.render.cells import small_cells
from auditkit.render.coarse import coarse
from auditkit.render.numerators import is_margin
from auditkit.render.redact import redact
from auditkit.render.rounded_cells import NO_CELLS, gap_of, of_cells, rate, round_cells
from auditkit.render.shared import shared_copy

A, B, C = ((("g", name),) for name in "ABC")
RULE = (
    '[[rule]]\nid = "hits"\nmetric = "fairness.true_positive_rate"\ncompare = "difference"\nover = ["g"]\nmax = 0.2\n'
)


def rows_of(**cells):
    """Labels, decisions and groups of ``name=(tn, fp, fn, tp)``."""
    y, p, g = [], [], []
    for name, (tn, fp, fn, tp) in cells.items():
        y += [0] * (tn + fp) + [1] * (fn + tp)
        p += [0] * tn + [1] * fp + [0] * fn + [1] * tp
        g += [name] * (tn + fp + fn + tp)
    return np.array(y), np.array(p), {"g": np.array(g)}


def audited(tmp_path=None, **cells):
    y, p, g = rows_of(**cells)
    policy = None
    if tmp_path is not None:
        policy = tmp_path / "audit.toml"
        policy.write_text(RULE)
    return auditkit.audit_predictions(
        y, p, sensitive=g, policy=policy, analyzers=["performance", "fairness.groups"], progress=False
    )


def shown(evidence, name, **group):
    (found,) = [m for m in evidence.by_name[name] if dict(m.slice) == group]
    return found


def test_each_rate_is_that_of_the_field():
    rng = np.random.default_rng(0)
    for tn, fp, fn, tp in rng.integers(1, 60, (50, 4)).tolist():
        named = {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
        for name, metric in METRICS.items():
            if is_margin(name):
                assert not of_cells(name)
                continue
            parts = [
                sum(times * named[cell] for cell, times in above.items())
                / sum(times * named[cell] for cell, times in below.items())
                for above, below in zip(metric.above, metric.below, strict=True)
            ]
            assert rate(f"fairness.{name}", (tn, fp, fn, tp)) == pytest.approx(np.mean(parts)), name
        y, p, _ = rows_of(a=(tn, fp, fn, tp))
        for name, theirs in {
            "recall": sk.recall_score,
            "precision": sk.precision_score,
            "f1": sk.f1_score,
            "threat_score": sk.jaccard_score,
            "balanced_accuracy": sk.balanced_accuracy_score,
        }.items():
            assert rate(f"performance.{name}", (tn, fp, fn, tp)) == pytest.approx(theirs(y, p))
        assert rate("fairness.treatment_ratio", (tn, fp, fn, tp)) == fn / fp
    assert rate("fairness.true_positive_rate", (5, 5, 0, 0)) is None
    assert rate("acme.other", (5, 5, 5, 5)) is None


def test_rounded_cells_keep_every_sum_and_move_by_half_a_step_at_most():
    rng = np.random.default_rng(1)
    kept = 0
    for _ in range(200):
        cells = {group: tuple(rng.integers(1, 80, 4).tolist()) for group in (A, B, C)}
        missed = sum(fn for _, _, fn, _ in cells.values())
        found = round_cells(cells, {}, [[(), A, B, C]], missed, 10)
        for group, (tn, fp, fn, tp) in found.shown.items():
            true = cells[group]
            assert (tn + fp, fn + tp, fp + tp) == (true[0] + true[1], true[2] + true[3], true[1] + true[3])
            assert abs(fn - true[2]) <= 6
            assert min(tn, fp, fn, tp) >= 1, "none of a kind is never told"
            assert fn % 10 == 0 or fn == 2 or 1 in (tn, fp, fn, tp), "a multiple of ten, or as far as the sums allow"
            kept += 1
    assert kept > 300


def possible(cells, found, missed):
    """Every way in which the missed positives of the groups may be, given the sums and what is shown."""
    spans = []
    for group, (tn, fp, fn, tp) in cells.items():
        values = range(max(0, fn - fp), min(fn + tp, fn + tn) + 1)
        if group in found.shown:
            values = [value for value in values if -(-(2 * value - 10) // 20) == -(-(2 * fn - 10) // 20)]
        spans.append(list(values))
    return [ways for ways in itertools.product(*spans) if sum(ways) == missed]


def test_no_group_is_left_with_few_values_by_the_sum_over_groups():
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(300):
        cells = {group: tuple(rng.integers(1, 40, 4).tolist()) for group in (A, B)}
        missed = sum(fn for _, _, fn, _ in cells.values())
        found = round_cells(cells, {}, [[(), A, B]], missed, 10)
        if found == NO_CELLS:
            refused += 1
            continue
        ways = possible(cells, found, missed)
        for values in zip(*ways, strict=True):
            assert max(values) - min(values) >= 5
    assert 0 < refused < 200


def test_two_rounded_numbers_that_would_give_each_other_away_are_not_both_shown():
    cells = {A: (60, 60, 5, 60), B: (60, 60, 15, 60)}  # to 10 and 20, which with a sum of 20 leaves 5 and 15 alone
    found = round_cells(cells, {}, [[(), A, B]], 20, 10)
    assert found.true == cells
    assert found.shown == {}
    assert len(round_cells(cells, {}, [], 20, 10).shown) == 2


def test_where_the_sums_alone_tell_a_group_none_is_taken():
    cells = {A: (60, 20, 1, 60), B: (60, 60, 3, 60)}
    assert round_cells(cells, {}, [[(), A, B]], 4, 10) == NO_CELLS


def test_what_rests_on_sums_alone_is_exact_and_the_rest_agrees_with_itself():
    report = audited(F=(21, 20, 8, 65), M=(45, 34, 19, 188))
    shared = redact(report.evidence)
    for name in ("selection_rate", "base_rate", "rejection_rate"):
        for group in "FM":
            exact, told = (shown(e, f"fairness.{name}", g=group) for e in (report.evidence, shared))
            assert told.value == pytest.approx(exact.value, abs=1e-6)
            assert told.n == exact.n
    for kind in ("difference", "ratio"):
        gap = [m for m in shared.by_name[f"fairness.selection_rate.{kind}"] if m.over == ("g",)]
        assert gap[0].interval is not None
    # 8 missed of 73 women are shown as 10
    assert shown(shared, "fairness.true_positive_rate", g="F").value == 0.86
    assert shown(shared, "performance.recall", g="F").value == 0.86
    assert shown(shared, "fairness.false_negative_rate", g="F").value == 0.14
    assert shown(shared, "fairness.true_positive_rate", g="F").n is None
    assert "rounded" in shown(shared, "fairness.true_positive_rate", g="F").reason
    (gap,) = shared.by_name["fairness.true_positive_rate.difference"]
    sides = [shown(shared, "fairness.true_positive_rate", g=group).value for group in "FM"]
    assert gap.value == pytest.approx(abs(sides[0] - sides[1]))
    (odds,) = shared.by_name["fairness.equalized_odds.difference"]
    false = [shown(shared, "fairness.false_positive_rate", g=group).value for group in "FM"]
    assert odds.value == pytest.approx(max(gap.value, abs(false[0] - false[1])))


@pytest.mark.parametrize("fn", [1, 2, 3, 4])
def test_nobody_reads_that_none_were_missed_where_some_were(fn):
    told = redact(audited(F=(21, 20, fn, 65), M=(45, 34, 21, 188)).evidence)
    names = ("false_negative_rate", "true_positive_rate", "false_omission_rate", "negative_predictive_value")
    rates = [shown(told, f"fairness.{name}", g="F") for name in names]
    expected = [2 / (65 + fn), (63 + fn) / (65 + fn), 2 / (21 + fn), (19 + fn) / (21 + fn)]
    assert [m.value for m in rates] == [round(value, 2) for value in expected]
    assert all("rounded" in m.reason for m in rates)


def test_where_none_were_missed_and_no_cell_is_small_it_is_said():
    told = redact(audited(F=(21, 20, 0, 65), M=(45, 34, 21, 188)).evidence)
    assert shown(told, "fairness.false_negative_rate", g="F").value == 0


def test_rates_of_many_rows_are_not_rounded_onto_none_or_all():
    cells = {A: (4000, 4000, 3, 4000), B: (4000, 4000, 6, 4000)}
    found = round_cells(cells, {}, [], 9, 10)
    recall = Measurement(name="a.recall", value=4000 / 4003, n=4003, slice={"g": "A"})
    assert found.value(recall) == pytest.approx(4001 / 4003, abs=1e-4)
    assert found.value(recall) < 1


def test_without_a_small_cell_nothing_is_rounded():
    report = audited(F=(41, 40, 38, 65), M=(45, 34, 29, 188))
    shared = redact(report.evidence)
    assert small_cells(report.evidence, 10).rounded == NO_CELLS
    assert not any((m.reason or "").startswith(("rounded", "withheld")) for m in shared.measurements())


def test_a_rule_shows_the_rates_that_the_numbers_show(tmp_path):
    report = audited(tmp_path, F=(21, 20, 8, 65), M=(45, 34, 19, 188))
    shared, verdict = shared_copy(report.evidence, report.gate())
    (comparison,) = verdict.results[0].comparisons
    told = {side.group: side.value for side in comparison.sides}
    assert told == {group: shown(shared, "fairness.true_positive_rate", g=group).value for group in "FM"}
    assert comparison.value == pytest.approx(abs(told["F"] - told["M"]))


def test_a_gap_that_is_not_of_the_rates_beside_it_is_not_made_up():
    gap = Measurement(name="a.recall.difference", value=0.3, n=9, over=("g",))
    assert gap_of(gap, [([0.5, 0.8], [0.5, 0.7])]) == 0.2
    assert gap_of(gap, [([0.5, 0.7], [0.5, 0.7])]) is None, "another difference"
    assert gap_of(gap, [([0.5, 0.8], [0.5, None])]) is None, "one is withheld"
    assert gap_of(gap, [([0.5, 0.8, None], [0.5, 0.7, None])]) == 0.2, "one is not defined"


def test_a_card_says_which_of_its_numbers_are_rounded():
    page = audited(F=(21, 20, 8, 65), M=(45, 34, 19, 188)).to_html()
    tiles = page.partition("Do groups of people")[2]
    assert "rounded, over g" in tiles
    assert "Values without n are rounded" in tiles
    clean = audited(F=(41, 40, 38, 65), M=(45, 34, 29, 188)).to_html()
    assert ", rounded," not in clean
    assert "Values without n are rounded" not in clean


MEASURED_GAPS = (
    "true_positive_rate.difference",
    "f1.difference",
    "equalized_odds.difference",
    "average_odds.difference",
    "average_predictive_value.difference",
)


def told_of(tmp_path, fn):
    """All that a shared copy and verdict tell when ``fn`` women of 73 were missed, every sum being the same."""
    more = fn - 8
    y, p, g = rows_of(F=(21 - more, 20 + more, fn, 65 - more), M=(45 + more, 34 - more, 19 - more, 188 + more))
    policy = tmp_path / "audit.toml"
    rules = [
        f'[[rule]]\nid = "{name}"\nmetric = "fairness.{name}"\nover = ["g"]\nmax = 0.9\n' for name in MEASURED_GAPS
    ]
    rules += [
        f'[[rule]]\nid = "{name}"\nmetric = "fairness.{name}"\ncompare = "difference"\nover = ["g"]\nmax = 0.9\n'
        for name in ("true_positive_rate", "equalized_odds")
    ]
    policy.write_text("\n".join(rules))
    analyzers = ["performance", "fairness.groups", "fairness.outcomes"]
    report = auditkit.audit_predictions(y, p, sensitive=g, policy=policy, analyzers=analyzers, progress=False)
    shared, verdict = shared_copy(report.evidence, report.gate())
    told = {(o.analyzer, m.key): (m.value, m.n, m.interval) for o in shared.outcomes for m in o.measurements}
    told |= {(o.analyzer, a.name): a for o in shared.outcomes for a in o.artifacts}
    return told | {("rule", result.id): result for result in verdict.results}


def test_nothing_shared_tells_how_many_within_a_step_were_missed(tmp_path):
    told = told_of(tmp_path, 8)
    for fn in (6, 7, 9):
        other = told_of(tmp_path, fn)
        assert [key for key in told if told[key] != other[key]] == []


def test_a_rule_on_a_measured_gap_shows_what_the_numbers_show(tmp_path):
    told = told_of(tmp_path, 8)
    for name in MEASURED_GAPS[:3]:
        (comparison,) = told["rule", name].comparisons
        assert comparison.value == told["fairness.groups", f"fairness.{name}|over=g"][0]
        assert comparison.interval is None
    odds = told["rule", "equalized_odds"].comparisons
    for comparison in odds:
        name = comparison.label.partition(",")[0].replace(" ", "_")
        for side in comparison.sides:
            assert side.value == told["fairness.groups", f"fairness.{name}|g={side.group}"][0]


def test_a_table_of_the_largest_gaps_agrees_with_the_rates_beside_it(tmp_path):
    told = told_of(tmp_path, 7)  # 9.6 % are missed, 9.7 % of the men; shown are 14 % and 10 %
    rows = {row[0]: row[1:3] for row in told["performance", "performance_gaps_g"].rows}
    assert rows["recall"] == ("M", "F")


@pytest.mark.parametrize("values", [(0.0, 1.0), (0.2, 0.7)])
def test_scores_of_two_values_tell_no_cell(values):
    y, p, g = rows_of(F=(21, 20, 8, 65), M=(45, 34, 19, 188))
    scores = np.where(p == 1, values[1], values[0])
    analyzers = ["performance", "fairness.groups", "fairness.scores"]
    evidence = auditkit.audit_predictions(
        y, p, scores=scores, sensitive=g, analyzers=analyzers, progress=False
    ).evidence
    for name in ("performance.roc_auc", "performance.brier_score", "fairness.roc_auc"):
        assert shown(redact(evidence), name, g="F").n is None


def test_a_ratio_of_small_cells_of_crossed_groups_is_not_shown():
    parts = {
        ("F", "a"): (9, 7, 6, 35),
        ("F", "b"): (12, 13, 2, 30),
        ("M", "a"): (20, 16, 8, 90),
        ("M", "b"): (25, 18, 11, 98),
    }
    y, p, g = rows_of(**{"".join(name): cells for name, cells in parts.items()})
    sensitive = {"g": np.array([name[0] for name in g["g"]]), "h": np.array([name[1] for name in g["g"]])}
    evidence = auditkit.audit_predictions(
        y, p, sensitive=sensitive, analyzers=["fairness.groups"], progress=False
    ).evidence
    exact = shown(evidence, "fairness.treatment_ratio", g="F", h="a")
    assert (exact.value, exact.n) == (pytest.approx(6 / 7), 13)
    told = shown(redact(evidence), "fairness.treatment_ratio", g="F", h="a")
    assert told.n is None
    assert told.value is None


def test_an_f1_of_one_of_three_classes_does_not_tell_how_many_were_right():
    y, p, g = rows_of(F=(21, 20, 8, 65), M=(45, 34, 19, 188))
    y[::7], p[::9] = 2, 2
    evidence = auditkit.audit_predictions(y, p, sensitive=g, analyzers=["fairness.groups"], progress=False).evidence
    name = "fairness.f1"
    exact = {m.key: m for m in evidence.by_name[name] if dict(m.slice) == {"g": "F"}}
    told = {m.key: m for m in redact(evidence).by_name[name] if dict(m.slice) == {"g": "F"}}
    # 2 right in 28 rows labelled or decided as the third class: 2 * 2 / (2 + 28)
    (third,) = [key for key, m in exact.items() if m.n == 28]
    assert exact[third].value == pytest.approx(4 / 30)
    assert told[third].n is None


def three_classes(n, share=0.02):
    """Labels, decisions and groups of three classes; a few rows of each label are decided as each other class."""
    rng = np.random.default_rng(0)
    g, y = rng.choice(["F", "M"], n), rng.integers(0, 3, n)
    p = np.where(rng.random(n) < share, (y + 1) % 3, y)
    return y, p, {"g": g}


def distances(n, share):
    y, p, g = three_classes(n, share)
    evidence = auditkit.audit_predictions(
        y, p, sensitive=g, analyzers=["fairness.groups", "fairness.outcomes"], progress=False
    ).evidence
    (exact,), (told,) = (e.by_name["fairness.error_distance"] for e in (evidence, redact(evidence)))
    return exact, told


def test_a_distance_over_the_cells_of_three_classes_is_rounded_where_a_cell_is_small():
    exact, told = distances(800, 0.02)
    assert told.n is None
    assert "rounded" in told.reason
    assert told.value != exact.value
    # 113 to 146 rows of a label in a group: steps of 0.1 stand for ten of them
    assert abs(told.value - exact.value) <= 0.05
    assert told.value == 0.05
    assert told.interval.low <= exact.interval.low <= exact.interval.high <= told.interval.high


def test_a_distance_over_three_classes_without_a_small_cell_is_exact():
    exact, told = distances(900, 0.5)
    assert told.value == pytest.approx(exact.value, abs=1e-6)
    assert told.n == exact.n == 900


@pytest.mark.parametrize(("values", "few"), [(3, True), (4, True), (18, True), (100, False)])
def test_scores_of_few_values_tell_no_cell(values, few):
    y, p, g = rows_of(F=(21, 20, 8, 65), M=(45, 34, 19, 188))
    rng = np.random.default_rng(3)
    low, high = np.linspace(0.1, 0.4, values // 2), np.linspace(0.6, 0.9, values - values // 2)
    scores = np.where(p == 1, rng.choice(high, len(p)), rng.choice(low, len(p)))
    analyzers = ["performance", "fairness.groups", "fairness.scores"]
    evidence = auditkit.audit_predictions(
        y, p, scores=scores, sensitive=g, analyzers=analyzers, progress=False
    ).evidence
    told = redact(evidence)
    for name in ("performance.roc_auc", "performance.brier_score", "fairness.mean_score_of_positives"):
        m = shown(told, name, g="F")
        assert (m.n is None) is few, name
        assert (m.reason or "").startswith(("rounded", "withheld")) is few
    assert (shown(told, "fairness.selection_rate", g="F").n is None) is few


def test_scores_are_taken_to_be_few_where_nothing_shows_that_they_are_not():
    y, p, g = rows_of(F=(21, 20, 8, 65), M=(45, 34, 19, 188))
    scores = np.clip(np.random.default_rng(3).uniform(0.5, 1.0, len(p)) - 0.5 * (1 - p), 0, 1)
    evidence = auditkit.audit_predictions(
        y, p, scores=scores, sensitive=g, analyzers=["performance", "fairness.groups"], progress=False
    ).evidence
    assert shown(redact(evidence), "performance.roc_auc", g="F").n == 114
    bare = dataclasses.replace(
        evidence,
        outcomes=tuple(
            dataclasses.replace(o, artifacts=tuple(a for a in o.artifacts if a.kind == "counts"))
            for o in evidence.outcomes
        ),
    )
    assert shown(redact(bare), "performance.roc_auc", g="F").n is None


def test_a_rounded_share_lies_within_its_own_interval():
    held = Interval(low=0.0, high=0.0, method="linearised")
    sure = Measurement(name="a.error", value=0.0, n=120, interval=held, slice={"g": "A"}, bounds=(0.0, 1.0))
    found = coarse(sure, 10)
    assert found.interval.low <= found.value <= found.interval.high
    assert found.value > 0.0


@pytest.mark.parametrize(("rows", "value"), [(34, None), (240, 0.43)])
def test_a_ratio_of_two_counts_is_rounded_as_their_share(rows, value):
    held = Interval(low=0.2, high=0.7, method="clopper-pearson-odds")
    exact = Measurement(
        name="fairness.treatment_ratio", value=0.41, n=rows, interval=held, slice={"g": "A"}, bounds=(0.0, None)
    )
    found = coarse(exact, 10)
    assert found.value == value
    assert found.interval is None
    assert found.n is None
    gap = dataclasses.replace(exact, name="fairness.treatment_ratio.difference", slice={}, over=("g",))
    assert coarse(gap, 10).value is None
