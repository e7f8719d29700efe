"""``fairness.scoring_rate``: the share of each group that scores above the median of all rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pydantic import Field

from auditkit.core.analyzer import Analyzer, Context, Params, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Measurement
from auditkit.core.subject import Subject


class ScoringParams(Params):
    """Settings of ``fairness.scoring_rate``."""

    intersections: int = Field(2, ge=1, le=4, description="Largest number of sensitive columns crossed.")
    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")
    max_groups: int = Field(200, ge=2, description="Crossings with more groups are left out.")


def run(subject: Subject, context: Context, params: ScoringParams) -> Iterator[Produced]:
    """The scoring rate of every group and crossing. The median is that of all rows, taken as known."""
    import numpy as np

    from auditkit.stats.intervals import clopper_pearson

    data = subject.test
    if data.weights is not None:
        raise NotApplicable("AK424", "the scoring rate counts people and takes no row weights")
    scores, decisions = context.predictions("test")
    values = np.asarray(decisions, dtype=np.float64)
    if subject.task != "regression":
        if subject.positive is None or scores is None:
            raise NotApplicable("AK425", "the scoring rate needs a score of the positive class, or a regression")
        values = scores[:, subject.positive]
    above = values > np.median(values)
    columns = {name: np.asarray(column, dtype=str) for name, column in data.sensitive.items()}
    for depth in range(1, min(params.intersections, len(columns)) + 1):
        for over in itertools.combinations(columns, depth):
            context.check_deadline()
            stacked = np.stack([columns[name] for name in over], axis=1)
            groups, codes = np.unique(stacked, axis=0, return_inverse=True)
            if len(groups) > params.max_groups:
                continue
            rows = np.bincount(codes.ravel(), minlength=len(groups))
            high = np.bincount(codes.ravel(), weights=above, minlength=len(groups))
            for group, n, count in zip(groups.tolist(), rows.tolist(), high.tolist(), strict=True):
                clustered = data.clusters is not None
                yield Measurement(
                    name="fairness.scoring_rate",
                    value=count / n,
                    n=int(n),
                    interval=None if clustered else clopper_pearson(round(count), n, params.level),
                    slice=dict(zip(over, group, strict=True)),
                    bounds=(0.0, 1.0),
                    reason="rows of one cluster are not independent, so there is no interval" if clustered else None,
                )


ANALYZER = Analyzer(
    name="fairness.scoring_rate",
    version="1",
    title="Scoring rate by group",
    summary="Share of each group, and of each intersection, that scores above the median of all rows.",
    reference="6 RCNY 5-301 (scoring rate)",
    needs=frozenset({"labels", "sensitive"}),
    measures={"fairness.scoring_rate": "Share of rows that score above the median score of all rows."},
    params=ScoringParams,
    run=run,
    default=False,
    limits="The median is taken as known, although it was estimated from the same rows.",
)
