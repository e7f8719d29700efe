"""Text with each token marked by how much it speaks for or against the decision."""

from __future__ import annotations

from collections.abc import Sequence

from auditkit.render.charts.chart import Chart, Key
from auditkit.render.charts.svg import SPACE, Child, element, joined
from auditkit.render.numerals import number
from auditkit.render.text import clean

_STEPS = (0.15, 0.45, 0.75)
MOST = 600


def token_chart(tokens: Sequence[str], weights: Sequence[float | None], title: str = "", *, note: str = "") -> Chart:
    """The tokens in order; the stronger the attribution, the stronger the mark.

    Marks differ in colour and in their underline (solid or doubled for, dashed or dotted against), so that they can be
    told apart without colour. Tokens are rows of the data: a shared page leaves them out unless they are asked for.

    Args:
        tokens: At most 600 are drawn.
        weights: An attribution for each token; ``None`` where there is none.
        title: The finding; without one, the strongest token.
        note: What a reader must know to read it.

    >>> token_chart(["not", "good"], [-0.4, 0.1]).title
    'not speaks most strongly, against the decision: −0.400.'
    """
    if len(tokens) != len(weights):
        raise ValueError(f"{len(tokens)} tokens and {len(weights)} weights")
    present = [(abs(w), -i) for i, w in enumerate(weights) if w is not None]
    largest = max((size for size, _ in present), default=0.0)
    if not title and largest:
        place = -max(present)[1]
        side = "for" if (weights[place] or 0.0) > 0 else "against"
        title = f"{clean(tokens[place])} speaks most strongly, {side} the decision: {number(weights[place])}."
    parts: list[Child] = []
    for token, weight in list(zip(tokens, weights, strict=True))[:MOST]:
        css = token_class(weight, largest)
        parts += [element("mark", clean(token), class_=css) if css else clean(token), SPACE]
    more = len(tokens) - MOST
    note = f"{note} The first {MOST} of {len(tokens)} tokens are drawn.".strip() if more > 0 else note
    return Chart(
        title=clean(title) or "No token speaks for or against the decision.",
        drawing=element("p", joined(*parts), class_="ak-tokens"),
        columns=("Token", "Attribution"),
        rows=tuple((clean(token) or "(empty)", number(weight)) for token, weight in zip(tokens, weights, strict=True)),
        keys=(Key(css="ak-key-plus", label="speaks for the decision"),
              Key(css="ak-key-minus", label="speaks against it (underline dashed or dotted)")),
        note=clean(note),
    )  # fmt: skip


def token_class(weight: float | None, largest: float) -> str:
    """The style of a token whose attribution is ``weight``, where ``largest`` is the strongest of all; may be empty."""
    if weight is None or not largest:
        return ""
    level = sum(abs(weight) / largest >= step for step in _STEPS)
    return f"ak-{'p' if weight > 0 else 'm'}{level}" if level else ""
