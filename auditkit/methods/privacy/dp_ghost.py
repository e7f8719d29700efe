"""Sums of clipped per-row gradients from one forward and one backward pass.

The backward pass runs down to the outputs of the layers only. From those and the layers' inputs come first the
length of every row's gradient, then the sum of all rows scaled by how much each is clipped, so that neither a second
backward pass nor (in most layers) any per-row gradient is needed.

Source: Bu, Wang, Zha and Karypis (2023), Differentially private optimization on large model at small cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# This module's job is to hook torch modules.
import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from auditkit.core.errors import AuditkitError
from auditkit.methods.privacy.dp_layers import Piece, embedding, formed, linear, pieces_of

Tensor = torch.Tensor
Call = tuple[Tensor, int, Tensor]


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


class GhostClipper:
    """Remembers, during one pass, what every layer read and what its outputs' gradients were."""

    def __init__(self, module: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self.module = module
        self.parameters = tuple(parameters)
        self._wanted = {id(parameter) for parameter in parameters}
        self._calls: dict[nn.Module, list[Call]] = {}
        # Biases of layers that read no gradient-carrying input: where the backward pass ends.
        self._ends: list[nn.Parameter] = []

    def clipped_sum(self, loss: Tensor, rows: int, limit: float) -> tuple[list[Tensor], Tensor]:
        """Gradients of ``loss`` (a sum over rows), each row's scaled down to the length ``limit``; and the lengths.

        Raises:
            NotFollowed: The pass cannot be taken apart; gradients by other means are needed.
        """
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
            for bias in self._ends:
                bias.grad = None
        pieces = self._pieces(rows)
        norms = torch.stack([own.norms for own in pieces.values()]).sum(dim=0).sqrt()
        scale = (limit / norms.clamp_min(1e-12)).clamp(max=1.0)
        return [pieces[id(parameter)].weighted(scale) for parameter in self.parameters], norms

    def forget(self) -> None:
        """Start a new pass."""
        self._calls = {}

    def _pieces(self, rows: int) -> dict[int, Piece]:
        found: dict[int, list[Piece]] = {}
        for layer, calls in self._calls.items():
            for piece in _of_layer(layer, calls, rows):
                if id(piece.parameter) in self._wanted:
                    found.setdefault(id(piece.parameter), []).append(piece)
        if len(found) != len(self._wanted):
            raise _not_followed("a trained parameter takes no part in the output")
        return {key: pieces[0] if len(pieces) == 1 else _added(pieces) for key, pieces in found.items()}

    def _watch(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, Tensor) or len(inputs) != 1 or not torch.is_grad_enabled():
            return None
        a = inputs[0].detach()
        returned = None
        if not output.requires_grad:
            self._end_at(layer)
            output.requires_grad_(True)
            # A leaf must not be changed in place by what follows.
            returned = output.view_as(output) * 1.0
        version = a._version
        output.register_hook(  # type: ignore[no-untyped-call]
            lambda g: self._calls.setdefault(layer, []).append((a, version, g))
        )
        return returned

    def _end_at(self, layer: nn.Module) -> None:
        """From the next pass on let the layer's bias carry gradients: cheaper than a copy of the layer's output."""
        bias = getattr(layer, "bias", None)
        if isinstance(bias, nn.Parameter) and id(bias) in self._wanted:
            bias.requires_grad_(True)
            self._ends.append(bias)


def _of_layer(layer: nn.Module, calls: list[Call], rows: int) -> Iterator[Piece]:
    for a, version, g in calls:
        if a._version != version:
            raise _not_followed("an input of a layer was changed in place")
        if len(a) != rows or len(g) != rows:
            raise _not_followed("the rows of the batch are not on the first axis")
    how = pieces_of(layer)
    assert how is not None
    if len(calls) == 1:
        yield from how(layer, calls[0][0], calls[0][2])
    elif how in (linear, embedding):
        # A layer that is used again (a recurrent cell) is one layer on more positions.
        flat = [(a.reshape(rows, -1, a.shape[-1]) if how is linear else a.reshape(rows, -1), g) for a, _, g in calls]
        a = torch.cat([part for part, _ in flat], dim=1)
        yield from how(layer, a, torch.cat([g.reshape(rows, -1, g.shape[-1]) for _, g in flat], dim=1))
    else:
        for a, _, g in calls:
            yield from how(layer, a, g)


def _added(pieces: list[Piece]) -> Piece:
    """One parameter used by several layers: its per-row gradients add up before their length is taken."""
    total = pieces[0].rows()
    for piece in pieces[1:]:
        total = total + piece.rows()
    return formed(pieces[0].parameter, total)


@contextmanager
def ghost_clipper(module: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[GhostClipper]:
    """Hooks on the layers of ``parameters``; inside, backward passes leave no gradients in the parameters."""
    clipper = GhostClipper(module, parameters)
    wanted = {id(parameter) for parameter in parameters}
    layers = [
        layer
        for layer in module.modules()
        if pieces_of(layer) is not None
        and any(id(parameter) in wanted for parameter in layer.parameters(recurse=False))
    ]
    handles = [layer.register_forward_hook(clipper._watch) for layer in layers]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield clipper
    finally:
        clipper.forget()
        for handle in handles:
            handle.remove()
        for parameter in parameters:
            parameter.requires_grad_(True)
