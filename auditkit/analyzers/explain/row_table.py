"""One row of a table: Shapley values, LIME and gradients, one amount a feature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from auditkit.analyzers.explain.attributed import WORDS, attribute_all
from auditkit.analyzers.explain.attributions import STEADIED
from auditkit.analyzers.explain.explained import Explained, encoded_background, explained_outputs, whole_columns
from auditkit.analyzers.explain.lime_measures import UNTOLD
from auditkit.analyzers.explain.row_asked import (
    GRADIENT_METHODS,
    PATH_STEPS,
    TOLERANCE,
    Asked,
    RowParts,
    gradient_methods,
)
from auditkit.core.analyzer import Context
from auditkit.core.attribution import Attribution
from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import FloatArray, Subject

Found = dict[str, tuple[Attribution, FloatArray]]


def table_parts(subject: Subject, alone: Subject, context: Context, methods: tuple[str, ...], asked: Asked) -> RowParts:
    """One amount a feature by each method, of the positive class, the decided class or the value.

    Raises:
        UsageError: AK429 gradients at inputs that are not the table's columns.
        AuditkitError: AK432 a missing value, or none that lime varies.
    """
    from auditkit.subjects.codec import make_codec

    codec = make_codec(subject.test, *([] if subject.train is None else [subject.train]))
    background, sentence = encoded_background(subject, context, codec, asked.background)
    explained = explained_outputs(alone, context, codec, "score", asked.budget)
    matrix = np.asarray(codec.encode(alone.test.inputs), dtype=np.float64)
    column = int(context.decisions()[0]) if subject.task == "multiclass" else 0
    names = tuple(codec.names)
    notes = [sentence]
    found: dict[str, tuple[Attribution, FloatArray]] = {}
    engines: dict[str, Callable[[], tuple[Attribution, FloatArray]]] = {
        "shap": lambda: _shapley(alone, context, explained, codec, (matrix, background), (column, asked.budget)),
        "lime": lambda: _lime_table(context, explained, matrix, background, codec, column),
    }
    for method in methods:
        if method in engines:
            found[method] = engines[method]()
    if any(method in GRADIENT_METHODS for method in methods):
        found |= _table_gradients(subject, alone, context, methods, len(names))
    if "shap" in found:
        params = found["shap"][0].params
        notes.append("The base value is the model's mean over the background; an amount is what a feature adds to it.")
        notes.append(f"Engine: {params['engine']}; {params['background_use']}.")
        notes += [f"Dropped: {params['tried']}."] if params["tried"] else []
        notes += [STEADIED] if "control" in params else []
    if "lime" in found and found["lime"][0].params["untold"]:
        untold = found["lime"][0].params["untold"]
        notes.append(f"LIME has no weight for {untold}: {UNTOLD}.")
    values = tuple(_cell(alone.test.inputs, j) if name in asked.shared else None for j, name in enumerate(names))
    return RowParts(
        names=names,
        values=values,
        attributions=tuple((method, *found[method]) for method in methods),
        output=explained.names[column],
        notes=tuple(notes),
    )


def _shapley(
    alone: Subject,
    context: Context,
    explained: Explained,
    codec: Any,
    tables: tuple[FloatArray, FloatArray],
    asked: tuple[int, int],
) -> tuple[Attribution, FloatArray]:
    from auditkit.methods.explain.additivity import checked
    from auditkit.methods.explain.game import make_game
    from auditkit.methods.explain.shap_engine import explain_scores

    column, budget = asked
    matrix, background = tables
    players = [(j,) for j in range(matrix.shape[1])]
    game = make_game(explained.predict, matrix, background, players, inputs=codec.decode)
    attribution = explain_scores(
        game,
        model=getattr(alone.model, "estimator", None),
        space=explained.space,
        column=explained.column,
        budget=max(budget, 4 * (matrix.shape[1] - 1), 8),
        seed=context.seed % 2**32,
    )
    attribution = checked(
        dataclasses.replace(attribution, prediction=explained.outputs(context.scores()), output_names=explained.names)
    )
    return attribution, attribution.values[0, :, column]


def _lime_table(
    context: Context, explained: Explained, matrix: FloatArray, background: FloatArray, codec: Any, column: int
) -> tuple[Attribution, FloatArray]:
    from auditkit.analyzers.explain.lime import CODED
    from auditkit.methods.explain.lime_batched import batched_lime
    from auditkit.methods.explain.lime_table import LimeTable

    names = tuple(codec.names)
    table = LimeTable(
        reference=background,
        names=names,
        categorical=tuple(
            j
            for j, (coded, kind) in enumerate(zip(codec.categorical, codec.kinds, strict=True))
            if coded or kind in CODED
        ),
        whole=whole_columns(codec),
    )
    seed = context.seed % 2**31
    result = batched_lime(explained.predict, matrix, table, samples=5000, seed=seed, targets=[column])
    if len(result.rows) == 0:
        raise AuditkitError(
            "AK432", "the row holds a missing value, which lime cannot sample around", fix="--method shap"
        )
    if result.untold.all():
        raise AuditkitError(
            "AK432",
            "none of the row's values lies in a bin or category that varies over the rows that lime draws",
            why="they are drawn around the training rows (without such around the test rows)",
            fix="--method shap",
        )
    attribution = dataclasses.replace(
        result.attribution(names, explained.space, seed),
        output_names=(explained.names[column],),
        params={"untold": ", ".join(name for name, untold in zip(names, result.untold[0], strict=True) if untold)},
    )
    return attribution, attribution.values[0, :, 0]


def _table_gradients(
    subject: Subject, alone: Subject, context: Context, methods: tuple[str, ...], features: int
) -> dict[str, tuple[Attribution, FloatArray]]:
    from auditkit.analyzers.explain.differentiated import gradient_inputs

    inputs = gradient_inputs(alone, context, 1, 500, subject)
    if inputs.tensor.ndim != 2 or inputs.tensor.shape[1] != features:
        raise UsageError(
            "AK429",
            "the module takes other columns than the table has",
            why="gradients at its inputs cannot be told by the table's columns",
            fix="--method shap",
        )
    found, notes = attribute_all(alone.model, context, inputs, gradient_methods(methods), TOLERANCE, PATH_STEPS)
    lacking = [method for method in methods if method in GRADIENT_METHODS and method not in found]
    if lacking:
        raise UsageError("AK429", f"{WORDS[lacking[0]]} does not apply", why=notes[0].text, fix="leave --method out")
    return {m: (a, a.values[0, :, 0]) for m, a in found.items() if m in methods}


def _cell(inputs: Any, column: int) -> str:
    value = inputs.iloc[0, column] if hasattr(inputs, "iloc") else inputs[0][column]
    if isinstance(value, float | np.floating):
        return f"{float(value):.6g}"
    return str(value)
