"""The natural corruptions of tables, and the settings of ``robustness.noise``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from auditkit.core.analyzer import Params
from auditkit.core.errors import AuditkitError
from auditkit.core.subject import Dataset, FloatArray

Corrupt = Callable[[float, np.random.Generator], Any]


class NoiseParams(Params):
    """Settings of ``robustness.noise``; each list holds severities, 0 being the clean rows.

    Attributes:
        numeric_noise: Gaussian noise on numeric columns, in standard deviations of each, or its scale in the schema.
        missing_values: Share of cells made missing.
        category_swap: Share of categories replaced by another level of the data.
        drift: Shift of one numeric column in all rows, up and down, in the same units.
        drift_columns: Most columns that drift, one at a time; the first ones of the table.
        pixel_noise: Gaussian noise on pixels, as a fraction of their range.
        blur: Standard deviation of a Gaussian blur, in pixels.
        brightness: Rise of all pixels, as a fraction of their range.
        contrast: Share of the contrast taken away.
        token_replacement: Share of tokens replaced by others of the data.
        max_rows: Test rows looked at.
        min_group_rows: Groups with fewer rows among those looked at are left out.
    """

    numeric_noise: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    missing_values: tuple[float, ...] = (0.05, 0.1, 0.25)
    category_swap: tuple[float, ...] = (0.05, 0.1, 0.25)
    drift: tuple[float, ...] = (0.5, 1.0)
    drift_columns: int = Field(default=10, ge=0)
    pixel_noise: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    blur: tuple[float, ...] = (0.5, 1.0, 2.0)
    brightness: tuple[float, ...] = (0.1, 0.2, 0.3)
    contrast: tuple[float, ...] = (0.25, 0.5, 0.75)
    token_replacement: tuple[float, ...] = (0.05, 0.1, 0.25)
    max_rows: int = Field(default=2000, ge=1)
    min_group_rows: int = Field(default=5, ge=1)

    @field_validator("missing_values", "category_swap", "contrast", "token_replacement")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0.0 <= share <= 1.0 for share in value):
            raise ValueError("shares must lie in [0, 1]")
        return tuple(sorted(set(value)))

    @field_validator("numeric_noise", "drift", "pixel_noise", "blur", "brightness")
    @classmethod
    def _severities(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not np.isfinite(severity) or severity < 0.0 for severity in value):
            raise ValueError("severities must be finite and 0 or more")
        return tuple(sorted(set(value)))


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One kind of corruption of the rows looked at; ``make(severity, rng)`` gives inputs for the model."""

    name: str
    severities: tuple[float, ...]
    make: Corrupt
    unit: str


def corruptions_of_tables(whole: Dataset, data: Dataset, params: NoiseParams) -> tuple[list[Corruption], list[str]]:
    """Noise, missing values, swaps of categories and drift of a table, and sentences on what is left out."""
    from auditkit.analyzers.robustness.arena import make_grid
    from auditkit.methods.robustness import noise

    grid = make_grid(whole, must_move=False)
    x = grid.encode(data.inputs)
    found: list[Corruption] = []
    notes: list[str] = []
    if grid.space.mutable.any():
        found.append(
            Corruption(
                name="numeric_noise",
                severities=params.numeric_noise,
                make=lambda severity, rng: grid.decode(noise.gaussian_cells(x, grid.space, severity, rng)),
                unit=grid.unit,
            )
        )
    else:
        notes.append("There is no numeric column that may change.")
    columns = _can_be_missing(grid, x)
    if columns.any():
        found.append(
            Corruption(
                name="missing_values",
                severities=params.missing_values,
                make=lambda share, rng: grid.decode(noise.missing_cells(x, columns, share, rng)),
                unit="share of cells made missing",
            )
        )
    else:
        notes.append("Missing values were not injected: no column of this table can hold them.")
    if grid.levels:
        found.append(
            Corruption(
                name="category_swap",
                severities=params.category_swap,
                make=lambda share, rng: grid.decode(noise.swapped_levels(x, grid.levels, share, rng)),
                unit="share of categories replaced",
            )
        )

    def drift(place: int, sign: float) -> Corrupt:
        return lambda size, rng: grid.decode(noise.drifted(x, place, sign * size, grid.space))

    drifting = np.flatnonzero(grid.space.mutable).tolist()
    found += [
        Corruption(
            name=f"drift_{word}: {grid.names[place]}",
            severities=params.drift,
            make=drift(place, sign),
            unit=grid.unit.replace("each numeric", "the"),
        )
        for place in drifting[: params.drift_columns]
        for word, sign in (("up", 1.0), ("down", -1.0))
    ]
    if len(drifting) > params.drift_columns:
        notes.append(f"Drift: {params.drift_columns} of {len(drifting)} numeric columns were shifted, one at a time.")
    return found, notes


def _can_be_missing(grid: Any, x: FloatArray) -> npt.NDArray[np.bool_]:
    """Columns whose dtype can hold a missing value, found by trying; sensitive and immutable ones stay whole."""
    able = np.zeros(x.shape[1], dtype=np.bool_)
    free = np.asarray(grid.space.mutable).copy()
    for places in grid.levels:
        free[places] = len(places) == 1
    for place in np.flatnonzero(free):
        probe = x[:1].copy()
        probe[:, place] = np.nan
        try:
            grid.decode(probe)
        except (AuditkitError, ValueError, TypeError):
            continue
        able[place] = True
    return able
