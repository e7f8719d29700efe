"""One image: maps of several methods, over the image where it may be shown, and their sums over a grid of squares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from auditkit.analyzers.explain.attributed import WORDS
from auditkit.analyzers.explain.shown_rows import UNSIGNED, flat_plane, grey_plane, heat_plane, picture, resized
from auditkit.core.shown import Picture
from auditkit.core.subject import FloatArray

if TYPE_CHECKING:
    from auditkit.analyzers.explain.differentiated import GradientInputs
    from auditkit.core.attribution import Attribution

_CELLS_A_SIDE = 7


def image_parts(inputs: GradientInputs, found: dict[str, Attribution]) -> tuple[tuple[str, ...], dict[str, FloatArray]]:
    """Names of the squares, and for each method the sum of its map over them (unsigned maps: of absolute values)."""
    planes = {method: _plane(inputs, method, attribution) for method, attribution in found.items()}
    height, width = next(iter(planes.values())).shape
    rows, columns = _borders(height), _borders(width)
    names = tuple(
        f"{_range('row', rows[i], rows[i + 1])}, {_range('column', columns[j], columns[j + 1])}"
        for i in range(len(rows) - 1)
        for j in range(len(columns) - 1)
    )
    return names, {method: _sums(plane, (height, width)) for method, plane in planes.items()}


def image_pictures(inputs: GradientInputs, found: dict[str, Attribution], *, shown: bool) -> tuple[Picture, ...]:
    """The input and each map over it; without ``shown`` the maps alone."""
    image = inputs.tensor[0].detach().cpu().double().numpy()
    grey = grey_plane(image if image.ndim > 1 else image[None, :])
    pictures = [picture("input", np.rint(grey * 255), "grey")] if shown else []
    for method, attribution in found.items():
        failed = " (failed its check)" if attribution.status == "failed" else ""
        plane = _plane(inputs, method, attribution)
        if not np.isfinite(plane).all():
            continue
        if shown:
            cells = np.rint(grey * 15) * 16 + resized(heat_plane(plane), grey.shape)
            pictures.append(picture(f"{WORDS[method]}{failed}", cells, "overlay"))
        else:
            pictures.append(_signed(f"{WORDS[method]}{failed}", plane))
    return tuple(pictures)


def _signed(label: str, plane: FloatArray) -> Picture:
    top = float(np.quantile(np.abs(plane), 0.99)) or float(np.abs(plane).max()) or 1.0
    cells = np.clip(np.rint(128 + 127 * np.clip(plane / top, -1.0, 1.0)), 0, 255)
    return picture(label, cells, "signed")


def _plane(inputs: GradientInputs, method: str, attribution: Attribution) -> FloatArray:
    values = attribution.values[0, ..., 0]
    values = np.abs(values) if method in UNSIGNED else values
    return flat_plane(values if values.ndim > 1 else values[None, :])


def _borders(extent: int) -> list[int]:
    even = next((count for count in range(_CELLS_A_SIDE, 3, -1) if extent % count == 0), _CELLS_A_SIDE)
    count = min(even, extent)
    return [round(place * extent / count) for place in range(count + 1)]


def _sums(plane: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Sums over the squares; a map of another size than the image has squares of its own size at the same places."""
    places = []
    for extent, own in zip(shape, plane.shape, strict=True):
        borders = _borders(extent)
        middles = (np.arange(own) + 0.5) * extent / own
        places.append(np.clip(np.searchsorted(borders, middles, side="right") - 1, 0, len(borders) - 2))
    rows, columns = places
    total = np.zeros((len(_borders(shape[0])) - 1, len(_borders(shape[1])) - 1))
    np.add.at(total, (rows[:, None], columns[None, :]), plane)
    return total.reshape(-1)


def _range(word: str, start: int, stop: int) -> str:
    return f"{word} {start}" if stop - start == 1 else f"{word}s {start}–{stop - 1}"
