"""Training with and without differential privacy by one recipe, so that only privacy differs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# This module's job is to drive torch.
import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from auditkit.core.errors import UsageError
from auditkit.core.generators import preserved_generators
from auditkit.methods.memory import keep_freed_memory
from auditkit.methods.privacy.dp_gradient import (
    Engine,
    check_gradients,
    clipping,
    summed_loss,
    trainable,
)
from auditkit.methods.privacy.dp_model import dp_ready
from auditkit.methods.privacy.dp_step import descent, noisy_mean
from auditkit.methods.sgd import class_logits
from auditkit.methods.threads import threads_for

_CHECKED_ROWS = 16
# Numbers held at once for a part of a batch: 256 MB in float32.
_HELD_NUMBERS = 2**26


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to train.

    Attributes:
        epochs: Expected passes over the rows.
        batch_size: Expected rows in a Poisson-sampled batch; the summed gradient is divided by it.
        learning_rate: Of plain SGD.
        momentum: Of plain SGD.
        max_grad_norm: Each row's gradient is scaled down to at most this length; ``None``: no clipping.
        noise_multiplier: Standard deviation of the Gaussian noise over ``max_grad_norm``; 0: no noise.
    """

    epochs: float
    batch_size: float
    learning_rate: float
    momentum: float = 0.0
    max_grad_norm: float | None = 1.0
    noise_multiplier: float = 0.0

    def steps(self, n: int) -> int:
        """Number of batches for ``n`` rows, a whole number of at least 1.

        >>> Settings(epochs=3, batch_size=64, learning_rate=0.1).steps(1000)
        47
        """
        return max(1, round(self.epochs * n / self.batch_size))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained module in evaluation mode with the facts that an accountant needs.

    Attributes:
        failed: Why there is no usable model (training diverged), else ``None``; ``module`` is then ``None``.
        gradient_gap: Largest relative difference between a clipped batch and a loop over its rows.
        empty_batches: Poisson batches without a row; noise is added for them too.
        engine: Where the clipped gradients came from; ``None`` without clipping.
    """

    module: Any
    steps: int
    sample_rate: float
    expected_batch_size: float
    failed: str | None = None
    gradient_gap: float | None = None
    empty_batches: int = 0
    engine: Engine | None = None
    notes: tuple[str, ...] = ()


def dp_train(
    build: Callable[[], nn.Module],
    x: torch.Tensor,
    y: torch.Tensor,
    settings: Settings,
    *,
    seed: int,
    n_classes: int,
    watch: Callable[[], None] | None = None,
) -> Trained:
    """Train a fresh model; private when the settings clip and add noise.

    The same ``seed`` gives the same initial weights and the same batches whatever the clipping and the
    noise, so that arms are paired. Batches are Poisson-sampled with rate ``batch_size / n``; the summed,
    clipped and noised gradient is divided by the *expected* batch size, as the analysis assumes. Global
    random state is as before afterwards.

    Args:
        build: Makes the module; called under ``seed``.
        x: ``(n, ...)`` inputs on the device to train on.
        y: ``(n,)`` int64 class codes on the same device.
        settings: How to train.
        seed: Of weights, batches, dropout and noise.
        n_classes: Number of classes.
        watch: Called before every batch; may raise to stop.

    Raises:
        UsageError: AK565 a batch larger than the data, AK574 settings that contradict each other.
        AuditkitError: AK566, AK568, AK569 a model that cannot be trained privately; AK573 its output's shape.

    Source: Abadi et al. (2016), Deep learning with differential privacy, algorithm 1.
    """
    _check(settings, len(x))
    keep_freed_memory()
    with preserved_generators(seed):
        module, notes = dp_ready(build().to(x.device), x[:_CHECKED_ROWS])
        with torch.no_grad():
            class_logits(module(x[:2]), n_classes)
        checked = check_gradients(module, x, y, n_classes) if settings.max_grad_norm is not None else None
        torch.manual_seed(seed % 2**63)
        batches = _poisson_batches(len(x), settings, seed)
        data = (x, y, n_classes)
        work = int(settings.batch_size * sum(parameter.numel() for parameter in module.parameters()))
        with threads_for(work, x.device):
            if checked is None:
                failed, empty = _train_plain(module, data, settings, batches, watch)
            else:
                noise = _stream(seed, 1, x.device)
                failed, empty = _train_private(module, data, settings, batches, (checked.engine, noise), watch)
    return Trained(
        module=None if failed else module.eval(),
        steps=settings.steps(len(x)),
        sample_rate=settings.batch_size / len(x),
        expected_batch_size=settings.batch_size,
        failed=failed,
        gradient_gap=None if checked is None else checked.gap,
        empty_batches=empty,
        engine=None if checked is None else checked.engine,
        notes=notes,
    )


def predict_codes(module: nn.Module, x: torch.Tensor, n_classes: int, chunk: int = 4096) -> npt.NDArray[np.int64]:
    """Class codes ``(n,)`` of the largest logit."""
    with torch.no_grad():
        pieces = torch.split(x, chunk)
        parts = [class_logits(module(part), n_classes).argmax(dim=1).cpu() for part in pieces]
    return torch.cat(parts).numpy().astype(np.int64)


def _check(settings: Settings, n: int) -> None:
    if settings.batch_size > n:
        raise UsageError(
            "AK565",
            f"the batch size {settings.batch_size:g} is larger than the {n} training rows",
            fix="choose a batch size of at most the number of rows",
        )
    positive = (settings.epochs, settings.batch_size, settings.learning_rate)
    if not all(math.isfinite(value) and value > 0 for value in positive):
        raise UsageError("AK574", "epochs, batch size and learning rate must be above 0")
    if settings.noise_multiplier < 0 or not math.isfinite(settings.noise_multiplier):
        raise UsageError("AK574", f"the noise multiplier must be 0 or more, got {settings.noise_multiplier}")
    if settings.max_grad_norm is None and settings.noise_multiplier > 0:
        raise UsageError("AK574", "noise without clipping protects nobody", fix="set max_grad_norm")
    if settings.max_grad_norm is not None and not (
        settings.max_grad_norm > 0 and math.isfinite(settings.max_grad_norm)
    ):
        raise UsageError("AK574", f"max_grad_norm must be above 0 and finite, got {settings.max_grad_norm}")


Data = tuple[torch.Tensor, torch.Tensor, int]
Watch = Callable[[], None] | None


def _poisson_batches(n: int, settings: Settings, seed: int) -> list[torch.Tensor]:
    """Row positions of every batch: each row is in it with chance ``batch_size / n``, independently."""
    generator = _stream(seed, 2)
    rate = settings.batch_size / n
    return [
        torch.nonzero(torch.rand(n, generator=generator, dtype=torch.float64) < rate).flatten()
        for _ in range(settings.steps(n))
    ]


def _stream(seed: int, which: int, device: torch.device | str = "cpu") -> torch.Generator:
    """One stream for the noise and one for the batches, apart from that of the initial weights, which are no secret."""
    own = int(np.random.SeedSequence([seed, which]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator(device=device).manual_seed(own)


def _train_private(
    module: nn.Module,
    data: Data,
    settings: Settings,
    batches: list[torch.Tensor],
    means: tuple[Engine, torch.Generator],
    watch: Watch,
) -> tuple[str | None, int]:
    x, y, n_classes = data
    engine, noise = means
    assert settings.max_grad_norm is not None
    parameters = trainable(module)
    spread = settings.noise_multiplier * settings.max_grad_norm
    part_rows = _rows_at_once(module, x[:1], engine, parameters)
    with (
        descent(parameters, settings.learning_rate, settings.momentum) as descend,
        clipping(module, parameters, engine, settings.max_grad_norm, n_classes) as clipped,
    ):
        for step, rows in enumerate(batches):
            if watch is not None:
                watch()
            total, loss = None, 0.0
            for part in torch.split(rows.to(x.device), part_rows) if len(rows) else ():
                sums, own = clipped(x[part], y[part])
                total = sums if total is None else [a.add_(b) for a, b in zip(total, sums, strict=True)]
                loss += own
            if not math.isfinite(loss):
                return _diverged(step, len(batches)), 0
            total = total or [torch.zeros_like(parameter) for parameter in parameters]
            descend(noisy_mean(total, spread, settings.batch_size, noise))
    return _unusable(parameters, len(batches)), sum(len(rows) == 0 for rows in batches)


def _rows_at_once(module: nn.Module, row: torch.Tensor, engine: Engine, parameters: list[nn.Parameter]) -> int:
    """Rows whose gradients (opacus) or activations and largest layer (ghost) fit in what may be held at once."""
    if engine == "opacus":
        return max(1, _HELD_NUMBERS // sum(parameter.numel() for parameter in parameters))
    touched: list[int] = []
    handles = [
        layer.register_forward_hook(lambda _, __, out: touched.append(getattr(out, "numel", int)()))
        for layer in module.modules()
    ]
    try:
        with torch.no_grad():
            module(row)
    finally:
        for handle in handles:
            handle.remove()
    # Activations and their gradients, patches of a convolution, and the largest matrix formed a row.
    return max(1, _HELD_NUMBERS // (12 * sum(touched) + max(parameter.numel() for parameter in parameters)))


def _train_plain(
    module: nn.Module, data: Data, settings: Settings, batches: list[torch.Tensor], watch: Watch
) -> tuple[str | None, int]:
    """The same batches, steps and divisor, with neither clipping nor noise."""
    x, y, n_classes = data
    parameters = trainable(module)
    optimizer = torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)
    for step, rows in enumerate(batches):
        if watch is not None:
            watch()
        optimizer.zero_grad(set_to_none=True)
        if len(rows) == 0:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter)
        else:
            part = rows.to(x.device)
            loss = summed_loss(module, x[part], y[part], n_classes)
            (loss / settings.batch_size).backward()  # type: ignore[no-untyped-call]
            if not math.isfinite(float(loss.detach())):
                return _diverged(step, len(batches)), 0
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return _unusable(parameters, len(batches)), sum(len(rows) == 0 for rows in batches)


def _diverged(step: int, steps: int) -> str:
    return f"training diverged: the loss is not finite at batch {step + 1} of {steps}; lower the learning rate"


def _unusable(parameters: list[nn.Parameter], steps: int) -> str | None:
    finite = all(bool(torch.isfinite(parameter).all()) for parameter in parameters)
    return None if finite else _diverged(steps - 1, steps)
