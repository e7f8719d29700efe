"""``fairness.missing``: what disparities can be, whatever group the rows without one belong to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import MISSING_GROUP, Measurement, Table
from auditkit.core.subject import IntArray, Subject
from auditkit.stats.linearised import Design

if TYPE_CHECKING:
    from auditkit.methods.fairness.missing_groups import Region

_RATES = ("selection_rate", "true_positive_rate", "false_positive_rate", "positive_predictive_value", "accuracy")
_SAID = {
    "if_worst.difference": "Largest difference of {} that some filling-in of the missing groups gives.",
    "if_worst.ratio": "Smallest ratio of {} that some filling-in of the missing groups gives.",
    "if_best.difference": "Smallest difference of {} that some filling-in of the missing groups gives.",
    "if_best.ratio": "Largest ratio of {} that some filling-in of the missing groups gives.",
}
_MEASURES = {
    "fairness.missing_group_share": "Share of rows whose value of the sensitive column is missing.",
    **{f"fairness.{rate}_{end}": text.format(rate.replace("_", " ")) for rate in _RATES for end, text in _SAID.items()},
}
BoolArray = npt.NDArray[np.bool_]


class MissingParams(Params):
    """Settings of ``fairness.missing``."""

    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")
    max_groups: int = Field(24, ge=2, description="Columns with more groups are left out.")


def run(subject: Subject, context: Context, params: MissingParams) -> Iterator[Produced]:
    """The share of missing values of every column, and bounds where there are any."""
    from auditkit.methods.fairness.missing_groups import UNKNOWN
    from auditkit.stats.coding import encode_groups
    from auditkit.stats.linearised import proportion

    context.check_deadline()
    test = subject.test
    design = Design(test.weights, test.clusters)
    counted = _counted(subject, context)
    for done, (column, values) in enumerate(test.sensitive.items()):
        context.check_deadline()
        absent = values == MISSING_GROUP
        share = proportion(absent, design.weights, design.clusters)
        yield Measurement(
            name="fairness.missing_group_share",
            value=share.value,
            n=share.n,
            interval=share.interval(params.level),
            over=(column,),
            direction="lower",
            bounds=(0.0, 1.0),
            reason=share.reason,
        )
        names, codes = encode_groups(values)
        if absent.any() and not absent.all() and len(names) - 1 <= params.max_groups:
            known = [name for name in names if name != MISSING_GROUP]
            place = np.array([known.index(name) if name in known else UNKNOWN for name in names])
            yield from _bounds(column, place[codes].astype(np.int64), len(known), counted, design, params.level)
        elif absent.any():
            yield Note(f"{column}: no bounds, as there are {len(names) - 1} known groups.")
        context.progress(done + 1, len(test.sensitive))


def _counted(subject: Subject, context: Context) -> dict[tuple[str, str], tuple[BoolArray, BoolArray]]:
    """Rate and class -> which rows it counts and which of them are hits."""
    y, decided = subject.test.y, context.decisions()
    found = {("accuracy", ""): (np.ones(len(y), dtype=bool), y == decided)}
    classes = [subject.positive] if subject.positive is not None else range(len(subject.classes))
    for code in classes:
        tag = "" if subject.positive is not None else subject.classes[code or 0]
        label, taken = y == code, decided == code
        found["selection_rate", tag] = (np.ones(len(y), dtype=bool), taken)
        found["true_positive_rate", tag] = (label, taken)
        found["false_positive_rate", tag] = (~label, taken)
        found["positive_predictive_value", tag] = (taken, label)
    return found


def _bounds(
    column: str,
    codes: IntArray,
    count: int,
    counted: Mapping[tuple[str, str], tuple[BoolArray, BoolArray]],
    design: Design,
    level: float,
) -> Iterator[Produced]:
    from auditkit.methods.fairness.missing_groups import disparity_region

    rows = []
    for (rate, tag), (of, hit) in counted.items():
        at = np.flatnonzero(of)
        shown: list[str | None] = []
        for kind in ("difference", "ratio"):
            region = disparity_region(
                hit[at], codes[at], count, "ratio" if kind == "ratio" else "difference", design.take(at), level
            )
            yield from _measured(rate, kind, region, column, len(at), {"class": tag} if tag else {})
            shown.append(None if region.best is None else f"{region.best:.3f} to {region.worst:.3f}")
        rows.append((rate if not tag else f"{rate} of {tag}", *shown, int((codes[at] < 0).sum()), len(at)))
    yield Table(
        name=f"fairness.missing_bounds.{column}",
        title=f"What gaps between groups of {column} can be, whatever the missing values are",
        columns=("rate", "difference", "ratio", "rows", "of"),
        rows=tuple(rows),
        note=(
            "From the least to the most uneven filling-in of the rows without a group, without sampling error. Nothing "
            "is assumed about why values are missing; every row is taken to belong to one of the groups that are seen."
        ),
    )


def _measured(rate: str, kind: str, region: Region, column: str, n: int, tags: dict[str, str]) -> Iterator[Measurement]:
    for end, value in (("if_worst", region.worst), ("if_best", region.best)):
        reason = region.reason
        if end == "if_best" and value is not None:
            reason = "its sampling error is within the interval of the worst case, which covers all fillings"
        yield Measurement(
            name=f"fairness.{rate}_{end}.{kind}",
            value=value,
            n=n,
            interval=region.interval if end == "if_worst" else None,
            over=(column,),
            params=tags,
            direction="higher" if kind == "ratio" else "lower",
            bounds=(0.0, 1.0),
            reason=reason,
        )


ANALYZER = Analyzer(
    name="fairness.missing",
    version="2",
    title="Missing groups",
    summary="How far apart groups can be, whatever group the rows without a sensitive value belong to.",
    reference="Manski (2003), chapter 1; Kallus, Mao and Zhou (2022), Management Science 68; Fay et al. (2015)",
    needs=frozenset({"labels", "sensitive", "classification"}),
    measures=_MEASURES,
    params=MissingParams,
    run=run,
    limits=(
        "Bounds are sharp but may be wide: they allow that every missing value hides the same thing. A row of a group "
        "that is not seen at all is not allowed for."
    ),
)
