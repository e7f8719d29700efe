"""Projected gradient descent on torch models: batched on the device, in one copy of the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.oracle import (
    AttackResult,
    Objective,
    Oracle,
    batches,
    clean_score,
    cross_entropy,
    finished,
    margin,
    oracle_of,
)
from auditkit.methods.robustness.threat import Batch, Norm, check_inputs, make_threat

Loss = Literal["cross_entropy", "margin"]
Tensor = torch.Tensor

OBJECTIVES: dict[str, Objective] = {"cross_entropy": cross_entropy, "margin": margin}


def pgd(  # noqa: PLR0913 - an attack's settings are many, and each is named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 40,
    step_size: float | None = None,
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    scale: float | Tensor = 1.0,
    mask: Tensor | None = None,
    seed: int = 0,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = "cross_entropy",
    early_stop: bool = True,
    batch_size: int = 512,
) -> AttackResult:
    """Search for misclassified points within ``eps`` of each row by projected gradient ascent on the loss.

    Rows that are fooled are dropped from the search at once; gradients are taken with respect to the input
    alone; success is scored again on a fresh forward pass over the final points. The model is looked at in eval
    mode, and its parameters, gradients, buffers, mode and every global generator are given back bitwise.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits, ``k >= 2``: a module or any callable.
        x: Clean inputs, floating point, inside ``bounds``.
        y: ``(n,)`` int64 labels.
        eps: Radius in units of ``scale``; 0 gives the clean points.
        norm: ``linf``, ``l2`` or ``l1``, over all features of a row.
        steps: Gradient steps of each restart.
        step_size: In units of ``scale``; ``2.5 * eps / steps`` by default.
        bounds: Smallest and largest value: numbers, or tensors that broadcast to ``x``.
        scale: Size of one unit of eps in each feature (a standard deviation, say); broadcasts to ``x``.
        mask: True (or 1) where a feature may change; broadcasts to ``x``.
        seed: Of the random starts; the same numbers on every device and batch size.
        restarts: Independent random starts.
        random_start: Begin each restart at a random point of the ball, not at ``x``.
        loss: What is climbed: the cross-entropy, or the margin ``max(other logits) - logit of y``, which does not
            vanish when logits are very large.
        early_stop: Drop rows once fooled. Without it every row ends at its point of highest loss.
        batch_size: Rows in one forward pass.

    Raises:
        UsageError: AK530 eps or another setting out of range, AK531 inputs out of bounds or not finite,
            AK532 labels and inputs that do not match, AK514 labels that are no class, AK533 clean logits that are
            not finite, AK534 a model that does not give ``(n, k)`` logits.

    Source: Madry et al. (2018), section 2.1; ``l1`` steps after Tramer and Boneh (2019), section 4.1; margin loss
    after Carlini and Wagner (2017), section V-A.

    >>> weight = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    >>> x, y = torch.tensor([[0.5, 0.2]]), torch.tensor([0])
    >>> found = pgd(lambda z: z @ weight.T, x, y, eps=0.1, early_stop=False)
    >>> found.success.tolist(), [round(v, 4) for v in found.adversarial[0].tolist()]
    ([True], [0.4, 0.3])
    """
    _check_settings(steps, restarts, batch_size, step_size)
    threat = make_threat(x, eps, norm, bounds, scale, mask)
    check_inputs(x, y, threat)
    settings = _Search(
        steps=steps,
        step_size=2.5 * eps / max(steps, 1) if step_size is None else step_size,
        objective=OBJECTIVES[loss],
        early_stop=early_stop,
    )
    with oracle_of(model, x) as oracle:
        best = x.detach().clone()
        clean, _ = clean_score(oracle, x, y, batch_size)
        best_loss = clean.margin if loss == "margin" else clean.loss
        standing = ~clean.fooled if early_stop else torch.ones_like(clean.fooled)
        for restart in range(restarts if eps > 0 and steps > 0 else 0):
            for rows in batches(standing, batch_size):
                batch = threat.batch(x, y, rows)
                start = batch.random(restart, seed) if random_start else torch.zeros_like(batch.x)
                unit, value, fooled = _climb(oracle, batch, start, settings)
                better = value > best_loss[rows]
                best[rows[better]] = batch.points(unit)[better]
                best_loss[rows[better]] = value[better]
                if early_stop:
                    standing[rows] &= ~fooled
        return finished(oracle, x, y, best, threat, batch_size)


@dataclass(frozen=True, slots=True)
class _Search:
    steps: int
    step_size: float
    objective: Objective
    early_stop: bool


def _climb(oracle: Oracle, batch: Batch, start: Tensor, search: _Search) -> tuple[Tensor, Tensor, Tensor]:
    """One restart on one batch: best offsets, their loss (infinite where fooled and dropped), who was fooled.

    Rows leave the batch as soon as they are fooled.
    """
    m = len(start)
    best, best_loss = start.clone(), torch.full((m,), -math.inf, dtype=torch.float64, device=start.device)
    fooled = torch.zeros(m, dtype=torch.bool, device=start.device)
    active, here, unit = torch.arange(m, device=start.device), batch, start
    for step in range(search.steps + 1):
        if step < search.steps:
            seen = oracle.slope(here, unit, here.y, search.objective, first=step == 0)
            hit, value, gradient = seen.fooled, seen.value, seen.gradient
        else:
            scored = oracle.look(here.points(unit), here.y)
            hit, value = scored.fooled, scored.margin if search.objective is margin else scored.loss
        better = (value > best_loss[active]) | (hit & ~fooled[active])
        changed = active[better]
        best[changed], best_loss[changed] = unit[better], value[better]
        fooled[active] |= hit
        if step == search.steps:
            break
        if search.early_stop and bool(hit.any()):
            keep = ~hit
            here, active, unit, gradient = here.keep(keep), active[keep], unit[keep], gradient[keep]
            if len(active) == 0:
                break
        unit = here.project(unit + search.step_size * here.ascent(gradient, unit))
    return best, torch.where(fooled, math.inf, best_loss) if search.early_stop else best_loss, fooled


def _check_settings(steps: int, restarts: int, batch_size: int, step_size: float | None) -> None:
    if steps < 0 or restarts < 1 or batch_size < 1:
        raise UsageError("AK530", "steps must be 0 or more, restarts and batch_size 1 or more", where="steps")
    if step_size is not None and not (math.isfinite(step_size) and step_size > 0):
        raise UsageError("AK530", f"step_size must be above 0, got {step_size}", where="step_size")
