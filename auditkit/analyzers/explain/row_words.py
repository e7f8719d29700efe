"""One text: its tokens by gradients, its words by LIME; also the squares of an image whose model has no gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from auditkit.analyzers.explain.explained import explained_outputs
from auditkit.analyzers.explain.row_asked import Asked, RowParts, gradient_output
from auditkit.core.analyzer import Context
from auditkit.core.attribution import Attribution
from auditkit.core.errors import AuditkitError
from auditkit.core.subject import Subject

if TYPE_CHECKING:
    from auditkit.analyzers.explain.differentiated import GradientInputs


def token_parts(
    alone: Subject,
    context: Context,
    inputs: GradientInputs,
    found: dict[str, Attribution],
    asked: Asked,
    notes: tuple[str, ...],
) -> RowParts:
    """One amount a token by each method; special tokens are left out."""
    from auditkit.analyzers.explain.vocabulary import token_words, tokenizer_of

    ids = inputs.tensor.cpu().numpy()[0]
    text = alone.test.inputs[0] if alone.test.modality == "text" else None
    words = token_words(tokenizer_of(alone), ids, text, inputs.special)
    kept = [place for place, present in enumerate(inputs.present()[0]) if present]
    shown = asked.column in asked.shared
    return RowParts(
        names=tuple(f"token {place + 1}" for place in kept),
        values=tuple(words[place] if shown else None for place in kept),
        attributions=tuple((m, a, a.values[0, kept, 0]) for m, a in found.items()),
        output=gradient_output(alone, context),
        notes=notes,
    )


def lime_parts(alone: Subject, context: Context, asked: Asked) -> RowParts:
    """The words of a text, or the squares of an image, that the model has no gradients for."""
    from auditkit.analyzers.explain.lime_parts import AsGiven, image_explanations, text_explanations

    text = alone.test.modality == "text"
    explained = explained_outputs(alone, context, AsGiven, "score", 1000)
    target = int(context.decisions()[0]) if alone.task == "multiclass" else 0
    rows, seeds = np.zeros(1, dtype=np.int64), (context.seed % 2**31,)
    if text:
        (found,) = text_explanations(alone, explained, rows, [target], 1000, seeds)
    else:
        (found,) = image_explanations(alone, explained, rows, [target], 1000, seeds, "grid")
    if not found:
        what = "the text holds no word" if text else "the image holds a missing pixel"
        raise AuditkitError("AK432", what, why="there is nothing that lime could leave out", fix="choose another row")
    one = found[0]
    attribution = Attribution(
        values=one.weights[None, :, None],
        prediction=np.array([[one.output]]),
        method="lime",
        output_space=explained.space,
        output_names=(explained.names[target],),
        status="unverified",
        reason="the weights of a local surrogate have no sum that could be compared with the model's output",
        seed=seeds[0],
        diagnostics={"mean_r2": one.r2} if np.isfinite(one.r2) else {},
    )
    count = len(one.parts)
    shown = text and asked.column in asked.shared
    return RowParts(
        names=tuple(f"word {j + 1}" if text else f"square {part}" for j, part in enumerate(one.parts)),
        values=one.parts if shown else (None,) * count,
        attributions=(("lime", attribution, one.weights),),
        output=explained.names[target],
        notes=("The model gives no gradients, so its output is fitted on copies of the row with parts left out.",),
    )
