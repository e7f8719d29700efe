"""One row of the data with its explanations; it holds no value of the row that may not be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from auditkit.core.attribution import Attribution
from auditkit.core.shown import Picture


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One method's explanation of the row.

    Attributes:
        method: Words for the method.
        attribution: Of this row alone, ``values (1, *features, k)``.
        parts: ``(p,)`` signed amounts of the parts, of the output explained.
        agreement: Spearman's rank correlation of the absolute amounts with those of the first method, or ``None``.
        proof: One sentence: what was checked, and with what result.
    """

    method: str
    attribution: Attribution
    parts: tuple[float, ...]
    proof: str
    agreement: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExplainedRow:
    """One row of the data with its explanations.

    Attributes:
        subject: Name of the model.
        row: Position in the split, from 0.
        split: ``test`` or ``train``.
        kind: What the parts are: features of a table, tokens of a text, squares of an image.
        decision: What the model decides or predicts.
        label: What the row is labelled.
        output: Name of the output explained.
        parts: ``(p,)`` names of the parts.
        values: ``(p,)`` the row's own values, ``None`` where they may not be shown.
        explained: At least one method.
        pictures: For images: the maps, over the image itself where it may be shown.
        across: Pictures in a line.
        shown: Whether any value of the row is shown.
        notes: How the explanations were made.
    """

    subject: str
    row: int
    split: str
    kind: Literal["features", "tokens", "squares"]
    decision: str
    label: str
    output: str
    parts: tuple[str, ...]
    values: tuple[str | None, ...]
    explained: tuple[Explained, ...]
    pictures: tuple[Picture, ...] = ()
    across: int | None = None
    shown: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.explained:
            raise ValueError("a row without an explanation")
        sizes = {len(self.parts), len(self.values), *(len(one.parts) for one in self.explained)}
        if len(sizes) != 1:
            raise ValueError(f"parts, values and amounts differ in number: {sorted(sizes)}")

    @property
    def first(self) -> Explained:
        """The method that is told in full."""
        return self.explained[0]

    def base_value(self) -> float | None:
        """What the first method starts from, where it adds up from something."""
        base = self.first.attribution.base_values
        return None if base is None else float(base[0, self._column(base.shape[1])])

    def model_output(self) -> float:
        """What the user's model gives for the row, at the output explained."""
        prediction = self.first.attribution.prediction
        return float(prediction[0, self._column(prediction.shape[1])])

    def _column(self, width: int) -> int:
        names = self.first.attribution.output_names
        return names.index(self.output) if width > 1 and self.output in names else 0
