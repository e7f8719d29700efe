"""ART's minimum-norm attacks as parts of an attack: each row's nearest point is sought once and judged at every eps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from auditkit.core.subject import FloatArray, IntArray

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.arena import Arena
    from auditkit.analyzers.robustness.lens import Lens
    from auditkit.analyzers.robustness.strikes import Budget

# Of torch models, and of all others.
TOOLBOX = ("deepfool", "carlini-l2", "carlini-linf", "boundary", "zoo")
QUESTIONED = ("boundary", "zoo", "decision-tree")


class Toolbox:
    """One of ART's attacks on a torch model, in the cube that its bounds span; points are kept for larger radii."""

    def __init__(self, arena: Arena, lens: Lens, model: Any, budget: Budget, seed: int) -> None:
        self.arena, self.lens, self.model, self.budget, self.seed = arena, lens, model, budget, seed
        self.points = arena.x.copy()
        self.sought = np.zeros(len(arena.x), dtype=np.bool_)
        self.invalid: str | None = None

    def nearest(self, rows: IntArray) -> tuple[FloatArray, int]:
        """The attack's points ``(m, f)`` for ``rows``, at any distance, and rows passed through the model for them."""
        import torch

        from auditkit.analyzers.robustness.arena import deciding_logits
        from auditkit.methods.robustness.art_torch import toolbox_attack

        new = rows[~self.sought[rows]]
        if len(new) == 0:
            return self.points[rows], 0
        lens, x = self.lens, self.arena.x
        like = lens.tensor[torch.as_tensor(new, device=lens.tensor.device)]
        low, span = self._cube(like)

        def logits(unit: Any) -> Any:
            return deciding_logits(self.model)((low + unit.to(low.dtype) * span).to(like.dtype))

        unit = ((like.to(low.dtype) - low) / span).clamp(0.0, 1.0)
        found = toolbox_attack(
            logits,
            unit,
            torch.as_tensor(self.arena.y[new], device=like.device),
            attack=self.budget.attack,  # type: ignore[arg-type]
            eps=float(np.sqrt(x.shape[1])) + 1.0,
            norm=self.budget.norm,
            seed=self.seed % 2**31,
        )
        self.invalid = self.invalid or found.invalid
        moved = (found.adversarial != unit).reshape(len(new), -1).cpu().numpy()
        tensor = (low + found.adversarial * span).reshape(len(new), -1).double().cpu().numpy()
        there = lens.back(tensor, x[new])
        # Cells that the attack left alone are the row's own, not what rounding through the cube made of them.
        changed = np.zeros(there.shape, dtype=np.bool_)
        told = np.flatnonzero(lens.column >= 0)
        changed[:, lens.column[told]] = moved[:, told]
        self.points[new] = np.where(changed, there, x[new])
        self.sought[new] = True
        return self.points[rows], found.n_evaluations

    def notes(self) -> tuple[str, ...]:
        """Why the attack says nothing, where it does not."""
        return (f"{self.budget.attack} (ART) is invalid here: {self.invalid}.",) if self.invalid else ()

    def _cube(self, like: Any) -> tuple[Any, Any]:
        """Lowest value and span of each entry of the module's tensor; ten units of scale beyond the rows where open."""
        import torch

        space, x, lens = self.arena.grid.space, self.arena.x, self.lens
        low, high = space.box(x, None)
        far = 10.0 * np.where(space.scale > 0, space.scale, 1.0)
        low = np.where(np.isinf(low), x - far, low)
        high = np.where(np.isinf(high), x + far, high)
        flat = lens.tensor.reshape(len(x), -1).double().cpu().numpy()
        ends = np.concatenate([lens.apply(low, flat), lens.apply(high, flat)])
        least, most = ends.min(axis=0), ends.max(axis=0)
        span = np.where(most > least, most - least, 1.0)
        kind = {"dtype": torch.float32 if like.dtype.itemsize < 4 else like.dtype, "device": like.device}
        return tuple(  # type: ignore[return-value]
            torch.as_tensor(part.copy(), **kind).reshape(like.shape[1:]) for part in (least, span)
        )
