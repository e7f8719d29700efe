"""LIME through its library, with the guards that it lacks: tables (the reference of the batched engine), texts, images.

Rows that lime cannot take are skipped and counted, a row's answer depends on the seed and the row alone, nothing is
printed, and every explanation carries the weighted R2 of its surrogate. This is the one module that imports lime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.lime_batched import untold_columns
from auditkit.methods.explain.lime_sampling import make_columns
from auditkit.methods.explain.lime_table import LimeResult, LimeTable, Selection, checked_samples
from auditkit.methods.explain.quiet import quiet

Segments = Literal["grid", "quickshift", "slic", "felzenszwalb"]
_CELLS_A_SIDE = 7


@dataclass(frozen=True, kw_only=True)
class PartsExplanation:
    """One text or image explained by its parts.

    Attributes:
        row: Position in what was given.
        parts: The words in the order of the text, or the numbers of the segments.
        weights: One a part.
        r2: Weighted R2 of the surrogate; NaN where the model's output does not change.
        output: The model's own output.
        segments: ``(h, w)`` number of the part that each pixel belongs to; ``None`` for texts.
    """

    row: int
    parts: tuple[str, ...]
    weights: FloatArray
    r2: float
    output: float
    segments: IntArray | None = None


def library_lime(  # noqa: PLR0913 - one keyword for each choice that lime offers
    predict: Callable[[FloatArray], FloatArray],
    rows: FloatArray,
    table: LimeTable,
    *,
    samples: int = 5000,
    seed: int = 0,
    targets: Sequence[int] | None = None,
    selection: Selection = "none",
    features: int | None = None,
) -> LimeResult:
    """LIME weights of one output a row, by lime itself; see :func:`auditkit.methods.explain.lime_batched.batched_lime`.

    Every row draws its own samples. What lime lacks: a constant column keeps its value (lime hands the model another),
    and features that the samples do not tell are left out as by
    :func:`auditkit.methods.explain.lime_batched.explain_samples`.

    Source: Ribeiro, Singh and Guestrin (2016), algorithm 1.
    """
    checked_samples(samples)
    reference, labels, dropped = table.complete()
    usable = np.flatnonzero(np.isfinite(rows).all(axis=1)).astype(np.int64)
    weights = np.zeros((len(usable), rows.shape[1]))
    intercepts, r2, outputs = np.zeros(len(usable)), np.zeros(len(usable)), np.zeros(len(usable))
    explainer = _table_explainer(reference, labels, table, selection)
    untold = np.zeros((len(usable), rows.shape[1]), dtype=np.bool_)
    constant = np.array([column.constant for column in make_columns(table, reference, labels)])
    fit = explainer.base.explain_instance_with_data
    for position, row in enumerate(usable):
        column = 0 if targets is None else int(targets[int(row)])
        seen: list[FloatArray] = []

        def ask(
            matrix: npt.NDArray[Any], column: int = column, seen: list[FloatArray] = seen
        ) -> npt.NDArray[np.float64]:
            drawn = np.array(matrix, dtype=np.float64)
            drawn[1:, constant] = reference[0, constant]
            seen.append(_column(predict(drawn), column))
            return seen[-1]

        def told(
            data: FloatArray,
            outputs: FloatArray,
            distances: FloatArray,
            *others: Any,
            position: int = position,
            **settings: Any,
        ) -> Any:
            untold[position] = constant | untold_columns(data)
            if untold[position].any():
                apart = not (data[0] == data[1])[untold[position]].all()
                data = np.where(untold[position], data[1], data)
                distances = np.linalg.norm(data - data[0], axis=1)
                distances[0] = np.inf if apart else 0.0
            return fit(data, outputs, distances, *others, **settings)

        explainer.base.explain_instance_with_data = told
        with quiet(seed=0):
            _reseed(explainer, np.random.SeedSequence([seed, int(row)]))
            count = rows.shape[1] if features is None else features
            explanation = explainer.explain_instance(rows[row], ask, num_features=count, num_samples=samples)
        fitted, r2[position] = _fitted(explanation, 1, seen[0])
        for feature, weight in fitted.items():
            weights[position, feature] = 0.0 if untold[position, feature] else weight
        if untold[position].all():
            r2[position] = np.nan
        intercepts[position], outputs[position] = float(explanation.intercept[1]), float(seen[0][0])
    return LimeResult(
        rows=usable,
        weights=weights,
        untold=untold,
        intercepts=intercepts,
        r2=r2,
        outputs=outputs,
        skipped=len(rows) - len(usable),
        reference_dropped=dropped,
        n_evals=samples * len(usable),
        engine="lime",
    )


def lime_texts(
    predict: Callable[[Any], FloatArray],
    texts: Sequence[str | None],
    *,
    samples: int = 500,
    seed: int = 0,
    targets: Sequence[int] | None = None,
) -> tuple[PartsExplanation, ...]:
    """Weights of the words of each text: how the output changes where words are left out.

    Args:
        predict: Texts -> outputs ``(m, k)``.
        texts: A list, array or Series of texts; those that are missing, or hold no word, are left out.
        samples: Shortened copies a text; at least 10.
        seed: The same seed gives the same bits.
        targets: Output column explained of each text; column 0 when ``None``.

    Raises:
        UsageError: AK505 too few samples.

    Source: Ribeiro, Singh and Guestrin (2016), section 3.
    """
    from lime.lime_text import IndexedString

    checked_samples(samples)
    found = []
    for row, text in enumerate(list(texts)):
        if not isinstance(text, str) or not _has_a_word(text):
            continue
        column = 0 if targets is None else int(targets[row])
        words = IndexedString(text)
        asked: list[FloatArray] = []

        def ask(shortened: list[str], column: int = column, asked: list[FloatArray] = asked) -> FloatArray:
            asked.append(_column(predict(list(shortened)), column))
            return asked[-1][:, None]

        with quiet(seed=0):
            explainer = _text_explainer(np.random.SeedSequence([seed, row]))
            explanation = explainer.explain_instance(
                text, ask, labels=(0,), num_features=words.num_words(), num_samples=samples
            )
        weights, r2 = _fitted(explanation, 0, asked[0])
        parts = tuple(str(words.word(place)) for place in range(words.num_words()))
        found.append(
            PartsExplanation(
                row=row,
                parts=parts,
                weights=np.array([weights.get(place, 0.0) for place in range(len(parts))]),
                r2=r2,
                output=float(asked[0][0]),
            )
        )
    return tuple(found)


def lime_images(
    predict: Callable[[FloatArray], FloatArray],
    images: FloatArray,
    *,
    samples: int = 500,
    seed: int = 0,
    targets: Sequence[int] | None = None,
    segments: Segments = "grid",
) -> tuple[PartsExplanation, ...]:
    """Weights of the segments of each image: how the output changes where a segment takes its mean colour.

    Args:
        predict: Images ``(m, h, w, c)`` -> outputs ``(m, k)``.
        images: ``(n, h, w, c)`` with one or three channels; images with a missing pixel are left out.
        samples: Altered copies an image; at least 10.
        seed: The same seed gives the same bits.
        targets: Output column explained of each image; column 0 when ``None``.
        segments: ``grid`` (about seven squares a side), or a segmentation of scikit-image.

    Raises:
        UsageError: AK505 too few samples; AK478 images that lime cannot take.

    Source: Ribeiro, Singh and Guestrin (2016), section 3.
    """
    from lime.lime_image import LimeImageExplainer

    checked_samples(samples)
    images = np.asarray(images, dtype=np.float64)
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UsageError(
            "AK478", f"lime explains grey and colour images, not arrays of shape {images.shape}", fix="use occlusion"
        )
    grey = images.shape[-1] == 1
    found = []
    for row, image in enumerate(images):
        if not np.isfinite(image).all():
            continue
        column = 0 if targets is None else int(targets[row])
        parts = _segments(image, segments)
        asked: list[FloatArray] = []

        def ask(
            altered: npt.NDArray[Any], column: int = column, asked: list[FloatArray] = asked
        ) -> npt.NDArray[np.float64]:
            plain = np.asarray(altered, dtype=np.float64)
            asked.append(_column(predict(plain[..., :1] if grey else plain), column))
            return asked[-1][:, None]

        with quiet(seed=0):
            explainer = LimeImageExplainer(random_state=_state(np.random.SeedSequence([seed, row])))
            explanation = explainer.explain_instance(
                np.repeat(image, 3, axis=2) if grey else image,
                ask,
                labels=(0,),
                top_labels=None,
                num_samples=samples,
                batch_size=256,
                segmentation_fn=lambda _image, parts=parts: parts,
                random_seed=0,
            )
        outputs = np.concatenate(asked)
        weights, r2 = _fitted(explanation, 0, outputs)
        count = int(parts.max()) + 1
        found.append(
            PartsExplanation(
                row=row,
                parts=tuple(f"segment {place}" for place in range(count)),
                weights=np.array([weights.get(place, 0.0) for place in range(count)]),
                r2=r2,
                output=float(outputs[0]),
                segments=parts,
            )
        )
    return tuple(found)


def _segments(image: FloatArray, kind: Segments) -> IntArray:
    """Segment numbers ``(h, w)`` from 0 without gaps."""
    height, width = image.shape[:2]
    if kind == "grid":
        step = max(1, -(-max(height, width) // _CELLS_A_SIDE))
        across = -(-width // step)
        cells = np.arange(height)[:, None] // step * across + np.arange(width)[None, :] // step
        return np.asarray(cells, dtype=np.int64)
    from lime.wrappers.scikit_image import SegmentationAlgorithm

    settings: dict[str, dict[str, Any]] = {
        "slic": {"n_segments": _CELLS_A_SIDE**2, "start_label": 0},
        "quickshift": {"kernel_size": 4, "max_dist": 200, "ratio": 0.2, "rng": 0},
        "felzenszwalb": {},
    }
    with quiet(seed=0):
        found = SegmentationAlgorithm(kind, **settings[kind])(
            np.repeat(image, 3, axis=2) if image.shape[-1] == 1 else image
        )
    return np.unique(found, return_inverse=True)[1].reshape(height, width).astype(np.int64)


def _has_a_word(text: str) -> bool:
    return any(character.isalnum() or character == "_" for character in text)


def _fitted(explanation: Any, label: int, outputs: FloatArray) -> tuple[dict[int, float], float]:
    """Weights by part, and R2; no weights and NaN where the model gave all samples the same output."""
    if not np.ptp(outputs) > 0.0:
        return {}, float("nan")
    return {int(part): float(weight) for part, weight in explanation.local_exp[label]}, float(explanation.score)


def _column(outputs: FloatArray, column: int) -> FloatArray:
    outputs = np.asarray(outputs, dtype=np.float64)
    return outputs if outputs.ndim == 1 else outputs[:, column]


def _state(sequence: np.random.SeedSequence) -> Any:
    return np.random.RandomState(np.random.MT19937(sequence))  # the kind of generator that lime takes


def _text_explainer(sequence: np.random.SeedSequence) -> Any:
    from lime.lime_text import LimeTextExplainer

    return LimeTextExplainer(random_state=_state(sequence), feature_selection="none")


def _table_explainer(reference: FloatArray, labels: IntArray | None, table: LimeTable, selection: Selection) -> Any:
    """An explainer in regression mode: it then explains any score, and does not insist that rows sum to one."""
    with quiet(seed=0):
        from lime.lime_tabular import LimeTabularExplainer

        return LimeTabularExplainer(
            reference,
            mode="regression",
            training_labels=labels,
            feature_names=list(table.names),
            categorical_features=list(table.categorical),
            discretize_continuous=table.discretizer is not None,
            discretizer=table.discretizer or "quartile",
            feature_selection=selection,
            random_state=0,
        )


def _reseed(explainer: Any, sequence: np.random.SeedSequence) -> None:
    """Start lime's three generators from the row's own seed: its answers then do not depend on earlier calls."""
    state = _state(sequence)
    explainer.random_state = state
    explainer.base.random_state = state
    if explainer.discretizer is not None:
        explainer.discretizer.random_state = state
