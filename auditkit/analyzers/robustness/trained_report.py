"""From the arms' models to measurements, the frontier, the table and what is said of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.retraining import Data, Where, design, slices
from auditkit.analyzers.robustness.trained_arms import ATTACKED, NAMES, Ring, Trial
from auditkit.core.analyzer import Note
from auditkit.core.evidence import Curve, Interval, Measurement, Scalar, Series, Table
from auditkit.core.subject import Dataset, IntArray, Subject

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.training import TrainingParams
    from auditkit.methods.robustness.robust_training import RobustSettings

Values = npt.NDArray[Any]

CLEAN, CORRUPTED, ROBUST = (
    "robustness.training_accuracy",
    "robustness.training_corrupted_accuracy",
    "robustness.training_robust_accuracy",
)
COST, GAIN, OWN_GAP = (
    "robustness.training_accuracy_cost",
    "robustness.training_robustness_gain",
    "robustness.training_attack_gap",
)
PASSES, DEVIATION = "robustness.training_passes", "robustness.training_deviation"
EXACT = "counted from the training's settings, not estimated from data"


def statements(
    subject: Subject, data: Data, ring: Ring, arms: Sequence[RobustSettings], params: TrainingParams
) -> Iterator[Note]:
    """What the numbers are about."""
    assert subject.recipe is not None
    arm = arms[0]
    yield Note(
        f"These numbers are about models trained afresh by the recipe {subject.recipe.name!r} on {data.n} rows, "
        f"{params.seeds} times each way; the audited model ({subject.model.kind}) is not measured here. All ways share "
        f"{'initial weights, batches' if params.engine == 'own' else 'initial weights'}, {arm.epochs} passes, batches "
        f"of {arm.batch_size} and learning rate {arm.learning_rate:g}, which suit standard training."
    )
    yield Note(
        f"eps {arm.eps:g} is in {ring.grid.unit}, in training and in the attack that judges all ways alike: "
        f"{params.attack}, {params.attack_steps} steps from {params.attack_restarts} starts, on {len(ring.attacked)} "
        f"of {subject.test.n:,} test rows; training sees {arm.steps} steps (one, for fast adversarial training)."
    )
    if ring.shifts:
        kinds = ", ".join(shift.name.replace("_", " ") for shift in ring.shifts[:3])
        more = f" and {len(ring.shifts) - 3} more" if len(ring.shifts) > 3 else ""
        yield Note(f"{len(ring.corrupted)} test rows were corrupted, for all ways alike: {kinds}{more}.")
    if ring.grid.frozen:
        shown = ", ".join(ring.grid.frozen[:12]) + (" ..." if len(ring.grid.frozen) > 12 else "")
        yield Note(f"Never changed, in training or by the attack: {shown}.")
    if params.engine == "art":
        from auditkit.methods.robustness.art_training import TRAINERS

        for way in params.arms:
            if TRAINERS.get(way):
                yield Note(f"Trained by the Adversarial Robustness Toolbox: {TRAINERS[way]}.")


def measured(base: Trial, trial: Trial, test: Dataset, ring: Ring, params: TrainingParams) -> Iterator[Measurement]:
    """All numbers of one arm; ``base`` is standard training."""
    everyone = np.arange(test.n, dtype=np.int64)
    named: dict[str, Scalar] = {"arm": trial.arm}
    attacked: dict[str, Scalar] = {**named, "attack": params.attack, "norm": "linf", "eps": float(trial.settings.eps)}
    table = _Slices(test, params.min_group_rows, params.level)
    parts = (
        (CLEAN, trial.right, everyone, _About(named, None, trial.failed)),
        (CORRUPTED, trial.corrupted, ring.corrupted, _About(named, None, trial.failed or ring.why)),
        (ROBUST, trial.standing, ring.attacked, _About(attacked, trial.unreliable, trial.failed)),
    )
    for name, values, positions, about in parts:
        yield from table.rates(name, values, positions, about)
        yield _deviation(name, values, test, positions, trial, about.reason, params.level)
    if trial.arm != base.arm:
        failed = base.failed or trial.failed
        gained = _About(attacked, base.unreliable or trial.unreliable, failed)
        yield from table.changes(COST, base.right, trial.right, everyone, _About(named, None, failed))
        yield from table.changes(GAIN, trial.standing, base.standing, ring.attacked, gained)
    if trial.own is not None or (trial.failed and trial.arm in ATTACKED):
        about = _About(attacked, trial.unreliable, trial.failed)
        yield from table.changes(OWN_GAP, trial.own, trial.standing, ring.attacked, about, groups=False)
    yield Measurement(
        name=PASSES,
        value=trial.settings.passes / 2.0,
        n=params.seeds,
        n_of="trainings",
        params=named,
        direction="lower",
        bounds=(0.0, None),
        reason=EXACT,
    )


@dataclass(frozen=True)
class _About:
    """What identifies a number, why it must not be relied on, and why there is none, if so."""

    params: Mapping[str, Scalar]
    unreliable: str | None = None
    reason: str | None = None


class _Slices:
    """Means over rows and trainings for all rows and each group of the test data."""

    def __init__(self, test: Dataset, least: int, level: float) -> None:
        self.test, self.least, self.level = test, least, level
        self.parts = slices(test)

    def rates(
        self,
        name: str,
        values: Values | None,
        positions: IntArray,
        about: _About,
    ) -> Iterator[Measurement]:
        """The mean of ``values (seeds, len(positions))`` for each slice, and the gap between the groups of a column."""
        for part in self.parts:
            yield self._one(name, self._mean(values), values, positions, part, about, 0.0)
        for column in self.test.sensitive:
            yield self._gap(name, values, positions, column, about)

    def changes(
        self,
        name: str,
        first: Values | None,
        second: Values | None,
        positions: IntArray,
        about: _About,
        *,
        groups: bool = True,
    ) -> Iterator[Measurement]:
        """The mean of ``first - second``, paired by training and row, for each slice."""
        from auditkit.stats.replication import replicated_difference

        def change(at: Any, rows: IntArray, level: float) -> tuple[float, Interval]:
            assert first is not None
            assert second is not None
            one, two = first[:, at].astype(np.float64), second[:, at].astype(np.float64)
            return replicated_difference(one, two, *design(self.test, rows), level=level)

        known = first if second is not None else None
        for part in self.parts if groups else self.parts[:1]:
            yield self._one(name, change, known, positions, part, about, -1.0)

    def _mean(self, values: Values | None) -> Callable[[Any, IntArray, float], tuple[float, Interval]]:
        from auditkit.stats.replication import replicated_rate

        def mean(at: Any, rows: IntArray, level: float) -> tuple[float, Interval]:
            assert values is not None
            return replicated_rate(values[:, at].astype(np.float64), *design(self.test, rows), level=level)

        return mean

    def _one(
        self,
        name: str,
        estimate: Callable[[Any, IntArray, float], tuple[float, Interval]],
        values: Values | None,
        positions: IntArray,
        part: Where,
        about: _About,
        low: float,
    ) -> Measurement:
        at = part.rows[positions]
        n, reason = int(at.sum()), about.reason
        few = n < self.least if part.slice else n == 0
        value, interval = None, None
        if values is not None and not few:
            value, interval = estimate(at, positions[at], self.level)
        elif values is not None:
            reason = f"{n} rows of this group were looked at, fewer than min_group_rows = {self.least}"
        return Measurement(
            name=name,
            value=value,
            n=n,
            interval=interval,
            slice=part.slice,
            params=about.params,
            direction="lower" if name in (COST, OWN_GAP) else "higher",
            bounds=(low, 1.0),
            reason=None if value is not None else reason,
            unreliable=about.unreliable if value is not None else None,
        )

    def _gap(
        self,
        name: str,
        values: Values | None,
        positions: IntArray,
        column: str,
        about: _About,
    ) -> Measurement:
        from auditkit.stats.estimate import Estimate
        from auditkit.stats.gaps import largest_gap

        mean = self._mean(values)
        groups: dict[str, Estimate] = {}
        for part in self.parts:
            at = part.rows[positions]
            if values is None or column not in part.slice or int(at.sum()) < self.least:
                continue

            def bounds(level: float, at: Any = at) -> Interval:
                return mean(at, positions[at], level)[1]

            groups[part.slice[column]] = Estimate(
                value=mean(at, positions[at], self.level)[0], n=int(at.sum()), bounds=bounds
            )
        gap = largest_gap(groups, self.level, span=1.0)
        return Measurement(
            name=f"{name}.difference",
            value=gap.value,
            n=gap.n,
            interval=gap.interval,
            over=(column,),
            params=about.params,
            direction="lower",
            bounds=(0.0, 1.0),
            reason=about.reason if values is None else gap.reason,
            unreliable=about.unreliable if gap.value is not None else None,
        )


def _deviation(
    name: str,
    values: Values | None,
    test: Dataset,
    positions: IntArray,
    trial: Trial,
    reason: str | None,
    level: float,
) -> Measurement:
    """Standard deviation over trainings of an accuracy, with the chi-square interval of a normal sample."""
    value, interval = None, None
    count = 0 if values is None else len(values)
    if values is not None and count < 2:
        reason = "one training shows no spread"
    elif values is not None:
        from scipy.stats import chi2

        weights = design(test, positions)[0]
        value = float(np.average(values, axis=1, weights=weights).std(ddof=1))
        if value == 0.0:
            reason = "all trainings have the same accuracy, which bounds nothing"
        else:
            reason = None
            ends = [math.sqrt((count - 1) / float(chi2.ppf(q, count - 1))) for q in (0.5 + level / 2, 0.5 - level / 2)]
            interval = Interval(low=value * ends[0], high=value * ends[1], level=level, method="chi-square")
    return Measurement(
        name=DEVIATION,
        value=value,
        n=count,
        n_of="trainings",
        interval=interval,
        params={"arm": trial.arm, "of": name.removeprefix("robustness.training_")},
        direction="lower",
        bounds=(0.0, None),
        reason=reason,
    )


def told(trial: Trial, params: TrainingParams) -> Iterator[Note]:
    """What must be said of an arm: that it failed, or that it learnt to defeat its own attack only."""
    name = NAMES[trial.arm]
    if trial.failed:
        yield Note(f"{name}: no number, as {trial.failed}.")
    if trial.overfitted:
        assert trial.own is not None
        assert trial.standing is not None
        way = (
            "lower fast_step or eps, keep fast_random_start, or train by pgd" if trial.arm == "fast" else "raise steps"
        )
        yield Note(
            f"{name}: catastrophic overfitting in {trial.overfitted} of {len(trial.own)} trainings. Its models "
            f"withstand the attack that they were trained with on {trial.own.mean():.3f} of the rows and "
            f"{params.attack} on {trial.standing.mean():.3f} (Wong et al. 2020, section 5.1); {way}."
        )
    if trial.label and not trial.label.startswith(params.attack):
        yield Note(f"{name}: its models were attacked by {trial.label}.")


def findings(found: Sequence[Measurement]) -> Iterator[Note]:
    """For each arm, what it gains and costs against standard training."""
    for gain in found:
        if gain.name != GAIN or gain.slice or gain.value is None or gain.interval is None:
            continue
        cost = _of(found, COST, gain)
        passes = _of(found, PASSES, gain)
        if cost is None or passes is None or cost.value is None or passes.value is None:
            continue
        low, high = gain.interval.low, gain.interval.high
        sure = "" if low > 0.0 or high < 0.0 else ", which may be no change"
        doubt = f" This gain is unreliable: {gain.unreliable}." if gain.unreliable else ""
        yield Note(
            f"{NAMES[str(gain.params['arm'])]}: robust accuracy {gain.value:+.3f} ({low:+.3f} to {high:+.3f}{sure}), "
            f"clean accuracy {-cost.value:+.3f}, {passes.value:g} times the passes of standard training.{doubt}"
        )


def frontier(found: Sequence[Measurement], recipe: str) -> Iterator[Curve]:
    """Robust against clean accuracy, a point an arm."""
    points = []
    for robust in found:
        clean = _of(found, CLEAN, robust)
        if robust.name != ROBUST or robust.slice or robust.value is None or clean is None or clean.value is None:
            continue
        ends = robust.interval
        points.append(
            Series(
                name=NAMES[str(robust.params["arm"])],
                x=(clean.value,),
                y=(robust.value,),
                low=(ends.low if ends else None,),
                high=(ends.high if ends else None,),
            )
        )
    if points:
        yield Curve(
            name="robustness.training_frontier",
            title="Clean against robust accuracy, by way of training",
            x_label="accuracy on clean test rows",
            y_label="accuracy under attack",
            series=tuple(points),
            note=f"Models trained afresh by the recipe {recipe!r}; up and to the right is better.",
        )


def arms_table(found: Sequence[Measurement], params: TrainingParams) -> Table:
    """Every arm on all rows and on each group: clean, corrupted and robust accuracy, and what it took."""
    rows: list[tuple[Scalar, ...]] = []
    for clean in found:
        if clean.name != CLEAN:
            continue
        corrupted, robust, gap = (_of(found, name, clean) for name in (CORRUPTED, ROBUST, OWN_GAP))
        passes = _of(found, PASSES, clean) if not clean.slice else None
        spread = next(
            (m.value for m in found if m.name == DEVIATION and m.params["arm"] == clean.params["arm"]
             and m.params["of"] == "robust_accuracy" and not clean.slice),
            None,
        )  # fmt: skip
        rows.append(
            (
                NAMES[str(clean.params["arm"])],
                ", ".join(f"{column}={value}" for column, value in clean.slice.items()) or "all rows",
                *_cells(clean),
                *_cells(corrupted),
                *_cells(robust),
                spread,
                None if gap is None or clean.slice else gap.value,
                None if passes is None else passes.value,
            )
        )
    return Table(
        name="robustness.training_arms",
        title="Ways of training",
        columns=(
            "way of training",
            "rows",
            *(f"{word}{part}" for word in ("clean", "corrupted", "robust") for part in ("", ", low", ", high")),
            "deviation of robust over trainings",
            "own attack minus robust",
            "passes, times standard",
        ),
        rows=tuple(rows),
        note=f"Each way trained {params.seeds} times with the same seeds; intervals are over rows and trainings. "
        "Passes are rows passed forward and backward through the model in training.",
    )


def _cells(m: Measurement | None) -> tuple[float | None, float | None, float | None]:
    if m is None:
        return None, None, None
    return m.value, m.interval.low if m.interval else None, m.interval.high if m.interval else None


def _of(found: Sequence[Measurement], name: str, like: Measurement) -> Measurement | None:
    """The measurement ``name`` of the arm and slice of ``like``."""
    return next(
        (m for m in found if m.name == name and m.slice == like.slice and m.params["arm"] == like.params.get("arm")),
        None,
    )
