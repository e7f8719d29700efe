"""``performance`` of rows that were counted as they were read: what counts, sums of losses and score bins give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.performance.rows import MACRO, Key
from auditkit.core.analyzer import Note, Produced
from auditkit.core.counted import CountedRows
from auditkit.core.evidence import Counts, Curve, Series
from auditkit.core.subject import Subject
from auditkit.methods.performance import counted, curves
from auditkit.stats.estimate import Estimate, undefined

IntArray = npt.NDArray[np.int64]
UNSORTED = 'it needs every score in order, and these were counted in bins; set [data] rows = "keep"'


@dataclass(frozen=True, slots=True)
class Cells:
    """Combinations of some of the rows: their labels ``y (c,)`` and counts."""

    y: IntArray
    counted: CountedRows
    classes: tuple[str, ...]
    positive: int | None

    def take(self, cells: npt.NDArray[np.bool_]) -> Cells:
        """Some of the combinations."""
        return Cells(self.y[cells], self.counted.take(cells), self.classes, self.positive)

    def confusion(self) -> IntArray:
        """Rows ``(k, k)`` by label and decision."""
        k = len(self.classes)
        cells = np.zeros(k * k, dtype=np.int64)
        np.add.at(cells, self.y * k + self.counted.decided, self.counted.rows)
        return cells.reshape(k, k)

    def histogram(self) -> tuple[IntArray, IntArray]:
        """Positive and negative rows ``(bins,), (bins,)`` by score bin."""
        sides = np.zeros((2, self.counted.bins), dtype=np.int64)
        np.add.at(sides, ((self.y == self.positive).astype(np.int64), self.counted.score_bin), self.counted.rows)
        return sides[1], sides[0]


def cells_of(subject: Subject) -> Cells:
    """All combinations of ``subject``."""
    assert subject.test.counted is not None
    return Cells(subject.test.y, subject.test.counted, subject.classes, subject.positive)


def counted_estimates(part: Cells, per_class: bool) -> dict[Key, Estimate]:
    """Every estimate that counts give; what they cannot give is undefined with the reason."""
    cells = part.confusion()
    n = int(cells.sum())
    found: dict[Key, Estimate] = {
        ("accuracy", ()): counted.share(int(np.trace(cells)), n, "no rows"),
        ("balanced_accuracy", ()): counted.macro(cells, part.classes, "recall"),
    }
    if part.positive is None:
        for kind in ("precision", "recall", "f1"):
            found[kind, MACRO] = counted.macro(cells, part.classes, kind)
        if per_class:
            for code, name in enumerate(part.classes):
                each = counted.class_estimates(cells, code).items()
                found |= {(kind, (("class", name),)): estimate for kind, estimate in each}
        return found
    found |= {(kind, ()): estimate for kind, estimate in counted.class_estimates(cells, part.positive).items()}
    if part.counted.bins:
        found["roc_auc", ()], _ = counted.binned_auc(*part.histogram())
        found["average_precision", ()] = undefined(f"average precision: {UNSORTED}", n)
        found["expected_calibration_error", ()] = undefined(f"calibration error: {UNSORTED}", n)
        for name, sums in part.counted.losses.items():
            found[name, ()] = counted.mean_loss(float(sums[:, 0].sum()), float(sums[:, 1].sum()), n)
    return found


def counted_charts(part: Cells, points: int, level: float) -> Iterator[Produced]:
    """The confusion matrix, the ROC curve, and how exact the AUC is."""
    cells = part.confusion()
    yield Counts(
        name="confusion",
        over=(),
        groups=((),),
        classes=part.classes,
        n=(tuple(tuple(int(n) for n in row) for row in cells),),
        positive=part.positive,
    )
    yield Note(f"The {int(cells.sum()):,} rows were counted as they were read.")
    if not part.counted.bins:
        return
    positive, negative = part.histogram()
    _, bound = counted.binned_auc(positive, negative)
    yield Note(
        f"Scores were counted in {part.counted.bins:,} equal bins: the exact AUC differs by at most {bound:.1e}, which "
        "the interval includes. Log loss and Brier score are exact. Average precision and calibration error need the "
        "rows themselves."
    )
    if positive.sum() and negative.sum():
        steps = counted.cumulate_bins(positive, negative)
        at = curves.thin(steps.fpr, steps.tpr, points)
        lines = (steps.fpr, steps.tpr, *curves.roc_band(steps, level))
        x, y, low, high = (tuple(map(float, line[at])) for line in lines)
        yield Curve(
            name="roc",
            title="ROC curve",
            x_label="false positive rate",
            y_label="true positive rate",
            series=(Series(name="all rows", x=x, y=y, low=low, high=high),),
            note="The band holds for the whole curve at once, whatever the scores.",
        )
