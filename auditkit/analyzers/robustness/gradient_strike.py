"""Attack by gradients through a torch model, in the units of the table or of the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.analyzers.robustness.arena import Arena
from auditkit.analyzers.robustness.strikes import BoolArray, Budget, Strike, controls, joined
from auditkit.core.analyzer import Context
from auditkit.core.subject import FloatArray


@dataclass(frozen=True, kw_only=True)
class Lens:
    """How the module's tensor follows from the matrix: ``tensor = gain * x + offset``, cell by cell."""

    gain: FloatArray
    offset: FloatArray
    tensor: Any

    def apply(self, x: FloatArray) -> FloatArray:
        """The tensor's values, flat, for rows of the matrix."""
        return np.asarray(x * self.gain + self.offset)


def find_lens(arena: Arena, model: Any) -> Lens | None:
    """The cell-by-cell linear map from the matrix to the module's input, or ``None`` when there is no such map.

    Where a preparation mixes or encodes columns, a gradient step has no image among feasible rows, and the model
    is attacked by questions instead.
    """
    import torch

    if not len(arena.x) or not np.isfinite(arena.x).all():
        return None
    tensor = model.tensor(arena.grid.decode(arena.x)).detach()
    if not tensor.is_floating_point() or tensor.reshape(len(tensor), -1).shape != arena.x.shape:
        return None
    flat = tensor.reshape(len(tensor), -1).double().cpu().numpy()
    slack = 64.0 * torch.finfo(tensor.dtype).eps
    for gain, offset in _candidate_maps(arena.x, flat):
        error = np.abs(arena.x * gain + offset - flat)
        if (error <= slack * (np.abs(arena.x * gain) + np.abs(offset) + np.abs(flat))).all():
            return Lens(gain=gain, offset=offset, tensor=tensor)
    return None


def _candidate_maps(x: FloatArray, flat: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    features = x.shape[1]
    maps = [(np.ones(features), np.zeros(features))]
    low, high = np.unravel_index(x.argmin(), x.shape), np.unravel_index(x.argmax(), x.shape)
    if x[high] > x[low]:
        gain = (flat[high] - flat[low]) / (x[high] - x[low])
        maps.append((np.full(features, gain), np.full(features, flat[low] - gain * x[low])))
    columns = np.arange(features)
    bottom, top = x.argmin(axis=0), x.argmax(axis=0)
    span = x[top, columns] - x[bottom, columns]
    rise = flat[top, columns] - flat[bottom, columns]
    slope = np.where(span > 0, rise / np.where(span > 0, span, 1.0), 1.0)
    maps.append((slope, flat[bottom, columns] - slope * x[bottom, columns]))
    return maps


def gradient_strike(
    arena: Arena, lens: Lens, model: Any, eps_list: tuple[float, ...], budget: Budget, context: Context
) -> Strike:
    """PGD with cross-entropy, then with the margin loss on the rows still standing, at each eps."""
    from auditkit.methods.robustness import checks
    from auditkit.methods.robustness.rescore import rescore

    space, x, y = arena.grid.space, arena.x, arena.y
    first: dict[float, BoolArray] = {}
    both: dict[float, BoolArray] = {}
    attack: dict[float, BoolArray] = {}
    few: BoolArray = np.zeros(len(x), dtype=np.bool_)
    reach = np.full(len(x), np.inf)
    zero, moved, violations, spent = 0.0, 0.0, 0, 0
    repair = bool(space.whole.any())
    for done, eps in enumerate(sorted(eps_list)):
        context.check_deadline()
        found = _climb(arena, lens, model, eps, budget, context.seed)
        spent += found.evaluations
        cross = rescore(arena.decide, x, y, found.cross, space, eps)
        best = rescore(arena.decide, x, y, np.where(cross.fooled[:, None], cross.points, found.margin), space, eps)
        fooled, points, extra = (
            _repaired(arena, best.points, best.fooled, eps, context) if repair else (best.fooled, best.points, 0)
        )
        first[eps], both[eps], attack[eps] = cross.fooled, best.fooled, fooled
        distance = space.distance(x, points)
        reach = np.minimum(reach, np.where(fooled, distance, np.inf))
        zero, moved = max(zero, found.zero), max(moved, float((distance > 0).mean()) if len(x) else 0.0)
        violations += space.violations(x, points, eps)
        spent += extra + 3 * len(x)
        few = np.asarray(rescore(arena.decide, x, y, found.short, space, eps).fooled)
        context.progress(done + 1, len(eps_list) + 2)
    control = controls(arena, eps_list, budget, context)
    widest = max(eps_list)
    beside = "neither more information nor more steps should make an attack weaker"
    results = (
        checks.moved(moved if widest > 0 else 1.0),
        checks.inside(violations),
        checks.gradients_alive(zero),
        checks.losses_agree(first[widest], both[widest]),
        checks.never_beaten("more steps are not weaker", [attack[widest]], [few], beside),
    )
    steps = "pgd+search" if repair else "pgd"
    return joined(steps, attack, control, reach, results, [("pgd cross-entropy", first), (steps, attack)], spent, arena)


@dataclass(frozen=True, kw_only=True)
class _Points:
    cross: FloatArray
    margin: FloatArray
    short: FloatArray
    zero: float
    evaluations: int


def _climb(arena: Arena, lens: Lens, model: Any, eps: float, budget: Budget, seed: int) -> _Points:
    """Both losses through the module, and a short run for comparison; points come back as matrix rows."""
    import torch

    from auditkit.methods.robustness.projected_gradient import pgd

    like = lens.tensor
    low, high = arena.grid.space.box(arena.x, None)
    ends = np.stack([lens.apply(low), lens.apply(high)])
    bounds = tuple(
        torch.as_tensor(side, dtype=like.dtype, device=like.device).reshape(like.shape)
        for side in (ends.min(axis=0), ends.max(axis=0))
    )
    scale = torch.as_tensor(
        np.broadcast_to(arena.grid.space.scale * np.abs(lens.gain), arena.x.shape).copy(),
        dtype=like.dtype,
        device=like.device,
    ).reshape(like.shape)
    y = torch.as_tensor(arena.y, device=like.device)
    common: dict[str, Any] = {
        "eps": eps,
        "bounds": (torch.minimum(bounds[0], like), torch.maximum(bounds[1], like)),
        "scale": scale,
        "seed": seed,
    }

    def back(points: Any) -> FloatArray:
        flat = points.reshape(len(points), -1).double().cpu().numpy()
        return np.asarray((flat - lens.offset) / np.where(lens.gain == 0, 1.0, lens.gain))

    cross = pgd(model.logits, like, y, steps=budget.steps, restarts=budget.restarts, **common)
    margin = pgd(model.logits, like, y, steps=budget.steps, loss="margin", **common)
    short = pgd(model.logits, like, y, steps=max(1, budget.steps // 4), **common)
    return _Points(
        cross=back(cross.adversarial),
        margin=back(margin.adversarial),
        short=back(short.adversarial),
        zero=cross.zero_gradient_share or 0.0,
        evaluations=cross.n_evaluations + margin.n_evaluations + short.n_evaluations,
    )


def _repaired(
    arena: Arena, points: FloatArray, fooled: BoolArray, eps: float, context: Context
) -> tuple[BoolArray, FloatArray, int]:
    """Search on from where rounding to whole numbers has undone a gradient step."""
    from auditkit.methods.robustness.search import feasible_search

    rows = np.flatnonzero(~fooled)
    found = feasible_search(
        arena.judge, arena.x[rows], arena.y[rows], arena.grid.space, eps, start=points[rows], rounds=12, rng=context.rng
    )
    fooled, points = fooled.copy(), points.copy()
    points[rows], fooled[rows] = found.points, found.success
    return fooled, points, found.n_evaluations
