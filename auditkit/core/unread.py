"""Measurements that stand in an evidence file and are built when somebody asks for them.

A gate on 100,000 measurements looks at those that its rules name. To build all of them is
most of what it takes to read the file, so each is built, and checked, when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from auditkit.core.evidence import Measurement

# An index of all places costs about as much as looking for so many names.
_FEW = 16

# Builds and checks measurements from their plain JSON data.
Build = Callable[[list[dict[str, Any]]], Sequence["Measurement"]]


class Unread(Sequence["Measurement"]):
    """The measurements ``written`` as plain JSON data, in order; equal to the tuple of what ``build`` makes of them.

    Attributes:
        names: The name of each, known without building any.
    """

    __slots__ = ("_build", "_built", "_whole", "_written", "names")

    def __init__(self, written: list[dict[str, Any]], build: Build) -> None:
        self.names = [part["name"] for part in written]
        if not set(map(type, self.names)) <= {str}:
            raise TypeError("a name is text")
        self._written = written
        self._build = build
        self._built: dict[int, Measurement] = {}
        self._whole: tuple[Measurement, ...] | None = None

    def take(self, places: Sequence[int]) -> list[Measurement]:
        """Those at ``places``, built together where they were not yet."""
        unbuilt = [index for index in places if index not in self._built]
        made = self._build([self._written[index] for index in unbuilt]) if unbuilt else ()
        self._built.update(zip(unbuilt, made, strict=True))
        return [self._built[index] for index in places]

    def _all(self) -> tuple[Measurement, ...]:
        if self._whole is None:
            self._whole = tuple(self.take(range(len(self))))
        return self._whole

    @overload
    def __getitem__(self, index: int) -> Measurement: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Measurement, ...]: ...
    def __getitem__(self, index: int | slice) -> Measurement | tuple[Measurement, ...]:
        if self._whole is not None:
            return self._whole[index]
        chosen = range(len(self))[index]
        return self.take([chosen])[0] if isinstance(chosen, int) else tuple(self.take(chosen))

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._written)

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, Unread) else other)

    def __hash__(self) -> int:
        return hash(self._all())

    def __reduce__(self) -> tuple[type, tuple[tuple[Measurement, ...]]]:
        return tuple, (self._all(),)

    def __repr__(self) -> str:
        return repr(self._all())


class ByName(Mapping[str, Sequence["Measurement"]]):
    """The measurements of each name, in order; those of a name that nobody asks for stay unread."""

    def __init__(self, parts: Sequence[Sequence[Measurement]]) -> None:
        self._parts = parts
        self._named = [part.names if isinstance(part, Unread) else [each.name for each in part] for part in parts]
        self._names = dict.fromkeys(name for names in self._named for name in dict.fromkeys(names))
        self._found: dict[str, Sequence[Measurement]] = {}
        self._places: dict[str, list[list[int]]] | None = None

    def __getitem__(self, name: str) -> Sequence[Measurement]:
        if name not in self._found:
            if name not in self._names:
                raise KeyError(name)
            found: list[Measurement] = []
            for part, places in zip(self._parts, self._places_of(name), strict=True):
                found += part.take(places) if isinstance(part, Unread) else [part[index] for index in places]
            self._found[name] = found
        return self._found[name]

    def _places_of(self, name: str) -> list[list[int]]:
        """Where ``name`` stands in each part: looked for one by one for the first few, then for all at once."""
        if self._places is None and len(self._found) >= _FEW:
            self._places = {each: [[] for _ in self._parts] for each in self._names}
            for number, names in enumerate(self._named):
                for index, each in enumerate(names):
                    self._places[each][number].append(index)
        if self._places is not None:
            return self._places[name]
        return [[index for index, each in enumerate(names) if each == name] for names in self._named]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
