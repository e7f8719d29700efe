"""Rows shown with their explanations, where they were asked for: images under maps, texts with coloured tokens."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from auditkit.analyzers.explain.attributed import WORDS
from auditkit.core.evidence import ImageGrid, Picture, TokenRow, TokenRows
from auditkit.core.subject import FloatArray, IntArray, Subject

if TYPE_CHECKING:
    from auditkit.analyzers.explain.differentiated import GradientInputs
    from auditkit.core.attribution import Attribution

_SIDE = 64
UNSIGNED = ("saliency", "smooth_grad", "grad_cam")


def image_rows(
    found: dict[str, Attribution], inputs: GradientInputs, subject: Subject, decided: Any, count: int
) -> ImageGrid:
    """Each of the first ``count`` rows as a line of pictures: the input, then the map of every method over it."""
    pictures: list[Picture] = []
    usable = [method for method, attribution in found.items() if np.isfinite(attribution.values).all()]
    images = inputs.tensor.detach().cpu().double().numpy()
    for place in range(min(count, len(images))):
        grey = grey_plane(images[place])
        pictures.append(picture(f"{row_label(subject, inputs, decided, place)}: input", np.rint(grey * 255), "grey"))
        for method in usable:
            values = found[method].values[place, ..., 0]
            heat = heat_plane(flat_plane(np.abs(values) if method in UNSIGNED else values))
            heat = resized(heat, grey.shape)
            cells = np.rint(grey * 15) * 16 + heat
            failed = " (failed its check)" if found[method].status == "failed" else ""
            nothing = "" if values.any() else " (zero everywhere)"
            pictures.append(picture(f"{WORDS[method]}{nothing}{failed}", cells, "overlay"))
    return ImageGrid(
        name="explain.saliency.rows",
        title=f"{min(count, len(images))} images and where {len(usable)} methods see the evidence",
        pictures=tuple(pictures),
        raw=True,
        across=1 + len(usable),
        note="Vermilion speaks for the class explained, blue against it; saliency, SmoothGrad and GradCAM have no "
        "sign. Each map is scaled to its own largest values (the 99th percentile).",
    )


def text_rows(
    found: dict[str, Attribution],
    inputs: GradientInputs,
    subject: Subject,
    decided: Any,
    words: tuple[tuple[str, ...], ...],
) -> TokenRows:
    """The first rows as tokens, coloured by integrated gradients; special tokens have no value."""
    attribution = found["integrated_gradients"]
    present = inputs.present()
    rows = []
    for place, tokens in enumerate(words):
        values = attribution.values[place, :, 0]
        kept = [t for t in range(len(tokens)) if present[place][t]]
        rows.append(
            TokenRow(
                label=row_label(subject, inputs, decided, place),
                tokens=tuple(tokens[t] for t in kept),
                values=tuple(float(values[t]) for t in kept),
            )
        )
    failed = f" They failed their check: {attribution.reason}." if attribution.status == "failed" else ""
    return TokenRows(
        name="explain.saliency.texts",
        title=f"{len(rows)} texts and what each token adds to the score",
        rows=tuple(rows),
        unit=attribution.output_space,
        note="Integrated gradients at the token embedding, summed over its width; padding and other special tokens are "
        f"left out. Tokens over a solid line raise the score explained, those over a broken one lower it.{failed}",
    )


def row_label(subject: Subject, inputs: GradientInputs, decided: Any, place: int) -> str:
    """``row 17, labelled cat, decided dog``."""
    row = int(inputs.rows[place])
    if subject.task == "regression":
        return f"row {row}, value {float(subject.test.y[row]):.4g}, predicted {float(decided[place]):.4g}"
    label, decision = subject.classes[int(subject.test.y[row])], subject.classes[int(decided[place])]
    return f"row {row}, labelled {label}, decided {decision}"


def grey_plane(image: FloatArray) -> FloatArray:
    """One image ``(h, w)`` from 0 (its darkest) to 1, channels averaged."""
    plane = flat_plane(image, mean=True)
    low, high = float(plane.min()), float(plane.max())
    return (plane - low) / (high - low) if high > low else np.full_like(plane, 0.5)


def flat_plane(values: FloatArray, *, mean: bool = False) -> FloatArray:
    """One plane ``(h, w)``: channels summed, or averaged."""
    if values.ndim == 2:
        return values
    axis = 2 if values.shape[-1] in (1, 3, 4) and values.shape[0] not in (1, 3, 4) else 0
    return np.asarray(values.mean(axis=axis) if mean else values.sum(axis=axis), dtype=np.float64)


def heat_plane(plane: FloatArray) -> IntArray:
    """0 to 15, from against to for; scaled to the 99th percentile of the absolute values."""
    top = float(np.quantile(np.abs(plane), 0.99)) or float(np.abs(plane).max()) or 1.0
    part = np.clip(plane / top, -1.0, 1.0)
    return np.asarray(np.rint(7.5 + 7.5 * part), dtype=np.int64)


def resized(plane: IntArray, shape: tuple[int, ...]) -> IntArray:
    """The nearest cells, where a map has another size than the image."""
    if plane.shape == shape:
        return plane
    rows = np.arange(shape[0]) * plane.shape[0] // shape[0]
    columns = np.arange(shape[1]) * plane.shape[1] // shape[1]
    return np.asarray(plane[rows][:, columns], dtype=np.int64)


def picture(label: str, plane: Any, palette: Any) -> Picture:
    """A plane of bytes ``(h, w)`` as a picture of at most 64 pixels a side."""
    step = max(1, -(-max(plane.shape) // _SIDE))
    pixels = np.ascontiguousarray(plane[::step, ::step]).astype(np.uint8)
    content = base64.b64encode(pixels.tobytes()).decode("ascii")
    return Picture(label=label, height=pixels.shape[0], width=pixels.shape[1], pixels=content, palette=palette)
