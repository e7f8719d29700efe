"""``auditkit verify``: does the evidence say what was measured, and the card what the evidence says?"""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from auditkit.cli.console import is_quiet, people_console
from auditkit.core.errors import EvidenceError

if TYPE_CHECKING:
    from auditkit.core.evidence import Counts, Evidence, Measurement
    from auditkit.core.verdict import Verdict

EXACT, ROUNDED = 1e-9, 1e-5  # largest gap in complete evidence, and in a shared copy, whose numbers are rounded
SHOWN = 8
_PRIVATE_DIGEST = re.compile(r"<dt>Evidence<dd>[^<]*")


@dataclass(frozen=True)
class Check:
    """One thing looked at: it holds, it does not, or it cannot be recomputed here."""

    what: str
    state: Literal["holds", "differs", "not recomputed"]
    detail: str = ""


@click.command()
@click.argument("path", metavar="EVIDENCE_OR_CARD", type=click.Path(path_type=Path))
def verify(path: Path) -> int:
    """Recompute what an evidence.json or a model card allows: digest, rates and their intervals, verdict, page.

    Exit codes: 0 everything that could be recomputed holds, 1 something differs, 2 not evidence.
    """
    checks = verified(path)
    if not is_quiet():
        _print(checks)
    differs = any(check.state == "differs" for check in checks)
    click.echo("differs" if differs else "holds")
    return 1 if differs else 0


def verified(path: Path) -> list[Check]:
    """Every check of a file.

    Raises:
        EvidenceError: AK646 it cannot be read, AK647 a card without its evidence; AK110 to AK112 not evidence.
    """
    from auditkit.core.schema import loads

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise EvidenceError(
            "AK646", f"cannot read {path.name!r}", why=why, fix="give an evidence.json or a model card"
        ) from error
    is_card = text.lstrip().startswith("<")
    inner = embedded_evidence(text, path.name) if is_card else text
    try:
        evidence = loads(inner, where=path.name)
    except EvidenceError as error:
        if error.code != "AK113":
            raise
        return [Check("digest", "differs", error.what)]
    checks = [
        Check("digest", "holds", evidence.digest) if evidence.digest else Check("digest", "differs", "none given")
    ]
    checks += [*_rates(evidence), _verdict(evidence)]
    if is_card:
        checks.append(_page(text, evidence))
    return checks


def embedded_evidence(text: str, where: str) -> str:
    """The JSON in the inert block of a card.

    Raises:
        EvidenceError: AK647 there is none.
    """
    reader = _Embedded()
    reader.feed(text)
    if not reader.found:
        left_out = re.search(r"sha256:[0-9a-f]{64}", text)
        raise EvidenceError(
            "AK647",
            "the card holds no evidence",
            where=where,
            why=f"it was left out for its size; its digest is {left_out.group(0)}" if left_out else None,
            fix="verify the evidence.json that was written beside it",
        )
    return "".join(reader.found)


class _Embedded(html.parser.HTMLParser):
    """Collects the text of ``<script type="application/json" id="auditkit-evidence">``."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and dict(attrs).get("id") == "auditkit-evidence"

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)


def _rates(evidence: Evidence) -> Iterator[Check]:
    """Values and intervals of rates and disparities, from the counts in the evidence."""
    levels = {m.interval.level for m in evidence.measurements() if m.interval}
    tables = {counts.over: counts for counts in evidence.counts()}
    agreed = [0, 0]
    wrong: list[str] = []
    left = 0
    for measurement in evidence.measurements():
        columns = measurement.over or _columns(tables, measurement)
        found = _recomputed(tables[columns], measurement, levels) if columns in tables else None
        if found is None:
            left += 1
            continue
        agreed[0] += 1
        agreed[1] += measurement.interval is not None
        if not _same(measurement, ROUNDED if evidence.redacted else EXACT, *found):
            wrong.append(measurement.key)
    if wrong:
        yield Check("rates from counts", "differs", f"{len(wrong)} numbers: {', '.join(wrong[:SHOWN])}")
    elif agreed[0]:
        yield Check("rates from counts", "holds", f"{agreed[0]} values and {agreed[1]} intervals")
    if left:
        yield Check("other measurements", "not recomputed", f"{left} numbers need the model or the rows")


def _columns(tables: dict[tuple[str, ...], Counts], measurement: Measurement) -> tuple[str, ...]:
    """The columns of the slice, in the order of the counts that hold them."""
    return next((over for over in tables if set(over) == set(measurement.slice)), tuple(measurement.slice))


def _recomputed(counts: Counts, m: Measurement, levels: set[float]) -> tuple[object, ...] | None:
    """``(value, low, high)`` from the counts, or ``None`` when the counts do not give this number."""
    from auditkit.methods.fairness.gaps import simultaneous_gap
    from auditkit.methods.fairness.metrics import METRICS, group_rates

    name, _, kind = m.name.removeprefix("fairness.").partition(".")
    if not m.name.startswith("fairness.") or name not in METRICS or m.value is None or set(m.params) - {"class"}:
        return None
    label = m.params.get("class")
    if label is not None and label not in counts.classes:
        return None
    code = counts.positive if label is None else counts.classes.index(str(label))
    rates = group_rates(counts, name, code)
    level = m.interval.level if m.interval else max(levels, default=0.95)
    if kind in ("difference", "ratio"):
        if int(rates.rows.sum()) != m.n:
            return None  # cells were withheld from this copy
        gap = simultaneous_gap(rates, "difference" if kind == "difference" else "ratio", level)
        if m.interval and gap.interval and m.interval.method != gap.interval.method:
            return None
        return (gap.value, gap.interval.low, gap.interval.high) if gap.interval else (gap.value, None, None)
    group = tuple(m.slice[column] for column in counts.over)
    if group not in rates.groups:
        return None
    index = rates.groups.index(group)
    if int(rates.rows[index]) != m.n:
        return None
    interval = rates.interval(index, level)
    if m.interval and interval and m.interval.method != interval.method:
        return None  # made by a release that worked out intervals in another way
    return (float(rates.value[index]), interval.low, interval.high) if interval else (rates.value[index], None, None)


def _same(m: Measurement, tolerance: float, *found: object) -> bool:
    written = (m.value, m.interval.low if m.interval else None, m.interval.high if m.interval else None)
    for one, two in zip(written, found, strict=True):
        if one is None or two is None:
            if (one is None) != (two is None):
                return False
        elif abs(float(one) - float(two)) > tolerance:  # type: ignore[arg-type]
            return False
    return True


def _judged(evidence: Evidence) -> Verdict | None:
    """The verdict of the embedded policy; of a redacted copy, by the counts and rates that it still holds."""
    from auditkit.api import Report

    return Report(replace(evidence, redacted=False)).verdict()


def _verdict(evidence: Evidence) -> Check:
    verdict = _judged(evidence)
    if verdict is None:
        return Check("verdict", "not recomputed", "the evidence holds no policy")
    states = [result.state for result in verdict.results]
    parts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    about = "; rules on groups that were withheld from this copy may differ" if evidence.redacted else ""
    return Check("verdict", "holds", f"{verdict.state} as of {evidence.as_of}: {parts}{about}")


def _page(text: str, evidence: Evidence) -> Check:
    """Whether the page is, byte for byte, what its own evidence gives."""
    from auditkit.render.html.card import render_card

    # The digest of the private record is on the page and cannot be in the copy that the page embeds.
    again, shown = (_PRIVATE_DIGEST.sub("", page) for page in (render_card(evidence, _judged(evidence)), text))
    if again == shown:
        return Check("page", "holds", "byte for byte what its evidence gives")
    if any((m.reason or "").startswith("withheld") for m in evidence.measurements()):
        return Check("page", "not recomputed", "small groups were withheld, so the page cannot be made again from it")
    return Check("page", "differs", "it was edited, or made by another release of auditkit")


def _print(checks: list[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    marks = {"holds": ("✓", "green"), "differs": ("✗", "red"), "not recomputed": ("–", "yellow")}
    grid = Table.grid(padding=(0, 2, 0, 0))
    for check in checks:
        mark, color = marks[check.state]
        grid.add_row(Text(f"{mark} {check.state}", color), Text(check.what), Text(check.detail))
    people_console().print(grid)
