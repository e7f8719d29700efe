"""A bare torch module to a :class:`TorchModel`: its classes read off its outputs and the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import Task, take_rows
from auditkit.stats.distinct import distinct
from auditkit.subjects.labels import label_name
from auditkit.subjects.output_checks import row_count
from auditkit.subjects.torch import TorchModel, as_tensor, forward_batches, refuse_probabilities


def torch_model(
    module: torch.nn.Module,
    inputs: Any,
    y: Any,
    *,
    task: Task | None = None,
    tokenizer: Any = None,
    device: str = "auto",
) -> TorchModel:
    """Wrap ``module`` for these rows.

    ``k`` outputs for labels that are integers below ``k`` are the classes ``0 .. k-1``; one output for two
    numeric labels is the logit of the larger; one output for float labels is a regression. Anything else
    must be wrapped by the user with ``classes=``.

    Raises:
        UsageError: AK217 the order of the classes cannot be told, AK221 outputs that look like probabilities.
        AuditkitError: AK210, AK211 when the module fails on the first rows.
    """
    first = take_rows(inputs, np.arange(min(64, row_count(inputs)), dtype=np.int64))

    def tensor(part: Any) -> torch.Tensor:
        return as_tensor(part if tokenizer is None else tokenizer(part), module, _device_of(module))

    raw = forward_batches(module, tensor, first, 64)
    if raw.ndim > 2:
        raise AuditkitError(
            "AK211",
            f"the module returned outputs of shape {raw.shape[1:]} for each row; one vector is expected",
            where=type(module).__qualname__,
            fix="pool over time or space before the output layer",
        )
    width = 1 if raw.ndim == 1 else raw.shape[1]
    labels = np.asarray(y)
    if task == "regression" or (task is None and width == 1 and _is_continuous(labels)):
        if width != 1:
            raise AuditkitError("AK211", f"a regression module must have one output; this one has {width}")
        return TorchModel(module, task="regression", device=device, prepare=tokenizer)
    refuse_probabilities(raw.reshape(len(raw), width), type(module).__qualname__)
    return TorchModel(module, classes=_classes(labels, width), device=device, prepare=tokenizer)


def _classes(labels: np.ndarray[Any, Any], width: int) -> list[Any]:
    k = 2 if width == 1 else width
    if labels.dtype.kind == "b" and k == 2:
        return [False, True]
    names = {label_name(value) for value in distinct(labels)[1]}
    if names <= {str(code) for code in range(k)}:
        return list(range(k))
    if k == 2 and names <= {"-1", "1"}:
        return [-1, 1]
    shown = ", ".join(sorted(names)[:6])
    raise UsageError(
        "AK217",
        f"which of the module's {width} output{'s' if width > 1 else ''} stands for which label cannot be told",
        why=f"the labels in y are {shown}",
        fix="wrap it with the labels in the order of its outputs: TorchModel(module, classes=(...))",
    )


def _is_continuous(labels: np.ndarray[Any, Any]) -> bool:
    if labels.dtype.kind != "f":
        return False
    finite = labels[np.isfinite(labels)]
    return bool((finite != np.floor(finite)).any()) or len(np.unique(finite)) > 2


def _device_of(module: torch.nn.Module) -> str:
    from auditkit.subjects.torch_state import module_device

    return module_device(module)
