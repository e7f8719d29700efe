"""One explained row as a page of the card's design, and its amounts in the order in which they are told."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from auditkit.core.explained_row import ExplainedRow
from auditkit.render.charts import Chart, Row, bar_chart, picture_grid, token_chart
from auditkit.render.charts.pictures import tile_from_base64
from auditkit.render.charts.tables import table_markup
from auditkit.render.html.card import page_of
from auditkit.render.numerals import number
from auditkit.render.text import capitalised, clean, shorten

if TYPE_CHECKING:
    from auditkit.render.html.view import Fact

DRAWN = 15
_Z = 1.959963984540054
_WITHHELD = (
    "No value of the row is shown. The owner can name columns that may be, as share_columns under [card] of the "
    "configuration."
)
_OF_SOME = "Values are shown of the columns that the owner names as share_columns under [card] of the configuration."
_LINES = "Lines are 95 % intervals of sampled amounts."


def render_explanation(row: ExplainedRow) -> str:
    """The page: decision, sum and proof first, then the amounts, the pictures or tokens, and how it was made.

    It needs no other file, no network and no script, and holds no value of the row but those in ``row.values`` and
    ``row.pictures``.
    """
    text = page_of(
        "explanation.html",
        heading=f"Why the model decides {clean(row.decision, limit=80)}" if _decides(row) else _predicts(row),
        subject=clean(row.subject, limit=200),
        lede=lede(row),
        facts=sum_facts(row),
        proof=capitalised(proof_words(row)),
        failed=row.first.attribution.status == "failed",
        charts=_charts(row),
        notes=tuple(clean(note) for note in row.notes),
        legend=_legend(row),
    )
    return text.rstrip("\n") + "\n"


def _legend(row: ExplainedRow) -> tuple[str, ...]:
    """What bars, lines and missing values mean."""
    told = [_LINES] if any(error_of(row, place) is not None for place in range(len(row.parts))) else []
    if not row.shown:
        return (*told, _WITHHELD)
    return (*told, _OF_SOME) if row.kind == "features" and any(value is None for value in row.values) else tuple(told)


def lede(row: ExplainedRow) -> str:
    """``Row 17 of the test data, labelled denied.``"""
    word = "labelled" if _decides(row) else "whose true value is"
    split = "training" if row.split == "train" else row.split
    return f"Row {row.row} of the {split} data, {word} {clean(row.label, limit=80)}."


def sum_facts(row: ExplainedRow) -> tuple[Fact, ...]:
    """The sum of the explanation told in full, term by term, beside what the model gives."""
    first = row.first
    facts: list[Fact] = [("Explained", output_words(row)), ("Method", capitalised(first.method))]
    base = row.base_value()
    amounts = sum(first.parts)
    if base is not None:
        names = {"features": "features", "tokens": "tokens", "squares": "squares"}
        facts += [
            ("Base value", number(base)),
            (f"Sum over {len(first.parts):,} {names[row.kind]}", signed(amounts)),
            ("Base value and sum", number(base + amounts)),
        ]
    return (*facts, ("The model gives", number(row.model_output())))


def output_words(row: ExplainedRow) -> str:
    """``probability of approved``."""
    space = row.first.attribution.output_space
    if row.output == "value":
        return "the predicted value"
    return f"{clean(space)} of {clean(row.output, limit=80)}"


def proof_words(row: ExplainedRow) -> str:
    """What was checked against the user's own model."""
    return clean(row.first.proof)


def ranked(row: ExplainedRow) -> list[int]:
    """Places of the parts, the largest amount first."""
    amounts = row.first.parts
    return sorted(range(len(amounts)), key=lambda place: (-abs(amounts[place]), place))


def part_label(row: ExplainedRow, place: int) -> str:
    """``income = 52.1`` where the value may be shown, else ``income``; the word itself for tokens."""
    name, value = row.parts[place], row.values[place]
    if value is None:
        return clean(name)
    return clean(value) if row.kind == "tokens" else f"{clean(name)} = {clean(value)}"


def signed(value: float) -> str:
    """A number with its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def error_of(row: ExplainedRow, place: int) -> float | None:
    """Half the width of the 95 % interval of a sampled amount."""
    attribution = row.first.attribution
    if attribution.std_error is None or row.kind != "features":
        return None
    width = attribution.std_error.shape[-1]
    column = attribution.output_names.index(row.output) if width > 1 else 0
    return _Z * float(attribution.std_error[0, place, column])


def _decides(row: ExplainedRow) -> bool:
    return row.first.attribution.output_space != "value" and row.output != "value"


def _predicts(row: ExplainedRow) -> str:
    return f"Why the model predicts {clean(row.decision, limit=80)}"


def _charts(row: ExplainedRow) -> tuple[Chart, ...]:
    charts = []
    if row.pictures:
        charts.append(_pictures(row))
    if row.kind == "tokens" and row.shown:
        charts.append(token_chart([str(value) for value in row.values], list(row.first.parts)))
    charts.append(_bars(row))
    if len(row.explained) > 1:
        charts.append(_methods(row))
    return tuple(charts)


def _bars(row: ExplainedRow) -> Chart:
    order = ranked(row)
    shown = order if len(order) <= DRAWN + 1 else order[:DRAWN]
    bars = [_bar(row, place) for place in shown]
    rest = [row.first.parts[place] for place in order[len(shown) :]]
    if rest:
        bars.append(Row(label=f"{len(rest):,} others", value=sum(rest)))
    finding = _finding(row, order[0])
    head = {"features": "Feature", "tokens": "Token", "squares": "Square"}[row.kind]
    chart = bar_chart(bars, finding, label=f"amount, {row.first.method}", head=head)
    every = bar_chart([_bar(row, place) for place in order], finding, label=f"amount, {row.first.method}", head=head)
    return dataclasses.replace(chart, rows=every.rows)


def _finding(row: ExplainedRow, lead: int) -> str:
    amount = row.first.parts[lead]
    if not amount:
        return "Nothing in this row moves the output."
    name = part_label(row, lead)
    name = capitalised(name) if row.kind == "squares" else name
    verb = "raises" if amount > 0 else "lowers"
    return f"{name} {verb} the {output_words(row).removeprefix('the ')} most: {signed(amount)}."


def _bar(row: ExplainedRow, place: int) -> Row:
    value, half = row.first.parts[place], error_of(row, place)
    low, high = (None, None) if half is None or half == 0.0 else (value - half, value + half)
    return Row(label=shorten(part_label(row, place), 60), value=value, low=low, high=high)


def _pictures(row: ExplainedRow) -> Chart:
    tiles = [tile_from_base64(p.label, p.height, p.width, p.pixels, p.palette) for p in row.pictures]
    good = [tile for tile in tiles if tile is not None]
    maps = len(row.explained)
    title = f"Where {maps} {'methods see' if maps > 1 else 'method sees'} the evidence."
    note = "Saliency, SmoothGrad and GradCAM have no sign. Each map is scaled to its own largest value."
    return picture_grid(good, title, note=note, across=row.across)


def _methods(row: ExplainedRow) -> Chart:
    rows = [
        (
            capitalised(one.method),
            one.attribution.status,
            "—" if one.agreement is None else number(one.agreement),
            clean(one.proof),
        )
        for one in row.explained
    ]
    known = [(one.agreement, one.method) for one in row.explained if one.agreement is not None]
    least = min(known) if known else None
    finding = (
        f"{capitalised(clean(least[1]))} agrees least with {row.first.method}: rank correlation {number(least[0])}."
        if least
        else f"{len(row.explained)} methods explain this row."
    )
    columns = ("Method", "Status", "Rank correlation with the first", "Proof")
    return Chart(title=finding, drawing=table_markup("methods", columns, rows))
