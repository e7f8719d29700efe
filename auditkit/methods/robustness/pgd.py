"""Projected gradient descent on torch models: batched on the device, in one copy of the data."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.state import undisturbed

Norm = Literal["linf", "l2"]
Loss = Literal["cross_entropy", "margin"]
Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """What an attack found.

    Attributes:
        adversarial: Points of the shape, dtype and device of the clean inputs, inside eps and bounds. A row
            that was not fooled holds the point of highest loss that was seen.
        success: ``(n,)`` bool: on a fresh forward pass the decision differs from the label, or is not finite.
        distance: ``(n,)`` float64 norm of the perturbation in units of ``scale``.
        n_evaluations: Rows passed forward through the model, in all.
        zero_gradient_share: Share of the first gradients (one a row still standing) that were exactly zero in
            every feature; ``None`` when no row was attacked.
    """

    adversarial: Tensor
    success: Tensor
    distance: Tensor
    n_evaluations: int
    zero_gradient_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ball:
    """Where the attack may go: ``x + scale * u`` with ``|u| <= eps`` in ``norm``, inside ``bounds``.

    Attributes:
        low: Smallest value of each feature, a number or a tensor that broadcasts to the inputs.
        high: Largest value, likewise.
        scale: Size of one unit of eps in each feature; 0 freezes the feature.
    """

    eps: float
    norm: Norm
    low: Tensor
    high: Tensor
    scale: Tensor

    def rows(self, index: Tensor, n: int) -> Ball:
        """The same ball for some rows only, where its tensors have one entry a row."""
        low, high, scale = (part[index] if _per_row(part, n) else part for part in (self.low, self.high, self.scale))
        return Ball(eps=self.eps, norm=self.norm, low=low, high=high, scale=scale)

    def project(self, x: Tensor, unit: Tensor) -> Tensor:
        """The feasible point at or inside ``x + scale * unit``."""
        if self.norm == "linf":
            unit = unit.clamp(-self.eps, self.eps)
        else:
            unit = unit * (self.eps / _row_norm(unit, "l2").clamp_min(1e-30)).clamp_max(1.0)
        return torch.minimum(torch.maximum(x + self.scale * unit, self.low), self.high)


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
        norm: ``linf`` or ``l2``, over all features of a row.
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
            AK532 labels and inputs that do not match, AK533 clean logits that are not finite, AK534 a
            model that does not give ``(n, k)`` logits.

    Source: Madry et al. (2018), section 2.1; margin loss after Carlini and Wagner (2017), section V-A.

    >>> weight = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    >>> x, y = torch.tensor([[0.5, 0.2]]), torch.tensor([0])
    >>> found = pgd(lambda z: z @ weight.T, x, y, eps=0.1, early_stop=False)
    >>> found.success.tolist(), [round(v, 4) for v in found.adversarial[0].tolist()]
    ([True], [0.4, 0.3])
    """
    _check_settings(eps, norm, steps, restarts, batch_size, step_size)
    ball = _make_ball(x, eps, norm, bounds, scale, mask)
    _check_inputs(x, y, ball)
    generator = torch.Generator().manual_seed(seed)
    settings = _Search(
        steps=steps,
        step_size=2.5 * eps / max(steps, 1) if step_size is None else step_size,
        loss=loss,
        early_stop=early_stop,
    )
    with undisturbed(model) as module:
        forward = _Forward(model, _dtype_of(module, x))
        best = x.detach().clone()
        clean = _scored(forward, x, y, batch_size)
        _refuse_non_finite(clean.finite)
        evaluations, zeros, attacked = len(x), 0, 0
        best_loss = clean.margin if loss == "margin" else clean.loss
        standing = ~clean.fooled if early_stop else torch.ones_like(clean.fooled)
        for _ in range(restarts if eps > 0 and steps > 0 else 0):
            start = _random_start(x, ball, generator) if random_start else torch.zeros_like(x)
            for rows in _batches(standing, batch_size):
                part = ball.rows(rows, len(x))
                climbed = _climb(forward, x[rows], y[rows], start[rows], part, settings)
                better = climbed.loss > best_loss[rows]
                best[rows[better]] = climbed.points[better]
                best_loss[rows[better]] = climbed.loss[better]
                standing[rows] &= ~climbed.fooled if early_stop else standing[rows]
                evaluations += climbed.n_evaluations
                zeros, attacked = zeros + climbed.zero_gradients, attacked + len(rows)
        final = _scored(forward, best, y, batch_size)
    return AttackResult(
        adversarial=best,
        success=final.fooled,
        distance=_distance(x, best, ball),
        n_evaluations=evaluations + len(x),
        zero_gradient_share=zeros / attacked if attacked else None,
    )


@dataclass(frozen=True, slots=True)
class _Search:
    steps: int
    step_size: float
    loss: Loss
    early_stop: bool


@dataclass(frozen=True, slots=True)
class _Scored:
    fooled: Tensor
    finite: Tensor
    loss: Tensor
    margin: Tensor


@dataclass(frozen=True, slots=True)
class _Climbed:
    points: Tensor
    loss: Tensor
    fooled: Tensor
    n_evaluations: int
    zero_gradients: int


class _Forward:
    """The model with its input cast to the dtype of its parameters and its output checked."""

    __slots__ = ("dtype", "model")

    def __init__(self, model: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
        self.model = model
        self.dtype = dtype

    def __call__(self, x: Tensor) -> Tensor:
        logits = self.model(x.to(self.dtype))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != len(x) or logits.shape[1] < 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                "AK534",
                f"the model gave {shape} for {len(x)} rows; a gradient attack needs logits (n, k) with k >= 2",
                why="labels alone, or the score of one class, have no gradient to follow",
                fix="give a model whose output is one logit a class",
            )
        # Half-precision cross-entropy saturates long before the logits do.
        return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _climb(forward: _Forward, x: Tensor, y: Tensor, start: Tensor, ball: Ball, search: _Search) -> _Climbed:
    """One restart on one batch; rows leave the batch as soon as they are fooled."""
    points = ball.project(x, start)
    best, best_loss = points.clone(), torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
    fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    active = torch.arange(len(x), device=x.device)
    evaluations = zeros = 0
    scale = ball.scale
    for step in range(search.steps + 1):
        here = points[active].detach().requires_grad_(step < search.steps)
        with torch.set_grad_enabled(step < search.steps):
            logits = forward(here)
            scored = _score(logits, y[active])
            climbed = scored.margin if search.loss == "margin" else scored.loss
        evaluations += len(active)
        value = climbed.detach()
        better = (value > best_loss[active]) | (scored.fooled & ~fooled[active])
        best[active[better]], best_loss[active[better]] = here.detach()[better], value[better]
        fooled[active] |= scored.fooled
        if step == search.steps:
            break
        part_scale = scale[active] if _per_row(scale, len(x)) else scale
        gradient = _input_gradient(climbed, here) * part_scale
        if step == 0:
            zeros = int((gradient.reshape(len(gradient), -1) == 0).all(dim=1).sum())
        keep = ~scored.fooled if search.early_stop else torch.ones_like(scored.fooled)
        active, gradient = active[keep], gradient[keep]
        if len(active) == 0:
            break
        part_scale = scale[active] if _per_row(scale, len(x)) else scale
        unit = torch.where(part_scale > 0, (points[active] - x[active]) / part_scale.clamp_min(1e-30), 0.0)
        unit = unit + search.step_size * _direction(gradient, ball.norm)
        points[active] = ball.rows(active, len(x)).project(x[active], unit)
    fooled_loss = torch.where(fooled, math.inf, best_loss) if search.early_stop else best_loss
    return _Climbed(best, fooled_loss, fooled, evaluations, zeros)


def _batches(standing: Tensor, batch_size: int) -> list[Tensor]:
    rows = standing.nonzero()[:, 0]
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def _input_gradient(loss: Tensor, here: Tensor) -> Tensor:
    """Gradient of the summed loss; zero where the model has cut the graph (which the caller counts)."""
    if not loss.requires_grad:
        return torch.zeros_like(here)
    (gradient,) = torch.autograd.grad(loss.sum(), here, allow_unused=True, materialize_grads=True)
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


def _direction(gradient: Tensor, norm: Norm) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    # Squares of very small gradients underflow, so each row is first brought to a largest entry of 1.
    largest = _row_norm(gradient, "linf")
    unit = torch.where(largest > 0, gradient / largest.clamp_min(torch.finfo(gradient.dtype).smallest_normal), 0.0)
    return unit / _row_norm(unit, "l2").clamp_min(torch.finfo(gradient.dtype).tiny)


def _score(logits: Tensor, y: Tensor) -> _Scored:
    """Who is fooled, and both losses in float64; a row whose logits are not finite counts as fooled."""
    finite = torch.isfinite(logits).all(dim=1)
    fooled = (logits.argmax(dim=1) != y) | ~finite
    own = logits.gather(1, y[:, None])[:, 0]
    others = logits.masked_fill(torch.nn.functional.one_hot(y, logits.shape[1]).bool(), -math.inf)
    margin = (others.amax(dim=1) - own).double()
    # Cross-entropy as softplus of the log-odds: subtracting 1 from a probability of 1 would lose the gradient of a
    # confident, honest model, and of every (0, z) pair of logits whose z is above 17, long before it is zero.
    loss = torch.nn.functional.softplus(torch.logsumexp(others, dim=1) - own).double()
    return _Scored(fooled, finite, torch.nan_to_num(loss, nan=math.inf), torch.nan_to_num(margin, nan=math.inf))


def _scored(forward: _Forward, x: Tensor, y: Tensor, batch_size: int) -> _Scored:
    """A fresh forward pass over all rows."""
    if len(x) == 0:
        empty, none = torch.zeros(0, dtype=torch.float64, device=x.device), torch.zeros(0, dtype=torch.bool)
        return _Scored(none.to(x.device), none.to(x.device), empty, empty.clone())
    with torch.no_grad():
        everything = torch.ones(len(x), dtype=torch.bool, device=x.device)
        parts = [_score(forward(x[rows]), y[rows]) for rows in _batches(everything, batch_size)]
    return _Scored(*(torch.cat([getattr(part, name) for part in parts]) for name in _Scored.__slots__))


def _random_start(x: Tensor, ball: Ball, generator: torch.Generator) -> Tensor:
    """A random point of the ball in units of scale, drawn on the CPU so that every device gets the same."""
    if ball.norm == "linf":
        unit = (torch.rand(x.shape, generator=generator, dtype=torch.float64) * 2.0 - 1.0) * ball.eps
    else:
        normal = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        radius = torch.rand(len(x), generator=generator, dtype=torch.float64) * ball.eps
        unit = normal / _row_norm(normal, "l2").clamp_min(1e-30) * radius.reshape(-1, *[1] * (x.ndim - 1))
    return unit.to(device=x.device, dtype=x.dtype)


def _row_norm(values: Tensor, norm: Norm) -> Tensor:
    """Norm over the features of each row, shaped to broadcast against ``values``."""
    flat = values.reshape(len(values), -1)
    order = math.inf if norm == "linf" else 2
    if flat.shape[1] == 0:
        size = torch.zeros(len(values), dtype=values.dtype, device=values.device)
    else:
        size = torch.linalg.vector_norm(flat, ord=order, dim=1)
    return size.reshape(-1, *[1] * (values.ndim - 1))


def _distance(x: Tensor, adversarial: Tensor, ball: Ball) -> Tensor:
    """Norm of the perturbation in units of scale, in float64."""
    if len(x) == 0:
        return torch.zeros(0, dtype=torch.float64, device=x.device)
    scale = ball.scale.double().expand_as(x)
    moved = adversarial.double() - x.double()
    unit = torch.where(moved == 0, 0.0, moved / scale.clamp_min(1e-30))
    return _row_norm(unit, ball.norm).reshape(-1)


def _per_row(part: Tensor, n: int) -> bool:
    return part.ndim > 0 and part.shape[0] == n and n > 1


def _dtype_of(module: Any, x: Tensor) -> torch.dtype:
    """The one floating dtype of the module's parameters, else that of the inputs."""
    if module is None:
        return x.dtype
    dtypes = {p.dtype for p in module.parameters() if p.dtype.is_floating_point}
    return dtypes.pop() if len(dtypes) == 1 else x.dtype


def _make_ball(
    x: Tensor, eps: float, norm: Norm, bounds: tuple[float | Tensor, ...], scale: float | Tensor, mask: Tensor | None
) -> Ball:
    low, high, unit = (torch.as_tensor(part, dtype=x.dtype, device=x.device) for part in (*bounds, scale))
    if mask is not None:
        unit = unit * torch.as_tensor(mask, dtype=x.dtype, device=x.device)
    if not bool(torch.isfinite(unit).all()) or bool((unit < 0).any()):
        raise UsageError("AK530", "scale must be finite and 0 or more in every feature", where="scale")
    # One row's tensors are told from per-feature ones by a leading axis of the same length as the inputs.
    low, high, unit = (part[None] if 0 < part.ndim < x.ndim else part for part in (low, high, unit))
    return Ball(eps=float(eps), norm=norm, low=low, high=high, scale=unit)


def _check_settings(eps: float, norm: str, steps: int, restarts: int, batch_size: int, step_size: float | None) -> None:
    if not math.isfinite(eps) or eps < 0:
        raise UsageError("AK530", f"eps must be finite and 0 or more, got {eps}", where="eps")
    if norm not in ("linf", "l2"):
        raise UsageError("AK530", f"norm must be 'linf' or 'l2', got {norm!r}", where="norm")
    if steps < 0 or restarts < 1 or batch_size < 1:
        raise UsageError("AK530", "steps must be 0 or more, restarts and batch_size 1 or more", where="steps")
    if step_size is not None and not (math.isfinite(step_size) and step_size > 0):
        raise UsageError("AK530", f"step_size must be above 0, got {step_size}", where="step_size")


def _check_inputs(x: Tensor, y: Tensor, ball: Ball) -> None:
    if not x.dtype.is_floating_point:
        raise UsageError("AK531", f"inputs must be floating point, got {x.dtype}", where="x", fix="cast with x.float()")
    if y.ndim != 1 or len(y) != len(x) or y.dtype != torch.int64:
        raise UsageError(
            "AK532", f"labels must be ({len(x)},) int64, got {tuple(y.shape)} {y.dtype}", where="y", fix="y.long()"
        )
    if len(x) == 0:
        return
    if not bool(torch.isfinite(x).all()):
        raise UsageError("AK531", "inputs hold NaN or infinity", where="x")
    outside = (x < ball.low) | (x > ball.high)
    if bool(outside.any()):
        rows = int(outside.reshape(len(x), -1).any(dim=1).sum())
        raise UsageError(
            "AK531",
            f"{rows} of {len(x)} rows lie outside the bounds",
            where="x",
            why="clipping them would change the clean inputs, and the model's answer with them",
            fix="pass bounds=(low, high) of the data as the model takes it, or put normalisation inside the model",
        )


def _refuse_non_finite(finite: Tensor) -> None:
    bad = int((~finite).sum())
    if bad:
        raise UsageError(
            "AK533",
            f"the model gives logits that are not finite for {bad} of {len(finite)} clean rows",
            why="a decision from NaN or infinite logits means nothing",
        )
