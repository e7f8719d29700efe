"""The gradient attack cross-examined on some of its rows, and what that found beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditkit.analyzers.robustness.strikes import BoolArray
from auditkit.core.subject import FloatArray, IntArray

if TYPE_CHECKING:
    from auditkit.methods.robustness.checks import Check


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What a cross-examination saw.

    Attributes:
        eps: The radius at which it was made.
        rows: ``(m,)`` positions among the attacked rows.
        points: ``(m, f)`` matrix rows of the points that it found.
        checks: Its checks.
        evaluations: Rows passed through the model.
    """

    eps: float
    rows: IntArray
    points: FloatArray
    checks: tuple[Check, ...]
    evaluations: int


def telling_eps(fooled: dict[float, BoolArray]) -> float:
    """The radius at which nearest to half of the rows fell, where two attacks can differ most; the largest on a tie."""
    return min(sorted(fooled, reverse=True), key=lambda eps: abs(float(fooled[eps].mean()) - 0.5))


def examine(  # noqa: PLR0913 - what an attack needs, bound once by the caller
    logits: Any,
    tensor: Any,
    y: Any,
    common: dict[str, Any],
    back: Callable[[Any], FloatArray],
    others: tuple[Any, IntArray],
    *,
    rows: IntArray,
    tick: Callable[[], None],
) -> Examined:
    """Cross-examine the attack on ``rows``.

    Args:
        logits: The module's logits.
        tensor: Those rows as the module takes them.
        y: Their labels, which are the user's decisions too: only rows decided rightly are attacked.
        common: eps, norm, bounds, scale and seed of the attack on them.
        back: Points of the tensor -> matrix rows.
        others: Rows that are not attacked, and their labels, for the surrogate.
        rows: ``(m,)`` positions of the rows looked at among those attacked.
        tick: May raise to stop.
    """
    import torch

    from auditkit.methods.robustness.cross_examination import cross_examine

    taught = None if others[0] is None else (others[0], torch.as_tensor(others[1], device=tensor.device))
    found = cross_examine(
        logits,
        tensor,
        y,
        eps=common["eps"],
        norm=common["norm"],
        bounds=common["bounds"],
        scale=common["scale"],
        decisions=y,
        reference=taught,
        seed=common["seed"],
        tick=tick,
    )
    return Examined(
        eps=float(common["eps"]),
        rows=rows,
        points=back(found.adversarial),
        checks=found.checks,
        evaluations=found.n_evaluations,
    )
