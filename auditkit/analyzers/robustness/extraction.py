"""How well an outsider copies the model by asking it: agreement on held-out rows against the number of questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import AuditkitError, DeadlineReached, MissingExtra, NotApplicable
from auditkit.core.evidence import Curve, Direction, Measurement, Scalar, Series, Table
from auditkit.core.subject import FloatArray, IntArray, Subject, take_rows

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.copies import Outsider


class ExtractionParams(Params):
    """Settings of ``robustness.extraction``.

    Attributes:
        queries: Numbers of rows that the outsider asks about; those that the rows do not allow are left out.
        attack: How the copy learns: ``copycat`` (ART, decisions) or ``knockoff`` (ART, probabilities) train a network
            and need a torch model, ``surrogate`` a scikit-learn model; ``auto`` is copycat for torch models, else
            surrogate.
        source: What the outsider asks about: half of the ``test`` rows (never those held out), the ``train`` rows, or
            test rows with all ``columns`` shuffled apart, for an outsider who knows ranges and no row.
        knows_recipe: The outsider trains by the model's own recipe, on decisions.
        seeds: Copies at each number of queries, each of another draw of rows.
        max_rows: Held-out test rows on which copy and model are compared, at most.
        steps: Steps of a network's training, at least.
        level: Two-sided confidence level.
    """

    queries: tuple[int, ...] = (50, 100, 200, 500)
    attack: Literal["auto", "copycat", "knockoff", "surrogate"] = "auto"
    source: Literal["test", "train", "columns"] = "test"
    knows_recipe: bool = False
    seeds: int = Field(default=5, ge=1)
    max_rows: int = Field(default=1000, ge=20)
    steps: int = Field(default=400, ge=1)
    level: float = Field(default=0.95, gt=0.5, lt=1.0)

    @field_validator("queries")
    @classmethod
    def _numbers(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or min(value) < 2:
            raise ValueError("queries must be one or more whole numbers of 2 or more")
        return tuple(sorted(set(value)))


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """What is asked about and what is held out.

    Attributes:
        held_out: Positions of the held-out test rows; ``own`` the model's decisions on them.
        pool: Inputs that may be asked about, with the model's ``answers (p, k)`` and ``truth (p, k)``, one-hot labels
            (``None`` for rows that nobody has labelled).
    """

    subject: Subject
    held_out: IntArray
    own: IntArray
    pool: Any
    answers: FloatArray
    truth: FloatArray | None
    outsider: Outsider


@dataclass(frozen=True, kw_only=True)
class _Round:
    """All copies of one number of queries: agreement with the model ``(seeds, n)`` of each kind, or why not."""

    queries: int
    copies: npt.NDArray[np.float64] | None
    taught: npt.NDArray[np.float64] | None
    majority: npt.NDArray[np.float64]
    kinds: Counter[str] = field(default_factory=Counter)
    failed: str | None = None


def run(subject: Subject, context: Context, params: ExtractionParams) -> Iterator[Produced]:
    """Copy the model at each number of queries; yield fidelity, its baselines, a curve and what it rests on."""
    context.check_deadline()
    if len(subject.classes) < 2:
        raise NotApplicable("AK542", "the model knows fewer than two classes", why="any copy of it is right")
    scene = _scene(subject, context, params)
    possible = [q for q in params.queries if q <= len(scene.answers)] or [len(scene.answers)]
    rng = context.rng
    orders = [rng.permutation(len(scene.answers)).astype(np.int64) for _ in range(params.seeds)]
    seeds = [int(seed) for seed in rng.integers(0, 2**31, params.seeds)]
    found: list[Measurement] = []
    rounds: list[_Round] = []
    for done, queries in enumerate(possible):
        rounds.append(_round(scene, context, queries, orders, seeds))
        measured = list(_measured(rounds[-1], scene, params))
        found += measured
        yield from measured
        context.progress(done + 1, len(possible))
    yield _curve(rounds, found)
    yield _table(rounds, found)
    yield from _notes(scene, rounds, params, possible)


def _scene(subject: Subject, context: Context, params: ExtractionParams) -> _Scene:
    from auditkit.analyzers.robustness.copies import MOST_POOL, columns_apart, make_outsider, split_test

    rng = context.rng
    asked, held_out = split_test(subject.test, rng, params.max_rows)
    if params.source == "train":
        if subject.train is None:
            raise NotApplicable(
                "AK592", "there are no training rows to ask about", where="source", fix='set source = "test"'
            )
        chosen = rng.permutation(subject.train.n)[:MOST_POOL].astype(np.int64)
        pool, labels = take_rows(subject.train.inputs, chosen), subject.train.y[chosen]
    else:
        pool, labels = take_rows(subject.test.inputs, asked[:MOST_POOL]), subject.test.y[asked[:MOST_POOL]]
    k = len(subject.classes)
    truth: FloatArray | None = np.eye(k)[labels]
    if params.source == "columns":
        pool, truth = columns_apart(pool, rng), None
    unseen = take_rows(subject.test.inputs, held_out)
    outsider = make_outsider(
        subject, pool, unseen, attack=params.attack, knows_recipe=params.knows_recipe, steps=params.steps
    )
    answers = np.eye(k)[np.asarray(subject.model.predict(pool), dtype=np.int64)]
    if outsider.probabilities:
        answers = _probabilities(subject, pool)
    own = np.asarray(context.decisions(), dtype=np.int64)[held_out]
    return _Scene(
        subject=subject, held_out=held_out, own=own, pool=pool, answers=answers, truth=truth, outsider=outsider
    )


def _probabilities(subject: Subject, pool: Any) -> FloatArray:
    scores = subject.model.predict_scores(pool)
    if subject.model.score_space == "probability":
        return scores
    from scipy.special import softmax

    return np.asarray(softmax(scores, axis=1))


def _round(scene: _Scene, context: Context, queries: int, orders: Sequence[IntArray], seeds: Sequence[int]) -> _Round:
    copies, taught, majority, kinds = [], [], [], Counter[str]()
    failed: str | None = None
    for order, seed in zip(orders, seeds, strict=True):
        context.check_deadline()
        positions = order[:queries]
        answers = scene.answers[positions]
        commonest = int(np.bincount(answers.argmax(axis=1)).argmax())
        majority.append(scene.own == commonest)
        try:
            copied = scene.outsider.train(positions, answers, seed)
            if scene.truth is not None:
                context.check_deadline()
                taught.append(scene.outsider.train(positions, scene.truth[positions], seed).decisions == scene.own)
        except (DeadlineReached, MissingExtra):
            raise
        except AuditkitError as error:  # one training that fails is no copy, and is told
            failed = failed or error.sentence()
            continue
        copies.append(copied.decisions == scene.own)
        kinds[copied.kind] += 1
    return _Round(
        queries=queries,
        copies=None if failed else np.stack(copies).astype(np.float64),
        taught=np.stack(taught).astype(np.float64) if taught and not failed else None,
        majority=np.stack(majority).astype(np.float64),
        kinds=kinds,
        failed=failed,
    )


_UNLABELLED = "rows with their columns shuffled apart have no true labels"
_LOWER: Direction = "lower"


def _measured(made: _Round, scene: _Scene, params: ExtractionParams) -> Iterator[Measurement]:
    from auditkit.stats.replication import replicated_difference, replicated_rate

    test, rows = scene.subject.test, scene.held_out
    design = (
        None if test.weights is None else test.weights[rows],
        None if test.clusters is None else test.clusters[rows],
    )
    tags: dict[str, Scalar] = {"attack": scene.outsider.attack, "source": params.source, "queries": made.queries}
    one_sided = len(np.unique(scene.own)) == 1
    why = "the model decides all held-out rows alike, so that any agreement says nothing" if one_sided else made.failed

    def rate(name: str, hits: FloatArray | None, direction: Direction, reason: str | None) -> Measurement:
        value, interval = None, None
        if hits is not None and not reason:
            value, interval = replicated_rate(hits, *design, level=params.level)
        return Measurement(
            name=f"robustness.extraction_{name}",
            value=value,
            n=len(rows),
            interval=interval,
            params=tags,
            direction=direction,
            bounds=(0.0, 1.0),
            reason=reason,
        )

    no_labels = why or (_UNLABELLED if made.taught is None else None)
    yield rate("fidelity", made.copies, _LOWER, why)
    yield rate("label_fidelity", made.taught, "neutral", no_labels)
    yield rate("majority_fidelity", made.majority, "neutral", why if one_sided else None)
    value, interval = None, None
    if no_labels is None and made.copies is not None and made.taught is not None:
        value, interval = replicated_difference(made.copies, made.taught, *design, level=params.level)
    yield Measurement(
        name="robustness.extraction_gain",
        value=value,
        n=len(rows),
        interval=interval,
        params=tags,
        direction=_LOWER,
        bounds=(-1.0, 1.0),
        reason=no_labels,
    )


_LINES = (
    ("copy", "fidelity"),
    ("a copy taught by true labels", "label_fidelity"),
    ("commonest class", "majority_fidelity"),
)


def _of(found: Sequence[Measurement], name: str) -> dict[int, Measurement]:
    return {int(m.params["queries"] or 0): m for m in found if m.name == f"robustness.extraction_{name}"}


def _curve(rounds: Sequence[_Round], found: Sequence[Measurement]) -> Curve:
    """Agreement against the number of queries: the copy, and what it must be compared with."""
    x = tuple(float(made.queries) for made in rounds)
    series = []
    for label, name in _LINES:
        mine = [_of(found, name)[made.queries] for made in rounds]
        if any(m.value is not None for m in mine):
            series.append(Series.of(label, x, mine))
    return Curve(
        name="robustness.extraction_by_queries",
        title="How well an outsider copies the model",
        x_label="rows asked about",
        y_label="agreement with the model on held-out rows",
        series=tuple(series),
        note="A copy no better than one taught by true labels took nothing from the model that its labels do not give.",
    )


def _table(rounds: Sequence[_Round], found: Sequence[Measurement]) -> Table:
    rows: list[tuple[Scalar, ...]] = []
    for made in rounds:
        shares = [_of(found, name)[made.queries].value for _, name in _LINES]
        kinds = ", ".join(f"{kind} ({count})" for kind, count in made.kinds.most_common())
        rows.append((made.queries, *shares, kinds, made.failed or ""))
    return Table(
        name="robustness.extraction",
        title="Copies of the model by number of queries",
        columns=("queries", "agreement of the copy", "taught by true labels", "commonest class", "copies", "failed"),
        rows=tuple(rows),
        note="Shares of the held-out rows on which the decision is the model's.",
    )


def _notes(scene: _Scene, rounds: Sequence[_Round], params: ExtractionParams, possible: list[int]) -> Iterator[Note]:
    yield Note(
        f"{scene.outsider.told} {params.seeds} copies at each number of queries, compared with the model on "
        f"{len(scene.held_out)} test rows that were never asked about."
    )
    left = [q for q in params.queries if q not in possible]
    if left:
        yield Note(
            f"Not measured: {', '.join(map(str, left))} queries, for {len(scene.answers)} rows may be asked about"
            + ('; source = "train" allows more.' if params.source != "train" and scene.subject.train else ".")
        )
    for made in rounds:
        if made.failed:
            yield Note(f"At {made.queries} queries a copy could not be trained: {made.failed}")


ANALYZER = Analyzer(
    name="robustness.extraction",
    version="1",
    title="Model extraction",
    summary="How often a copy, trained by an outsider on the model's answers, decides held-out rows as the model does.",
    reference="Tramer et al. (2016); Correia-Silva et al. (2018), CopycatCNN; Orekondy, Schiele and Fritz (2019), "
    "KnockoffNets",
    needs=frozenset({"model", "labels", "inputs", "classification"}),
    measures={
        "robustness.extraction_fidelity": "Share of held-out rows that a copy taught by the model's answers decides as "
        "the model does.",
        "robustness.extraction_label_fidelity": "The same share for the same kind of copy, taught by the true "
        "labels of as many rows.",
        "robustness.extraction_majority_fidelity": "The same share for one who always says the commonest answer.",
        "robustness.extraction_gain": "Fidelity of the copy minus that of one taught by true labels, same rows.",
    },
    params=ExtractionParams,
    run=run,
    extra="sklearn",
    packages=("sklearn",),
    default=False,
    limits="One outsider, one kind of copy and at most as many queries as shown: others may copy the model better. "
    "Fidelity counts equal decisions; a copy of high fidelity may still differ where rows are rare.",
)
