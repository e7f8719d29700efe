"""The game that Shapley values divide: rows explained, background rows, players, and the model that is asked.

A row ``x`` gives a set ``S`` of players the worth ``v(S) = mean_b predict(x on S, b elsewhere)`` over the rows ``b``
of the background (the *interventional* or *marginal* game). Tables keep their dtypes: a mixture of two rows takes each
cell, as it stands, from one of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.least import need_rows

Predict = Callable[[Any], Any]
BoolArray = npt.NDArray[np.bool_]

CELLS_A_BATCH = 250_000  # keeps a batch in the cache
_WIDE = 2_000_000  # cells of a batch of wide rows: libraries look at each column's name and dtype in every call
_WIDE_ROWS = 2048
_FEWEST_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Game:
    """What is explained.

    Attributes:
        predict: Matrix or table ``(m, f)`` -> outputs ``(m, k)`` (or ``(m,)``).
        rows: ``(n, f)`` rows to explain: a float64 matrix or a DataFrame.
        background: ``(b, f)`` background rows of the same kind; all of them are used.
        groups: Columns that enter or leave together, one tuple a player.
        batch_size: Most rows handed to ``predict`` at once.
        names: One name a player.
        inputs: Rows of the game -> what the user's estimator itself takes; the same when ``None``.
    """

    predict: Predict
    rows: Any
    background: Any
    groups: tuple[tuple[int, ...], ...]
    batch_size: int
    names: tuple[str, ...] = ()
    inputs: Callable[[Any], Any] | None = None

    @property
    def features(self) -> int:
        """Columns of the rows."""
        return int(self.rows.shape[1])

    def to_model(self, matrix: Any) -> Any:
        """Rows of the game as the user's estimator takes them."""
        return matrix if self.inputs is None else self.inputs(matrix)

    def outputs(self, matrix: Any) -> FloatArray:
        """``predict`` in batches, checked: ``(m, k)`` float64, finite.

        Raises:
            AuditkitError: AK501 wrong shape, AK502 not finite, AK463 labels instead of numbers, AK464 the model
                refuses rows with missing values.
        """
        parts = [
            _one_pass(self.predict, matrix[start : start + self.batch_size])
            for start in range(0, len(matrix), self.batch_size)
        ]
        return np.concatenate(parts, axis=0)

    def mixtures(self, masks: BoolArray, rows: IntArray, sources: IntArray) -> FloatArray:
        """Outputs ``(m, k)``: players in ``masks (m, players)`` are those of ``rows``, others of ``sources``."""
        size = self.batch_size
        parts = [
            _one_pass(self.predict, self.mixed(masks[at : at + size], rows[at : at + size], sources[at : at + size]))
            for at in range(0, len(masks), size)
        ]
        return np.concatenate(parts, axis=0)

    def active(self, row: int) -> IntArray:
        """Players of ``row`` that differ from some background row; the others cannot move the model."""
        differs = self._differing(row)
        return np.array([p for p, group in enumerate(self.groups) if differs[list(group)].any()], dtype=np.int64)

    def mixed(self, masks: BoolArray, rows: IntArray, sources: IntArray) -> Any:
        """The mixtures themselves, as ``predict`` takes them."""
        columns = masks if self._plain else masks[:, self.player_of]
        if not hasattr(self.rows, "columns"):
            return np.where(columns, self.rows[rows], self.background[sources])
        import pandas as pd

        both = pd.concat([self.background, self.rows], ignore_index=True)
        place = np.where(columns, rows[:, None] + len(self.background), sources[:, None])
        parts = [both.iloc[:, j].take(place[:, j]).reset_index(drop=True) for j in range(self.features)]
        table = pd.concat(parts, axis=1)
        table.columns = self.rows.columns
        return table

    @property
    def _plain(self) -> bool:
        return len(self.groups) == self.features and all(group == (p,) for p, group in enumerate(self.groups))

    @property
    def player_of(self) -> IntArray:
        """``(f,)`` the player of each column."""
        players = np.empty(self.features, dtype=np.int64)
        for player, group in enumerate(self.groups):
            players[list(group)] = player
        return players

    def _differing(self, row: int) -> BoolArray:
        if not hasattr(self.rows, "columns"):
            x = self.rows[row]
            same = (self.background == x) | (np.isnan(self.background) & np.isnan(x))
            return np.asarray(~same.all(axis=0))
        import pandas as pd

        differs = np.ones(self.features, dtype=np.bool_)
        for j in range(self.features):
            value, column = self.rows.iloc[row, j], self.background.iloc[:, j]
            missing = column.isna().to_numpy(dtype=np.bool_)
            if pd.isna(value):
                differs[j] = not missing.all()
            else:
                differs[j] = missing.any() or not bool((column == value).all())
        return differs


def make_game(
    predict: Predict,
    rows: Any,
    background: Any,
    groups: Sequence[Sequence[int]] | None = None,
    batch_size: int | None = None,
    inputs: Callable[[Any], Any] | None = None,
) -> Game:
    """A checked :class:`Game`.

    Args:
        predict: The model.
        rows: ``(n, f)`` numbers, or a DataFrame, which keeps its dtypes.
        background: ``(b, f)`` rows of the same columns and dtypes.
        groups: Positions of the columns that move together; each column alone when ``None``.
        batch_size: Most rows handed to ``predict`` at once; chosen by width when ``None``.
        inputs: What turns rows of the game into inputs of the user's estimator.

    Raises:
        UsageError: AK500 when shapes do not fit, the background is empty, or groups are no partition; AK461 when
            two tables differ in columns or dtypes.
    """
    frame = hasattr(rows, "columns")
    if frame or hasattr(background, "columns"):
        _same_columns(rows, background)
    else:
        rows, background = np.asarray(rows, dtype=np.float64), np.asarray(background, dtype=np.float64)
    shapes = np.shape(rows), np.shape(background)
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][1] != shapes[1][1] or shapes[0][1] == 0:
        raise UsageError(
            "AK500",
            f"rows {shapes[0]} and background {shapes[1]} must be matrices with the same columns",
            fix="pass the same features in the same order",
        )
    need_rows(len(rows), len(background))
    features = shapes[0][1]
    players = tuple((j,) for j in range(features)) if groups is None else tuple(tuple(map(int, g)) for g in groups)
    if sorted(column for group in players for column in group) != list(range(features)) or () in players:
        raise UsageError("AK500", "feature groups must hold every column exactly once", fix="mend the groups")
    if batch_size is not None and batch_size < 1:
        raise UsageError("AK500", f"batch_size is {batch_size}", fix="give 1 or more, or None")
    labels = [str(name) for name in rows.columns] if frame else [f"x{j}" for j in range(features)]
    return Game(
        predict=predict,
        rows=rows,
        background=background,
        groups=players,
        batch_size=int(batch_size or batch_of(features)),
        names=tuple("+".join(labels[j] for j in group) for group in players),
        inputs=inputs,
    )


def batch_of(features: int) -> int:
    """Rows handed to a model at once.

    >>> [batch_of(features) for features in (10, 100, 300, 2_000, 20_000)]
    [25000, 2500, 2048, 1000, 256]
    """
    wide = max(_FEWEST_ROWS, min(_WIDE_ROWS, _WIDE // features))
    return max(wide, CELLS_A_BATCH // features)


def background_use(rows: int, where: str = " for every row") -> str:
    """Words for a background of which every row is used.

    >>> background_use(100), background_use(1)
    ('all 100 background rows for every row', 'the one background row for every row')
    """
    return f"{'the one background row' if rows == 1 else f'all {rows} background rows'}{where}"


def background_hash(background: Any) -> str:
    """``sha256:`` of the background's shape and its values: float64 bytes, or hashes of a table's cells."""
    if hasattr(background, "columns"):
        import pandas as pd

        content = pd.util.hash_pandas_object(background, index=False).to_numpy(dtype="<u8")
    else:
        content = np.ascontiguousarray(background, dtype="<f8")
    return "sha256:" + hashlib.sha256(repr(np.shape(background)).encode() + content.tobytes()).hexdigest()


def _same_columns(rows: Any, background: Any) -> None:
    if not (hasattr(rows, "columns") and hasattr(background, "columns")):
        raise UsageError(
            "AK461",
            "one of rows and background is a table, the other a matrix",
            fix="give both as DataFrames with the same columns",
        )
    if list(rows.columns) != list(background.columns):
        raise UsageError(
            "AK461", "rows and background have other columns", fix="pass the same features in the same order"
        )
    for place, name in enumerate(rows.columns):
        ours, theirs = rows.dtypes.iloc[place], background.dtypes.iloc[place]
        if ours != theirs:
            raise UsageError(
                "AK461",
                f"column {str(name)!r} is {ours} in the rows and {theirs} in the background",
                why="mixtures of the two would have a dtype that the model may never have seen",
                fix="cast the rows: rows.astype(background.dtypes)",
            )


def _one_pass(predict: Predict, matrix: Any) -> FloatArray:
    try:
        raw = np.asarray(predict(matrix))
    except AuditkitError:
        raise
    except Exception as error:
        if not _holds_missing(matrix):
            raise
        raise AuditkitError(
            "AK464",
            "the model refuses rows with missing values",
            why=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
            fix="explain rows and use a background without missing values, or put the imputer into the model",
        ) from error
    if raw.dtype.kind not in "f" and not (raw.dtype.kind in "iu" and raw.ndim == 2 and raw.shape[1] > 1):
        raise AuditkitError(
            "AK463",
            f"the model gave {raw.dtype} values, which look like labels",
            why="codes of classes have no distances, so sums and means of them say nothing",
            fix="pass predict_proba or decision_function; return floats where whole numbers are meant as amounts",
        )
    outputs = np.asarray(raw, dtype=np.float64)
    if outputs.ndim == 1:
        outputs = outputs[:, None]
    if outputs.ndim != 2 or len(outputs) != len(matrix):
        raise AuditkitError(
            "AK501",
            f"the model gave outputs of shape {outputs.shape} for {len(matrix)} rows",
            why="one row of outputs is needed for each row of inputs",
        )
    if not np.isfinite(outputs).all():
        raise AuditkitError(
            "AK502",
            "the model gave outputs that are not finite on mixtures of real rows",
            why="a Shapley value averages the model over such mixtures",
            fix="check the model for overflow, or explain its probability instead of its logit",
        )
    return outputs


def _holds_missing(matrix: Any) -> bool:
    if hasattr(matrix, "columns"):
        return bool(matrix.isna().to_numpy().any())
    return bool(np.isnan(matrix).any())
