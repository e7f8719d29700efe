"""Where a key stands in TOML text: ``tomllib`` gives values without lines, and errors need the line."""

from __future__ import annotations

import json
import re

Path = tuple[str | int, ...]

_KEY = re.compile(r"""[ \t]*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'|([A-Za-z0-9_-]+))[ \t]*""")
# What can change nesting inside a value; strings and comments are matched whole so that they cannot.
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[\]{}]"
    r"|\n",
    re.DOTALL,
)


def line_of(text: str, path: Path) -> int | None:
    r"""The 1-based line of ``path`` in TOML ``text``.

    Args:
        text: TOML text; it need not be valid, lines that cannot be read are passed over.
        path: Keys from the top; integers index arrays of tables, counted from 0.

    Returns:
        The line where the key is written (for a table, its header). A key inside an inline table, or one
        that is absent, has the line of its nearest parent that is written; ``None`` when no part is.

    >>> line_of('[[rule]]\nid = "a"\n[[rule]]\nid = "b"\n', ("rule", 1, "id"))
    4
    """
    lines = key_lines(text)
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def key_lines(text: str) -> dict[Path, int]:
    """Every key path written in TOML ``text`` with its 1-based line, in order of appearance."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines: dict[Path, int] = {}
    arrays: dict[Path, int] = {}
    table: Path = ()
    position, line = 0, 1
    while position < len(text):
        start = position
        character = text[position]
        if character in " \t\n":
            position += 1
        elif character == "#":
            position = _end_of_line(text, position)
        elif character == "[":
            table = _header(text, position, line, lines, arrays)
            position = _end_of_line(text, position)
        else:
            position = _assignment(text, position, line, table, lines)
        line += text.count("\n", start, position)
    return lines


def _header(text: str, position: int, line: int, lines: dict[Path, int], arrays: dict[Path, int]) -> Path:
    """Record a ``[table]`` or ``[[array]]`` header; return the path of the table that it opens."""
    is_array = text.startswith("[[", position)
    keys, _ = _keys(text, position + (2 if is_array else 1))
    path: Path = ()
    for depth, key in enumerate(keys):
        path = (*path, key)
        last = depth == len(keys) - 1
        if last and is_array:
            arrays[path] = arrays.get(path, -1) + 1
        lines.setdefault(path, line)
        if path in arrays:
            path = (*path, arrays[path])
            lines.setdefault(path, line)
    return path


def _assignment(text: str, position: int, line: int, table: Path, lines: dict[Path, int]) -> int:
    """Record ``key = value``; return the position after its value."""
    keys, position = _keys(text, position)
    if not keys or not text.startswith("=", position):
        return max(_end_of_line(text, position), position + 1)
    for depth in range(len(keys)):
        lines.setdefault((*table, *keys[: depth + 1]), line)
    return _end_of_value(text, position + 1)


def _keys(text: str, position: int) -> tuple[list[str], int]:
    """The parts of a dotted key at ``position`` and the position after it."""
    keys: list[str] = []
    while match := _KEY.match(text, position):
        basic, literal, bare = match.groups()
        keys.append(_unescape(basic) if basic is not None else literal if literal is not None else bare)
        position = match.end()
        if not text.startswith(".", position):
            break
        position += 1
    return keys, position


def _end_of_value(text: str, position: int) -> int:
    depth = 0
    while match := _TOKEN.search(text, position):
        mark = match.group()
        position = match.end()
        if mark in "[{":
            depth += 1
        elif mark in "]}":
            depth -= 1
        elif mark == "\n" and depth <= 0:
            return position
    return len(text)


def _end_of_line(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _unescape(basic: str) -> str:
    try:
        return str(json.loads(f'"{basic}"'))
    except ValueError:
        return basic
