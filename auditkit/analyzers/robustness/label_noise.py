"""How much wrong labels among the training rows cost: the recipe trained afresh with shares of labels flipped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from auditkit.analyzers.robustness.estimates import groups_of_enough
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import AuditkitError, DeadlineReached, NotApplicable, UsageError
from auditkit.core.evidence import Curve, Measurement, Scalar, Series, Table
from auditkit.core.subject import FloatArray, IntArray, Subject, take_rows
from auditkit.stats.estimate import Estimate

BoolArray = npt.NDArray[np.bool_]
FEWEST_ROWS = 20


class LabelNoiseParams(Params):
    """Settings of ``robustness.label_noise``.

    Attributes:
        shares: Shares of training labels that are flipped; 0, the control, is always among them.
        flip_from: Only labels of this class are flipped (the shares are then of its rows); of every class if empty.
        flip_to: They are flipped to this class (the shares are then of the rows of others); to any other if empty.
        seeds: Trainings at each share, each with other flips; the same seeds at every share.
        max_rows: Training rows used, at most.
        min_group_rows: Groups with fewer test rows are left out.
        level: Two-sided confidence level.
    """

    shares: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2)
    flip_from: str = ""
    flip_to: str = ""
    seeds: int = Field(default=5, ge=1)
    max_rows: int = Field(default=20_000, ge=FEWEST_ROWS)
    min_group_rows: int = Field(default=20, ge=1)
    level: float = Field(default=0.95, gt=0.5, lt=1.0)

    @field_validator("shares")
    @classmethod
    def _in_range(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not any(share > 0 for share in value) or any(not 0.0 <= share <= 1.0 for share in value):
            raise ValueError("shares must be one or more numbers above 0 and at most 1")
        return tuple(sorted({0.0, *value}))

    @model_validator(mode="after")
    def _two_classes(self) -> LabelNoiseParams:
        if self.flip_from and self.flip_from == self.flip_to:
            raise ValueError("flip_from and flip_to must be two classes")
        return self


@dataclass(frozen=True, kw_only=True)
class _Arm:
    """All trainings at one share: ``right (s, n)`` 1 where the test row is decided rightly, or why there is none."""

    share: float
    flipped: float
    right: FloatArray | None
    failed: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A slice of the test rows."""

    slice: Mapping[str, str]
    rows: BoolArray

    @property
    def label(self) -> str:
        return ", ".join(f"{column}: {group}" for column, group in self.slice.items()) or "all rows"


def run(subject: Subject, context: Context, params: LabelNoiseParams) -> Iterator[Produced]:
    """Train at every share of noise; yield accuracy, what is lost, the loss per point, gaps, a curve and a table."""
    context.check_deadline()
    source, target = (_class(subject, name) for name in (params.flip_from, params.flip_to))
    if len(subject.classes) < 2:
        raise NotApplicable("AK542", "the model knows fewer than two classes", why="no label can be flipped")
    assert subject.train is not None
    if subject.train.n < FEWEST_ROWS:
        raise NotApplicable(
            "AK595", f"{subject.train.n:,} training rows are too few to flip shares of", fix="give more"
        )
    arms = _arms(subject, context, params, source, target)
    parts = _parts(subject, params)
    told = _told(params)
    found: list[Measurement] = []
    for arm in arms:
        for part in parts:
            found += _of_arm(arm, arms[0], part, subject, params, told)
        found += _gaps(arm, parts, subject, params, told)
    found += [_slope(arms, part, subject, params, told) for part in parts]
    yield from found
    yield _curve(arms, parts, found)
    yield _table(arms, found)
    yield from _notes(subject, context, params, arms)


def _class(subject: Subject, name: str) -> int | None:
    """The code of a class named in the settings.

    Raises:
        UsageError: AK594 a class that the model does not know.
    """
    if not name:
        return None
    if name not in subject.classes:
        raise UsageError("AK594", f"there is no class {name!r}", fix=f"one of {', '.join(subject.classes)}")
    return subject.classes.index(name)


def _told(params: LabelNoiseParams) -> str:
    if not (params.flip_from or params.flip_to):
        return "uniform"
    return f"{params.flip_from or 'any'} to {params.flip_to or 'any other'}"


def _arms(
    subject: Subject, context: Context, params: LabelNoiseParams, source: int | None, target: int | None
) -> list[_Arm]:
    from auditkit.methods.robustness.label_noise import make_flips

    assert subject.train is not None
    rng = context.rng
    rows = context.sample_rows(subject.train.n, params.max_rows)
    inputs, y = take_rows(subject.train.inputs, rows), np.asarray(subject.train.y[rows], dtype=np.int64)
    seeds = [int(seed) for seed in rng.integers(0, 2**31, params.seeds)]
    flips = [make_flips(y, len(subject.classes), rng, source=source, target=target) for _ in seeds]
    total = len(params.shares) * len(seeds)
    arms = []
    for at, share in enumerate(params.shares):
        right, failures, flipped = [], [], []
        for done, (seed, flip) in enumerate(zip(seeds, flips, strict=True)):
            context.check_deadline()
            noisy = flip.flipped(y, share)
            flipped.append(float((noisy != y).mean()))
            try:
                right.append(_decided(subject, inputs, noisy, seed) == subject.test.y)
            except DeadlineReached:
                raise
            except AuditkitError as error:
                failures.append(error.what + (f": {error.why}" if error.why else ""))
            except Exception as error:  # a fault inside a user's recipe is this training's, not the audit's
                failures.append(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
            context.progress(at * len(seeds) + done + 1, total)
        failed = f"{len(failures)} of {len(seeds)} trainings failed: {failures[0]}" if failures else None
        stacked = None if failed else np.stack(right).astype(np.float64)
        arms.append(_Arm(share=share, flipped=float(np.mean(flipped)), right=stacked, failed=failed))
    return arms


def _decided(subject: Subject, inputs: Any, y: IntArray, seed: int) -> IntArray:
    assert subject.recipe is not None
    model = subject.recipe.fit(inputs, y, seed)
    if tuple(model.classes) != subject.classes:
        raise AuditkitError(
            "AK594", f"the recipe gives a model of the classes {', '.join(model.classes)}, not those of the model"
        )
    return np.asarray(model.predict(subject.test.inputs), dtype=np.int64)


def _parts(subject: Subject, params: LabelNoiseParams) -> list[_Part]:
    parts = [_Part(slice={}, rows=np.ones(subject.test.n, dtype=np.bool_))]
    for column, groups in groups_of_enough(subject.test.sensitive, params.min_group_rows):
        parts += [_Part(slice={column: group}, rows=member) for group, member in groups.items()]
    return parts


def _design(subject: Subject, rows: BoolArray) -> tuple[FloatArray | None, IntArray | None]:
    test = subject.test
    return (
        None if test.weights is None else test.weights[rows],
        None if test.clusters is None else test.clusters[rows],
    )


def _of_arm(
    arm: _Arm, clean: _Arm, part: _Part, subject: Subject, params: LabelNoiseParams, told: str
) -> Iterator[Measurement]:
    """Accuracy at one share, and what it lost against no noise, paired by training seed and test row."""
    from auditkit.stats.replication import replicated_difference, replicated_rate

    design = _design(subject, part.rows)
    shared: dict[str, Any] = {
        "n": int(part.rows.sum()),
        "slice": part.slice,
        "params": {"noise": arm.share, "flips": told},
    }
    value, interval = None, None
    if arm.right is not None:
        value, interval = replicated_rate(arm.right[:, part.rows], *design, level=params.level)
    yield Measurement(
        name="robustness.label_noise_accuracy",
        value=value,
        interval=interval,
        direction="higher",
        bounds=(0.0, 1.0),
        reason=arm.failed,
        **shared,
    )
    if arm is clean:
        return
    value, interval = None, None
    if arm.right is not None and clean.right is not None:
        first, second = clean.right[:, part.rows], arm.right[:, part.rows]
        value, interval = replicated_difference(first, second, *design, level=params.level)
    yield Measurement(
        name="robustness.label_noise_drop",
        value=value,
        interval=interval,
        direction="lower",
        bounds=(-1.0, 1.0),
        reason=arm.failed or clean.failed,
        **shared,
    )


def _gaps(
    arm: _Arm, parts: Sequence[_Part], subject: Subject, params: LabelNoiseParams, told: str
) -> Iterator[Measurement]:
    """Largest gap in accuracy between groups of each sensitive column, at one share."""
    from auditkit.stats.gaps import largest_gap

    for column in subject.test.sensitive:
        mine = [part for part in parts if column in part.slice]
        if len(mine) < 2:
            continue
        n = sum(int(part.rows.sum()) for part in mine)
        gap = None
        if arm.right is not None:
            groups = {
                part.slice[column]: _estimate(arm.right[:, part.rows], _design(subject, part.rows)) for part in mine
            }
            gap = largest_gap(groups, params.level, span=1.0)
        yield Measurement(
            name="robustness.label_noise_accuracy.difference",
            value=None if gap is None else gap.value,
            n=n,
            interval=None if gap is None else gap.interval,
            over=(column,),
            params={"noise": arm.share, "flips": told},
            direction="lower",
            bounds=(0.0, 1.0),
            reason=arm.failed if gap is None else gap.reason,
        )


def _estimate(hits: FloatArray, design: tuple[FloatArray | None, IntArray | None]) -> Estimate:
    from auditkit.stats.replication import replicated_rate

    return Estimate(
        value=replicated_rate(hits, *design)[0],
        n=hits.shape[1],
        bounds=lambda level: replicated_rate(hits, *design, level=level)[1],
    )


def _slope(arms: Sequence[_Arm], part: _Part, subject: Subject, params: LabelNoiseParams, told: str) -> Measurement:
    """Accuracy lost for each percentage point of flipped labels, by the least-squares line over the shares."""
    from auditkit.methods.robustness.label_noise import losses_per_span, span_weights
    from auditkit.stats.replication import replicated_difference

    failed = next((arm.failed for arm in arms if arm.failed), None)
    value, interval = None, None
    if failed is None:
        right = np.stack([arm.right[:, part.rows] for arm in arms if arm.right is not None])
        shares = np.array([arm.share for arm in arms])
        # The line may lose more over the span than there is to lose: its losses as parts of the most that it can.
        most = float(np.abs(span_weights(shares)).sum()) / 2.0
        lost = losses_per_span(shares, right) / most
        design = _design(subject, part.rows)
        whole, ends = replicated_difference(lost, np.zeros_like(lost), *design, level=params.level)
        points = 100.0 * float(shares.max() - shares.min()) / most
        value = whole / points
        interval = replace(ends, low=ends.low / points, high=ends.high / points)
    return Measurement(
        name="robustness.label_noise_slope",
        value=value,
        n=int(part.rows.sum()),
        interval=interval,
        slice=part.slice,
        params={"flips": told, "most": arms[-1].share},
        unit="accuracy per percentage point of noise",
        direction="lower",
        reason=failed,
    )


def _curve(arms: Sequence[_Arm], parts: Sequence[_Part], found: Sequence[Measurement]) -> Curve:
    rates = [m for m in found if m.name == "robustness.label_noise_accuracy"]
    series = []
    for part in parts:
        mine = [m for m in rates if m.slice == part.slice]
        series.append(Series.of(part.label, tuple(arm.share for arm in arms), mine))
    return Curve(
        name="robustness.accuracy_by_label_noise",
        title="Accuracy by share of wrong training labels",
        x_label="share of training labels flipped",
        y_label="accuracy on the test rows",
        series=tuple(series),
        note="Models trained afresh by the recipe; the test labels are as they are.",
    )


def _table(arms: Sequence[_Arm], found: Sequence[Measurement]) -> Table:
    rows: list[tuple[Scalar, ...]] = []
    for arm in arms:
        mine = {m.name: m for m in found if not m.slice and not m.over and m.params.get("noise") == arm.share}
        rate, drop = (mine.get(f"robustness.label_noise_{name}") for name in ("accuracy", "drop"))
        cells = [
            (None, None, None) if m is None or m.interval is None else (m.value, m.interval.low, m.interval.high)
            for m in (rate, drop)
        ]
        rows.append((arm.share, arm.flipped, *cells[0], *cells[1], arm.failed or ""))
    return Table(
        name="robustness.label_noise",
        title="What wrong training labels cost",
        columns=("noise", "share flipped", "accuracy", "low", "high", "lost", "lost, low", "lost, high", "failed"),
        rows=tuple(rows),
        note="All test rows. Flips at a smaller share are among those at a larger one.",
    )


def _notes(subject: Subject, context: Context, params: LabelNoiseParams, arms: Sequence[_Arm]) -> Iterator[Note]:
    assert subject.recipe is not None
    own = float((np.asarray(context.decisions()) == subject.test.y).mean())
    of_class = f" of the class {params.flip_from!r}" if params.flip_from else ""
    yield Note(
        f"{params.seeds} trainings by the recipe {subject.recipe.name!r} at each share{of_class}, with other flips in "
        f"each; the audited model itself, which is not one of them, decides {own:.1%} of the test rows rightly."
    )
    for arm in arms:
        if arm.failed:
            yield Note(f"At a share of {arm.share:g}: {arm.failed}")


ANALYZER = Analyzer(
    name="robustness.label_noise",
    version="3",
    title="Sensitivity to wrong labels",
    summary="Accuracy, overall and by group, of models trained afresh with shares of the training labels flipped.",
    reference="Natarajan et al. (2013), Learning with noisy labels; Frenay and Verleysen (2014) for a survey",
    needs=frozenset({"labels", "inputs", "model", "train", "retrain", "classification"}),
    measures={
        "robustness.label_noise_accuracy": "Share of test rows decided rightly by models trained with this share of "
        "labels flipped.",
        "robustness.label_noise_accuracy.difference": "Largest gap in that share between two groups.",
        "robustness.label_noise_drop": "Accuracy without flipped labels minus that with them, on the same rows.",
        "robustness.label_noise_slope": "Accuracy lost for each percentage point of flipped labels.",
    },
    params=LabelNoiseParams,
    run=run,
    default=False,
    limits="Flips are drawn at random; labels chosen by an attacker cost more. Labels of the training data may hold "
    "errors of their own, which come on top.",
)
