"""LIME of texts by their words and of images by their segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from auditkit.analyzers.explain.explained import Explained
from auditkit.analyzers.explain.lime_measures import fidelity, stability
from auditkit.core.analyzer import Note, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Scalar
from auditkit.core.subject import FloatArray, IntArray, Subject, take_rows
from auditkit.methods.explain.pixels import ImageLayout

if TYPE_CHECKING:
    from auditkit.methods.explain.lime_engine import PartsExplanation, Segments


def text_explanations(
    subject: Subject, explained: Explained, rows: IntArray, targets: Sequence[int], samples: int, seeds: Sequence[int]
) -> tuple[tuple[PartsExplanation, ...], ...]:
    """Explanations of the texts ``rows``, one tuple a seed."""
    from auditkit.methods.explain.lime_engine import lime_texts

    texts = take_rows(subject.test.inputs, rows)
    return tuple(lime_texts(explained.predict, texts, samples=samples, seed=seed, targets=targets) for seed in seeds)


def image_explanations(
    subject: Subject,
    explained: Explained,
    rows: IntArray,
    targets: Sequence[int],
    samples: int,
    seeds: Sequence[int],
    segments: Segments,
) -> tuple[tuple[PartsExplanation, ...], ...]:
    """Explanations of the images ``rows``, one tuple a seed.

    Raises:
        UsageError: AK478 images that are neither grey nor in three colours.
    """
    from auditkit.methods.explain.lime_engine import lime_images

    images = np.asarray(take_rows(subject.test.inputs, rows))
    layout = ImageLayout.of(images)

    def predict(altered: FloatArray) -> FloatArray:
        return explained.predict(layout.back(altered))

    plain = layout.plain(images)
    return tuple(
        lime_images(predict, plain, samples=samples, seed=seed, targets=targets, segments=segments) for seed in seeds
    )


def parts_measured(
    found: tuple[tuple[PartsExplanation, ...], ...],
    subject: Subject,
    rows: IntArray,
    identity: dict[str, Scalar],
) -> Iterator[Produced]:
    """Fit and stability of explanations by parts.

    Raises:
        NotApplicable: AK479 no text holds a word, or no image is complete.
    """
    words = subject.test.modality == "text"
    first = found[0]
    if len(first) < len(rows):
        lacking = "hold no word" if words else "hold a missing pixel"
        yield Note(f"{len(rows) - len(first)} of {len(rows):,} rows {lacking} and were left out.")
    if not first:
        raise NotApplicable(
            "AK479",
            "no sampled text holds a word" if words else "every sampled image holds a missing pixel",
            fix="check the inputs",
        )
    data = subject.test.take(rows[[explanation.row for explanation in first]])
    yield from fidelity(np.array([explanation.r2 for explanation in first]), data, identity)
    weights = [[explanation.weights for explanation in seed] for seed in found]
    yield stability(weights, data, identity, "words" if words else "segments")


class AsGiven:
    """In the place of a table codec where the model's inputs need none."""

    @staticmethod
    def decode(inputs: Any) -> Any:
        """The inputs themselves."""
        return inputs
