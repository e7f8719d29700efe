"""Sums of clipped per-row gradients from one forward and one backward pass.

The backward pass runs down to the outputs of the layers only. From those and the layers' inputs come first the
length of every row's gradient, then the sum of all rows scaled by how much each is clipped, so that neither a second
backward pass nor (in most layers) any per-row gradient is needed.

Source: Bu, Wang, Zha and Karypis (2023), Differentially private optimization on large model at small cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

# This module's job is to hook torch modules.
import torch  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.autograd.graph import GradientEdge, get_gradient_edge  # noqa: TID253
from torch.utils.hooks import RemovableHandle  # noqa: TID253

from auditkit.core.errors import AuditkitError
from auditkit.methods.privacy.dp_layers import Piece, Pieces, embedding, formed, linear, pieces_of

Tensor = torch.Tensor
# What a layer read, and the gradient of its output.
Use = tuple[Tensor, Tensor]


class NotFollowed(AuditkitError):
    """The module did something in this pass that the layers' inputs and output gradients do not tell."""


def _not_followed(why: str) -> NotFollowed:
    return NotFollowed(
        "AK569",
        "per-row gradients cannot be followed through the model",
        why=why,
        fix="let every row pass through the same layers, and keep rows apart in forward()",
    )


def ghost_applies(module: nn.Module) -> bool:
    """Whether every trained parameter belongs to a layer whose gradients are known here.

    A parameter may have other names besides (recurrent layers have); if it is also *used* under those, the
    comparison with the loop over rows tells.
    """
    known = {
        id(parameter)
        for layer in module.modules()
        if pieces_of(layer) is not None
        for parameter in layer.parameters(recurse=False)
    }
    return all(id(parameter) in known for parameter in module.parameters() if parameter.requires_grad)


class _Call(NamedTuple):
    """One use of a layer: what it read, in which version, and where its output's gradient arrives."""

    layer: nn.Module
    a: Tensor
    version: int
    arrival: GradientEdge


class GhostClipper:
    """Remembers, during one pass, what every layer read, and where in the graph its output's gradient arrives."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = tuple(parameters)
        self._wanted = {id(parameter) for parameter in parameters}
        self._calls: list[_Call] = []
        self._pieces_of: dict[nn.Module, Pieces] = {}

    def watch(self, layer: nn.Module, how: Pieces) -> RemovableHandle:
        """Follow a layer until the handle is removed."""
        self._pieces_of[layer] = how
        return layer.register_forward_hook(self._remember)

    def clipped_sum(self, loss: Tensor, rows: int, limit: float) -> tuple[list[Tensor], Tensor]:
        """Gradients of ``loss`` (a sum over rows), each row's scaled down to the length ``limit``; and the lengths.

        Raises:
            NotFollowed: The pass cannot be taken apart; gradients by other means are needed.
        """
        pieces = self._pieces(self._uses(loss, rows), rows)
        norms = torch.stack([piece.lengths for piece in pieces]).square_().sum(0).sqrt_()
        scale = torch.div(torch.tensor(limit, dtype=torch.float64), norms.clamp_min(limit))
        sums: dict[int, Tensor] = {}
        for piece in pieces:
            sums.update(zip(map(id, piece.parameters), piece.weighted(scale), strict=True))
        return [sums[id(parameter)] for parameter in self.parameters], norms

    def forget(self) -> None:
        """Start a new pass."""
        self._calls = []

    def _uses(self, loss: Tensor, rows: int) -> dict[nn.Module, list[Use]]:
        """What each layer read and the gradients of its outputs, call by call; the pass is forgotten."""
        calls, self._calls = self._calls, []
        uses: dict[nn.Module, list[Use]] = {}
        if not calls or not loss.requires_grad:
            return uses
        if any(call.a._version != call.version for call in calls):
            raise _not_followed("an input of a layer was changed in place")
        # Only gradients of outputs are asked for, so that torch computes none of a weight.
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
            loss, [call.arrival for call in calls], allow_unused=True
        )
        for (layer, a, _, _), g in zip(calls, gradients, strict=True):
            if g is not None:
                if a.shape[0] != rows or g.shape[0] != rows:
                    raise _not_followed("the rows of the batch are not on the first axis")
                uses.setdefault(layer, []).append((a, g))
        return uses

    def _pieces(self, uses: dict[nn.Module, list[Use]], rows: int) -> list[Piece]:
        """Pieces such that every trained parameter is in exactly one."""
        pieces: list[Piece] = []
        for layer in list(uses):  # what a piece does not need any more is freed at once
            pieces += _of_layer(layer, self._pieces_of[layer], uses.pop(layer), rows)
        names = [id(parameter) for piece in pieces for parameter in piece.parameters]
        found = set(names)
        if not self._wanted <= found:
            raise _not_followed("a trained parameter takes no part in the output")
        if len(names) == len(self._wanted):
            return pieces
        return _each_once(pieces, {name for name in found if names.count(name) > 1}, self._wanted)

    def _remember(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and len(inputs) == 1 and output.requires_grad:
            a = inputs[0].detach()
            self._calls.append(_Call(layer, a, a._version, get_gradient_edge(output)))


def _of_layer(layer: nn.Module, how: Pieces, uses: list[Use], rows: int) -> Iterator[Piece]:
    if len(uses) == 1:
        yield from how(layer, *uses[0])
    elif how in (linear, embedding):
        # A layer that is used again (a recurrent cell) is one layer on more positions.
        flat = [(a.reshape(rows, -1, a.shape[-1]) if how is linear else a.reshape(rows, -1), g) for a, g in uses]
        a = torch.cat([part for part, _ in flat], dim=1)
        yield from how(layer, a, torch.cat([g.reshape(rows, -1, g.shape[-1]) for _, g in flat], dim=1))
    else:
        for a, g in uses:
            yield from how(layer, a, g)


def _each_once(pieces: list[Piece], shared: set[int], wanted: set[int]) -> list[Piece]:
    """Pieces that hold parameters of others too, or parameters that are not trained, are taken apart.

    A parameter used by several layers: its per-row gradients add up before their length is taken.
    """
    kept: list[Piece] = []
    totals: dict[int, tuple[nn.Parameter, Tensor]] = {}
    for piece in pieces:
        names = {id(parameter) for parameter in piece.parameters}
        if names <= wanted and not names & shared:
            kept.append(piece)
            continue
        for parameter, rows in zip(piece.parameters, piece.rows, strict=True):
            if id(parameter) in wanted:
                own, known = rows(), totals.get(id(parameter))
                totals[id(parameter)] = (parameter, own if known is None else known[1] + own)
    return kept + [formed(parameter, total) for parameter, total in totals.values()]


@contextmanager
def ghost_clipper(module: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[GhostClipper]:
    """Hooks on the layers of ``parameters``, gone afterwards; the clipper leaves no gradients in the parameters."""
    clipper = GhostClipper(parameters)
    wanted = {id(parameter) for parameter in parameters}
    handles = [
        clipper.watch(layer, how)
        for layer in module.modules()
        if (how := pieces_of(layer)) is not None
        and any(id(parameter) in wanted for parameter in layer.parameters(recurse=False))
    ]
    try:
        yield clipper
    finally:
        clipper.forget()
        for handle in handles:
            handle.remove()
