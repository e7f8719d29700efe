"""Artifacts that may show rows of the data themselves: pictures and tokens. Where they do, they are ``raw``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture: ``pixels`` are base64 of ``height * width`` bytes, row by row.

    ``palette`` says what a byte means: ``grey`` from black (0) to white (255); ``signed`` from blue (0) through white
    (128) to vermilion (255); ``overlay`` is ``16 * grey + heat`` with both from 0 to 15: a grey picture under a colour,
    from blue (heat 0) through none (7 and 8) to vermilion (15).
    """

    label: str
    height: int
    width: int
    pixels: str
    palette: Literal["grey", "signed", "overlay"] = "grey"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageGrid:
    """Pictures side by side; ``raw`` says that they show rows of the data (kept out of shared copies).

    ``across`` is how many stand in a line, where lines belong together (a row of the data and its explanations).
    """

    name: str
    title: str
    pictures: tuple[Picture, ...]
    raw: bool = False
    note: str = ""
    across: int | None = None
    kind: Literal["images"] = "images"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One text as ``tokens`` with a signed value each; ``None`` for those that no value was asked for (padding ...)."""

    label: str
    tokens: tuple[str, ...]
    values: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.values):
            raise ValueError(f"{len(self.tokens)} tokens with {len(self.values)} values")
        for value in self.values:
            if value is not None and not math.isfinite(value):
                raise ValueError(f"a token's value must be finite or None, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """Texts whose tokens are coloured by signed value; ``raw`` says that they are rows of the data."""

    name: str
    title: str
    rows: tuple[TokenRow, ...]
    raw: bool = True
    unit: str = ""
    note: str = ""
    kind: Literal["tokens"] = "tokens"
