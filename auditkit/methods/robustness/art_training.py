"""The trainers of the Adversarial Robustness Toolbox, as an engine to choose beside our own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.methods.art import load, quiet
from auditkit.methods.robustness.robust_training import Lesson, RobustSettings, RobustTrained

Tensor = torch.Tensor
# Way -> what its trainer does otherwise than the paper, for the card.
TRAINERS: dict[str, str] = {
    "pgd": "",
    "trades": "the toolbox's TRADES is trained against PGD on the cross-entropy, not on the divergence",
    "fast": "the toolbox's fast trainer sets its own learning rate (up to 0.21) and clips gradients to a norm of 0.5",
}


def train_with_toolbox(
    build: Callable[[], torch.nn.Module],
    lesson: Lesson,
    settings: RobustSettings,
    *,
    seed: int,
    watch: Callable[[], None] | None = None,
) -> RobustTrained:
    """Train by ART's ``AdversarialTrainerMadryPGD``, ``AdversarialTrainerTRADESPyTorch`` or ``...FBFPyTorch``.

    The module is trained in units of scale, in which eps is one number for all features. The trainers shuffle rows in
    an order of their own, so that these trainings share initial weights with ours, but not batches.

    Args:
        build: As of :func:`~auditkit.methods.robustness.robust_training.train_robust`, like all other arguments.
        lesson: Rows, labels and what may be done to them.
        settings: How to train; ``pgd``, ``trades`` or ``fast``.
        seed: Of weights, batches and attack.
        watch: Called at every forward pass; may raise to stop.

    Raises:
        UsageError: AK583 a way of training that ART has no trainer for, or features that must not change.
        MissingExtra: AK301 when ART is not installed.
    """
    if settings.way not in TRAINERS or settings.eps == 0:
        raise UsageError(
            "AK583",
            f"the toolbox has no trainer for {settings.way!r} with eps {settings.eps:g}",
            fix='engine = "own"',
        )
    threat, x, y, n_classes = lesson.threat(settings.eps), lesson.x, lesson.y, lesson.n_classes
    size = torch.broadcast_to(threat.scale, (1, *x.shape[1:]) if threat.scale.ndim < 1 else threat.scale.shape)
    if len(size) != 1 or bool((size == 0).any()):
        raise UsageError(
            "AK583",
            "the toolbox's trainers change every feature of a row",
            why="some features are frozen here",
            fix='engine = "own"',
        )
    with quiet(seed), contextlib.redirect_stderr(io.StringIO()), torch.enable_grad():
        module = build().to(x.device)
        classifier = _classifier(_InUnits(module, size, lesson, watch), threat, size, settings, n_classes)
        trainer = _trainer(classifier, settings)
        trainer.fit(
            (x / size).cpu().numpy().astype(np.float32),
            np.eye(n_classes, dtype=np.float32)[y.cpu().numpy()],
            nb_epochs=settings.epochs,
            batch_size=settings.batch_size,
        )
    finite = all(bool(torch.isfinite(part).all()) for part in module.parameters())
    for parameter in module.parameters():
        parameter.grad = None
    failed = None if finite else "the weights are NaN or infinite after the last step"
    return RobustTrained(module=module.eval() if finite else None, failed=failed)


class _InUnits(torch.nn.Module):
    """The module on inputs in units of scale."""

    size: Tensor

    def __init__(
        self,
        inner: torch.nn.Module,
        size: Tensor,
        lesson: Lesson,
        watch: Callable[[], None] | None,
    ) -> None:
        super().__init__()
        self.inner, self.lesson, self.watch = inner, lesson, watch
        self.register_buffer("size", size)

    def forward(self, units: Tensor) -> Tensor:
        """Class logits."""
        if self.watch is not None:
            self.watch()
        return self.lesson.logits(self.inner, units.float() * self.size)


def _classifier(module: _InUnits, threat: Any, size: Tensor, settings: RobustSettings, n_classes: int) -> Any:
    low, high = (
        torch.broadcast_to(part, size.shape).div(size)[0].cpu().numpy().astype(np.float32)
        for part in (threat.low, threat.high)
    )
    return load("art.estimators.classification.pytorch").PyTorchClassifier(
        model=module,
        loss=torch.nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(module.parameters(), lr=settings.learning_rate, momentum=settings.momentum),
        input_shape=tuple(size.shape[1:]),
        nb_classes=n_classes,
        clip_values=(low, high),
        device_type="gpu" if size.is_cuda else "cpu",
    )


def _trainer(classifier: Any, settings: RobustSettings) -> Any:
    """The toolbox's trainer with our settings."""
    trainers = load("art.defences.trainer")
    steps, step = settings.ascent
    if settings.way == "fast":
        return trainers.AdversarialTrainerFBFPyTorch(classifier, eps=settings.eps)
    attack = {"eps": settings.eps, "eps_step": step, "max_iter": steps, "num_random_init": int(settings.random_start)}
    if settings.way == "pgd":
        made = trainers.AdversarialTrainerMadryPGD(classifier, batch_size=settings.batch_size, **attack)
        made.attack.set_params(batch_size=settings.batch_size, verbose=False)
        return made
    pgd = load("art.attacks.evasion").ProjectedGradientDescent(
        classifier, batch_size=settings.batch_size, verbose=False, **attack
    )
    return trainers.AdversarialTrainerTRADESPyTorch(classifier, pgd, beta=settings.beta)
