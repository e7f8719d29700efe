"""Cross-examination of a robustness number: attacks that should agree, and what it means where they do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253 - this module drives torch

from auditkit.methods.robustness.auto_pgd import apgd
from auditkit.methods.robustness.checks import Check, tolerance
from auditkit.methods.robustness.gradient_checks import answer_checks, limited, slope_check
from auditkit.methods.robustness.oracle import AttackResult, oracle_of
from auditkit.methods.robustness.projected_gradient import pgd
from auditkit.methods.robustness.surrogate import train_surrogate
from auditkit.methods.robustness.threat import Batch, Norm, make_threat
from auditkit.methods.robustness.window_search import square

Tensor = torch.Tensor

LOSS_GAP, RESTART_GAP, ZERO_SHARE = 0.10, 0.03, 0.05
# Steps under l1 move a hundredth of the features at a time and end in different places more often.
COARSE_GAP = 0.05
STEPS = (1, 10, 40, 100)
# Attacks of one cross-examination: those, another loss, restarts, three rivals, and two at other radii.
ATTACKS = len(STEPS) + 7
# Fewer labelled rows than this teach a surrogate too little for its failure to mean anything.
SURROGATE_ROWS = 30
_UNAIDED = "an attack without the model's gradients fools rows that gradients do not"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossExamination:
    """The checks, the rows that any of their attacks fooled, and what that cost.

    Attributes:
        checks: What was seen and what was allowed.
        fooled: ``(n,)`` bool: rows decided wrongly at some feasible point within eps, clean ones included.
        adversarial: Such a point for each row of ``fooled``; the clean row elsewhere.
        parts: What each attack at full eps fooled: a name and ``(n,)`` bool.
        n_evaluations: Rows passed through the model.
    """

    checks: tuple[Check, ...]
    fooled: Tensor
    adversarial: Tensor
    parts: tuple[tuple[str, Tensor], ...]
    n_evaluations: int


def cross_examine(  # noqa: PLR0913 - the threat model's settings, each named at the call
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0),
    scale: float | Tensor = 1.0,
    decisions: Tensor | None = None,
    reference: tuple[Tensor, Tensor] | None = None,
    queries: int = 200,
    seed: int = 0,
    tick: Callable[[], None] | None = None,
) -> CrossExamination:
    """Attack a torch model in ways that should agree, and report where they do not.

    Two passes that differ; answers that change with the batch, with the user's, or that are probabilities or logits of
    odd size; gradients that are zero or are not those of the model; 1, 10, 40 and 100 steps, restarts or a wider eps
    that find less; the whole range of the data that does not fool every row; noise, Square or points made on another
    network that fool where gradients do not; losses that disagree; points that leave eps or bounds, or never moved.

    Args:
        model: ``(n, *features)`` tensor -> ``(n, k)`` logits.
        x: Clean inputs inside ``bounds``.
        y: ``(n,)`` int64 labels.
        eps: Radius in units of ``scale``.
        norm: ``linf``, ``l2`` or ``l1`` (without Square, which has no such form).
        bounds: Smallest and largest value.
        scale: Size of one unit of eps in each feature; 0 freezes it.
        decisions: ``(n,)`` decisions of the user's own model on ``x``.
        reference: Other rows and labels, to train a surrogate on; without them transfer is not tried.
        queries: Of Square.
        seed: Of all draws.
        tick: Called before each attack; may raise to stop.

    Raises:
        UsageError: as :func:`auditkit.methods.robustness.pgd`.

    Source: Athalye, Carlini and Wagner (2018), section 3.1; Carlini et al. (2019), sections 4 and 5; Croce and Hein
    (2020), section 5; Pintor et al. (2022), section 3.

    >>> weight = torch.tensor([[4.0, -2.0], [-4.0, 2.0]])
    >>> x, y = torch.tensor([[0.9, 0.2], [0.1, 0.9]]), torch.tensor([0, 1])
    >>> found = cross_examine(lambda z: (z - 0.5) @ weight.T, x, y, eps=0.1)
    >>> all(check.passed for check in found.checks), found.fooled.tolist()
    (True, [False, False])
    """
    threat = make_threat(x, eps, norm, bounds, scale)
    trial = _Trial(model, x, y, {"bounds": bounds, "scale": scale}, {"eps": eps, "norm": norm}, seed, tick)
    steps = [trial.pgd(f"pgd, {count} steps", steps=count) for count in STEPS]
    ratio = trial.scale_free("auto-pgd, ratio loss", steps=40)
    restarts = trial.pgd("pgd, 4 restarts", steps=20, restarts=4, seed=seed + 1)
    rivals = [("random noise", trial.noise(threat.batch(x, y, torch.arange(len(x), device=x.device))))]
    if norm != "l1":
        rivals.append(("square", trial.square(queries)))
    if reference is not None and len(reference[0]) >= SURROGATE_ROWS and len(torch.unique(reference[1])) > 1:
        rivals.append(("transfer", trial.transfer(reference)))
    white = steps[-1] | steps[-2] | ratio
    with oracle_of(model, x) as oracle:
        batch = threat.batch(x, y, torch.arange(len(x), device=x.device))
        found = answer_checks(oracle, x, y, decisions)
        varied = len(x) > 0 and len(torch.unique(oracle.logits(x).argmax(dim=1))) > 1
        slopes = slope_check(oracle, batch, seed)
        spent = oracle.n_evaluations
    if slopes is not None:
        found.append(slopes)
    free = varied and bool((threat.scale > 0).all()) and bool(torch.isfinite(threat.high - threat.low).all())
    checks = (
        *found,
        limited(
            "gradients are not zero",
            trial.zero_share or 0.0,
            ZERO_SHARE,
            "gradients vanish (saturated, detached or quantised), so that a gradient attack is blind",
        ),
        _rising("more steps are not weaker", steps, COARSE_GAP if norm == "l1" else 0.02, "more steps find less"),
        *trial.wider(white | restarts, free=free),
        _extra("losses agree", white, steps[-1], LOSS_GAP, "a loss that is blind to the size of logits finds far more"),
        _extra(
            "restarts agree",
            restarts,
            white,
            COARSE_GAP if norm == "l1" else RESTART_GAP,
            "other starts find more: the search gets stuck",
        ),
        *(_extra(f"{name} is weaker", rival, white | restarts, 0.02, _UNAIDED) for name, rival in rivals),
        *trial.placed(threat.distance(x, trial.points), eps),
    )
    return CrossExamination(
        checks=checks,
        fooled=trial.fooled,
        adversarial=trial.points,
        parts=tuple(trial.parts),
        n_evaluations=spent + trial.spent,
    )


class _Trial:
    """The attacks of one cross-examination, and what they found in all."""

    def __init__(
        self,
        model: Any,
        x: Tensor,
        y: Tensor,
        region: dict[str, Any],
        ball: dict[str, Any],
        seed: int,
        tick: Callable[[], None] | None,
    ) -> None:
        self.model, self.x, self.y, self.seed = model, x, y, seed
        self.region, self.ball = region, ball
        self.tick = tick or (lambda: None)
        self.fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        self.points = x.detach().clone()
        self.parts: list[tuple[str, Tensor]] = []
        self.spent = 0
        self.zero_share: float | None = None
        self.moved = 0.0

    def keep(self, name: str, success: Tensor, points: Tensor) -> Tensor:
        """Note what an attack at full eps found."""
        new = success & ~self.fooled
        self.points[new] = points[new]
        self.fooled |= success
        self.parts.append((name, success))
        return success

    def _taken(self, name: str, result: AttackResult) -> Tensor:
        self.spent += result.n_evaluations
        if self.zero_share is None:
            self.zero_share = result.zero_gradient_share
        if len(self.x):
            self.moved = max(self.moved, float((result.distance > 0).double().mean()))
        return self.keep(name, result.success, result.adversarial)

    def pgd(self, name: str, **settings: Any) -> Tensor:
        """Projected gradient ascent on the cross-entropy."""
        self.tick()
        return self._taken(name, pgd(self.model, self.x, self.y, **(self._full | settings)))

    def scale_free(self, name: str, steps: int) -> Tensor:
        """An attack that does not see the size of the logits: the DLR loss, or under ``l1`` the margin."""
        self.tick()
        if self.ball["norm"] == "l1":
            return self._taken(name, pgd(self.model, self.x, self.y, loss="margin", steps=steps, **self._full))
        return self._taken(name, apgd(self.model, self.x, self.y, loss="dlr", steps=steps, **self._full))

    def square(self, queries: int) -> Tensor:
        """Windows of random sign, judged by their scores."""
        self.tick()
        return self._taken("square", square(self.model, self.x, self.y, queries=queries, **self._full))

    def noise(self, batch: Batch, draws: int = 20) -> Tensor:
        """Blind noise, half of it at the corners of the ball."""
        self.tick()
        fooled, points = torch.zeros_like(self.fooled), self.x.clone()
        with oracle_of(self.model, self.x) as oracle:
            for turn in range(draws if len(self.x) else 0):
                unit = batch.random(1000 + turn, self.seed, on_sphere=turn % 2 == 1)
                if turn % 2 and self.ball["norm"] == "linf":
                    unit = batch.project(self.ball["eps"] * unit.sign())
                there = batch.points(unit)
                new = oracle.margins(there, self.y)[0] & ~fooled
                points[new] = there[new]
                fooled |= new
            self.spent += oracle.n_evaluations
        return self.keep("random noise", fooled, points)

    def transfer(self, reference: tuple[Tensor, Tensor]) -> Tensor:
        """Points made on a network of our own, which shares nothing with the model but the data."""
        self.tick()
        rows, labels = reference
        n_classes = int(torch.cat([labels, self.y]).max()) + 1
        surrogate = train_surrogate(rows, labels, n_classes=max(n_classes, 2), seed=self.seed)
        made = pgd(surrogate, self.x, self.y, loss="margin", steps=20, early_stop=False, **self._full)
        with oracle_of(self.model, self.x) as oracle:
            success = oracle.margins(made.adversarial, self.y)[0] if len(self.x) else made.success
            self.spent += oracle.n_evaluations
        return self.keep("transfer", success, made.adversarial)

    def wider(self, here: Tensor, *, free: bool) -> list[Check]:
        """Half the radius finds no more, and the whole range of the data fools every row where it must.

        It must where every feature may take any value of a bounded range in which the model is known to decide in more
        than one way. Otherwise it must find what blind draws from that range find.
        """
        self.tick()
        half = pgd(self.model, self.x, self.y, steps=40, **(self._full | {"eps": self.ball["eps"] / 2}))
        self.tick()
        low, high, unit = (
            torch.as_tensor(part, dtype=torch.float64) for part in (*self.region["bounds"], self.region["scale"])
        )
        span = (high - low) / torch.where(unit > 0, unit, torch.inf)
        reach = float(torch.where(torch.isfinite(span), span, 0.0).max()) if span.numel() else 0.0
        reach = max(reach, 2.0 * self.ball["eps"]) or 1.0
        whole = self._full | {"eps": reach, "norm": "linf"}
        wide = apgd(self.model, self.x, self.y, loss="dlr", steps=40, restarts=2, **whole)
        self.spent += half.n_evaluations + wide.n_evaluations
        missed = ~wide.success
        if not free:
            threat = make_threat(self.x, reach, "linf", self.region["bounds"], self.region["scale"])
            blind = torch.zeros_like(missed)
            with oracle_of(self.model, self.x) as oracle:
                batch = threat.batch(self.x, self.y, torch.arange(len(self.x), device=self.x.device))
                for turn in range(20 if len(self.x) else 0):
                    blind |= oracle.margins(batch.points(batch.random(2000 + turn, self.seed)), self.y)[0]
                self.spent += oracle.n_evaluations
            missed &= blind
        n = len(self.x)
        return [
            _rising("a larger eps is not weaker", [half.success, here], 0.02, "a larger eps finds less"),
            limited(
                "the whole range fools every row" if free else "blind draws from the whole range are weaker",
                float(missed.double().mean()) if n else 0.0,
                tolerance(n),
                "rows withstand an attack that may change them into anything"
                if free
                else "blind draws from the whole range fool rows that gradients do not",
            ),
        ]

    def placed(self, distance: Tensor, eps: float) -> list[Check]:
        """The points that fooled lie within eps and bounds, and something moved at all."""
        low, high = (torch.as_tensor(side, dtype=self.x.dtype, device=self.x.device) for side in self.region["bounds"])
        outside = ((self.points < low) | (self.points > high)).flatten(1).any(dim=1) if len(self.x) else distance > 0
        slack = 1e-2 if self.x.dtype in (torch.float16, torch.bfloat16) else 1e-5
        beyond = outside | (distance > eps * (1.0 + slack) + slack * 1e-2)
        share = self.moved if len(self.x) and eps > 0 and not bool(self.fooled.all()) else 1.0
        return [
            limited("within eps and bounds", float(beyond.sum()), 0.0, "some points are not feasible"),
            Check(
                name="attack moved",
                passed=share > 0.0,
                observed=share,
                limit=0.0,
                meaning="the attack left every row where it was; that none was fooled says nothing",
            ),
        ]

    @property
    def _full(self) -> dict[str, Any]:
        return {**self.region, **self.ball, "seed": self.seed}


def _extra(name: str, found: Tensor, beside: Tensor, share: float, meaning: str) -> Check:
    """Share of rows that one attack fools and the others do not, against what luck allows."""
    n = len(found)
    return limited(name, float((found & ~beside).double().mean()) if n else 0.0, tolerance(n, share), meaning)


def _rising(name: str, fooled: list[Tensor], share: float, meaning: str) -> Check:
    """Shares that should rise along the list do not fall by more than luck."""
    n = len(fooled[0])
    shares = [float(found.double().mean()) if n else 0.0 for found in fooled]
    drop = max((early - late for place, late in enumerate(shares) for early in shares[:place]), default=0.0)
    return limited(name, max(drop, 0.0), tolerance(n, share), meaning)
