"""Saved predictions in Parquet, counted by DuckDB as they are read: memory for the combinations, not for the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.core.counted import CountedRows
from auditkit.core.errors import UsageError
from auditkit.core.subject import Dataset, FloatArray, ScoreSpace, Subject
from auditkit.subjects.alignment import MAX_GROUPS, sensitive_columns
from auditkit.subjects.files import existing_file, literal_path, opened_table
from auditkit.subjects.labels import encode_labels, positive_code
from auditkit.subjects.saved import check_pair, check_threshold, predicted_names
from auditkit.subjects.tasks import positive_of

SCORE_BINS = 4096
MAX_LABELS = 1000
_MEMORY = "300MB"
_FLOOR = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True)
class ParquetFacts:
    """What the footer of a Parquet file says: rows, and column -> DuckDB type."""

    n_rows: int
    kinds: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Which column is what."""

    target: str
    prediction: str | None
    score: str | None
    sensitive: tuple[str, ...]
    threshold: float | None = None


class CountedPredictions:
    """In the place of a model: nobody can be asked, and the rows that were predicted are not kept either."""

    classes: tuple[str, ...]
    score_space: ScoreSpace | None
    capabilities: frozenset[str]
    kind: str
    fingerprint: str | None

    def __init__(self, classes: tuple[str, ...], scored: bool, fingerprint: str) -> None:
        self.classes = classes
        self.score_space = "probability" if scored else None
        self.capabilities = frozenset({"labels", "scores"} if scored else {"labels"})
        self.kind = "saved predictions"
        self.fingerprint = fingerprint

    def predict(self, inputs: Any) -> npt.NDArray[Any]:
        """Refused: only counts are there.

        Raises:
            UsageError: AK226.
        """
        raise UsageError("AK226", "the predictions were counted as they were read, not kept", fix='set rows = "keep"')

    def predict_scores(self, inputs: Any) -> FloatArray:
        """Refused, as :meth:`predict` is."""
        return np.asarray(self.predict(inputs), dtype=np.float64)


def parquet_facts(path: Path) -> ParquetFacts:
    """Rows and columns of a Parquet file, from its footer alone.

    Raises:
        LoadError: AK230 no such file, AK231 not Parquet.
    """
    (rows,), described = (
        _ask(path, "SELECT num_rows FROM parquet_file_metadata(?)")[0],
        _ask(path, "DESCRIBE SELECT * FROM read_parquet(?)"),
    )
    return ParquetFacts(int(rows), {str(row[0]): str(row[1]) for row in described})


def count_predictions(
    path: Path,
    columns: Columns,
    *,
    positive: Any = None,
    classes: Sequence[Any] | None = None,
    name: str = "saved predictions",
) -> Subject:
    """The subject of a Parquet file of predictions, in memory for its distinct combinations.

    Two passes: one for missing values and ranges, one that groups. Decisions come from ``prediction``, or from
    scores of the threshold (0.5) and above. Scores of a binary task go into 4,096 equal bins, with exact sums of their
    losses.

    Args:
        path: The file.
        columns: Which column is what; all are there.
        positive: The positive class of a binary task.
        classes: All class labels, where some do not occur.
        name: The name on the card.

    Raises:
        UsageError: As ``make_predictions_subject``, and AK252 for labels that are no classes.
        LoadError: AK231 unreadable.
    """
    if columns.threshold is not None:
        one_column = None if columns.score is None else np.empty(0)
        check_threshold(columns.threshold, "probability", columns.prediction, one_column)
    _check_values(path, columns)
    cells = _cells(path, columns)
    decided = cells["decision"] if columns.prediction is not None else None
    names = predicted_names(cells["label"], decided, classes)
    scored = columns.score is not None
    check_pair(cells["label"], decided, names, np.empty(0) if scored else None, positive)
    task = "binary" if len(names) == 2 else "multiclass"
    code = positive_of(names, positive, task)  # type: ignore[arg-type]
    y = encode_labels(cells["label"], names, where="y_true")
    if decided is not None:
        decision = encode_labels(decided, names, where="y_pred")
    else:
        chosen = positive_code(names, positive)
        decision = np.where(np.asarray(cells["decision"], dtype=bool), chosen, 1 - chosen).astype(np.int64)
    counted = CountedRows(
        rows=np.asarray(cells["rows"], dtype=np.int64),
        decided=decision,
        bins=SCORE_BINS if scored else 0,
        score_bin=np.asarray(cells["bin"], dtype=np.int64) if scored else np.zeros(len(y), dtype=np.int64),
        losses=_losses(cells, y == code) if scored else {},
    )
    hashed = _file_hash(path)
    groups = {column: cells[f"group{place}"] for place, column in enumerate(columns.sensitive)}
    dataset = Dataset(
        inputs=np.empty((0, 0)),
        y=y,
        sensitive=sensitive_columns(groups or None, None, None, len(y), where="sensitive"),
        fingerprint=_named_hash(hashed, "rows", columns.target, *columns.sensitive, *names),
        counted=counted,
    )
    cut = () if columns.threshold is None else (repr(columns.threshold),)
    model = CountedPredictions(
        names, scored, _named_hash(hashed, "predictions", columns.prediction or "", columns.score or "", *cut, *names)
    )
    return Subject(name=name, model=model, test=dataset, task=task, positive=code)  # type: ignore[arg-type]


def _check_values(path: Path, columns: Columns) -> None:
    """Missing labels, decisions and scores, scores outside 0 to 1, and columns of too many values, before grouping."""
    label = _quoted(columns.target)
    parts = ["count(*)", f"count({label})", f"approx_count_distinct({label})"]
    decision = label if columns.prediction is None else _quoted(columns.prediction)
    parts += [f"count({decision})", f"approx_count_distinct({decision})"]
    score = "0.5" if columns.score is None else f"{_quoted(columns.score)}::DOUBLE"
    parts += [f"count(*) FILTER (WHERE {score} IS NULL OR NOT isfinite({score}))"]
    parts += [f"count(*) FILTER (WHERE {score} < 0 OR {score} > 1)", f"min({score})", f"max({score})"]
    parts += [f"approx_count_distinct({_quoted(name)})" for name in columns.sensitive]
    found = _ask(path, f"SELECT {', '.join(parts)} FROM read_parquet(?)")[0]  # noqa: S608 - names are quoted
    n, labels, kinds, decisions, decided_kinds, lost, outside, low, high, *groups = found
    if n == 0:
        raise UsageError("AK200", "y_true has no rows", where="y_true", fix="give at least one row")
    for where, what, known, distinct in (
        ("y_true", "labels", labels, kinds),
        ("y_pred", "decisions", decisions, decided_kinds),
    ):
        if known < n:
            raise UsageError(
                "AK203", f"{n - known:,} of {n:,} {what} are missing", where=where, fix="drop the rows without one"
            )
        if distinct > MAX_LABELS:
            raise UsageError(
                "AK252",
                f"there are about {distinct:,} distinct {what}; at most {MAX_LABELS:,} can be classes",
                where=where,
                fix="name the column that holds the class",
            )
    if lost or outside:
        what = "missing or infinite" if lost else "not probabilities: they lie outside 0 to 1"
        raise UsageError(
            "AK248",
            f"{lost or outside:,} of {n:,} scores are {what}",
            where="scores",
            why=f"they range from {low:g} to {high:g}" if outside and not lost else None,
            fix="mend or drop those rows, or leave the score out",
        )
    for name, distinct in zip(columns.sensitive, groups, strict=True):
        if distinct > 2 * MAX_GROUPS:
            raise UsageError(
                "AK218",
                f"sensitive column {name!r} has about {distinct:,} distinct values; at most {MAX_GROUPS} can be groups",
                where="sensitive",
                fix="bin it first, or name a column of a few groups",
            )


def _cells(path: Path, columns: Columns) -> Any:
    """A DataFrame with a line for each combination: groups, label, decision, score bin, rows, sums of losses."""
    chosen = [f"{_quoted(name)} AS group{place}" for place, name in enumerate(columns.sensitive)]
    chosen += [f"{_quoted(columns.target)} AS label"]
    score = None if columns.score is None else f"{_quoted(columns.score)}::DOUBLE"
    least = 0.5 if columns.threshold is None else columns.threshold
    decision = f"{score} >= {least!r}" if columns.prediction is None else _quoted(columns.prediction)
    chosen += [f"{decision} AS decision"]
    sums = ["count(*) AS rows"]
    if score is not None:
        chosen += [f"least(floor({score} * {SCORE_BINS})::INTEGER, {SCORE_BINS - 1}) AS bin"]
        for side, p in (("positive", score), ("negative", f"(1 - {score})")):
            log = f"-ln(least(greatest({p}, {_FLOOR}), 1 - {_FLOOR}))"
            square = f"(1 - {p}) * (1 - {p})"
            for kind, loss in (("log", log), ("square", square)):
                sums += [f"sum({loss}) AS {kind}_{side}", f"sum(({loss}) * ({loss})) AS {kind}2_{side}"]
    query = f"SELECT {', '.join(chosen + sums)} FROM read_parquet(?) GROUP BY ALL"  # noqa: S608 - names are quoted
    return _ask(path, query, frame=True)


def _losses(cells: Any, positive: npt.NDArray[np.bool_]) -> dict[str, FloatArray]:
    """Sums of log loss and squared error of each combination, and of their squares, by the side its label is on."""

    def pick(column: str) -> FloatArray:
        sides = (np.asarray(cells[f"{column}_{side}"], dtype=np.float64) for side in ("positive", "negative"))
        return np.where(positive, *sides)

    return {
        "log_loss": np.stack([pick("log"), pick("log2")], axis=1),
        "brier_score": np.stack([pick("square"), pick("square2")], axis=1),
    }


def _ask(path: Path, query: str, *, frame: bool = False) -> Any:
    file = existing_file(path)
    fix = "look at the file with another reader; it may be cut short"
    with opened_table(file, fix, memory_limit=_MEMORY, preserve_insertion_order="false") as connection:
        answer = connection.execute(query, [literal_path(str(file.resolve()))])
        return answer.df() if frame else answer.fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _named_hash(*parts: str) -> str:
    """A hash of the file's own hash and the columns that were used."""
    hasher = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8")
        hasher.update(f"{len(encoded)}:".encode("ascii") + encoded)
    return "sha256:" + hasher.hexdigest()
