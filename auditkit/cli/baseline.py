"""``auditkit baseline``: accept the state of an audit as what later ones are compared with."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def baseline() -> None:
    """Keep the state that rules with `baseline` and `max_increase` compare with."""


@baseline.command(short_help="Write EVIDENCE to a file to commit, as the accepted state.")
@click.argument("evidence", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to write, e.g. baseline.json.")
@click.option("--reason", required=True, help="Why this state is accepted; it is kept in the file.")
@click.option("--as-of", metavar="DATE", help="Date of acceptance (YYYY-MM-DD); today by default.")
def accept(evidence: Path, out: Path, reason: str, as_of: str | None) -> None:
    """Write the counts, measurements and hashes of EVIDENCE to a file to commit.

    Nothing else ever writes a baseline. It holds no rows, but the cells of small groups: keep it as private as the
    evidence itself.
    """
    import json

    from auditkit.cli.console import say
    from auditkit.cli.gate import parse_date, read_evidence
    from auditkit.core.errors import UsageError
    from auditkit.core.schema import write_text
    from auditkit.policy.baseline import make_baseline

    document = make_baseline(read_evidence(evidence), reason=reason, accepted=parse_date(as_of))
    replaced = out.is_file()
    try:
        write_text(out, json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n")
    except OSError as error:
        raise UsageError(
            "AK421", "the baseline cannot be written", where=str(out), why=error.strerror or type(error).__name__
        ) from error
    say(f"{'replaced' if replaced else 'wrote'} the baseline: {reason.strip()}")
    click.echo(str(out))
