"""``auditkit compare``: what moved between two audits, beyond what chance explains; no model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from auditkit.core.evidence import Evidence, Measurement
    from auditkit.policy.moves import Move
    from auditkit.policy.paired_moves import PairedMoves

MOST = 40
_STYLES = {"worse": "bold red", "lost": "bold magenta", "changed": "yellow", "better": "green"}
_WORDS = {
    "worse": "worse",
    "lost": "no longer measured",
    "changed": "changed",
    "better": "better",
    "maybe": "beyond its own interval, but not after the correction for many comparisons",
    "unknown": "without an interval",
    "new": "measured in HEAD alone",
    "still": "did not move beyond the interval of the change",
}


@click.command()
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("head", type=click.Path(path_type=Path))
@click.option("--confidence", type=click.FloatRange(0.5, 1.0, min_open=True, max_open=True), default=0.95,
              show_default=True, help="Two-sided confidence of the intervals.")  # fmt: skip
@click.option("--allow-different-data", is_flag=True, help="Compare audits of different rows too.")
@click.option("--html", "page", type=click.Path(path_type=Path), help="Write a page too, small groups withheld.")
@click.option("--json", "as_json", is_flag=True, help="Every measurement as JSON on stdout, instead of one word.")
def compare(
    base: Path, head: Path, confidence: float, allow_different_data: bool, page: Path | None, as_json: bool
) -> None:
    """What moved from BASE to HEAD (two evidence.json) beyond its interval, measurement by measurement.

    A movement counts when its interval excludes 0 after Holm's correction for everything compared. Where both audits
    are of the same rows and left rows.npz beside their evidence ([run] keep_rows = true), changes are tested on pairs.
    stdout holds one word: worse, changed, better or still.

    Exit codes: 0 nothing is worse, 1 something is worse or no longer measured, 2 usage, or the two cannot be compared.
    """
    from auditkit.cli.console import is_quiet, people_console
    from auditkit.cli.gate import read_evidence, without_collector
    from auditkit.core.rows import ROWS_FILE
    from auditkit.policy.moves import moves, remarks
    from auditkit.policy.paired_moves import PairedMoves
    from auditkit.policy.pairs import pair_files

    with without_collector():
        one, two = read_evidence(base), read_evidence(head)
        pairs = PairedMoves(one, two, pair_files(one, base.with_name(ROWS_FILE), two, head.with_name(ROWS_FILE)))
        found = moves(one, two, confidence=confidence, other_data=allow_different_data, pairs=pairs)
        said = remarks(one, two, found, pairs)
        if not is_quiet():
            _print(found, said, people_console())
        if page is not None:
            _write_page(page, (one, two), confidence, allow_different_data, pairs)
    click.echo(_json(found, said) if as_json else overall(found))
    click.get_current_context().exit(1 if overall(found) == "worse" else 0)


def _write_page(
    path: Path, pair: tuple[Evidence, Evidence], confidence: float, other_data: bool, pairs: PairedMoves
) -> None:
    """The page of the shared copies: what is withheld in them takes no part."""
    from auditkit.api import Report
    from auditkit.core.schema import write_text
    from auditkit.policy.moves import moves, remarks
    from auditkit.render.html.compare import render_compare
    from auditkit.render.shared import shared_copy

    shared = [shared_copy(evidence, Report(evidence).verdict()) for evidence in pair]
    base, head = shared[0][0], shared[1][0]
    found = moves(base, head, confidence=confidence, other_data=other_data, pairs=pairs)
    said = remarks(base, head, found, pairs)
    write_text(path, render_compare((base, head), found, (shared[0][1], shared[1][1]), said))


def overall(found: Sequence[Move]) -> str:
    """One word for all: ``worse`` (or no longer measured), else ``changed``, ``better`` or ``still``."""
    states = {move.state for move in found}
    if states & {"worse", "lost"}:
        return "worse"
    return next((word for word in ("changed", "better") if word in states), "still")


def _print(found: Sequence[Move], said: Sequence[str], console: Console) -> None:
    from rich.text import Text

    from auditkit.cli.tables import Column, print_rows
    from auditkit.cli.verdict_table import plain_text

    for line in said:
        console.print(Text(line, style="dim"))
    shown = [move for move in found if move.state in ("worse", "lost", "changed", "better")]
    if shown:
        columns = [Column("state"), Column("measurement", least=20), Column("base", right=True)]
        columns += [Column("head", right=True), Column("change [interval]", least=24)]
        rows = [
            [
                Text(_WORDS[move.state], style=_STYLES[move.state]),
                Text(plain_text(move.key.replace("|", " "))),
                Text(_value(move.base)),
                Text(_value(move.head)),
                Text(plain_text(_change(move))),
            ]
            for move in shown[:MOST]
        ]
        print_rows(console, columns, rows)
        if len(shown) > MOST:
            console.print(Text(f"and {len(shown) - MOST} more", style="dim"))
    counts = {state: sum(1 for move in found if move.state == state) for state in _WORDS}
    told = "; ".join(f"{count:,} {_WORDS[state]}" for state, count in counts.items() if count)
    console.print(Text(f"{len(found):,} measurements: {told}" if found else "nothing was measured in either"))


def _value(m: Measurement | None) -> str:
    if m is None or m.value is None:
        return "none"
    return f"{m.value:.4g}" + (f" (n={m.n:,})" if m.n is not None else "")


def _change(move: Move) -> str:
    if move.change is None:
        return (move.head.reason or "") if move.head is not None else "not in HEAD"
    if move.interval is None:
        return f"{move.change:+.4g} (exact)"
    ends = f"{move.change:+.4g} [{move.interval.low:+.4g}, {move.interval.high:+.4g}]"
    return f"{ends} on pairs" if move.paired else ends


def _json(found: Sequence[Move], said: Sequence[str]) -> str:
    import json

    rows = [
        {
            "key": move.key,
            "state": move.state,
            "base": move.base.value if move.base else None,
            "head": move.head.value if move.head else None,
            "change": move.change,
            "low": move.interval.low if move.interval else None,
            "high": move.interval.high if move.interval else None,
            "method": move.interval.method if move.interval else None,
            "paired": move.paired,
        }
        for move in found
    ]
    return json.dumps({"overall": overall(found), "remarks": list(said), "moves": rows}, indent=1, allow_nan=False)
