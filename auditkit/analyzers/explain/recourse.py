"""``explain.recourse``: what those decided against would have to change, at what cost, and for which group more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from auditkit.analyzers.explain.recourse_report import MEASURES, Sought, reported
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import NotApplicable, UsageError
from auditkit.core.subject import DecidesFromScores, FloatArray, IntArray, Subject

if TYPE_CHECKING:
    from auditkit.subjects.grid import TableGrid

_CHUNK = 16_384
_LEAST = 1e-12


class RecourseParams(Params):
    """Settings of ``explain.recourse``."""

    target: str | None = Field(None, description="class that is wanted; the positive class by default")
    max_rows: int = Field(300, ge=1, description="most rows decided otherwise for which a change is sought")
    max_changes: int = Field(3, ge=1, le=8, description="most features changed together, where so many are enough")
    steps: int = Field(5, ge=1, description="values of each number tried on each side; what is found is pulled back")
    beam: int = Field(9, ge=3, description="partial changes kept in each round of the search")
    max_donors: int = Field(500, ge=0, description="rows decided as wanted that guide the search")
    freeze_sensitive: bool = Field(True, description="sensitive columns stay as they are")
    level: float = Field(0.95, gt=0.5, lt=1.0, description="two-sided confidence level")


@dataclass(frozen=True, slots=True)
class _Asked:
    """The user's model on points of the grid: ``judge`` for the search, ``decide`` its own decision."""

    judge: Callable[[FloatArray], tuple[npt.NDArray[np.bool_], FloatArray]]
    decide: Callable[[FloatArray], IntArray]


def run(subject: Subject, context: Context, params: RecourseParams) -> Iterator[Produced]:
    """Search, ask the model again about what was found, check that it is feasible, and report."""
    from auditkit.methods.explain.recourse import find_recourse
    from auditkit.methods.explain.recourse_moves import Search, part_columns
    from auditkit.subjects.grid import require_movable, table_grid

    context.check_deadline()
    target = _target(subject, params.target)
    grid = table_grid(subject.test, freeze_sensitive=params.freeze_sensitive, choose=True)
    require_movable(grid)
    decisions = np.asarray(context.decisions(), dtype=np.int64)
    refused, wanted = np.flatnonzero(decisions != target), np.flatnonzero(decisions == target)
    if len(refused) == 0:
        raise NotApplicable("AK651", f"no test row is decided other than {subject.classes[target]!r}")
    rows = refused[context.sample_rows(len(refused), params.max_rows)]
    donors = wanted[context.sample_rows(len(wanted), params.max_donors)]
    x = grid.matrix[rows]
    search = Search(steps=params.steps, beam=params.beam, max_changes=params.max_changes)
    asked = _asked(subject, context, grid, target, len(rows))
    found = find_recourse(asked.judge, x, grid.space, grid.matrix[donors], search)
    kept = found.found & grid.space.feasible(x, found.points, None)
    if kept.any():
        kept[kept] = asked.decide(found.points[kept]) == target
    yield from _notes(subject, grid, target, (len(refused), len(rows)), found.n_evaluations)
    every = len(part_columns(grid.space))
    if len(found.parts) < every:
        yield Note(
            f"Of {every} features and categories that may change, the {len(found.parts)} that alone move the score "
            "of a few rows most for their cost were changed."
        )
    if (found.found & ~kept).any():
        yield Note(f"{int((found.found & ~kept).sum())} changes did not hold when checked again; they count as none.")
    sought = Sought(
        grid=grid,
        x=x,
        points=np.where(kept[:, None], found.points, x),
        cost=np.where(kept, found.cost, np.inf),
        data=subject.test.take(rows),
        target=str(subject.classes[target]),
        level=params.level,
    )
    yield from reported(sought)


def _target(subject: Subject, wanted: str | None) -> int:
    if wanted is not None:
        names = [str(name) for name in subject.classes]
        if wanted not in names:
            raise UsageError("AK652", f"there is no class {wanted!r}", fix=f"target is one of {', '.join(names[:20])}")
        return names.index(wanted)
    if subject.positive is None:
        raise NotApplicable(
            "AK653",
            "which of several classes is wanted is not known",
            fix='set target in [analyzer."explain.recourse"]',
        )
    return subject.positive


def _asked(subject: Subject, context: Context, grid: TableGrid, target: int, rows: int) -> _Asked:
    """With scores the search climbs the margin of the class wanted; with labels alone it has decisions to go by."""
    model = subject.model
    scored = "scores" in model.capabilities
    decided = np.asarray(context.decisions(), dtype=np.int64)
    # Decisions that are always the highest score need no second pass; what is found is decided by the model itself.
    plain = scored and bool((context.scores().argmax(axis=1) == decided).all())
    probability = subject.model.score_space == "probability"
    done = 0

    def margin(scores: FloatArray) -> FloatArray:
        scores = np.log(np.maximum(scores, _LEAST)) if probability else scores
        others = np.delete(scores, target, axis=1).max(axis=1)
        return np.asarray(scores[:, target] - others, dtype=np.float64)

    def once(points: FloatArray) -> tuple[npt.NDArray[np.bool_], FloatArray]:
        nonlocal done
        context.check_deadline()
        inputs = grid.codec.decode(points)
        done += len(points)
        context.progress(min(done, 1000 * rows), 1000 * rows)
        if not scored:
            return np.asarray(model.predict(inputs)) == target, np.zeros(len(points))
        scores = np.asarray(model.predict_scores(inputs), dtype=np.float64)
        if plain:
            return scores.argmax(axis=1) == target, margin(scores)
        own = model.decide(scores) if isinstance(model, DecidesFromScores) else model.predict(inputs)
        return np.asarray(own) == target, margin(scores)

    def judge(points: FloatArray) -> tuple[npt.NDArray[np.bool_], FloatArray]:
        parts = [once(points[start : start + _CHUNK]) for start in range(0, len(points), _CHUNK)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def decide(points: FloatArray) -> IntArray:
        return np.asarray(model.predict(grid.codec.decode(points)), dtype=np.int64)

    return _Asked(judge, decide)


def _notes(subject: Subject, grid: TableGrid, target: int, counts: tuple[int, int], evaluations: int) -> Iterator[Note]:
    whole, used = counts
    some = "" if used == whole else f" (of {whole}, drawn at random)"
    yield Note(
        f"A change to {subject.classes[target]} was sought for {used} rows decided otherwise{some}, "
        f"with {evaluations / used:.0f} decisions of the model a row. Costs are of the cheapest change found: "
        "a cheaper one may exist."
    )
    held = set(grid.frozen)
    free = [name for name in grid.names if name not in held]
    yield Note(f"May change: {', '.join(free)}." + (f" Held: {', '.join(grid.frozen)}." if held else ""))
    told = _one_way(grid)
    for name, words in told.items():
        yield Note(f"{name} may only {words}.")
    if grid.space.rules is not None:
        yield Note(f"Every change keeps {'; '.join(dict.fromkeys(grid.space.rules.texts))}.")
    if not told and not any(column.feature.immutable for column in grid.codec.columns):
        yield Note(
            "The schema holds no column as immutable and lets each move both ways: say in [data.schema] what people "
            'cannot change (immutable = true) or only raise (moves = "up"), such as an age.'
        )


def _one_way(grid: TableGrid) -> Mapping[str, str]:
    words = {"up": "rise", "down": "fall"}
    return {c.feature.name: words[c.feature.moves] for c in grid.codec.columns if c.feature.moves in words}


ANALYZER = Analyzer(
    name="explain.recourse",
    version="4",
    title="Recourse",
    summary="What people who are decided against would have to change, at what cost, and for which group more.",
    reference=(
        "Ustun, Spangher and Liu (2019), Actionable recourse in linear classification; Wachter, Mittelstadt and "
        "Russell (2017); Gupta et al. (2019), Equalizing recourse across groups"
    ),
    needs=frozenset({"model", "tabular", "inputs", "classification"}),
    measures=MEASURES,
    params=RecourseParams,
    run=run,
    limits=(
        "A change that turns the model's decision need not change what the model predicts in the world, and columns "
        "that move together are changed one by one: recourse is a property of the model, not advice."
    ),
)
