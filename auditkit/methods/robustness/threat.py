"""Where an attacker may go: a ball of radius eps in some norm and unit, inside the bounds of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError

Norm = Literal["linf", "l2", "l1"]
Tensor = torch.Tensor

# Rows of one draw: a row's random numbers depend on its position and the seed, not on the batch it is attacked in.
_BLOCK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Threat:
    """The points ``x + scale * u`` with ``|u| <= eps`` in ``norm``, inside ``[low, high]``.

    Attributes:
        eps: Radius in units of ``scale``.
        norm: ``linf``, ``l2`` or ``l1`` over all features of a row.
        low: Smallest value of each feature, a tensor that broadcasts to the inputs.
        high: Largest value, likewise.
        scale: Size of one unit in each feature; 0 freezes the feature.
    """

    eps: float
    norm: Norm
    low: Tensor
    high: Tensor
    scale: Tensor

    def batch(self, x: Tensor, y: Tensor, rows: Tensor) -> Batch:
        """The rows at positions ``rows``, with what is feasible for each of them."""
        n = len(x)
        low, high, scale = (
            part[rows] if _per_row(part, n) else part[0] if part.ndim == x.ndim and len(part) == 1 else part
            for part in (self.low, self.high, self.scale)
        )
        here = x[rows].to(_work_dtype(x.dtype))
        safe = torch.where(scale > 0, scale, 1.0)
        shape = here.shape
        return Batch(
            threat=self,
            rows=rows,
            x=here,
            y=y[rows],
            low=low,
            high=high,
            scale=scale,
            lower=torch.where(scale > 0, (low - here) / safe, 0.0).expand(shape).clamp_max(0.0),
            upper=torch.where(scale > 0, (high - here) / safe, 0.0).expand(shape).clamp_min(0.0),
            dtype=x.dtype,
        )

    def distance(self, x: Tensor, adversarial: Tensor) -> Tensor:
        """``(n,)`` float64 norm of each row's perturbation in units of scale."""
        if len(x) == 0:
            return torch.zeros(0, dtype=torch.float64, device=x.device)
        moved = adversarial.double() - x.double()
        unit = torch.where(moved == 0, 0.0, moved / self.scale.double().clamp_min(1e-30))
        return row_norm(unit, self.norm).reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Some rows under attack. A point is held as ``unit``, its offset from the clean row in units of scale.

    Attributes:
        rows: ``(m,)`` positions of the rows in the whole data.
        x: ``(m, *features)`` clean rows in the precision that the search works in.
        y: ``(m,)`` labels.
        lower: ``(m, *features)`` smallest offset that the bounds allow, 0 or less; ``upper`` the largest.
        dtype: Precision of the inputs, in which points are given to the model.
    """

    threat: Threat
    rows: Tensor
    x: Tensor
    y: Tensor
    low: Tensor
    high: Tensor
    scale: Tensor
    lower: Tensor
    upper: Tensor
    dtype: torch.dtype

    def keep(self, mask: Tensor) -> Batch:
        """Only the rows marked in ``mask``."""
        features = self.x.ndim
        low, high, scale = (part[mask] if part.ndim == features else part for part in (self.low, self.high, self.scale))
        return Batch(
            threat=self.threat,
            rows=self.rows[mask],
            x=self.x[mask],
            y=self.y[mask],
            low=low,
            high=high,
            scale=scale,
            lower=self.lower[mask],
            upper=self.upper[mask],
            dtype=self.dtype,
        )

    def points(self, unit: Tensor) -> Tensor:
        """The inputs at offsets ``unit``, inside the bounds bit for bit."""
        moved = self.x if unit is None else self.x + self.scale * unit
        clipped = torch.minimum(torch.maximum(moved, self.low), self.high)
        # A row that stays where it is keeps its bytes even when the bounds are coarser than its precision.
        wanted = torch.where(unit == 0, self.x, clipped)
        if self.dtype == wanted.dtype:
            return wanted
        # Half precision would round some features out of the ball: those go to the next number towards the clean row.
        rounded, clean = wanted.to(self.dtype), self.x.to(self.dtype)
        further = (rounded.to(wanted.dtype) - self.x).abs() > (wanted - self.x).abs()
        return torch.where(further, torch.nextafter(rounded, clean), rounded)

    def project(self, unit: Tensor) -> Tensor:
        """The feasible offset at or inside ``unit``: exact for ``linf`` and ``l1``, ball then box for ``l2``."""
        eps = self.threat.eps
        if self.threat.norm == "l1":
            return project_l1(unit, eps, self.lower, self.upper)
        if self.threat.norm == "linf":
            unit = unit.clamp(-eps, eps)
        else:
            unit = unit * (eps / row_norm(unit, "l2").clamp_min(1e-30)).clamp_max(1.0)
        return self.within_bounds(unit)

    def within_bounds(self, unit: Tensor) -> Tensor:
        """The nearest offset inside the bounds of the data, whatever its norm."""
        return torch.minimum(torch.maximum(unit, self.lower), self.upper)

    def size(self, unit: Tensor) -> Tensor:
        """``(m,)`` norm of each offset."""
        return row_norm(unit, self.threat.norm).reshape(-1)

    def ascent(self, gradient: Tensor, unit: Tensor) -> Tensor:
        """Direction of steepest ascent of norm 1; under ``l1`` along the best hundredth of the features that can move.

        Source: Madry et al. (2018); for ``l1`` Tramer and Boneh (2019), section 4.1.
        """
        if self.threat.norm == "linf":
            return gradient.sign()
        # Squares of very small gradients underflow, so each row is first brought to a largest entry of 1.
        tiny = torch.finfo(gradient.dtype).tiny
        largest = row_norm(gradient, "linf")
        scaled = torch.where(largest > 0, gradient / largest.clamp_min(tiny), 0.0)
        if self.threat.norm == "l2":
            return scaled / row_norm(scaled, "l2").clamp_min(tiny)
        room = torch.where(scaled > 0, unit < self.upper, unit > self.lower)
        flat = torch.where(room, scaled, 0.0).reshape(len(scaled), -1)
        few = max(1, round(flat.shape[1] / 100))
        top = flat.abs().topk(few, dim=1)
        sparse = torch.zeros_like(flat).scatter_(1, top.indices, flat.gather(1, top.indices).sign())
        return (sparse / sparse.abs().sum(dim=1, keepdim=True).clamp_min(1.0)).reshape(gradient.shape)

    def random(self, stream: int, seed: int, *, on_sphere: bool = False) -> Tensor:
        """A random feasible offset for each row, the same on every device and in every batch.

        Args:
            stream: Number of the draw (a restart, a target).
            seed: Seed of all draws.
            on_sphere: Scale to norm ``eps`` before the bounds; otherwise anywhere in the ball.
        """
        norm, eps = self.threat.norm, self.threat.eps
        noise = draw(self.rows, self.x.shape[1:], (seed, stream), normal=norm != "linf").to(self.x)
        size = row_norm(noise, norm).clamp_min(1e-30)
        if on_sphere:
            unit = noise / size * eps
        elif norm == "linf":
            unit = noise * eps
        else:
            radius = (draw(self.rows, (1,), (seed, stream, 1), normal=False) + 1.0) / 2.0
            unit = noise / size * eps * radius.to(self.x).reshape(-1, *[1] * (self.x.ndim - 1))
        return self.project(unit)


def draw(rows: Tensor, shape: tuple[int, ...] | torch.Size, key: tuple[int, ...], *, normal: bool) -> Tensor:
    """Standard normal or uniform [-1, 1) numbers ``(m, *shape)`` that belong to the positions ``rows``."""
    positions = rows.cpu()
    found = torch.empty((len(positions), *shape), dtype=torch.float32)
    for block in torch.unique(positions // _BLOCK).tolist():
        generator = generator_of((*key, block))
        make = torch.randn if normal else torch.rand
        values = make((_BLOCK, *shape), generator=generator, dtype=torch.float32)
        here = positions // _BLOCK == block
        found[here] = values[positions[here] % _BLOCK]
    return found if normal else found * 2.0 - 1.0


def generator_of(key: tuple[int, ...]) -> torch.Generator:
    """A generator on the CPU that starts from a seed and the numbers of a stream."""
    state = np.random.SeedSequence([part % 2**63 for part in key]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) % 2**63)


def row_norm(values: Tensor, norm: Norm) -> Tensor:
    """Norm over the features of each row, shaped to broadcast against ``values``."""
    flat = values.flatten(1)
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    if flat.shape[1] == 0:
        size = torch.zeros(len(values), dtype=values.dtype, device=values.device)
    else:
        size = torch.linalg.vector_norm(flat, ord=order, dim=1)
    return size.reshape(-1, *[1] * (values.ndim - 1))


def project_l1(unit: Tensor, eps: float, lower: Tensor, upper: Tensor) -> Tensor:
    """Nearest point of the l1 ball of radius ``eps`` cut with the box ``[lower, upper]``, ``lower <= 0 <= upper``.

    Each feature shrinks by the same amount ``t`` and is capped by its bound. What is left, summed, falls piecewise
    linearly in ``t``, so its breakpoints, sorted, give the ``t`` at which it is ``eps``.

    Source: the optimality conditions; cf. Croce and Hein (2021), proposition 2.1.

    >>> box = torch.full((1, 3), 1.0)
    >>> project_l1(torch.tensor([[3.0, 0.5, -0.25]]), 1.25, -box, box).tolist()
    [[1.0, 0.25, -0.0]]
    """
    size = unit.abs().reshape(len(unit), -1).double()
    cap = torch.where(unit > 0, upper, -lower).reshape(size.shape).double()
    kept = torch.minimum(size, cap)
    over = kept.sum(dim=1) > eps
    if bool(over.any()):
        size, cap = size[over], cap[over]
        # Going down in t, a feature starts to count at t = size and is full at t = size - cap.
        stops, order = torch.cat([size, (size - cap)], dim=1).clamp_min(0.0).sort(dim=1, descending=True)
        turns = torch.cat([torch.ones_like(size), -torch.ones_like(size)], dim=1).gather(1, order)
        slope = turns.cumsum(dim=1)
        gained = torch.cumsum(slope[:, :-1] * (stops[:, :-1] - stops[:, 1:]), dim=1)
        last = torch.searchsorted(gained, torch.full((len(size), 1), float(eps), dtype=gained.dtype).to(gained))
        last = last.clamp_max(gained.shape[1] - 1)
        before = torch.where(last > 0, gained.gather(1, (last - 1).clamp_min(0)), 0.0)
        step = (eps - before) / slope.gather(1, last).clamp_min(1.0)
        shrink = stops.gather(1, last) - step
        kept[over] = torch.minimum((size - shrink).clamp_min(0.0), cap)
    return (unit.sign().double() * kept.reshape(unit.shape)).to(unit.dtype)


def make_threat(
    x: Tensor,
    eps: float,
    norm: str,
    bounds: tuple[float | Tensor, float | Tensor],
    scale: float | Tensor = 1.0,
    mask: Tensor | None = None,
) -> Threat:
    """The threat model of inputs ``x``, checked.

    Raises:
        UsageError: AK530 eps, norm or scale out of range.
    """
    if not math.isfinite(eps) or eps < 0:
        raise UsageError("AK530", f"eps must be finite and 0 or more, got {eps}", where="eps")
    if norm not in ("linf", "l2", "l1"):
        raise UsageError("AK530", f"norm must be 'linf', 'l2' or 'l1', got {norm!r}", where="norm")
    work = _work_dtype(x.dtype)
    low, high, unit = (torch.as_tensor(part, dtype=work, device=x.device) for part in (*bounds, scale))
    if mask is not None:
        unit = unit * torch.as_tensor(mask, dtype=work, device=x.device)
    if not bool(torch.isfinite(unit).all()) or bool((unit < 0).any()):
        raise UsageError("AK530", "scale must be finite and 0 or more in every feature", where="scale")
    # One row's tensors are told from per-feature ones by a leading axis of the same length as the inputs.
    low, high, unit = (part[None] if 0 < part.ndim < x.ndim else part for part in (low, high, unit))
    return Threat(eps=float(eps), norm=norm, low=low, high=high, scale=unit)  # type: ignore[arg-type]


def check_inputs(x: Tensor, y: Tensor, threat: Threat) -> None:
    """Refuse inputs and labels that an attack could not take as they are.

    Raises:
        UsageError: AK531 inputs not floating point, not finite or out of bounds, AK532 labels that do not match.
    """
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
    # In half precision a bound such as 0.1 rounds; compare in the precision of the inputs.
    outside = (x < threat.low.to(x.dtype)) | (x > threat.high.to(x.dtype))
    if bool(outside.any()):
        rows = int(outside.reshape(len(x), -1).any(dim=1).sum())
        raise UsageError(
            "AK531",
            f"{rows} of {len(x)} rows lie outside the bounds",
            where="x",
            why="clipping them would change the clean inputs, and the model's answer with them",
            fix="pass bounds=(low, high) of the data as the model takes it, or put normalisation inside the model",
        )


def _work_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype in (torch.float32, torch.float64) else torch.float32


def _per_row(part: Tensor, n: int) -> bool:
    return part.ndim > 0 and part.shape[0] == n and n > 1
