"""Charts that follow from measurements alone, whichever analyzer made them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from auditkit.core.evidence import Measurement, Scalar
from auditkit.render.charts import Chart, Line, Row, bar_chart, heat_map, interval_chart, line_chart
from auditkit.render.coarse import is_rounded
from auditkit.render.groups import group_of
from auditkit.render.html.names import label, title
from auditkit.render.numerals import group_label, number, parameters, setting
from auditkit.render.text import capitalised, clean, words

Params = tuple[tuple[str, Scalar], ...]
Draw = Callable[[], Chart]
_SHOWN_FEATURES = 10
_SERIES = 6
_GROUPS = 24


@dataclass(frozen=True, slots=True)
class Figure:
    """What a chart is about, so that the card can put the important ones first, and how it is drawn: most never are."""

    draw: Draw
    metric: str
    kind: str


def figures(measurements: Sequence[Measurement]) -> list[Figure]:
    """Every chart that these measurements give: features, sweeps, groups, intersections, alternatives, headline.

    A measurement is drawn once; what no chart takes is in the table of all numbers.
    """
    rest = [m for m in measurements if not m.over or "feature" in m.params]
    out: list[Figure] = []
    for draw in (_features, _sweeps, _groups, _intersections, _alternatives, _headline):
        found, used = draw(rest)
        out += found
        taken = {id(measurement) for measurement in used}
        rest = [m for m in rest if id(m) not in taken]
    return out


Drawn = tuple[list[Figure], list[Measurement]]


def row_of(measurement: Measurement, name: str) -> Row:
    """A chart's row for a measurement."""
    interval = measurement.interval
    told = measurement.value is None or interval is None or is_rounded(measurement)
    note = measurement.unreliable or (measurement.reason if told else "") or ""
    return Row(label=name, value=measurement.value, low=interval.low if interval else None,
               high=interval.high if interval else None, n=measurement.n, note=note)  # fmt: skip


def _by(measurements: Iterable[Measurement], key: Callable[[Measurement], object]) -> dict[object, list[Measurement]]:
    groups: dict[object, list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        groups[key(measurement)].append(measurement)
    return groups


def _params(measurement: Measurement, *without: str) -> Params:
    return tuple(sorted((name, value) for name, value in measurement.params.items() if name not in without))


def _with(params: Params) -> str:
    text = parameters(dict(params))
    return f" ({text})" if text else ""


def _features(measurements: list[Measurement]) -> Drawn:
    """Bars: one a feature, the largest first."""
    chosen = [m for m in measurements if "feature" in m.params]
    out = []
    for members in _by(chosen, lambda m: (m.name, _params(m, "feature"), m.over, group_of(m))).values():
        if len(members) < 2 or members[0].name.endswith("p_value"):  # long bars would be of what was not found
            continue
        if len({m.value for m in members}) == 1:  # none is the highest
            continue
        first = members[0]
        ranked = sorted(
            members, key=lambda m: (-abs(m.value) if m.value is not None else 1.0, str(m.params["feature"]))
        )
        top, more = ranked[:_SHOWN_FEATURES], len(ranked) - _SHOWN_FEATURES
        lead = top[0]
        where = f" for {group_label(first.slice)}" if first.slice else ""
        where += " for " + " and ".join(clean(column) for column in first.over) if first.over else ""
        tail = f" The {_SHOWN_FEATURES} largest of {len(ranked)} are drawn." if more > 0 else ""
        best = f"{clean(lead.params['feature'])} has the highest {label(first.name)}{where}"
        finding = f"{best}: {number(lead.value)}{_with(_params(first, 'feature'))}.{tail}"
        rows = [row_of(m, clean(m.params["feature"])) for m in top]
        out.append(
            Figure(
                partial(bar_chart, rows, finding, label=label(first.name), unit=clean(first.unit)),
                first.name,
                "bars by group" if first.slice else "bars",
            )
        )
    return out, chosen


def _size_first(measurement: Measurement) -> tuple[float, str]:
    size = 1.0 if measurement.value is None else -abs(measurement.value)
    return size, str(measurement.params["feature"])


def _numeric(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sweeps(measurements: list[Measurement]) -> Drawn:
    """Lines over the numeric parameter that takes most values: attack strength, severity, epsilon."""
    out: list[Figure] = []
    used: list[Measurement] = []
    for members in _by(measurements, lambda m: m.name).values():
        values: dict[str, set[Scalar]] = defaultdict(set)
        for measurement in members:
            for name, value in measurement.params.items():
                if _numeric(value):
                    values[name].add(value)
        along = max(sorted(values), key=lambda name: len(values[name]), default=None)
        if along is None or len(values[along]) < 2:
            continue
        chosen = _swept([m for m in members if _numeric(m.params.get(along))], along)
        used += chosen
        for part, kind in _sets_of_lines(chosen, along):
            unit = f" ({clean(members[0].unit)})" if members[0].unit else ""
            finding = _sweep_finding(members[0].name, along, part)
            chart = partial(line_chart, part, finding, x_label=words(along), y_label=label(members[0].name) + unit)
            out.append(Figure(chart, members[0].name, kind))
    return out, used


def _swept(measurements: list[Measurement], along: str) -> list[Measurement]:
    """Those with another beside them along the line; a setting measured once over all rows is an alternative."""
    series = _by(measurements, lambda m: (group_of(m), _params(m, along)))
    if not any(sum(m.value is not None for m in members) > 1 for members in series.values()):
        return []  # no line has two points: they are alternatives
    return [m for members in series.values() if len(members) > 1 or members[0].slice for m in members]


def _sets_of_lines(chosen: list[Measurement], along: str) -> list[tuple[list[Line], str]]:
    """The settings over all rows in one drawing; the groups of a column under one setting in another."""
    sets = [(_lines([m for m in chosen if not m.slice], along), "sweep")]
    by_group = _by([m for m in chosen if m.slice], lambda m: (tuple(sorted(m.slice)), _params(m, along)))
    sets += [(_lines(members, along), "sweep by group") for members in by_group.values()]
    parts = []
    for lines, kind in sets:
        parts += [(lines[start : start + _SERIES], kind) for start in range(0, len(lines), _SERIES)]
    return parts


def _lines(measurements: list[Measurement], along: str) -> list[Line]:
    lines = []
    series = _by(measurements, lambda m: (group_of(m), _params(m, along)))
    constant = _constant(measurements)
    for members in series.values():
        first = members[0]
        points = sorted(members, key=lambda m: _float(m.params[along]))
        varying = {name: value for name, value in first.params.items() if name != along and name not in constant}
        parts = [group_label(first.slice)] if first.slice else []
        if varying:
            parts.append(parameters(varying))
        name = ", ".join(parts) or "all rows"
        banded = any(m.interval for m in points)
        lines.append(
            Line(
                name=name,
                x=[_float(m.params[along]) for m in points],
                y=[m.value for m in points],
                low=[m.interval.low if m.interval else None for m in points] if banded else (),
                high=[m.interval.high if m.interval else None for m in points] if banded else (),
            )
        )
    # Lines whose every value is withheld or missing are told in the numbers, not in a legend or an empty frame.
    lines = [line for line in lines if any(y is not None for y in line.y)]
    return lines if any(len(line.x) > 1 for line in lines) else []


def _constant(measurements: list[Measurement]) -> set[str]:
    names = {name for m in measurements for name in m.params}
    return {name for name in names if len({m.params.get(name) for m in measurements}) == 1}


def _float(value: Scalar) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _sweep_finding(name: str, along: str, lines: Sequence[Line]) -> str:
    """What changes most from the first to the last point, in one sentence."""
    best: tuple[float, str] | None = None
    for line in lines:
        present = [(x, y) for x, y in zip(line.x, line.y, strict=True) if y is not None]
        if len(present) < 2:
            continue
        (x0, y0), (x1, y1) = present[0], present[-1]
        verb = "falls" if y1 < y0 else "rises" if y1 > y0 else "stays"
        who = f" for {line.name}" if len(lines) > 1 or line.name != "all rows" else ""
        sentence = (
            f"{title(name)}{who} {verb} from {number(y0)} at {words(along)} {setting(x0)}"
            f" to {number(y1)} at {setting(x1)}."
            if y1 != y0
            else f"{title(name)}{who} stays at {number(y0)} from {words(along)} {setting(x0)} to {setting(x1)}."
        )
        if best is None or abs(y1 - y0) > best[0]:
            best = (abs(y1 - y0), sentence)
    return best[1] if best else f"{title(name)} against {words(along)}."


def _groups(measurements: list[Measurement]) -> Drawn:
    """Dots with intervals: one a group of one column, with the value of all rows marked."""
    chosen = [m for m in measurements if len(m.slice) == 1]
    overall = {(m.name, _params(m)): m for m in measurements if not m.slice}
    out = []
    for members in _by(chosen, lambda m: (m.name, _params(m), next(iter(m.slice)))).values():
        first = members[0]
        if all(m.value is None for m in members):  # the table of all numbers says why
            continue
        column = next(iter(first.slice))
        rows = [row_of(m, clean(m.slice[column])) for m in _drawn_of(members)]
        whole = overall.get((first.name, _params(first)))
        chart: Draw = partial(
            interval_chart,
            rows,
            _group_finding(first, column, members),
            label=label(first.name),
            unit=clean(first.unit),
            bounds=first.bounds,
            reference=whole.value if whole else None,
        )
        if any(map(is_rounded, members)):
            chart = partial(_noted, chart, "Values without n are rounded, so that no small count follows from them.")
        out.append(Figure(chart, first.name, "groups"))
    return out, chosen


def _noted(draw: Draw, note: str) -> Chart:
    return replace(draw(), note=note)


def _drawn_of(members: list[Measurement]) -> list[Measurement]:
    """All groups; of very many the ends of those with a value. The table of all numbers has every one."""
    if len(members) <= _GROUPS:
        return members
    ordered = sorted((m for m in members if m.value is not None), key=lambda m: (m.value or 0.0, m.key))
    ends = {id(m) for m in (*ordered[: _GROUPS // 2], *ordered[-_GROUPS // 2 :])}
    return [m for m in members if id(m) in ends]


def _group_finding(first: Measurement, column: str, members: list[Measurement]) -> str:
    present = [m for m in members if m.value is not None]
    drawn, absent = len(_drawn_of(members)), len(members) - len(present)
    shown = f" ({drawn} of {len(members)} groups are drawn)" if drawn < len(members) else ""
    subject = f"{title(first.name)} by {words(column)}{_with(_params(first))}{shown}"
    if len(members) == 1:
        return f"{subject} is {number(first.value)} for {clean(first.slice[column])}, the only group."
    if len(present) < 2:
        return f"{subject}: fewer than two groups have a value."
    # What is not shown may be anything: a finding is never told of groups without a value.
    rest = f" {absent} other {'group has' if absent == 1 else 'groups have'} no value here." if absent else ""
    low = min(present, key=lambda m: (m.value or 0.0, m.key))
    high = max(present, key=lambda m: (m.value or 0.0, m.key))
    if low.value == high.value:
        same = f"each of {len(present)} groups" if absent else "every group"
        return f"{subject} is the same for {same}: {number(low.value)}.{rest}"
    ends = (
        f"{subject} runs from {number(low.value)} for {clean(low.slice[column])}"
        f" to {number(high.value)} for {clean(high.slice[column])}"
    )
    if low.interval is None or high.interval is None:
        return f"{ends}.{rest}"
    apart = low.interval.high < high.interval.low
    return f"{ends}; their intervals {'do not overlap' if apart else 'overlap'}.{rest}"


def _intersections(measurements: list[Measurement]) -> Drawn:
    """A heat map for every pair of columns."""
    chosen = [m for m in measurements if len(m.slice) == 2]
    out = []
    for members in _by(chosen, lambda m: (m.name, _params(m), tuple(sorted(m.slice)))).values():
        first = members[0]
        down, across = sorted(first.slice)
        rows = list(dict.fromkeys(m.slice[down] for m in members))
        columns = list(dict.fromkeys(m.slice[across] for m in members))
        if len(rows) > 24 or len(columns) > 12:
            continue
        cells = {(m.slice[down], m.slice[across]): m for m in members}
        values = [[cells[r, c].value if (r, c) in cells else None for c in columns] for r in rows]
        present = [m for m in members if m.value is not None]
        finding = f"{title(first.name)} by {words(down)} and {words(across)}{_with(_params(first))}"
        if present:
            low = min(present, key=lambda m: (m.value or 0.0, m.key))
            high = max(present, key=lambda m: (m.value or 0.0, m.key))
            finding += (
                f" runs from {number(low.value)} for {group_label(low.slice)}"
                f" to {number(high.value)} for {group_label(high.slice)}."
            )
        small = sum(m.value is None for m in members)
        note = f"{small} of {len(members)} cells have no number; the table of all numbers says why." if small else ""
        chart = partial(heat_map, rows, columns, values, finding, row_label=down, column_label=across, note=note)
        out.append(Figure(chart, first.name, "intersections"))
    return out, chosen


def _setting_words(params: Mapping[str, Scalar]) -> str:
    """What tells a number from its like: ``attack pgd``; a pair of things compared is named by the two alone."""
    if params.keys() == {"first", "second"}:
        return f"{clean(params['first'])}, {clean(params['second'])}"
    return parameters(params)


def _alternatives(measurements: list[Measurement]) -> Drawn:
    """Dots with intervals for one quantity under different named settings: attacks, corruptions, methods."""
    chosen: list[Measurement] = []
    out = []
    for members in _by([m for m in measurements if not m.slice and m.params], lambda m: m.name).values():
        names = [_setting_words(m.params) for m in members]
        if len(members) < 2 or len(set(names)) != len(names) or len(members) > 40:
            continue
        present = [m for m in members if m.value is not None]
        finding = f"{title(members[0].name)} under {len(members)} settings."
        if present:
            low = min(present, key=lambda m: (m.value or 0.0, m.key))
            high = max(present, key=lambda m: (m.value or 0.0, m.key))
            finding = (
                f"{title(members[0].name)} runs from {number(low.value)} ({_setting_words(low.params)})"
                f" to {number(high.value)} ({_setting_words(high.params)})."
                if low.value != high.value
                else f"{title(members[0].name)} is {number(low.value)} under each of {len(present)} settings."
            )
        constant = _constant(members)
        rows = [row_of(m, _setting_words({k: v for k, v in m.params.items() if k not in constant})) for m in members]
        chart = partial(interval_chart, rows, finding, label=label(members[0].name), unit=clean(members[0].unit),
                        bounds=members[0].bounds)  # fmt: skip
        out.append(Figure(chart, members[0].name, "settings"))
        chosen += members
    return out, chosen


def _headline(measurements: list[Measurement]) -> Drawn:
    """Dots with intervals for all overall rates of a family on one axis."""
    chosen = [m for m in measurements if not m.slice and not m.params and m.bounds == (0.0, 1.0) and not m.unit]
    # What should be high and what should be low do not share an axis: the eye would compare them.
    wanted = max(("higher", "lower", "neutral"), key=lambda direction: sum(m.direction == direction for m in chosen))
    chosen = [m for m in chosen if m.direction == wanted]
    present = [m for m in chosen if m.value is not None]
    if len(present) < 3:
        return [], []
    if chosen[0].family == "fairness":  # its charts by group mark the value of all rows already
        return [], []
    low = min(present, key=lambda m: (m.value or 0.0, m.key))
    high = max(present, key=lambda m: (m.value or 0.0, m.key))
    finding = f"Over all rows, {label(low.name)} is {number(low.value)} and {label(high.name)} {number(high.value)}."
    rows = [row_of(m, capitalised(label(m.name))) for m in chosen]
    chart = partial(interval_chart, rows, finding, label="value from 0 to 1", bounds=(0.0, 1.0))
    return [Figure(chart, chosen[0].name, "headline")], chosen
