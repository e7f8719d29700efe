"""A JSON document in fewer characters: objects of one shape as rows, words that repeat once, numbers as differences.

A packed document holds three things. ``words`` are strings that occur often; ``"~3"`` in the document stands for the
fourth. ``shapes`` are keys of objects, with those of an object inside as ``[key, keys ...]``. ``document`` is the
document itself, in which ``{"~": [[3, ...], ...]}`` stands for a list of objects: each is the number of its shape
and then its values, in the order of its keys. ``{"~4": [7525, 68, 0, ...]}`` stands for a list of numbers of four
decimals at most, each of which is the one before and so many ten-thousandths: ``[0.7525, 0.7593, 0.7593, ...]``. A
string or a key that begins with ``~`` itself has one more in front.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

MARK = "~"
# So many characters of repeated words are unpacked at most: a hundred times those of a large card.
_MOST = 100_000_000
_PACKED = frozenset({"words", "shapes", "document"})
# Characters of a word in place: its quotes; and of its number: quotes, mark and some digits.
_QUOTES, _NUMBER = 2, 6
# What an object counts for, in characters, where many could come of few.
_OBJECT = 60
# Numbers of more decimals than this are written as they are.
_DECIMALS = 9
Shape = tuple[Any, ...]


def packed(document: Mapping[str, Any]) -> dict[str, Any]:
    """``document`` in fewer characters; :func:`unpacked` gives it back.

    Args:
        document: Of what JSON has: mappings with strings as keys, lists, strings, numbers, booleans, ``None``.

    >>> packed({"a": [{"name": "~x", "at": {"x": 1}}, {"name": "~x", "at": {"x": 2}}]})["document"]
    {'a': {'~': [[0, 1, '~~x'], [0, 2, '~~x']]}}
    """
    counted = Counter(_strings(document))
    saved = {word: (times - 1) * (len(word) + _QUOTES) - times * _NUMBER for word, times in counted.items()}
    words = sorted((word for word in saved if saved[word] > 0), key=lambda word: (-counted[word], word))
    writer = _Writer({word: f"{MARK}{index}" for index, word in enumerate(words)}, {})
    body = writer.value(document)
    return {"words": words, "shapes": [_listed(shape) for shape in writer.shapes], "document": body}


def unpacked(document: Any) -> Any:
    """The document that was packed; one that was not, as it is.

    Raises:
        ValueError: What is packed is not what :func:`packed` makes, or is very long where it is unpacked.

    >>> unpacked(packed({"a": [{"b": "~"}, {"b": None}], "~c": []}))
    {'a': [{'b': '~'}, {'b': None}], '~c': []}
    """
    if not isinstance(document, dict) or document.keys() != _PACKED:
        return document
    try:
        return _Reader(document["words"], document["shapes"]).value(document["document"])
    except (StopIteration, LookupError, TypeError, AttributeError, OverflowError) as error:
        told = f": {error}" if str(error) else ""
        raise ValueError(f"it is not packed as this release packs it{told}") from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _strings(inner)


def _listed(shape: Shape) -> list[Any]:
    return [_listed(part) if isinstance(part, tuple) else part for part in shape]


class _Writer:
    """Packs values with a fixed list of words, and collects the shapes that it meets."""

    def __init__(self, words: Mapping[str, str], shapes: dict[Shape, int]) -> None:
        self.words, self.shapes = words, shapes

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.words.get(value) or _escaped(value)
        if isinstance(value, Mapping):
            return {_escaped(key): self.value(inner) for key, inner in value.items()}
        if not isinstance(value, Sequence):
            return value
        if len(value) > 1 and all(isinstance(inner, Mapping) and inner for inner in value):
            return {MARK: [self._row(inner) for inner in value]}
        return _differences(value) or [self.value(inner) for inner in value]

    def _row(self, value: Mapping[str, Any]) -> list[Any]:
        number = self.shapes.setdefault(_shape(value), len(self.shapes))
        return [number, *self._flat(value)]

    def _flat(self, value: Mapping[str, Any]) -> Iterator[Any]:
        for _, inner in sorted(value.items()):
            if _is_inside(inner):
                yield from self._flat(inner)
            else:
                yield self.value(inner)


def _differences(values: Sequence[Any]) -> dict[str, list[int]] | None:
    """Numbers as what each is more than the one before, in units of their last decimal; ``None`` if that is no shorter.

    >>> _differences([0.25, 0.5, 0.5, 0.5, 1.0]), _differences([0.1, 2]), _differences([1e-30, 0.5])
    ({'~2': [25, 25, 0, 0, 50]}, None, None)
    """
    if not set(map(type, values)) <= {float}:
        return None
    written = [repr(value) for value in values]
    decimals = max((len(text.partition(".")[2]) for text in written), default=0)
    if decimals > _DECIMALS or "-0.0" in written or any("e" in text for text in written):
        return None
    unit = 10**decimals
    whole = [round(value * unit) for value in values]
    if [number / unit for number in whole] != list(values):
        return None
    steps = [now - before for before, now in zip([0, *whole], whole, strict=False)]
    short = sum(len(str(step)) for step in steps) + _NUMBER < sum(map(len, written))
    return {f"{MARK}{decimals}": steps} if short else None


def _is_inside(value: Any) -> bool:
    """Whether a value of an object is an object whose keys are part of the shape."""
    return isinstance(value, Mapping) and bool(value)


def _shape(value: Mapping[str, Any]) -> Shape:
    return tuple((key, *_shape(inner)) if _is_inside(inner) else key for key, inner in sorted(value.items()))


def _escaped(text: str) -> str:
    return MARK + text if text.startswith(MARK) else text


def _numbers(decimals: str, steps: Sequence[Any]) -> list[float]:
    """The numbers that :func:`_differences` wrote."""
    if not (len(decimals) == 1 and decimals.isdecimal() and decimals.isascii()):
        raise LookupError(decimals)
    if not isinstance(steps, list) or not all(type(step) is int for step in steps):
        raise TypeError("a difference of numbers is no whole number")
    unit = 10 ** int(decimals)
    return [number / unit for number in accumulate(steps)]


class _Reader:
    """Unpacks values."""

    def __init__(self, words: Sequence[str], shapes: Sequence[Sequence[Any]]) -> None:
        if not all(isinstance(word, str) for word in words):
            raise TypeError("a word is no string")
        self.words, self.shapes, self.left = words, shapes, _MOST

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            if value.keys() == {MARK}:
                return [self._row(row) for row in value[MARK]]
            if len(value) == 1 and (key := next(iter(value))).startswith(MARK) and not key.startswith(MARK, 1):
                return _numbers(key[1:], value[key])
            return {key.removeprefix(MARK): self.value(inner) for key, inner in value.items()}
        return [self.value(inner) for inner in value] if isinstance(value, list) else value

    def _text(self, text: str) -> str:
        if not text.startswith(MARK):
            return text
        if text.startswith(MARK, 1):
            return text[1:]
        if not text[1:].isdecimal():
            raise LookupError(text)
        word = self.words[int(text[1:])]
        self._spend(len(word))
        return word

    def _spend(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            raise ValueError("it would be too long unpacked")

    def _row(self, row: Sequence[Any]) -> dict[str, Any]:
        number, values = row[0], iter(row[1:])
        if type(number) is not int or number < 0:
            raise LookupError(number)
        found = self._object(self.shapes[number], values)
        if next(values, self) is not self:
            raise LookupError("more values than keys")
        return found

    def _object(self, shape: Sequence[Any], values: Iterator[Any]) -> dict[str, Any]:
        """The object of a shape; what it takes to hold it is counted, as empty objects in it spend no value."""
        found = {}
        self._spend(_OBJECT)
        for part in shape:
            key = part if isinstance(part, str) else part[0]
            if not isinstance(key, str):
                raise TypeError("a key is no string")
            self._spend(len(key) + _QUOTES)
            found[key] = self.value(next(values)) if isinstance(part, str) else self._object(part[1:], values)
        return found
