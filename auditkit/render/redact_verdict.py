"""The verdict as it may be shared: what it says about small groups withheld."""

from __future__ import annotations

import dataclasses
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from auditkit.core.evidence import Evidence, Interval
from auditkit.core.rounding import keeps_side
from auditkit.core.verdict import Comparison, RuleResult, Side, Verdict
from auditkit.render.clusters import Clustered
from auditkit.render.coarse import HIDDEN, coarse_interval, coarse_value, digits, hides, withholds
from auditkit.render.groups import Group, group_of
from auditkit.render.redact import MIN_CELL, withheld_reason
from auditkit.render.result_words import SAYS, count_states
from auditkit.render.suppression import hidden_cells

WHOLE = "all rows"
#: Quantity -> groups, with the value that is shown of each.
Rounded = Mapping[str, Mapping[Group, float | None]]
#: Disparity -> columns, with what is shown of it and whether that is rounded.
Gaps = Mapping[str, Mapping[frozenset[str], tuple[float | None, bool]]]


def redact_verdict(
    verdict: Verdict,
    min_cell: int = MIN_CELL,
    withheld: frozenset[str] = frozenset(),
    rounded: Rounded = MappingProxyType({}),
    gaps: Gaps = MappingProxyType({}),
    clustered: Clustered | None = None,
) -> Verdict:
    """The verdict with the same states, but no number of a group under ``min_cell`` rows, nor one that gives it.

    Args:
        verdict: The complete verdict.
        min_cell: Smallest number of rows that may be shown.
        withheld: Names of disparities that the shared evidence withholds, see :func:`withheld_disparities`.
        rounded: Groups whose rows the shared evidence does not tell, see :func:`rounded_groups`.
        gaps: Disparities that the shared evidence rounds, see :func:`rounded_disparities`.
        clustered: What may be shared where rows are clustered, see ``clusters.clustered_in``.
    """
    results = tuple(
        _gap_result(result, min_cell, gaps[result.metric])
        if result.metric in gaps and result.metric not in withheld
        else _result(result, min_cell, withheld, rounded)
        for result in (verdict.results if clustered is None else map(clustered.shown, verdict.results))
    )
    results = tuple(_without_few_before(result, min_cell) for result in results)
    summary = verdict.summary  # it quotes the message of the rule that decided
    for complete, shared in zip(verdict.results, results, strict=True):
        if complete.message and complete.message != shared.message:
            summary = summary.replace(complete.message.rstrip("."), shared.message)
    return dataclasses.replace(verdict, results=results, summary=summary)


def withheld_disparities(shared: Evidence) -> frozenset[str]:
    """Names of the disparities that are measured but not shown in a shared copy."""
    return frozenset(
        measurement.name
        for measurement in shared.measurements()
        if measurement.over and measurement.value is None and withholds(measurement)
    )


def rounded_groups(shared: Evidence) -> Rounded:
    """For each quantity, the groups whose rows a shared copy does not tell, with the value that it shows.

    Under ``""`` stand those of any quantity, without a value.
    """
    found: dict[str, dict[Group, float | None]] = defaultdict(dict)
    for m in shared.measurements():
        if m.slice and not m.over:
            groups = found[m.name]
            if m.n is None and hides(m):
                group = group_of(m)
                groups[group] = m.value
                found[""][group] = None
    return dict(found)


def rounded_disparities(shared: Evidence) -> Gaps:
    """The disparities that a shared copy rounds over some columns, over each of theirs."""
    found: dict[str, dict[frozenset[str], tuple[float | None, bool]]] = defaultdict(dict)
    for m in shared.measurements():
        if m.over:
            rounded, columns = m.n is None and hides(m), frozenset(m.over)
            once = columns not in found[m.name]
            found[m.name][columns] = (m.value, rounded) if once else (None, rounded or found[m.name][columns][1])
    return {name: told for name, told in found.items() if any(rounded for _, rounded in told.values())}


def _gap_result(
    result: RuleResult, min_cell: int, told: Mapping[frozenset[str], tuple[float | None, bool]]
) -> RuleResult:
    """A rule on a measured disparity: over columns where that is rounded, with what the shared numbers have of it."""
    comparisons = []
    for comparison in result.comparisons:
        value, rounded = told.get(frozenset(comparison.label.split(" x ")), (None, True))
        comparisons.append(_gap_shown(comparison, value, min_cell, result.limits) if rounded else comparison)
    if tuple(comparisons) == result.comparisons:
        return result
    message = f"{count_states(result)}; numbers of groups with fewer than {min_cell} rows behind a rate are rounded"
    return dataclasses.replace(result, comparisons=tuple(comparisons), message=message)


def _gap_shown(comparison: Comparison, value: float | None, min_cell: int, limits: tuple[float, ...]) -> Comparison:
    exact = comparison.value
    its_own = len(comparison.sides) == 1 and comparison.sides[0].value == exact
    if exact is None or value is None or not its_own or not keeps_side(value, exact, limits):
        return _bare(comparison, min_cell)
    return dataclasses.replace(
        comparison,
        value=value,
        interval=None,
        n=None,
        n_needed=None,
        sides=(Side(group=comparison.sides[0].group, value=value, n=None),),
        message=f"{SAYS[comparison.state]}; rounded, {HIDDEN}",
    )


def _labels(groups: Iterable[Group]) -> dict[str, list[tuple[tuple[str, ...], Group]]]:
    """What a side that is one of ``groups`` may be called, with the words that a rule's ``where`` has for the rest."""
    found: dict[str, list[tuple[tuple[str, ...], Group]]] = defaultdict(list)
    for group in groups:
        for own in (own for size in range(1, len(group) + 1) for own in itertools.permutations(group, size)):
            rest = tuple(f"{column}={value}" for column, value in group if (column, value) not in own)
            found[" x ".join(value for _, value in own)].append((rest, group))
    return found


def _known(result: RuleResult, groups: Mapping[Group, float | None]) -> dict[str, float | None]:
    """Sides of a rule that may be one of ``groups``, with the value shown of it; ``None`` where that is not sure."""
    labels, found = _labels(groups), dict[str, float | None]()
    for comparison in result.comparisons if labels else ():
        for side in comparison.sides:
            if side.n is None:  # redacted already
                continue
            values = {
                groups[group]
                for rest, group in labels.get(side.group, ())
                if all(words in comparison.label for words in rest)
            }
            if values:
                found[side.group] = values.pop() if len(values) == 1 else None
    return found


def _result(result: RuleResult, min_cell: int, withheld: frozenset[str], rounded: Rounded) -> RuleResult:
    if result.metric in withheld:
        bare = tuple(_bare(comparison, min_cell) for comparison in result.comparisons)
        message = f"{count_states(result)}; its numbers are withheld: a group has fewer than {min_cell} rows"
        return dataclasses.replace(result, comparisons=bare, message=message)
    sizes: dict[str, int] = {}
    for comparison in result.comparisons:
        for side in comparison.sides:
            if side.n is not None:
                sizes[side.group] = side.n
        if not comparison.sides and comparison.n is not None:
            sizes[comparison.label] = comparison.n
    names = list(sizes)
    small = {name for name in names if 0 < sizes[name] < min_cell}
    counted = _small_shares(result, min_cell) - small
    measured = result.metric in rounded
    known = _known(result, rounded[result.metric] if measured else rounded.get("", {}))
    if not small and not counted and not known:
        return result
    shown = [min(sizes[name], min_cell - 1) if name in counted else sizes[name] for name in names]
    positions = hidden_cells(shown, [range(len(names))], min_cell)
    coarse = ({names[position] for position in positions} | known.keys()) - small
    comparisons = tuple(
        _comparison(
            comparison,
            small,
            coarse,
            known if measured else {**known, **_of_part(result, comparison, rounded)},
            min_cell,
            result.limits,
        )
        for comparison in result.comparisons
    )
    # The worst stand first: those of one state go by name here, as their order would tell more than the numbers do.
    states = list(dict.fromkeys(comparison.state for comparison in comparisons))
    comparisons = tuple(sorted(comparisons, key=lambda each: (states.index(each.state), each.label)))
    what = "are withheld" if small else "behind a rate are rounded"
    message = f"{count_states(result)}; numbers of groups with fewer than {min_cell} rows {what}"
    return dataclasses.replace(result, comparisons=comparisons, message=message)


def _of_part(result: RuleResult, comparison: Comparison, rounded: Rounded) -> dict[str, float | None]:
    """Sides of one comparison of a rule on several rates, the first word of whose label is the rate's name."""
    part = comparison.label.partition(",")[0].replace(" ", "_")
    groups = rounded.get(f"{result.metric.rpartition('.')[0]}.{part}", {})
    return _known(dataclasses.replace(result, comparisons=(comparison,)), groups)


def _small_shares(result: RuleResult, min_cell: int) -> set[str]:
    """Groups whose rate, times their rows, gives a count from 1 to ``min_cell - 1``, of those in it or of the rest."""
    found = set()
    for side in (side for comparison in result.comparisons for side in comparison.sides):
        if side.value is None or not side.n or side.group == WHOLE or not 0.0 <= side.value <= 1.0:
            continue
        times = side.value * side.n
        if abs(times - round(times)) < 1e-6 and (0 < round(times) < min_cell or 0 < side.n - round(times) < min_cell):
            found.add(side.group)
    return found


def _comparison(
    comparison: Comparison,
    small: set[str],
    coarse: set[str],
    values: Mapping[str, float | None],
    min_cell: int,
    limits: tuple[float, ...],
) -> Comparison:
    touched = {side.group for side in comparison.sides} or {comparison.label}
    if touched & small:
        return dataclasses.replace(
            comparison,
            value=None,
            interval=None,
            n=None,
            n_needed=None,
            sides=tuple(_side(side, small, coarse, values, min_cell) for side in comparison.sides),
            message=f"{SAYS[comparison.state]}; {withheld_reason(min_cell)}",
        )
    if touched & coarse:
        rows = min((side.n or 0 for side in comparison.sides if side.group in coarse), default=comparison.n or 0)
        sides = tuple(_side(side, small, coarse, values, min_cell) for side in comparison.sides)
        bare = any(side.group in values for side in comparison.sides)
        value, interval = _coarse(comparison, sides, rows, min_cell, limits, bare=bare)
        return dataclasses.replace(
            comparison,
            value=value,
            interval=interval,
            n=None,
            n_needed=None,
            sides=sides,
            message=f"{SAYS[comparison.state]}; rounded, {HIDDEN}",
        )
    return comparison


def _coarse(
    comparison: Comparison,
    shown: tuple[Side, ...],
    rows: int,
    min_cell: int,
    limits: tuple[float, ...],
    *,
    bare: bool,
) -> tuple[float | None, Interval | None]:
    """Value and interval rounded; neither where rounding carries it across a limit, or onto one; no interval if bare.

    A difference or ratio of two rates that are shown is theirs, so that the page agrees with itself.
    """
    exact, span = comparison.value, comparison.interval
    value = None if exact is None else coarse_value(exact, rows, min_cell)
    if exact is not None and len(shown) == 2:
        value = _of_sides(exact, comparison.sides, shown, value)
    elif len(shown) == 1 and comparison.sides[0].value == exact:
        value = shown[0].value
    if exact is None or value is None or not keeps_side(value, exact, limits):
        return None, None
    found = coarse_interval(span, rows, min_cell)
    if span is None or found is None or bare:
        return value, None
    kept = keeps_side(found.low, span.low, limits) and keeps_side(found.high, span.high, limits)
    return value, found if kept and found.low <= value <= found.high else None


def _of_sides(exact: float, sides: tuple[Side, ...], shown: tuple[Side, ...], otherwise: float | None) -> float | None:
    """What two rates as shown differ by, where ``exact`` is what the two differ by; ``otherwise`` if it is not."""
    a, b = (side.value for side in sides)
    x, y = (side.value for side in shown)
    if a is None or b is None:
        return otherwise
    if abs(abs(a - b) - exact) < 1e-9:
        return None if x is None or y is None else digits(abs(x - y), 6)
    if max(a, b) > 0 and abs(min(a, b) / max(a, b) - exact) < 1e-9:
        return None if x is None or y is None or max(x, y) <= 0 else digits(min(x, y) / max(x, y), 6)
    return otherwise


def _without_few_before(result: RuleResult, min_cell: int) -> RuleResult:
    """``result`` without numbers that rest on a small count of the baseline."""
    shown = tuple(
        _bare(each, min_cell)
        if each.fewest_before is not None and each.fewest_before < min_cell
        else dataclasses.replace(each, fewest_before=None)
        for each in result.comparisons
    )
    if all(one.value == two.value for one, two in zip(shown, result.comparisons, strict=True)):
        return dataclasses.replace(result, comparisons=shown)
    message = f"{count_states(result)}; numbers that rest on fewer than {min_cell} rows of the baseline are withheld"
    return dataclasses.replace(result, comparisons=shown, message=message)


def _bare(comparison: Comparison, min_cell: int) -> Comparison:
    """A comparison without any number."""
    return Comparison(
        label=comparison.label,
        state=comparison.state,
        value=None,
        message=f"{SAYS[comparison.state]}; {withheld_reason(min_cell)}",
        exploratory=comparison.exploratory,
    )


def _side(side: Side, small: set[str], coarse: set[str], values: Mapping[str, float | None], min_cell: int) -> Side:
    """The side as it may be shown: with the value that the shared numbers have, where it is among them."""
    if side.group in small or (side.group in coarse and side.value is None):
        return Side(group=side.group, value=None, n=None)
    if side.group in values:
        return Side(group=side.group, value=values[side.group], n=None)
    if side.group in coarse:
        value = coarse_value(side.value or 0.0, side.n or 0, min_cell, share=True)
        return Side(group=side.group, value=value, n=None)
    return side
