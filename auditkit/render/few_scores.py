"""Whether a model gives so few different scores that what is measured of a group's scores would tell its cells."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from auditkit.core.evidence import Curve, Density, Evidence
from auditkit.render.groups import Group, group_of

# What is measured of the scores of a group.
_MEASURED = frozenset(
    {
        "roc_auc",
        "average_precision",
        "log_loss",
        "brier_score",
        "expected_calibration_error",
        "mean_score",
        "mean_score_of_positives",
        "mean_score_of_negatives",
        "mean_overestimation",
    }
)
# Rows by label and score are two unknown numbers for each score. Each measure and its interval give one equation each.
_FEW = 2 * len(_MEASURED)


def tell_cells(evidence: Evidence, groups: Collection[Group]) -> bool:
    """Whether the scores of one of ``groups``, which has measures of them, are of at most 18 different values.

    Two values are the decisions themselves; with three or four, a few measures and the sums of the cells that are shown
    leave as many equations as unknown cells. Scores that cannot be seen to be more are taken to be few.

    Args:
        evidence: The complete record.
        groups: Groups with withheld cells, of which the sums are shown.
    """
    measured = {
        group_of(m)
        for m in evidence.measurements()
        if m.value is not None and m.slice and m.name.rsplit(".", 1)[-1] in _MEASURED
    }
    return any(max(_seen(evidence, group), default=0) <= _FEW for group in measured.intersection(groups))


def _seen(evidence: Evidence, group: Group) -> Iterator[int]:
    """How many different scores of a group the evidence shows at least: points of its ROC curve, bins of its scores."""
    if len(group) != 1:
        return
    ((column, name),) = group
    for artifact in evidence.artifacts():
        if isinstance(artifact, Curve) and artifact.name == f"roc_{column}":
            yield from (len(line.x) - 1 for line in artifact.series if line.name == name)
        elif isinstance(artifact, Density) and artifact.name == f"fairness.score_distribution.{column}":
            yield from (sum(map(bool, n)) for row, n in zip(artifact.rows, artifact.counts, strict=True) if row == name)
