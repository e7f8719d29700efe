"""What an analyzer gives beside its numbers: tables, curves, densities and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from auditkit.core.evidence import Interval

Scalar = str | int | float | bool | None


def finite(value: float | None, what: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: With ``what`` it is.
    """
    if value is not None and not isfinite(value):
        raise ValueError(f"{what} must be finite or None with a reason, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table artifact: ``rows`` of cells under ``columns``."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Scalar, ...], ...]
    note: str = ""
    kind: Literal["table"] = "table"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.name}: {len(row)} cells under {len(self.columns)} columns")
            for cell in row:
                if isinstance(cell, float):
                    finite(cell, f"table {self.name} cell")


class Estimated(Protocol):
    """What has a value and perhaps its interval: a measurement, or an estimate that becomes one."""

    @property
    def value(self) -> float | None:
        """The point estimate."""
        ...

    @property
    def interval(self) -> Interval | None:
        """Its interval, if there is one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a :class:`Curve`; ``low`` and ``high`` are its pointwise interval, if any."""

    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()

    def __post_init__(self) -> None:
        for values in (self.x, self.y, self.low, self.high):
            for value in values:
                finite(value, f"series {self.name} value")
        if len(self.x) != len(self.y) or any(len(v) not in (0, len(self.x)) for v in (self.low, self.high)):
            raise ValueError(f"series {self.name}: x, y, low and high differ in length")

    @classmethod
    def of(cls, name: str, x: tuple[float, ...], found: Sequence[Estimated]) -> Series:
        """The line through ``found`` at ``x``, with their intervals as its band."""
        return cls(
            name=name,
            x=x,
            y=tuple(each.value for each in found),
            low=tuple(each.interval.low if each.interval else None for each in found),
            high=tuple(each.interval.high if each.interval else None for each in found),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A chart of y against x (ROC, reliability, eps sweep, privacy frontier ...)."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    note: str = ""
    kind: Literal["curve"] = "curve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """Binned distributions, one strip a row (attributions a feature, say).

    ``edges`` has one number more than each row of ``counts`` has cells. ``color`` holds, per cell,
    the mean rank in [0, 1] of the row's own feature value, or ``None`` in an empty cell.
    """

    name: str
    title: str
    x_label: str
    rows: tuple[str, ...]
    edges: tuple[float, ...]
    counts: tuple[tuple[int, ...], ...]
    color: tuple[tuple[float | None, ...], ...] = ()
    note: str = ""
    kind: Literal["density"] = "density"

    def __post_init__(self) -> None:
        for edge in self.edges:
            finite(edge, f"density {self.name} edge")
        if len(self.counts) != len(self.rows):
            raise ValueError(f"density {self.name}: {len(self.counts)} strips for {len(self.rows)} rows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Group x label x prediction cells: enough to recompute every count metric and its interval.

    ``n[g][y][p]`` counts the rows of group ``groups[g]`` with label ``classes[y]`` that the model
    decided as ``classes[p]``. With row weights, ``weight`` holds the sums of weights of the same
    cells and ``weight_sq`` the sums of squared weights. With clusters, ``moment[g]`` is the
    ``(k*k, k*k)`` matrix of ``sum_c v_c v_c^T`` over clusters ``c``, where ``v_c`` is the flattened
    (weighted) cell vector of the cluster: the delta method gives the variance of any function of
    the cells from it (Binder 1983, linearisation).

    ``over`` names the columns, ``groups`` the values in the order of ``over``. An ``over`` of ``()``
    has the single group ``()``: all rows.
    """

    name: str
    over: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    n: tuple[tuple[tuple[int, ...], ...], ...]
    positive: int | None = None
    weight: tuple[tuple[tuple[float, ...], ...], ...] | None = None
    weight_sq: tuple[tuple[tuple[float, ...], ...], ...] | None = None
    moment: tuple[tuple[tuple[float, ...], ...], ...] | None = None
    kind: Literal["counts"] = "counts"

    def __post_init__(self) -> None:
        k = len(self.classes)
        if len(self.n) != len(self.groups):
            raise ValueError(f"counts {self.name}: {len(self.n)} cell blocks for {len(self.groups)} groups")
        for block in self.n:
            if len(block) != k or any(len(row) != k for row in block):
                raise ValueError(f"counts {self.name}: a cell block is not {k} x {k}")
        for group in self.groups:
            if len(group) != len(self.over):
                raise ValueError(f"counts {self.name}: group {group} does not match columns {self.over}")
