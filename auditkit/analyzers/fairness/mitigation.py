"""``fairness.mitigation``: what mitigation would buy: accuracy against disparity, on the same test rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from auditkit.analyzers.fairness.measured import measured
from auditkit.analyzers.fairness.mitigation_arms import (
    AS_IS,
    DECORRELATED,
    REDUCTION,
    RETRAINED,
    THRESHOLDS,
    Arm,
    Task,
    make_arms,
)
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import UsageError
from auditkit.core.evidence import Curve, Measurement, Scalar, Series, Table
from auditkit.core.subject import FloatArray, Subject
from auditkit.stats.linearised import Design

if TYPE_CHECKING:
    from auditkit.methods.fairness.expected_rates import Cells

_GAPS = {
    "selection_rate": "selection rates",
    "equalized_odds": "true and false positive rates",
}
_MEASURES = {
    "fairness.mitigated_accuracy": "Expected share of test rows that the arm decides as labelled.",
    "fairness.mitigated_accuracy_change": "That share less that of the audited model on the same rows.",
    **{
        f"fairness.mitigated_{name}.difference": f"Largest gap between groups in expected {text} under the arm."
        for name, text in _GAPS.items()
    },
    **{
        f"fairness.mitigated_{name}_change.difference": f"That gap in {text} less that of the audited model, same rows."
        for name, text in _GAPS.items()
    },
}


class MitigationParams(Params):
    """Settings of ``fairness.mitigation``."""

    columns: tuple[str, ...] = Field((), description="Sensitive columns to mitigate for, one at a time; all if empty.")
    constraint: Literal["demographic_parity", "equalized_odds"] = Field(
        "demographic_parity", description="Which rates are to be made equal."
    )
    tolerances: tuple[float, ...] = Field(
        (0.01, 0.05, 0.1), min_length=1, description="Gaps allowed on the training rows: the points of the frontier."
    )
    alphas: tuple[float, ...] = Field((1.0, 0.5), description="Shares of correlation removed by CorrelationRemover.")
    rounds: int = Field(10, ge=2, description="Most rounds of ExponentiatedGradient; each trains a few times.")
    max_groups: int = Field(8, ge=2, description="Columns with more groups are left out.")
    max_rows: int = Field(20_000, ge=50, description="Training rows used.")
    level: float = Field(0.95, gt=0.5, lt=1.0, description="Two-sided confidence level.")


def run(subject: Subject, context: Context, params: MitigationParams) -> Iterator[Produced]:
    """Each sensitive column in turn: every arm on the same rows, then the frontier and what it comes to."""
    context.check_deadline()
    columns = params.columns or tuple(subject.test.sensitive)
    unknown = [name for name in columns if name not in subject.test.sensitive]
    if unknown:
        raise UsageError(
            "AK433",
            f"{unknown[0]!r} is not a sensitive column",
            where="columns",
            fix=f"choose from {', '.join(subject.test.sensitive)}",
        )
    tasks = []
    for column in columns:
        task = _task(subject, column, context, params)
        if task is None:
            yield Note(f"{column}: the training rows do not have it, so nothing was fitted to its groups.")
        else:
            tasks.append(task)
    yield from _fit_of_training(subject, context)
    for done, task in enumerate(tasks):
        test_groups = set(np.unique(task.test_groups).tolist())
        if not 2 <= len(test_groups) <= params.max_groups:
            yield Note(f"{task.column}: {len(test_groups)} groups; 2 to {params.max_groups} can be mitigated for.")
            continue
        yield from _column(task, context, params)
        context.progress(done + 1, len(tasks))


def _task(subject: Subject, column: str, context: Context, params: MitigationParams) -> Task | None:
    train = subject.split("train")
    if column in train.sensitive:
        groups = train.sensitive[column]
    elif column in getattr(train.inputs, "columns", ()):
        from auditkit.stats.coding import encode_groups

        names, codes = encode_groups(train.inputs[column])
        groups = np.array(names)[codes]
    else:
        return None
    rows = context.sample_rows(train.n, params.max_rows)
    return Task(
        subject=subject,
        column=column,
        constraint=params.constraint,
        rows=rows,
        train_groups=groups[rows],
        tolerances=tuple(sorted(params.tolerances)),
        alphas=params.alphas,
        rounds=params.rounds,
    )


def _fit_of_training(subject: Subject, context: Context) -> Iterator[Note]:
    """Thresholds are set on training rows; where the model knows those by heart, they do not carry over."""
    right = [float((context.decisions(name) == subject.split(name).y).mean()) for name in ("train", "test")]
    if right[0] - right[1] > 0.05:
        yield Note(
            f"The model decides {right[0]:.0%} of the training rows as labelled and {right[1]:.0%} of the test rows, "
            "so thresholds set on its training scores may not carry over; a held-out split would be better."
        )


def _column(task: Task, context: Context, params: MitigationParams) -> Iterator[Produced]:
    from auditkit.methods.fairness.expected_rates import Cells
    from auditkit.stats.coding import encode_groups

    test = task.subject.test
    names, codes = encode_groups(task.test_groups)
    codes = codes.astype(np.int64)
    positive = test.y == task.subject.positive
    cells = {
        "selection_rate": Cells(codes, len(names)),
        "equalized_odds": Cells(positive * len(names) + codes, len(names), 2),
    }
    design = Design(test.weights, test.clusters)
    base: FloatArray | None = None
    results: list[tuple[Arm, dict[str, Measurement]]] = []
    for arm in make_arms(task, context):
        context.check_deadline()
        if base is None:
            base = arm.chance
        found = {m.name: m for m in _measured(arm, base, positive, cells, design, task, params.level)}
        yield from found.values()
        results.append((arm, found))
    shown = "selection_rate" if params.constraint == "demographic_parity" else "equalized_odds"
    yield _table(task, shown, results)
    yield from _frontier(task, shown, results)
    yield from _findings(task, shown, results)


def _measured(
    arm: Arm,
    base: FloatArray | None,
    positive: npt.NDArray[np.bool_],
    cells: Mapping[str, Cells],
    design: Design,
    task: Task,
    level: float,
) -> Iterator[Measurement]:
    from auditkit.methods.fairness.expected_rates import expected_change, expected_gap, expected_rate, gap_change

    n, column = len(positive), task.column
    tags: dict[str, Scalar] = {"arm": arm.name, **arm.setting}
    shared: dict[str, Any] = {"params": tags, "n": n}
    if arm.chance is None or base is None:
        for name in _MEASURES:
            over = (column,) if name.endswith(".difference") else ()
            if not over:
                tags_here = {**tags, "column": column}
            yield Measurement(
                name=name, value=None, n=n, over=over, params=tags if over else tags_here, reason=arm.failed or "no arm"
            )
        return
    right, right_before = (np.where(positive, c, 1.0 - c) for c in (arm.chance, base))
    about = {"params": {**tags, "column": column}, "n": n, "direction": "higher"}
    accuracy = expected_rate(right, design)
    yield measured("fairness.mitigated_accuracy", accuracy, level, clip=True, bounds=(0.0, 1.0), **about)
    if arm.name != AS_IS:
        change = expected_change(right_before, right, design)
        yield measured("fairness.mitigated_accuracy_change", change, level, clip=True, bounds=(-1.0, 1.0), **about)
    for name, part in cells.items():
        gap = expected_gap(arm.chance, part, design, level)
        yield Measurement(
            name=f"fairness.mitigated_{name}.difference",
            value=gap.value,
            interval=gap.interval,
            over=(column,),
            direction="lower",
            bounds=(0.0, 1.0),
            reason=gap.reason,
            **shared,
        )
        if arm.name != AS_IS:
            moved = gap_change(base, arm.chance, part, design, level)
            yield measured(
                f"fairness.mitigated_{name}_change.difference",
                moved,
                level,
                clip=True,
                bounds=(-1.0, 1.0),
                over=(column,),
                direction="lower",
                **shared,
            )


def _setting(arm: Arm) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in arm.setting.items()) if arm.setting else ""


def _cell(m: Measurement | None, sign: str = "") -> str | None:
    if m is None or m.value is None:
        return None
    ends = f" ({m.interval.low:{sign}.3f} to {m.interval.high:{sign}.3f})" if m.interval else ""
    return f"{m.value:{sign}.3f}{ends}"


def _table(task: Task, shown: str, results: list[tuple[Arm, dict[str, Measurement]]]) -> Table:
    rows = []
    for arm, found in results:
        parts = [
            _cell(found.get(f"fairness.mitigated_{name}"), sign)
            for name, sign in (
                ("accuracy", ""),
                (f"{shown}.difference", ""),
                ("accuracy_change", "+"),
                (f"{shown}_change.difference", "+"),
            )
        ]
        rows.append((arm.name, _setting(arm), *parts, f"failed: {arm.failed}" if arm.failed else arm.note))
    return Table(
        name=f"fairness.mitigation.{task.column}",
        title=f"Mitigation for {task.column}: accuracy against the gap in {_GAPS[shown]}",
        columns=("arm", "setting", "accuracy", "gap", "change of accuracy", "change of gap", "about the arm"),
        rows=tuple(rows),
        note=(
            "All arms decide the same test rows; changes are against the model as it is, with paired intervals. Arms "
            "that draw at random are given by what they would decide on average."
        ),
    )


def _frontier(task: Task, shown: str, results: list[tuple[Arm, dict[str, Measurement]]]) -> Iterator[Curve]:
    series = []
    for name in (RETRAINED, AS_IS, THRESHOLDS, REDUCTION, DECORRELATED):
        points = []
        for arm, found in results:
            gap, accuracy = (found.get(f"fairness.mitigated_{q}") for q in (f"{shown}.difference", "accuracy"))
            if arm.name != name or gap is None or accuracy is None or gap.value is None or accuracy.value is None:
                continue
            ends = (accuracy.interval.low, accuracy.interval.high) if accuracy.interval else (None, None)
            points.append((gap.value, accuracy.value, *ends))
        if points:
            x, y, low, high = zip(*sorted(points, key=lambda p: p[0]), strict=True)
            series.append(Series(name=name, x=x, y=y, low=low, high=high))
    if series:
        yield Curve(
            name=f"fairness.mitigation_frontier.{task.column}",
            title=f"What mitigation for {task.column} would buy",
            x_label=f"largest gap in {_GAPS[shown]} between groups of {task.column}",
            y_label="accuracy on the test rows",
            series=tuple(series),
            note="Up and to the left is better. Intervals are of the accuracy; those of the gap are in the table.",
        )


def _findings(task: Task, shown: str, results: list[tuple[Arm, dict[str, Measurement]]]) -> Iterator[Note]:
    """Whether there is a gap to narrow, and which arm narrows it most."""
    name, column = f"fairness.mitigated_{shown}.difference", task.column
    base = results[0][1].get(name)
    if base is None or base.value is None:
        yield Note(f"{column}: the gap of the model as it is is undefined: {base.reason if base else 'no rows'}.")
        return
    if base.interval is None or base.interval.low <= 0.0:
        ends = f" ({base.interval.low:.3f} to {base.interval.high:.3f})" if base.interval else ""
        yield Note(
            f"{column}: no gap is shown that could be narrowed. The model's own gap of {base.value:.3f}{ends} may be "
            "none, and what an arm seems to gain may be noise."
        )
        return
    changes = [
        (arm, found[key], found.get("fairness.mitigated_accuracy_change"))
        for arm, found in results
        if (key := f"fairness.mitigated_{shown}_change.difference") in found and found[key].value is not None
    ]
    sure = [item for item in changes if item[1].interval is not None and item[1].interval.high < 0.0]
    if not sure:
        yield Note(f"{column}: no arm narrows the model's gap of {base.value:.3f} beyond its interval.")
        return
    arm, change, cost = min(sure, key=lambda item: item[1].value or 0.0)
    assert change.interval is not None
    paid = ""
    if cost is not None and cost.value is not None and cost.interval is not None:
        paid = (
            f", for a change in accuracy of {cost.value:+.3f} ({cost.interval.low:+.3f} to {cost.interval.high:+.3f})"
        )
    yield Note(
        f"{column}: {arm.name} ({_setting(arm) or 'no setting'}) moves the gap of {base.value:.3f} most, by "
        f"{change.value:+.3f} ({change.interval.low:+.3f} to {change.interval.high:+.3f}){paid}. It was picked as the "
        "best of several, so confirm it on other rows."
    )


ANALYZER = Analyzer(
    name="fairness.mitigation",
    version="4",
    title="What mitigation would buy",
    summary="How accuracy and disparity would move under three ways to mitigate, beside the model as it is.",
    reference=(
        "Hardt et al. (2016), section 3; Agarwal et al. (2018), algorithm 1; Bird et al. (2020), Fairlearn "
        "(ThresholdOptimizer, ExponentiatedGradient, CorrelationRemover)"
    ),
    needs=frozenset({"labels", "inputs", "model", "train", "train_sensitive", "sensitive", "binary"}),
    measures=_MEASURES,
    params=MitigationParams,
    run=run,
    extra="fairness",
    packages=("fairlearn",),
    default=False,
    limits=(
        "Group thresholds and the removal of correlations need the group of every person at decision time, which may "
        "not be lawful. Thresholds and mixtures may decide like cases differently, by a draw. All is fitted on the "
        "training rows, and only linear traces in numeric columns are removed. Intervals are of the test rows, not of "
        "training again."
    ),
)
