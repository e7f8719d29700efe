"""Advice on batch size, clipping and learning rate of a private training, from its noise alone."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Option:
    """One batch size at the same epsilon and number of passes.

    Attributes:
        learning_rate: The recipe's, scaled with the batch so that all steps together move as far.
        noise: Standard deviation, in each coordinate, of the noise of all steps together over the furthest that
            gradients of the clipping norm could move the weights.
    """

    batch_size: int
    steps: int
    noise_multiplier: float
    learning_rate: float
    noise: float


def batch_options(
    target_epsilon: float, *, n: int, delta: float, epochs: float, batch_size: int, learning_rate: float
) -> tuple[Option, ...]:
    """The given batch size and its doublings up to a quarter of the rows, with the noise that each needs.

    Noise multipliers come from Renyi moments: quick, and loose by the same tenth for all options.

    Args:
        target_epsilon: Above 0.
        n: Number of training rows.
        delta: Below 1/n.
        epochs: Passes over the rows, the same for all options.
        batch_size: Expected rows of a batch now.
        learning_rate: Now.

    Source: Sander, Stock and Sablayrolles (2023), TAN without a burn: the noise of all steps,
    ``noise_multiplier / (batch_size sqrt(steps))``, decides; De et al. (2022), section 4, for large batches.
    """
    from auditkit.methods.privacy.accounting import noise_multiplier_for

    found: list[Option] = []
    size = batch_size
    while size <= max(batch_size, n // 4) and len(found) < 7:
        steps = max(1, round(epochs * n / size))
        noise = noise_multiplier_for(target_epsilon, sample_rate=size / n, steps=steps, delta=delta, accountant="rdp")
        found.append(
            Option(
                batch_size=size,
                steps=steps,
                noise_multiplier=noise,
                learning_rate=learning_rate * size / batch_size,
                noise=noise / (size * math.sqrt(steps)),
            )
        )
        size *= 2
    return tuple(found)
