"""One row explained: by which methods, of which output, with what proof, and how much of the row may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from auditkit.analyzers.explain.attributed import attribute_all
from auditkit.analyzers.explain.row_asked import (
    METHOD_WORDS,
    PATH_STEPS,
    TOLERANCE,
    Asked,
    RowParts,
    check_installed,
    chosen_methods,
    gradient_methods,
    gradient_output,
    proof_of,
)
from auditkit.core.analyzer import Context
from auditkit.core.explained_row import Explained, ExplainedRow
from auditkit.core.subject import FloatArray, Subject

Kind = Literal["features", "tokens", "squares"]


def explain_row(subject: Subject, alone: Subject, context: Context, asked: Asked) -> ExplainedRow:
    """The explanations of one row.

    Args:
        subject: The whole subject: backgrounds and baselines come from its training rows (test rows without them).
        alone: The same subject whose test data is the row alone.
        context: Of ``alone``: its predictions are those of the row.
        asked: Which row, by which methods, and what of it may be shown.

    Raises:
        UsageError: AK429 a method that does not fit the model or the data; AK431 an optional package is missing.
        AuditkitError: AK432 a row that lime cannot take.
    """
    modality = alone.test.modality
    methods = chosen_methods(alone, asked.methods)
    check_installed(methods)
    if modality == "tabular":
        from auditkit.analyzers.explain.row_table import table_parts

        return _record(subject, alone, context, asked, "features", table_parts(subject, alone, context, methods, asked))
    if methods == ("lime",):
        from auditkit.analyzers.explain.row_words import lime_parts

        kind: Kind = "tokens" if modality == "text" else "squares"
        return _record(subject, alone, context, asked, kind, lime_parts(alone, context, asked))
    return _by_gradients(subject, alone, context, asked, methods)


def _by_gradients(
    subject: Subject, alone: Subject, context: Context, asked: Asked, methods: tuple[str, ...]
) -> ExplainedRow:
    from auditkit.analyzers.explain.differentiated import gradient_inputs
    from auditkit.analyzers.explain.row_image import image_parts, image_pictures
    from auditkit.analyzers.explain.row_words import token_parts

    inputs = gradient_inputs(alone, context, 1, 500, subject)
    found, notes = attribute_all(alone.model, context, inputs, gradient_methods(methods), TOLERANCE, PATH_STEPS)
    wanted = [method for method in methods if method in found] or list(found)
    ordered = {method: found[method] for method in wanted}
    said = (*inputs.notes, *(note.text for note in notes))
    if inputs.embedding is not None:
        parts = token_parts(alone, context, inputs, ordered, asked, said)
        return _record(subject, alone, context, asked, "tokens", parts)
    names, amounts = image_parts(inputs, ordered)
    parts = RowParts(
        names=names,
        values=(None,) * len(names),
        attributions=tuple((m, attribution, amounts[m]) for m, attribution in ordered.items()),
        output=gradient_output(alone, context),
        notes=said,
        pictures=image_pictures(inputs, ordered, shown=asked.column in asked.shared),
        across=len(ordered) + (1 if asked.column in asked.shared else 0),
        shown=asked.column in asked.shared,
    )
    return _record(subject, alone, context, asked, "squares", parts)


def _record(
    subject: Subject, alone: Subject, context: Context, asked: Asked, kind: Kind, parts: RowParts
) -> ExplainedRow:
    first = parts.attributions[0][2]
    explained = tuple(
        Explained(
            method=METHOD_WORDS[method],
            attribution=attribution,
            parts=tuple(float(amount) for amount in amounts),
            proof=proof_of(attribution),
            agreement=None if place == 0 else _agreement(first, amounts),
        )
        for place, (method, attribution, amounts) in enumerate(parts.attributions)
    )
    return ExplainedRow(
        subject=subject.name,
        row=asked.row,
        split=asked.split,
        kind=kind,
        decision=_answer(subject, context.decisions()[0]),
        label=_answer(subject, alone.test.y[0]),
        output=parts.output,
        parts=parts.names,
        values=parts.values,
        explained=explained,
        pictures=parts.pictures,
        across=parts.across,
        shown=parts.shown or any(value is not None for value in parts.values),
        notes=parts.notes,
    )


def _answer(subject: Subject, value: Any) -> str:
    return f"{float(value):.6g}" if subject.task == "regression" else subject.classes[int(value)]


def _agreement(first: FloatArray, other: FloatArray) -> float | None:
    from auditkit.methods.explain.agreement import rank_correlations

    if len(first) < 4 or not all(np.isfinite(amounts).all() for amounts in (first, other)):
        return None
    found: Sequence[float] = rank_correlations(np.abs(first)[None, :], np.abs(other)[None, :]).tolist()
    return found[0] if found else None
