"""A network of our own, fitted to the labels alone: points made on it owe nothing to the audited model's gradients."""

from __future__ import annotations

import torch  # noqa: TID253 - this module drives torch

from auditkit.core.generators import preserved_generators

Tensor = torch.Tensor


def train_surrogate(
    x: Tensor, y: Tensor, *, n_classes: int, seed: int = 0, epochs: int = 60, width: int = 64
) -> torch.nn.Module:
    """A perceptron with one hidden layer on standardised inputs, fitted to the labels by Adam.

    Args:
        x: ``(n, *features)`` rows.
        y: ``(n,)`` int64 labels below ``n_classes``.
        n_classes: Outputs.
        seed: Of the weights and of the order of rows.
        epochs: Passes over the rows.
        width: Hidden units.

    Returns:
        A module that takes rows as they are and gives ``(n, n_classes)`` logits.

    >>> x = torch.linspace(0, 1, 40)[:, None]
    >>> net = train_surrogate(x, (x[:, 0] > 0.5).long(), n_classes=2)
    >>> net(torch.tensor([[0.1], [0.9]])).argmax(dim=1).tolist()
    [0, 1]
    """
    flat = x.detach().flatten(1).float()
    mean, spread = flat.mean(dim=0), flat.std(dim=0, correction=0).clamp_min(1e-6)
    with preserved_generators(seed), torch.enable_grad():
        inner = torch.nn.Sequential(
            torch.nn.Linear(flat.shape[1], width), torch.nn.ReLU(), torch.nn.Linear(width, n_classes)
        ).to(x.device)
        optimiser = torch.optim.Adam(inner.parameters(), 5e-3)
        ready = (flat - mean) / spread
        for _ in range(epochs):
            for rows in torch.randperm(len(flat)).split(128):  # type: ignore[no-untyped-call]
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(inner(ready[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return _Standardised(inner.eval(), mean, spread)


class _Standardised(torch.nn.Module):
    """Standardise, then decide."""

    mean: Tensor
    spread: Tensor

    def __init__(self, inner: torch.nn.Module, mean: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        """Class logits."""
        found: Tensor = self.inner((x.flatten(1).float() - self.mean) / self.spread)
        return found
