"""Names and sentences that a terminal may show: what would command it is written as an escape."""

from __future__ import annotations


def printable(text: str, *, lines: bool = False) -> str:
    r"""``text`` with its control and direction characters shown, not obeyed; line feeds are kept with ``lines``.

    >>> print(printable("a\x1b[31mred\n"))
    a\x1b[31mred\n
    """
    return "".join(c if c.isprintable() or (lines and c == "\n") else repr(c)[1:-1] for c in text)
