"""Attack by questions: what can be found out of any model by asking it for decisions or scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from auditkit.analyzers.robustness.arena import Arena
from auditkit.analyzers.robustness.strikes import BoolArray, Budget, Strike, controls, joined
from auditkit.core.analyzer import Context
from auditkit.core.errors import MissingExtra
from auditkit.core.subject import FloatArray, IntArray


def question_strike(
    arena: Arena, eps_list: tuple[float, ...], budget: Budget, context: Context, pool: FloatArray
) -> Strike:
    """Guided search among feasible points for every row, and ART's HopSkipJump on some of them."""
    from auditkit.methods.robustness import checks
    from auditkit.methods.robustness.search import feasible_search

    space, x, y = arena.grid.space, arena.x, arena.y
    search: dict[float, BoolArray] = {}
    reach = np.full(len(x), np.inf)
    moved, violations, spent = 0.0, 0, 0
    start: FloatArray | None = None
    for done, eps in enumerate(sorted(eps_list)):
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
        context.progress(done + 1, len(eps_list) + 2)
    jump = _jump(arena, budget, context, pool)
    nearest = np.full(len(x), np.inf)
    nearest[jump.rows] = jump.distance
    reach = np.minimum(reach, nearest)
    jumped = {eps: np.asarray(nearest <= eps * (1 + 1e-9) + 1e-9) for eps in eps_list}
    both = {eps: search[eps] | jumped[eps] for eps in eps_list}
    control = controls(arena, eps_list, budget, context)
    results = (checks.moved(moved if max(eps_list) > 0 else 1.0), checks.inside(violations + jump.violations))
    label = "search+hopskipjump" if len(jump.rows) else "search"
    parts = [
        ("search", search),
        *([("hopskipjump", {e: jumped[e][jump.rows] for e in eps_list})] if len(jump.rows) else []),
    ]
    measured = np.zeros(len(x), dtype=np.bool_)
    measured[jump.rows] = True
    return joined(label, both, control, reach, results, parts, spent + jump.evaluations, arena, jump.notes, measured)


@dataclass(frozen=True, kw_only=True)
class _Jump:
    rows: IntArray
    distance: FloatArray
    violations: int
    evaluations: int
    notes: tuple[str, ...]


def _jump(arena: Arena, budget: Budget, context: Context, pool: FloatArray) -> _Jump:
    """HopSkipJump through ART on the first rows; without ART, a note says what is missing."""
    from auditkit.methods.robustness import art_engine

    rows = np.arange(min(budget.hopskipjump_rows, len(arena.x)), dtype=np.int64)
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
        tick=context.check_deadline,
    )
    distance = np.where(found.rescored.fooled, found.rescored.distance, np.inf)
    notes = [
        f"HopSkipJump (ART) walked from {int(found.started.sum())} of {len(rows)} rows; a row without an "
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
