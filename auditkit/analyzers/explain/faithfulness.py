"""Are the explanations any good? Faithfulness, infidelity, sensitivity, maskers, and agreement between methods."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.attributed import Method
from auditkit.analyzers.explain.attributions import AttributionParams
from auditkit.analyzers.explain.explained import LEVEL, TOO_FEW, few_rows
from auditkit.analyzers.explain.partwise import Ask, BoolArray, Partwise, partwise_table
from auditkit.core.analyzer import Analyzer, Context, Note, Produced
from auditkit.core.errors import MissingExtra, NotApplicable
from auditkit.core.evidence import Curve, Direction, Interval, Measurement, Scalar, Series
from auditkit.core.stages import Stages
from auditkit.core.subject import Dataset, FloatArray, IntArray, Subject
from auditkit.methods.explain.faithfulness import Removals, gains, infidelity, max_sensitivity, remove_in_order
from auditkit.stats.bounded import bounded_mean
from auditkit.stats.intervals import mean_interval
from auditkit.stats.resampling import bootstrap, percentile_interval

MEASURES = {
    "explain.deletion_gain": "How much lower the output lies, on average along the way, when the parts that a method "
    "ranks first are removed first, than in random order: 0 for an explanation that knows nothing of the model.",
    "explain.insertion_gain": "How much higher the output lies when these parts are put back first.",
    "explain.infidelity": "Squared gap between what the amounts of randomly removed parts foretell and how far the "
    "output falls, at the best scale of each row, as a share of the squared fall: 0 is faithful, 1 foretells nothing.",
    "explain.max_sensitivity": "Largest relative change of an explanation when its input moves a little; mean.",
    "explain.masker_agreement": "Rank correlation of the effects of removing parts one by one under two maskers.",
    "explain.masker_top5_overlap": "Share of the five parts of largest effect that two maskers have in common.",
    "explain.ranking_agreement": "Mean rank correlation of two methods' absolute amounts of the parts of a row.",
    "explain.top5_overlap": "Share of the five parts of largest amount that two methods have in common.",
}
_STILL = "the output does not move when parts are removed"
_TOP = 5
_REMOVALS = 50_000  # of one part from one row, by which two maskers are compared
_CELLS_A_PASS = 2**22  # rows with one part removed x parts, asked about at once


class FaithfulnessParams(AttributionParams):
    """Settings of ``explain.faithfulness``; with the first five as in ``explain.shap`` nothing is explained twice."""

    check_rows: int = Field(50, ge=2, description="most rows whose parts are removed")
    baseline_rows: int = Field(4, ge=1, description="rows that give removed features their values (tables)")
    steps: int = Field(8, ge=2, description="steps of a curve")
    random_orders: int = Field(3, ge=1, description="random orders a row, the control")
    lime_samples: int = Field(2000, ge=10, description="samples of LIME (tables)")
    methods: tuple[Method, ...] | None = Field(
        default=None, description="methods for images and texts, by the kind of input when left out"
    )
    max_steps: int = Field(256, ge=2, description="most steps of a path")
    sensitivity_rows: int = Field(12, ge=0, description="rows that are moved a little and explained again")
    sensitivity_draws: int = Field(3, ge=1, description="moved copies a row")
    radius: float = Field(
        0.05, gt=0.0, le=1.0, description="how far numbers move, in standard deviations; pixels, of the image's range"
    )


def run(subject: Subject, context: Context, params: FaithfulnessParams) -> Iterator[Produced]:
    """Remove parts in order and at random in one pass, then move inputs, change the masker and compare methods."""
    # Attributions, removal in order, small moves, other maskers, agreement.
    stages = Stages(context, (4, 4, 4, 1, 1))
    parts = _parts(subject, stages.inside(), params)
    stages.end()
    for sentence in parts.notes:
        yield Note(sentence)
    usable = {name: amounts for name, amounts in parts.amounts.items() if np.isfinite(amounts).all()}
    rng = np.random.default_rng([context.seed, 4])
    context.check_deadline()
    found = remove_in_order(
        parts.ask, usable, rng, present=parts.present, steps=params.steps, random_orders=params.random_orders
    )
    stages.end()
    for method, amounts in usable.items():
        yield from _faithful(found, method, amounts, parts, context)
    yield from _curves(found, parts)
    context.check_deadline()
    yield from _sensitive(parts, params, context)
    stages.end()
    context.check_deadline()
    yield from _masked(parts, context)
    stages.end()
    for first, second in combinations(usable, 2):
        pair = {"first": first, "second": second}
        unreliable = _failed(parts, first, second)
        yield from _agree("explain.ranking_agreement", "explain.top5_overlap", usable[first], usable[second],
                          parts, pair, unreliable)  # fmt: skip
    stages.end()


def _parts(subject: Subject, context: Context, params: FaithfulnessParams) -> Partwise:
    if subject.test.modality == "tabular":
        return partwise_table(subject, context, params, params.check_rows, params.baseline_rows, params.lime_samples)
    if "gradients" not in subject.model.capabilities:
        raise NotApplicable(
            "AK466",
            f"explanations of {subject.test.modality} need a torch module to be checked",
            fix="explain.lime reports its own fit and stability",
        )
    if importlib.util.find_spec("captum") is None:
        raise MissingExtra.of("explain", "captum")
    from auditkit.analyzers.explain.partwise_torch import partwise_torch

    return partwise_torch(subject, context, params.check_rows, params.methods, params.max_steps)


def _failed(parts: Partwise, *methods: str) -> str | None:
    bad = [method for method in methods if parts.failed.get(method)]
    why = "; ".join(dict.fromkeys(str(parts.failed[method]) for method in bad))
    return f"the {' and '.join(bad)} attributions failed their check: {why}" if bad else None


def _identity(parts: Partwise, method: str) -> dict[str, Scalar]:
    return {"method": method, "masker": parts.maskers[0]}


def _faithful(
    found: Removals, method: str, amounts: FloatArray, parts: Partwise, context: Context
) -> Iterator[Measurement]:
    still = not float(np.abs(found.drops).max(initial=0.0)) > 0.0
    unreliable = _failed(parts, method)
    lower, higher = gains(found, method)
    value: float | None
    for name, values in (("explain.deletion_gain", lower), ("explain.insertion_gain", higher)):
        value, interval = mean_interval(values, parts.data.weights, parts.data.clusters)
        yield _measurement(name, None if still else value, None if still else interval, parts, _identity(parts, method),
                           ("higher", (None, None), parts.unit), _STILL if still else TOO_FEW, unreliable)  # fmt: skip
    gaps = infidelity(amounts, found.removed, found.drops)
    value, interval = _ratio(gaps.scaled, gaps.null, parts.data, np.random.default_rng([context.seed, 5]))
    yield _measurement("explain.infidelity", value, interval, parts, _identity(parts, method),
                       ("lower", (0.0, 1.0), ""), _STILL if value is None else TOO_FEW, unreliable)  # fmt: skip


def _measurement(  # noqa: PLR0913 - the fields of a measurement
    name: str,
    value: float | None,
    interval: Interval | None,
    parts: Partwise,
    identity: Mapping[str, Scalar],
    kind: tuple[Direction, tuple[float | None, float | None], str],
    lacking: str,
    unreliable: str | None,
    n: int | None = None,
) -> Measurement:
    direction, bounds, unit = kind
    if interval is not None:
        low = interval.low if bounds[0] is None else max(interval.low, bounds[0])
        high = interval.high if bounds[1] is None else min(interval.high, bounds[1])
        interval = dataclasses.replace(interval, low=low, high=high)
    return Measurement(
        name=name,
        value=value,
        n=parts.data.n if n is None else n,
        interval=interval,
        params=identity,
        direction=direction,
        bounds=bounds,
        unit=unit,
        reason=None if interval else lacking,
        unreliable=unreliable,
    )


def _ratio(
    above: FloatArray, below: FloatArray, data: Dataset, rng: np.random.Generator
) -> tuple[float | None, Interval | None]:
    """Ratio of two weighted means over rows, with a bootstrap interval."""
    weights = np.ones(len(above)) if data.weights is None else data.weights
    total = float(weights @ below)
    if not total > 0.0:
        return None, None
    value = float(weights @ above) / total

    def statistic(drawn: FloatArray) -> FloatArray:
        bottom = drawn @ below
        found = np.divide(drawn @ above, bottom, out=np.full(len(drawn), np.nan), where=bottom > 0.0)
        return np.asarray(found[:, None], dtype=np.float64)

    if len(above) < 2 or (data.clusters is not None and len(np.unique(data.clusters)) < 2):
        return value, None
    draws = bootstrap(statistic, len(above), rng, weights=data.weights, clusters=data.clusters)[:, 0]
    return value, percentile_interval(draws, value)


def _curves(found: Removals, parts: Partwise) -> Iterator[Curve]:
    sides = (
        ("deletion", found.deletion, found.random_deletion),
        ("insertion", found.insertion, found.random_insertion),
    )
    for side, (name, named, control) in enumerate(sides):
        series = [_series(method, found.shares, curve, parts.data) for method, curve in named.items()]
        series.append(_series("random order", found.shares, control.mean(axis=0), parts.data))
        yield Curve(
            name=f"explain.faithfulness.{name}",
            title=_finding(found, side, parts),
            x_label=f"share of the {parts.parts} {'removed' if name == 'deletion' else 'present'}",
            y_label=f"mean output ({parts.unit})",
            series=tuple(series),
            note=f"{parts.data.n} rows; bands are 95 % intervals of the mean. Removed {parts.parts} are taken from "
            f"{parts.maskers[0]}.",
        )


def _finding(found: Removals, side: int, parts: Partwise) -> str:
    """Which order moves the output most, and whether that is beyond chance."""
    known = []
    for method in found.deletion:
        value, interval = mean_interval(gains(found, method)[side], parts.data.weights, parts.data.clusters)
        known.append((value, interval, method))
    value, interval, method = max(known, key=lambda one: one[0])
    does = "Removing" if side == 0 else "Putting back"
    change = "lowers" if side == 0 else "raises"
    if interval is None or interval.low <= 0.0:
        return f"{does} {parts.parts} in the order of an explanation {change} the output no more than a random order."
    return (
        f"{does} first what {method} {'rank' if method.endswith('s') else 'ranks'} first {change} the output by "
        f"{value:.3g} more, on average along the way, than a random order."
    )


def _series(name: str, shares: FloatArray, curve: FloatArray, data: Dataset) -> Series:
    means, lows, highs = [], [], []
    for column in curve.T:
        mean, interval = mean_interval(column, data.weights, data.clusters)
        means.append(mean)
        lows.append(interval.low if interval else None)
        highs.append(interval.high if interval else None)
    known = all(low is not None for low in lows)
    return Series(
        name=name,
        x=tuple(float(share) for share in shares),
        y=tuple(means),
        low=tuple(lows) if known else (),
        high=tuple(highs) if known else (),
    )


def _sensitive(parts: Partwise, params: FaithfulnessParams, context: Context) -> Iterator[Produced]:
    if params.sensitivity_rows == 0:
        return
    if parts.moved is None:
        yield Note(f"Sensitivity to small changes is not measured: {parts.unmoved}.")
        return
    rng = np.random.default_rng([context.seed, 6])
    rows = few_rows(context, parts.data.n, params.sensitivity_rows)
    some = parts.data.take(rows)
    for method, (own, moved) in parts.moved(rng, rows, params.sensitivity_draws, params.radius).items():
        values = max_sensitivity(own, moved) if np.isfinite(own).all() and np.isfinite(moved).all() else None
        kept = np.array([], dtype=np.int64) if values is None else np.flatnonzero(np.isfinite(values)).astype(np.int64)
        value, interval = None, None
        if values is not None and len(kept):
            few = some.take(kept)
            value, interval = mean_interval(values[kept], few.weights, few.clusters)
        identity: dict[str, Scalar] = {"method": method, "radius": params.radius}
        yield _measurement("explain.max_sensitivity", value, interval, parts, identity, ("lower", (0.0, None), ""),
                           "every explanation is zero" if value is None else TOO_FEW, _failed(parts, method),
                           n=len(kept))  # fmt: skip


def _masked(parts: Partwise, context: Context) -> Iterator[Produced]:
    """Effects of removing parts one by one, by two maskers: does it matter what removed parts are replaced by?"""
    if parts.other is None:
        yield Note("There is only one masker for these inputs, so that two cannot be compared.")
        return
    n, count = next(iter(parts.amounts.values())).shape
    present = np.ones((n, count), dtype=np.bool_) if parts.present is None else parts.present
    total = int(present.sum())
    rows = few_rows(context, n, n if total <= _REMOVALS else max(2, _REMOVALS // count))
    if len(rows) < n:
        yield Note(
            f"The two maskers are compared on {len(rows)} of the {n} rows: their {parts.parts} are removed one by one, "
            f"which is {int(present[rows].sum()):,} removals; those of all rows would be {total:,}."
        )
    first, second = (_one_by_one(ask, rows, present, context) for ask in (parts.ask, parts.other))
    some = dataclasses.replace(parts, data=parts.data.take(rows), present=present[rows])
    identity: dict[str, Scalar] = {"first": parts.maskers[0], "second": parts.maskers[1]}
    yield from _agree("explain.masker_agreement", "explain.masker_top5_overlap", first, second, some, identity, None)


def _one_by_one(ask: Ask, rows: IntArray, present: BoolArray, context: Context) -> FloatArray:
    """How far the outputs of ``rows (m,)`` fall without each part that they have, ``(m, p)``."""
    count = present.shape[1]
    whole = ask(rows, np.zeros((len(rows), count), dtype=np.bool_))
    effects = np.zeros((len(rows), count))
    places = np.argwhere(present[rows])
    size = max(1, _CELLS_A_PASS // count)
    for start in range(0, len(places), size):
        context.check_deadline()
        place, part = places[start : start + size].T
        alone = np.zeros((len(part), count), dtype=np.bool_)
        alone[np.arange(len(part)), part] = True
        effects[place, part] = whole[place] - ask(rows[place], alone)
    return effects


def _agree(
    ranks: str,
    overlap: str,
    first: FloatArray,
    second: FloatArray,
    parts: Partwise,
    identity: Mapping[str, Scalar],
    unreliable: str | None,
) -> Iterator[Measurement]:
    """Rank correlation and overlap of the five largest, row by row over the parts that a row has."""
    from auditkit.methods.explain.agreement import rank_correlations, top_overlap

    n, count = first.shape
    present = np.ones((n, count), dtype=np.bool_) if parts.present is None else parts.present
    alike, shared = np.full(n, np.nan), np.full(n, np.nan)
    for row in range(n):
        one, other = np.abs(first[row, present[row]])[None, :], np.abs(second[row, present[row]])[None, :]
        found = rank_correlations(one, other) if one.shape[1] >= 4 else np.empty(0)
        alike[row] = found[0] if len(found) else np.nan
        if one.shape[1] > _TOP:
            shared[row] = top_overlap(one, other, _TOP)[0]
    for name, values, bounds, lacking in (
        (ranks, alike, (-1.0, 1.0), f"constant amounts, or fewer than four {parts.parts}"),
        (overlap, shared, (0.0, 1.0), f"every amount is zero, or no row has more than {_TOP} {parts.parts}"),
    ):
        kept = np.flatnonzero(np.isfinite(values)).astype(np.int64)
        some = parts.data.take(kept)
        value, interval = None, None
        if len(kept) and name == overlap:
            mean = bounded_mean(values[kept], some.weights, some.clusters)
            value, interval = mean.value, mean.interval(LEVEL)
        elif len(kept):
            value, interval = mean_interval(values[kept], some.weights, some.clusters)
        yield _measurement(name, value, interval, parts, identity, ("neutral", bounds, ""),
                           lacking if value is None else TOO_FEW, unreliable, n=len(kept))  # fmt: skip


ANALYZER = Analyzer(
    name="explain.faithfulness",
    version="10",
    title="Are the explanations any good?",
    summary="Whether explanations foretell what the model does when parts are removed, hold still, and agree.",
    reference="Petsiuk, Das and Saenko (2018), RISE; Yeh et al. (2019), On the (In)fidelity and Sensitivity of "
    "Explanations",
    needs=frozenset({"model", "scores", "inputs"}),
    measures=MEASURES,
    params=FaithfulnessParams,
    run=run,
    extra="explain",
    limits="Rows with parts removed may be unlike any real row; two maskers say how much that matters.",
)
