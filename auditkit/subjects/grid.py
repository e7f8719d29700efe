"""A table as a matrix of what may change: its codec, and its schema as a :class:`~auditkit.core.feasible.Feasible`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import NotApplicable
from auditkit.core.feasible import Choice, Feasible, Rules
from auditkit.core.subject import Dataset, FloatArray, IntArray, Schema
from auditkit.subjects.codec import TabularCodec, make_codec

MOVABLE = ("numeric", "integer")
CHOSEN = ("categorical", "boolean", "onehot")


@dataclass(frozen=True, kw_only=True)
class TableGrid:
    """A table under change.

    Attributes:
        codec: Rows to a ``(n, f)`` matrix and back.
        matrix: ``(n, f)`` the table itself.
        space: What is feasible.
        names: Feature names in column order.
        units: What each feature is counted in; durations in seconds unless the schema says; empty where nothing does.
        step: What one unit of distance is in words: a standard deviation, or the scale that the schema tells.
        frozen: Columns that may not change, neither as a number nor as a category.
        levels: Columns of each category that is not held: one for a coded column, several for a one-hot group.
    """

    codec: TabularCodec
    matrix: FloatArray
    space: Feasible
    names: tuple[str, ...]
    units: tuple[str, ...]
    step: str
    frozen: tuple[str, ...]
    levels: tuple[IntArray, ...]


def table_grid(data: Dataset, *, freeze_sensitive: bool = True, choose: bool = False) -> TableGrid:
    """The grid of a table, by its schema.

    A unit of distance is ``Feature.scale``, or a standard deviation of the column; a category costs its scale, or 1.

    Args:
        data: A tabular data set.
        freeze_sensitive: Columns named as sensitive stay where they are, as those the schema calls immutable do.
        choose: Categories may change too.
    """
    codec = make_codec(data)
    matrix = np.asarray(codec.encode(data.inputs), dtype=np.float64)
    names = tuple(str(name) for name in codec.names)
    features = [column.feature for column in codec.columns]
    held = {feature.name for feature in features if feature.immutable}
    held |= set(data.sensitive) if freeze_sensitive else set()
    spread = np.array([_spread(matrix[:, place]) for place in range(matrix.shape[1])])
    told = np.array([0.0 if feature.scale is None else feature.scale for feature in features])
    movable = np.array([f.kind in MOVABLE and f.name not in held for f in features], dtype=np.bool_)
    scale = np.where(movable & (spread > 0), np.where(told > 0, told, spread), 0.0)
    levels = _levels(codec, held)
    choices = tuple(_choice(matrix, columns, told) for columns in levels) if choose else ()
    choices = tuple(choice for choice in choices if len(choice.options) > 1)
    free = {int(column) for choice in choices for column in choice.columns} | set(np.flatnonzero(scale > 0).tolist())
    space = Feasible(
        low=np.nan_to_num(np.asarray(codec.low, dtype=np.float64), nan=-np.inf, neginf=-np.inf, posinf=np.inf),
        high=np.nan_to_num(np.asarray(codec.high, dtype=np.float64), nan=np.inf, neginf=-np.inf, posinf=np.inf),
        scale=scale,
        whole=np.array(
            [column.feature.kind == "integer" or getattr(column.dtype, "kind", "") in "iu" for column in codec.columns],
            dtype=np.bool_,
        ),
        falls=np.array([feature.moves != "up" for feature in features], dtype=np.bool_),
        rises=np.array([feature.moves != "down" for feature in features], dtype=np.bool_),
        choices=choices,
        rules=table_rules(data.schema, names),
    )
    return TableGrid(
        codec=codec,
        matrix=matrix,
        space=space,
        names=names,
        units=tuple(column.feature.unit or ("seconds" if column.how == "time" else "") for column in codec.columns),
        step=_step(scale > 0, told > 0),
        frozen=tuple(name for place, name in enumerate(names) if place not in free),
        levels=levels,
    )


def table_rules(schema: Schema, names: tuple[str, ...]) -> Rules | None:
    """The linear rules of a schema on the columns ``names``; ``None`` when there is none."""
    if not schema.constraints:
        return None
    matrix = np.zeros((len(schema.constraints), len(names)))
    for row, rule in enumerate(schema.constraints):
        for name, coefficient in rule.terms:
            matrix[row, names.index(name)] = coefficient
    return Rules(
        matrix=matrix,
        most=np.array([rule.bound for rule in schema.constraints]),
        texts=tuple(rule.text for rule in schema.constraints),
    )


def require_movable(grid: TableGrid) -> None:
    """Refuse a table in which nothing may change.

    Raises:
        NotApplicable: AK541.
    """
    if not grid.space.mutable.any() and not grid.space.choices:
        raise NotApplicable(
            "AK541", "no column may change: all are categorical, constant, immutable or sensitive", fix="pass schema="
        )


def _levels(codec: TabularCodec, held: set[str]) -> tuple[IntArray, ...]:
    groups: dict[str, list[int]] = {}
    stuck: set[str] = set()
    for place, column in enumerate(codec.columns):
        feature = column.feature
        if feature.kind not in CHOSEN:
            continue
        key = f"group {feature.group}" if feature.group else f"column {place}"
        if feature.name in held or feature.group in held:
            stuck.add(key)
        groups.setdefault(key, []).append(place)
    return tuple(np.array(places, dtype=np.int64) for key, places in groups.items() if key not in stuck)


def _choice(matrix: FloatArray, columns: IntArray, told: FloatArray) -> Choice:
    """The levels seen in the table; the dearest scale that the schema tells of its columns, or 1."""
    part = matrix[:, columns]
    options = np.unique(part[~np.isnan(part).any(axis=1)], axis=0)
    cost = float(told[columns].max())
    return Choice(columns=columns, options=options, cost=cost if cost > 0 else 1.0)


def _step(moves: npt.NDArray[np.bool_], told: npt.NDArray[np.bool_]) -> str:
    if not (moves & told).any():
        return "standard deviations of each numeric column"
    if (moves & ~told).any():
        return "standard deviations of each numeric column, or its scale in the schema"
    return "scales in the schema of each numeric column"


def _spread(column: npt.NDArray[np.float64]) -> float:
    """Standard deviation of the present cells; 0 for a column with fewer than two."""
    present = column[np.isfinite(column)]
    if len(present) < 2:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        spread = float(present.std())
    # Squares of very large numbers overflow: these are divided by the largest first.
    size = 1.0 if np.isfinite(spread) else float(np.abs(present).max())
    return spread if size == 1.0 else float((present / size).std()) * size
