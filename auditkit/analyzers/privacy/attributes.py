"""``privacy.attributes``: does the model tell a training row's attribute beyond what the other columns tell anyway?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from auditkit.analyzers.privacy.columns import as_codes, as_numbers, column, column_names
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Measurement, Table
from auditkit.core.subject import Dataset, FloatArray, IntArray, Subject

FEWEST = 50


class AttributesParams(Params):
    """Settings of ``privacy.attributes``.

    Attributes:
        columns: Columns to infer; the sensitive ones when left empty.
        max_values: A column with more different values is not inferred.
        max_rows: At most this many training rows are attacked, and as many test rows teach the attacker.
        level: Confidence level of the intervals.
    """

    columns: tuple[str, ...] = ()
    max_values: int = Field(default=10, ge=2)
    max_rows: int = Field(default=5_000, ge=FEWEST)
    level: float = Field(default=0.95, gt=0.5, lt=1.0)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Rows of both splits, training rows first: which the attacker learns from, and which are training rows."""

    parts: tuple[Dataset, Dataset]
    learn: npt.NDArray[np.bool_]
    train: npt.NDArray[np.bool_]


def run(subject: Subject, context: Context, params: AttributesParams) -> Iterator[Produced]:
    """Column by column: guess it with the model's answers and without, on training rows and on unseen ones."""
    assert subject.train is not None
    names = params.columns or tuple(subject.test.sensitive)
    rows = _rows(subject, context, params)
    table: list[tuple[str | float | int | None, ...]] = []
    for place, name in enumerate(names):
        context.check_deadline()
        context.progress(place, len(names))
        if not all(name in column_names(part) for part in rows.parts):
            if params.columns:
                column(subject.train, name)  # says which columns there are
            yield Note(f"{name!r} is not inferred: the training rows do not have it; pass it with train=.")
            continue
        codes = as_codes(np.concatenate([np.asarray(column(part, name), dtype=object) for part in rows.parts]))
        found = len(np.unique(codes))
        if not 2 <= found <= params.max_values:
            yield Note(f"{name!r} is not inferred: it has {found} values, not 2 to {params.max_values}.")
            continue
        if len(np.unique(codes[rows.learn])) < 2:
            yield Note(f"{name!r} is not inferred: the test rows that the attacker learns from all have one value.")
            continue
        yield from _column(subject, context, params, rows, (name, codes), table)
    if not table:
        raise NotApplicable("AK624", "there is no column to infer", fix='columns = ["a column of the training rows"]')
    yield Table(
        name="privacy.attributes",
        title="What the model adds to guessing an attribute",
        columns=(
            "column",
            "rows",
            "attack",
            "commonest value",
            "other columns",
            "with the model",
            "gain",
            "low",
            "high",
            "n",
        ),
        rows=tuple(table),
        note="Shares of right guesses. What the other columns tell could be told without the model.",
    )
    yield Note(
        "The attacker knows the label and all other columns of a person, everything of "
        f"{int(rows.learn.sum())} people who are not in the training data, and may ask the model. A gain on training "
        "rows above that on unseen rows is memory; a like gain on both is what the model learnt of everybody."
    )


def _column(
    subject: Subject,
    context: Context,
    params: AttributesParams,
    rows: _Rows,
    named: tuple[str, IntArray],
    table: list[tuple[str | float | int | None, ...]],
) -> Iterator[Measurement]:
    from auditkit.methods.privacy.attribute_inference import infer_attribute, paired_gain

    name, codes = named
    known = np.column_stack([_others(rows.parts, name), np.concatenate([part.y for part in rows.parts])])
    answers, likelihood = _answers(subject, rows.parts, name, codes)
    found = infer_attribute(known, answers, codes, rows.learn, seed=context.seed % 2**31, log_likelihood=likelihood)
    guesses = {"learned": found.with_model}
    if found.by_likelihood is not None:
        guesses["likelihood"] = found.by_likelihood
    train = rows.train[~rows.learn]
    for split, chosen in (("train", train), ("test", ~train)):
        n = int(chosen.sum())
        about = {"column": name, "rows": split}
        yield _accuracy(float(found.without[chosen].mean()), n, {**about, "guess": "other columns"}, params.level)
        for attack, right in guesses.items():
            value, interval = paired_gain(found.without[chosen], right[chosen], params.level)
            yield Measurement(
                name="privacy.attribute_gain",
                value=value,
                n=n,
                interval=interval,
                params={**about, "attack": attack},
                direction="lower",
                bounds=(-1.0, 1.0),
            )
            yield _accuracy(float(right[chosen].mean()), n, {**about, "guess": attack}, params.level)
            shares = [float(part[chosen].mean()) for part in (found.majority, found.without, right)]
            table.append((name, split, attack, *shares, value, interval.low, interval.high, n))


def _accuracy(share: float, n: int, about: dict[str, str], level: float) -> Measurement:
    from auditkit.stats.intervals import clopper_pearson

    return Measurement(
        name="privacy.attribute_accuracy",
        value=share,
        n=n,
        interval=clopper_pearson(round(share * n), n, level),
        params={**about},
        direction="neutral",
        bounds=(0.0, 1.0),
    )


def _rows(subject: Subject, context: Context, params: AttributesParams) -> _Rows:
    assert subject.train is not None
    rng = context.rng
    parts = []
    for data in (subject.train, subject.test):
        chosen = np.sort(rng.permutation(data.n)[: params.max_rows])
        parts.append(data.take(chosen.astype(np.int64)))
    if min(part.n for part in parts) < 2 * FEWEST:
        raise NotApplicable(
            "AK625",
            f"{parts[0].n} training rows and {parts[1].n} test rows are too few to learn to infer an attribute",
            why=f"at least {2 * FEWEST} of each are needed",
        )
    n_train, n_test = parts[0].n, parts[1].n
    train = np.arange(n_train + n_test) < n_train
    learn = np.zeros(n_train + n_test, dtype=np.bool_)
    learn[n_train + rng.permutation(n_test)[: n_test // 2]] = True
    return _Rows(parts=(parts[0], parts[1]), learn=learn, train=train)


def _others(parts: tuple[Dataset, Dataset], name: str) -> FloatArray:
    """Every other input column as numbers ``(n, d)``; codes where values have no order."""
    inputs = set(_input_names(parts[0])) - {name}
    columns = []
    for other in column_names(parts[0]):
        if other not in inputs:
            continue
        values = [column(part, other) for part in parts]
        numbers = [as_numbers(part) for part in values]
        if all(part is not None for part in numbers):
            columns.append(np.concatenate([part for part in numbers if part is not None]))
        else:
            joined = np.concatenate([np.asarray(part, dtype=object) for part in values])
            columns.append(as_codes(joined).astype(np.float64))
    n = sum(part.n for part in parts)
    return np.column_stack(columns) if columns else np.zeros((n, 0))


def _input_names(data: Dataset) -> list[str]:
    return [str(name) for name in getattr(data.inputs, "columns", data.schema.names)]


def _answers(
    subject: Subject, parts: tuple[Dataset, Dataset], name: str, codes: IntArray
) -> tuple[FloatArray, FloatArray | None]:
    """What the model says, and its log chance of the label at each value where the attribute is an input."""
    if name not in _input_names(parts[0]):
        return np.concatenate([_said(subject, part.inputs, part.y) for part in parts]), None
    place = _input_names(parts[0]).index(name)
    both = [value for part in parts for value in _values(part.inputs, place)]
    levels = [both[int(at)] for at in np.unique(codes, return_index=True)[1]]
    blocks = [
        np.concatenate([_said(subject, _with(part.inputs, place, level), part.y) for part in parts]) for level in levels
    ]
    odds = np.column_stack([block[:, 0] for block in blocks])
    return np.column_stack(blocks), np.asarray(-np.logaddexp(0.0, -odds), dtype=np.float64)


def _values(inputs: Any, place: int) -> list[Any]:
    return list(inputs.iloc[:, place] if hasattr(inputs, "iloc") else np.asarray(inputs)[:, place])


def _with(inputs: Any, place: int, level: Any) -> Any:
    changed = inputs.copy()
    if hasattr(changed, "iloc"):
        import pandas as pd

        whole = pd.Series([level] * len(changed), index=changed.index, dtype=changed.dtypes.iloc[place])
        changed.isetitem(place, whole)
    else:
        changed[:, place] = level
    return changed


def _said(subject: Subject, inputs: Any, y: IntArray) -> FloatArray:
    from auditkit.methods.privacy.membership import attack_scores

    model = subject.model
    if model.score_space is None:
        return np.asarray(np.asarray(model.predict(inputs)) == y, dtype=np.float64)[:, None]
    scores = model.predict_scores(inputs)
    odds = attack_scores(scores, y, scores.argmax(axis=1), model.score_space)["loss"]
    return np.asarray(np.column_stack([odds, scores]), dtype=np.float64)


ANALYZER = Analyzer(
    name="privacy.attributes",
    version="1",
    title="Attribute inference",
    summary="How much better an attribute is guessed with the model's answers than from the other columns alone.",
    reference="Jayaraman and Evans (2022), Are attribute inference attacks just imputation?; Mehnaz et al. (2022), Are "
    "your sensitive attributes private?; Tango (1998) for the interval",
    needs=frozenset({"model", "labels", "train", "tabular", "classification", "train_sensitive"}),
    measures={
        "privacy.attribute_gain": "Share of right guesses with the model's answers minus that without them, on the "
        "same rows.",
        "privacy.attribute_accuracy": "Share of right guesses of the attribute.",
    },
    params=AttributesParams,
    run=run,
    extra="sklearn",
    packages=("sklearn",),
    default=False,
    limits="One attacker, who learns by gradient-boosted trees from half of the test rows: others may do better.",
)
