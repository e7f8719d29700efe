"""A share times its rows must not give a small count, nor may anything beside it."""

import dataclasses
import itertools

import numpy as np
import pytest
import sample

from auditkit.core.evidence import Interval, Outcome
from auditkit.core.verdict import Comparison, Side
from auditkit.render.coarse import coarse
from auditkit.render.numerators import numerator, small_numerators
from auditkit.render.redact import redact
from auditkit.render.redact_verdict import redact_verdict


def shared(*measurements):
    outcome = Outcome(analyzer="acme.x", version="1", status="measured", measurements=measurements)
    copy = redact(sample.evidence(outcomes=(outcome,)))
    return list(copy.outcomes[0].measurements)


def rates(name, *cells):
    """A rate of each group ``(group, count, rows)`` of sex, and of all rows."""
    groups = [sample.rate(name, count / rows, rows, slice={"sex": group}) for group, count, rows in cells]
    count, rows = (sum(cell[i] for cell in cells) for i in (1, 2))
    return [*groups, sample.rate(name, count / rows, rows)]


def possible(m, rows):
    """Every count that a shown share allows to a reader who knows the group's rows from elsewhere."""
    if m.value is None:
        return set(range(rows + 1))
    if m.n is not None:
        return {k for k in range(rows + 1) if abs(k / rows - m.value) <= 1e-6}
    step = next((step for step in (0.01, 0.02, 0.05, 0.1) if step * rows >= 10), 2.0)
    return {k for k in range(rows + 1) if abs(k / rows - m.value) <= step / 2 + 1e-9}


@pytest.mark.parametrize("count", [1, 4, 9, 391, 396, 399])
def test_a_small_count_behind_a_share_cannot_be_told(count):
    f, m, whole = shared(*rates("acme.hit_rate", ("F", count, 400), ("M", 300, 1000)))
    assert f.n is None
    total = round(whole.value * whole.n)
    left = possible(f, 400) & {total - k for k in possible(m, 1000)}
    assert count in left
    assert len(left) >= 5


def test_solving_random_tables_by_brute_force_gives_no_small_count():
    rng = np.random.default_rng(3)
    for _ in range(60):
        rows = [int(n) for n in rng.integers(60, 900, 3)]
        counts = [int(rng.integers(0, n + 1)) if rng.random() < 0.6 else int(rng.integers(0, 12)) for n in rows]
        cells = list(zip("FMX", counts, rows, strict=True))
        *groups, whole = shared(*rates("acme.hit_rate", *cells))
        options = [possible(m, n) for m, n in zip(groups, rows, strict=True)]
        total = round(whole.value * whole.n)
        for place, (_, count, n) in enumerate(cells):
            if 0 < count < 10 or 0 < n - count < 10:
                one, two = (options[i] for i in range(3) if i != place)
                sums = {a + b for a, b in itertools.product(one, two)}
                assert sum(total - k in sums for k in options[place]) > 1, cells


def test_shares_of_the_same_group_go_together_because_they_are_sums_of_the_same_cells():
    accuracy = rates("acme.accuracy", ("F", 200, 400), ("M", 500, 1000))
    recall = rates("acme.recall", ("F", 196, 200), ("M", 200, 500))
    out = shared(*accuracy, *recall)
    assert [m.n is None for m in out] == [True, True, False, True, True, False]


def test_cells_of_another_feature_and_sizes_of_groups_are_not_rounded_with_them():
    def of(feature, name, *cells):
        return [dataclasses.replace(m, params={"feature": feature}) for m in rates(name, *cells)]

    few = of("job", "acme.missing_share", ("F", 4, 400), ("M", 300, 1000))
    many = of("age", "acme.missing_share", ("F", 200, 400), ("M", 300, 1000))
    gap = dataclasses.replace(sample.rate("acme.missing_share.difference", 0.2, 1400), over=("sex",))
    gaps = [dataclasses.replace(gap, params={"feature": feature}) for feature in ("job", "age")]
    sizes = [sample.rate("data.group_share", n / 1400, 1400, slice={"sex": g}) for g, n in (("F", 400), ("M", 1000))]
    out = shared(*few, *many, *gaps, *sizes)
    assert [m.n is None for m in out] == [True, True, False, False, False, False, True, False, False, False]


@pytest.mark.parametrize(
    ("low", "high"), [(0.00212, 0.0213), (0.0, 0.00993), (0.0111, 0.0234), (-0.412, 0.0491), (0.311, 23.41)]
)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (0.0, None)])
def test_a_rounded_interval_holds_all_that_the_exact_one_holds(low, high, bounds):
    exact = Interval(low=low, high=high, method="wilson")
    rate = sample.rate("acme.x", 0.5, 400, slice={"sex": "F"})
    m = dataclasses.replace(rate, value=(max(low, 0.0) + high) / 2, interval=exact, bounds=bounds)
    shown = coarse(m, 10).interval
    assert shown.low <= low < high <= shown.high
    assert (shown.low, shown.high) != (low, high)


def test_a_gap_does_not_give_the_rounded_share_to_all_its_digits():
    gap = dataclasses.replace(sample.rate("acme.hit_rate.difference", 0.2912, 1400), over=("sex",))
    *_, shown = shared(*rates("acme.hit_rate", ("F", 4, 400), ("M", 300, 1000)), gap)
    assert shown.n is None
    assert shown.value == pytest.approx(0.3, abs=1e-9)


def test_the_clean_twin_and_what_is_no_share_stay():
    clean = rates("acme.hit_rate", ("F", 40, 400), ("M", 300, 1000))
    assert [m.n for m in shared(*clean)] == [400, 1000, 1400]
    auc = sample.rate("acme.roc_auc", 0.99123456, 400, slice={"sex": "F"})
    assert numerator(auc) is None
    assert shared(auc)[0].n == 400
    assert small_numerators(clean, set(), 10) == frozenset()


def test_numbers_over_all_rows_are_about_no_group():
    assert shared(sample.rate("acme.hit_rate", 4 / 400, 400))[0].n == 400


def test_the_verdict_rounds_the_sides_that_would_tell():
    verdict = sample.failing()
    result = verdict.results[0]
    sides = tuple(Side(group=g, value=v, n=n) for g, v, n in (("F", 4 / 400, 400), ("M", 0.3, 1000)))
    pair = Comparison(label="sex: F vs M", state="fail", value=0.29, message="F 0.01 (n = 400)", sides=sides)
    one = dataclasses.replace(result, metric="acme.hit_rate", comparisons=(pair,), message="F 0.01 (n = 400)")
    shown = redact_verdict(dataclasses.replace(verdict, results=(one,)), 10).results[0]
    assert [side.n for side in shown.comparisons[0].sides] == [None, None]
    assert "400" not in shown.message + shown.comparisons[0].message
    assert shown.state == one.state
