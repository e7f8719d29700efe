"""From a subject and the number of a row to its explanation; the model is asked about that row, not about all."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from auditkit.core.analyzer import Context
from auditkit.core.capability import missing
from auditkit.core.errors import UsageError
from auditkit.core.generators import preserved_generators
from auditkit.core.seeds import analyzer_seed
from auditkit.core.subject import Subject
from auditkit.execution.predictions import PredictionCache

if TYPE_CHECKING:
    from auditkit.analyzers.explain.row_asked import Asked
    from auditkit.core.explained_row import ExplainedRow


def explain_one(subject: Subject, asked: Asked, *, seed: int = 0, device: str = "cpu") -> ExplainedRow:
    """Explain one row of ``subject``.

    Args:
        subject: Model and data.
        asked: Which row, by which methods, and what of it may be shown.
        seed: Seed of everything random.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: AK426 no such row or split, AK427 no model to ask or one that gives labels only; see also
            :func:`auditkit.analyzers.explain.one_row.explain_row`.
    """
    from auditkit.analyzers.explain.one_row import explain_row

    lacking = missing({"model", "inputs", "scores"}, subject)
    if lacking:
        raise UsageError(
            "AK427",
            "this model cannot be explained",
            why=lacking.split(": ", 1)[1],
            fix="audit the model itself, with its scores: auditkit needs [model] in the configuration",
        )
    if asked.split == "train" and subject.train is None:
        raise UsageError("AK426", "there are no training rows", fix="--split test, or give [data] train")
    data = subject.split(asked.split)
    if not 0 <= asked.row < data.n:
        raise UsageError(
            "AK426",
            f"there is no row {asked.row} among the {data.n:,} {asked.split} rows",
            why="rows are numbered from 0, in the order of the file",
            fix=f"--row 0 to --row {data.n - 1}",
        )
    alone = dataclasses.replace(subject, test=data.take(np.array([asked.row], dtype=np.int64)))
    sequence = analyzer_seed(seed, "explain", {"row": asked.row, "split": asked.split})
    context = Context(sequence=sequence, predictions=PredictionCache(alone), device=device)
    with preserved_generators():
        return explain_row(subject, alone, context, asked)
