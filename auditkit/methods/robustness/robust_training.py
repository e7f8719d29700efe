"""Training that is meant to make a model robust: adversarial training, TRADES, fast adversarial training, noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.core.generators import preserved_generators
from auditkit.methods.robustness.oracle import input_gradient
from auditkit.methods.robustness.threat import Batch, Threat, check_inputs, make_threat
from auditkit.methods.sgd import class_logits, descend, training_loss
from auditkit.methods.threads import threads_for

Tensor = torch.Tensor
Way = Literal["standard", "pgd", "trades", "fast", "noise"]
WAYS: tuple[Way, ...] = get_args(Way)
Logits = Callable[[Tensor], Tensor]

# TRADES begins a small step away from the clean row, where the divergence has no slope: 0.001 at an eps of 0.031.
_AWAY = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustSettings:
    """How to train.

    Attributes:
        way: ``standard``; ``pgd`` (Madry); ``trades``; ``fast`` (one step from a random start); ``noise`` (Gaussian).
        epochs: Passes over the rows.
        batch_size: Rows of one step of SGD.
        learning_rate: Step size of SGD.
        momentum: Momentum of SGD.
        eps: Radius of the attack that is trained against, linf, in units of scale; 0 is standard training.
        steps: Gradient steps of that attack (``pgd`` and ``trades``).
        step_size: Of one gradient step, in units of scale; by default ``2.5 * eps / steps``, and ``1.25 * eps`` for
            ``fast``.
        random_start: Begin the attack at a random point of the ball (``pgd`` and ``fast``).
        beta: Weight of the divergence between clean and attacked rows (``trades``).
        noise: Standard deviation of the noise in units of scale (``noise``); 0 is standard training.
    """

    way: Way
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    eps: float = 0.0
    steps: int = 10
    step_size: float | None = None
    random_start: bool = True
    beta: float = 6.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise UsageError("AK582", f"there is no way to train named {self.way!r}", fix=f"one of {', '.join(WAYS)}")
        lows = {"eps": self.eps, "noise": self.noise, "beta": self.beta}
        for name, value in lows.items():
            if not (math.isfinite(value) and value >= 0):
                raise UsageError("AK582", f"{name} must be finite and 0 or more, got {value}", where=name)
        if self.steps < 1:
            raise UsageError("AK582", f"steps must be 1 or more, got {self.steps}", where="steps")
        if self.step_size is not None and not (math.isfinite(self.step_size) and self.step_size > 0):
            raise UsageError("AK582", f"step_size must be above 0, got {self.step_size}", where="step_size")

    @property
    def plain(self) -> bool:
        """Whether this is standard training, whatever its name."""
        size = {"standard": 0.0, "noise": self.noise}.get(self.way, self.eps)
        return size == 0.0

    @property
    def ascent(self) -> tuple[int, float]:
        """Number of gradient steps of the attack, and the size of each."""
        if self.way == "fast":
            return 1, 1.25 * self.eps if self.step_size is None else self.step_size
        return self.steps, 2.5 * self.eps / self.steps if self.step_size is None else self.step_size

    @property
    def passes(self) -> int:
        """Passes of one row through the model in one epoch, forward and backward ones alike: 2 in standard training.

        >>> RobustSettings(way="pgd", epochs=1, batch_size=8, learning_rate=0.1, eps=0.1, steps=10).passes
        22
        """
        if self.plain or self.way == "noise":
            return 2
        attack = 2 * self.ascent[0]
        return attack + 5 if self.way == "trades" else attack + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustTrained:
    """A trained module in evaluation mode, or ``None`` with why there is none."""

    module: Any
    failed: str | None = None


def _as_it_is(raw: Any) -> Tensor:
    return raw  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Rows to learn from, and where an attacker may move them.

    Attributes:
        x: ``(n, *features)`` floating-point inputs inside ``bounds``.
        y: ``(n,)`` int64 class codes.
        n_classes: Number of classes; a binary module may have a single logit.
        bounds: Smallest and largest value of a feature: numbers, or tensors that broadcast to ``x``.
        scale: Size of one unit of eps in each feature, 0 where it is frozen; broadcasts to ``x``.
        output: What the module returns -> its tensor of logits.
    """

    x: Tensor
    y: Tensor
    n_classes: int
    bounds: tuple[float | Tensor, float | Tensor] = (0.0, 1.0)
    scale: float | Tensor = 1.0
    output: Callable[[Any], Tensor] = _as_it_is

    def threat(self, eps: float) -> Threat:
        """What an attacker may do to these rows within ``eps`` under linf.

        Raises:
            UsageError: AK530 a scale out of range, AK531 inputs that are no floats (token ids) or out of bounds, AK532
                labels that do not match.
        """
        threat = make_threat(self.x, eps, "linf", self.bounds, self.scale)
        check_inputs(self.x, self.y, threat)
        return threat

    def logits(self, module: Callable[[Tensor], Any], points: Tensor) -> Tensor:
        """``(m, n_classes)`` logits of a module at some points."""
        return class_logits(self.output(module(points)), self.n_classes)


def train_robust(
    build: Callable[[], torch.nn.Module],
    lesson: Lesson,
    settings: RobustSettings,
    *,
    seed: int,
    watch: Callable[[], None] | None = None,
) -> RobustTrained:
    """Train a fresh module in one of the :data:`WAYS`; the same seed gives the same weights and batches in all of them.

    The attack looks at the module in evaluation mode, so that it moves no running statistics, draws no dropout and
    treats each row by itself (Pang et al. 2021, section 3.5); weights are then trained in training mode, on the
    attacked rows alone. Attacks take gradients of the input only. The draws of the attack have a generator of their
    own: with ``eps`` 0 every way gives standard training, byte for byte. The global generators are as before.

    Args:
        build: Makes the module; called under ``seed``.
        lesson: Rows, labels and what may be done to them.
        settings: How to train.
        seed: Of weights, batches, dropout and attack.
        watch: Called before every batch; may raise to stop.

    Raises:
        UsageError: AK530 a scale out of range, AK531 inputs that are no floats (token ids) or out of bounds, AK532
            labels that do not match, AK582 settings out of range.
        AuditkitError: AK573 an output of another shape.

    Source: Madry et al. (2018), section 2.1; Zhang et al. (2019), algorithm 1; Wong, Rice and Kolter (2020),
    algorithm 3; Gilmer et al. (2019) for noise.

    >>> x, y = torch.tensor([[0.2], [0.8]]), torch.tensor([0, 1])
    >>> how = RobustSettings(way="pgd", epochs=50, batch_size=2, learning_rate=1.0, eps=0.1)
    >>> made = train_robust(lambda: torch.nn.Linear(1, 2), Lesson(x=x, y=y, n_classes=2), how, seed=0)
    >>> made.module(x).argmax(dim=1).tolist()
    [0, 1]
    """
    threat, x, y = lesson.threat(settings.eps), lesson.x, lesson.y
    draws = _draws(seed)
    with preserved_generators(seed), torch.enable_grad():
        module = build().to(x.device)
        work = settings.batch_size * sum(parameter.numel() for parameter in module.parameters())
        with torch.no_grad():
            module.eval()
            lesson.logits(module, x[:2])
        everyone = torch.arange(len(x), device=x.device)

        def loss(rows: Tensor, _: Tensor) -> Tensor:
            batch = threat.batch(x, y, rows)
            return _loss(module, batch, settings, draws, lambda points: lesson.output(module(points)), lesson.n_classes)

        # Rows travel by position, so that bounds and scales of single rows stay with them.
        with threads_for(work, x.device):
            failed = descend(module, everyone, y, settings, seed=seed, loss=loss, watch=watch)
    if failed is None and not all(bool(torch.isfinite(part).all()) for part in module.parameters()):
        failed = "the weights are NaN or infinite after the last step"
    return RobustTrained(module=None if failed else module, failed=failed)


def training_points(module: torch.nn.Module, lesson: Lesson, settings: RobustSettings, *, seed: int) -> Tensor:
    """The points that training in this way would have trained on in place of the lesson's: how it sees an attack.

    A model that withstands these and falls to a stronger attack has learnt to defeat its own attack only.

    Args:
        module: A module in evaluation mode.
        lesson: Rows, which need not be those it was trained on, and what may be done to them.
        settings: How it was trained.
        seed: Of the attack's draws.
    """
    threat, x, y = lesson.threat(settings.eps), lesson.x, lesson.y
    if settings.plain:
        return x.detach().clone()

    def logits(points: Tensor) -> Tensor:
        return lesson.logits(module, points)

    with preserved_generators(seed), torch.enable_grad():
        batch = threat.batch(x, y, torch.arange(len(x), device=x.device))
        return _points(logits, batch, settings, _draws(seed)).detach()


def _loss(
    module: torch.nn.Module,
    batch: Batch,
    settings: RobustSettings,
    draws: torch.Generator,
    output: Logits,
    n_classes: int,
) -> Tensor:
    """Mean loss of a batch in the way of ``settings``; the module is in training mode before and after."""
    if settings.plain:
        return training_loss(output(batch.points(torch.zeros_like(batch.x))), batch.y)
    module.eval()
    points = _points(lambda at: class_logits(output(at), n_classes), batch, settings, draws).detach()
    module.train()
    if settings.way != "trades":
        return training_loss(output(points), batch.y)
    clean = output(batch.points(torch.zeros_like(batch.x)))
    kept, moved = class_logits(clean, n_classes), class_logits(output(points), n_classes)
    return training_loss(clean, batch.y) + settings.beta * divergence(kept, moved).mean()


def divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """``(n,)`` Kullback-Leibler divergence of the attacked rows' probabilities from the clean rows', from logits.

    >>> divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0]])).tolist()
    [0.0]
    """
    target, reached = torch.log_softmax(clean, dim=1), torch.log_softmax(attacked, dim=1)
    return (target.exp() * (target - reached)).sum(dim=1)


def _points(logits: Logits, batch: Batch, settings: RobustSettings, draws: torch.Generator) -> Tensor:
    """The points to train on in place of the clean rows."""
    if settings.way == "noise":
        unit = settings.noise * _normal(batch.x, draws)
        return batch.points(batch.within_bounds(unit))
    steps, size = settings.ascent
    if settings.way == "trades":
        with torch.no_grad():
            kept = logits(batch.points(torch.zeros_like(batch.x)))
        unit = batch.project(_AWAY * settings.eps * _normal(batch.x, draws))
    else:
        kept = None
        unit = torch.zeros_like(batch.x)
        if settings.random_start:
            unit = batch.project(settings.eps * _uniform(batch.x, draws))
    for _ in range(steps):
        here = batch.points(unit).detach().requires_grad_(True)
        found = logits(here)
        value = torch.nn.functional.cross_entropy(found, batch.y, reduction="none")
        if kept is not None:
            value = divergence(kept, found)
        gradient = input_gradient(value, here).to(unit.dtype) * batch.scale
        unit = batch.project(unit + size * batch.ascent(gradient, unit))
    return batch.points(unit)


def overfitted(own: Tensor | np.ndarray[Any, Any], strong: Tensor | np.ndarray[Any, Any]) -> bool:
    """Catastrophic overfitting: most rows that withstand the attack trained against fall to a stronger one.

    Wong et al. (2020, section 5.1) and Andriushchenko and Flammarion (2020) see accuracy under the training's own
    one-step attack near 1 while that under PGD falls to 0. Here it is told when the share of rows that stand under
    the own attack and fall under the strong one lies above a third with all of its 95 % Wilson interval; honest
    models lose a tenth to a fifth there.

    Args:
        own: ``(n,)`` right under the attack that training used.
        strong: ``(n,)`` right under the strong attack.

    >>> overfitted(np.ones(50, dtype=bool), np.zeros(50, dtype=bool)), overfitted(np.ones(50, bool), np.ones(50, bool))
    (True, False)
    """
    from auditkit.stats.intervals import exact_share

    stood, stands = np.asarray(own, dtype=bool), np.asarray(strong, dtype=bool)
    if not stood.any():
        return False
    found = exact_share(float((~stands[stood]).mean()), int(stood.sum()), 0.95)
    return found is not None and found.low > 1.0 / 3.0


def _draws(seed: int) -> torch.Generator:
    """A stream apart from the one of the batches and the weights."""
    own = int(np.random.SeedSequence([seed % 2**63, 2]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(own)


def _normal(like: Tensor, draws: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=draws, dtype=torch.float32).to(like)


def _uniform(like: Tensor, draws: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=draws, dtype=torch.float32).to(like) * 2.0 - 1.0
