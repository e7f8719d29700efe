"""The list of epsilons that settings take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator


def _distinct(value: tuple[float, ...]) -> tuple[float, ...]:
    if len(set(value)) != len(value) or not all(0.0 < item < float("inf") for item in value):
        raise ValueError("epsilons must be finite, above 0 and each there once")
    return value


Epsilons = Annotated[tuple[float, ...], AfterValidator(_distinct)]
