"""Per-row gradients of a layer from its inputs and the gradients of its outputs, without forming them where it pays.

Activations ``a`` and output gradients ``g`` have the rows of the batch on their first axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# This module's job is arithmetic on torch tensors.
import torch  # noqa: TID253
from torch import nn  # noqa: TID253

Tensor = torch.Tensor
# With this many positions a row's gradient is cheaper to form than its length is to get without; up to 16 MB.
_MANY_POSITIONS, _FORMED_NUMBERS = 8, 2**22
# Lengths that come from differences of large numbers are below their rounding from here on, relative to those numbers.
_LOST = 1e-5
_ONE = torch.ones(())


class Piece(NamedTuple):
    """What one use of a layer contributes to some of its parameters.

    Attributes:
        parameters: Those parameters.
        lengths: ``(rows,)`` of the per-row gradients of all of them together.
        weighted: Coefficients ``(rows,)`` -> the weighted sum of the per-row gradients of each.
        rows: The per-row gradients of each themselves, ``(rows, *shape)``; formed when called.
    """

    parameters: tuple[Any, ...]
    lengths: Tensor
    weighted: Callable[[Tensor], tuple[Tensor, ...]]
    rows: tuple[Callable[[], Tensor], ...]


Pieces = Callable[[Any, Tensor, Tensor], Iterator[Piece]]


def formed(parameter: Any, rows: Tensor) -> Piece:
    """A piece whose per-row gradients are there already."""
    flat = rows.reshape(rows.shape[0], -1)
    shape = parameter.shape
    # One pass over the numbers, without a squared copy of them.
    lengths = torch.linalg.vector_norm(flat, dim=1)
    return Piece((parameter,), lengths, lambda c: ((c @ flat).reshape(shape),), (lambda: rows,))


def linear(layer: Any, a: Tensor, g: Tensor) -> Iterator[Piece]:
    """``nn.Linear`` on ``a (rows, ..., in)``.

    With one position a row, the length of an outer product is the product of the lengths.

    Source: Goodfellow (2015), Efficient per-example gradient computations.
    """
    if a.dim() == 2:
        yield _outer(layer.weight, layer.bias, a, g)
        return
    a, g = a.reshape(len(a), -1, a.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    yield _positions(layer.weight, a, g)
    if layer.bias is not None:
        yield formed(layer.bias, g.sum(dim=1))


def _outer(weight: Any, bias: Any, a: Tensor, g: Tensor) -> Piece:
    """One position a row. A step of a small model is spent on calls into torch: as few of them as can be."""
    inputs, lengths = torch.linalg.vector_norm(a, dim=1), torch.linalg.vector_norm(g, dim=1)

    def rows() -> Tensor:
        return g[:, :, None] * a[:, None, :]

    if bias is None:
        return Piece((weight,), inputs.mul_(lengths), lambda c: ((g * c.unsqueeze(1)).t().mm(a),), (rows,))

    def weighted(c: Tensor) -> tuple[Tensor, Tensor]:
        scaled = g * c.unsqueeze(1)
        return scaled.t().mm(a), scaled.sum(0)

    # The bias reads an input of 1.
    return Piece((weight, bias), torch.hypot(inputs, _ONE).mul_(lengths), weighted, (rows, lambda: g))


def _positions(weight: Any, a: Tensor, g: Tensor) -> Piece:
    """A matrix whose per-row gradient is a sum over positions: ``a (rows, T, in)``, ``g (rows, T, out)``.

    The ghost norm where ``2 T^2`` is below the size of the matrix, else the gradients are formed. They also are
    where there are enough positions for that to be less arithmetic, and all of them fit in a few megabytes.

    Source: Bu, Mao and Xu (2022), Scalable and efficient training with differential privacy, section 3.
    """
    if _forms(weight, len(a), a.shape[1]):
        return formed(weight, torch.bmm(g.transpose(1, 2), a))
    inputs, outputs = a @ a.transpose(1, 2), g @ g.transpose(1, 2)
    squares = (inputs * outputs).sum(dim=(1, 2))
    # Positions that cancel out leave only rounding of the sum: taken as longer than it is, a row is clipped too much.
    squares = torch.maximum(squares, _LOST * _trace(inputs) * _trace(outputs))

    def weighted(c: Tensor) -> tuple[Tensor]:
        scaled = (g * c[:, None, None]).reshape(-1, g.shape[-1])
        return ((scaled.T @ a.reshape(-1, a.shape[-1])).reshape(weight.shape),)

    return Piece((weight,), squares.sqrt_(), weighted, (lambda: (g.transpose(1, 2) @ a).reshape(-1, *weight.shape),))


def _trace(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=1, dim2=2).sum(dim=1)


def _forms(weight: Any, rows: int, positions: int) -> bool:
    few = positions >= _MANY_POSITIONS and rows * weight.numel() <= _FORMED_NUMBERS
    return bool(few or 2 * positions**2 > weight.numel())


def convolution(layer: Any, a: Tensor, g: Tensor) -> Iterator[Piece]:
    """``nn.Conv1d`` and ``nn.Conv2d``: a linear layer on unfolded patches, one position an output pixel."""
    kernel, stride, padding, dilation = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    if a.dim() == 3:
        a, g = a[:, :, None], g[:, :, None]
        kernel, stride, padding, dilation = (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)
    rows, groups = len(a), layer.groups
    patches = _patches(a, kernel, stride, padding, dilation)
    pixels = g.reshape(rows, layer.out_channels, -1)
    if layer.bias is not None:
        yield formed(layer.bias, pixels.sum(dim=2))
    weight = layer.weight
    length = patches.shape[2]
    if groups == 1 and not _forms(weight, rows, length):
        yield _positions(weight, patches.transpose(1, 2), pixels.transpose(1, 2))
        return
    patches = patches.reshape(rows * groups, -1, length)
    pixels = pixels.reshape(rows * groups, layer.out_channels // groups, length)
    yield formed(weight, torch.bmm(pixels, patches.transpose(1, 2)).reshape(rows, *weight.shape))


def _patches(a: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Tensor:
    """What each output pixel of a convolution saw, ``(rows, channels * kernel, pixels)``, as ``unfold`` gives it.

    Without dilation a strided view is copied once, which takes half the time of ``unfold``.
    """
    if tuple(dilation) != (1, 1):
        return nn.functional.unfold(a, kernel, dilation=dilation, padding=padding, stride=stride)
    if any(padding):
        a = nn.functional.pad(a, (padding[1], padding[1], padding[0], padding[0]))
    windows = a.unfold(2, kernel[0], stride[0]).unfold(3, kernel[1], stride[1])
    pixels = windows.shape[2] * windows.shape[3]
    return windows.permute(0, 1, 4, 5, 2, 3).reshape(len(a), -1, pixels)


def embedding(layer: Any, tokens: Tensor, g: Tensor) -> Iterator[Piece]:
    """``nn.Embedding`` on ``tokens (rows, ...)``: gradients of equal tokens of a row add up before their length."""
    tokens, g = tokens.reshape(len(tokens), -1), g.reshape(len(g), -1, g.shape[-1])
    if layer.padding_idx is not None:
        g = g * (tokens != layer.padding_idx)[:, :, None]
    same = tokens[:, :, None] == tokens[:, None, :]
    outputs = g @ g.transpose(1, 2)
    squares = torch.maximum((outputs * same).sum(dim=(1, 2)), 0.1 * _LOST * g.shape[1] * _trace(outputs))

    def weighted(c: Tensor) -> tuple[Tensor]:
        scaled = (g * c[:, None, None]).reshape(-1, g.shape[-1])
        return (torch.zeros_like(layer.weight).index_add_(0, tokens.reshape(-1), scaled),)

    def rows() -> Tensor:
        whole = g.new_zeros((len(g), *layer.weight.shape))
        return whole.scatter_add_(1, tokens[:, :, None].expand_as(g), g)

    yield Piece((layer.weight,), squares.sqrt_(), weighted, (rows,))


def layer_norm(layer: Any, a: Tensor, g: Tensor) -> Iterator[Piece]:
    """``nn.LayerNorm``: scale and shift, summed over positions."""
    shape = tuple(layer.normalized_shape)
    normal = nn.functional.layer_norm(a, shape, None, None, layer.eps)
    size = math.prod(shape)
    yield formed(layer.weight, (g * normal).reshape(len(a), -1, size).sum(dim=1).reshape(len(a), *shape))
    if layer.bias is not None:
        yield formed(layer.bias, g.reshape(len(a), -1, size).sum(dim=1).reshape(len(a), *shape))


def group_norm(layer: Any, a: Tensor, g: Tensor) -> Iterator[Piece]:
    """``nn.GroupNorm``: scale and shift of each channel, summed over pixels."""
    normal = nn.functional.group_norm(a, layer.num_groups, None, None, layer.eps)
    channels = a.shape[1]
    yield formed(layer.weight, (g * normal).reshape(len(a), channels, -1).sum(dim=2))
    yield formed(layer.bias, g.reshape(len(a), channels, -1).sum(dim=2))


_BY_TYPE: dict[type[nn.Module], Pieces] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Embedding: embedding,
    nn.LayerNorm: layer_norm,
    nn.GroupNorm: group_norm,
}


def pieces_of(layer: nn.Module) -> Pieces | None:
    """How to get the gradients of this very layer; ``None`` where it does anything out of the ordinary."""
    for kind, pieces in _BY_TYPE.items():
        if isinstance(layer, kind) and type(layer).forward is kind.forward:
            return pieces if _ordinary(layer) else None
    return None


def _ordinary(layer: Any) -> bool:
    if isinstance(layer, nn.Embedding):
        return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return True
