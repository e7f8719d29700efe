"""Multi-head attention for batch-first tensors, out of linear layers whose per-row gradients are known."""

from __future__ import annotations

import math
from typing import Any

# This module's job is to be a torch module.
import torch  # noqa: TID253
from torch import nn  # noqa: TID253


class BatchFirstAttention(nn.Module):
    """The function of ``torch.nn.MultiheadAttention(batch_first=True)``, one ``nn.Linear`` a projection.

    Tensors stay ``(batch, length, width)`` throughout, so that the rows of the batch are on the axis on
    which per-row gradients are taken. Made from an existing layer by :func:`batch_first_attention`.
    """

    def __init__(self, width: int, heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.embed_dim = width
        self.num_heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.out_proj = nn.Linear(width, width, bias=bias)
        self.drop = nn.Dropout(dropout)
        # torch's encoder layers look at these to decide on a fused path that bypasses this forward.
        self.batch_first = True
        self._qkv_same_embed_dim = False
        self.in_proj_weight = None
        self.in_proj_bias = None

    def forward(  # noqa: PLR0913  (torch's own signature)
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Same arguments and results as ``torch.nn.MultiheadAttention.forward`` for 3-d, batch-first tensors."""
        batch, length, width = query.shape
        size = width // self.num_heads
        q, k, v = (
            layer(tensor).reshape(batch, tensor.shape[1], self.num_heads, size).transpose(1, 2)
            for layer, tensor in ((self.query, query), (self.key, key), (self.value, value))
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(size)
        if attn_mask is not None:
            if attn_mask.dim() == 3:
                attn_mask = attn_mask.reshape(batch, self.num_heads, length, k.shape[2])
            scores = _masked(scores, attn_mask)
        if key_padding_mask is not None:
            scores = _masked(scores, key_padding_mask[:, None, None, :])
        weights = self.drop(torch.softmax(scores, dim=-1))
        mixed = (weights @ v).transpose(1, 2).reshape(batch, length, width)
        result = self.out_proj(mixed)
        if not need_weights:
            return result, None
        return result, weights.mean(dim=1) if average_attn_weights else weights


def batch_first_attention(layer: Any) -> BatchFirstAttention | None:
    """``layer`` (a ``MultiheadAttention``) with the same weights, or ``None`` where it uses what this does not have."""
    if not layer.batch_first or not layer._qkv_same_embed_dim or layer.bias_k is not None or layer.add_zero_attn:
        return None
    twin = BatchFirstAttention(layer.embed_dim, layer.num_heads, layer.dropout, layer.in_proj_bias is not None)
    twin.to(device=layer.in_proj_weight.device, dtype=layer.in_proj_weight.dtype)
    with torch.no_grad():
        parts = layer.in_proj_weight.chunk(3)
        biases = (None,) * 3 if layer.in_proj_bias is None else layer.in_proj_bias.chunk(3)
        for target, weight, bias in zip((twin.query, twin.key, twin.value), parts, biases, strict=True):
            target.weight.copy_(weight)
            if bias is not None:
                target.bias.copy_(bias)
    twin.out_proj.load_state_dict(layer.out_proj.state_dict())
    return twin.train(layer.training)


def _masked(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Where a boolean mask is true the position is hidden; other masks are added."""
    if mask.dtype == torch.bool:
        return scores.masked_fill(mask, -math.inf)
    return scores + mask
