"""From the arms' decisions to measurements, curves and a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from auditkit.analyzers.privacy.dp_arms import (
    ATTACKED_ROWS,
    CLIP_ONLY,
    NON_PRIVATE,
    PRIVATE,
    RECIPE,
    Arm,
    Choices,
    Trial,
    correct,
    part_of,
)
from auditkit.analyzers.retraining import Where, design
from auditkit.core.analyzer import Note
from auditkit.core.evidence import Curve, Interval, Measurement, Scalar, Series, Table
from auditkit.core.subject import Dataset, FloatArray, TorchTrainingRecipe

EXACT = "computed from the training's settings, not estimated from data"


def spent(arm: Arm) -> Iterator[Measurement]:
    """Epsilon and noise of a private arm."""
    assert arm.guarantee is not None
    promise = arm.guarantee
    yield Measurement(
        name="privacy.epsilon",
        value=promise.epsilon,
        n=promise.n,
        params={"epsilon": arm.epsilon, "accountant": promise.accountant},
        direction="lower",
        bounds=(0.0, None),
        reason=EXACT,
    )
    yield Measurement(
        name="privacy.noise_multiplier",
        value=promise.noise_multiplier,
        n=promise.n,
        params={"epsilon": arm.epsilon},
        bounds=(0.0, None),
        reason=EXACT,
    )


def accuracy(trial: Trial, test: Dataset, where: Sequence[Where], level: float) -> Iterator[Measurement]:
    """Accuracy of an arm for each slice."""
    outcomes = None if trial.decisions is None else correct(trial, test.y)
    for part in where:
        yield _rate("privacy.dp_accuracy", trial, outcomes, part, test, level)


def selection_rate(
    trial: Trial, test: Dataset, positive: int, where: Sequence[Where], level: float
) -> Iterator[Measurement]:
    """Share of positive decisions of an arm for each slice."""
    chosen = None if trial.decisions is None else (trial.decisions == positive).astype(np.float64)
    for part in where:
        yield _rate("privacy.dp_selection_rate", trial, chosen, part, test, level)


def robustness(trial: Trial, test: Dataset, radius: float, level: float) -> Iterator[Measurement]:
    """Accuracy of an arm on some test rows under attack."""
    from auditkit.stats.replication import replicated_rate

    value, interval, n = None, None, ATTACKED_ROWS
    if trial.attacked is not None:
        n = trial.attacked.shape[1]
        rows = np.zeros(test.n, dtype=np.bool_)
        rows[part_of(test.n, ATTACKED_ROWS)] = True
        right = (trial.attacked == test.y[rows][None, :]).astype(np.float64)
        value, interval = replicated_rate(right, *design(test, rows), level=level)
    yield Measurement(
        name="privacy.dp_robust_accuracy",
        value=value,
        n=n,
        interval=interval,
        params={**_params(trial.arm), "eps": radius},
        direction="higher",
        bounds=(0.0, 1.0),
        reason=None if value is not None else trial.failed or "token ids are not perturbed",
    )


def leakage(trial: Trial, n: int, clustered: bool) -> Iterator[Measurement]:
    """Area under the curve of the loss attack on an arm's models, averaged over its trainings."""
    value, interval = None, None
    reason = trial.failed
    if trial.leaks:
        value, low, high = (float(part) for part in np.mean(trial.leaks, axis=0))
        reason = "rows of one cluster are alike, which the interval would not know" if clustered else None
        if not clustered:
            # Trainings share their rows: averaging the bounds takes them as entirely dependent.
            interval = Interval(low=min(low, value), high=max(high, value), method="delong, mean over trainings")
    yield Measurement(
        name="privacy.dp_membership_auc",
        value=value,
        n=n,
        interval=interval,
        params=_params(trial.arm),
        direction="lower",
        bounds=(0.0, 1.0),
        reason=reason,
    )


def cost(base: Trial, trial: Trial, test: Dataset, where: Sequence[Where], level: float) -> Iterator[Measurement]:
    """Accuracy of ``base`` minus that of ``trial``, paired by seed and by test row, for each slice."""
    from auditkit.stats.replication import replicated_difference

    for part in where:
        params: dict[str, Scalar] = {**_params(trial.arm), "baseline": base.arm.name}
        failed = base.failed or trial.failed
        value, interval = None, None
        if failed is None:
            first, second = correct(base, test.y)[:, part.rows], correct(trial, test.y)[:, part.rows]
            value, interval = replicated_difference(first, second, *design(test, part.rows), level=level)
        yield Measurement(
            name="privacy.dp_accuracy_cost",
            value=value,
            n=int(part.rows.sum()),
            interval=interval,
            slice=part.slice,
            params=params,
            direction="lower",
            bounds=(-1.0, 1.0),
            reason=failed,
        )


def _params(arm: Arm) -> dict[str, Scalar]:
    return {"epsilon": arm.epsilon, "arm": arm.name}


def _rate(
    name: str, trial: Trial, outcomes: FloatArray | None, part: Where, test: Dataset, level: float
) -> Measurement:
    from auditkit.stats.replication import replicated_rate

    value, interval = None, None
    if outcomes is not None:
        value, interval = replicated_rate(outcomes[:, part.rows], *design(test, part.rows), level=level)
    return Measurement(
        name=name,
        value=value,
        n=int(part.rows.sum()),
        interval=interval,
        slice=part.slice,
        params=_params(trial.arm),
        direction="higher" if name == "privacy.dp_accuracy" else "neutral",
        bounds=(0.0, 1.0),
        reason=trial.failed,
    )


def frontier(measured: Sequence[Measurement], columns: Sequence[str], recipe: str) -> Iterator[Curve]:
    """Accuracy against epsilon: one chart of all rows, one for the groups of each sensitive column."""
    rates = [m for m in measured if m.name == "privacy.dp_accuracy"]
    for column in (None, *columns):
        labels = sorted({m.slice.get(column, "") for m in rates if column in m.slice}) if column else [""]
        lines: list[Series] = []
        for label in labels:
            mine = [m for m in rates if (m.slice.get(column) == label if column else not m.slice)]
            lines += _lines(mine, f"{column}={label}" if column else "all rows")
        if lines:
            yield Curve(
                name="privacy.dp_frontier" + (f".{column}" if column else ""),
                title="What privacy costs" + (f", by {column}" if column else ""),
                x_label="epsilon",
                y_label="accuracy on the test rows",
                series=tuple(lines),
                note=f"Models trained afresh by the recipe {recipe!r}; a smaller epsilon is more private, flat "
                "lines are the same training without privacy.",
            )


def _lines(measured: Sequence[Measurement], label: str) -> list[Series]:
    private = sorted((m for m in measured if m.params["arm"] == PRIVATE), key=lambda m: float(m.params["epsilon"] or 0))
    if not private:
        return []
    x = tuple(float(m.params["epsilon"] or 0) for m in private)
    lines = [Series.of(label, x, private)]
    plain = next((m.value for m in measured if m.params["arm"] == NON_PRIVATE), None)
    if plain is not None and len(x) > 1:
        lines.append(Series(name=f"{label}, without privacy", x=(x[0], x[-1]), y=(plain, plain)))
    return lines


def arms_table(measured: Sequence[Measurement], arms: Sequence[Arm], seeds: int) -> Table:
    """Every arm with what it spent and its accuracy on all rows and on each group."""
    promises = {(arm.name, arm.epsilon): arm.guarantee for arm in arms}
    rows: list[tuple[Scalar, ...]] = []
    for m in measured:
        if m.name != "privacy.dp_accuracy":
            continue
        promise = promises.get((str(m.params["arm"]), m.params["epsilon"]))  # type: ignore[arg-type]
        group = ", ".join(f"{column}={value}" for column, value in m.slice.items()) or "all rows"
        bounds = (m.interval.low, m.interval.high) if m.interval else (None, None)
        ledger = (promise.epsilon, promise.second_opinion, promise.loose) if promise else (None, None, None)
        noise = promise.noise_multiplier if promise else None
        others = [None, None] if m.slice else [_of(measured, name, m) for name in _BESIDES]
        rows.append((m.params["arm"], m.params["epsilon"], group, m.value, *bounds, m.n, *others, *ledger, noise))
    columns = (
        "arm",
        "epsilon",
        "rows",
        "accuracy",
        "low",
        "high",
        "n",
        "accuracy under attack",
        "membership AUC",
        "spent (PRV)",
        "spent (PLD)",
        "spent (RDP, loose)",
    )
    return Table(
        name="privacy.dp_arms",
        title="Training with and without privacy",
        columns=(*columns, "noise multiplier"),
        rows=tuple(rows),
        note=f"Each arm trained {seeds} times with the same seeds. RDP is valid but loose: for comparison only.",
    )


_BESIDES = ("privacy.dp_robust_accuracy", "privacy.dp_membership_auc")


def _of(measured: Sequence[Measurement], name: str, like: Measurement) -> float | None:
    """The value of ``name`` in the arm of ``like``."""
    keys = ("arm", "epsilon")
    return next(
        (m.value for m in measured if m.name == name and all(m.params[k] == like.params[k] for k in keys)), None
    )


def findings(measured: Sequence[Measurement], columns: Sequence[str]) -> Iterator[Note]:
    """For each sensitive column, the group that the smallest epsilon costs most, and clipping's share of it."""
    costs = [m for m in measured if m.name == "privacy.dp_accuracy_cost" and m.value is not None]
    costs = [m for m in costs if m.params["baseline"] == NON_PRIVATE]
    private = [m for m in costs if m.params["arm"] == PRIVATE]
    for column in columns:
        mine = [m for m in private if column in m.slice and m.interval is not None]
        if not mine:
            continue
        smallest = min(float(m.params["epsilon"] or 0) for m in mine)
        worst = max((m for m in mine if m.params["epsilon"] == smallest), key=lambda m: m.value or 0.0)
        clipped = next((m.value for m in costs if m.params["arm"] == CLIP_ONLY and m.slice == worst.slice), None)
        if clipped is None:
            yield Note(f"No statement on what privacy costs by {column}: the arm that only clips gave no model.")
            continue
        assert worst.interval is not None
        low, high = worst.interval.low, worst.interval.high
        share = f"; clipping alone costs {clipped:+.3f}, the noise the rest"
        yield Note(
            f"By {column}, epsilon {smallest:g} costs most accuracy for {worst.slice[column]}: {worst.value:+.3f} "
            f"({low:+.3f} to {high:+.3f}) against the same training without privacy"
            f"{', which may be no cost at all' if low <= 0.0 <= high else ''}{share}."
        )


def advice(recipe: TorchTrainingRecipe, choices: Choices, n: int) -> Iterator[Table | Note]:
    """What other batch sizes would do to the noise at the smallest epsilon."""
    from auditkit.methods.privacy.dp_advice import batch_options

    target = min(choices.epsilons)
    options = batch_options(
        target,
        n=n,
        delta=choices.delta,
        epochs=recipe.epochs,
        batch_size=choices.batch_size,
        learning_rate=choices.learning_rate,
    )
    yield Table(
        name="privacy.dp_advice",
        title=f"Batch sizes for epsilon {target:g}",
        columns=("batch size", "steps", "noise multiplier", "learning rate", "noise of all steps"),
        rows=tuple((o.batch_size, o.steps, o.noise_multiplier, o.learning_rate, o.noise) for o in options),
        note="Same passes and same epsilon. The last column is the noise in each weight over the furthest that clipped "
        "gradients can move it: smaller is better. Learning rates are scaled with the batch.",
    )
    now, best = options[0], min(options, key=lambda option: option.noise)
    if best.noise < 0.8 * now.noise:
        yield Note(
            f"At epsilon {target:g} batches of {best.batch_size} rows (dp_batch_size) with learning rate "
            f"{best.learning_rate:g} (dp_learning_rate) would have {best.noise / now.noise:.2f} times the noise of "
            f"{now.batch_size}; for more gain, try a smaller max_grad_norm with the learning rate raised as much."
        )


BASELINES = (NON_PRIVATE, RECIPE)
