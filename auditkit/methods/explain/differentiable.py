"""What explanations by derivatives differentiate, and how the user's module is borrowed for it.

The module is put in eval mode and given back exactly as it was: train/eval flags, gradients, ``requires_grad``,
buffers, hooks, attributes and global generators.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # noqa: TID253 - this module drives torch

from auditkit.core.attribution import Attribution, AttributionStatus
from auditkit.core.errors import AuditkitError, NotApplicable
from auditkit.core.subject import FloatArray, IntArray, ScoreSpace
from auditkit.methods.explain.additivity import RELATIVE_TO_OUTPUT, own_or_usual
from auditkit.methods.explain.least import need_rows
from auditkit.methods.explain.quiet import quiet

Forward = Callable[[torch.Tensor], torch.Tensor]

ROUNDING = 1e-5


@dataclass(frozen=True, kw_only=True)
class Differentiated:
    """What is differentiated.

    Attributes:
        module: The user's own module; ``forward`` runs it.
        forward: Tensor ``(n, ...)`` -> outputs ``(n, k)`` with the graph attached.
        targets: ``(n,)`` output explained for each row.
        embedding: For token ids: the embedding layer that the gradients are taken at.
        space: Of the outputs.
    """

    module: torch.nn.Module
    forward: Forward
    targets: IntArray
    embedding: torch.nn.Module | None = None
    space: ScoreSpace = "logit"


@contextlib.contextmanager
def untouched(module: torch.nn.Module) -> Iterator[None]:
    """Eval mode inside; flags, gradients, ``requires_grad``, buffers, hooks and generators as before afterwards.

    On a GPU, recurrent layers in eval mode refuse the backward pass of cuDNN, so cuDNN is off inside.
    """
    parts = list(module.modules())
    modes = [(part, part.training) for part in parts]
    hooks = [[(table, dict(table)) for table in _hook_tables(part)] for part in parts]
    names = [set(vars(part)) for part in parts]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    wants = [(parameter, parameter.requires_grad, parameter.grad) for parameter in module.parameters()]
    kept = [None if gradient is None else gradient.detach().clone() for _, _, gradient in wants]
    recurrent = any(isinstance(part, torch.nn.RNNBase) for part in parts)
    cudnn = torch.backends.cudnn.flags(enabled=False) if recurrent else contextlib.nullcontext()
    try:
        module.eval()
        with quiet(), torch.enable_grad(), cudnn:
            yield
    finally:
        for part, training in modes:
            part.training = training
        for part, tables, known in zip(parts, hooks, names, strict=True):
            for table, entries in tables:
                table.clear()
                table.update(entries)
            for name in set(vars(part)) - known:
                delattr(part, name)
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.detach().copy_(before)
        for (parameter, wanted, gradient), copy in zip(wants, kept, strict=True):
            parameter.requires_grad_(wanted)
            parameter.grad = gradient
            if gradient is not None and copy is not None:
                gradient.detach().copy_(copy)


def _hook_tables(part: torch.nn.Module) -> list[dict[Any, Any]]:
    """The tables of hooks of one module: libraries that fail half way leave theirs behind."""
    return [value for name, value in vars(part).items() if "hook" in name and isinstance(value, dict)]


def find_embedding(module: torch.nn.Module) -> torch.nn.Module | None:
    """The embedding of the largest vocabulary: the token embedding rather than that of positions."""
    found = [part for part in module.modules() if isinstance(part, torch.nn.Embedding | torch.nn.EmbeddingBag)]
    plain = [part for part in found if isinstance(part, torch.nn.Embedding)]
    return max(plain, key=lambda part: part.num_embeddings, default=None)


def started(parts: list[torch.nn.Module], run: Callable[[], Any]) -> list[torch.nn.Module]:
    """Those of ``parts`` that a forward pass ``run`` calls, in the order in which they start.

    All of them, as they stand, where one refuses hooks, as scripted modules do.
    """
    found: list[torch.nn.Module] = []
    handles = []
    try:
        for part in parts:
            try:
                handles.append(part.register_forward_pre_hook(lambda part, _args: found.append(part)))
            except RuntimeError:
                return parts
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found


def completeness_limits(prediction: FloatArray, base: FloatArray, tolerance: float) -> FloatArray:
    """``(n,)`` what each row's attributions may miss: ``tolerance`` of the change that they explain, and rounding.

    Small changes may be missed by as much as the median of those that are not 0, so that a row whose output hardly
    moves asks no more of a path than others do, and none by more than the mean change may be. A row of huge outputs
    widens no other's limit, unless no other moves at all.

    Args:
        prediction: ``(n,)`` outputs.
        base: ``(n,)`` outputs at the baseline.
        tolerance: Share of the change.

    >>> completeness_limits(np.array([2.0, 1.0, 1e6]), np.zeros(3), 0.01).round(2).tolist()
    [0.02, 0.02, 3343.34]
    """
    change, size = np.abs(prediction - base), np.abs(prediction)
    known = change[np.isfinite(change)]
    moved = known[known > 0.0]
    usual = np.median(moved) if len(moved) else 0.0
    share = np.minimum(np.maximum(change, usual), known.mean() if len(known) else np.inf)
    return np.asarray(tolerance * share + ROUNDING * own_or_usual(size))


def summing(values: FloatArray) -> FloatArray:
    """``(n,)`` what single precision leaves of each row's sum, where large values ``(n, ...)`` cancel."""
    return np.asarray(RELATIVE_TO_OUTPUT * np.abs(values).reshape(len(values), -1).sum(axis=1))


def completeness(
    values: FloatArray, gap: FloatArray, limits: FloatArray, prediction: FloatArray
) -> tuple[AttributionStatus, str | None, dict[str, float]]:
    """Status, reason and diagnostics of ``values (n, ...)`` that miss the changes of the outputs by ``gap (n,)``.

    ``exact`` where all gaps are at rounding, ``estimated`` where each is within its row's limit and what
    :func:`summing` allows, else ``failed``.
    ``completeness_delta`` is the largest gap, ``completeness_limit`` the limit of its row.
    """
    rounding = summing(values)
    limits = limits + rounding
    ratio = np.divide(gap, limits, out=np.where(gap > 0.0, np.inf, 0.0), where=limits > 0.0)
    widest, worst = int(np.argmax(gap)), int(np.argmax(ratio))
    told = {"completeness_delta": float(gap[widest]), "completeness_limit": float(limits[widest])}
    if not np.isfinite(gap).all():
        return "failed", "the outputs or the attributions are not finite", told
    if not (gap <= limits).all():
        missed = f"attributions miss the change of the output by {gap[worst]:.3g} (limit {limits[worst]:.3g})"
        return "failed", missed, told
    exact = (gap <= ROUNDING * own_or_usual(np.abs(prediction)) + rounding).all()
    return ("exact" if exact else "estimated"), None, told


def not_differentiable(error: Exception) -> AuditkitError:
    """What a failed backward pass means for the user."""
    if isinstance(error, torch.OutOfMemoryError):
        return AuditkitError("AK482", "memory ran out in the backward pass", fix="explain fewer rows, or use the cpu")
    first = str(error).strip().splitlines()
    return NotApplicable(
        "AK510",
        "the model's output does not depend differentiably on its input",
        why=f"{type(error).__name__}: {first[0][:200] if first else 'no message'}",
        fix="use explain.shap, which only evaluates the model",
    )


def leaf(inputs: torch.Tensor) -> torch.Tensor:
    """A copy that starts a graph of its own."""
    return inputs.detach().clone().requires_grad_(True)


def target_outputs(subject: Differentiated, inputs: torch.Tensor, targets: IntArray) -> FloatArray:
    """Outputs ``(n,)`` of one batch at each row's target."""
    with torch.no_grad():
        outputs = subject.forward(inputs)
    return to_numpy(outputs)[np.arange(len(targets)), targets]


def all_outputs(subject: Differentiated, inputs: torch.Tensor, batch_size: int) -> FloatArray:
    """Outputs ``(n,)`` at each row's target, in batches; of copies, since a module may begin with writing into them."""
    parts = [
        target_outputs(subject, inputs[rows].clone(), subject.targets[rows])
        for rows in batches(len(inputs), batch_size)
    ]
    return np.concatenate(parts)


def baseline_outputs(
    subject: Differentiated, inputs: torch.Tensor, baseline: torch.Tensor, batch_size: int
) -> FloatArray:
    """Outputs where the path starts. For tokens only the embedding's output is that of the baseline: the ids
    themselves, and with them any padding mask, stay those of the row, as they do along the path."""
    if subject.embedding is None:
        return all_outputs(subject, baseline, batch_size)
    layer = subject.embedding
    parts = []
    for rows in batches(len(inputs), batch_size):
        with torch.no_grad():
            start = layer(baseline[rows])
        handle = layer.register_forward_hook(lambda _module, _args, _output, start=start: start)
        try:
            parts.append(target_outputs(subject, inputs[rows], subject.targets[rows]))
        finally:
            handle.remove()
    return np.concatenate(parts)


def batches(n: int, size: int) -> list[slice]:
    """Slices of at most ``size`` of ``n`` rows.

    Raises:
        UsageError: AK500 no rows.
    """
    need_rows(n)
    return [slice(start, min(start + size, n)) for start in range(0, n, max(1, size))]


def to_numpy(tensor: Any) -> FloatArray:
    """A tensor as a float64 array."""
    return np.asarray(tensor.detach().to("cpu", torch.float64).numpy(), dtype=np.float64)


def attribution_of(
    subject: Differentiated,
    method: str,
    values: FloatArray,
    prediction: FloatArray,
    *,
    status: AttributionStatus,
    reason: str | None,
    n_evals: int,
) -> Attribution:
    """One output's values ``(n, *features)`` as an :class:`Attribution`; ``failed`` where they, or the outputs, are not
    finite."""
    if not np.isfinite(prediction).all():
        status, reason = "failed", "the model gave outputs that are not finite"
    elif not np.isfinite(values).all():
        status, reason = "failed", "the attributions hold values that are not finite"
    return Attribution(
        values=values[..., None],
        prediction=prediction[:, None],
        method=method,
        output_space=subject.space,
        output_names=("target",),
        status=status,
        reason=reason,
        n_evals=n_evals,
    )
