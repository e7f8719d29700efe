"""A search for backdoor triggers in the manner of Neural Cleanse, for all classes of a torch model at once.

A backdoor is a small patch that turns any image into one class. For each class the scan looks for the smallest mask
and pattern that turn clean images into it; a class whose mask is far smaller than those of the others is suspected.
The Adversarial Robustness Toolbox has this scan for Keras models alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.core.generators import preserved_generators
from auditkit.core.subject import FloatArray
from auditkit.methods.robustness.oracle import Oracle, oracle_of

Tensor = torch.Tensor
BoolArray = npt.NDArray[np.bool_]

FEWEST_CLASSES = 4
SUSPECT_INDEX = 2.0
REACHED = 0.95  # share of images that a trigger must turn
_ROWS = 640  # images of one pass
_UP, _DOWN = 1.1, 1.1**1.5  # how the weight of the mask's size follows the success, as published
_FIRST_WEIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class Triggers:
    """The smallest trigger found for each class.

    Attributes:
        sizes: ``(k,)`` sums of the masks over the pixels of an image, as shares of them; 1 where none was found.
        reached: ``(k,)`` bool: a trigger was found that turned :data:`REACHED` of the images that taught it.
        masks: ``(k, h, w)`` float64 in [0, 1]; channels of size 1 are left out, and so are those of flat images.
        asked: ``(k, m)`` bool: held-out images that were decided otherwise than this class.
        turned: ``(k, m)`` bool: those of them that the trigger turned into it.
        zero_gradients: Share of the first gradients that were exactly zero.
        n_evaluations: Images passed through the model.
    """

    sizes: FloatArray
    reached: BoolArray
    masks: FloatArray
    asked: BoolArray
    turned: BoolArray
    zero_gradients: float
    n_evaluations: int


def scan_triggers(  # noqa: PLR0913 - a search's settings, each named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    held_out: Tensor,
    *,
    bounds: tuple[Tensor, Tensor],
    steps: int = 300,
    batch: int = 32,
    learning_rate: float = 0.1,
    seed: int = 0,
    tick: Callable[[int, int], None] | None = None,
) -> Triggers:
    """Find the smallest trigger of every class on ``x``, and try it on ``held_out``.

    A mask has one value a pixel, shared by the channels. Mask and pattern are found by Adam on the cross-entropy plus a
    weight times the size of the mask; the weight grows while the trigger works and shrinks while it does not.

    Args:
        model: ``(n, *shape)`` -> ``(n, k)`` logits.
        x: Clean images that teach the triggers.
        held_out: Clean images on which they are tried.
        bounds: Smallest and largest value of each entry, of one image's shape.
        steps: Steps of Adam for each class.
        batch: Images of one step and class.
        learning_rate: Of Adam.
        seed: Of starts and batches.
        tick: Called with (classes done, classes) and during the search; may raise to stop.

    Raises:
        UsageError: AK596 too few images, or bounds that are empty; AK534 as :func:`auditkit.methods.robustness.pgd`.

    Source: Wang et al. (2019), Neural Cleanse, sections IV and V.
    """
    low, high = bounds
    if len(x) < 2 or len(held_out) < 1:
        raise UsageError("AK596", f"{len(x)} and {len(held_out)} images are too few to find and try triggers")
    if not bool((low <= high).all()) or not bool((low < high).any()):
        raise UsageError("AK596", "the range of the pixels is empty", where="bounds")
    tell = tick or (lambda done, total: None)
    with oracle_of(model, x) as oracle, preserved_generators(seed):
        own, other = (_decisions(oracle, part) for part in (x, held_out))
        k = oracle.n_classes
        width = max(1, _ROWS // min(batch, len(x)))
        parts = []
        for start in range(0, k, width):
            classes = torch.arange(start, min(start + width, k), device=x.device)
            search = _Search(oracle, x, own, classes, bounds)
            parts.append(search.run(steps, min(batch, len(x)), learning_rate, partial(tell, start, k)))
        masks, patterns = torch.cat([part.masks for part in parts]), torch.cat([part.patterns for part in parts])
        reached = torch.cat([part.reached for part in parts])
        zero = float(np.mean([part.zero for part in parts]))
        asked = torch.stack([other != target for target in range(k)])
        turned = torch.stack(
            [
                _decisions(oracle, (1.0 - masks[at]) * held_out.float() + masks[at] * patterns[at]) == at
                for at in range(k)
            ]
        )
        spent = oracle.n_evaluations
    sizes = torch.where(reached, masks.flatten(1).double().mean(dim=1), 1.0)
    shape = [size for size in masks.shape[1:] if size > 1]
    return Triggers(
        sizes=sizes.cpu().numpy(),
        reached=reached.cpu().numpy(),
        masks=masks.reshape(k, *shape).double().cpu().numpy(),
        asked=asked.cpu().numpy(),
        turned=(asked & turned).cpu().numpy(),
        zero_gradients=zero,
        n_evaluations=spent,
    )


def outlier_indices(sizes: Sequence[float]) -> FloatArray | None:
    """How many deviations each size lies below the median: ``(median - size) / (1.4826 MAD)``; ``None`` where MAD is 0.

    >>> outlier_indices([0.1, 1.0, 1.2, 0.9, 1.1]).round(2).tolist()
    [6.07, 0.0, -1.35, 0.67, -0.67]

    Source: Wang et al. (2019), section IV-B; Hampel (1974).
    """
    values = np.asarray(sizes, dtype=np.float64)
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return None if spread <= 0.0 else np.asarray((middle - values) / spread)


class _Search:
    """Masks and patterns of some classes under descent, all in one batch."""

    def __init__(self, oracle: Oracle, x: Tensor, own: Tensor, classes: Tensor, bounds: tuple[Tensor, Tensor]) -> None:
        self.oracle, self.x, self.classes = oracle, x.float(), classes
        self.low, self.span = bounds[0].float(), (bounds[1] - bounds[0]).float()
        m = len(classes)
        # Signs of what the search starts from are drawn; tanh keeps masks in [0, 1] and patterns in the range.
        self.mask = torch.randn((m, *_mask_shape(tuple(x.shape[1:]))), device=x.device).requires_grad_(True)
        self.pattern = torch.randn((m, *x.shape[1:]), device=x.device).requires_grad_(True)
        self.weight = torch.full((m,), _FIRST_WEIGHT, device=x.device)
        others = [(own != target).nonzero()[:, 0] for target in classes.tolist()]
        self.pools = [rows if len(rows) else torch.arange(len(x), device=x.device) for rows in others]

    def run(self, steps: int, batch: int, learning_rate: float, tick: Callable[[], None]) -> _Found:
        """Descend; keep for each class the smallest mask that turned the share of images asked for."""
        optimiser = torch.optim.Adam([self.mask, self.pattern], lr=learning_rate, betas=(0.5, 0.9))
        smallest = torch.full_like(self.weight, math.inf)
        best = tuple(torch.zeros_like(part) for part in (self.mask, self.pattern))
        recent: Tensor | None = None
        zero = 0.0
        for step in range(steps):
            tick()
            with torch.enable_grad():
                now = self._current()
                loss, hits = self._ask(now, batch)
                size = now[0].flatten(1).sum(dim=1)
                if step == 0:
                    zero = _zero_share(loss, self.mask)
                total = (loss + self.weight * size).sum()
                self.mask.grad, self.pattern.grad = torch.autograd.grad(total, [self.mask, self.pattern])
            recent = hits if recent is None else 0.7 * recent + 0.3 * hits
            works = (recent >= REACHED) & (hits >= REACHED)
            better = works & (size.detach() < smallest)
            smallest = torch.where(better, size.detach(), smallest)
            for kept, part in zip(best, now, strict=True):
                kept[better] = part.detach()[better]
            optimiser.step()
            self.weight = torch.where(recent >= REACHED, self.weight * _UP, self.weight / _DOWN).clamp(1e-6, 1e3)
        return _Found(masks=best[0], patterns=best[1], reached=torch.isfinite(smallest), zero=zero)

    def _current(self) -> tuple[Tensor, Tensor]:
        return (torch.tanh(self.mask) + 1.0) / 2.0, self.low + (torch.tanh(self.pattern) + 1.0) / 2.0 * self.span

    def _ask(self, now: tuple[Tensor, Tensor], batch: int) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each class and the share of images turned into it, on images drawn afresh."""
        rows = torch.stack(
            [pool[torch.randint(len(pool), (batch,), device="cpu").to(pool.device)] for pool in self.pools]
        )
        masks, patterns = (part[:, None] for part in now)
        images = self.x[rows]
        planted = (1.0 - masks) * images + masks * patterns
        logits = self.oracle.logits(planted.flatten(0, 1))
        wanted = self.classes.repeat_interleave(batch)
        loss = torch.nn.functional.cross_entropy(logits, wanted, reduction="none").reshape(-1, batch).mean(dim=1)
        hits = (logits.detach().argmax(dim=1) == wanted).float().reshape(-1, batch).mean(dim=1)
        return torch.nan_to_num(loss), hits


@dataclass(frozen=True, slots=True)
class _Found:
    masks: Tensor
    patterns: Tensor
    reached: Tensor
    zero: float


def _zero_share(loss: Tensor, mask: Tensor) -> float:
    """Share of classes whose loss does not depend on the mask at the first step: there is nothing to descend."""
    if not loss.requires_grad:
        return 1.0
    (gradient,) = torch.autograd.grad(loss.sum(), mask, retain_graph=True, allow_unused=True, materialize_grads=True)
    return float((gradient.flatten(1) == 0).all(dim=1).double().mean())


def _mask_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """One value a pixel: channels, first or last, share it."""
    if len(shape) == 3 and shape[0] <= 4:
        return (1, *shape[1:])
    if len(shape) == 3 and shape[2] <= 4:
        return (*shape[:2], 1)
    return shape


def _decisions(oracle: Oracle, x: Tensor) -> Tensor:
    with torch.no_grad():
        parts = [oracle.logits(part).argmax(dim=1) for part in torch.split(x, _ROWS)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64, device=x.device)
