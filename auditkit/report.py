"""What an audit found, as an object: a thin face over its evidence."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.core.errors import EvidenceError, UsageError
from auditkit.core.evidence import Evidence, Measurement, Outcome
from auditkit.core.schema import dumps, loads, plain, write_text

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.core.verdict import Verdict

EVIDENCE_FILE = "evidence.json"
CARD_FILE = "model-card.html"
PolicySource = str | Path | Mapping[str, Any] | None


@dataclass(frozen=True)
class Report:
    """What one audit found: a thin face over its :class:`~auditkit.core.evidence.Evidence`.

    ``folder`` is where it was read from, for the record of rows that may lie beside it.
    """

    evidence: Evidence
    folder: Path | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        ways = ".table() lists them, .gate(policy) judges them, .save(folder) keeps them"
        return f"<Report: {self.evidence.told()}; {ways}>"

    def save(self, out: str | Path) -> Path:
        """Write ``evidence.json`` and ``model-card.html`` into the folder ``out``; returns the folder."""
        from auditkit.execution.lock import output_lock

        folder = Path(out)
        with output_lock(folder):
            return self.write(folder)

    def write(self, folder: Path, text: str = "") -> Path:
        """As :meth:`save`, for a caller that holds the folder's lock, and may know the evidence as ``text`` already."""
        write_text(folder / EVIDENCE_FILE, text or dumps(self.evidence))
        write_text(folder / CARD_FILE, self.to_html())
        return folder

    def select(self, name: str, *, contains: bool = False, **groups: str) -> tuple[Measurement, ...]:
        """Measurements of ``name`` on exactly the slice ``groups``.

        Args:
            name: Measurement name, e.g. ``fairness.selection_rate``.
            contains: Also slices that have more columns (intersections).
            groups: Column -> group, e.g. ``sex="F"``; none for all rows.
        """
        wanted = {column: str(group) for column, group in groups.items()}
        return tuple(
            measurement
            for measurement in self.evidence.by_name.get(name, ())
            if dict(measurement.slice) == wanted or (contains and wanted.items() <= measurement.slice.items())
        )

    def outcome(self, analyzer: str) -> Outcome:
        """The outcome of one analyzer.

        Raises:
            UsageError: AK321 when it was not in the plan.
        """
        for outcome in self.evidence.outcomes:
            if outcome.analyzer == analyzer:
                return outcome
        names = ", ".join(outcome.analyzer for outcome in self.evidence.outcomes)
        raise UsageError("AK321", f"{analyzer!r} was not part of this audit", why=f"it ran: {names}")

    def table(self) -> pd.DataFrame:
        """One row a measurement: name, slice, over, params, value, low, high, level, method, n, unit, reason."""
        import pandas as pd

        rows = [
            {
                "name": m.name,
                "slice": ", ".join(f"{column}={group}" for column, group in sorted(m.slice.items())),
                "over": ", ".join(m.over),
                "params": ", ".join(f"{key}={value}" for key, value in sorted(m.params.items())),
                "value": m.value,
                "low": m.interval.low if m.interval else None,
                "high": m.interval.high if m.interval else None,
                "level": m.interval.level if m.interval else None,
                "method": m.interval.method if m.interval else None,
                "n": m.n,
                "unit": m.unit,
                "reason": m.unreliable or m.reason,
            }
            for m in self.evidence.measurements()
        ]
        return pd.DataFrame(rows)

    def gate(self, policy: PolicySource = None, *, as_of: str | datetime.date | None = None) -> Verdict:
        """Judge the evidence by a policy: a path to a TOML file, a mapping, or the embedded one.

        Args:
            policy: Where the rules are; ``None`` for those the audit was run with.
            as_of: The date that waivers are judged on; today by default.

        Raises:
            PolicyError: When the policy cannot be read, or there is none.
        """
        from auditkit.policy.evaluate import evaluate
        from auditkit.policy.model import parse_policy

        document, text, where = policy_document(policy)
        if document is None:
            document, where = plain(self.evidence.policy), "the embedded policy"
        if not document:
            raise UsageError(
                "AK322", "there is no policy to judge by", fix="pass a policy, or run the audit with one ([[rule]] ...)"
            )
        measured = set(self.evidence.by_name)
        checked = parse_policy(document, text=text, where=where, measured=measured)
        if isinstance(policy, str | Path) and checked.baseline and self.folder is not None:
            from auditkit.policy.files import with_pairs

            checked = with_pairs(checked, Path(policy).parent, self.evidence, self.folder)
        day = day_of(as_of) or datetime.date.today()
        return evaluate(self.evidence, checked, as_of=day)

    def verdict(self) -> Verdict | None:
        """The verdict of the embedded policy on the date of the audit, or ``None`` without one."""
        return self.gate(as_of=self.evidence.as_of) if self.evidence.policy else None

    def to_html(self) -> str:
        """The model card: one self-contained page."""
        from auditkit.render.html.card import render_card

        return render_card(self.evidence, self.verdict())

    def _repr_html_(self) -> str:
        import html

        return (
            '<iframe title="auditkit model card" sandbox width="100%" height="720" '
            f'srcdoc="{html.escape(self.to_html(), quote=True)}"></iframe>'
        )


def load_report(path: str | Path) -> Report:
    """Read an ``evidence.json``.

    Raises:
        EvidenceError: When it is not one, was changed after it was written, or is from a newer release.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EvidenceError(
            "AK114",
            f"cannot read {path.name!r}",
            why=error.strerror or type(error).__name__,
            fix="give the path of the evidence.json that `auditkit run` wrote",
        ) from error
    return Report(loads(content, where=path.name), folder=path.parent)


def day_of(value: str | datetime.date | None) -> datetime.date | None:
    """The date, where one is given.

    Raises:
        UsageError: AK323 when it is not a date.
    """
    if value is None or isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except ValueError as error:
        raise UsageError("AK323", f"{value!r} is not a date", fix="write it as YYYY-MM-DD") from error


def policy_document(policy: PolicySource) -> tuple[Mapping[str, Any] | None, str | None, str]:
    """The policy document, its text when it came from a file, and what to call it in errors."""
    if policy is None or isinstance(policy, Mapping):
        return policy, None, "policy"
    from auditkit.policy.files import read_policy_file

    document, text = read_policy_file(Path(policy))
    return document, text, Path(policy).name
