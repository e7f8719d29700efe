"""``privacy.memorisation``: does the training learn secrets of a text by heart?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import AuditkitError
from auditkit.core.evidence import Curve, Measurement, Series, Table
from auditkit.core.subject import IntArray, Subject, TrainingRecipe

SECRET_WORDS = 4


class MemorisationParams(Params):
    """Settings of ``privacy.memorisation``.

    Attributes:
        repeats: How often each secret is put into the training rows, one training for all of them together.
        secrets: Secrets for each number of repeats.
        candidates: Other secrets of the same form that each is ranked among; exposure ends at their binary logarithm.
        max_rows: At most this many training rows beside the secrets.
        level: Confidence level of the intervals.
    """

    repeats: tuple[int, ...] = Field(default=(1, 4, 16), min_length=1)
    secrets: int = Field(default=10, ge=2)
    candidates: int = Field(default=1023, ge=15)
    max_rows: int = Field(default=20_000, ge=10)
    level: float = Field(default=0.95, gt=0.5, lt=1.0)

    @field_validator("repeats")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1 or len(set(value)) != len(value):
            raise ValueError(f"repeats must be whole numbers of 1 or more, each once, got {value}")
        return tuple(sorted(value))


def run(subject: Subject, context: Context, params: MemorisationParams) -> Iterator[Produced]:
    """Train once with the secrets among the rows and once without; rank each secret among its alternatives."""
    context.check_deadline()
    recipe, train = subject.recipe, subject.train
    assert recipe is not None
    assert train is not None
    rng = context.rng
    rows = train.take(context.sample_rows(train.n, params.max_rows))
    count = len(params.repeats) * params.secrets
    pool = [_secrets(rows.inputs, params.candidates + 1, rng) for _ in range(count)]
    labels = rng.integers(0, len(subject.classes), count).astype(np.int64)
    copies = np.repeat(params.repeats, params.secrets)
    inside = [pool[at][0] for at in range(count) for _ in range(copies[at])]
    y = np.concatenate([rows.y, np.repeat(labels, copies)])
    seeds = [int(seed) for seed in rng.integers(0, 2**31, 2)]
    found = {}
    for arm, inputs, codes in (("with", _joined(rows.inputs, inside), y), ("without", rows.inputs, rows.y)):
        context.check_deadline()
        found[arm] = _bits(recipe, (inputs, codes, seeds[0]), pool, labels)
        context.progress(len(found), 2)
    bits = np.array(found["with"]).reshape(len(params.repeats), params.secrets)
    blind = np.array(found["without"])
    yield from _measured(params, bits, blind)
    yield Note(
        f"Each secret is {SECRET_WORDS} words drawn at random, with a label drawn at random, ranked by the model's "
        f"odds of that label among {params.candidates} others that were not in the training. The models are trained "
        f"afresh by the recipe {recipe.name!r}; the audited model is not asked."
    )
    yield Note(
        "A classifier answers with labels alone, so that exposure says whether a secret can be recognised by who has "
        "candidates, not that it could be read out."
    )


def _measured(params: MemorisationParams, bits: Any, blind: Any) -> Iterator[Produced]:
    from auditkit.stats.intervals import mean_interval

    top = float(np.log2(params.candidates + 1))
    rows: list[tuple[str | float | int | None, ...]] = []
    lines: list[tuple[float, float, float | None, float | None]] = []
    for repeats, own in (*zip(params.repeats, bits, strict=True), (0, blind)):
        mean, interval = mean_interval(np.asarray(own, dtype=np.float64), level=params.level)
        if interval is not None:
            interval = replace(interval, low=max(0.0, interval.low), high=min(top, interval.high))
        yield Measurement(
            name="privacy.exposure",
            value=mean,
            n=len(own),
            n_of="secrets",
            interval=interval,
            params={"repeats": int(repeats)},
            unit="bit",
            direction="lower",
            bounds=(0.0, None),
        )
        low, high = (interval.low, interval.high) if interval else (None, None)
        rows.append((int(repeats), mean, low, high, float(np.max(own)), float((own >= top - 1e-9).mean())))
        lines.append((float(repeats), mean, low, high))
    yield Table(
        name="privacy.exposure",
        title="Exposure of secrets, in bits",
        columns=("repeats", "mean exposure", "low", "high", "largest", "share ranked first"),
        rows=tuple(rows),
        note="0 repeats: the same training without the secrets, 1.4 bits by chance. "
        f"At most {top:.1f} bits can be seen.",
    )
    lines.sort()
    yield Curve(
        name="privacy.exposure",
        title="Exposure of secrets",
        x_label="times that a secret is in the training rows",
        y_label="exposure (bits; 1.4 is chance)",
        series=(
            Series(
                name="exposure",
                x=tuple(line[0] for line in lines),
                y=tuple(line[1] for line in lines),
                low=tuple(line[2] for line in lines),
                high=tuple(line[3] for line in lines),
            ),
        ),
    )


def _bits(recipe: TrainingRecipe, fit: tuple[Any, IntArray, int], pool: list[Any], labels: IntArray) -> list[float]:
    from auditkit.methods.privacy.membership import attack_scores
    from auditkit.methods.privacy.secret_exposure import exposure

    model = recipe.fit(*fit)
    found = []
    for candidates, label in zip(pool, labels, strict=True):
        if model.score_space is None:
            raise AuditkitError("AK623", "the freshly trained models give decisions only, and no scores")
        scores = model.predict_scores(candidates)
        codes = np.full(len(scores), label, dtype=np.int64)
        odds = attack_scores(scores, codes, scores.argmax(axis=1), model.score_space)["loss"]
        found.append(exposure(float(odds[0]), odds[1:]))
    return found


def _secrets(inputs: Any, count: int, rng: np.random.Generator) -> Any:
    """``count`` rows of the type of ``inputs`` that are alike but for a secret of four words, drawn at random."""
    if isinstance(inputs, list):
        words = np.array(sorted({word for text in inputs for word in str(text).split()}) or ["-"])
        opening = " ".join(rng.choice(words, 4))
        return [f"{opening} {' '.join(rng.choice(words, SECRET_WORDS))}" for _ in range(count)]
    ids = np.asarray(inputs)
    carrier = np.repeat(ids[rng.integers(0, len(ids))][None, :], count, axis=0)
    width = min(SECRET_WORDS, ids.shape[1])
    carrier[:, :width] = rng.choice(np.unique(ids), (count, width))
    return carrier


def _joined(inputs: Any, more: list[Any]) -> Any:
    return [*inputs, *more] if isinstance(inputs, list) else np.concatenate([np.asarray(inputs), np.stack(more)])


ANALYZER = Analyzer(
    name="privacy.memorisation",
    version="1",
    title="Secrets learnt by heart",
    summary="Exposure of random secrets that were put among the training texts, by how often they were there.",
    reference="Carlini, Liu, Erlingsson, Kos and Song (2019), The secret sharer: evaluating and testing unintended "
    "memorization in neural networks",
    needs=frozenset({"model", "train", "retrain", "texts", "classification"}),
    measures={
        "privacy.exposure": "Bits by which a secret's rank among its alternatives betrays it; chance is 1.4.",
    },
    params=MemorisationParams,
    run=run,
    default=False,
    limits="Secrets of one form, in the recipe's own training: other secrets may be learnt better or worse.",
)
