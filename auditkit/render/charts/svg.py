"""The one way by which markup enters a page: elements built here, with every text and attribute escaped."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from auditkit.render.text import clean, isolated

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]*")
# ``style`` and ``on...`` are left out on purpose: the page's content policy refuses them.
_ATTRIBUTES = frozenset(
    {
        "alt",
        "aria-hidden",
        "aria-label",
        "aria-labelledby",
        "class",
        "colspan",
        "cx",
        "cy",
        "d",
        "dx",
        "dy",
        "focusable",
        "height",
        "href",
        "id",
        "lang",
        "points",
        "preserveAspectRatio",
        "r",
        "role",
        "rx",
        "scope",
        "src",
        "tabindex",
        "text-anchor",
        "transform",
        "viewBox",
        "width",
        "x",
        "x1",
        "x2",
        "y",
        "y1",
        "y2",
    }
)
_VOID = frozenset({"img", "br"})
_SHAPES = frozenset({"line", "circle", "rect", "path"})


@dataclass(frozen=True, slots=True)
class Markup:
    """Markup that is known to be safe, because only :func:`element` and :func:`joined` make it."""

    text: str

    def __html__(self) -> str:
        """What a template inserts without escaping it again."""
        return self.text

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.text


Child = Markup | str | int | None


def element(tag: str, *children: Child, **attributes: str | float | None) -> Markup:
    """One element with escaped text and attributes.

    Args:
        tag: Element name.
        children: Markup as it is; strings escaped; ``None`` left out.
        attributes: Trailing underscores are dropped and inner ones become dashes (``class_``, ``text_anchor``);
            ``None`` leaves the attribute out.

    Raises:
        ValueError: An attribute that this writer does not know (no ``style``, no event handlers), or a link
            that is neither a fragment, ``https``, ``mailto`` nor a PNG data URI.

    >>> element("text", "a < b", x=1.50, class_="ak-label").text
    '<text x="1.5" class="ak-label">a &lt; b</text>'
    """
    if not _NAME.fullmatch(tag):
        raise ValueError(f"not an element name: {tag!r}")
    parts = [tag]
    for key, value in attributes.items():
        if value is None:
            continue
        name = key.rstrip("_").replace("_", "-")
        if name not in _ATTRIBUTES:
            raise ValueError(f"attribute {name!r} is not allowed")
        text = coordinate(value) if isinstance(value, float) else clean(value, limit=None)
        if name in ("href", "src") and not re.match(r"#|https://|mailto:|data:image/png;base64,", text):
            raise ValueError(f"refused link in {name}: {text[:40]!r}")
        parts.append(f'{name}="{html.escape(text, quote=True)}"')
    opening = "<" + " ".join(parts)
    if tag in _VOID:
        return Markup(opening + ">")
    if tag in _SHAPES and not children:
        return Markup(opening + "/>")
    return Markup(f"{opening}>{joined(*children).text}</{tag}>")


def joined(*children: Child) -> Markup:
    """The children one after another; strings escaped."""
    out = []
    for child in children:
        if isinstance(child, Markup):
            out.append(child.text)
        elif child is not None:
            out.append(html.escape(isolated(clean(child)), quote=True))
    return Markup("".join(out))


def text_lines(text: str) -> Markup:
    """Escaped text that keeps its line ends, for ``<pre>``."""
    return Markup("\n".join(html.escape(isolated(clean(line, limit=None)), quote=True) if line.strip(" ") else ""
                            for line in text.split("\n")))  # fmt: skip


def without_optional_ends(rows: Markup) -> Markup:
    """Table rows without the end tags that HTML lets one leave out: a page of tables is a fifth smaller."""
    return Markup(re.sub(r"</t[hdr]>", "", rows.text))


SPACE = Markup(" ")


def coordinate(value: float) -> str:
    """A coordinate with at most two decimals: the same text on every platform.

    >>> coordinate(1.0), coordinate(-0.001), coordinate(33.3333)
    ('1', '0', '33.33')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def percent(fraction: float) -> str:
    """A fraction of the drawing's width, as SVG takes it: ``0.5`` gives ``50%``."""
    return coordinate(100.0 * fraction) + "%"
