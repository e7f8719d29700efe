"""Accuracy on images under the fifteen corruptions of ImageNet-C, and the mean corruption error against a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from auditkit.analyzers.robustness.estimates import paired_mean
from auditkit.analyzers.robustness.shifted import Shift, Shifted, accuracy_measures, decide_under
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Interval, Measurement
from auditkit.core.seeds import seed_integer
from auditkit.core.subject import Dataset, IntArray, Subject


class CorruptionParams(Params):
    """Settings of ``robustness.corruptions``.

    Attributes:
        corruptions: Names of the corruptions; all fifteen when left out.
        severities: Severities, each 1 to 5.
        size: Strengths made for ``large`` images (ImageNet-C, from 64 pixels on) or ``small`` ones (CIFAR-10-C).
        baseline_errors: Corruption -> mean error, in (0, 1], of the model that the mCE is relative to.
        baseline_clean_error: That model's error on clean images, for the relative mean corruption error.
        max_rows: Test images looked at.
        min_group_rows: Groups with fewer images among those looked at are left out.
    """

    corruptions: tuple[str, ...] | None = None
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    size: Literal["auto", "large", "small"] = "auto"
    baseline_errors: dict[str, float] | None = None
    baseline_clean_error: float | None = Field(default=None, ge=0.0, lt=1.0)
    max_rows: int = Field(default=500, ge=1)
    min_group_rows: int = Field(default=5, ge=1)

    @field_validator("severities")
    @classmethod
    def _known_severities(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(severity not in (1, 2, 3, 4, 5) for severity in value):
            raise ValueError("severities are numbers from 1 to 5")
        return tuple(sorted(set(value)))

    @field_validator("baseline_errors")
    @classmethod
    def _positive(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None and (not value or any(not 0.0 < error <= 1.0 for error in value.values())):
            raise ValueError("errors of a baseline are numbers in (0, 1]")
        return value


def run(subject: Subject, context: Context, params: CorruptionParams) -> Iterator[Produced]:
    """Corrupt a sample of the test images in every way; yield accuracies, the gap between groups and the mCE."""
    from auditkit.core.errors import UsageError
    from auditkit.core.registry import nearest
    from auditkit.methods.robustness.corruptions import FAMILIES, NAMES

    names = params.corruptions or NAMES
    for name in (*names, *(params.baseline_errors or {})):
        if name not in NAMES:
            raise UsageError("AK578", f"there is no corruption {name!r}", fix=nearest(name, NAMES) or ", ".join(NAMES))
    positions = context.sample_rows(subject.test.n, params.max_rows)
    shifts, large = image_shifts(subject.test, positions, context, names, params.severities, params.size)
    result = decide_under(subject, context, positions, shifts, {})
    yield from accuracy_measures(result, "corruption", params.min_group_rows, FAMILIES)
    if params.baseline_errors is not None:
        yield from _corruption_error(result, params)
    yield Note(
        f"{len(positions):,} of {subject.test.n:,} images, each corrupted once a severity with the strengths of "
        f"{'ImageNet-C' if large else 'CIFAR-10-C'}; the pattern of frost is drawn, not photographed."
    )


def image_shifts(
    test: Dataset,
    positions: IntArray,
    context: Context,
    names: tuple[str, ...],
    severities: tuple[int, ...],
    size: Literal["auto", "large", "small"] = "auto",
) -> tuple[list[Shift], bool]:
    """The corruptions of the test images at ``positions``, the same at every call, and whether they count as large.

    Raises:
        NotApplicable: AK580 images that are neither grey nor RGB.
    """
    from auditkit.analyzers.robustness.pictures import as_batch
    from auditkit.methods.robustness.corruptions import LARGE_FROM, NAMES, corrupt

    images, back = as_batch(test, test.take(positions).inputs, context.device)
    large = size == "large" or (size == "auto" and min(images.shape[-2:]) >= LARGE_FROM)

    def shift(place: int, name: str) -> Shift:
        def make(severity: int) -> Any:
            seed = seed_integer(np.random.SeedSequence([context.seed % 2**32, place, severity]))
            return back(corrupt(images, name, severity, size="large" if large else "small", seed=seed))

        return Shift(name=name, severities=severities, make=make)

    return [shift(NAMES.index(name), name) for name in names], large


def _corruption_error(result: Shifted, params: CorruptionParams) -> Iterator[Produced]:
    """The mean corruption error: each corruption's error over the baseline's, averaged; 100 is the baseline itself.

    Source: Hendrycks and Dietterich (2019), section 3.2. The baseline is taken as known, so that the interval is the
    spread of these rows alone.
    """
    from auditkit.methods.robustness.corruptions import NAMES

    known = params.baseline_errors or {}
    still = [name for name, changed in result.changed.items() if not all(changed)]
    if still:
        yield Note(f"No mean corruption error: {', '.join(still)} changed no image at some severity.")
        return
    lacking = [name for name in result.hits if name not in known]
    if lacking or params.severities != (1, 2, 3, 4, 5):
        what = f"the baseline has no error for {', '.join(lacking)}" if lacking else "it is over all five severities"
        yield Note(f"No mean corruption error: {what}.")
        return
    error = {name: 1.0 - hit.mean(axis=1) for name, hit in result.hits.items()}
    values = [("mean_corruption_error", np.mean([100.0 * error[c] / known[c] for c in error], axis=0))]
    if len(error) < len(NAMES):
        yield Note(
            f"The mean corruption error is over {len(error)} of {len(NAMES)} corruptions; published ones are over all."
        )
    clean = params.baseline_clean_error
    below = [name for name in error if clean is not None and known[name] <= clean]
    if below:
        yield Note(
            f"No relative mean corruption error: the baseline's error under {', '.join(below)} is not above its "
            f"error of {clean:g} on clean images."
        )
    elif clean is not None:
        missed = 1.0 - result.clean
        rises = [100.0 * (error[name] - missed) / (known[name] - clean) for name in error]
        values.append(("relative_mean_corruption_error", np.mean(rises, axis=0)))
    for word, value in values:
        found = paired_mean(value, result.rows)
        floor = 0.0 if word == "mean_corruption_error" else None
        yield Measurement(
            name=f"robustness.{word}",
            value=found.value,
            n=len(value),
            interval=_above(found.interval, floor),
            unit="%",
            direction="lower",
            bounds=(floor, None),
            reason=found.reason,
        )


def _above(interval: Interval | None, floor: float | None) -> Interval | None:
    """The interval cut at the least value of its quantity, where there is one."""
    if interval is None or floor is None:
        return interval
    return replace(interval, low=max(interval.low, floor), high=max(interval.high, floor))


ANALYZER = Analyzer(
    name="robustness.corruptions",
    version="5",
    title="Image corruptions",
    summary="Accuracy on images under fifteen natural corruptions at five severities: noise, blur, weather, digital.",
    reference="Hendrycks and Dietterich (2019), Benchmarking neural network robustness to common corruptions",
    needs=frozenset({"model", "labels", "inputs", "image", "classification"}),
    measures={
        "robustness.corruption_accuracy": "Share of images decided rightly under one corruption at one severity.",
        "robustness.mean_corruption_accuracy": "Mean accuracy over severities (and corruptions) of the same images.",
        "robustness.mean_corruption_accuracy.difference": "Largest gap between groups in this mean.",
        "robustness.corruption_drop": "Clean accuracy minus the mean accuracy under corruption, image by image.",
        "robustness.mean_corruption_error": "Mean over corruptions of the error as a percentage of a baseline's (mCE).",
        "robustness.relative_mean_corruption_error": "The same for the rise of the error over that on clean images.",
    },
    params=CorruptionParams,
    run=run,
    extra="torch",
    packages=("torch", "PIL"),
    limits="Corruptions are simulated, with published strengths; they are no evidence for a particular camera.",
)
