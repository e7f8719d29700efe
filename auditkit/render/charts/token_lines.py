"""Several texts whose tokens are marked by a signed value, with the values as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from auditkit.render.charts.chart import Chart, Key
from auditkit.render.charts.svg import SPACE, Child, element
from auditkit.render.charts.tokens import token_class
from auditkit.render.numerals import number
from auditkit.render.text import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLine:
    """One text: its label, its tokens, and a value each (``None``: none was asked for)."""

    label: str
    tokens: tuple[str, ...]
    values: tuple[float | None, ...]


def token_lines_chart(lines: Sequence[TokenLine], title: str, *, unit: str = "", note: str = "") -> Chart:
    """The texts one below the other, with marks that can be compared between them.

    Marks differ in colour and in their underline, as in :func:`auditkit.render.charts.tokens.token_chart`.

    Args:
        lines: The texts.
        title: The finding, in one sentence.
        unit: Unit of the values.
        note: What a reader must know to read it.

    >>> line = TokenLine(label="row 3", tokens=("not", "good"), values=(-0.4, 0.1))
    >>> token_lines_chart([line], "Two tokens").rows[0]
    ('row 3', '1', 'not', '−0.400')
    """
    largest = max((abs(value) for line in lines for value in line.values if value is not None), default=0.0)
    items: list[Child] = []
    rows: list[tuple[str, ...]] = []
    for line in lines:
        words: list[Child] = []
        for place, (token, value) in enumerate(zip(line.tokens, line.values, strict=True)):
            shown, css = clean(token) or "·", token_class(value, largest)
            words += [element("mark", shown, class_=css) if css else shown, SPACE]
            rows.append((clean(line.label), str(place + 1), shown, number(value)))
        head = element("b", clean(line.label), class_="ak-token-label")
        items.append(element("li", head, element("p", *words, class_="ak-tokens")))
    column = f"value ({clean(unit)})" if unit else "value"
    return Chart(
        title=clean(title),
        drawing=element("ul", *items, class_="ak-texts", role="list"),
        columns=("text", "place", "token", column),
        rows=tuple(rows),
        keys=(Key(css="ak-key-plus", label="raises the score explained"),
              Key(css="ak-key-minus", label="lowers it (underline dashed or dotted)")),
        note=clean(note),
    )  # fmt: skip
