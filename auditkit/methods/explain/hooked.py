"""Explanations through captum's hooks inside the module: GradCAM, guided GradCAM, DeepLift.

Hooks see modules only. A rectifier that is called as a function, works in place or is used twice escapes them or breaks
them; that is found out and told, never passed over, and DeepLift is then worked out without hooks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # noqa: TID253 - this module drives torch through captum

from auditkit.core.attribution import Attribution
from auditkit.core.errors import AuditkitError, NotApplicable
from auditkit.core.subject import FloatArray
from auditkit.methods.explain.differentiable import (
    Differentiated,
    all_outputs,
    attribution_of,
    batches,
    completeness,
    completeness_limits,
    leaf,
    not_differentiable,
    started,
    target_outputs,
    to_numpy,
    untouched,
)
from auditkit.methods.explain.rescale import rescaled

_Maps = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # images (m, ...), targets (m,) -> maps (m, ...)
_NO_SUM = "a map of a layer has no sum that could be compared with the model's output"


class _Whole(torch.nn.Module):
    """The explained outputs as one module, for engines that take nothing else."""

    def __init__(self, subject: Differentiated) -> None:
        super().__init__()
        self.inner = subject.module
        self.run = subject.forward

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.run(inputs)


def find_convolution(subject: Differentiated, inputs: torch.Tensor) -> torch.nn.Module | None:
    """The two-dimensional convolution that runs last, or ``None``; what a module registers need not run in that order,
    or at all.

    Args:
        subject: What is differentiated.
        inputs: ``(n, ...)`` images; the first is passed through the module.
    """
    found: list[torch.nn.Module] = [part for part in subject.module.modules() if isinstance(part, torch.nn.Conv2d)]
    if not found:
        return None
    with untouched(subject.module), torch.no_grad():
        order = started(found, lambda: subject.forward(inputs[:1]))
    return order[-1] if order else None


def grad_cam(
    subject: Differentiated,
    inputs: torch.Tensor,
    layer: torch.nn.Module,
    *,
    plane: tuple[int, int] = (2, 3),
    batch_size: int = 256,
) -> Attribution:
    """GradCAM at ``layer``, rectified and enlarged (bilinear) to the images' height and width.

    Args:
        subject: What is differentiated.
        inputs: ``(n, c, h, w)``, or as ``plane`` says.
        layer: A layer whose output is ``(n, channels, h', w')``, usually the last convolution.
        plane: The axes of ``inputs`` that are height and width: (1, 2) where channels come last, or there are none.
        batch_size: Images a pass.

    Returns:
        ``values (n, h, w, 1) >= 0``, ``unverified``.

    Raises:
        NotApplicable: AK510 no gradient reaches the layer; AK481 the hook was refused.

    Source: Selvaraju et al. (2017), section 3.
    """
    return _mapped("grad_cam", subject, inputs, _enlarged(subject, inputs, layer, plane), batch_size)


def _enlarged(subject: Differentiated, inputs: torch.Tensor, layer: torch.nn.Module, plane: tuple[int, int]) -> _Maps:
    """GradCAM of some of the images, ``(m, h, w)``."""
    from captum.attr import LayerAttribution, LayerGradCam

    size = tuple(inputs.shape[axis] for axis in plane)

    def maps(some: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        coarse = LayerGradCam(subject.forward, layer).attribute(leaf(some), target=target, relu_attributions=True)
        fine: torch.Tensor = LayerAttribution.interpolate(coarse, size, interpolate_mode="bilinear")
        return fine[:, 0]

    return maps


def guided_grad_cam(
    subject: Differentiated,
    inputs: torch.Tensor,
    layer: torch.nn.Module,
    *,
    plane: tuple[int, int] = (2, 3),
    batch_size: int = 256,
) -> Attribution:
    """Guided GradCAM: guided backpropagation times GradCAM at ``layer``.

    Args:
        subject: What is differentiated.
        inputs: ``(n, c, h, w)``, or as ``plane`` says.
        layer: As for :func:`grad_cam`.
        plane: As for :func:`grad_cam`.
        batch_size: Images a pass.

    Returns:
        ``values (n, *shape, 1)``, ``unverified``; ``failed`` where a rectifier is called as a function, which guided
        backpropagation cannot guide.

    Raises:
        NotApplicable: AK510 no gradient; AK481 in-place or reused rectifiers, which refuse the hooks.

    Source: Selvaraju et al. (2017), section 3.2; Springenberg et al. (2015), section 3.4.
    """
    from captum.attr import GuidedBackprop

    refuse_in_place(subject.module)
    whole = _Whole(subject)
    maps = _enlarged(subject, inputs, layer, plane)
    shape = [extent if axis in plane else 1 for axis, extent in enumerate(inputs.shape)][1:]

    def one(some: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        guided: torch.Tensor = GuidedBackprop(whole).attribute(leaf(some), target=target)
        return guided * maps(some, target).reshape(-1, *shape)

    attribution = _mapped("guided_grad_cam", subject, inputs, one, batch_size)
    with untouched(subject.module):
        loose = functional_rectifiers(subject, inputs[:1])
    if loose and attribution.status != "failed":
        reason = f"{loose} rectifiers are called as functions, so that guided backpropagation passes them unguided"
        return dataclasses.replace(attribution, status="failed", reason=reason)
    return attribution


def deep_lift(
    subject: Differentiated,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    *,
    tolerance: float = 0.01,
    batch_size: int = 256,
) -> Attribution:
    """DeepLift (rescale rule) from ``baseline``, checked for completeness.

    captum's hooks miss, without a word, max poolings that follow one another and activations that are no modules or
    that it does not know; activations in place or used twice refuse them. Where captum does not give the whole change
    of the user's model, the rule is worked out without hooks (:mod:`auditkit.methods.explain.rescale`); where that
    misses it by more than ``tolerance`` the status is ``failed``.

    Args:
        subject: What is differentiated.
        inputs: ``(n, ...)`` float tensor.
        baseline: ``(1, ...)`` or ``(n, ...)``.
        tolerance: Largest completeness gap accepted, as a share of the change explained; each row's limit is given by
            :func:`auditkit.methods.explain.differentiable.completeness_limits`.
        batch_size: Rows a pass.

    Returns:
        ``values (n, *features, 1)``, ``base_values``, diagnostics ``completeness_delta`` and ``completeness_limit``;
        status ``exact``, ``estimated`` or ``failed``; ``params["engine"]`` is ``captum`` or ``auditkit``, and
        ``params["tried"]`` why captum was left.

    Raises:
        NotApplicable: AK510 no gradient.

    Source: Shrikumar, Greenside and Kundaje (2017), section 3.
    """
    baseline = baseline.expand(inputs.shape) if baseline.shape != inputs.shape else baseline
    with untouched(subject.module):
        ends = tuple(all_outputs(subject, end, batch_size) for end in (inputs, baseline))
    try:
        theirs = _lifted(subject, inputs, baseline, ends, (_captum_lift, tolerance, batch_size))
        if theirs.status == "exact":
            return dataclasses.replace(theirs, params={"engine": "captum"})
        tried = f"captum misses the change of the output by {theirs.diagnostics['completeness_delta']:.3g}"
    except NotApplicable as error:
        if error.code != "AK481":
            raise
        tried = f"captum refuses the model ({error.why})"
    ours = _lifted(subject, inputs, baseline, ends, (_own_lift, tolerance, batch_size))
    if ours.status == "failed" and np.isfinite(ends).all():
        reason = f"{ours.reason}: DeepLift does not know every layer of this model"
        ours = dataclasses.replace(ours, reason=reason)
    return dataclasses.replace(ours, params={"engine": "auditkit", "tried": tried})


_Lift = Callable[[Differentiated, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _lifted(
    subject: Differentiated,
    inputs: torch.Tensor,
    baseline: torch.Tensor,
    ends: tuple[FloatArray, ...],
    how: tuple[_Lift, float, int],
) -> Attribution:
    """One engine's DeepLift, with its sum compared with the change of the outputs ``ends``."""
    (engine, tolerance, batch_size), (prediction, base) = how, ends
    parts = []
    with untouched(subject.module):
        for rows in batches(len(inputs), batch_size):
            target = torch.as_tensor(subject.targets[rows], device=inputs.device)
            try:
                parts.append(to_numpy(engine(subject, inputs[rows], baseline[rows], target)))
            except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError) as error:
                raise hooks_refused(error) from error
    values = np.concatenate(parts)
    gap = np.abs(values.reshape(len(values), -1).sum(axis=1) - (prediction - base))
    limits = completeness_limits(prediction, base, tolerance)
    status, reason, diagnostics = completeness(values, gap, limits, prediction)
    attribution = attribution_of(
        subject, "deep_lift", values, prediction, status=status, reason=reason, n_evals=2 * len(inputs)
    )
    return dataclasses.replace(attribution, base_values=base[:, None], diagnostics=diagnostics)


def _captum_lift(
    subject: Differentiated, inputs: torch.Tensor, baseline: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    from captum.attr import DeepLift

    refuse_in_place(subject.module)
    found: torch.Tensor = DeepLift(_Whole(subject)).attribute(leaf(inputs), baseline.clone(), target=targets)
    return found


def _own_lift(
    subject: Differentiated, inputs: torch.Tensor, baseline: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    return rescaled(subject.forward, inputs, baseline, targets)


def refuse_in_place(module: torch.nn.Module) -> None:
    """Refuse modules with layers that overwrite their input: hooks would read what is no longer there.

    Raises:
        NotApplicable: AK481.
    """
    found = [name for name, part in module.named_modules() if getattr(part, "inplace", False)]
    if found:
        raise NotApplicable(
            "AK481",
            "this method needs hooks that the model's layers refuse",
            why=f"the layers {', '.join(map(repr, found[:5]))} work in place",
            fix="build them with inplace=False, or use integrated gradients",
        )


def hooks_refused(error: Exception) -> AuditkitError:
    """What a failure inside hooks means for the user."""
    text = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no message"
    if isinstance(error, torch.OutOfMemoryError) or "not have been used" in text or "does not require grad" in text:
        return not_differentiable(error)
    return NotApplicable(
        "AK481",
        "this method needs hooks that the model's layers refuse",
        why=f"{type(error).__name__}: {text}",
        fix="use each activation layer once, and not in place; or use integrated gradients",
    )


class _Counter(torch.overrides.TorchFunctionMode):
    """Counts calls of rectifiers, from modules or not."""

    kinds = frozenset({torch.nn.functional.relu, torch.relu, torch.Tensor.relu, torch.Tensor.relu_, torch.relu_})

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.calls += func in self.kinds
        return func(*args, **(kwargs or {}))


def functional_rectifiers(subject: Differentiated, inputs: torch.Tensor) -> int:
    """How many rectifiers one forward calls as functions, outside ``torch.nn.ReLU`` modules."""
    inside = 0

    def count(_module: Any, _args: Any, _output: Any) -> None:
        nonlocal inside
        inside += 1

    handles = [
        part.register_forward_hook(count) for part in subject.module.modules() if isinstance(part, torch.nn.ReLU)
    ]
    try:
        with torch.no_grad(), _Counter() as counter:
            subject.forward(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return int(counter.calls) - inside


def _mapped(
    method: str,
    subject: Differentiated,
    inputs: torch.Tensor,
    one: _Maps,
    batch_size: int,
) -> Attribution:
    parts: list[FloatArray] = []
    outputs: list[FloatArray] = []
    with untouched(subject.module):
        for rows in batches(len(inputs), batch_size):
            target = torch.as_tensor(subject.targets[rows], device=inputs.device)
            try:
                found = one(inputs[rows], target)
            except (RuntimeError, AssertionError, TypeError, ValueError, AttributeError) as error:
                raise hooks_refused(error) from error
            parts.append(to_numpy(found))
            outputs.append(target_outputs(subject, inputs[rows], subject.targets[rows]))
    return attribution_of(
        subject,
        method,
        np.concatenate(parts),
        np.concatenate(outputs),
        status="unverified",
        reason=_NO_SUM,
        n_evals=len(inputs),
    )
