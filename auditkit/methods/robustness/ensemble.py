"""AutoAttack: four attacks that differ in kind, the cheap ones first, each only on the rows that still stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.auto_pgd import Climbed, check_budget, climb, objective_for
from auditkit.methods.robustness.boundary_walk import walk
from auditkit.methods.robustness.oracle import AttackResult, Oracle, Part, batches, clean_score, finished, oracle_of
from auditkit.methods.robustness.threat import Batch, check_inputs, make_threat
from auditkit.methods.robustness.window_search import search

Tensor = torch.Tensor
Version = Literal["standard", "fast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """How much each attack of the set may spend; 0 leaves it out."""

    steps: int
    targets: int
    fab_steps: int
    queries: int


# Croce and Hein (2020), section 5: "standard" is the whole set at its published budgets, and nothing else is.
VERSIONS: dict[str, Budgets] = {
    "standard": Budgets(steps=100, targets=9, fab_steps=100, queries=5000),
    "fast": Budgets(steps=40, targets=3, fab_steps=0, queries=500),
}
_Attack = Callable[[Oracle, Batch, Tensor], Climbed]


def autoattack(  # noqa: PLR0913 - an attack's settings are many, and each is named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Literal["linf", "l2"] = "linf",
    version: Version = "standard",
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    scale: float | Tensor = 1.0,
    mask: Tensor | None = None,
    seed: int = 0,
    batch_size: int = 512,
    tick: Callable[[], None] | None = None,
) -> AttackResult:
    """Robustness evaluation by an ensemble: APGD on cross-entropy, APGD on targeted DLR, FAB-T, Square.

    ``standard`` is the published set: APGD-CE with 100 steps, APGD-T with 100 steps for each of 9 targets, FAB-T with
    100 steps for each of 9 targets, Square with 5,000 queries. ``fast`` (40 steps; 3 targets; no FAB-T; 500 queries) is
    a first look, and must not be quoted as AutoAttack. Rows that are fooled leave at once, so that the costly attacks
    see only those that withstood the cheap ones. With fewer classes there are fewer targets, and with fewer than four
    the targeted margin stands in for the targeted DLR loss, which is not defined there.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits, deterministic.
        x: Clean inputs inside ``bounds``.
        y: ``(n,)`` int64 labels.
        eps: Radius in units of ``scale``.
        norm: ``linf`` or ``l2``.
        version: ``standard`` or ``fast``.
        bounds: Smallest and largest value.
        scale: Size of one unit of eps in each feature.
        mask: True where a feature may change.
        seed: Of all random starts and windows.
        batch_size: Rows in one forward pass.
        tick: Called before each batch; may raise to stop.

    Returns:
        The points, scored afresh, and in ``parts`` what each attack did.

    Raises:
        UsageError: as :func:`auditkit.methods.robustness.pgd`; AK513 for a norm or version that is not known.

    Source: Croce and Hein (2020), "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", section 5.

    >>> found = autoattack(lambda z: torch.cat([z, 1 - z], dim=1), torch.tensor([[0.6], [0.9]]),
    ...                    torch.tensor([0, 0]), eps=0.2)
    >>> found.success.tolist(), [(part.name, part.attacked, part.fooled) for part in found.parts][:2]
    ([True, False], [('apgd-ce', 2, 1), ('apgd-t', 1, 0)])
    """
    if version not in VERSIONS:
        raise UsageError(
            "AK513", f"version must be 'standard' or 'fast', got {version!r}", where="version", fix="use 'standard'"
        )
    check_budget(norm, batch_size=batch_size)
    threat = make_threat(x, eps, norm, bounds, scale, mask)
    check_inputs(x, y, threat)
    budgets = VERSIONS[version]
    with oracle_of(model, x) as oracle:
        clean, targets = clean_score(oracle, x, y, batch_size, budgets.targets)
        best, standing, worst = x.detach().clone(), ~clean.fooled, clean.margin.clone()
        parts = []
        for name, runs in attacks(oracle.n_classes, targets.shape[1], budgets, seed) if eps > 0 and len(x) else ():
            attacked, before = int(standing.sum()), oracle.n_evaluations
            for attack, place in runs:
                for rows in batches(standing, batch_size):
                    if tick is not None:
                        tick()
                    batch = threat.batch(x, y, rows)
                    found = attack(oracle, batch, targets[rows, place])
                    better = found.fooled | (found.margin > worst[rows])
                    best[rows[better]] = batch.points(found.unit)[better]
                    worst[rows[better]] = found.margin[better]
                    standing[rows] &= ~found.fooled
            fooled = attacked - int(standing.sum())
            parts.append(Part(name=name, attacked=attacked, fooled=fooled, n_evaluations=oracle.n_evaluations - before))
        return finished(oracle, x, y, best, threat, batch_size, tuple(parts))


def attacks(n_classes: int, n_targets: int, budgets: Budgets, seed: int) -> list[tuple[str, list[tuple[_Attack, int]]]]:
    """The set in order: a name, and its runs, each with the place of its target among the likeliest classes."""

    def ascent(loss: Literal["cross_entropy", "targeted_dlr"], stream: int) -> _Attack:
        objective = objective_for(loss, n_classes)
        return lambda oracle, batch, target: climb(
            oracle, batch, batch.random(stream, seed, on_sphere=True), target, objective, budgets.steps
        )

    def boundary(oracle: Oracle, batch: Batch, target: Tensor) -> Climbed:
        return walk(oracle, batch, torch.zeros_like(batch.x), target, budgets.fab_steps)

    def windows(oracle: Oracle, batch: Batch, target: Tensor) -> Climbed:
        return search(oracle, batch, budgets.queries, (seed, 0))

    places = range(n_targets)
    listed: list[tuple[str, list[tuple[_Attack, int]]]] = [
        ("apgd-ce", [(ascent("cross_entropy", 0), 0)]),
        ("apgd-t", [(ascent("targeted_dlr", 1 + place), place) for place in places]),
        ("fab-t", [(boundary, place) for place in places]),
        ("square", [(windows, 0)]),
    ]
    return [entry for entry in listed if entry[0] != "fab-t" or budgets.fab_steps]
