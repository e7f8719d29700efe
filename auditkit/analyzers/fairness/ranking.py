"""``fairness.ranking``: who gets the attention and the top places when rows are ranked by their score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from auditkit.analyzers.fairness.measured import measured
from auditkit.analyzers.fairness.positive_scores import positive_scores
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Curve, Measurement, Series
from auditkit.core.subject import FloatArray, IntArray, Subject
from auditkit.stats.linearised import Design

if TYPE_CHECKING:
    from auditkit.methods.fairness.ranking import Places
    from auditkit.methods.fairness.worst import Gap
    from auditkit.stats.estimate import Estimate

_MEASURES = {
    "fairness.exposure": "Mean discounted attention of the group's places over that of all rows; 1 is its fair share.",
    "fairness.exposure.difference": "Largest difference of exposure between two groups.",
    "fairness.exposure.ratio": "Smallest ratio of exposure between two groups, lower over higher.",
    "fairness.exposure_p_value": "Chance of so uneven exposure if groups were spread over the places at random.",
    "fairness.exposure_for_merit": "Exposure of the group over its relative share of positive labels (or mean target).",
    "fairness.exposure_for_merit.ratio": "Smallest ratio of exposure for merit between two groups.",
    "fairness.top_selection_rate": "Share of the group's rows that are among the top share of all rows.",
    "fairness.top_selection_rate.difference": "Largest difference of top_selection_rate between two groups.",
    "fairness.top_selection_rate.ratio": "Smallest ratio of top_selection_rate between two groups.",
    "fairness.top_share": "Share of the top places that the group's rows hold.",
    "fairness.top_skew": "Log of the group's share of the top places over its share of all rows; 0 is proportional.",
    "fairness.ranking_divergence": "NDKL: divergence of the groups' shares of every prefix from those of all rows.",
    "fairness.ranking_divergence_p_value": "Chance of so large an NDKL if groups were spread at random.",
}


class RankingParams(Params):
    """Settings of ``fairness.ranking``."""

    top: tuple[float, ...] = Field((0.1, 0.25), description="Shares of all rows taken as the top.")
    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")
    max_groups: int = Field(24, ge=2, description="Columns with more groups are left out.")
    resamples: int = Field(200, ge=20, description="Bootstrap rankings behind the intervals of exposure.")
    permutations: int = Field(199, ge=0, description="Permutations behind the p-values; 0 leaves them out.")
    max_rows: int = Field(200_000, ge=2, description="With more rows, exposure has no interval.")


def run(subject: Subject, context: Context, params: RankingParams) -> Iterator[Produced]:
    """Every sensitive column: exposure, the top places, divergence."""
    from auditkit.methods.fairness.ranking import places
    from auditkit.stats.coding import encode_groups

    context.check_deadline()
    test = subject.test
    if test.weights is not None:
        raise NotApplicable("AK438", "a ranking gives one place to each row and takes no row weights")
    scores, merit = _scores_and_merit(subject, context)
    if len(np.unique(scores)) < 2:
        raise NotApplicable("AK439", "all rows have the same score, so there is no ranking")
    if len(np.unique(scores)) < 0.5 * min(len(scores), 1000):
        yield Note("Many rows share a score: they share their places too, as a random order among them would.")
    for done, (column, values) in enumerate(test.sensitive.items()):
        context.check_deadline()
        names, codes = encode_groups(values)
        if len(names) > params.max_groups:
            yield Note(f"{column}: {len(names)} groups, more than max_groups = {params.max_groups}; left out.")
            continue
        ranked = places(scores, codes.astype(np.int64), len(names))
        yield from _exposure(column, names, ranked, merit, subject, context, params)
        yield from _top(column, names, ranked, Design(None, test.clusters), params)
        yield _shares(column, names, ranked)
        context.progress(done + 1, len(test.sensitive))


def _scores_and_merit(subject: Subject, context: Context) -> tuple[FloatArray, FloatArray | None]:
    if subject.task == "regression":
        target = np.asarray(subject.test.y, dtype=np.float64)
        return np.asarray(context.decisions(), dtype=np.float64), target if (target >= 0).all() else None
    if subject.positive is None:
        raise NotApplicable("AK439", "a ranking needs the score of one positive class, or a regression")
    if context.predictions("test")[0] is None:
        raise NotApplicable("AK439", "the model gives decisions only, so rows cannot be ranked")
    return positive_scores(subject, context, "test"), (subject.test.y == subject.positive).astype(np.float64)


def _exposure(
    column: str,
    names: tuple[str, ...],
    ranked: Places,
    merit: FloatArray | None,
    subject: Subject,
    context: Context,
    params: RankingParams,
) -> Iterator[Measurement]:
    from auditkit.methods.fairness.ranking import bootstrap_exposure, group_estimate, worst_pair

    n, clusters = len(ranked.level), subject.test.clusters
    rows = np.bincount(ranked.group, minlength=len(names))
    few = n > params.max_rows
    found = list(
        bootstrap_exposure(
            ranked, context.rng, merit=merit, clusters=clusters, resamples=2 if few else params.resamples
        )
    )
    for quantity, (name, kinds) in zip(
        found, (("exposure", ("difference", "ratio")), ("exposure_for_merit", ("ratio",))), strict=False
    ):
        for code, group in enumerate(names):
            estimate = group_estimate(quantity, code, int(rows[code]))
            yield _one(f"fairness.{name}", estimate, params.level, {column: group}, few=few)
        for kind in kinds:
            gap = worst_pair(quantity, "ratio" if kind == "ratio" else "difference", params.level)
            if few and gap.value is not None:
                gap = replace(gap, interval=None, reason="more rows than max_rows, so no ranking was resampled")
            yield _gap(f"fairness.{name}.{kind}", gap, column, n, top=1.0 if kind == "ratio" else None)
    context.check_deadline()
    yield from _chance(column, ranked, clusters, few, context, params)


def _chance(
    column: str, ranked: Places, clusters: IntArray | None, few: bool, context: Context, params: RankingParams
) -> Iterator[Measurement]:
    """NDKL, and how often random orders are as uneven."""
    from auditkit.methods.fairness.ranking import permuted

    n = len(ranked.level)
    turns = 0 if few or clusters is not None or ranked.groups < 2 else params.permutations
    drawn = np.array(list(permuted(ranked, context.rng, turns)))
    yield Measurement(
        name="fairness.ranking_divergence",
        value=float(drawn[0, 0]) if ranked.groups > 1 else None,
        n=n,
        over=(column,),
        direction="lower",
        bounds=(0.0, None),
        reason=(
            "a finite ranking is never wholly proportional, so its p-value says more than an interval"
            if ranked.groups > 1
            else "there is only one group"
        ),
    )
    why = "a p-value has no interval"
    if not turns:
        why = "rows of one cluster are not exchangeable" if clusters is not None else "no permutations were made"
    for at, name in ((1, "exposure"), (0, "ranking_divergence")):
        extreme = int((drawn[1:, at] >= drawn[0, at] - 1e-12).sum())
        yield Measurement(
            name=f"fairness.{name}_p_value",
            value=(extreme + 1) / (turns + 1) if turns else None,
            n=n,
            over=(column,),
            bounds=(0.0, 1.0),
            params={"permutations": turns},
            reason=why,
        )


def _top(
    column: str, names: tuple[str, ...], ranked: Places, design: Design, params: RankingParams
) -> Iterator[Measurement]:
    from auditkit.methods.fairness.expected_rates import CellRates, expected_rate
    from auditkit.methods.fairness.ranking import top_chances
    from auditkit.methods.fairness.worst import simultaneous_gap

    n = len(ranked.level)
    for share in params.top:
        top = max(1, math.ceil(share * n))
        chance, tags = top_chances(ranked, top), {"top": share}
        rates = CellRates(
            tuple(
                expected_rate(chance[rows], design.take(rows))
                for rows in (np.flatnonzero(ranked.group == code) for code in range(len(names)))
            )
        )
        for code, (name, estimate) in enumerate(zip(names, rates.estimates, strict=True)):
            where = {column: name}
            yield _one("fairness.top_selection_rate", estimate, params.level, where, tags, bounds=(0.0, 1.0))
            yield from _held(chance, ranked.group == code, design, params.level, where, tags)
        for kind in ("difference", "ratio"):
            gap = simultaneous_gap(rates, "ratio" if kind == "ratio" else "difference", params.level)
            yield _gap(f"fairness.top_selection_rate.{kind}", gap, column, n, tags, top=1.0)


def _held(
    chance: FloatArray,
    own: Any,
    design: Design,
    level: float,
    where: dict[str, str],
    tags: dict[str, Any],
) -> Iterator[Measurement]:
    """Share of the top places, and its log ratio to the group's share of all rows, whose limits are mapped."""
    from auditkit.stats.linearised import proportion

    held_by, of_all = chance > 0.0, float(own.mean())
    clusters = None if design.clusters is None else design.clusters[held_by]
    # Rows that share the last places hold a part of one each; whole places weigh the same.
    parts = chance[held_by]
    held = proportion(own[held_by], None if (parts == 1.0).all() else parts, clusters)
    value = held.value or 0.0
    yield _one("fairness.top_share", held, level, where, tags, bounds=(0.0, 1.0))
    interval = held.interval(level)
    reason = None if interval else held.reason
    skew = None
    if value <= 0.0:
        reason = "the group holds no top place, so the log ratio is infinite"
    else:
        skew = math.log(value / of_all)
        if interval is not None and interval.low > 0.0:
            ends = (math.log(interval.low / of_all), math.log(interval.high / of_all))
            interval = replace(
                interval, low=min(ends[0], skew), high=max(ends[1], skew), method=f"{interval.method}-log-ratio"
            )
        else:
            interval, reason = None, "the share may be 0 within its interval, so the log ratio has no lower limit"
    yield Measurement(
        name="fairness.top_skew",
        value=skew,
        n=held.n,
        interval=interval if skew is not None else None,
        slice=where,
        params=tags,
        reason=reason,
    )


def _shares(column: str, names: tuple[str, ...], ranked: Places) -> Curve:
    """Share of each group among the top rows, down the whole ranking."""
    from auditkit.methods.fairness.ranking import top_chances

    n = len(ranked.level)
    cuts = np.unique(np.ceil(np.linspace(0.02, 1.0, 50) * n).astype(np.int64))
    held = np.array(
        [np.bincount(ranked.group, weights=top_chances(ranked, int(k)), minlength=len(names)) for k in cuts]
    )
    share = held / cuts[:, None]
    return Curve(
        name=f"fairness.ranking_shares.{column}",
        title=f"Who holds the top places, by {column}",
        x_label="top share of all rows",
        y_label="share of those places",
        series=tuple(
            Series(name=name, x=tuple((cuts / n).tolist()), y=tuple(share[:, code].tolist()))
            for code, name in enumerate(names)
        ),
        note="At the right end every group holds its share of all rows; a line above that end is over-represented.",
    )


def _one(
    name: str,
    estimate: Estimate,
    level: float,
    where: dict[str, str],
    tags: dict[str, Any] | None = None,
    *,
    bounds: tuple[float | None, float | None] = (0.0, None),
    few: bool = False,
) -> Measurement:
    found = measured(name, estimate, level, slice=where, params=tags or {}, bounds=bounds)
    if few and estimate.value is not None:
        return replace(found, interval=None, reason="more rows than max_rows, so no ranking was resampled")
    return found


def _gap(
    name: str, gap: Gap, column: str, n: int, tags: dict[str, Any] | None = None, *, top: float | None
) -> Measurement:
    return Measurement(
        name=name,
        value=gap.value,
        n=n,
        interval=gap.interval,
        over=(column,),
        params=tags or {},
        direction="higher" if name.endswith(".ratio") else "lower",
        bounds=(0.0, top),
        reason=gap.reason,
    )


ANALYZER = Analyzer(
    name="fairness.ranking",
    version="5",
    title="Fairness of the ranking",
    summary="Which groups get the attention and the top places when rows are ranked by their score.",
    reference=(
        "Singh and Joachims (2018), Fairness of exposure in rankings; Geyik, Ambler and Kenthapadi (2019), "
        "Fairness-aware ranking in search and recommendation systems (NDKL, skew)"
    ),
    needs=frozenset({"labels", "sensitive"}),
    measures=_MEASURES,
    params=RankingParams,
    run=run,
    default=False,
    limits=(
        "All test rows are taken as one ranking; queries are not told apart. Intervals treat the number of rows "
        "and the border of the top as known. Attention falls with the logarithm of the place, a convention."
    ),
)
