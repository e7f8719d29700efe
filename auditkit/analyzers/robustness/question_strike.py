"""Attack by questions: what can be found out of any model by asking it for decisions or scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.analyzers.robustness.arena import Arena
from auditkit.analyzers.robustness.strikes import BoolArray, Budget, Strike, controls, joined
from auditkit.analyzers.robustness.toolbox_strike import QUESTIONED
from auditkit.core.analyzer import Context
from auditkit.core.errors import MissingExtra, UsageError
from auditkit.core.stages import Stages
from auditkit.core.subject import FloatArray, IntArray


def question_strike(
    arena: Arena, eps_list: tuple[float, ...], budget: Budget, context: Context, pool: FloatArray, model: Any
) -> Strike:
    """Guided search among feasible points for every row; ART's HopSkipJump, and one more if asked for, on some."""
    from auditkit.methods.robustness import checks
    from auditkit.methods.robustness.search import feasible_search

    space, x, y = arena.grid.space, arena.x, arena.y
    search: dict[float, BoolArray] = {}
    reach = np.full(len(x), np.inf)
    moved, violations, spent = 0.0, 0, 0
    start: FloatArray | None = None
    stages = Stages(context, [1.0] * len(eps_list) + [4.0] * (1 + (budget.attack in QUESTIONED)) + [1.0])
    for eps in sorted(eps_list):
        context.check_deadline()
        found = feasible_search(
            arena.judge, x, y, space, eps, rounds=budget.search_rounds, start=start, rng=context.rng
        )
        start = found.points
        fooled = np.asarray(arena.decide(found.points) != y) if len(x) else found.success
        search[eps] = fooled
        distance = space.distance(x, found.points)
        reach = np.minimum(reach, np.where(fooled, distance, np.inf))
        moved = max(moved, float((distance > 0).mean()) if len(x) else 0.0)
        violations += space.violations(x, found.points, eps)
        spent += found.n_evaluations + len(x)
        stages.end()
    jumps = [("hopskipjump", _jump(arena, budget, context, pool, stages))]
    stages.end()
    if budget.attack in QUESTIONED:
        jumps.append((budget.attack, _asked_for(arena, budget, context, pool, model, stages)))
        stages.end()
    both = {eps: hit.copy() for eps, hit in search.items()}
    parts, measured = [("search", search)], np.zeros(len(x), dtype=np.bool_)
    notes: list[str] = []
    label = "search"
    for name, jump in jumps:
        notes += jump.notes
        violations += jump.violations
        spent += jump.evaluations
        if not len(jump.rows):
            continue
        label += f"+{name}"
        measured[jump.rows] = True
        reach[jump.rows] = np.minimum(reach[jump.rows], jump.distance)
        hits = {eps: np.asarray(jump.distance <= eps * (1 + 1e-9) + 1e-9) for eps in eps_list}
        for eps, hit in hits.items():
            both[eps][jump.rows] |= hit
        parts.append((name, hits))
    control = controls(arena, eps_list, budget, context)
    stages.end()
    results = (checks.moved(moved if max(eps_list) > 0 else 1.0), checks.inside(violations))
    return joined(label, both, control, reach, results, parts, spent, arena, tuple(notes), measured)


@dataclass(frozen=True, kw_only=True)
class _Jump:
    rows: IntArray
    distance: FloatArray
    violations: int
    evaluations: int
    notes: tuple[str, ...]


# Batches of questions that a step of HopSkipJump takes, and a walk by another attack for each question that it may ask.
_BATCHES_A_STEP, _BATCHES_A_QUERY = 20, 0.1


def _jump(arena: Arena, budget: Budget, context: Context, pool: FloatArray, stages: Stages) -> _Jump:
    """HopSkipJump through ART on some of the rows; without ART, a note says what is missing."""
    from auditkit.methods.robustness import art_engine

    rows = context.sample_rows(len(arena.x), budget.hopskipjump_rows)
    nothing = _Jump(rows=rows[:0], distance=np.zeros(0), violations=0, evaluations=0, notes=())
    if len(rows) == 0:
        return nothing
    x, y, space = arena.x[rows], arena.y[rows], arena.grid.space
    try:
        art_engine.load("art.attacks.evasion.hop_skip_jump")
    except MissingExtra as error:
        return _Jump(
            rows=rows[:0],
            distance=np.zeros(0),
            violations=0,
            evaluations=0,
            notes=(f"HopSkipJump was left out, and with it the median distance: {error.sentence()}",),
        )
    rng = context.rng
    starts, spent = art_engine.adversarial_starts(arena.decide, x, y, space, pool, draws=60, rng=rng)
    found = art_engine.hop_skip_jump(
        arena.decide,
        x,
        y,
        space,
        starts,
        max_iter=budget.hopskipjump_steps,
        max_queries=budget.hopskipjump_queries,
        seed=context.seed,
        tick=stages.ticks(_BATCHES_A_STEP * budget.hopskipjump_steps),
    )
    distance = np.where(found.rescored.fooled, found.rescored.distance, np.inf)
    notes = [
        f"HopSkipJump (ART) walked from {int(found.started.sum())} of {len(rows):,} rows; a row without an "
        "adversarial point among real rows and random draws was not walked from."
    ]
    if found.exhausted:
        notes.append(f"{found.exhausted} of these walks ended at {budget.hopskipjump_queries} queries.")
    if found.rescored.invalid and found.started.any():
        notes.append(f"HopSkipJump is invalid here: {found.rescored.invalid}.")
    return _Jump(
        rows=rows,
        distance=distance,
        violations=space.violations(x, found.rescored.points, None),
        evaluations=spent + found.n_evaluations,
        notes=tuple(notes),
    )


def _asked_for(arena: Arena, budget: Budget, context: Context, pool: FloatArray, model: Any, stages: Stages) -> _Jump:
    """The attack of ART that was asked for, on the rows that HopSkipJump looks at; judged by distance at every eps.

    Raises:
        UsageError: AK515 an attack that this model does not allow.
        MissingExtra: AK301 when ART is not installed.
    """
    from auditkit.methods.robustness import art_engine
    from auditkit.methods.robustness.rescore import rescore

    name = budget.attack
    rows = context.sample_rows(len(arena.x), budget.hopskipjump_rows)
    x, y, space = arena.x[rows], arena.y[rows], arena.grid.space
    limits: dict[str, Any] = {
        "max_queries": budget.hopskipjump_queries,
        "seed": context.seed,
        "tick": stages.ticks(_BATCHES_A_QUERY * budget.hopskipjump_queries),
    }
    told, spent = "", 0
    if name == "decision-tree":
        points = art_engine.decision_tree_points(_own_tree(model, x), x) if len(x) else x
        rescored, told = rescore(arena.decide, x, y, points, space), "moved rows to the nearest leaf of another class"
    elif name == "zoo":
        if "scores" not in model.capabilities:
            raise UsageError("AK515", "zoo follows scores, and the model gives labels only", where="attack")
        found = art_engine.zoo_attack(arena.look, arena.decide, x, y, space, **limits)
        rescored, spent, told = found.rescored, 2 * found.n_evaluations, "followed differences of the scores"
    else:
        starts, asked = art_engine.adversarial_starts(arena.decide, x, y, space, pool, draws=60, rng=context.rng)
        found = art_engine.boundary_attack(arena.decide, x, y, space, starts, **limits)
        rescored, spent = found.rescored, asked + found.n_evaluations
        told = f"walked from {int(found.started.sum())} rows"
    notes = [f"{name} (ART) was run on {len(rows):,} rows: it {told}."]
    if len(rows) and rescored.invalid:
        notes.append(f"{name} is invalid here: {rescored.invalid}.")
    return _Jump(
        rows=rows,
        distance=np.where(rescored.fooled, rescored.distance, np.inf),
        violations=space.violations(x, rescored.points, None),
        evaluations=spent + len(rows),
        notes=tuple(notes),
    )


def _own_tree(model: Any, x: FloatArray) -> Any:
    """The model's own decision tree, where it takes the matrix as it is."""
    from sklearn.tree import DecisionTreeClassifier

    tree = getattr(model, "estimator", None)
    if not isinstance(tree, DecisionTreeClassifier) or tree.n_features_in_ != x.shape[1] or not np.isfinite(x).all():
        raise UsageError(
            "AK515",
            "decision-tree walks the leaves of a DecisionTreeClassifier that takes complete columns of numbers",
            where="attack",
            why="the model is none",
            fix="use zoo or boundary",
        )
    return tree
