"""The same gradients sooner on a CPU: as many rows as its cache holds, convolutions in the layout of its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch  # noqa: TID253 - this module drives torch

Tensor = torch.Tensor

# What a pass keeps for the way back should stay in the cache. Above a few megabytes the memory is fetched, and often
# asked of the operating system, anew in every pass; below 32 rows the cost of each call outweighs that.
CACHE_BYTES = 4 * 2**20
FEWEST_ROWS = 32
# Rows looked at to learn the pace.
LEARNT_FROM = 4
# Another layout adds in another order: what may differ is rounding, and a gradient where a unit is at its kink.
LOGITS_ALIKE, GRADIENTS_ALIKE = 1e-4, 1e-2


class Pace:
    """How many rows a model takes at once, and whether its convolutions are lent another layout.

    Both follow from the model and from four rows, never from a clock, so that a run can be repeated. The weights keep
    their values; what they are stored in is put back by :meth:`give_back`.

    Attributes:
        module: The module behind the model, where there is one.
        rows: Rows of a pass; ``None`` for all, as long as nothing is learnt.
    """

    __slots__ = ("_lent", "_settled", "module", "rows")

    def __init__(self, module: torch.nn.Module | None) -> None:
        self.module = module
        self.rows: int | None = None
        self._settled = False
        self._lent: list[tuple[Tensor, Tensor]] = []

    def pieces(self, n: int) -> list[slice]:
        """The ``n`` rows of a batch in passes of about equal size.

        >>> pace = Pace(None)
        >>> pace.rows = 100
        >>> [(piece.start, piece.stop) for piece in pace.pieces(130)]
        [(0, 65), (65, 130)]
        """
        size = max(n if self.rows is None else -(-n // max(-(-n // self.rows), 1)), 1)
        return [slice(start, min(start + size, n)) for start in range(0, n, size)]

    def learn(self, see: Callable[[Tensor], tuple[Tensor, Tensor]], points: Tensor) -> None:
        """Learn the pace where that can gain: on a CPU, with more rows than are worth a pass.

        Args:
            see: ``(m, *features)`` points -> logits, and a gradient at the points.
            points: The rows of the first pass.
        """
        if self._settled or len(points) <= FEWEST_ROWS or points.device.type != "cpu":
            return
        self._settled = True
        if self._compiled():
            return
        some = points[:LEARNT_FROM].clone()
        try:
            own, kept = _watched(see, some.detach(), self.module)
        except RuntimeError:  # a model that takes derivatives of its own cannot be watched
            return
        self.rows = max(FEWEST_ROWS, CACHE_BYTES * len(some) // max(kept, 1))
        if not self._lend(some):
            return
        try:
            there = see(some.detach())
        except RuntimeError:  # a view that the other layout does not allow, say
            there = None
        if there is None or not _alike(own[0], there[0], LOGITS_ALIKE) or not _alike(own[1], there[1], GRADIENTS_ALIKE):
            self.give_back()

    def give_back(self) -> None:
        """Put every weight back into the memory that it came in."""
        while self._lent:
            weight, before = self._lent.pop()
            weight.data = before

    def _lend(self, points: Tensor) -> bool:
        """Store the weights of two-dimensional convolutions channels last, which the others' outputs then follow."""
        if self.module is None or points.ndim != 4 or points.dtype != torch.float32:
            return False
        if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return False
        layers = [part for part in self.module.modules() if isinstance(part, torch.nn.Conv2d)]
        weights = {id(part.weight): part.weight for part in layers}
        # A weight that is worked out anew at each pass has no memory to lend.
        plain = all(isinstance(weight, torch.nn.Parameter) for weight in weights.values())
        if not plain or any(weight.dtype != torch.float32 for weight in weights.values()):
            return False
        for weight in weights.values():
            before = weight.data
            self._lent.append((weight, before))
            weight.data = before.clone(memory_format=torch.channels_last)
        return bool(self._lent)

    def _compiled(self) -> bool:
        """A compiled module would be compiled again for what is tried here."""
        parts = () if self.module is None else self.module.modules()
        return any(hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) for part in parts)


def _watched(
    see: Callable[[Tensor], tuple[Tensor, Tensor]], points: Tensor, module: Any
) -> tuple[tuple[Tensor, Tensor], int]:
    """What ``see`` gives, and the bytes of activations that its pass keeps for the way back."""
    weights = set() if module is None else {part.untyped_storage().data_ptr() for part in module.parameters()}
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights and saved.shape[:1] == points.shape[:1]:
            kept[storage.data_ptr()] = saved.numel() * saved.element_size()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        seen = see(points)
    return seen, sum(kept.values())


def _alike(one: Tensor, other: Tensor, tolerance: float) -> bool:
    size = torch.linalg.vector_norm(one)
    return bool(torch.linalg.vector_norm(one - other) <= tolerance * size)
