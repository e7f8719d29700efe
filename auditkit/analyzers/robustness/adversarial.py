"""Accuracy under attack: gradients through torch models, questions to all others, checked beside the number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.robustness.adversarial_settings import AdversarialParams
from auditkit.analyzers.robustness.estimates import Estimate, groups_of_enough, levelled_proportion, median, proportion
from auditkit.core.analyzer import Analyzer, Context, Note, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Curve, Measurement, Scalar, Series, Table
from auditkit.core.subject import Subject, take_rows

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.arena import Grid
    from auditkit.analyzers.robustness.attacked import Attacked
    from auditkit.analyzers.robustness.strikes import Budget

BoolArray = npt.NDArray[np.bool_]

TABLE_EPS = (0.05, 0.1, 0.25)
IMAGE_EPS = (0.01, 0.03, 0.1)


def run(subject: Subject, context: Context, params: AdversarialParams) -> Iterator[Produced]:
    """Attack a sample of the test rows; yield accuracy under attack, its checks, its curve and its parts."""
    from auditkit.analyzers.robustness.arena import breaches, make_grid
    from auditkit.analyzers.robustness.attacked import attack_rows, rows_at_most
    from auditkit.core.generators import preserved_generators
    from auditkit.methods.robustness.state import undisturbed

    if len(subject.classes) < 2:
        raise NotApplicable("AK542", "the model knows fewer than two classes", why="no decision can be changed")
    grid = make_grid(subject.test, freeze_sensitive=params.freeze_sensitive)
    positions = context.sample_rows(subject.test.n, rows_at_most(grid, params.max_rows))
    context.check_deadline()
    eps_list = params.eps or (IMAGE_EPS if subject.test.modality == "image" else TABLE_EPS)
    model = getattr(subject.model, "logits", None)
    with undisturbed(model) if model is not None else preserved_generators():
        result, notes = attack_rows(subject, context, _budget(params), grid, positions, eps_list)
    yield from _clean(result)
    for eps in eps_list:
        yield from _at(result, eps, params.min_group_rows)
    yield _median_distance(result)
    yield _curve(result, eps_list, grid, params.min_group_rows)
    yield from _tables(result)
    if grid.names:
        yield _units(grid, eps_list)
    size = "" if params.norm == "linf" else f", as the {params.norm} norm over all of them"
    yield Note(f"eps is in {grid.unit}{size}; {len(positions):,} of {subject.test.n:,} rows were looked at.")
    if grid.frozen:
        shown = ", ".join(grid.frozen[:12]) + (" ..." if len(grid.frozen) > 12 else "")
        yield Note(f"Never changed by the attack: {shown}.")
    own = breaches(grid.space, grid.encode(take_rows(subject.test.inputs, positions))) if grid.names else None
    for text in (*notes, *([own] if own else [])):
        yield Note(text)


def _budget(params: AdversarialParams) -> Budget:
    from auditkit.analyzers.robustness.strikes import Budget

    return Budget(
        attack=params.attack,
        norm=params.norm,
        steps=params.steps,
        check_rows=params.check_rows,
        restarts=params.restarts,
        noise_draws=params.noise_draws,
        search_rounds=params.search_rounds,
        hopskipjump_rows=params.hopskipjump_rows,
        hopskipjump_steps=params.hopskipjump_steps,
        hopskipjump_queries=params.hopskipjump_queries,
    )


def _clean(result: Attacked) -> Iterator[Produced]:
    estimate = proportion(result.right, result.rows)
    yield _measurement("robustness.clean_accuracy", estimate, len(result.right), direction_higher=True)


def _at(result: Attacked, eps: float, min_group_rows: int) -> Iterator[Produced]:
    """Accuracy and success rate at one eps, overall and by group."""
    standing = result.standing(eps)
    params = {**result.base, "eps": float(eps)}
    yield _measurement(
        "robustness.accuracy",
        proportion(standing, result.rows),
        len(standing),
        params=params,
        unreliable=result.unreliable,
        direction_higher=True,
    )
    fooled = result.strike.fooled[eps]
    rate = proportion(fooled, result.rows.where(result.right))
    if not len(fooled):
        rate = Estimate(value=None, interval=None, reason="the model decides none of these rows rightly")
    yield _measurement(
        "robustness.attack_success_rate",
        rate,
        len(fooled),
        params=params,
        unreliable=result.unreliable,
        direction_higher=False,
    )
    for column, groups in groups_of_enough(result.groups, min_group_rows):
        for group, member in groups.items():
            yield _measurement(
                "robustness.accuracy",
                proportion(standing[member], result.rows.where(member)),
                int(member.sum()),
                params=params,
                group={column: group},
                unreliable=result.unreliable,
                direction_higher=True,
            )
        if len(groups) > 1:
            yield _gap(result, column, groups, standing, params)


def _gap(
    result: Attacked, column: str, groups: Mapping[str, BoolArray], standing: BoolArray, params: Mapping[str, Scalar]
) -> Measurement:
    """Largest gap in accuracy under attack between two groups."""
    from auditkit.stats.gaps import largest_gap

    shares = {group: levelled_proportion(standing[rows], result.rows.where(rows)) for group, rows in groups.items()}
    gap = largest_gap(shares, span=1.0)
    return Measurement(
        name="robustness.accuracy.difference",
        value=gap.value,
        n=gap.n,
        interval=gap.interval,
        over=(column,),
        params=params,
        direction="lower",
        bounds=(0.0, 1.0),
        reason=gap.reason,
        unreliable=result.unreliable,
    )


def _median_distance(result: Attacked) -> Measurement:
    """Median of the smallest change that fooled a row, over rows searched without a limit where there are any."""
    strike = result.strike
    rows = strike.measured if strike.measured.any() else np.ones(len(strike.distance), dtype=np.bool_)
    return _measurement(
        "robustness.median_distance",
        median(strike.distance[rows], result.rows.where(result.right).where(rows)),
        int(rows.sum()),
        params=result.base,
        unreliable=result.unreliable,
        direction_higher=True,
        upper=None,
    )


def _measurement(  # noqa: PLR0913 - the fields of one record
    name: str,
    estimate: Estimate,
    n: int,
    *,
    params: Mapping[str, Scalar] | None = None,
    group: Mapping[str, str] | None = None,
    unreliable: str | None = None,
    direction_higher: bool,
    upper: float | None = 1.0,
) -> Measurement:
    return Measurement(
        name=name,
        value=estimate.value,
        n=n,
        interval=estimate.interval,
        params=params or {},
        slice=group or {},
        direction="higher" if direction_higher else "lower",
        bounds=(0.0, upper),
        reason=estimate.reason,
        unreliable=unreliable,
    )


def _curve(result: Attacked, eps_list: tuple[float, ...], grid: Grid, min_group_rows: int) -> Curve:
    """Accuracy against eps from 0 (clean), overall and by group of each sensitive column."""
    everyone = np.ones(len(result.right), dtype=np.bool_)
    lines = [("all rows", everyone)]
    for column, groups in groups_of_enough(result.groups, min_group_rows):
        lines += [(f"{column}: {group}", member) for group, member in groups.items()]
    radii = tuple(dict.fromkeys((0.0, *map(float, eps_list))))
    series = []
    for name, member in lines:
        found = [
            proportion((result.right if eps == 0.0 else result.standing(eps))[member], result.rows.where(member))
            for eps in radii
        ]
        series.append(Series.of(name, radii, found))
    return Curve(
        name="robustness.accuracy_by_eps",
        title="Accuracy under attack",
        x_label=f"eps ({grid.unit})",
        y_label="accuracy",
        series=tuple(series),
        note=result.unreliable or "",
    )


def _tables(result: Attacked) -> Iterator[Table]:
    """The self-checks, and what each part of the attack found."""
    strike = result.strike
    yield Table(
        name="robustness.adversarial.checks",
        title="Self-checks of the attack",
        columns=("check", "passed", "observed", "limit", "a failure means"),
        rows=tuple((c.name, c.passed, float(c.observed), float(c.limit), c.meaning) for c in strike.checks),
        note=result.unreliable or "All self-checks passed.",
    )
    yield Table(
        name="robustness.adversarial.parts",
        title="What each part of the attack found",
        columns=("part", "eps", "rows attacked", "rows fooled"),
        rows=tuple((name, float(eps), n, hits) for name, eps, n, hits in strike.parts),
        note=f"{strike.evaluations} model evaluations in all. The number reported counts a row as fooled when any part "
        "fooled it.",
    )


def _units(grid: Grid, eps_list: tuple[float, ...]) -> Table:
    """How far each column that may change may go, in its own unit: a whole number moves by whole steps."""
    rows: list[tuple[Scalar, ...]] = []
    for place in np.flatnonzero(grid.space.mutable):
        reach = np.multiply(eps_list, grid.space.scale[place])
        reach = np.floor(reach + 1e-9) if grid.space.whole[place] else reach
        rows.append(
            (grid.names[place], *(float(f"{far:.4g}") for far in reach), grid.units[place] or "as in the table")
        )
    return Table(
        name="robustness.adversarial.units",
        title="Largest change of each column",
        columns=("column", *(f"eps {eps:g}" for eps in eps_list), "unit"),
        rows=tuple(rows),
        note="Each within the bounds of its column. A whole number that would move by less than 1 does not move.",
    )


ANALYZER = Analyzer(
    name="robustness.adversarial",
    version="7",
    title="Adversarial robustness",
    summary="Accuracy on inputs changed by an attacker within stated bounds, with self-checks of the attack itself.",
    reference="Madry et al. (2018); Croce and Hein (2020); Chen, Jordan and Wainwright (2020); Brendel et al. (2018); "
    "Carlini et al. (2019) on evaluation",
    needs=frozenset({"model", "labels", "inputs", "classification"}),
    measures={
        "robustness.clean_accuracy": "Share of the rows looked at that the model decides rightly before any change.",
        "robustness.accuracy": "Share of rows decided rightly, and still so at every point tried within eps.",
        "robustness.accuracy.difference": "Largest gap in that share between two groups.",
        "robustness.attack_success_rate": "Share of rightly decided rows for which the attack found a wrong decision.",
        "robustness.median_distance": "Median size of the smallest scaled change that fooled a row, by the norm.",
    },
    params=AdversarialParams,
    run=run,
    limits="An attack gives an upper bound: a stronger one may find more. It is no certificate.",
)
