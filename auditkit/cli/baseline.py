"""``auditkit baseline``: accept the state of an audit as what later ones are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auditkit.core.evidence import Evidence


@click.group()
def baseline() -> None:
    """Keep the state that rules with `baseline` and `max_increase` compare with."""


@baseline.command(short_help="Write EVIDENCE to a file to commit, as the accepted state.")
@click.argument("evidence", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write, e.g. baseline.json.")
@click.option("--reason", required=True, help="Why this state is accepted; it is kept in the file.")
@click.option("--as-of", metavar="DATE", help="Date of acceptance (YYYY-MM-DD); today by default.")
@click.option("--rows", "with_rows", is_flag=True, help="Keep the record of rows too, for tests on pairs. Private.")
def accept(evidence: Path, out: Path, reason: str, as_of: str | None, with_rows: bool) -> None:
    """Write the counts, measurements and hashes of EVIDENCE to a file to commit.

    Nothing else ever writes a baseline. It holds no rows, but the cells of small groups: keep it as private as the
    evidence itself. With --rows the record that `[run] keep_rows = true` left beside EVIDENCE is copied beside it
    (baseline.rows.npz): a later audit of the same rows is then compared on pairs. It holds the label, decision,
    scores and groups of each row, so think before committing it.
    """
    import json

    from auditkit.cli.console import say
    from auditkit.cli.gate import parse_date, read_evidence
    from auditkit.core.errors import UsageError
    from auditkit.core.schema import write_bytes, write_text
    from auditkit.policy.baseline import make_baseline
    from auditkit.policy.files import rows_path

    accepted = read_evidence(evidence)
    document = make_baseline(accepted, reason=reason, accepted=parse_date(as_of))
    replaced = out.is_file()
    record = _record(accepted, evidence.parent) if with_rows else None
    try:
        if record is not None:
            write_bytes(rows_path(out), record)
        write_text(out, json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")
    except OSError as error:
        raise UsageError(
            "AK421", "the baseline cannot be written", where=str(out), why=error.strerror or type(error).__name__
        ) from error
    say(f"{'replaced' if replaced else 'wrote'} the baseline: {reason.strip()}")
    click.echo(str(out))


def _record(accepted: Evidence, folder: Path) -> bytes:
    """The record of rows beside the evidence, checked to be of it.

    Raises:
        UsageError: AK258 when there is none, or it is of other rows.
        EvidenceError: AK256 when it cannot be read.
    """
    from auditkit.core.errors import UsageError
    from auditkit.core.rows import ROWS_FILE, read_rows, rows_bytes
    from auditkit.policy.pairs import pair_up

    path = folder / ROWS_FILE
    fix = "run the audit with [run] keep_rows = true, or leave --rows out"
    if not path.is_file():
        raise UsageError("AK258", f"there is no {ROWS_FILE} beside the evidence", where=str(folder), fix=fix)
    record = read_rows(path)
    pairs = pair_up(accepted, record, accepted, record)
    if not pairs.known:
        raise UsageError("AK258", f"{ROWS_FILE} does not belong to the evidence", why=pairs.reason, fix=fix)
    return rows_bytes(record)
