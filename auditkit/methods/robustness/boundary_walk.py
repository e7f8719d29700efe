"""FAB: walk to the decision boundary by linear steps that stay near the clean row, and keep the nearest point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch  # noqa: TID253 - this module drives torch

from auditkit.methods.robustness.auto_pgd import Climbed, check_budget
from auditkit.methods.robustness.oracle import (
    AttackResult,
    Oracle,
    Slope,
    batches,
    clean_score,
    finished,
    oracle_of,
    targeted_margin,
)
from auditkit.methods.robustness.threat import Batch, check_inputs, make_threat

Tensor = torch.Tensor

# How far a step goes past the linear boundary, how strongly it is drawn to the clean row, and how much of the
# way to a fooled point is kept when the walk goes on from there (Croce and Hein 2020b, section 4).
OVERSHOOT, BIAS, BACKWARD = 1.05, 0.1, 0.9


def fab(  # noqa: PLR0913 - an attack's settings are many, and each is named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Literal["linf", "l2"] = "linf",
    steps: int = 100,
    n_targets: int = 9,
    restarts: int = 1,
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    scale: float | Tensor = 1.0,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 512,
) -> AttackResult:
    """Targeted fast adaptive boundary attack: the nearest wrong decision towards each of the likeliest classes.

    A minimum-norm attack by nature; a row leaves as soon as a fooled point within ``eps`` is known. One pass gives the
    decision at a point and the gradient for the next step.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits.
        x: Clean inputs inside ``bounds``.
        y: ``(n,)`` int64 labels.
        eps: Radius in units of ``scale``.
        norm: ``linf`` or ``l2``.
        steps: Steps towards each target.
        n_targets: Classes tried, the likeliest at the clean row first.
        restarts: Starts of each target: the clean row, then random ones.
        bounds: Smallest and largest value.
        scale: Size of one unit of eps in each feature.
        mask: True where a feature may change.
        seed: Of the random starts.
        batch_size: Rows in one forward pass.

    Raises:
        UsageError: as :func:`auditkit.methods.robustness.pgd`; AK513 for ``l1``.

    Source: Croce and Hein (2020b), "Minimally distorted adversarial examples with a fast adaptive boundary attack",
    algorithm 1; targeted version, Croce and Hein (2020), section 5.

    >>> found = fab(lambda z: torch.cat([z, 1 - z], dim=1), torch.tensor([[0.6]]), torch.tensor([0]), eps=0.2)
    >>> found.success.tolist(), round(float(found.distance[0]), 3)
    ([True], 0.105)
    """
    check_budget(norm, steps=steps, restarts=restarts, n_targets=n_targets, batch_size=batch_size)
    threat = make_threat(x, eps, norm, bounds, scale, mask)
    check_inputs(x, y, threat)
    with oracle_of(model, x) as oracle:
        clean, targets = clean_score(oracle, x, y, batch_size, n_targets)
        best, standing = x.detach().clone(), ~clean.fooled
        for run in range(targets.shape[1] * restarts if eps > 0 else 0):
            for rows in batches(standing, batch_size):
                batch = threat.batch(x, y, rows)
                again = run % restarts > 0
                start = batch.random(run, seed, on_sphere=True) / 2.0 if again else torch.zeros_like(batch.x)
                found = walk(oracle, batch, start, targets[rows, run // restarts], steps)
                best[rows[found.fooled]] = batch.points(found.unit)[found.fooled]
                standing[rows] &= ~found.fooled
        return finished(oracle, x, y, best, threat, batch_size)


@dataclass(frozen=True, slots=True)
class _State:
    """The rows still walking."""

    active: Tensor
    batch: Batch
    target: Tensor
    unit: Tensor
    seen: Slope

    def keep(self, mask: Tensor) -> _State:
        return _State(
            self.active[mask], self.batch.keep(mask), self.target[mask], self.unit[mask], self.seen.keep(mask)
        )


def walk(oracle: Oracle, batch: Batch, start: Tensor, target: Tensor, steps: int) -> Climbed:
    """One walk on one batch towards ``target``; ends at a fooled point within eps, where there is one.

    Args:
        oracle: The model.
        batch: The rows.
        start: ``(m, *features)`` feasible offsets.
        target: ``(m,)`` classes.
        steps: Steps.
    """
    m, eps = len(start), batch.threat.eps
    end = start.clone()
    fooled = torch.zeros(m, dtype=torch.bool, device=start.device)
    margins = torch.full((m,), -math.inf, dtype=torch.float64, device=start.device)
    seen = oracle.slope(batch, start, target, targeted_margin, first=True)
    state = _State(torch.arange(m, device=start.device), batch, target, start, seen)
    for turn in range(steps + 1):
        # Rounding may leave a point that was meant to lie at eps a little beyond; those inside it are final.
        done = state.seen.fooled & (state.batch.size(state.unit) <= eps)
        if bool(done.any()):
            gone = state.active[done]
            end[gone], margins[gone], fooled[gone] = state.unit[done], state.seen.margin[done], True
            state = state.keep(~done)
            if len(state.active) == 0:
                break
        inside = state.batch.size(state.unit) <= eps
        nearer = inside & (state.seen.margin > margins[state.active])
        near = state.active[nearer]
        end[near], margins[near] = state.unit[nearer], state.seen.margin[nearer]
        if turn == steps:
            break
        state = _step(oracle, _back(oracle, state))
    return Climbed(end, fooled, margins)


def _back(oracle: Oracle, state: _State) -> _State:
    """Fooled points beyond eps go part of the way back to the clean row, and are looked at there."""
    beyond = state.seen.fooled
    if not bool(beyond.any()):
        return state
    unit = state.unit.clone()
    unit[beyond] *= BACKWARD
    part = oracle.slope(state.batch.keep(beyond), unit[beyond], state.target[beyond], targeted_margin)
    return _State(state.active, state.batch, state.target, unit, part.over(state.seen, beyond))


def _step(oracle: Oracle, state: _State) -> _State:
    """Step past the linear boundary, from the point and from the clean row, weighted by which of them is near."""
    unit, gradient = state.unit, state.seen.gradient
    lead = state.seen.value.to(unit.dtype)
    from_here = to_boundary(state.batch, unit, gradient, -lead)
    # The linear model at the clean row: its value there is the lead minus the slope along the offset.
    along = (gradient * unit).reshape(len(unit), -1).sum(dim=1)
    from_clean = to_boundary(state.batch, torch.zeros_like(unit), gradient, along - lead)
    near, far = (state.batch.size(step).clamp_min(1e-8) for step in (from_here, from_clean))
    weight = (near / (near + far)).clamp_max(BIAS).reshape(-1, *[1] * (unit.ndim - 1))
    new = (1.0 - weight) * (unit + OVERSHOOT * from_here) + weight * (OVERSHOOT * from_clean)
    new = torch.minimum(torch.maximum(new, state.batch.lower), state.batch.upper)
    moved = (new != unit).reshape(len(new), -1).any(dim=1)
    seen = state.seen
    if bool(moved.any()):
        part = oracle.slope(state.batch.keep(moved), new[moved], state.target[moved], targeted_margin)
        seen = part.over(state.seen, moved)
    return _State(state.active, state.batch, state.target, new, seen)


def to_boundary(batch: Batch, unit: Tensor, gradient: Tensor, rise: Tensor) -> Tensor:
    """Smallest step from ``unit`` inside the box that changes ``gradient . step`` by ``rise``; the corner if none does.

    Every feature moves in the direction that helps, by ``min(t * rate, room)``, where the rate is 1 under ``linf``
    and the size of its slope under ``l2``. What is gained is piecewise linear in ``t``; its sorted breakpoints, where
    a feature runs out of room, give the ``t`` that gains just enough.

    Args:
        batch: The box and the norm.
        unit: ``(m, *features)`` offsets inside the box.
        gradient: ``(m, *features)`` slopes.
        rise: ``(m,)`` change that is wanted, of either sign.

    Source: Croce and Hein (2020b), section 3.1 and appendix A, equation 7.
    """
    m = len(unit)
    flat = gradient.reshape(m, -1)
    size = flat.abs()
    direction = flat.sign() * rise.sign()[:, None]
    room = torch.where(direction > 0, (batch.upper - unit).reshape(m, -1), (unit - batch.lower).reshape(m, -1))
    room = torch.where(direction == 0, 0.0, room.clamp_min(0.0))
    linf = batch.threat.norm == "linf"
    rate = torch.ones_like(size) if linf else size / size.amax(dim=1, keepdim=True).clamp_min(1e-30)
    stops, order = torch.where(rate > 0, room / rate.clamp_min(1e-30), 0.0).sort(dim=1)
    full = (size * room).gather(1, order).double()
    speed = (size * rate).gather(1, order).double()
    used_up = full.cumsum(dim=1) - full
    running = speed.flip(1).cumsum(dim=1).flip(1)
    gained = used_up + torch.where(running > 0, running * stops.double(), 0.0)
    wanted = rise.abs().double()[:, None]
    at = torch.searchsorted(gained.cummax(dim=1).values, wanted)
    enough = at < gained.shape[1]
    at = at.clamp_max(gained.shape[1] - 1)
    reach = (wanted - used_up.gather(1, at)) / running.gather(1, at).clamp_min(1e-300)
    reach = torch.where(enough, reach, math.inf)
    step = direction * torch.minimum(torch.nan_to_num(reach * rate.double(), nan=0.0), room.double()).to(unit.dtype)
    return step.reshape(unit.shape)
