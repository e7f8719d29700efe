"""Accuracy (or error) under natural corruptions, against the clean rows one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.robustness.drops import Drop, DropLimits
from auditkit.analyzers.robustness.estimates import (
    LEVEL,
    Estimate,
    Rows,
    groups_of_enough,
    paired_mean,
    proportion,
)
from auditkit.analyzers.robustness.shifted import UNMOVED, rounding, rows_changed
from auditkit.analyzers.robustness.table_noise import Corruption, NoiseParams, corruptions_of_tables
from auditkit.core.analyzer import Analyzer, Context, Note, Produced
from auditkit.core.errors import AuditkitError, NotApplicable
from auditkit.core.evidence import Curve, Interval, Measurement, Series
from auditkit.core.subject import Dataset, FloatArray, Subject, channels_last
from auditkit.stats.estimate import Estimate as LevelledEstimate
from auditkit.stats.gaps import largest_gap, levels_of_gap
from auditkit.stats.intervals import mean_interval

BoolArray = npt.NDArray[np.bool_]
# Sensitive column -> group -> rows that belong to it.
Columns = dict[str, dict[str, BoolArray]]


@dataclass(frozen=True, kw_only=True)
class _Clean:
    """The rows looked at, and how the model did on them: ``score`` is hit or miss, or the absolute error."""

    rows: Rows
    y: npt.NDArray[Any]
    score: npt.NDArray[Any]
    groups: dict[str, npt.NDArray[np.str_]]
    classification: bool


def run(subject: Subject, context: Context, params: NoiseParams) -> Iterator[Produced]:
    """Corrupt a sample of the test rows in each way; yield the result, the paired change and a curve."""
    positions = context.sample_rows(subject.test.n, params.max_rows)
    data = subject.test.take(positions)
    corruptions, notes = _corruptions(subject.test, data, params)
    if not corruptions:
        raise NotApplicable("AK551", "there is nothing here to corrupt", why="; ".join(notes) or None)
    classification = subject.task != "regression"
    cached = context.decisions()[positions]
    clean = _Clean(
        rows=Rows.of(subject.test, positions),
        y=data.y,
        score=np.asarray(cached == data.y) if classification else np.abs(cached - data.y),
        groups=dict(data.sensitive),
        classification=classification,
    )
    for text in notes:
        yield Note(text)
    rng = context.rng
    total = sum(len(corruption.severities) for corruption in corruptions)
    done = 0
    drops = DropLimits()
    for corruption in corruptions:
        scores: list[tuple[float, npt.NDArray[Any] | None]] = []
        for severity in corruption.severities:
            context.check_deadline()
            score = _scored(subject, data.inputs, clean, corruption, severity, rng)
            if isinstance(score, str):
                yield Note(score)
                break
            scores.append((severity, score))
            done += 1
            context.progress(done, total)
        yield from _told(clean, corruption, scores, params.min_group_rows, drops)
    yield Note(f"{len(positions):,} of {subject.test.n:,} rows were corrupted, each once a severity.")


def _scored(
    subject: Subject,
    before: Any,
    clean: _Clean,
    corruption: Corruption,
    severity: float,
    rng: np.random.Generator,
) -> npt.NDArray[Any] | str | None:
    """Hit or miss (or absolute error) on corrupted rows; ``None`` when no row is changed.

    A sentence when the model takes no missing values.
    """
    if severity == 0.0:
        return clean.score
    from auditkit.core.generators import preserved_generators

    inputs = corruption.make(severity, rng)
    if not rows_changed(before, inputs, rounding(subject.test)).any():
        return None
    try:
        with preserved_generators():
            predicted = subject.model.predict(inputs)
    except (AuditkitError, ValueError, TypeError) as error:
        if corruption.name != "missing_values":
            raise
        reason = error.what if isinstance(error, AuditkitError) else str(error)
        return f"Missing values were not injected: the model does not accept them ({reason[:160]})."
    if clean.classification:
        return np.asarray(predicted == clean.y)
    return np.asarray(np.abs(np.asarray(predicted, dtype=np.float64) - clean.y))


def _unmoved(clean: _Clean, corruption: str, severity: float) -> Iterator[Measurement]:
    """What a corruption that changed no row leaves unknown."""
    for name in _names(clean.classification):
        yield Measurement(
            name=name,
            value=None,
            n=len(clean.y),
            params={"corruption": corruption, "severity": float(severity)},
            direction="higher" if name == "robustness.corrupted_accuracy" else "lower",
            bounds=_limits(clean.classification)[_names(clean.classification).index(name)],
            reason=UNMOVED.reason,
        )


def _names(classification: bool) -> tuple[str, str]:
    if classification:
        return "robustness.corrupted_accuracy", "robustness.accuracy_drop"
    return "robustness.corrupted_mean_absolute_error", "robustness.mean_absolute_error_increase"


def _limits(classification: bool) -> tuple[tuple[float | None, float | None], ...]:
    return ((0.0, 1.0), (-1.0, 1.0)) if classification else ((0.0, None), (None, None))


def _level(clean: _Clean, score: npt.NDArray[Any], rows: Rows) -> Estimate:
    return proportion(score, rows) if clean.classification else paired_mean(score.astype(np.float64), rows)


def _told(
    clean: _Clean,
    corruption: Corruption,
    scores: list[tuple[float, npt.NDArray[Any] | None]],
    min_group_rows: int,
    drops: DropLimits,
) -> Iterator[Measurement | Curve]:
    """All numbers of one corruption, and its curve; severities that changed no row have no value."""
    columns = dict(groups_of_enough(clean.groups, min_group_rows))
    told = [(severity, score) for severity, score in scores if score is not None]
    if clean.classification:
        everyone = np.ones(len(clean.y), dtype=np.bool_)
        drops.prepare(_drop(clean, score, everyone) for _, score in told)
        for groups in columns.values():
            parts = [_drop(clean, score, member) for _, score in told for member in groups.values()]
            for level in dict.fromkeys(levels_of_gap(LEVEL, len(groups)) if len(groups) > 1 else (LEVEL,)):
                drops.prepare(parts, level)
    line: list[tuple[float, Estimate]] = [(0.0, _level(clean, clean.score, clean.rows))]
    for severity, score in scores:
        if score is None:
            yield from _unmoved(clean, corruption.name, severity)
            continue
        yield from _measured(clean, score, corruption.name, severity, columns, drops)
        yield from _gaps(clean, score, corruption.name, severity, columns, drops)
        line.append((severity, _level(clean, score, clean.rows)))
    if len(line) > 1:
        yield _curve(corruption, line, clean.classification)


def _measured(
    clean: _Clean, score: npt.NDArray[Any], corruption: str, severity: float, columns: Columns, drops: DropLimits
) -> Iterator[Measurement]:
    """The level and the paired change, overall and by group."""
    slices: list[tuple[dict[str, str], BoolArray]] = [({}, np.ones(len(score), dtype=np.bool_))]
    for column, groups in columns.items():
        slices += [({column: group}, member) for group, member in groups.items()]
    for group_slice, member in slices:
        rows, n = clean.rows.where(member), int(member.sum())
        level = _level(clean, score[member], rows)
        if clean.classification:
            change = Estimate.at(drops.estimate(_drop(clean, score, member)))
        else:
            change = paired_mean(score[member] - clean.score[member], rows)
        names, bounds = _names(clean.classification), _limits(clean.classification)
        for name, estimate, limits in zip(names, (level, change), bounds, strict=True):
            yield Measurement(
                name=name,
                value=estimate.value,
                n=n,
                interval=_inside(estimate, limits),
                slice=group_slice,
                params={"corruption": corruption, "severity": float(severity)},
                direction="higher" if name == "robustness.corrupted_accuracy" else "lower",
                bounds=limits,
                reason=estimate.reason,
            )


def _gaps(
    clean: _Clean, score: npt.NDArray[Any], corruption: str, severity: float, columns: Columns, drops: DropLimits
) -> Iterator[Measurement]:
    """The largest gap between the groups of a column in what the corruption costs them."""
    for column, groups in columns.items():
        if len(groups) < 2:
            continue
        if clean.classification:
            estimates = {group: drops.estimate(_drop(clean, score, member)) for group, member in groups.items()}
        else:
            estimates = {group: _rise(clean, score, member) for group, member in groups.items()}
        gap = largest_gap(estimates, LEVEL, span=2.0 if clean.classification else None)
        yield Measurement(
            name="robustness.accuracy_drop.difference"
            if clean.classification
            else "robustness.mean_absolute_error_increase.difference",
            value=gap.value,
            n=gap.n,
            interval=gap.interval,
            over=(column,),
            params={"corruption": corruption, "severity": float(severity)},
            direction="lower",
            bounds=(0.0, 2.0 if clean.classification else None),
            reason=gap.reason,
        )


def _drop(clean: _Clean, score: npt.NDArray[Any], member: BoolArray) -> Drop:
    return Drop.of(clean.score[member], score[member], clean.rows.where(member))


def _rise(clean: _Clean, score: npt.NDArray[Any], member: BoolArray) -> LevelledEstimate:
    """Mean rise of the error of a group; limits of a mean that does not vary bound nothing."""
    rows, change = clean.rows.where(member), score[member] - clean.score[member]
    mean = mean_interval(change, rows.weights, rows.clusters, LEVEL)[0]

    def bounds(level: float) -> Interval | None:
        found = mean_interval(change, rows.weights, rows.clusters, level)[1]
        return None if found is None or found.high == found.low else found

    return LevelledEstimate(mean, len(change), bounds)


def _inside(estimate: Estimate, limits: tuple[float | None, float | None]) -> Any:
    """The interval cut at the bounds of its quantity: a mean error's symmetric interval may reach below 0."""
    from dataclasses import replace

    interval = estimate.interval
    if interval is None:
        return None
    low = interval.low if limits[0] is None else max(limits[0], interval.low)
    high = interval.high if limits[1] is None else min(limits[1], interval.high)
    return replace(interval, low=low, high=high)


def _curve(corruption: Corruption, line: list[tuple[float, Estimate]], classification: bool) -> Curve:
    ordered = sorted(dict(line).items())
    label = "accuracy" if classification else "mean absolute error"
    return Curve(
        name=f"robustness.noise.{corruption.name}",
        title=f"{label.capitalize()} under {corruption.name.replace('_', ' ')}",
        x_label=corruption.unit,
        y_label=label,
        series=(Series.of("all rows", tuple(float(severity) for severity, _ in ordered), [e for _, e in ordered]),),
    )


def _corruptions(whole: Dataset, data: Dataset, params: NoiseParams) -> tuple[list[Corruption], list[str]]:
    """The corruptions that make sense for this kind of data, and sentences on what is left out.

    Raises:
        NotApplicable: AK552 for raw text.
    """
    if data.modality == "tabular":
        return corruptions_of_tables(whole, data, params)
    if data.modality == "image":
        return _of_images(whole, data, params), []
    if data.modality == "sequence":
        from auditkit.methods.robustness.noise import replaced_tokens

        tokens = np.asarray(data.inputs)
        replaced = Corruption(
            name="token_replacement",
            severities=params.token_replacement,
            make=lambda share, rng: replaced_tokens(tokens, share, rng).astype(tokens.dtype),
            unit="share of tokens replaced",
        )
        return [replaced], []
    raise NotApplicable("AK552", "raw text is not corrupted; tables, images and token ids are")


def _of_images(whole: Dataset, data: Dataset, params: NoiseParams) -> list[Corruption]:
    from auditkit.analyzers.robustness.arena import pixel_range
    from auditkit.methods.robustness import noise

    bounds = pixel_range(whole)
    raw = np.asarray(data.inputs)
    images = raw.astype(np.float64)
    axes = _plane(images.shape)

    def back(changed: FloatArray) -> npt.NDArray[Any]:
        return (np.rint(changed) if raw.dtype.kind in "iub" else changed).astype(raw.dtype)

    return [
        Corruption(
            name="pixel_noise",
            severities=params.pixel_noise,
            make=lambda severity, rng: back(noise.gaussian_pixels(images, severity, bounds, rng)),
            unit="noise, as a fraction of the pixel range",
        ),
        Corruption(
            name="blur",
            severities=params.blur,
            make=lambda sigma, rng: back(noise.blurred(images, sigma, axes)),
            unit="standard deviation of the blur in pixels",
        ),
        Corruption(
            name="brightness",
            severities=params.brightness,
            make=lambda severity, rng: back(noise.brightened(images, severity, bounds)),
            unit="rise, as a fraction of the pixel range",
        ),
        Corruption(
            name="contrast",
            severities=params.contrast,
            make=lambda severity, rng: back(noise.faded(images, severity, bounds)),
            unit="share of contrast taken away",
        ),
    ]


def _plane(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width axes of ``(n, h, w)``, ``(n, c, h, w)`` or ``(n, h, w, c)`` images."""
    return (1, 2) if channels_last(shape) else (len(shape) - 2, len(shape) - 1)


ANALYZER = Analyzer(
    name="robustness.noise",
    version="7",
    title="Natural robustness",
    summary="Accuracy or error when inputs are noisy, missing, swapped, blurred or shifted, row by row against clean.",
    reference="Hendrycks and Dietterich (2019); paired interval after Fay and Lumbard (2021)",
    needs=frozenset({"model", "labels", "inputs"}),
    measures={
        "robustness.corrupted_accuracy": "Share of corrupted rows that the model decides rightly.",
        "robustness.accuracy_drop": "Clean accuracy minus corrupted accuracy on the same rows.",
        "robustness.accuracy_drop.difference": "Largest gap between groups in this drop.",
        "robustness.corrupted_mean_absolute_error": "Mean absolute error on corrupted rows.",
        "robustness.mean_absolute_error_increase": "Mean rise of the absolute error from clean to corrupted rows.",
        "robustness.mean_absolute_error_increase.difference": "Largest gap between groups in this rise.",
    },
    params=NoiseParams,
    run=run,
    limits="Corruptions are simulated; they are no evidence for a particular sensor, scanner or form.",
)
