"""Randomized smoothing: l2 radii within which the smoothed model's decision cannot change, with their confidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.state import undisturbed
from auditkit.methods.robustness.threat import generator_of
from auditkit.stats.intervals import clopper_pearson

Tensor = torch.Tensor
ABSTAINED = -1
# Noisy copies answered together and one by one, to see whether an answer hangs on the rows beside it: of how many rows,
# and how many of each.
_ALONE_ROWS, _ALONE = 5, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """What was certified of the smoothed model.

    Attributes:
        classes: ``(n,)`` int64 decisions of the smoothed model, -1 where it abstains.
        radii: ``(n,)`` float64 certified l2 radii in units of scale, 0 where it abstains.
        undecided: Share of noisy copies that the model gave no decision on.
        alone: Whether noisy copies are decided alike one by one and together, without which no radius means anything.
        n_evaluations: Rows passed forward through the model.
    """

    classes: Tensor
    radii: Tensor
    undecided: float
    alone: bool
    n_evaluations: int


def largest_radius(sigma: float, draws: int, alpha: float) -> float:
    """The radius certified when all draws agree: no model can be certified beyond it.

    >>> round(largest_radius(0.25, 1000, 0.001), 3)
    0.616
    """
    share = alpha ** (1.0 / draws)
    return sigma * NormalDist().inv_cdf(share) if share > 0.5 else 0.0


def certify(  # noqa: PLR0913 - a certificate's settings, each named at the call
    decide: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    sigma: float,
    draws: int = 1000,
    selection: int = 100,
    alpha: float = 0.001,
    scale: float | Tensor = 1.0,
    model: object = None,
    seed: int = 0,
    batch_size: int = 1024,
    tick: Callable[[int], None] | None = None,
) -> Certified:
    """Certify the model smoothed by Gaussian noise: a statement on that one, never on the model behind ``decide``.

    The class is chosen on ``selection`` noisy copies and its share is bounded from below on ``draws`` other ones by
    Clopper and Pearson's one-sided limit ``p``. Where ``p`` is above one half the radius is ``sigma * quantile(p)``;
    elsewhere the smoothed model abstains. A copy without a decision counts against every class.

    Args:
        decide: ``(m, *features)`` points -> ``(m,)`` int64 decisions, negative where there is none.
        x: ``(n, *features)`` floating-point rows.
        sigma: Standard deviation of the noise, in units of scale; it is not clipped to any bounds.
        draws: Noisy copies of a row from which its radius is worked out.
        selection: Noisy copies from which its class is chosen.
        alpha: Chance that the radius of a row is too large.
        scale: Size of one unit in each feature, 0 where it stays as it is; broadcasts to ``x``.
        model: The module behind ``decide``, to be given back as it was.
        seed: Of the noise; a row's noise depends on its position alone.
        batch_size: Copies in one forward pass.
        tick: Called after every row with the number done; may raise to stop.

    Raises:
        UsageError: AK516 settings out of range, AK531 inputs that are no finite floats.

    Source: Cohen, Rosenfeld and Kolter (2019), theorem 1 and algorithm CERTIFY.

    >>> found = certify(lambda z: (z[:, 0] > 0.5).long(), torch.tensor([[0.9], [0.5]]), sigma=0.25)
    >>> found.classes.tolist(), 0.3 < float(found.radii[0]) <= 0.4
    ([1, -1], True)
    """
    _check(x, sigma, draws, selection, alpha)
    unit = torch.as_tensor(scale, dtype=x.dtype, device=x.device)
    unit = torch.broadcast_to(unit[None] if 0 < unit.ndim < x.ndim else unit, x.shape)
    ask = _Asked(decide, batch_size)
    classes = torch.full((len(x),), ABSTAINED, dtype=torch.int64)
    radii = torch.zeros(len(x), dtype=torch.float64)
    undecided, alone = 0, True
    with undisturbed(model), torch.no_grad():
        for row in range(len(x)):
            noise = torch.randn((selection + draws, *x.shape[1:]), generator=generator_of((seed, row)))
            points = x[row] + sigma * unit[row] * noise.to(x)
            said = ask(points)
            if row < _ALONE_ROWS:
                alone = alone and torch.equal(said[:_ALONE], torch.cat([ask(one[None]) for one in points[:_ALONE]]))
            undecided += int((said < 0).sum())
            top = int(said[:selection].mode().values)
            share = _lower(int((said[selection:] == top).sum()), draws, alpha) if top >= 0 else 0.0
            if share > 0.5:
                classes[row], radii[row] = top, sigma * NormalDist().inv_cdf(share)
            if tick is not None:
                tick(row + 1)
    return Certified(
        classes=classes,
        radii=radii,
        undecided=undecided / max(len(x) * (selection + draws), 1),
        alone=alone,
        n_evaluations=ask.rows,
    )


class _Asked:
    """The model's decisions in batches, counted."""

    def __init__(self, decide: Callable[[Tensor], Tensor], batch_size: int) -> None:
        self.decide, self.batch_size, self.rows = decide, batch_size, 0

    def __call__(self, points: Tensor) -> Tensor:
        """``(m,)`` decisions."""
        self.rows += len(points)
        return torch.cat([self.decide(part).cpu() for part in torch.split(points, self.batch_size)])


def _lower(hits: int, n: int, alpha: float) -> float:
    """Clopper and Pearson's one-sided lower limit at confidence ``1 - alpha``."""
    if hits == n:
        return float(alpha ** (1.0 / n))
    found = clopper_pearson(hits, n, 1.0 - 2.0 * alpha)
    return 0.0 if found is None else found.low


def _check(x: Tensor, sigma: float, draws: int, selection: int, alpha: float) -> None:
    if not (math.isfinite(sigma) and sigma > 0 and draws >= 1 and selection >= 1 and 0 < alpha < 0.5):
        raise UsageError(
            "AK516",
            "sigma must be finite and above 0, draws and selection 1 or more, alpha between 0 and 0.5",
            where="sigma",
        )
    if not x.is_floating_point() or not bool(torch.isfinite(x).all()):
        raise UsageError("AK531", f"inputs must be finite and floating point, got {x.dtype}", where="x")
