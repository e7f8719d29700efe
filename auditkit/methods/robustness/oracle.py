"""The model under attack: asked in batches, its rows counted, its answers turned into losses and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.pace import Pace
from auditkit.methods.robustness.state import undisturbed
from auditkit.methods.robustness.threat import Batch, Threat

Tensor = torch.Tensor
# (logits (n, k), labels (n,), targets (n,)) -> (n,): larger is nearer to being fooled.
Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one attack of a set did: rows that it was given, rows that it fooled, rows passed through the model."""

    name: str
    attacked: int
    fooled: int
    n_evaluations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """What an attack found.

    Attributes:
        adversarial: Points of the shape, dtype and device of the clean inputs, inside eps and bounds. A row
            that was not fooled holds the point of highest loss that was seen (the clean row where none is kept).
        success: ``(n,)`` bool: on a fresh forward pass the decision differs from the label, or is not finite.
        distance: ``(n,)`` float64 norm of the perturbation in units of ``scale``.
        n_evaluations: Rows passed forward through the model, in all.
        zero_gradient_share: Share of the first gradients (one a row still standing) that were exactly zero in
            every feature; ``None`` when no gradient was taken.
        parts: For a set of attacks, what each of them did, in order.
    """

    adversarial: Tensor
    success: Tensor
    distance: Tensor
    n_evaluations: int
    zero_gradient_share: float | None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A forward pass: who is fooled, whose logits are finite, and how near to being fooled each row is."""

    fooled: Tensor
    finite: Tensor
    loss: Tensor
    margin: Tensor


@dataclass(frozen=True, slots=True)
class Slope:
    """A forward and backward pass: who is fooled, the objective and the margin ``(m,)`` in float64, and the gradient
    of the objective in units of scale."""

    fooled: Tensor
    value: Tensor
    margin: Tensor
    gradient: Tensor

    def keep(self, mask: Tensor) -> Slope:
        """Only the rows marked in ``mask``."""
        return Slope(*(getattr(self, name)[mask] for name in Slope.__slots__))

    def over(self, old: Slope, moved: Tensor) -> Slope:
        """These passes for the rows marked in ``moved``, ``old`` for the rest."""
        mixed = {name: getattr(old, name).clone() for name in Slope.__slots__}
        for name, values in mixed.items():
            values[moved] = getattr(self, name)
        return Slope(**mixed)

    def where(self, mask: Tensor, other: Slope) -> Slope:
        """These passes where ``mask``, the other ones elsewhere."""
        wide = mask.reshape(-1, *[1] * (self.gradient.ndim - 1))
        return Slope(
            torch.where(mask, self.fooled, other.fooled),
            torch.where(mask, self.value, other.value),
            torch.where(mask, self.margin, other.margin),
            torch.where(wide, self.gradient, other.gradient),
        )


class Oracle:
    """The model with its input cast to the dtype of its parameters, its output checked and its rows counted."""

    __slots__ = ("dtype", "first_gradients", "model", "n_classes", "n_evaluations", "pace", "zero_gradients")

    def __init__(self, model: Callable[[Tensor], Tensor], dtype: torch.dtype, pace: Pace | None = None) -> None:
        self.model = model
        self.pace = Pace(None) if pace is None else pace
        self.dtype = dtype
        self.n_evaluations = 0
        self.n_classes = 0
        self.zero_gradients = 0
        self.first_gradients = 0

    def logits(self, points: Tensor) -> Tensor:
        """``(m, k)`` logits in single precision or better.

        Raises:
            UsageError: AK534 the model does not give ``(m, k)`` logits with ``k >= 2``.
        """
        self.n_evaluations += len(points)
        logits = self.model(points.to(self.dtype))
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[0] != len(points) or logits.shape[1] < 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UsageError(
                "AK534",
                f"the model gave {shape} for {len(points)} rows; a gradient attack needs logits (n, k) with k >= 2",
                why="labels alone, or the score of one class, have no gradient to follow",
                fix="give a model whose output is one logit a class",
            )
        self.n_classes = logits.shape[1]
        # Half-precision cross-entropy saturates long before the logits do.
        return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()

    def look(self, points: Tensor, y: Tensor) -> Scored:
        """Decide points without gradients."""
        return score(self._answers(points), y)

    def margins(self, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Who is fooled, and the margin in float64, without gradients and without the rest of a score."""
        logits = self._answers(points)
        return is_fooled(logits, y), torch.nan_to_num(margin(logits, y, y).double(), nan=math.inf)

    def _answers(self, points: Tensor) -> Tensor:
        with torch.no_grad():
            parts = [self.logits(points[piece]) for piece in self.pace.pieces(len(points))]
            return torch.cat(parts) if len(parts) > 1 else parts[0]

    def slope(self, batch: Batch, unit: Tensor, target: Tensor, objective: Objective, *, first: bool = False) -> Slope:
        """The model at ``unit`` and the gradient of ``objective`` there.

        Args:
            batch: The rows.
            unit: Offsets, feasible.
            target: ``(m,)`` classes that the objective pulls towards.
            objective: What is climbed.
            first: Count how many of these gradients are zero.
        """
        points, y = batch.points(unit).detach(), batch.y
        self.pace.learn(lambda some: self._descend(some, y[: len(some)], target[: len(some)], objective)[::2], points)
        parts = [self._descend(points[s], y[s], target[s], objective) for s in self.pace.pieces(len(points))]
        logits, value, raw = (torch.cat(part) if len(part) > 1 else part[0] for part in zip(*parts, strict=True))
        gradient = raw.to(unit.dtype) * batch.scale
        if first:
            self.first_gradients += len(gradient)
            self.zero_gradients += int((gradient.reshape(len(gradient), -1) == 0).all(dim=1).sum())
        found, gap = (torch.nan_to_num(v.double(), nan=math.inf) for v in (value, margin(logits, y, target)))
        return Slope(is_fooled(logits, y), found, gap, gradient)

    def _descend(
        self, points: Tensor, y: Tensor, target: Tensor, objective: Objective
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, objective and the objective's gradient at the points."""
        here = points.requires_grad_(True)
        with torch.enable_grad():
            logits = self.logits(here)
            if objective is cross_entropy:
                flat = logits.detach()
                return (
                    flat,
                    cross_entropy(flat, y, target),
                    input_gradient(logits, here, pull_of_cross_entropy(flat, y)),
                )
            value = objective(logits, y, target)
            return logits.detach(), value.detach(), input_gradient(value, here)

    @property
    def zero_gradient_share(self) -> float | None:
        """Share of the first gradients that were exactly zero."""
        return self.zero_gradients / self.first_gradients if self.first_gradients else None


@contextmanager
def oracle_of(model: Any, x: Tensor) -> Iterator[Oracle]:
    """Ask ``model`` in eval mode, and give it and every random generator back bitwise."""
    with undisturbed(model) as module:
        dtypes = set() if module is None else {p.dtype for p in module.parameters() if p.dtype.is_floating_point}
        pace = Pace(module)
        try:
            yield Oracle(model, dtypes.pop() if len(dtypes) == 1 else x.dtype, pace)
        finally:
            pace.give_back()


def clean_score(oracle: Oracle, x: Tensor, y: Tensor, batch_size: int, n_targets: int = 0) -> tuple[Scored, Tensor]:
    """The clean rows, scored, and for each the ``n_targets`` most likely classes other than its label.

    Raises:
        UsageError: AK533 logits of clean rows that are not finite, AK514 labels that are no class of the model.
    """
    if len(x) == 0:
        return score_all(oracle, x, y, batch_size), torch.zeros((0, 0), dtype=torch.int64, device=x.device)
    parts, ranked = [], []
    for start in range(0, len(x), batch_size):
        here = y[start : start + batch_size]
        with torch.no_grad():
            logits = oracle.logits(x[start : start + batch_size])
        _check_labels(here, logits.shape[1])
        parts.append(score(logits, here))
        others = _own_and_others(logits, here)[1]
        ranked.append(others.topk(min(n_targets, logits.shape[1] - 1), dim=1).indices)
    scored = _joined(parts)
    bad = int((~scored.finite).sum())
    if bad:
        raise UsageError(
            "AK533",
            f"the model gives logits that are not finite for {bad} of {len(x)} clean rows",
            why="a decision from NaN or infinite logits means nothing",
        )
    return scored, torch.cat(ranked)


def _check_labels(y: Tensor, n_classes: int) -> None:
    if int(y.max()) >= n_classes or int(y.min()) < 0:
        raise UsageError(
            "AK514",
            f"labels run from {int(y.min())} to {int(y.max())}, and the model gives {n_classes} logits",
            where="y",
            fix="give labels as positions 0 ... k-1 of the model's outputs",
        )


def _joined(parts: list[Scored]) -> Scored:
    return Scored(*(torch.cat([getattr(part, name) for part in parts]) for name in Scored.__slots__))


def score_all(oracle: Oracle, x: Tensor, y: Tensor, batch_size: int) -> Scored:
    """A fresh forward pass over all rows."""
    if len(x) == 0:
        empty = torch.zeros(0, dtype=torch.float64, device=x.device)
        none = torch.zeros(0, dtype=torch.bool, device=x.device)
        return Scored(none, none.clone(), empty, empty.clone())
    parts = [oracle.look(x[s : s + batch_size], y[s : s + batch_size]) for s in range(0, len(x), batch_size)]
    return _joined(parts)


def batches(standing: Tensor, batch_size: int) -> list[Tensor]:
    """Positions of the rows marked in ``standing``, in batches."""
    rows = standing.nonzero()[:, 0]
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def finished(
    oracle: Oracle, x: Tensor, y: Tensor, best: Tensor, threat: Threat, batch_size: int, parts: tuple[Part, ...] = ()
) -> AttackResult:
    """Score the points afresh, the model's own way, and measure them; nothing that the search remembers is believed."""
    oracle.pace.give_back()
    final = score_all(oracle, best, y, batch_size)
    return AttackResult(
        adversarial=best,
        success=final.fooled,
        distance=threat.distance(x, best),
        n_evaluations=oracle.n_evaluations,
        zero_gradient_share=oracle.zero_gradient_share,
        parts=parts,
    )


def is_fooled(logits: Tensor, y: Tensor) -> Tensor:
    """Rows whose decision is not the label; logits that are not finite decide nothing, which counts as fooled."""
    return (logits.argmax(dim=1) != y) | ~torch.isfinite(logits).all(dim=1)


def score(logits: Tensor, y: Tensor) -> Scored:
    """Who is fooled, and cross-entropy and margin in float64."""
    finite = torch.isfinite(logits).all(dim=1)
    loss, gap = (objective(logits, y, y).double() for objective in (cross_entropy, margin))
    return Scored(
        is_fooled(logits, y), finite, torch.nan_to_num(loss, nan=math.inf), torch.nan_to_num(gap, nan=math.inf)
    )


def input_gradient(outputs: Tensor, here: Tensor, pull: Tensor | None = None) -> Tensor:
    """Gradient of the sum of ``outputs``, each weighed by ``pull``, with respect to the input alone; zero where the
    model has cut the graph."""
    if not outputs.requires_grad:
        return torch.zeros_like(here)
    weights = torch.ones_like(outputs) if pull is None else pull
    (gradient,) = torch.autograd.grad(outputs, here, weights, allow_unused=True, materialize_grads=True)
    return torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)


def _own_and_others(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    own = logits.gather(1, y[:, None])[:, 0]
    return own, logits.scatter(1, y[:, None], -math.inf)


def cross_entropy(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy as softplus of the log-odds.

    Subtracting 1 from a probability of 1 would lose the gradient of a confident, honest model, and of every
    ``(0, z)`` pair of logits whose z is above 17, long before it is zero.
    """
    own, others = _own_and_others(logits, y)
    return torch.nn.functional.softplus(torch.logsumexp(others, dim=1) - own)


def pull_of_cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Gradient ``(n, k)`` of the cross-entropy with respect to the logits: the probabilities of the other classes, and
    less their sum at the label, which does not lose what 1 less a probability near 1 would.

    >>> pull_of_cross_entropy(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).tolist()
    [[0.5, -0.5]]
    """
    others = torch.softmax(logits, dim=1).scatter_(1, y[:, None], 0.0)
    return others.scatter_(1, y[:, None], -others.sum(dim=1, keepdim=True))


def margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """``max(other logits) - logit of y``: above 0 where fooled.

    Source: Carlini and Wagner (2017), section V-A.
    """
    own, others = _own_and_others(logits, y)
    return others.amax(dim=1) - own


def dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Difference of logits ratio: the margin over the spread of the three highest logits; needs three classes.

    Source: Croce and Hein (2020), section 4.2, equation 6.
    """
    top = logits.topk(3, dim=1).values
    return margin(logits, y, target) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_dlr(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """Lead of the target over the label, over the spread of the four highest logits; needs four classes.

    Source: Croce and Hein (2020), section 4.2, equation 7.
    """
    top = logits.topk(4, dim=1).values
    return targeted_margin(logits, y, target) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2.0 + 1e-12)


def targeted_margin(logits: Tensor, y: Tensor, target: Tensor) -> Tensor:
    """``logit of target - logit of y``."""
    return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]
