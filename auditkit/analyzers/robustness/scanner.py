"""Accuracy on medical images under simulated shifts of the scanner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from auditkit.analyzers.robustness.shifted import Shift, accuracy_measures, decide_under
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.seeds import seed_integer
from auditkit.core.subject import Subject


class ScannerParams(Params):
    """Settings of ``robustness.scanner``.

    Attributes:
        shifts: Names of the shifts; Rician noise is that of MR, Poisson noise that of X-rays and CT.
        severities: Severities, each 1 to 5.
        max_rows: Test images looked at.
        min_group_rows: Groups with fewer images among those looked at are left out.
    """

    shifts: tuple[str, ...] = ("gain", "gamma", "bias_field", "blur", "resampling", "rician_noise", "poisson_noise")
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    max_rows: int = Field(default=500, ge=1)
    min_group_rows: int = Field(default=5, ge=1)

    @field_validator("severities")
    @classmethod
    def _known_severities(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or any(severity not in (1, 2, 3, 4, 5) for severity in value):
            raise ValueError("severities are numbers from 1 to 5")
        return tuple(sorted(set(value)))

    @field_validator("shifts")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name one shift or more")
        return tuple(dict.fromkeys(value))


def run(subject: Subject, context: Context, params: ScannerParams) -> Iterator[Produced]:
    """Shift a sample of the test images in every way; yield accuracies and the gap between groups."""
    from auditkit.analyzers.robustness.pictures import as_batch
    from auditkit.core.errors import UsageError
    from auditkit.core.registry import nearest
    from auditkit.methods.robustness.scanner import NAMES, scanner_shift

    for name in params.shifts:
        if name not in NAMES:
            raise UsageError(
                "AK578", f"there is no scanner shift {name!r}", fix=nearest(name, NAMES) or ", ".join(NAMES)
            )
    positions = context.sample_rows(subject.test.n, params.max_rows)
    images, back = as_batch(subject.test, subject.test.take(positions).inputs, context.device)

    def shift(name: str) -> Shift:
        def make(severity: int) -> Any:
            seed = seed_integer(np.random.SeedSequence([context.seed % 2**32, NAMES.index(name), severity]))
            return back(scanner_shift(images, name, severity, seed=seed))

        return Shift(name=name, severities=params.severities, make=make)

    result = decide_under(subject, context, positions, [shift(name) for name in params.shifts], {})
    yield from accuracy_measures(result, "scanner", params.min_group_rows)
    yield Note(
        f"Simulated: {len(positions):,} of {subject.test.n:,} images were changed by arithmetic, not taken on another "
        "scanner. Images of other sites, named as a sensitive column, are better evidence where there are any."
    )


ANALYZER = Analyzer(
    name="robustness.scanner",
    version="5",
    title="Scanner shift (simulated)",
    summary="Accuracy on medical images when exposure, shading, sharpness, resolution or noise shift by arithmetic.",
    reference="Di Salvo et al. (2024), MedMNIST-C; Gudbjartsson and Patz (1995) on Rician noise",
    needs=frozenset({"model", "labels", "inputs", "image", "classification"}),
    measures={
        "robustness.scanner_accuracy": "Share of images decided rightly under one simulated shift at one severity.",
        "robustness.mean_scanner_accuracy": "Mean accuracy over severities, and over shifts, of the same images.",
        "robustness.mean_scanner_accuracy.difference": "Largest gap between groups in mean accuracy under shifts.",
        "robustness.scanner_drop": "Clean accuracy minus the mean accuracy under shifts, image by image.",
    },
    params=ScannerParams,
    run=run,
    extra="torch",
    packages=("torch",),
    default=False,
    limits="Simulated shifts are no evidence for a real scanner; they show where a model gives way first.",
)
