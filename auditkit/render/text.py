"""Making any string safe to show: control, direction and terminal characters become visible escapes."""

from __future__ import annotations

import re

# C0 and C1 controls, direction marks and overrides, line and paragraph separators, invisible
# annotation and tag characters, noncharacters, and halves of surrogate pairs.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
# A first word with a dot or an underline inside is spelt as people must type it.
_NAMED_FIRST = re.compile(r"[a-z][a-z0-9]*[._][a-z]")

# Hebrew, Arabic, Syriac, Thaana and the other scripts that are written from right to left, with what is between words.
_RTL = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
_RIGHT_TO_LEFT = re.compile(f"[{_RTL}]+(?:[ '\"’-]+[{_RTL}]+)*")

LIMIT = 2000


def _visible(match: re.Match[str]) -> str:
    point = ord(match.group())
    if point < 0x100:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def clean(text: object, *, limit: int | None = LIMIT, lines: bool = False) -> str:
    r"""``text`` with every character that could hide, reorder or control written as an escape.

    Args:
        text: Anything; ``str`` is taken of it.
        limit: Longest result in characters; longer text ends in an ellipsis. ``None`` for no limit.
        lines: Keep line feeds (prose); otherwise they become spaces.

    Returns:
        ``(blank)`` for text of spaces only, which no reader could see; else text without any control,
        bidirectional, separator or surrogate character.

    >>> clean("a\x1b[31mred")
    'a\\x1b[31mred'
    >>> clean("one\ntwo"), clean("x" * 9, limit=4)
    ('one two', 'xxx…')
    """
    raw = str(text)
    if limit is not None and len(raw) > limit:
        raw = raw[: max(limit - 1, 0)] + "…"
    if raw and not raw.strip():
        return "(blank)"
    raw = raw.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    if not lines:
        return _UNSAFE.sub(_visible, raw.replace("\n", " "))
    return "\n".join(_UNSAFE.sub(_visible, line) for line in raw.split("\n"))


def shorten(text: object, length: int) -> str:
    """One clean line of at most ``length`` characters.

    >>> shorten("a rather long feature name", 12)
    'a rather lo…'
    """
    return clean(text, limit=length)


def shorten_inside(text: object, length: int) -> str:
    """One clean line of at most ``length`` characters that keeps its end, by which long names often differ.

    >>> shorten_inside("a rather long feature name 2", 16)
    'a rather…name 2'
    """
    shown = clean(text)
    if len(shown) <= length:
        return shown
    tail = length * 2 // 5
    return f"{shown[: length - tail - 1].rstrip()}…{shown[-tail:].lstrip()}"


def isolated(text: str) -> str:
    """``text`` with each run of right-to-left letters isolated, so that it does not reorder the numbers beside it.

    >>> isolated("\u05d0\u05d1: 372 rows") == "\u2068\u05d0\u05d1\u2069: 372 rows"
    True
    """
    return _RIGHT_TO_LEFT.sub("\u2068\\g<0>\u2069", text)


def words(name: str) -> str:
    """A measurement's or column's name in words: ``selection_rate`` gives ``selection rate``."""
    return clean(name.replace("_", " "))


def capitalised(sentence: str) -> str:
    """``sentence`` with its first letter a capital, unless it begins with the name of a metric, analyzer or file.

    >>> capitalised("the rule holds"), capitalised("fairness.base_rate was not measured")
    ('The rule holds', 'fairness.base_rate was not measured')
    """
    return sentence if _NAMED_FIRST.match(sentence) else sentence[:1].upper() + sentence[1:]
