"""The rows under attack as a numeric matrix, with what is feasible and the way back to the user's model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import NotApplicable
from auditkit.core.subject import Dataset, DecidesFromScores, FloatArray, IntArray, Subject, take_rows

if TYPE_CHECKING:
    from auditkit.methods.robustness.feasible import Feasible

CHUNK = 16_384


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A data set as a matrix.

    Attributes:
        encode: Inputs -> ``(n, f)`` matrix; ``decode`` is its inverse, with the inputs' own type and dtypes.
        space: What is feasible.
        unit: What one unit of eps is, in words.
        names: Feature names; empty for images.
        units: What each feature is counted in; empty where that is not told.
        frozen: Columns that no numeric change may touch.
        levels: Positions of each category that noise may swap: one for a coded column, several for a one-hot group.
    """

    encode: Callable[[Any], FloatArray]
    decode: Callable[[FloatArray], Any]
    space: Feasible
    unit: str
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    levels: tuple[npt.NDArray[np.int64], ...] = ()


def make_grid(data: Dataset, *, freeze_sensitive: bool = True, must_move: bool = True) -> Grid:
    """The grid of a table or of images.

    Raises:
        NotApplicable: AK540 for text and tokens, AK541 (where something must move) for a table in which nothing may.
    """
    if data.modality == "tabular":
        return _table(data, freeze_sensitive, must_move)
    if data.modality == "image":
        return _images(data)
    raise NotApplicable(
        "AK540", f"small numeric perturbations mean nothing for {data.modality} inputs", fix="use robustness.noise"
    )


def _table(data: Dataset, freeze_sensitive: bool, must_move: bool) -> Grid:
    from auditkit.subjects.grid import require_movable, table_grid

    table = table_grid(data, freeze_sensitive=freeze_sensitive)
    if must_move:
        require_movable(table)
    return Grid(
        encode=lambda inputs: np.asarray(table.codec.encode(inputs), dtype=np.float64),
        decode=table.codec.decode,
        space=table.space,
        unit=table.step,
        names=table.names,
        units=table.units,
        frozen=table.frozen,
        levels=table.levels,
    )


def breaches(space: Feasible, x: FloatArray) -> str | None:
    """What a reader must know of rows ``x (n, f)`` that break a rule or leave the bounds before any change."""
    found = []
    if space.rules is not None:
        broken = space.rules.excess(x) > 0.0
        texts = [text for text, rows in zip(space.rules.texts, broken.T, strict=True) if rows.any()]
        if texts:
            rules = f"a rule of the schema ({'; '.join(dict.fromkeys(texts))})"
            found.append((int(broken.any(axis=1).sum()), "break", rules, "it need only not be broken further"))
    outside = int(((x < space.low) | (x > space.high)).any(axis=1).sum())
    if outside:
        found.append((outside, "leave", "the bounds of a column", "that cell may stay where it is, and go no further"))
    if not found:
        return None
    told = [f"{count} of {len(x)} rows {verb} {what} as they are: {so}." for count, verb, what, so in found]
    return f"{' '.join(told)} They are attacked like the others."


def _images(data: Dataset) -> Grid:
    from auditkit.methods.robustness.feasible import Feasible

    sample = np.asarray(data.inputs)
    low, high = pixel_range(data)
    features = int(np.prod(sample.shape[1:]))
    whole = sample.dtype.kind in "iub"

    def decode(matrix: FloatArray) -> npt.NDArray[Any]:
        return matrix.reshape(len(matrix), *sample.shape[1:]).astype(sample.dtype)

    return Grid(
        encode=lambda inputs: np.asarray(inputs, dtype=np.float64).reshape(len(inputs), -1),
        decode=decode,
        space=Feasible(
            low=np.full(features, low),
            high=np.full(features, high),
            scale=np.full(features, high - low),
            whole=np.full(features, whole),
        ),
        unit=f"fractions of the pixel range {low:g} to {high:g}",
    )


def pixel_range(data: Dataset) -> tuple[float, float]:
    """The declared range of the pixels, else the observed one.

    Raises:
        NotApplicable: AK541 when every pixel has the same value.
    """
    lows = [f.low for f in data.schema.features if f.kind == "pixel" and f.low is not None]
    highs = [f.high for f in data.schema.features if f.kind == "pixel" and f.high is not None]
    array = np.asarray(data.inputs)
    low, high = (min(lows), max(highs)) if lows and highs else (float(array.min()), float(array.max()))
    if not low < high:
        raise NotApplicable("AK541", "every pixel has the same value", fix="declare the range of the pixels")
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Arena:
    """The rows under attack.

    Attributes:
        rows: Positions in the test data.
        x: ``(m, f)`` encoded rows; ``y`` their labels.
        decide: ``(m, f)`` points -> the user's own decisions.
        judge: ``(points, labels) -> (fooled, loss)``; the loss is the margin of the scores, flat without scores.
        look: ``(m, f)`` points -> scores, or decisions where there are none.
    """

    grid: Grid
    rows: IntArray
    x: FloatArray
    y: IntArray
    decide: Callable[[FloatArray], IntArray]
    judge: Callable[[FloatArray, IntArray], tuple[npt.NDArray[np.bool_], FloatArray]]
    look: Callable[[FloatArray], FloatArray]


def deciding_logits(model: Any) -> Callable[[Any], Any]:
    """The logits that an attack climbs: those whose largest is the model's decision, its threshold included."""
    found: Callable[[Any], Any] = getattr(model, "decision_logits", model.logits)
    return found


def make_arena(subject: Subject, grid: Grid, rows: IntArray, *, plain: bool) -> Arena:
    """Bind the grid to the user's model on some rows of the test data.

    Args:
        subject: Model and data.
        grid: The test data as a matrix.
        rows: Positions of the rows.
        plain: The decisions on the test data are the highest scores, so that ``judge`` may look at scores alone;
            what a search finds is decided by the model itself in the end either way.
    """
    from auditkit.methods.robustness.search import margin_loss

    model = subject.model
    scored = "scores" in model.capabilities

    def decide(points: FloatArray) -> IntArray:
        parts = [model.predict(grid.decode(points[s : s + CHUNK])) for s in range(0, len(points), CHUNK)]
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)

    def look(points: FloatArray) -> FloatArray:
        if not scored:
            return decide(points).astype(np.float64)[:, None]
        parts = [model.predict_scores(grid.decode(points[s : s + CHUNK])) for s in range(0, len(points), CHUNK)]
        return np.concatenate(parts) if parts else np.zeros((0, len(model.classes)))

    def judge(points: FloatArray, y: IntArray) -> tuple[npt.NDArray[np.bool_], FloatArray]:
        if not scored:
            return np.asarray(decide(points) != y), np.zeros(len(points))
        scores = look(points)
        if isinstance(model, DecidesFromScores):
            codes = model.decide(scores)
        else:
            codes = scores.argmax(axis=1).astype(np.int64) if plain else decide(points)
        return np.asarray(codes != y), margin_loss(scores, y)

    return Arena(
        grid=grid,
        rows=rows,
        x=grid.encode(take_rows(subject.test.inputs, rows)),
        y=np.asarray(subject.test.y[rows], dtype=np.int64),
        decide=decide,
        judge=judge,
        look=look,
    )
