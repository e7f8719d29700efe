"""Measurements that stand in an evidence file and are read when somebody asks for them.

A gate on 100,000 measurements looks at those that its rules name. To read all of them is
most of what it takes to judge, so each is parsed, built and checked when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from auditkit.core.cut import Texts
    from auditkit.core.evidence import Measurement

    Build = Callable[[Callable[[], list[dict[str, Any]]]], Sequence[Measurement]]


class Unread(Sequence["Measurement"]):
    """The measurements of ``texts``, in order; equal to the tuple of what ``build`` makes of them.

    Args:
        texts: The measurements as they were written.
        build: Reads some of them, or all, as plain data, and builds and checks measurements from that.
    """

    def __init__(self, texts: Texts, build: Build) -> None:
        self.texts = texts
        self._build = build

    def named(self, name: str) -> Sequence[Measurement]:
        """Those called ``name``, in order; no others are read."""
        return self._build(lambda: self.texts.named(name)) if name in self.texts.names else ()

    @cached_property
    def _all(self) -> tuple[Measurement, ...]:
        return tuple(self._build(self.texts.whole))

    @overload
    def __getitem__(self, index: int) -> Measurement: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Measurement, ...]: ...
    def __getitem__(self, index: int | slice) -> Measurement | tuple[Measurement, ...]:
        return self._all[index]

    def __iter__(self) -> Iterator[Measurement]:
        return iter(self._all)

    def __bool__(self) -> bool:
        return bool(self.texts)

    def __len__(self) -> int:
        return len(self._all)

    def __eq__(self, other: object) -> bool:
        return self._all == (other._all if isinstance(other, Unread) else other)

    def __hash__(self) -> int:
        return hash(self._all)

    def __reduce__(self) -> tuple[type, tuple[tuple[Measurement, ...]]]:
        return tuple, (self._all,)

    def __repr__(self) -> str:
        return repr(self._all)


class ByName(Mapping[str, Sequence["Measurement"]]):
    """The measurements of each name, in order; those of a name that nobody asks for stay unread."""

    def __init__(self, parts: Sequence[Sequence[Measurement]]) -> None:
        self._parts = parts
        self._found: dict[str, Sequence[Measurement]] = {}

    def __getitem__(self, name: str) -> Sequence[Measurement]:
        if name not in self._found:
            if name not in self._names:
                raise KeyError(name)
            self._found[name] = [
                each
                for part, built in zip(self._parts, self._built, strict=True)
                for each in (part.named(name) if isinstance(part, Unread) else built.get(name, ()))
            ]
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    @cached_property
    def _built(self) -> list[dict[str, list[Measurement]]]:
        """The measurements of each part that is read already, under their names."""
        parts: list[dict[str, list[Measurement]]] = [{} for _ in self._parts]
        for part, named in zip(self._parts, parts, strict=True):
            for each in () if isinstance(part, Unread) else part:
                named.setdefault(each.name, []).append(each)
        return parts

    @cached_property
    def _names(self) -> dict[str, None]:
        parts = zip(self._parts, self._built, strict=True)
        return dict.fromkeys(
            name for part, built in parts for name in (part.texts.names if isinstance(part, Unread) else built)
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
