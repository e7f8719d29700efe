"""Embeddings of many models as one table: each model's tokens are its own stretch of it."""

from __future__ import annotations

import copy
from typing import Any

import torch  # noqa: TID253 - this module exists to drive torch
from torch.nn.functional import embedding  # noqa: TID253

Tensor = torch.Tensor


def with_shared_tables(module: torch.nn.Module) -> torch.nn.Module:
    """A copy whose embeddings lie in one table when torch batches it over models.

    On one thread of a CPU their gradients are then added up in less than half the time of torch's own, and a token
    that is not in a model's table is an error: torch's own reads it from the next model's. Embeddings with a largest
    norm, with sparse or scaled gradients, or of a class of their own stay as they are.
    """
    module = copy.deepcopy(module)
    for layer in module.modules():
        if type(layer) is torch.nn.Embedding and _plain(layer):
            layer.__class__ = _SharedTable
    return module


def _plain(layer: torch.nn.Embedding) -> bool:
    return layer.max_norm is None and not layer.scale_grad_by_freq and not layer.sparse


class _SharedTable(torch.nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = _Lookup.apply(self.weight, input, self.num_embeddings, self.padding_idx)  # type: ignore[no-untyped-call]
        return found


class _Lookup(torch.autograd.Function):
    """``table (models * size, width)``, ``tokens (...)`` -> ``(..., width)``; a model's padding has no gradient."""

    @staticmethod
    def forward(table: Tensor, tokens: Tensor, size: int, padding: int | None) -> Tensor:
        return embedding(tokens, table)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int | None], output: Tensor) -> None:
        table, tokens, ctx.size, ctx.padding = inputs
        ctx.save_for_backward(tokens)
        ctx.entries = table.shape[0]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (tokens,) = ctx.saved_tensors
        if gradient.device.type == "cpu" and torch.get_num_threads() == 1:
            table = gradient.new_zeros((ctx.entries, gradient.shape[-1]))
            table.index_put_((tokens,), gradient, accumulate=True)
        else:  # with several threads the additions above would come in any order
            table = torch.ops.aten.embedding_dense_backward(gradient, tokens, ctx.entries, -1, False)
        if ctx.padding is not None:
            table[ctx.padding :: ctx.size] = 0.0
        return table, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, table: Tensor, tokens: Tensor, size: int, padding: int | None) -> Any:
        models = info.batch_size
        table = table.expand(models, *table.shape) if in_dims[0] is None else table.movedim(in_dims[0], 0)
        tokens = tokens.expand(models, *tokens.shape) if in_dims[1] is None else tokens.movedim(in_dims[1], 0)
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < size:
            raise IndexError("index out of range in self")
        starts = torch.arange(models, device=tokens.device) * size
        shifted = tokens + starts.view(-1, *[1] * (tokens.dim() - 1))
        return _Lookup.apply(table.flatten(0, 1), shifted, size, padding), 0  # type: ignore[no-untyped-call]
