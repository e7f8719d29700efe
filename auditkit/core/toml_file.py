"""One reader for every TOML file of auditkit: a configuration, a policy, or ``[tool.auditkit]`` in pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PYPROJECT = "pyproject.toml"
TABLE = ("tool", "auditkit")
_HEADER = re.compile(r"(?m)^(\s*\[\[?\s*)tool\s*\.\s*auditkit\s*\.\s*")


class UnreadableTomlError(Exception):
    """A file that is not to be had as TOML.

    Attributes:
        why: The reason.
        line: The line at fault, where the text is not TOML.
        syntax: Whether the text was read but is not TOML.
    """

    def __init__(self, why: str, *, line: int | None = None, syntax: bool = False) -> None:
        self.why, self.line, self.syntax = why, line, syntax
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class TomlFile:
    """What a file says to auditkit.

    Attributes:
        document: Its tables; those under ``[tool.auditkit]`` where the file has them, ``None`` for a pyproject.toml
            without.
        text: The whole text, for line numbers.
        prefix: Where the tables stand in it.
    """

    document: Mapping[str, Any] | None
    text: str
    prefix: tuple[str, ...] = ()

    @property
    def own_text(self) -> str:
        """The text with the prefix of headers cut away: lines are found under the names of ``document``."""
        return _HEADER.sub(r"\1", self.text) if self.prefix else self.text


def read_toml(path: Path) -> TomlFile:
    """The file ``path``, a byte order mark passed over.

    Raises:
        UnreadableTomlError: No such file, not UTF-8, or not TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UnreadableTomlError(error.strerror or "") from error
    except UnicodeDecodeError as error:
        raise UnreadableTomlError("it is not UTF-8 text") from error
    try:
        document: Mapping[str, Any] = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        line = re.search(r"line (\d+)", str(error))
        raise UnreadableTomlError(str(error), line=int(line.group(1)) if line else None, syntax=True) from error
    tool = document.get(TABLE[0])
    own = tool.get(TABLE[1]) if isinstance(tool, Mapping) else None
    if isinstance(own, Mapping):
        return TomlFile(own, text, TABLE)
    return TomlFile(None if path.name == PYPROJECT else document, text)
