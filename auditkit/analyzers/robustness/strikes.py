"""What an attack found, the controls beside it, and how they are joined into one number with its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.robustness.arena import Arena
from auditkit.core.analyzer import Context
from auditkit.core.subject import FloatArray

if TYPE_CHECKING:
    from auditkit.methods.robustness.checks import Check

BoolArray = npt.NDArray[np.bool_]
Fooled = Mapping[float, BoolArray]
Norm = Literal["linf", "l2", "l1"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much an attack may spend, in model evaluations."""

    attack: str
    steps: int
    restarts: int
    check_rows: int
    noise_draws: int
    search_rounds: int
    hopskipjump_rows: int
    hopskipjump_steps: int
    hopskipjump_queries: int
    norm: Norm = "linf"


@dataclass(frozen=True, kw_only=True)
class Strike:
    """What an attack found on the rows that the model decides rightly.

    Attributes:
        label: The attack's name, for params.
        fooled: eps -> ``(m,)`` rows fooled within it, by any part of the attack.
        distance: ``(m,)`` smallest scaled change that fooled a row; infinite where none did.
        measured: ``(m,)`` rows whose distance was searched for beyond the largest eps as well.
        parts: (attack, eps, rows attacked, rows fooled) for the table.
        checks: The self-checks.
        notes: Sentences for the card.
        evaluations: Rows decided by the model, in all.
    """

    label: str
    fooled: Fooled
    distance: FloatArray
    measured: BoolArray
    parts: tuple[tuple[str, float, int, int], ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class Control:
    """What blind noise and, under linf, a short search found at each eps, and how near."""

    noise: dict[float, BoolArray]
    search: dict[float, BoolArray]
    reach: FloatArray
    evaluations: int


def controls(arena: Arena, eps_list: tuple[float, ...], budget: Budget, context: Context) -> Control:
    """Blind noise at each eps, and a short search without gradients: no real attack is weaker than these.

    The search knows boxes only, so that under l2 and l1 there is the noise alone.
    """
    from auditkit.methods.robustness.search import feasible_search, random_noise

    if budget.norm != "linf":
        return _noise_alone(arena, eps_list, budget, context)
    space, x, y = arena.grid.space, arena.x, arena.y
    noise: dict[float, BoolArray] = {}
    search: dict[float, BoolArray] = {}
    reach = np.full(len(x), np.inf)
    rng, spent = context.rng, 0
    for eps in eps_list:
        context.check_deadline()
        blind = random_noise(arena.decide, x, y, space, eps, draws=budget.noise_draws, rng=rng)
        short = feasible_search(arena.judge, x, y, space, eps, rounds=budget.noise_draws // 4, width=4, rng=rng)
        for found, kept in ((blind, noise), (short, search)):
            kept[eps] = np.asarray(arena.decide(found.points) != y) if len(x) else found.success
            reach = np.minimum(reach, np.where(kept[eps], space.distance(x, found.points), np.inf))
            spent += found.n_evaluations + len(x)
    return Control(noise=noise, search=search, reach=reach, evaluations=spent)


def _noise_alone(arena: Arena, eps_list: tuple[float, ...], budget: Budget, context: Context) -> Control:
    from auditkit.analyzers.robustness.reach import Reach

    around = Reach(space=arena.grid.space, norm=budget.norm)
    noise: dict[float, BoolArray] = {}
    reach, spent, rng = np.full(len(arena.x), np.inf), 0, context.rng
    for eps in eps_list:
        context.check_deadline()
        found = around.blind(arena.decide, arena.x, arena.y, eps, draws=budget.noise_draws, rng=rng)
        noise[eps] = found.fooled
        reach = np.minimum(reach, np.where(found.fooled, found.distance, np.inf))
        spent += found.asked
    return Control(noise=noise, search={}, reach=reach, evaluations=spent)


def joined(  # noqa: PLR0913 - one private seam where the parts of a strike meet
    label: str,
    attack: dict[float, BoolArray],
    control: Control,
    reach: FloatArray,
    results: tuple[Check, ...],
    parts: list[tuple[str, dict[float, BoolArray]]],
    spent: int,
    arena: Arena,
    notes: tuple[str, ...] = (),
    measured: BoolArray | None = None,
) -> Strike:
    """The union of what attack and controls found, and the checks that compare them."""
    from auditkit.methods.robustness import checks

    ordered = sorted(attack)
    n = len(arena.x)
    found = [attack[eps] for eps in ordered]
    compared = [
        checks.monotone({eps: 1.0 - float(attack[eps].mean()) for eps in ordered} if n else {}, n),
        checks.never_beaten(
            "random noise is weaker",
            found,
            [control.noise[e] for e in ordered],
            "blind noise fools more than the attack",
        ),
    ]
    if control.search:
        compared.append(
            checks.never_beaten(
                "a short blind search is weaker",
                found,
                [control.search[e] for e in ordered],
                "a search without gradients fools more than the attack",
            )
        )
    listed = [*parts, ("random noise", control.noise)]
    if control.search:
        listed.append(("short search", control.search))
    none = np.zeros(n, dtype=np.bool_)
    return Strike(
        label=label,
        fooled={eps: attack[eps] | control.noise[eps] | control.search.get(eps, none) for eps in ordered},
        distance=np.minimum(reach, control.reach),
        measured=np.zeros(n, dtype=np.bool_) if measured is None else measured,
        parts=tuple((name, eps, len(hit[eps]), int(hit[eps].sum())) for name, hit in listed for eps in sorted(hit)),
        checks=(*results, *compared),
        notes=notes,
        evaluations=spent + control.evaluations,
    )
