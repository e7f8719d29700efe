"""Auto-PGD: gradient ascent with momentum whose step size sets itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.oracle import (
    AttackResult,
    Objective,
    Oracle,
    Slope,
    batches,
    clean_score,
    cross_entropy,
    dlr,
    finished,
    margin,
    oracle_of,
    targeted_dlr,
    targeted_margin,
)
from auditkit.methods.robustness.threat import Batch, check_inputs, make_threat

Tensor = torch.Tensor
ApgdLoss = Literal["cross_entropy", "dlr", "targeted_dlr"]

# Share of steps that must raise the loss for the step size to stay, and the weight of a step against the last move.
RHO, MOMENTUM = 0.75, 0.75


def apgd(  # noqa: PLR0913 - an attack's settings are many, and each is named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Literal["linf", "l2"] = "linf",
    loss: ApgdLoss = "cross_entropy",
    steps: int = 100,
    n_targets: int = 9,
    restarts: int = 1,
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    scale: float | Tensor = 1.0,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 512,
) -> AttackResult:
    """Auto-PGD on the cross-entropy, the DLR loss, or the targeted DLR loss towards the likeliest other classes.

    The step starts at ``2 * eps`` and is halved at checkpoints where too few steps have raised the loss, or where
    neither the step nor the best loss has changed since the last one; the search then resumes at the best point.
    Rows leave once they are fooled. A row whose point a step did not move is not asked about again.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits.
        x: Clean inputs inside ``bounds``.
        y: ``(n,)`` int64 labels.
        eps: Radius in units of ``scale``.
        norm: ``linf`` or ``l2``.
        loss: ``dlr`` needs three classes and ``targeted_dlr`` four; with fewer the margin takes their place, whose
            gradient, once normalised, does not depend on the scale of the logits either.
        steps: Gradient steps of each run.
        n_targets: Classes tried by ``targeted_dlr``, the likeliest at the clean row first.
        restarts: Random starts (of each target).
        bounds: Smallest and largest value.
        scale: Size of one unit of eps in each feature.
        mask: True where a feature may change.
        seed: Of the random starts.
        batch_size: Rows in one forward pass.

    Raises:
        UsageError: as :func:`auditkit.methods.robustness.pgd`; AK513 for ``l1``.

    Source: Croce and Hein (2020), algorithm 1 and section 4.

    >>> found = apgd(lambda z: torch.cat([z, 1 - z], dim=1), torch.tensor([[0.6]]), torch.tensor([0]), eps=0.2)
    >>> found.success.tolist()
    [True]
    """
    check_budget(norm, steps=steps, restarts=restarts, n_targets=n_targets, batch_size=batch_size)
    threat = make_threat(x, eps, norm, bounds, scale, mask)
    check_inputs(x, y, threat)
    with oracle_of(model, x) as oracle:
        clean, targets = clean_score(oracle, x, y, batch_size, n_targets)
        best, standing, worst = x.detach().clone(), ~clean.fooled, clean.margin.clone()
        wanted = targets.shape[1] if loss == "targeted_dlr" else 1
        for run in range(wanted * restarts if eps > 0 and steps > 0 else 0):
            for rows in batches(standing, batch_size):
                batch = threat.batch(x, y, rows)
                target = targets[rows, run // restarts]
                objective = objective_for(loss, oracle.n_classes)
                found = climb(oracle, batch, batch.random(run, seed, on_sphere=True), target, objective, steps)
                better = found.fooled | (found.margin > worst[rows])
                best[rows[better]] = batch.points(found.unit)[better]
                worst[rows[better]] = found.margin[better]
                standing[rows] &= ~found.fooled
        return finished(oracle, x, y, best, threat, batch_size)


def check_budget(norm: str, **counts: int) -> None:
    """Refuse a norm or a budget that these attacks do not know.

    Raises:
        UsageError: AK513.
    """
    if norm not in ("linf", "l2"):
        raise UsageError("AK513", f"this attack knows the norms linf and l2, got {norm!r}", where="norm", fix="use pgd")
    for name, count in counts.items():
        if count < 1:
            raise UsageError("AK513", f"{name} must be 1 or more, got {count}", where=name)


def objective_for(loss: ApgdLoss, n_classes: int) -> Objective:
    """The loss itself, or the margin where the loss asks for more classes than there are."""
    if loss == "cross_entropy":
        return cross_entropy
    if loss == "dlr":
        return dlr if n_classes >= 3 else margin
    return targeted_dlr if n_classes >= 4 else targeted_margin


@dataclass(frozen=True, slots=True)
class Climbed:
    """Where a search ended: the offset nearest to being fooled, whether it fools, and its margin."""

    unit: Tensor
    fooled: Tensor
    margin: Tensor


@dataclass(frozen=True, slots=True)
class _State:
    """The rows still in the search: where they are, were, and were best; each entry has one row a row."""

    active: Tensor
    batch: Batch
    target: Tensor
    unit: Tensor
    before: Tensor
    seen: Slope
    step: Tensor
    best: Tensor
    best_seen: Slope
    nearest: Tensor
    nearest_margin: Tensor
    rises: Tensor
    checked: Tensor
    halved: Tensor

    def keep(self, mask: Tensor) -> _State:
        rest: dict[str, Any] = {}
        for name in self.__slots__:
            part = getattr(self, name)
            rest[name] = part[mask] if isinstance(part, Tensor) else part.keep(mask)
        return _State(**rest)


def checkpoints(steps: int) -> list[int]:
    """Steps after which the step size is looked at; gaps shrink from 22 % of the steps by 3 % down to 6 %.

    Source: Croce and Hein (2020), section 3.

    >>> checkpoints(100)[:5]
    [22, 41, 57, 70, 80]
    """
    gap, least, shrink = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    found, at = [], gap
    while at <= steps:
        found.append(at)
        gap = max(gap - shrink, least)
        at += gap
    return found


def climb(oracle: Oracle, batch: Batch, start: Tensor, target: Tensor, objective: Objective, steps: int) -> Climbed:
    """One run of Auto-PGD on one batch, from ``start``.

    Args:
        oracle: The model.
        batch: The rows.
        start: ``(m, *features)`` feasible offsets.
        target: ``(m,)`` classes that a targeted objective pulls towards.
        objective: What is climbed.
        steps: Steps.
    """
    m, device = len(start), start.device
    seen = oracle.slope(batch, start, target, objective, first=True)
    end, margins = start.clone(), seen.margin.clone()
    fooled = torch.zeros(m, dtype=torch.bool, device=device)
    state = _State(
        active=torch.arange(m, device=device),
        batch=batch,
        target=target,
        unit=start,
        before=start,
        seen=seen,
        step=torch.full_like(start.reshape(m, -1)[:, :1], 2.0 * batch.threat.eps).reshape(-1, *[1] * (start.ndim - 1)),
        best=start,
        best_seen=seen,
        nearest=start,
        nearest_margin=seen.margin,
        rises=torch.zeros(m, dtype=torch.int64, device=device),
        checked=seen.value,
        halved=torch.ones(m, dtype=torch.bool, device=device),
    )
    looks, previous = set(checkpoints(steps)), 0
    for turn in range(steps + 1):
        hit = state.seen.fooled
        if bool(hit.any()):
            gone = state.active[hit]
            end[gone], margins[gone], fooled[gone] = state.unit[hit], state.seen.margin[hit], True
            state = state.keep(~hit)
        if turn == steps or len(state.active) == 0:
            break
        if turn in looks:
            state, previous = _look_at_step(state, turn - previous), turn
        state = _step(oracle, state, objective, first=turn == 0)
    end[state.active], margins[state.active] = state.nearest, state.nearest_margin
    return Climbed(end, fooled, margins)


def _step(oracle: Oracle, state: _State, objective: Objective, *, first: bool) -> _State:
    """Move along the gradient and the last move, and look; rows that did not move keep what is known of them."""
    batch, unit = state.batch, state.unit
    ahead = batch.project(unit + state.step * batch.ascent(state.seen.gradient, unit))
    weight = 1.0 if first else MOMENTUM
    new = batch.project(unit + weight * (ahead - unit) + (1.0 - weight) * (unit - state.before))
    moved = (new != unit).reshape(len(new), -1).any(dim=1)
    if bool(moved.all()):
        seen = oracle.slope(batch, new, state.target, objective)
    elif bool(moved.any()):
        part = oracle.slope(batch.keep(moved), new[moved], state.target[moved], objective)
        seen = part.over(state.seen, moved)
    else:
        seen = state.seen
    better, nearer = seen.value > state.best_seen.value, seen.margin > state.nearest_margin
    return replace(
        state,
        unit=new,
        before=unit,
        seen=seen,
        best=torch.where(_wide(better, new), new, state.best),
        best_seen=seen.where(better, state.best_seen),
        nearest=torch.where(_wide(nearer, new), new, state.nearest),
        nearest_margin=torch.where(nearer, seen.margin, state.nearest_margin),
        rises=state.rises + (seen.value > state.seen.value),
    )


def _look_at_step(state: _State, gap: int) -> _State:
    """Halve the step where the search oscillates or is stuck, and resume there at the best point."""
    few = state.rises <= RHO * gap
    stuck = ~state.halved & (state.best_seen.value <= state.checked)
    halve = few | stuck
    return replace(
        state,
        step=torch.where(_wide(halve, state.step), state.step / 2.0, state.step),
        unit=torch.where(_wide(halve, state.unit), state.best, state.unit),
        seen=state.best_seen.where(halve, state.seen),
        rises=torch.zeros_like(state.rises),
        checked=state.best_seen.value,
        halved=halve,
    )


def _wide(mask: Tensor, like: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (like.ndim - 1))
