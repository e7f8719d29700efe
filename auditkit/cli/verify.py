"""``auditkit verify``: does the evidence say what was measured, and the card what the evidence says?"""

from __future__ import annotations

import html.parser
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from auditkit.cli.console import is_quiet, people_console
from auditkit.core.errors import EvidenceError
from auditkit.core.gap_names import gap_names

if TYPE_CHECKING:
    from auditkit.cli.recompute import Compared
    from auditkit.core.evidence import Evidence
    from auditkit.core.verdict import Comparison, RuleResult, Verdict
    from auditkit.policy.model import Rule

CLOSE = 2e-5  # largest gap between numbers of a shared copy, relative above 1
SHOWN = 8
_GENERATOR = re.compile(r'<meta name="generator" content="(auditkit(?: [\w.+-]{1,40})?)">')
_DIGEST = re.compile(r"<dt>Evidence<dd>(sha256:[0-9a-f]{64})\n")


@dataclass(frozen=True)
class Check:
    """One thing looked at: it holds, it does not, or it cannot be recomputed here."""

    what: str
    state: Literal["holds", "differs", "not recomputed"]
    detail: str = ""


@dataclass(frozen=True)
class Card:
    """What a card holds: the page and the evidence and verdict inside it."""

    text: str
    evidence: str
    verdict: str | None


@click.command()
@click.argument("path", metavar="EVIDENCE_OR_CARD", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Every check and every number as JSON on stdout, not one word.")
def verify(path: Path, as_json: bool) -> int:
    """Recompute all that an evidence.json or a model card allows: digest, counts, numbers, intervals, verdict, page.

    A shared copy is also searched for small cells, rows of data and strings that look like personal data.

    What the file does not support is listed with the reason.

    Exit codes: 0 everything that could be recomputed holds, 1 something differs, 2 not evidence, 4 the evidence in a
    card holds, but its page was made by another release (or says so) and was not compared with it.
    """
    checks, numbers = verified(path)
    if not is_quiet():
        _print(checks)
    differs = any(check.state == "differs" for check in checks)
    unseen = any(check.what == "page" and check.state == "not recomputed" for check in checks)
    word = "differs" if differs else "page not compared" if unseen else "holds"
    click.echo(_json(checks, numbers) if as_json else word)
    return 1 if differs else 4 if unseen else 0


def verified(path: Path) -> tuple[list[Check], list[Compared]]:
    """Every check of a file, and what became of each measurement.

    Raises:
        EvidenceError: AK646 it cannot be read, AK647 a card without its evidence; AK110 to AK112 not evidence; AK270
            the verdict in a card is not one.
    """
    from auditkit.cli.recompute import compared
    from auditkit.core.schema import loads

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise EvidenceError(
            "AK646", f"cannot read {path.name!r}", why=why, fix="give an evidence.json or a model card"
        ) from error
    card = card_of(text, path.name) if text.lstrip().startswith("<") else None
    try:
        evidence = loads(text if card is None else card.evidence, where=path.name)
    except EvidenceError as error:
        if error.code != "AK113":
            raise
        return [Check("digest", "differs", error.what)], []
    given = Check("digest", "holds", evidence.digest) if evidence.digest else Check("digest", "differs", "none given")
    numbers = list(compared(evidence))
    checks = [given, *_counts(evidence), *_numbers(numbers), *_shared(evidence)]
    if card is None:
        return [*checks, _verdict(evidence)], numbers
    return [*checks, *_page(card, evidence, path.name)], numbers


def card_of(text: str, where: str) -> Card:
    """The inert blocks of a card.

    Raises:
        EvidenceError: AK647 there is no evidence in it.
    """
    reader = _Embedded()
    reader.feed(text)
    if "auditkit-evidence" not in reader.found:
        left_out = re.search(r"sha256:[0-9a-f]{64}", text)
        raise EvidenceError(
            "AK647",
            "the card holds no evidence",
            where=where,
            why=f"it was left out for its size; its digest is {left_out.group(0)}" if left_out else None,
            fix="verify the evidence.json that was written beside it",
        )
    return Card(text, reader.found["auditkit-evidence"], reader.found.get("auditkit-verdict"))


class _Embedded(html.parser.HTMLParser):
    """Collects the text of the ``<script type="application/json">`` with an ``id``."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: dict[str, str] = {}
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = dict(attrs).get("id") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is not None:
            self.found[self._inside] = self.found.get(self._inside, "") + data


def _shared(evidence: Evidence) -> Iterator[Check]:
    """Whether a copy that is shared keeps what it must not tell to itself."""
    from auditkit.cli.shared_checks import shared_checks
    from auditkit.render.raw import asked_for
    from auditkit.render.redact import smallest_cell

    for what, state, detail in shared_checks(evidence, smallest_cell(evidence), asked_for(evidence.card)):
        yield Check(what, state, detail)


def _counts(evidence: Evidence) -> Iterator[Check]:
    from auditkit.cli.recount import counts_at_odds

    tables, wrong = counts_at_odds(evidence)
    if wrong:
        yield Check("counts", "differs", "; ".join(wrong[:SHOWN]))
    elif tables:
        yield Check("counts", "holds", f"{tables} tables add up to one another and to the rows")


def _numbers(numbers: Sequence[Compared]) -> Iterator[Check]:
    """What holds, what differs, and the rest by the reason why it cannot be recomputed."""
    wrong = [number for number in numbers if number.state == "differs"]
    if wrong:
        told = "; ".join(f"{number.key}: {number.why}" for number in wrong[:SHOWN])
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        yield Check("numbers", "differs", f"{told}{more}")
    good = [number for number in numbers if number.state in ("holds", "value")]
    if good and not wrong:
        by = Counter(number.source for number in good)
        sources = ", ".join(f"{by[source]:,} from {words}" for source, words in _SOURCES.items() if by[source])
        intervals = sum(number.interval for number in good)
        yield Check("numbers", "holds", f"{len(good):,} values and {intervals:,} intervals: {sources}")
    for state, what in (("value", "intervals"), ("left", "numbers")):
        reasons: dict[str, list[str]] = {}
        for number in numbers:
            if number.state == state:
                reasons.setdefault(number.why, []).append(number.key)
        for why, keys in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
            names = list(dict.fromkeys(key.partition("|")[0] for key in keys))
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield Check(
                f"{len(keys):,} {what if len(keys) > 1 else what[:-1]}",
                "not recomputed",
                f"{why}: {', '.join(names[:SHOWN])}{more}",
            )


_SOURCES = {
    "counts": "counts of groups, labels and decisions",
    "rows": "the rows behind a share",
    "groups": "the numbers of the groups",
    "interval": "their own intervals",
}


def _judged(evidence: Evidence) -> Verdict | None:
    """The verdict of the embedded policy; of a redacted copy, by the counts and rates that it still holds."""
    from auditkit.api import Report

    return Report(replace(evidence, redacted=False)).verdict()


def _verdict(evidence: Evidence) -> Check:
    verdict = _judged(evidence)
    if verdict is None:
        return Check("verdict", "not recomputed", "the evidence holds no policy")
    return Check("verdict", "holds", _tally(verdict))


def _tally(verdict: Verdict) -> str:
    states = [result.state for result in verdict.results]
    parts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{verdict.state} as of {verdict.as_of}: {parts}"


def _page(card: Card, evidence: Evidence, where: str) -> Iterator[Check]:
    """Whether the verdict follows from the evidence, and the page is, byte for byte, what the two give."""
    from auditkit.core.schema import packed_json, verdict_from
    from auditkit.render.html.card import VERDICT_LIMIT, render_card
    from auditkit.render.shared import shared_verdict

    judged = _judged(evidence)
    again = None if judged is None else shared_verdict(evidence, judged)
    shown = again if card.verdict is None else verdict_from(card.verdict, where=where)
    if shown is None or again is None:
        yield Check("verdict", "not recomputed" if shown is None else "differs", "the evidence holds no policy")
    else:
        yield from _rules(shown, again, evidence)
    digest = _DIGEST.search(card.text)
    page = render_card(evidence, shown, digest=digest.group(1) if digest else "")
    if page == card.text:
        yield Check("page", "holds", "byte for byte what its evidence gives")
    elif card.verdict is None and again and len(packed_json(again)) > VERDICT_LIMIT:
        yield Check(
            "page", "not recomputed", "the verdict is too long to be in the page; the copy of the evidence is rounded"
        )
    elif (maker := _maker(card.text)) != _maker(page):
        why = f"it says that it was made by {maker}; this is {_maker(page)}, which draws other pages"
        advice = "What it shows may be anything: verify it with that release, or render its evidence anew"
        yield Check("page", "not recomputed", f"{why}. {advice}")
    else:
        yield Check("page", "differs", "it is not what this release makes of its evidence: it was edited")


def _maker(page: str) -> str:
    """The release that a page says it was made by."""
    found = _GENERATOR.search(page)
    name = "" if found is None else found.group(1)
    return name if " " in name else "a release that does not say its version"


def _rules(shown: Verdict, again: Verdict, evidence: Evidence) -> Iterator[Check]:
    """The verdict of the page beside that which its copy of the evidence gives, rule by rule."""
    from auditkit.policy.evaluate import overall_state
    from auditkit.policy.model import parse_policy

    wrong: list[str] = []
    hidden: list[str] = []
    if [result.id for result in shown.results] != [result.id for result in again.results]:
        wrong.append("the rules are not those of the policy")
    names = {*evidence.by_name} | {result.metric for result in shown.results}
    policy = parse_policy(dict(evidence.policy or {}), where="the evidence", measured=names)
    rules = {rule.id: rule for rule in policy.rule}
    for one, two in zip(shown.results, again.results, strict=False):
        if not _agree(one, two):
            lines = hidden if _is_hidden(one, two, rules.get(one.id), evidence) else wrong
            lines.append(f"{one.id} says {one.state}, the evidence {two.state}")
    state, code = overall_state(shown.results, policy, bool(shown.unmeasured))
    if (shown.state, shown.exit_code) != (state, code):
        wrong.append(f"the whole says {shown.state}, its rules {state}")
    if wrong:
        yield Check("verdict", "differs", "; ".join(wrong[:SHOWN]))
    else:
        yield Check("verdict", "holds", _tally(shown))
    if hidden:
        ids = ", ".join(line.partition(" says ")[0] for line in hidden)
        why = "rests on groups or pairs that are withheld or rounded in this copy"
        yield Check(f"{len(hidden)} rule" + ("s" if len(hidden) > 1 else ""), "not recomputed", f"{why}: {ids}")


def _is_hidden(result: RuleResult, again: RuleResult, rule: Rule | None, evidence: Evidence) -> bool:
    """Whether something that the rule looks at was withheld or rounded in this copy; ``again`` is what that gives."""
    from auditkit.core.evidence import Table
    from auditkit.render.coarse import hides

    if rule is not None and rule.baseline is not None and _is_partial_baseline(rule.baseline, evidence):
        return True
    names = {result.metric, *gap_names(result.metric)}
    found = [m for m in evidence.measurements() if m.name in names]
    of_all_rows = rule is not None and rule.compare == "value" and not (rule.over or rule.where)
    if of_all_rows:
        found = [m for m in found if not m.slice and not m.over]
    compared = _compared(again, rule)
    if compared:
        found = [m for m in found if m.columns in {*compared, frozenset()}]
    if not of_all_rows and _has_few_clusters(compared, evidence):
        return True
    # Counts that were withheld in part are a table, of groups, labels, decisions and rows.
    counted = {frozenset(each.columns[:-3]) for each in evidence.artifacts()
               if isinstance(each, Table) and each.name.endswith(".shared")}  # fmt: skip
    lacking = bool(counted & {*compared, frozenset()}) if compared else bool(counted)
    return any(map(hides, found)) or (lacking and not (of_all_rows and found))


def _compared(again: RuleResult, rule: Rule | None) -> set[frozenset[str]]:
    """The columns whose groups the rule compares, as the evidence gives it or as the rule says; empty where unknown."""
    found = {frozenset(each.columns) for each in again.comparisons if each.columns}
    named = frozenset({*rule.over, *rule.where}) if rule is not None else frozenset()
    return found or ({named} if named else set())


def _has_few_clusters(compared: set[frozenset[str]], evidence: Evidence) -> bool:
    """Whether limits of the columns ``compared`` were withheld, since a group has few clusters."""
    from auditkit.render.clusters import open_columns
    from auditkit.render.redact import smallest_cell

    if evidence.subject.test.n_clusters is None:
        return False
    return not compared or not compared <= open_columns(evidence, smallest_cell(evidence))


def _is_partial_baseline(name: str, evidence: Evidence) -> bool:
    """Whether the baseline was judged on pairs of rows, or on numbers, that are not in this copy."""
    from auditkit.policy.baseline import read_baseline
    from auditkit.render.coarse import hides

    baselines: Any = (evidence.policy or {}).get("baseline") or {}
    document = dict(baselines.get(name) or {})
    if not evidence.redacted:
        return False
    if "pairs" in document or "withheld" in document:
        return True
    then = read_baseline(document, where=name).evidence
    if then.subject.test.n_clusters is not None or any(each.name.endswith(".shared") for each in then.artifacts()):
        return True
    return any(map(hides, then.measurements()))


def _agree(one: RuleResult, two: RuleResult) -> bool:
    """Whether two results of one rule say the same, up to the digits that a shared copy keeps."""
    if one.state != two.state or len(one.comparisons) != len(two.comparisons):
        return False
    return all(_alike(a, b) for a, b in zip(one.comparisons, two.comparisons, strict=True))


def _alike(one: Comparison, two: Comparison) -> bool:
    if (one.label, one.state, one.n) != (two.label, two.state, two.n):
        return False
    numbers = [(one.value, two.value)]
    if one.interval and two.interval:
        numbers += [(one.interval.low, two.interval.low), (one.interval.high, two.interval.high)]
    elif one.interval or two.interval:
        return False
    numbers += [(a.value, b.value) for a, b in zip(one.sides, two.sides, strict=False)]
    return all(_close(a, b) for a, b in numbers)


def _close(one: float | None, two: float | None) -> bool:
    if one is None or two is None:
        return one is two
    return abs(one - two) <= CLOSE * max(1.0, abs(one))


def _json(checks: Sequence[Check], numbers: Sequence[Compared]) -> str:
    import json

    document = {"checks": [asdict(check) for check in checks], "numbers": [asdict(number) for number in numbers]}
    return json.dumps(document, indent=1, allow_nan=False)


def _print(checks: list[Check]) -> None:
    from rich.text import Text

    from auditkit.cli.tables import Column, print_rows
    from auditkit.cli.verdict_table import icons_for

    console = people_console()
    icons = icons_for(console)
    marks = {"holds": (icons["pass"], "green"), "differs": (icons["fail"], "red"), "not recomputed": ("-", "yellow")}
    rows = []
    for check in checks:
        mark, color = marks[check.state]
        rows.append([Text(f"{mark} {check.state}", color), Text(check.what), Text(check.detail)])
    print_rows(console, [Column(), Column(), Column(least=20)], rows)
