"""``explain.global``: what the model does with each feature over all rows, and how sure that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from auditkit.analyzers.explain.attributions import AttributedRows, AttributionParams, attributed_rows
from auditkit.analyzers.explain.explained import TOO_FEW, explained_outputs, few_rows
from auditkit.analyzers.explain.shuffled import loss_of, loss_table
from auditkit.core.analyzer import Analyzer, Context, Note, Produced
from auditkit.core.evidence import Curve, Measurement, Scalar, Series, Table
from auditkit.core.stages import Stages
from auditkit.core.subject import FloatArray, IntArray, Subject, take_rows
from auditkit.methods.explain.effects import (
    Effect,
    Rows,
    accumulated_local_effects,
    bin_means,
    binned_means,
    category_dependence,
    category_means,
    common_categories,
    partial_dependence,
)
from auditkit.methods.explain.interactions import PairEffects, pair_effects
from auditkit.methods.explain.permuted import permutation_losses
from auditkit.stats.intervals import mean_interval
from auditkit.stats.linearised import Design
from auditkit.stats.resampling import bootstrap, percentile_interval

MEASURES = {
    "explain.permutation_importance": "How much accuracy (or R2) is lost when a feature is shuffled among the rows.",
    "explain.mean_signed_attribution": "Whether a feature raises or lowers the score on average.",
    "explain.interaction_strength": "Friedman's H: how much of the joint effect of two features is more than the sum "
    "of their own, from 0 (none) to 1 (all).",
}


class GlobalParams(AttributionParams):
    """Settings of ``explain.global``; with the first five as in ``explain.shap`` nothing is explained twice."""

    permutation_rows: int = Field(400, ge=2, description="rows whose features are shuffled")
    repeats: int = Field(3, ge=1, description="shuffles a feature")
    max_features: int = Field(30, ge=1, description="features shuffled, those of largest attribution first")
    drawn_features: int = Field(3, ge=0, description="numeric features whose effect is drawn")
    told_categories: int = Field(3, ge=0, description="categorical features whose effect is told by category")
    effect_rows: int = Field(200, ge=20, description="rows behind effects; partial dependence takes a quarter of them")
    grid: int = Field(12, ge=2, le=50, description="points of a curve, each the mean of ten rows or more")
    paired_features: int = Field(3, ge=0, description="features whose interactions are measured, pair by pair")
    pair_rows: int = Field(30, ge=10, description="rows behind interactions; the cost grows with its square")


@dataclass(frozen=True, kw_only=True)
class _View:
    """What is looked at: attributed rows, one output of the model, and the features in order of their attribution."""

    context: Context
    found: AttributedRows
    codec: Any
    explained: Any
    output: int
    order: IntArray

    def outputs(self, matrix: FloatArray) -> FloatArray:
        """The output looked at."""
        return np.asarray(self.explained.predict(matrix)[:, self.output], dtype=np.float64)

    def rows(self, limit: int) -> Rows:
        """At most ``limit`` of the rows, drawn at random."""
        few = few_rows(self.context, len(self.found.matrix), limit)
        data = self.found.data.take(few)
        return Rows(matrix=self.found.matrix[few], weights=data.weights, clusters=data.clusters)

    def held(self, column: int, grid: FloatArray) -> FloatArray:
        """The values nearest to ``grid`` that the column can hold: a count is asked about as 3 or 4, never as 3.4."""
        if len(grid) == 0:
            return grid
        some = np.repeat(self.found.matrix[:1], len(grid), axis=0)
        some[:, column] = grid
        return np.unique(np.asarray(self.codec.encode(self.codec.decode(some)), dtype=np.float64)[:, column])

    @property
    def name(self) -> str:
        """The output in words."""
        if self.found.outputs == ("value",):
            return "prediction"
        return f"{self.found.space} of {self.found.outputs[self.output]}"


def run(subject: Subject, context: Context, params: GlobalParams) -> Iterator[Produced]:
    """Shuffle, average, draw and pair; each from rows that Shapley values were computed for, or their labels."""
    from auditkit.subjects.codec import make_codec

    # Shapley values, shuffled columns, signed means, effects, pairs.
    stages = Stages(context, (8, 4, 1, 4, 4))
    found = attributed_rows(subject, stages.inside(), params)
    stages.end()
    yield Note(found.background)
    if found.unreliable:
        yield Note(f"The attributions failed their check: {found.unreliable}.")
    codec = make_codec(subject.test, *([] if subject.train is None else [subject.train]))
    silent = dataclasses.replace(context, progress=lambda done, total: None)
    magnitude = found.magnitude.mean(axis=0)
    view = _View(
        context=context,
        found=found,
        codec=codec,
        explained=explained_outputs(subject, silent, codec, params.space, 1),
        output=int(np.abs(found.attribution.values).sum(axis=(0, 1)).argmax()),
        order=np.argsort(-magnitude, kind="stable").astype(np.int64),
    )
    if len(found.outputs) > 1:
        yield Note(f"Effects and interactions are those of the {view.name}, whose attributions are largest.")
    yield from _shuffled(subject, context, params, view)
    stages.end()
    yield from _signed(view, params)
    stages.end()
    yield from _effects(context, params, view)
    yield from _categories(context, params, view)
    stages.end()
    yield from _interactions(context, params, view)
    stages.end()


def _players(view: _View, limit: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Features by name, one-hot groups as one, those of largest attribution first."""
    together: dict[tuple[bool, str], list[int]] = {}
    for j in view.order:
        group = view.found.groups[j]
        together.setdefault((group is not None, group or view.found.names[j]), []).append(int(j))
    return tuple((name, tuple(columns)) for (_, name), columns in list(together.items())[:limit])


def _shuffled(subject: Subject, context: Context, params: GlobalParams, view: _View) -> Iterator[Produced]:
    """Permutation importance on test rows of their own, with their labels."""
    rng = np.random.default_rng([context.seed, 7])
    rows = context.sample_rows(subject.test.n, params.permutation_rows)
    if len(rows) < 2:
        yield Note("Permutation importance needs two rows.")
        return
    data = subject.test.take(rows)
    matrix = np.asarray(view.codec.encode(take_rows(subject.test.inputs, rows)), dtype=np.float64)
    regression = subject.task == "regression"
    metric = "r2" if regression else "accuracy"

    def losses(many: FloatArray) -> FloatArray:
        context.check_deadline()
        decided = subject.model.predict(view.codec.decode(many))
        truth = np.tile(data.y, len(many) // len(data.y))
        wrong = (decided - truth) ** 2 if regression else (decided != truth)
        return np.asarray(wrong, dtype=np.float64)

    players = _players(view, params.max_features)
    columns, design = [columns for _, columns in players], Design(data.weights, data.clusters)
    lost = permutation_losses(losses, matrix, columns, rng, params.repeats, design)
    measured = [loss_of(name, lost, place, data, metric) for place, (name, _) in enumerate(players)]
    measured.sort(key=lambda m: -(m.value or 0.0))
    yield from measured
    yield loss_table(measured, metric, params.repeats)


def _signed(view: _View, params: GlobalParams) -> Iterator[Measurement]:
    data, n = view.found.data, len(view.found.matrix)
    for j in view.order[: params.max_features]:
        values = view.found.attribution.values[:, j, view.output]
        value, interval = mean_interval(values, data.weights, data.clusters)
        yield Measurement(
            name="explain.mean_signed_attribution",
            value=value,
            n=n,
            interval=interval,
            params={"feature": view.found.names[j], "method": "shap", "output": view.found.outputs[view.output]},
            unit=view.found.space,
            reason=None if interval else TOO_FEW,
            unreliable=view.found.unreliable,
        )


def _numeric(view: _View) -> list[int]:
    from auditkit.analyzers.explain.lime import CODED

    return [
        int(j) for j in view.order
        if not view.found.categorical[j] and view.codec.kinds[j] not in CODED and view.found.groups[j] is None
    ]  # fmt: skip


def _effects(context: Context, params: GlobalParams, view: _View) -> Iterator[Produced]:
    """One chart a feature: accumulated local effects, partial dependence, and mean Shapley values by bin."""
    drawn = 0
    rows = view.rows(params.effect_rows)
    few = view.rows(max(10, params.effect_rows // 4))
    for j in _numeric(view):
        if drawn == params.drawn_features:
            break
        context.check_deadline()
        known = rows.known(j)
        grid = view.held(j, bin_means(known.matrix[:, j], params.grid))
        if len(grid) < 2:
            continue
        drawn += 1
        rng = np.random.default_rng([context.seed, 8, j])
        effects = {
            "accumulated local effects": accumulated_local_effects(view.outputs, rows, j, grid, rng),
            "partial dependence": partial_dependence(view.outputs, few, j, grid),
            "mean Shapley value": binned_means(
                view.found.attribution.values[:, j, view.output], view.found.matrix[:, j], grid,
                view.rows(len(view.found.matrix)),
            ),
        }  # fmt: skip
        name = view.found.names[j]
        yield Curve(
            name=f"explain.global.effect.{name}",
            title=f"How the {view.name} follows {name}",
            x_label=name,
            y_label=f"change of the {view.name}",
            series=tuple(_line(word, effect) for word, effect in effects.items() if len(effect.x) > 1),
            note=f"Points are means of ten rows or more; bands are 95 % intervals over {len(known.matrix)} rows, "
            f"{len(few.matrix)} for partial dependence. Accumulated effects move a feature only a little at a time; "
            "partial dependence also asks about combinations that never occur.",
        )
    if drawn < params.drawn_features:
        yield Note("Effects are drawn for numeric features with enough different values only.")


def _categories(context: Context, params: GlobalParams, view: _View) -> Iterator[Table]:
    """One table a categorical feature: partial dependence and mean Shapley value of its categories."""
    told = 0
    whole, few = view.rows(len(view.found.matrix)), view.rows(max(10, params.effect_rows // 4))
    numeric = set(_numeric(view))
    for name, columns in _players(view, len(view.order)):
        if told == params.told_categories:
            return
        if numeric.intersection(columns):
            continue
        context.check_deadline()
        codes = whole.matrix[:, list(columns)]
        points = common_categories(codes, params.grid)
        if len(points) < 2:
            continue
        told += 1
        values = view.found.attribution.values[:, list(columns), view.output].sum(axis=1)
        yield _category_table(
            name,
            [_category(view, columns, point) for point in points],
            {
                "mean Shapley value": category_means(values, codes, points, whole),
                "partial dependence": category_dependence(view.outputs, few, columns, points),
            },
            view,
        )


def _category(view: _View, columns: tuple[int, ...], point: FloatArray) -> str:
    """A category in words: the label of a code, or the column of a one-hot group that is set."""
    if len(columns) > 1 or view.found.groups[columns[0]] is not None:
        hot = [view.found.names[column] for column, value in zip(columns, point, strict=True) if value > 0.0]
        return " and ".join(hot) or "none of them"
    labels = view.codec.categories[columns[0]]
    code = float(point[0])
    return labels[int(code)] if labels and 0 <= int(code) < len(labels) else f"{code:g}"


def _category_table(name: str, labels: list[str], effects: dict[str, Effect], view: _View) -> Table:
    rows: list[tuple[Scalar, ...]] = [
        (labels[round(float(x))], word, float(y), *(float(end) if np.isfinite(end) else None for end in (low, high)))
        for word, effect in effects.items()
        for x, y, low, high in zip(effect.x, effect.y, effect.low, effect.high, strict=True)
    ]
    rows.sort(key=lambda row: labels.index(str(row[0])))
    return Table(
        name=f"explain.global.categories.{name}",
        title=f"How the {view.name} follows {name}",
        columns=("category", "measured by", "effect", "low", "high"),
        rows=tuple(rows),
        note=f"Categories of ten rows or more, the most frequent first; change of the {view.name}, with 95 % "
        "intervals. Partial dependence gives all rows the category, its mean over these categories taken off.",
    )


def _line(name: str, effect: Effect) -> Series:
    known = bool(np.isfinite(effect.low).all() and np.isfinite(effect.high).all())
    return Series(
        name=name,
        x=tuple(float(x) for x in effect.x),
        y=tuple(float(y) for y in effect.y),
        low=tuple(float(low) for low in effect.low) if known else (),
        high=tuple(float(high) for high in effect.high) if known else (),
    )


def _interactions(context: Context, params: GlobalParams, view: _View) -> Iterator[Measurement]:
    players = _players(view, params.paired_features)
    rows = view.rows(params.pair_rows)
    if len(players) < 2 or len(rows.matrix) < 3:
        return
    context.check_deadline()
    for pair in pair_effects(view.outputs, rows.matrix, [columns for _, columns in players], rows.weights):
        names = players[pair.first][0], players[pair.second][0]
        yield _interaction(pair, rows, np.random.default_rng([context.seed, 9]), names)


def _interaction(pair: PairEffects, rows: Rows, rng: np.random.Generator, names: tuple[str, str]) -> Measurement:
    value = float(pair.strength(rows.masses()[None, :])[0])
    moved = bool(np.isfinite(value))
    interval = None
    units = len(rows.matrix) if rows.clusters is None else len(np.unique(rows.clusters))
    if moved and units > 1:
        drawn = bootstrap(
            lambda masses: pair.strength(masses)[:, None],
            len(rows.matrix),
            rng,
            weights=rows.weights,
            clusters=rows.clusters,
        )
        interval = percentile_interval(drawn[:, 0], value)
    return Measurement(
        name="explain.interaction_strength",
        value=value if moved else None,
        n=len(rows.matrix),
        interval=interval,
        params={"first": names[0], "second": names[1]},
        bounds=(0.0, 1.0),
        reason=(None if interval else TOO_FEW) if moved else "neither feature moves the output",
    )


ANALYZER = Analyzer(
    name="explain.global",
    version="7",
    title="What the model does with each feature",
    summary="Permutation importance, signed means, effects and interactions of features, each with its interval.",
    reference="Breiman (2001); Apley and Zhu (2020), Accumulated Local Effects; Friedman and Popescu (2008)",
    needs=frozenset({"model", "scores", "labels", "tabular", "inputs"}),
    measures=MEASURES,
    params=GlobalParams,
    run=run,
    extra="explain",
    packages=("shap",),
    limits="Shuffling and partial dependence ask about values that may never occur together; accumulated effects less.",
)
