"""What shared copies withhold, against a brute-force attacker who subtracts."""

import dataclasses
import itertools

import pytest
import sample
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.core.evidence import (
    Counts,
    Curve,
    Density,
    ImageGrid,
    Interval,
    Measurement,
    Outcome,
    Picture,
    Series,
    Table,
)
from auditkit.core.schema import digest_of, seal
from auditkit.core.verdict import Comparison, RuleResult, Side
from auditkit.render.coarse import coarse
from auditkit.render.html.card import render_card
from auditkit.render.markdown import render_markdown
from auditkit.render.redact import merge_small, redact
from auditkit.render.redact_verdict import redact_verdict, withheld_disparities
from auditkit.render.suppression import hidden_cells
from auditkit.render.table import render_csv

GROUPS = {"F": 812, "M": 1183, "X": 5}


def measured(*measurements, artifacts=()):
    return Outcome(analyzer="acme.x", version="1", status="measured", measurements=measurements, artifacts=artifacts)


def small_group_evidence():
    rates = [
        sample.rate("acme.rate", v, n, slice={"sex": g})
        for (g, n), v in zip(GROUPS.items(), (0.38217, 0.6331, 0.2), strict=True)
    ]
    whole = sample.rate("acme.rate", 0.53, 2000)
    gap = Measurement(name="acme.rate.difference", value=0.4331, n=2000, over=("sex",), reason="no interval")
    share = [
        Measurement(name="data.group_count", value=float(n), n=2000, slice={"sex": g}, reason="a count")
        for g, n in GROUPS.items()
    ]
    facts = dataclasses.replace(sample.facts(), sensitive={"sex": GROUPS}, label_counts={"no": 1995, "yes": 5})
    subject = dataclasses.replace(sample.evidence().subject, test=facts, train=None)
    return sample.evidence(subject=subject, outcomes=(measured(whole, *rates, gap, *share),))


@given(
    st.lists(st.integers(0, 40), min_size=4, max_size=4),
)
@settings(max_examples=150, deadline=None)
def test_no_small_cell_of_a_two_by_two_table_can_be_solved(cells):
    """Of all tables with the shown cells and margins, two differ in every hidden small cell."""
    lines = [(0, 1), (2, 3), (0, 2), (1, 3), (0, 1, 2, 3)]
    hidden = hidden_cells(cells, lines, 5)
    assert all(index in hidden for index, value in enumerate(cells) if 0 < value < 5)
    if not hidden:
        return
    sums = [sum(cells[i] for i in line) for line in lines]
    possible = []
    for step in range(-41, 42):  # with all margins known, a 2 x 2 table has one degree of freedom
        table = [cells[0] + step, cells[1] - step, cells[2] - step, cells[3] + step]
        if min(table) >= 0 and [sum(table[i] for i in line) for line in lines] == sums:
            possible.append(table)
    shown = [i for i in range(4) if i not in hidden]
    possible = [table for table in possible if all(table[i] == cells[i] for i in shown)]
    total = sum(cells)
    if total >= 10 and sum(value > 0 for value in cells) > 2:
        for index in hidden:
            if 0 < cells[index] < 5:
                assert len({table[index] for table in possible}) > 1, (cells, hidden)


def test_primary_and_complementary_cells():
    assert hidden_cells([3, 50, 60], [(0, 1, 2)], 10) == {0, 1}
    assert hidden_cells([3, 4, 60], [(0, 1, 2)], 10) == {0, 1, 2}, (
        "3 + 4 = 7 would show that both are small and nearly what"
    )
    assert hidden_cells([0, 50, 60], [(0, 1, 2)], 10) == frozenset()
    assert hidden_cells([10, 9], [], 10) == {1}


def test_a_merged_entry_keeps_the_total():
    merged = merge_small({"F": 400, "M": 380, "X": 4}, 10)
    assert sum(merged.values()) == 784
    assert set(merged.values()) == {400, 384}
    assert merge_small({"X": 4}, 10) == {}
    assert merge_small({"F": 40, "M": 10}, 10) == {"F": 40, "M": 10}


def test_measurements_of_a_small_group_are_withheld_and_its_companion_is_coarse():
    shared = redact(small_group_evidence())
    by = {(m.name, m.slice.get("sex")): m for m in shared.measurements()}
    assert by["acme.rate", "X"].value is None
    assert by["acme.rate", "X"].n is None
    assert by["acme.rate", "X"].reason == "withheld in shared copies: fewer than 10 rows"
    coarse = by["acme.rate", "F"]
    assert (coarse.value, coarse.n) == (0.38, None)
    assert coarse.interval.low == 0.34  # a step of 0.02 stands for 16 of the 812 rows
    assert by["acme.rate", "M"].n == 1183
    assert by["acme.rate", None].n == 2000
    assert by["acme.rate.difference", None].value is None
    assert by["data.group_count", "X"].value is None
    assert by["data.group_count", "F"].value is None
    assert by["data.group_count", "M"].value == 1183


@pytest.mark.parametrize("rows", [40, 120, 289, 812])
def test_the_rows_of_the_companion_do_not_follow_from_its_rounded_shares(rows):
    """An attacker tries every number of rows that the merged group allows against all shares and intervals shown."""
    hits = [rows // 4, rows // 3, rows * 4 // 5, rows // 13, rows // 2]
    shares = [
        sample.rate(f"acme.rate{i}", k / n, n, slice={"origin": g})
        for i, hit in enumerate(hits)
        for g, n, k in (("a", 6, 3), ("b", rows, hit), ("c", 3000, 1500))
    ]
    shared = [
        m for m in redact(sample.evidence(outcomes=(measured(*shares),))).measurements() if m.slice == {"origin": "b"}
    ]
    possible = []
    for n in range(rows - 3, rows + 6):  # the small group has 1 to 9 of rows + 6
        fits = True
        for m in shared:
            tries = (coarse(sample.rate("x", k / n, n), 10) for k in range(n + 1))
            fits &= any((t.value, t.interval) == (m.value, m.interval) for t in tries)
        possible += [n] * fits
    assert len(possible) > 5


def test_the_clean_twin_is_left_as_it_is():
    evidence = sample.evidence()
    shared = redact(evidence)
    for before, after in zip(evidence.outcomes, shared.outcomes, strict=True):
        for one, other in zip(before.measurements, after.measurements, strict=True):
            assert (one.key, one.n, one.reason) == (other.key, other.n, other.reason)
            assert (one.value or 0.0) == pytest.approx(other.value or 0.0, rel=1e-5)


def test_denominators_count_too():
    """A group with many rows but few positives: its true positive rate rests on 4 rows."""
    rates = [
        sample.rate("fairness.true_positive_rate", 0.5, n, slice={"sex": g})
        for g, n in (("F", 4), ("M", 300), ("D", 200))
    ]
    shared = redact(sample.evidence(outcomes=(measured(*rates),)))
    first, second, third = shared.measurements()
    assert first.value is None
    assert second.n == 300
    assert third.n is None


def test_counts_lose_small_cells_and_what_reveals_them():
    counts = Counts(
        name="c", over=("sex",), groups=(("F",), ("M",), ("D",)), classes=("no", "yes"), positive=1,
        n=(((100, 3), (20, 80)), ((200, 30), (40, 65)), ((300, 50), (60, 70))),
    )  # fmt: skip
    shared = redact(sample.evidence(outcomes=(measured(artifacts=(counts,)),)))
    kept, table = shared.outcomes[0].artifacts
    assert kept.groups == (("D",),)
    assert kept.n == (((300, 50), (60, 70)),)
    hidden = [row for row in table.rows if row[-1] is None]
    assert {row[0] for row in hidden} == {"F", "M"}
    assert len(hidden) == 8
    shown = {row[:3]: row[-1] for row in table.rows if row[-1] is not None}
    assert shown["D", "no", "yes"] == 50


def test_counts_without_small_cells_stay():
    counts = Counts(name="c", over=("sex",), groups=(("F",),), classes=("no", "yes"), n=(((100, 13), (20, 80)),))
    assert redact(sample.evidence(outcomes=(measured(artifacts=(counts,)),))).outcomes[0].artifacts == (counts,)


def test_raw_pictures_go_and_the_page_says_so():
    shared = redact(sample.evidence())
    saliency = next(o for o in shared.outcomes if o.analyzer == "explain.saliency")
    assert [a.name for a in saliency.artifacts] == ["explain.saliency"]
    assert any("Four rows of the data" in note for note in saliency.notes)
    grid = ImageGrid(name="g", title="kept", pictures=(Picture(label="a", height=1, width=1, pixels="AA=="),))
    assert redact(sample.evidence(outcomes=(measured(artifacts=(grid,)),))).outcomes[0].artifacts == (grid,)


def test_tables_lose_the_numbers_of_small_rows():
    rows = (("a", 0.25, 4), ("b", 0.5, 40), ("c", 0.4, 50))
    table = Table(name="t", title="t", columns=("group", "rate", "n"), rows=rows)
    (after,) = redact(sample.evidence(outcomes=(measured(artifacts=(table,)),))).outcomes[0].artifacts
    # With the smallest of the others, or the total of all rows would give the number back.
    assert after.rows == (("a", None, None), ("b", None, None), ("c", 0.4, 50))


def test_densities_are_rounded():
    density = Density(
        name="d",
        title="d",
        x_label="x",
        rows=("f",),
        edges=(0.0, 1.0, 2.0, 3.0),
        counts=((3, 7, 44),),
        color=((0.1, 0.5, 0.9),),
    )
    (after,) = redact(sample.evidence(outcomes=(measured(artifacts=(density,)),))).outcomes[0].artifacts
    assert after.counts == ((0, 10, 40),)
    assert after.color == ((None, None, 0.9),)


def test_the_copy_is_sealed_and_redacting_twice_changes_nothing():
    shared = redact(small_group_evidence())
    assert shared.redacted
    assert shared.digest == digest_of(shared)
    assert redact(shared) == shared
    assert shared.run.started == ""


def test_the_card_chooses_the_smallest_cell():
    evidence = seal(dataclasses.replace(small_group_evidence(), card={"min_cell": 3}))
    assert redact(evidence) == dataclasses.replace(redact(evidence, 3))
    few = next(m for m in redact(evidence).measurements() if m.slice == {"sex": "X"})
    assert "fewer than" not in few.reason  # its five rows may be shown; the one row behind its rate may not


def small_verdict():
    def side(group, value, n):
        return Side(
            group=group, value=value, n=n, interval=Interval(low=0.1234, high=0.9876, level=0.95, method="wilson")
        )

    pairs = [("F", 0.38217, 812), ("M", 0.6331, 1183), ("X", 0.2, 5)]
    comparisons = tuple(
        Comparison(label=f"sex: {a[0]} vs {b[0]}", state="fail", value=round(abs(a[1] - b[1]), 5), n=a[2] + b[2],
                   sides=(side(*a), side(*b)), message=f"{a[0]} has {a[1]} and {b[0]} has {b[1]}")
        for a, b in itertools.combinations(pairs, 2)
    )  # fmt: skip
    rule = RuleResult(id="r", metric="acme.rate", compare="difference", limit="<= 0.1", state="fail",
                      comparisons=comparisons,
                      message="X has 0.2 on 5 rows")  # fmt: skip
    return sample.verdict(results=(rule,))


def test_the_verdict_hides_small_sides_in_numbers_and_words():
    (rule,) = redact_verdict(small_verdict()).results
    assert rule.state == "fail"
    assert "5 rows" not in rule.message
    first, second, third = rule.comparisons
    assert {side.n for comparison in (second, third) for side in comparison.sides if side.group == "X"} == {None}
    assert second.value is None
    assert "0.2" not in second.message
    assert third.value is None
    assert (first.value, first.n, first.sides[0].n, first.sides[0].value) == (0.2531, None, None, 0.38)
    assert (first.sides[1].n, first.sides[1].value) == (1183, 0.6331)
    assert first.value == pytest.approx(0.6331 - 0.38), "a gap is that of the two rates shown beside it"


def test_a_verdict_gives_no_rows_through_intervals_or_rows_needed():
    """A Wilson interval at full precision gives its rows, and the rows needed give the rate."""
    exact = Interval(low=0.650000021, high=0.890001, level=0.95, method="wilson")
    sides = {g: Side(group=g, value=0.5, n=n) for g, n in GROUPS.items()}
    comparisons = tuple(
        Comparison(
            label=label, state="inconclusive", value=0.8, message="0.8", interval=exact, n=9, n_needed=1234,
            sides=tuple(sides[group] for group in label),
        )
        for label in ("FM", "XM", "F", "X", "M")
    )  # fmt: skip
    rule = RuleResult(
        id="r", metric="acme.rate", compare="difference", limit="<= 0.1", state="inconclusive", message="m",
        comparisons=comparisons,
    )  # fmt: skip
    (shared,) = redact_verdict(dataclasses.replace(sample.verdict(), results=(rule,))).results
    shown = {comparison.label: comparison for comparison in shared.comparisons}
    assert [shown[label].n_needed for label in ("FM", "XM", "F", "X")] == [None] * 4
    assert [shown[label].interval for label in ("XM", "X")] == [None, None]
    assert (shown["F"].interval.low, shown["F"].interval.high) == (0.64, 0.9)
    assert (shown["FM"].interval.low, shown["FM"].interval.high) == (0.64, 0.9)
    assert shown["M"] == comparisons[-1]


def test_a_rule_on_a_withheld_disparity_shows_no_number():
    comparison = Comparison(
        label="sex", state="fail", value=0.4331, n=2000, message="0.4331 (n = 2,000)",
        sides=(Side(group="all rows", value=0.4331, n=2000),),
    )  # fmt: skip
    rule = RuleResult(
        id="r", metric="acme.rate.difference", compare="value", limit="<= 0.1", state="fail", message="0.4331",
        comparisons=(comparison,),
    )  # fmt: skip
    verdict = dataclasses.replace(sample.verdict(), results=(rule,))
    assert withheld_disparities(redact(small_group_evidence())) == {"acme.rate.difference"}
    assert withheld_disparities(redact(sample.evidence())) == frozenset()
    assert "0.433" not in render_markdown(small_group_evidence(), verdict)
    assert "0.433" not in render_card(small_group_evidence(), verdict)
    assert redact_verdict(verdict, 10, frozenset({"other.rate.difference"})) == verdict


def test_a_verdict_without_small_groups_is_left_as_it_is():
    assert redact_verdict(sample.verdict()) == sample.verdict()


@pytest.mark.parametrize("render", [render_card, render_markdown])
def test_no_output_shows_what_is_withheld(render):
    page = render(small_group_evidence(), small_verdict())
    for secret in ("0.38217", "n 812", "n 5)", "on 5 rows", "0.433", "1,995"):
        assert secret not in page


def test_the_csv_is_of_the_shared_copy():
    lines = render_csv(small_group_evidence()).splitlines()
    assert any("sex=X,,,,," in line for line in lines)
    assert not any("0.38217" in line for line in lines)


def with_lines(outcome, *names):
    lines = tuple(Series(name=name, x=(0.0, 0.5, 1.0), y=(0.0, 0.75, 1.0)) for name in names)
    curve = Curve(name="c", title="c", x_label="x", y_label="y", series=lines)
    evidence = small_group_evidence()
    outcomes = (dataclasses.replace(outcome, artifacts=(curve,)),)
    shared = redact(dataclasses.replace(evidence, outcomes=outcomes))
    return [series.name for series in shared.outcomes[0].artifacts[0].series]


@pytest.mark.parametrize("form", ["{}", "sex: {}", "sex={}", "sex={}, without privacy"])
def test_lines_of_a_small_group_and_of_its_companion_go(form):
    """The steps of a line are multiples of one over its rows: with the total they give the rows of the small group."""
    names = [form.format(group) for group in ("F", "M", "X")]
    outcome = small_group_evidence().outcomes[0]
    assert with_lines(outcome, "all rows", *names) == ["all rows", form.format("M")]


def test_lines_stay_where_every_number_does():
    twin = [sample.rate("acme.rate", 0.5, n, slice={"sex": g}) for g, n in (("F", 812), ("M", 1183), ("X", 50))]
    outcome = measured(sample.rate("acme.rate", 0.5, 2045), *twin)
    evidence = small_group_evidence()
    facts = dataclasses.replace(evidence.subject.test, sensitive={"sex": {"F": 812, "M": 1183, "X": 50}})
    subject = dataclasses.replace(evidence.subject, test=facts)
    lines = tuple(Series(name=f"sex: {name}", x=(0.0,), y=(0.5,)) for name in "FMX")
    curve = Curve(name="c", title="c", x_label="x", y_label="y", series=lines)
    outcomes = (dataclasses.replace(outcome, artifacts=(curve,)),)
    shared = redact(dataclasses.replace(evidence, subject=subject, outcomes=outcomes))
    assert [series.name for series in shared.outcomes[0].artifacts[0].series] == ["sex: F", "sex: M", "sex: X"]


def test_few_rows_of_a_large_group_in_a_sample_lose_their_line():
    """An attack looks at a sample of rows: a group that is large in the data may be a handful there."""
    rates = [sample.rate("acme.rate", 0.5, n, slice={"sex": g}) for g, n in (("F", 6), ("M", 94))]
    outcome = measured(sample.rate("acme.rate", 0.5, 100), *rates)
    assert with_lines(outcome, "all rows", "sex: F", "sex: M") == ["all rows"]


def test_a_group_too_small_to_be_measured_does_not_follow_from_the_others():
    """Four of the 150 rows are in no group shown: 150 - 116 - 30 and the shares would tell about them."""
    rates = [sample.rate("acme.rate", 0.512345, n, slice={"origin": g}) for g, n in (("north", 116), ("south", 30))]
    shared = redact(sample.evidence(outcomes=(measured(sample.rate("acme.rate", 0.5, 150), *rates),)))
    whole, north, south = shared.measurements()
    assert (whole.n, north.n, south.n) == (150, 116, None)
    assert south.value is None


def test_groups_that_make_up_the_whole_stay():
    rates = [sample.rate("acme.rate", 0.512345, n, slice={"origin": g}) for g, n in (("north", 116), ("south", 34))]
    shared = redact(sample.evidence(outcomes=(measured(sample.rate("acme.rate", 0.5, 150), *rates),)))
    assert [m.n for m in shared.measurements()] == [150, 116, 34]
