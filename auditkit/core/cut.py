"""An evidence file just as it was written, read without its measurements: those are cut out and stay text.

To parse 100,000 measurements is most of what it takes to judge a few of them. In canonical JSON they can be told apart
by their names and by what stands between two objects of a list: a quote inside a word is always escaped, so that a key
with its quotes is no part of a word. Where words could be taken for either, all is parsed instead.
"""

from __future__ import annotations

import contextlib
import json
import re
from functools import cached_property
from typing import Any

from pydantic_core import from_json

_FIELD = "measurements"
_LIST, _END = f'"{_FIELD}":[{{'.encode(), b"}]"
_NAME, _BORDER = re.compile(rb'"name":"([^"]*)"'), b'},{"'
# Stands for a list that was cut out; no list of a file starts with it.
_MARK = f'"{_FIELD}":"#'.encode()

# The keys that a measurement can begin with, the usual ones first.
_FIRST = (b"interval", b"n", b"name", b"bounds", b"direction", b"n_of")

# To look for a name takes an eighth of the time in which all places of all names are found.
_FEW = 8


def without_measurements(text: bytes) -> tuple[dict[str, Any], list[Texts]] | None:
    """The document of canonical JSON without the measurements of its outcomes, and those, outcome by outcome.

    Returns:
        ``None`` where they cannot be cut out and told apart.

    Raises:
        ValueError: It is not JSON once the measurements are out, as where a word looks like the end of their list.
        KeyError, TypeError, AttributeError: It is not the JSON of evidence.
    """
    between, lists, place = [], [], 0
    while (start := text.find(_LIST, place)) >= 0:
        end = text.find(_END, start)
        if end < 0:
            return None
        between.append(text[place:start])
        lists.append(text[start + len(_LIST) - 1 : end + 1])
        place = end + len(_END)
    between.append(text[place:])
    if any(_MARK in piece for piece in between):
        return None

    def frame(owned: set[int]) -> tuple[dict[str, Any], list[int | None]]:
        """The document with marks for the lists ``owned`` by its outcomes, and which list is each outcome's."""
        pieces = between[:1]
        for index, after in enumerate(between[1:]):
            here = b'%s%d"' % (_MARK, index) if index in owned else b'"%s":[%s]' % (_FIELD.encode(), lists[index])
            pieces += [here, after]
        document: dict[str, Any] = from_json(b"".join(pieces), allow_inf_nan=False)
        marks = {f"#{index}": index for index in owned}
        outcomes = document["outcomes"]
        return document, [marks[each.pop(_FIELD)] if _FIELD in each else None for each in outcomes]

    document, found = frame(set(range(len(lists))))
    owned = {index for index in found if index is not None}
    if len(owned) < len(lists):  # the evidence of a baseline, which a policy holds, has such lists too: they go back
        document, found = frame(owned)
    texts = [Texts(b"" if index is None else lists[index]) for index in found]
    return (document, texts) if all(each.told_apart() for each in texts) else None


class Texts:
    """The measurements of one list, as their ``text``: JSON objects with commas between, or nothing.

    A word that ends as a border begins can still be taken for one: what is cut out by that is no JSON, and all are
    parsed instead.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._asked = 0

    def __bool__(self) -> bool:
        return bool(self._text)

    def told_apart(self) -> bool:
        """Whether there are no more names than measurements, each without escapes, and all can be parsed here."""
        measurements = 1 if self._text else 0
        for key in _FIRST:
            if measurements < len(self._every_name):
                measurements += self._text.count(b'%s%s":' % (_BORDER, key))
        # Half of a pair of surrogates is refused by the parser here, and kept by that which reads files as a whole.
        plain = b"\\ud" not in self._text and "\\" not in "".join(self.names)
        return plain and measurements == len(self._every_name)

    @cached_property
    def names(self) -> dict[str, None]:
        """The names, each once, in the order of their first measurements."""
        return {name.decode(): None for name in dict.fromkeys(self._every_name)}

    def whole(self) -> list[dict[str, Any]]:
        """The plain data of all.

        Raises:
            ValueError: They are not JSON.
        """
        return _parsed([self._text])

    def named(self, name: str) -> list[dict[str, Any]]:
        """The plain data of those called ``name``, in order.

        Raises:
            ValueError: They are not JSON.
        """
        self._asked += 1
        with contextlib.suppress(ValueError):
            found = _parsed(self._look_for(name) if self._asked <= _FEW else self._by_name.get(name.encode(), []))
            if all(part["name"] == name for part in found):
                return found
        return [part for part in self.whole() if part["name"] == name]

    def _look_for(self, name: str) -> list[bytes]:
        key, text, found = f'"name":{json.dumps(name)}'.encode(), self._text, []
        place = text.find(key)
        while place >= 0:
            before, after = text.rfind(_BORDER, 0, place), text.find(_BORDER, place)
            end = len(text) if after < 0 else after + 1
            found.append(text[before + 2 if before >= 0 else 0 : end])
            place = text.find(key, end)
        return found

    @cached_property
    def _by_name(self) -> dict[bytes, list[bytes]]:
        places: dict[bytes, list[bytes]] = {}
        inner = self._text.removeprefix(b'{"').removesuffix(b"}").split(_BORDER)
        for name, each in zip(self._every_name, inner, strict=True):
            places.setdefault(name, []).append(b'{"%s}' % each)
        return places

    @cached_property
    def _every_name(self) -> list[bytes]:
        return _NAME.findall(self._text)


def _parsed(objects: list[bytes]) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = from_json(b"[%s]" % b",".join(objects), allow_inf_nan=False, cache_strings="keys")
    return data
