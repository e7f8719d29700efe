"""Evidence of the reference card (36 rates, 40,000 attributions, 16 overlays) and of a large audit."""

from __future__ import annotations

import base64
from dataclasses import replace

import numpy as np

from auditkit.core.evidence import (
    DataFacts,
    Density,
    Evidence,
    FeatureFacts,
    ImageGrid,
    Interval,
    Measurement,
    Outcome,
    Picture,
    PlanFacts,
    SubjectFacts,
)
from auditkit.core.schema import seal
from auditkit.render.charts.pictures import Tile, laid_over

METRICS = ("selection_rate", "true_positive_rate", "false_positive_rate")
GROUPS = 12


def overlays(rng: np.random.Generator) -> ImageGrid:
    """Sixteen synthetic pictures of 64 x 64 with an attribution over each."""
    across = np.linspace(-3, 3, 64)
    pictures = []
    for index in range(16):
        blob = np.exp(-((across[:, None] - index / 8 + 1) ** 2) - across[None] ** 2)
        grey = 120 + 90 * blob + rng.normal(0, 6, (64, 64))
        signed = 128 + 120 * np.sin(across[:, None] * (1 + index / 8)) * np.exp(-(across[None] ** 2) / 3)
        mixed = laid_over(_tile(grey, "grey"), _tile(signed, "signed"))
        pixels = base64.b64encode(mixed.pixels).decode()
        pictures.append(Picture(label=f"class {index % 10}", height=64, width=64, pixels=pixels, palette="signed"))
    return ImageGrid(name="explain.overlays", title="Mean attributions by class.", pictures=tuple(pictures))


def _tile(values: np.ndarray, palette: str) -> Tile:
    pixels = np.clip(values, 0, 255).astype(np.uint8).tobytes()
    return Tile(label="", height=64, width=64, pixels=pixels, palette=palette)


def rates(rng: np.random.Generator) -> tuple[Measurement, ...]:
    """Three rates of twelve groups, each with its interval."""
    found = []
    for metric in METRICS:
        for group in range(GROUPS):
            value, n = float(rng.uniform(0.2, 0.7)), int(rng.integers(300, 900))
            found.append(
                Measurement(
                    name=f"fairness.{metric}",
                    value=value,
                    n=n,
                    interval=Interval(low=value - 0.05, high=value + 0.05, method="wilson"),
                    bounds=(0.0, 1.0),
                    slice={"region": f"region {group + 1}"},
                )
            )
    return tuple(found)


def attributions(rng: np.random.Generator) -> Density:
    """2,000 rows x 20 features, counted in 80 bins a feature."""
    values = rng.normal(size=(2000, 20)) * np.linspace(1.5, 0.1, 20)
    edges = np.linspace(values.min(), values.max(), 81)
    counts = [np.histogram(values[:, i], edges)[0].tolist() for i in range(20)]
    color = [[float(rng.uniform()) if n else None for n in row] for row in counts]
    return Density(
        name="explain.shap.density",
        title="Attributions of 20 features",
        x_label="attribution",
        rows=tuple(f"feature_{i}" for i in range(20)),
        edges=tuple(edges.tolist()),
        counts=tuple(map(tuple, counts)),
        color=tuple(map(tuple, color)),
    )


def reference() -> Evidence:
    """The reference card's evidence."""
    rng = np.random.default_rng(0)
    measured, density = rates(rng), attributions(rng)
    facts = DataFacts(
        fingerprint="sha256:0",
        n_rows=2000,
        modality="tabular",
        features=tuple(FeatureFacts(name=name, kind="numeric") for name in density.rows),
    )
    subject = SubjectFacts(
        name="reference model",
        task="binary",
        model_kind="reference",
        model_fingerprint=None,
        classes=("no", "yes"),
        positive="yes",
        score_space="probability",
        capabilities=(),
        test=facts,
    )
    outcomes = (
        Outcome(analyzer="fairness.rates", version="1", status="measured", measurements=measured),
        Outcome(analyzer="explain.shap", version="1", status="measured", artifacts=(density, overlays(rng))),
    )
    return seal(Evidence(subject=subject, plan=PlanFacts(seed=0, analyzers=()), outcomes=outcomes))


def many(count: int) -> Evidence:
    """Evidence of ``count`` measurements of 50 quantities, each for groups of 500 rows."""
    found = tuple(
        Measurement(
            name=f"acme.q{i % 50:02}",
            value=0.25 + (i % 400) / 1000,
            n=500,
            bounds=(0.0, 1.0),
            slice={"g": f"g{i // 50}"},
            interval=Interval(low=0.2, high=0.7, method="wilson"),
        )
        for i in range(count)
    )
    outcome = Outcome(analyzer="acme.q", version="1", status="measured", measurements=found)
    base = reference()
    groups = {f"g{i}": 500 for i in range(-(-count // 50))}
    test = replace(base.subject.test, n_rows=sum(groups.values()), sensitive={"g": groups})
    return seal(replace(base, subject=replace(base.subject, test=test), outcomes=(outcome,)))
