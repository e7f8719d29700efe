"""A model's rows under attack: gradients where it has them, questions elsewhere, checks beside the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.robustness.estimates import Rows
from auditkit.core.analyzer import Context
from auditkit.core.errors import NotApplicable, UsageError
from auditkit.core.evidence import Scalar
from auditkit.core.subject import Differentiable, IntArray, Subject, take_rows

if TYPE_CHECKING:
    from auditkit.analyzers.robustness.arena import Grid
    from auditkit.analyzers.robustness.strikes import Budget, Strike

BoolArray = npt.NDArray[np.bool_]

MATRIX_CELLS = 20_000_000
SURROGATE_ROWS = 1000


def rows_at_most(grid: Grid, limit: int) -> int:
    """``limit``, or fewer rows where their matrix would not fit in memory many times over."""
    return min(limit, max(16, MATRIX_CELLS // max(len(grid.space.low), 1)))


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """The rows looked at, who was right on clean inputs, and what the attack did to those."""

    rows: Rows
    right: BoolArray
    strike: Strike
    unreliable: str | None
    groups: Mapping[str, npt.NDArray[np.str_]]
    norm: str = "linf"

    @property
    def base(self) -> dict[str, Scalar]:
        """What identifies the numbers of this attack."""
        return {"attack": self.strike.label, "norm": self.norm}

    def standing(self, eps: float) -> BoolArray:
        """Rows that are right and stay right within eps."""
        standing = self.right.copy()
        standing[np.flatnonzero(self.right)[self.strike.fooled[eps]]] = False
        return standing


def attack_rows(
    subject: Subject,
    context: Context,
    budget: Budget,
    grid: Grid,
    positions: IntArray,
    eps_list: tuple[float, ...],
) -> tuple[Attacked, tuple[str, ...]]:
    """Attack the rows at ``positions`` of the test data with the subject's model; rows that it decides wrongly fall.

    Args:
        subject: Model and data.
        context: Its cached decisions are those of the subject's model.
        budget: How much the attack may spend.
        grid: The test data as a matrix.
        positions: Rows to look at.
        eps_list: Radii.

    Returns:
        What stood and fell, and sentences for the card.
    """
    from auditkit.analyzers.robustness.arena import make_arena
    from auditkit.analyzers.robustness.gradient_strike import gradient_strike
    from auditkit.analyzers.robustness.lens import find_lens
    from auditkit.analyzers.robustness.question_strike import question_strike
    from auditkit.methods.robustness import checks

    decisions = np.asarray(context.decisions(), dtype=np.int64)
    plain = "scores" in subject.model.capabilities and bool((context.scores().argmax(axis=1) == decisions).all())
    everyone = make_arena(subject, grid, positions, plain=plain)
    cached = decisions[positions]
    right = np.asarray(cached == everyone.y)
    agree = checks.clean_agrees(cached.astype(np.float64), everyone.decide(everyone.x).astype(np.float64))
    steady = checks.deterministic(everyone.look(everyone.x), everyone.look(everyone.x))
    arena = make_arena(subject, grid, positions[right], plain=plain)
    model = subject.model
    differentiable = "gradients" in model.capabilities and isinstance(model, Differentiable)
    lens = find_lens(grid, arena.x, model.tensor) if isinstance(model, Differentiable) and differentiable else None
    if lens is not None and budget.attack == "decision-tree":
        raise UsageError("AK515", "decision-tree is an attack on trees", where="attack", fix="use boundary or zoo")
    if lens is not None and isinstance(model, Differentiable):
        strike = gradient_strike(
            arena, lens, model, eps_list, budget, context, _others(subject, grid, positions, model)
        )
    else:
        _allowed_by_questions(budget, differentiable)
        pool = grid.encode(take_rows(subject.test.inputs, context.sample_rows(subject.test.n, 1000)))
        strike = question_strike(arena, eps_list, budget, context, pool, model)
    notes = list(strike.notes)
    if differentiable and lens is None and len(arena.x):
        notes.append(
            "The model is differentiable, but its preparation mixes columns that may change, or bends them, so a "
            "gradient step has no feasible row behind it: the model was attacked by questions."
        )
    strike = _with_checks(strike, (agree, steady))
    result = Attacked(
        rows=Rows.of(subject.test, positions),
        right=right,
        strike=strike,
        unreliable=checks.verdict(strike.checks) if right.any() else None,
        groups={name: values[positions] for name, values in subject.test.sensitive.items()},
        norm=budget.norm,
    )
    return result, tuple(notes)


def _allowed_by_questions(budget: Budget, differentiable: bool) -> None:
    """Refuse what needs gradients.

    Raises:
        NotApplicable: AK598 a norm or an attack that only gradients know.
    """
    why = "its preparation cannot be followed" if differentiable else "the model gives none"
    if budget.norm != "linf":
        raise NotApplicable("AK598", f"the norm {budget.norm} is attacked by gradients, and {why}", fix='norm = "linf"')
    if budget.attack in ("deepfool", "carlini-l2", "carlini-linf"):
        raise NotApplicable(
            "AK598", f"{budget.attack} follows gradients, and {why}", fix="use boundary, zoo or decision-tree"
        )


def _others(subject: Subject, grid: Grid, positions: IntArray, model: Differentiable) -> tuple[Any, IntArray]:
    """Rows that are not attacked, as the module's tensor, and their labels: they teach the surrogate."""
    left = np.setdiff1d(np.arange(subject.test.n, dtype=np.int64), positions)[:SURROGATE_ROWS]
    inputs = grid.decode(grid.encode(take_rows(subject.test.inputs, left))) if len(left) else None
    return (None if inputs is None else model.tensor(inputs)), np.asarray(subject.test.y[left], dtype=np.int64)


def _with_checks(strike: Strike, extra: tuple[object, ...]) -> Strike:
    from dataclasses import replace

    return replace(strike, checks=(*extra, *strike.checks))  # type: ignore[arg-type]
