"""A model that private training can follow: layers replaced where needed, and proof that it is still the same model."""

from __future__ import annotations

import copy
import warnings
from typing import Any

# This module's job is to drive opacus's module fixer.
import torch  # noqa: TID253
from opacus.validators import ModuleValidator  # noqa: TID253
from torch import nn  # noqa: TID253

from auditkit.core.errors import AuditkitError
from auditkit.core.generators import preserved_generators
from auditkit.methods.privacy.dp_attention import batch_first_attention

# Layers whose output for one row depends on the other rows; no per-row gradient exists.
_MIXING = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_TRACKING = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
_TOLERANCE = 1e-4


def dp_ready(module: nn.Module, sample: torch.Tensor) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of ``module`` whose per-row gradients exist.

    Batch norm becomes group norm, which is another model, so it is said. Everything else (recurrent and
    attention layers) must keep its function: outputs on ``sample`` before and after are compared.

    Args:
        module: Any torch module; it is not changed.
        sample: A few input rows, for the comparison.

    Returns:
        The copy in training mode, and a sentence for each change of the model.

    Raises:
        AuditkitError: AK566 a layer that cannot be made private, or a module that remembers rows; AK568 a replacement
            changed the output.
    """
    module = copy.deepcopy(module).train()
    tied = _tied(module)
    module, notes = _replace_norms(module)
    _check_keeps_nothing(module, sample)
    before = _output(module, sample)
    ready = _replace_attention(copy.deepcopy(module))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            faults = ModuleValidator.validate(ready, strict=False)
            if faults:  # fixing copies the module by pickling, which modules of local classes cannot bear
                ready = ModuleValidator.fix(ready)
                faults = ModuleValidator.validate(ready, strict=False)
    except Exception as error:
        raise _unsupported(str(error)) from error
    if faults:
        raise _unsupported("; ".join(str(fault) for fault in faults))
    _check_same(before, _output(ready, sample))
    return ready.train(), notes + tied


def _replace_norms(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    names = [name for name, layer in module.named_modules() if isinstance(layer, _MIXING)]
    tracked = [
        name for name, layer in module.named_modules() if isinstance(layer, _TRACKING) and layer.track_running_stats
    ]
    for name in names:
        module = _put(module, name, _group_norm(module.get_submodule(name)))
    for name in tracked:
        layer: Any = module.get_submodule(name)
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
        layer.num_batches_tracked = None
    notes = []
    if names:
        notes.append(
            f"Batch norm mixes the rows of a batch, so that no row's own gradient exists: {len(names)} batch norm "
            "layer(s) were replaced by group norm in every arm, private or not."
        )
    if tracked:
        notes.append(f"Running statistics of {len(tracked)} instance norm layer(s) were switched off in every arm.")
    return module, tuple(notes)


def _tied(module: nn.Module) -> tuple[str, ...]:
    """A sentence on parameters that several layers share."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    shared = [" and ".join(own) for own in names.values() if len(own) > 1]
    if not shared:
        return ()
    return (
        f"Weights are shared ({'; '.join(shared)}): a row's gradients from all places are added up before they are "
        "clipped, so that sharing costs no more epsilon.",
    )


def _group_norm(layer: Any) -> nn.GroupNorm:
    """Group norm on the same channels. A group never holds a single channel: on flat features its output would be 0."""
    channels = int(layer.num_features)
    most = 1 if isinstance(layer, nn.BatchNorm1d) else min(32, max(1, channels // 2))
    groups = max(size for size in range(1, most + 1) if channels % size == 0)
    return nn.GroupNorm(groups, channels, eps=layer.eps, affine=layer.affine).to(_device(layer))


def _device(layer: nn.Module) -> torch.device:
    tensors = [*layer.parameters(), *layer.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def _replace_attention(module: nn.Module) -> nn.Module:
    """Batch-first attention by our own layer: the library's replacement computes another function there."""
    for name, layer in list(module.named_modules()):
        if type(layer) is nn.MultiheadAttention:
            twin = batch_first_attention(layer)
            if twin is not None:
                module = _put(module, name, twin)
    return module


def _put(root: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    if not name:
        return layer
    parent, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent), leaf, layer)
    return root


def _output(module: nn.Module, sample: torch.Tensor) -> Any:
    """The module's output in evaluation mode; its own mode is left as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        # The same draws before and after, so that a model that draws random numbers is not taken for another one.
        with torch.no_grad(), warnings.catch_warnings(), preserved_generators(0):
            warnings.simplefilter("ignore")
            return module(sample)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise AuditkitError(
            "AK566",
            "the model does not take the prepared rows",
            why=str(error),
            fix="let forward() take what the recipe's preparation gives: 32-bit floats, or token ids",
        ) from error
    finally:
        for part, mode in modes:
            part.training = mode


def _check_keeps_nothing(module: nn.Module, sample: torch.Tensor) -> None:
    """Refuse a module that keeps something of the rows it sees: it would be released without noise.

    Running statistics, memories and states show as buffers that a pass in training mode changes (a counter of passes
    apart), or as other outputs afterwards.
    """
    tried = copy.deepcopy(module)
    kept = {name: buffer.clone() for name, buffer in tried.named_buffers()}
    before = _output(tried, sample)
    with torch.no_grad(), preserved_generators(0):
        tried.train()(sample)
    changed = [
        name
        for name, buffer in tried.named_buffers()
        if (buffer.is_floating_point() or buffer.numel() > 1) and not _equal(buffer, kept.get(name))
    ]
    if not changed and not _equal(before, _output(tried, sample)):
        changed = ["its later outputs"]
    if changed:
        raise AuditkitError(
            "AK566",
            "the model keeps something of the rows that it sees, which would be released without noise",
            why=f"a pass in training mode changes {', '.join(changed)}",
            fix="leave running statistics and other memory out of the module that build() makes",
        )


def _equal(first: Any, second: Any) -> bool:
    """Whether two tensors are the same, NaN and all; other outputs are refused elsewhere."""
    if not isinstance(first, torch.Tensor) or not isinstance(second, torch.Tensor):
        return not isinstance(first, torch.Tensor) and not isinstance(second, torch.Tensor)
    return first.shape == second.shape and torch.allclose(first, second, rtol=1e-6, atol=0.0, equal_nan=True)


def _check_same(before: Any, after: Any) -> None:
    if not isinstance(before, torch.Tensor) or not isinstance(after, torch.Tensor):
        raise AuditkitError("AK566", "the model's output is not a tensor", fix="return the class logits from forward()")
    scale = float(before.double().pow(2).mean().sqrt()) + 1e-12
    gap = float((before - after).abs().max()) / scale if before.shape == after.shape else float("inf")
    if not gap <= _TOLERANCE:
        raise AuditkitError(
            "AK568",
            "making the model private would turn it into another model",
            why=f"after the layers were replaced its output differs by {gap:.2g} of its own size",
            fix="use layers with per-row gradients, e.g. nn.MultiheadAttention(batch_first=True) without extra biases",
        )


def _unsupported(why: str) -> AuditkitError:
    return AuditkitError(
        "AK566",
        "the model has a layer that differentially private training does not support",
        why=why,
        fix="replace the layer in the recipe's build()",
    )
