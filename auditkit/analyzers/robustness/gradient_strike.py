"""Attack by gradients through a torch model, in the units of the table or of the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from auditkit.analyzers.robustness.arena import CHUNK, Arena, deciding_logits
from auditkit.analyzers.robustness.gradient_checks import Examined, examine, telling_eps
from auditkit.analyzers.robustness.lens import Lens
from auditkit.analyzers.robustness.strikes import BoolArray, Budget, Strike, controls, joined
from auditkit.analyzers.robustness.toolbox_strike import TOOLBOX, Toolbox
from auditkit.core.analyzer import Context
from auditkit.core.stages import Stages
from auditkit.core.subject import FloatArray, IntArray

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.reach import Reach


def gradient_strike(
    arena: Arena,
    lens: Lens,
    model: Any,
    eps_list: tuple[float, ...],
    budget: Budget,
    context: Context,
    others: tuple[Any, IntArray],
) -> Strike:
    """PGD on the cross-entropy, then the margin (and AutoAttack where asked for), each on the rows still standing.

    Balls are nested, so a row that fell at one eps has fallen at every larger one and is not attacked again.
    """
    from auditkit.analyzers.robustness.reach import Reach
    from auditkit.methods.robustness import checks

    around, x = Reach(space=arena.grid.space, norm=budget.norm), arena.x
    toolbox = Toolbox(arena, lens, model, budget, context.seed) if budget.attack in TOOLBOX else None
    attack: dict[float, BoolArray] = {}
    by_part: dict[str, dict[float, BoolArray]] = {}
    held = np.zeros(len(x), dtype=np.bool_)
    reach = np.full(len(x), np.inf)
    violations, zero, moved, spent = 0, 0.0, 0.0 if len(x) and max(eps_list) > 0 else 1.0, 0
    examined = bool(budget.check_rows and len(x) and max(eps_list) > 0)
    stages = Stages(context, [1.0] * len(eps_list) + [3.0] * examined + [1.0])
    for eps in sorted(eps_list):
        context.check_deadline()
        rows = np.flatnonzero(~held).astype(np.int64)
        found = _at(arena, lens, model, eps, rows, budget, context, toolbox, stages)
        for name, fooled in found.parts:
            by_part.setdefault(name, {})[eps] = held.copy()
            by_part[name][eps][rows[fooled]] = True
        distance = around.distance(x[rows], found.points)
        reach[rows] = np.minimum(reach[rows], np.where(found.fooled, distance, np.inf))
        violations += around.violations(x[rows], found.points, eps)
        zero = max(zero, found.zero)
        # Rows that fell before have moved; with none left to attack there is nothing to move.
        moved = max(moved, float(held.mean()) if len(x) else 1.0, float((distance > 0).mean()) if len(rows) else 0.0)
        spent += found.evaluations
        held[rows[found.fooled]] = True
        attack[eps] = held.copy()
        stages.end()
    results: tuple[checks.Check, ...] = (
        checks.moved(moved),
        checks.inside(violations),
        checks.gradients_alive(zero),
        checks.logits_decide(_decided(lens, model), arena.y),
    )
    names = list(by_part)
    widest = max(eps_list)
    if len(names) > 1:
        results += (checks.losses_agree(by_part[names[0]][widest], by_part[names[1]][widest]),)
    if examined:
        seen = _examined(arena, lens, model, attack, budget, context, others, stages)
        results += seen.checks
        spent += seen.evaluations
        by_part["cross-examination"] = _joined_in(arena, around, seen, attack, reach)
        stages.end()
    control = controls(arena, eps_list, budget, context)
    stages.end()
    label = names[-1] if names else budget.attack
    notes = toolbox.notes() if toolbox else ()
    return joined(label, attack, control, reach, results, list(by_part.items()), spent, arena, notes)


def _decided(lens: Lens, model: Any) -> IntArray:
    """The class of the largest logit of every attacked row."""
    import torch

    logits, rows = deciding_logits(model), lens.tensor
    with torch.no_grad():
        parts = [logits(rows[s : s + CHUNK]).argmax(dim=1).cpu().numpy() for s in range(0, len(rows), CHUNK)]
    return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the parts of the attack did at one eps to the rows that they were given."""

    parts: tuple[tuple[str, BoolArray], ...]
    fooled: BoolArray
    points: FloatArray
    zero: float
    evaluations: int


def _at(  # noqa: PLR0913 - one private seam where an attack's settings meet
    arena: Arena,
    lens: Lens,
    model: Any,
    eps: float,
    rows: IntArray,
    budget: Budget,
    context: Context,
    toolbox: Toolbox | None,
    stages: Stages,
) -> _Found:
    """Each part on the rows that the parts before it left standing; every point decided afresh by the user's model."""
    from auditkit.analyzers.robustness.reach import Reach

    space, around = arena.grid.space, Reach(space=arena.grid.space, norm=budget.norm)
    points, fooled = arena.x[rows].copy(), np.zeros(len(rows), dtype=np.bool_)
    parts: list[tuple[str, BoolArray]] = []
    zero, spent = 0.0, 0
    runs = _runs(budget, context)
    for done, (name, run) in enumerate(runs):
        stages.reach(done / len(runs))
        left = np.flatnonzero(~fooled)
        if len(left):
            if run is None:
                assert toolbox is not None
                there, asked = toolbox.nearest(rows[left])
            else:
                tensor, y, common = _tensors(arena, lens, rows[left], eps, context.seed)
                made = run(deciding_logits(model), tensor, y, norm=budget.norm, **common)
                there, asked = _back(lens, arena.x[rows[left]], made.adversarial), made.n_evaluations
                zero = max(zero, made.zero_gradient_share or 0.0)
            struck = around.strike(arena.decide, arena.x[rows[left]], arena.y[rows[left]], there, eps)
            points[left], fooled[left] = struck.points, struck.fooled
            spent += asked + struck.asked
        parts.append((name, fooled.copy()))
    if bool(space.whole.any()) and budget.norm == "linf":
        fooled, points, extra = _repaired(arena, rows, points, fooled, eps, context)
        parts.append((f"{runs[-1][0]}+search", fooled))
        spent += extra
    return _Found(parts=tuple(parts), fooled=fooled, points=points, zero=zero, evaluations=spent)


def _runs(budget: Budget, context: Context) -> list[tuple[str, Any]]:
    """The parts of the attack in order; ``None`` stands for one of ART's, which knows no eps."""
    from auditkit.methods.robustness.ensemble import autoattack
    from auditkit.methods.robustness.projected_gradient import pgd

    runs: list[tuple[str, Any]] = [
        ("pgd cross-entropy", lambda *a, **k: pgd(*a, steps=budget.steps, restarts=budget.restarts, **k)),
        ("pgd", lambda *a, **k: pgd(*a, steps=budget.steps, loss="margin", **k)),
    ]
    if budget.attack in TOOLBOX:
        runs.append((f"pgd+{budget.attack}", None))
    elif budget.attack != "pgd":
        version: Literal["standard", "fast"] = "fast" if budget.attack.endswith("fast") else "standard"
        runs.append((budget.attack, lambda *a, **k: autoattack(*a, version=version, tick=context.check_deadline, **k)))
    return runs


def _tensors(arena: Arena, lens: Lens, rows: IntArray, eps: float, seed: int) -> tuple[Any, Any, dict[str, Any]]:
    """Some rows as the module takes them, their labels, and the threat in the tensor's units."""
    import torch

    like = lens.tensor[torch.as_tensor(rows, device=lens.tensor.device)]
    x, space = arena.x[rows], arena.grid.space
    flat = like.detach().reshape(len(like), -1).double().cpu().numpy()
    low, high = space.box(x, None)
    ends = np.stack([lens.apply(low, flat), lens.apply(high, flat)])
    units = np.where(np.isnan(x), 0.0, space.scale)

    def shaped(values: FloatArray) -> Any:
        return torch.as_tensor(values.copy(), dtype=like.dtype, device=like.device).reshape(like.shape)

    common: dict[str, Any] = {
        "eps": eps,
        "bounds": (
            torch.minimum(shaped(ends.min(axis=0)), like),
            torch.maximum(shaped(ends.max(axis=0)), like),
        ),
        "scale": shaped(lens.per_coordinate(units, 0.0) * np.abs(lens.gain)),
        "seed": seed,
    }
    return like, torch.as_tensor(arena.y[rows], device=like.device), common


def _back(lens: Lens, x: FloatArray, points: Any) -> FloatArray:
    """Points of the tensor as rows of the matrix, where the clean rows are ``x``."""
    return lens.back(points.reshape(len(points), -1).double().cpu().numpy(), x)


def _examined(  # noqa: PLR0913 - as above
    arena: Arena,
    lens: Lens,
    model: Any,
    attack: dict[float, BoolArray],
    budget: Budget,
    context: Context,
    others: tuple[Any, IntArray],
    stages: Stages,
) -> Examined:
    """The cross-examination, at the eps where attacks can differ most."""
    from auditkit.methods.robustness.cross_examination import ATTACKS

    rows = context.sample_rows(len(arena.x), budget.check_rows)
    eps = telling_eps({e: hit for e, hit in attack.items() if e > 0})
    tensor, y, common = _tensors(arena, lens, rows, eps, context.seed)
    common["norm"] = budget.norm
    return examine(
        deciding_logits(model),
        tensor,
        y,
        common,
        lambda points: _back(lens, arena.x[rows], points),
        others,
        rows=rows,
        tick=stages.ticks(ATTACKS),
    )


def _joined_in(
    arena: Arena, around: Reach, seen: Examined, attack: dict[float, BoolArray], reach: FloatArray
) -> dict[float, BoolArray]:
    """Count what the cross-examination fooled, at its eps and every larger one."""
    rows = seen.rows
    found = around.strike(arena.decide, arena.x[rows], arena.y[rows], seen.points, seen.eps)
    reach[rows] = np.minimum(reach[rows], np.where(found.fooled, found.distance, np.inf))
    hits: dict[float, BoolArray] = {}
    for eps, fooled in attack.items():
        if eps >= seen.eps:
            fooled[rows] |= found.fooled
            hits[eps] = found.fooled
    return hits


def _repaired(
    arena: Arena, rows: IntArray, points: FloatArray, fooled: BoolArray, eps: float, context: Context
) -> tuple[BoolArray, FloatArray, int]:
    """Search on from where rounding to whole numbers has undone a gradient step."""
    from auditkit.methods.robustness.search import feasible_search

    left = np.flatnonzero(~fooled)
    x, y = arena.x[rows[left]], arena.y[rows[left]]
    found = feasible_search(arena.judge, x, y, arena.grid.space, eps, start=points[left], rounds=12, rng=context.rng)
    fooled, points = fooled.copy(), points.copy()
    points[left] = found.points
    fooled[left] = arena.decide(found.points) != y if len(left) else found.success
    return fooled, points, found.n_evaluations + len(left)
