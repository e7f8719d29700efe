"""Gradient explanations through captum: saliency, input x gradient, integrated gradients (layer-wise for tokens).

The module is put in eval mode and given back exactly as it was: train/eval flags, gradients, ``requires_grad``
and global generators. This is the one module that imports captum.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch  # noqa: TID253 - this module drives torch through captum

from auditkit.core.attribution import Attribution, AttributionStatus
from auditkit.core.errors import AuditkitError, NotApplicable, UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.explain.quiet import quiet

GradientMethod = Literal["saliency", "input_x_gradient", "integrated_gradients"]
Forward = Callable[[torch.Tensor], torch.Tensor]

_ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class Differentiated:
    """What is differentiated.

    Attributes:
        module: The user's own module; ``forward`` runs it.
        forward: Tensor ``(n, ...)`` -> outputs ``(n, k)`` with the graph attached.
        targets: ``(n,)`` output explained for each row.
        embedding: For token ids: the embedding layer that the gradients are taken at.
    """

    module: torch.nn.Module
    forward: Forward
    targets: IntArray
    embedding: torch.nn.Module | None = None


@contextlib.contextmanager
def untouched(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside; flags, gradients, ``requires_grad`` and generators as before afterwards.

    On a GPU, recurrent layers in eval mode refuse the backward pass of cuDNN, so cuDNN is off inside.
    """
    modes = [(part, part.training) for part in module.modules()]
    wants = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    kept = [None if gradient is None else gradient.detach().clone() for _, _, gradient in wants]
    recurrent = any(isinstance(part, torch.nn.RNNBase) for part in module.modules())
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext()
    try:
        module.eval()
        with quiet(), torch.enable_grad(), cudnn:
            yield
    finally:
        for part, training in modes:
            part.training = training
        for (parameter, wanted, gradient), copy in zip(wants, kept, strict=True):
            parameter.requires_grad_(wanted)
            parameter.grad = gradient
            if gradient is not None and copy is not None:
                gradient.detach().copy_(copy)


def find_embedding(module: torch.nn.Module) -> torch.nn.Module | None:
    """The embedding of the largest vocabulary: the token embedding rather than that of positions."""
    found = [part for part in module.modules() if isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag)]
    plain = [part for part in found if isinstance(part, torch.nn.Embedding)]
    return max(plain, key=lambda part: part.num_embeddings, default=None)


def gradient_attribution(
    subject: Differentiated,
    inputs: torch.Tensor,
    method: GradientMethod,
    *,
    batch_size: int = 256,
) -> Attribution:
    """Saliency (signed gradient) or input x gradient of each row's target output.

    Args:
        subject: What is differentiated.
        inputs: ``(n, ...)`` float tensor, or token ids ``(n, t)`` where ``subject.embedding`` is set; for ids the
            gradients at the embedding are summed over its width (input x gradient) or their norm is taken (saliency).
        method: ``saliency`` or ``input_x_gradient``.
        batch_size: Rows a pass.

    Returns:
        ``values (n, *features, 1)``; status ``unverified``: neither method has a sum to check.

    Raises:
        NotApplicable: AK510 when the outputs do not depend differentiably on the inputs.

    Source: Simonyan, Vedaldi and Zisserman (2014); Shrikumar, Greenside and Kundaje (2017).
    """
    if method not in ("saliency", "input_x_gradient"):
        raise UsageError("AK511", f"no gradient method {method!r}", fix="use saliency or input_x_gradient")
    with untouched(subject.module):
        parts, outputs = [], []
        for rows in _batches(len(inputs), batch_size):
            parts.append(_gradients(subject, inputs[rows], subject.targets[rows], method))
            outputs.append(_target_outputs(subject, inputs[rows], subject.targets[rows]))
    return _attribution(
        method,
        np.concatenate(parts),
        np.concatenate(outputs),
        status="unverified",
        reason="gradients have no sum that could be compared with the model's output",
        n_evals=len(inputs),
    )


def integrated_gradients(
    subject: Differentiated,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    *,
    tolerance: float = 0.01,
    max_steps: int = 512,
    batch_size: int = 1024,
) -> Attribution:
    """Integrated gradients from ``baseline``; steps double until they add up to the change of the output.

    Args:
        subject: What is differentiated.
        inputs: ``(n, ...)`` float tensor, or token ids ``(n, t)`` where ``subject.embedding`` is set (values are
            then summed over the embedding's width, one a token).
        baseline: ``(1, ...)`` or ``(n, ...)`` of the inputs' kind.
        tolerance: Largest completeness gap accepted, as a share of the mean absolute change explained.
        max_steps: Most steps of the path (Gauss-Legendre); doubling starts at 16.
        batch_size: Most rows x steps a pass.

    Returns:
        ``values (n, *features, 1)``, ``base_values`` the output at the baseline, diagnostics ``completeness_delta``
        (largest absolute gap), ``completeness_limit``, ``steps``; status ``exact`` (gap at rounding), ``estimated``
        (gap within tolerance) or ``failed``.

    Raises:
        NotApplicable: AK510 when the outputs do not depend differentiably on the inputs.

    Source: Sundararajan, Taly and Yan (2017), sections 3 and 5.
    """
    baseline = baseline.expand(inputs.shape) if baseline.shape != inputs.shape else baseline
    steps = min(16, max_steps)
    evaluations = 0
    with untouched(subject.module):
        prediction = _all_outputs(subject, inputs, batch_size)
        base = _baseline_outputs(subject, inputs, baseline, batch_size)
        change = prediction - base
        scale = float(np.abs(change).mean())
        limit = tolerance * scale + _ROUNDING * float(np.abs(prediction).max(initial=0.0)) + 1e-9
        while True:
            values = _integrate(subject, inputs, baseline, steps, batch_size)
            evaluations += len(inputs) * steps
            gap = np.abs(values.reshape(len(values), -1).sum(axis=1) - change)
            delta = float(gap.max(initial=0.0))
            if delta <= limit or steps >= max_steps or not np.isfinite(delta):
                break
            steps = min(2 * steps, max_steps)
    status, reason = _completeness_status(delta, limit, float(np.abs(prediction).max(initial=0.0)))
    attribution = _attribution(
        "integrated_gradients", values, prediction, status=status, reason=reason, n_evals=evaluations
    )
    diagnostics = {"completeness_delta": delta, "completeness_limit": limit, "steps": float(steps)}
    return dataclasses.replace(attribution, base_values=base[:, None], diagnostics=diagnostics)


def _completeness_status(delta: float, limit: float, size: float) -> tuple[AttributionStatus, str | None]:
    if not delta <= limit:
        return "failed", f"attributions miss the change of the output by {delta:.3g} (limit {limit:.3g})"
    return ("exact" if delta <= _ROUNDING * size else "estimated"), None


def _gradients(subject: Differentiated, inputs: torch.Tensor, targets: IntArray, method: GradientMethod) -> FloatArray:
    from captum.attr import InputXGradient, LayerGradientXActivation, Saliency

    target = torch.as_tensor(targets, device=inputs.device)
    try:
        if subject.embedding is None:
            if method == "saliency":
                values = Saliency(subject.forward).attribute(_leaf(inputs), target=target, abs=False)
            else:
                values = InputXGradient(subject.forward).attribute(_leaf(inputs), target=target)
        else:
            layer = LayerGradientXActivation(
                subject.forward, subject.embedding, multiply_by_inputs=method == "input_x_gradient"
            )
            values = layer.attribute(inputs, target=target)
            values = values.norm(dim=-1) if method == "saliency" else values.sum(dim=-1)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise _not_differentiable(error) from error
    return _numpy(values)


def _integrate(
    subject: Differentiated, inputs: torch.Tensor, baseline: torch.Tensor, steps: int, batch_size: int
) -> FloatArray:
    from captum.attr import IntegratedGradients, LayerIntegratedGradients

    parts = []
    rows_a_pass = max(1, batch_size // steps)
    for rows in _batches(len(inputs), rows_a_pass):
        some, start = inputs[rows], baseline[rows]
        target = torch.as_tensor(subject.targets[rows], device=inputs.device)
        size = max(len(some), batch_size)
        try:
            if subject.embedding is None:
                engine = IntegratedGradients(subject.forward)
                values = engine.attribute(_leaf(some), start, target=target, n_steps=steps, internal_batch_size=size)
            else:
                engine = LayerIntegratedGradients(subject.forward, subject.embedding)
                values = engine.attribute(some, start, target=target, n_steps=steps, internal_batch_size=size)
                values = values.sum(dim=-1)
        except (RuntimeError, AssertionError, TypeError, ValueError) as error:
            raise _not_differentiable(error) from error
        parts.append(_numpy(values))
    return np.concatenate(parts)


def _not_differentiable(error: Exception) -> AuditkitError:
    first = str(error).strip().splitlines()
    return NotApplicable(
        "AK510",
        "the model's output does not depend differentiably on its input",
        why=f"{type(error).__name__}: {first[0][:200] if first else 'no message'}",
        fix="use explain.shap, which only evaluates the model",
    )


def _leaf(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.detach().clone().requires_grad_(True)


def _target_outputs(subject: Differentiated, inputs: torch.Tensor, targets: IntArray) -> FloatArray:
    with torch.no_grad():
        outputs = subject.forward(inputs)
    return _numpy(outputs)[np.arange(len(targets)), targets]


def _all_outputs(subject: Differentiated, inputs: torch.Tensor, batch_size: int) -> FloatArray:
    parts = [
        _target_outputs(subject, inputs[rows], subject.targets[rows]) for rows in _batches(len(inputs), batch_size)
    ]
    return np.concatenate(parts)


def _baseline_outputs(
    subject: Differentiated, inputs: torch.Tensor, baseline: torch.Tensor, batch_size: int
) -> FloatArray:
    """Outputs where the path starts. For tokens only the embedding's output is that of the baseline: the ids
    themselves, and with them any padding mask, stay those of the row, as they do along the path."""
    if subject.embedding is None:
        return _all_outputs(subject, baseline, batch_size)
    layer = subject.embedding
    parts = []
    for rows in _batches(len(inputs), batch_size):
        with torch.no_grad():
            start = layer(baseline[rows])
        handle = layer.register_forward_hook(lambda _module, _args, _output, start=start: start)
        try:
            parts.append(_target_outputs(subject, inputs[rows], subject.targets[rows]))
        finally:
            handle.remove()
    return np.concatenate(parts)


def _batches(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, max(1, size))]


def _numpy(tensor: Any) -> FloatArray:
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy(), dtype=np.float64)


def _attribution(
    method: str,
    values: FloatArray,
    prediction: FloatArray,
    *,
    status: AttributionStatus,
    reason: str | None,
    n_evals: int,
) -> Attribution:
    if not np.isfinite(values).all():
        status, reason = "failed", "the gradients hold values that are not finite"
    return Attribution(
        values=values[..., None],
        prediction=prediction[:, None],
        method=method,
        output_space="logit",
        output_names=("target",),
        status=status,
        reason=reason,
        n_evals=n_evals,
    )
