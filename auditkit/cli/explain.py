"""``auditkit explain``: one row, why the model answers as it does, and the proof that the explanation adds up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from auditkit.core.explained_row import ExplainedRow

METHODS = (
    "shap",
    "lime",
    "integrated_gradients",
    "saliency",
    "input_x_gradient",
    "smooth_grad",
    "deep_lift",
    "expected_gradients",
    "grad_cam",
    "guided_grad_cam",
    "occlusion",
)
_BAR = 24
_LINES = 20


@click.command()
@click.argument("config_path", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--row", type=int, required=True, help="Which row, counted from 0 in the order of the file.")
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True, help="Of which data.")
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS),
              help="By which method; may be repeated: the first is told in full.",)  # fmt: skip
@click.option("--budget", type=click.IntRange(8), default=2**15, show_default=True,
              help="Most model evaluations where Shapley values are sampled.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="The page to write; explanation-row-N.html by default.")
@click.option("--json", "as_json", is_flag=True, help="The explanation as JSON on stdout; no page without --out.")
@click.option("--allow-path", multiple=True, type=click.Path(path_type=Path), help="Also read files under this folder.")
def explain(  # noqa: PLR0913  (one argument an option)
    config_path: Path | None,
    row: int,
    split: str,
    methods: tuple[str, ...],
    budget: int,
    out: Path | None,
    as_json: bool,
    allow_path: tuple[Path, ...],
) -> None:
    """Explain the model's answer for one row of the data that CONFIG describes.

    Tables get Shapley values, texts and images of torch modules gradient methods, other texts and images LIME. Values
    of the row itself are shown only for columns that [card] share_columns names.
    """
    from auditkit.cli.console import is_quiet, people_console
    from auditkit.config.load import load_config
    from auditkit.config.subject import subject_from_config
    from auditkit.core.schema import write_text
    from auditkit.execution.one_row import explain_one
    from auditkit.subjects.device import resolve_device

    config = load_config(config_path)
    device = resolve_device(config.run.device if config.model is not None else "cpu")
    subject = subject_from_config(config, device, allowed=allow_path)
    from auditkit.analyzers.explain.row_asked import Asked

    shared = frozenset(config.card.share_columns or ())
    column = config.data.text or config.data.inputs
    asked = Asked(row=row, split=split, methods=methods, budget=budget, shared=shared, column=column)
    explained = explain_one(subject, asked, seed=config.run.seed, device=device)
    if not is_quiet():
        print_row(explained, people_console())
    if as_json:
        import json

        click.echo(json.dumps(plain(explained), indent=1, allow_nan=False))
    if out is not None or not as_json:
        from auditkit.render.html.explanation import render_explanation

        page = out or Path(f"explanation-row-{row}.html")
        write_text(page, render_explanation(explained))
        click.echo(str(page), err=as_json)


def print_row(row: ExplainedRow, console: Console) -> None:
    """Decision, signed bars from the base value to the model's output, and the proof."""
    from rich.text import Text

    from auditkit.cli.tables import Column, print_rows
    from auditkit.render.html.explanation import error_of, lede, output_words, part_label, ranked
    from auditkit.render.numerals import number
    from auditkit.render.text import capitalised

    first = row.first
    console.print(Text(f"{_safe(lede(row))} The model answers {_safe(row.decision)}.", "bold"))
    console.print(Text(f"{capitalised(first.method)} of the {_safe(output_words(row).removeprefix('the '))}"))
    order = ranked(row)
    shown = order if len(order) <= _LINES + 1 else order[:_LINES]
    rest = [first.parts[place] for place in order[len(shown) :]]
    amounts = [first.parts[place] for place in shown] + ([sum(rest)] if rest else [])
    reach = max((abs(amount) for amount in amounts), default=0.0)
    rows: list[list[Text]] = []
    places = _decimals(reach)
    errors = [error_of(row, place) for place in shown] + ([None] if rest else [])
    base = row.base_value()
    if base is not None:
        rows.append([Text("base value", "dim"), Text(number(base), "dim"), Text(), Text()])
    names = [_safe(part_label(row, place)) for place in shown] + ([f"{len(rest):,} others"] if rest else [])
    for name, amount, error in zip(names, amounts, errors, strict=True):
        style = "red" if amount > 0 else "blue"
        told = Text("" if error is None else f"± {error:.{places}f}", "dim")
        rows.append(
            [Text(name), Text(in_line(amount, places)), told, Text(bar(amount, reach, _blocks(console)), style)]
        )
    if base is not None:
        rows.append([Text("sum", "bold"), Text(number(base + sum(first.parts)), "bold"), Text(), Text()])
    rows.append([Text("the model gives", "bold"), Text(number(row.model_output()), "bold"), Text(), Text()])
    print_rows(console, [Column(least=16), Column(right=True), Column(), Column()], rows)
    style = "bold red" if first.attribution.status == "failed" else "green" if base is not None else "yellow"
    console.print(Text(f"Proof: {_safe(first.proof)}.", style))
    _others(row, console)
    for note in row.notes:
        console.print(Text(_safe(note), "dim"))
    if any(error is not None for error in errors):
        console.print(Text("±: half of the 95 % interval of a sampled amount.", "dim"))
    if row.kind == "features" and row.shown and any(value is None for value in row.values):
        console.print(Text("Values are shown of the columns that [card] share_columns names.", "dim"))
    if not row.shown:
        console.print(Text("Values of the row are not shown: [card] share_columns names no column of it.", "dim"))


def _others(row: ExplainedRow, console: Console) -> None:
    from rich.text import Text

    from auditkit.render.numerals import number
    from auditkit.render.text import capitalised

    for one in row.explained[1:]:
        alike = "has no order to compare" if one.agreement is None else f"agrees to {number(one.agreement)} in rank"
        console.print(Text(f"{capitalised(one.method)}: {alike}; {_safe(one.proof)}."))


def _decimals(reach: float) -> int:
    """Decimals that give the largest amount four digits, so that a column lines up and shows no digits of noise."""
    return min(max(3 - math.floor(math.log10(reach)), 0), 12) if 0.0 < reach < math.inf else 3


def in_line(amount: float, places: int) -> str:
    """An amount with its sign and ``places`` decimals; what rounds to nothing has none.

    >>> in_line(0.30061, 4), in_line(-0.000615, 4), in_line(-2e-5, 4), in_line(12345.6, 0)
    ('+0.3006', '−0.0006', '0.0000', '+12,346')
    """
    text = f"{abs(amount):,.{places}f}"
    return text if not text.strip("0.,") else f"{'+' if amount > 0 else '−'}{text}"


def bar(amount: float, reach: float, blocks: bool) -> str:
    """A bar from the middle: to the left what lowers the output, to the right what raises it.

    >>> bar(-1.0, 2.0, False).rstrip(), bar(2.0, 2.0, False).strip()
    ('      ######|', '|############')
    """
    half = _BAR // 2
    filled, middle = ("█", "│") if blocks else ("#", "|")
    size = min(half, round(half * abs(amount) / reach)) if reach > 0.0 else 0
    left = (filled * size).rjust(half) if amount < 0 else " " * half
    return left + middle + (filled * size if amount > 0 else "")


def _blocks(console: Console) -> bool:
    return console.encoding.lower().replace("-", "").startswith("utf")


def _safe(text: str) -> str:
    from auditkit.render.text import clean

    return clean(text)


def plain(row: ExplainedRow) -> dict[str, object]:
    """The explanation as plain data: every part with its amount, and what was checked."""

    def number_or_none(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    return {
        "model": row.subject,
        "row": row.row,
        "split": row.split,
        "decision": row.decision,
        "label": row.label,
        "output": row.output,
        "base_value": number_or_none(row.base_value()),
        "model_output": number_or_none(row.model_output()),
        "methods": [
            {
                "method": one.attribution.method,
                "status": one.attribution.status,
                "proof": one.proof,
                "diagnostics": {name: number_or_none(float(v)) for name, v in one.attribution.diagnostics.items()},
                "rank_correlation_with_first": number_or_none(one.agreement),
                row.kind: [
                    {"name": name, **({} if value is None else {"value": value}), "amount": number_or_none(amount)}
                    for name, value, amount in zip(row.parts, row.values, one.parts, strict=True)
                ],
            }
            for one in row.explained
        ],
        "notes": list(row.notes),
    }
