"""Steps of SGD along a noisy mean, with all weights in one vector, so that a step is a handful of operations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

# This module's job is to drive torch.
import torch  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.nn.utils import parameters_to_vector, vector_to_parameters  # noqa: TID253

Tensor = torch.Tensor


def noisy_mean(sums: Sequence[Tensor], spread: float, expected: float, noise: torch.Generator) -> Tensor:
    """The clipped sums plus Gaussian noise, over the *expected* batch size: dividing by the realised one leaks it.

    Args:
        sums: A tensor a parameter.
        spread: Standard deviation of the noise.
        expected: Expected batch size.
        noise: Stream of the noise; all parameters take one draw from it.

    Returns:
        One vector, parameter after parameter.

    >>> noisy_mean([torch.ones(2, 1), torch.zeros(1)], 0.0, 4.0, torch.Generator())
    tensor([0.2500, 0.2500, 0.0000])
    """
    flat = torch.cat([summed.reshape(-1) for summed in sums])
    if spread > 0.0:
        flat.add_(torch.randn(flat.shape, generator=noise, device=flat.device, dtype=flat.dtype), alpha=spread)
    return flat.div_(expected)


@contextmanager
def descent(
    parameters: Sequence[nn.Parameter], learning_rate: float, momentum: float
) -> Iterator[Callable[[Tensor], None]]:
    """Steps of SGD: called with the gradient of all parameters as one vector.

    Meanwhile the parameters are views of one vector; afterwards each has memory of its own. The steps are those of
    ``torch.optim.SGD``, whose bookkeeping takes ten times as long for a small model.
    """
    vector = parameters_to_vector(parameters).detach()
    alike = all(parameter.dtype == vector.dtype for parameter in parameters)
    if alike:
        vector_to_parameters(vector, parameters)
    velocity: Tensor | None = None

    def step(gradient: Tensor) -> None:
        nonlocal velocity
        if momentum and velocity is not None:
            gradient = velocity.mul_(momentum).add_(gradient)
        velocity = gradient
        vector.add_(gradient, alpha=-learning_rate)
        if not alike:
            _spread(vector, parameters)

    try:
        yield step
    finally:
        for parameter in parameters:
            parameter.grad = None
            parameter.data = parameter.detach().clone()


def _spread(vector: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Weights of several types are kept in the widest and rounded to their own."""
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    with torch.no_grad():
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.copy_(part.view(parameter.shape))
