"""Does an explanation depend on what the model learned? Compare it with that of randomised twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch  # noqa: TID253 - this module redraws the parameters of torch modules

from auditkit.core.subject import FloatArray
from auditkit.methods.explain.differentiable import started

Scope = Literal["last_layer", "all_layers"]


def randomise_parameters(
    module: torch.nn.Module, generator: torch.Generator, scope: Scope, run: Callable[[], Any] | None = None
) -> None:
    """Redraw parameters in place (of a copy!): normal with each tensor's own mean and standard deviation.

    Args:
        module: A deep copy of the user's module.
        generator: CPU generator; the global one is left alone.
        scope: ``all_layers``, or only the ``last_layer``: the sub-module with parameters that starts last.
        run: A forward pass of ``module``, which tells the order of the layers and which are used at all; without it,
            and where none shows itself, the order is that of registration.

    Source: Adebayo et al. (2018), section 3.1 (independent randomisation).
    """
    parameters = list(module.parameters())
    if scope == "last_layer":
        holders = [part for part in module.modules() if list(part.parameters(recurse=False))]
        order = holders if run is None else started(holders, run) or holders
        parameters = list(order[-1].parameters(recurse=False)) if order else []
    with torch.no_grad():
        for parameter in parameters:
            values = parameter.detach().to("cpu", torch.float64)
            spread = float(values.std(unbiased=False)) if values.numel() > 1 else float(values.abs().mean())
            noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((float(values.mean()) + spread * noise).to(parameter.dtype))


def concentration(magnitude: FloatArray, share: float = 0.1) -> FloatArray:
    """Share ``(n,)`` of each row's absolute attribution ``(n, f)`` that its largest ``share`` of inputs holds.

    NaN for a row whose attributions are all zero. Even attributions give ``share`` itself; one input that holds
    everything gives 1.

    >>> concentration(np.array([[1.0] * 10])).tolist()
    [0.1]
    """
    count = max(1, round(share * magnitude.shape[1]))
    total = magnitude.sum(axis=1)
    top = np.sort(magnitude, axis=1)[:, -count:].sum(axis=1)
    found = np.divide(top, total, out=np.full_like(total, np.nan), where=total > 0.0)
    return np.asarray(found, dtype=np.float64)
