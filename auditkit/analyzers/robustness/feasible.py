"""Accuracy of a table's rows under the cheapest feasible changes, in units that people understand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from auditkit.analyzers.robustness.estimates import (
    Estimate,
    Rows,
    groups_of_enough,
    levelled_proportion,
    median,
    proportion,
)
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Curve, Measurement, Series, Table
from auditkit.core.subject import FloatArray, Subject, take_rows
from auditkit.stats.gaps import largest_gap

if TYPE_CHECKING:
    from auditkit.methods.robustness.checks import Check
    from auditkit.subjects.grid import TableGrid

BoolArray = npt.NDArray[np.bool_]


class FeasibleParams(Params):
    """Settings of ``robustness.feasible``.

    Attributes:
        costs: Budgets: the sum over features of change by scale, where a change of category costs its scale, or 1.
        max_rows: Test rows looked at.
        rounds: Rounds that make a change cheaper.
        width: Candidates a row in each round.
        draws: Blind changes a row at the largest budget, the control that the search must beat.
        freeze_sensitive: Keep columns named as sensitive where they are.
        min_group_rows: Groups with fewer rows among those looked at are left out.
    """

    costs: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    max_rows: int = Field(default=200, ge=1)
    rounds: int = Field(default=30, ge=1)
    width: int = Field(default=8, ge=2)
    draws: int = Field(default=20, ge=2)
    freeze_sensitive: bool = True
    min_group_rows: int = Field(default=5, ge=1)

    @field_validator("costs")
    @classmethod
    def _budgets(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(not np.isfinite(cost) or cost <= 0 for cost in value):
            raise ValueError("costs must be one or more finite numbers above 0")
        return tuple(sorted(set(value)))


@dataclass(frozen=True, kw_only=True)
class _Result:
    """The rows looked at, who was right, what turning each right row costs (infinite where nothing was found).

    ``breaches`` tells which of the rows break a rule or leave the bounds before any change.
    """

    rows: Rows
    right: BoolArray
    cost: FloatArray
    clean: FloatArray
    points: FloatArray
    groups: Mapping[str, npt.NDArray[np.str_]]
    checks: tuple[Check, ...]
    unreliable: str | None
    evaluations: int
    breaches: str | None

    def standing(self, budget: float) -> BoolArray:
        """``(n,)`` rows that are right and that no change within the budget turned."""
        standing = self.right.copy()
        standing[np.flatnonzero(self.right)[self.cost <= budget * (1 + 1e-9)]] = False
        return standing


def run(subject: Subject, context: Context, params: FeasibleParams) -> Iterator[Produced]:
    """Search the cheapest feasible change of each right row; yield accuracy by budget, the gap, costs and changes."""
    from auditkit.core.generators import preserved_generators
    from auditkit.subjects.grid import require_movable, table_grid

    grid = table_grid(subject.test, freeze_sensitive=params.freeze_sensitive, choose=True)
    require_movable(grid)
    with preserved_generators():
        result = _searched(subject, context, params, grid)
    yield from _accuracies(result, params)
    middle = median(result.cost, result.rows.where(result.right))
    yield Measurement(
        name="robustness.median_feasible_cost",
        value=middle.value,
        n=len(result.cost),
        interval=middle.interval,
        direction="higher",
        bounds=(0.0, None),
        reason=middle.reason,
        unreliable=result.unreliable,
    )
    yield _curve(result, params)
    yield _changes(result, grid, max(params.costs))
    yield Table(
        name="robustness.feasible.checks",
        title="Self-checks of the search",
        columns=("check", "passed", "observed", "limit", "a failure means"),
        rows=tuple((c.name, c.passed, float(c.observed), float(c.limit), c.meaning) for c in result.checks),
        note=result.unreliable or "All self-checks passed.",
    )
    rules = "" if grid.space.rules is None else f" Kept: {'; '.join(dict.fromkeys(grid.space.rules.texts))}."
    yield Note(
        f"{len(result.right)} of {subject.test.n:,} rows; {result.evaluations:,} model evaluations. A cost of 1 is one "
        f"standard deviation of one column, or its scale in the schema, or one change of category.{rules}"
    )
    if result.breaches:
        yield Note(result.breaches)
    if grid.frozen:
        yield Note(f"Never changed: {', '.join(grid.frozen[:12])}{' ...' if len(grid.frozen) > 12 else ''}.")


def _searched(subject: Subject, context: Context, params: FeasibleParams, grid: TableGrid) -> _Result:
    """Search, decide every point found afresh, and look at each for feasibility again."""
    from auditkit.analyzers.robustness.arena import breaches
    from auditkit.methods.robustness import checks
    from auditkit.methods.robustness.cheapest import blind_change, cheapest_change

    def decide(points: FloatArray) -> npt.NDArray[np.int64]:
        context.check_deadline()
        return np.asarray(subject.model.predict(grid.codec.decode(points)), dtype=np.int64)

    positions = context.sample_rows(subject.test.n, params.max_rows)
    everyone = np.asarray(grid.codec.encode(take_rows(subject.test.inputs, positions)), dtype=np.float64)
    cached = np.asarray(context.decisions(), dtype=np.int64)[positions]
    right = np.asarray(cached == subject.test.y[positions])
    first, second = decide(everyone), decide(everyone)
    x, y, rng = everyone[right], cached[right], context.rng
    found = cheapest_change(
        decide,
        x,
        y,
        grid.space,
        pool=grid.matrix,
        rounds=params.rounds,
        width=params.width,
        rng=rng,
        tick=context.progress,
    )
    turned = found.success.copy()
    if turned.any():
        turned[turned] = decide(found.points[turned]) != y[turned]
    feasible = grid.space.feasible(x, found.points, None)
    searched = np.where(turned & feasible, grid.space.cost(x, found.points), np.inf)
    top = max(params.costs)
    blind = blind_change(x, grid.space, top, draws=params.draws, rng=rng)
    flat = decide(blind.reshape(-1, x.shape[1])) if len(x) else np.zeros(0, dtype=np.int64)
    # Rows that a blind change turned have fallen, too, whatever the search found.
    price = grid.space.cost(x[:, None], blind)
    price = np.where((flat.reshape(blind.shape[:2]) != y[:, None]) & (price > 0.0), price, np.inf)
    pick = blind[np.arange(len(x)), price.argmin(axis=1)] if len(x) else x
    drawn = np.where(grid.space.feasible(x, pick, None), price.min(axis=1, initial=np.inf), np.inf)
    points, cost = np.where((drawn < searched)[:, None], pick, found.points), np.minimum(searched, drawn)
    results = (
        checks.clean_agrees(cached.astype(np.float64), first.astype(np.float64)),
        checks.deterministic(first.astype(np.float64), second.astype(np.float64)),
        checks.inside(int((found.success & ~feasible).sum())),
        checks.never_beaten(
            "random changes are weaker", [searched <= top], [drawn <= top], "blind feasible changes turn more decisions"
        ),
    )
    return _Result(
        rows=Rows.of(subject.test, positions),
        right=right,
        cost=cost,
        clean=x,
        points=points,
        groups={name: values[positions] for name, values in subject.test.sensitive.items()},
        checks=results,
        unreliable=checks.verdict(results) if right.any() else None,
        evaluations=found.n_evaluations + len(flat) + 2 * len(everyone) + int(turned.sum()),
        breaches=breaches(grid.space, everyone),
    )


def _accuracies(result: _Result, params: FeasibleParams) -> Iterator[Measurement]:
    """Accuracy at each budget, overall and by group, and the largest gap."""
    name = "robustness.feasible_accuracy"
    for budget in params.costs:
        standing = result.standing(budget)
        yield _accuracy(result, name, standing, np.ones(len(standing), dtype=np.bool_), budget, {})
        for column, kept in groups_of_enough(result.groups, params.min_group_rows):
            for group, member in kept.items():
                yield _accuracy(result, name, standing, member, budget, {column: group})
            if len(kept) < 2:
                continue
            gap = largest_gap(
                {g: levelled_proportion(standing[m], result.rows.where(m)) for g, m in kept.items()}, span=1.0
            )
            yield Measurement(
                name=f"{name}.difference",
                value=gap.value,
                n=gap.n,
                interval=gap.interval,
                over=(column,),
                params={"cost": budget},
                direction="lower",
                bounds=(0.0, 1.0),
                reason=gap.reason,
                unreliable=result.unreliable,
            )


def _accuracy(
    result: _Result, name: str, standing: BoolArray, member: BoolArray, budget: float, group: Mapping[str, str]
) -> Measurement:
    estimate: Estimate = proportion(standing[member], result.rows.where(member))
    return Measurement(
        name=name,
        value=estimate.value,
        n=int(member.sum()),
        interval=estimate.interval,
        slice=group,
        params={"cost": budget},
        direction="higher",
        bounds=(0.0, 1.0),
        reason=estimate.reason,
        unreliable=result.unreliable,
    )


def _curve(result: _Result, params: FeasibleParams) -> Curve:
    budgets = (0.0, *params.costs)
    found = [proportion(result.standing(b) if b else result.right, result.rows) for b in budgets]
    return Curve(
        name="robustness.feasible_accuracy",
        title="Accuracy under the cheapest feasible changes",
        x_label="cost (standard deviations, or changes of category)",
        y_label="accuracy",
        series=(Series.of("all rows", budgets, found),),
        note=result.unreliable or "",
    )


def _changes(result: _Result, grid: TableGrid, top: float) -> Table:
    """Which features the changes within the largest budget used, and by how much, in the features' own units."""
    used = result.cost <= top
    x, points = result.clean[used], result.points[used]
    moved = ~((points == x) | (np.isnan(points) & np.isnan(x)))
    choices = {int(column): choice.columns for choice in grid.space.choices for column in choice.columns[:1]}
    rows = []
    for place, name in enumerate(grid.names):
        if place in choices:
            changed = moved[:, choices[place]].any(axis=1)
            size, unit = None, "another category"
            group = grid.codec.columns[place].feature.group
            name = f"{group} (one-hot group)" if group else name
        elif grid.space.mutable[place]:
            changed = moved[:, place]
            size = float(np.median(np.abs(points[changed, place] - x[changed, place]))) if changed.any() else None
            unit = grid.units[place] or "as in the table"
        else:
            continue
        share = float(changed.mean()) if len(changed) else 0.0
        if changed.any():
            rows.append((name, round(share, 4), size, unit))
    rows.sort(key=lambda row: -row[1])
    return Table(
        name="robustness.feasible.changes",
        title="What the cheapest changes were",
        columns=("feature", "share of turned rows", "median size of the change", "unit"),
        rows=tuple(rows),
        note=f"{int(used.sum())} of {len(result.cost)} rightly decided rows were turned at a cost of at most {top:g}.",
    )


ANALYZER = Analyzer(
    name="robustness.feasible",
    version="5",
    title="Feasible changes of a table",
    summary="Accuracy when rows change within kinds, bounds, directions and rules of the schema, at a cost.",
    reference="Simonetto et al. (2022) and Ballet et al. (2019) on attacks of tables within constraints; own search",
    needs=frozenset({"model", "labels", "inputs", "tabular", "classification"}),
    measures={
        "robustness.feasible_accuracy": "Share of rows decided rightly that no change found within the cost turned.",
        "robustness.feasible_accuracy.difference": "Largest gap between groups in this accuracy.",
        "robustness.median_feasible_cost": "Median cost of the cheapest change found that turned a right decision.",
    },
    params=FeasibleParams,
    run=run,
    default=False,
    limits="A search gives an upper bound of accuracy and of cost: a better one may find cheaper changes.",
)
