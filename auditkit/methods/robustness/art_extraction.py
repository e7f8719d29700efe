"""Model extraction through the Adversarial Robustness Toolbox: a network of the outsider's own, taught by answers.

ART trains the copy on whatever array it is given and asks the victim about the same array. Here both are given the
positions of rows: the victim's answer to a position is that of the user's own model on its own inputs, and the copy
looks the row up as a tensor. So every kind of input that torch takes can be asked about, and the questions can be
counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch  # noqa: TID253 - this module drives torch

from auditkit.core.errors import UsageError
from auditkit.core.subject import FloatArray, IntArray
from auditkit.methods.art import load, quiet

Tensor = torch.Tensor
ExtractionAttack = Literal["copycat", "knockoff"]

_BATCH = 32
_HIDDEN = 64
# What ART 1.20 has and is not offered, and why.
UNUSABLE: dict[str, str] = {
    "functionally-equivalent": "it extracts networks of one hidden layer only, and needs their exact outputs",
    "knockoff-adaptive": "it trains on one row at a time, once, and needs labels that an outsider does not have",
}


@dataclass(frozen=True, slots=True)
class NetworkCopy:
    """A copy of a model.

    Attributes:
        module: Rows as tensors -> ``(n, k)`` logits, in eval mode.
        n_queries: Rows that the audited model was asked about.
    """

    module: torch.nn.Module
    n_queries: int

    def decide(self, rows: Tensor) -> IntArray:
        """Class codes ``(n,)`` of rows as tensors."""
        with torch.no_grad():
            parts = [self.module(part).argmax(dim=1).cpu().numpy() for part in torch.split(rows, 1024)]
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)


def copy_network(  # noqa: PLR0913 - what an outsider chooses, each named at the call
    ask: Callable[[IntArray], FloatArray],
    rows: Tensor,
    *,
    n_classes: int,
    attack: ExtractionAttack = "copycat",
    steps: int = 400,
    learning_rate: float = 3e-3,
    vocabulary: int | None = None,
    seed: int = 0,
) -> NetworkCopy:
    """Ask the model about every one of ``rows`` and train a network of our own on what it answers.

    Args:
        ask: Positions in ``rows`` ``(m,)`` -> ``(m, k)`` answers: one-hot decisions, or probabilities (knockoff).
        rows: ``(q, *features)`` floats, or ``(q, length)`` token ids.
        n_classes: Classes of the model.
        attack: ``copycat`` learns from decisions, ``knockoff`` from probabilities.
        steps: Steps of Adam, at least; whole passes are made.
        learning_rate: Of Adam.
        vocabulary: Number of token ids that may occur, for token ids.
        seed: Of the weights and of the order of rows.

    Raises:
        UsageError: AK515 an attack that is not offered, and why; AK590 no row to ask about.
        MissingExtra: AK301 when ART is not installed.

    Source: Correia-Silva et al. (2018), section III; Orekondy, Schiele and Fritz (2019), section 4.

    >>> rows = torch.linspace(-1, 1, 60)[:, None]
    >>> found = copy_network(lambda at: np.eye(2)[(rows[at, 0] > 0.2).long().numpy()], rows, n_classes=2)
    >>> found.decide(torch.tensor([[-0.5], [0.6]])).tolist(), found.n_queries
    ([0, 1], 60)
    """
    if attack not in ("copycat", "knockoff"):
        raise UsageError(
            "AK515",
            f"the attack {attack!r} is not offered",
            where="attack",
            why=UNUSABLE.get(attack, "it is not known"),
            fix="use one of copycat, knockoff",
        )
    if len(rows) == 0:
        raise UsageError("AK590", "there is no row to ask the model about")
    asked = 0

    def answer(positions: Any) -> Any:
        nonlocal asked
        asked += len(positions)
        return np.asarray(ask(np.asarray(positions)[:, 0].astype(np.int64)), dtype=np.float32)

    blackbox = load("art.estimators.classification.blackbox")
    pytorch = load("art.estimators.classification.pytorch")
    attacks = load("art.attacks.extraction")
    positions = np.arange(len(rows), dtype=np.float32)[:, None]
    batch = _batch_size(len(rows))
    common = {
        "batch_size_fit": batch,
        "batch_size_query": 4096,
        "nb_epochs": math.ceil(steps / math.ceil(len(rows) / batch)),
        "nb_stolen": len(rows),
        "use_probability": attack == "knockoff",
    }
    with quiet(seed), torch.enable_grad():
        inner = own_network(rows, n_classes, vocabulary).to(rows.device)
        victim = blackbox.BlackBoxClassifier(answer, input_shape=(1,), nb_classes=n_classes)
        copy = _LooksUp(inner, rows)
        thief = pytorch.PyTorchClassifier(
            model=copy,
            loss=_SoftCrossEntropy(),
            optimizer=torch.optim.Adam(inner.parameters(), lr=learning_rate),
            input_shape=(1,),
            nb_classes=n_classes,
            device_type="gpu" if rows.is_cuda else "cpu",
        )
        if attack == "copycat":
            attacks.CopycatCNN(victim, **common).extract(positions, thieved_classifier=thief)
        else:
            attacks.KnockoffNets(victim, sampling_strategy="random", verbose=False, **common).extract(
                positions, thieved_classifier=thief
            )
    for parameter in inner.parameters():
        parameter.grad = None
    return NetworkCopy(module=inner.eval(), n_queries=asked)


def _batch_size(n: int) -> int:
    """About 32 rows a step, and never a last batch of one row, which layers that normalise a batch refuse."""
    size = min(_BATCH, n)
    return size + 1 if n % size == 1 and n > 1 else size


def own_network(rows: Tensor, n_classes: int, vocabulary: int | None = None) -> torch.nn.Module:
    """The outsider's network for rows of this shape: two convolutions, one hidden layer, or a bag of embeddings.

    Args:
        rows: Rows that the outsider holds; inputs are standardised by their means and spreads.
        n_classes: Outputs.
        vocabulary: Number of token ids that may occur, for token ids.
    """
    from torch import nn

    if not rows.is_floating_point():
        ids = vocabulary or int(rows.max()) + 1
        return nn.Sequential(nn.EmbeddingBag(ids, _HIDDEN), nn.Linear(_HIDDEN, n_classes))
    if rows.ndim == 4:
        body = nn.Sequential(
            nn.Conv2d(rows.shape[1], 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(32 * 16, n_classes),
        )
        return nn.Sequential(_Standardise(rows, keep=(1,)), body)
    if rows.ndim == 3:
        return nn.Sequential(nn.Unflatten(1, (1, rows.shape[1])), *own_network(rows[:, None], n_classes).children())
    flat = rows.flatten(1)
    return nn.Sequential(
        nn.Flatten(),
        _Standardise(flat, keep=(1,)),
        nn.Linear(flat.shape[1], _HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, n_classes),
    )


class _Standardise(torch.nn.Module):
    """Subtract the mean and divide by the spread of the rows given, for each entry of the axes kept."""

    mean: Tensor
    spread: Tensor

    def __init__(self, rows: Tensor, keep: tuple[int, ...]) -> None:
        super().__init__()
        over = [axis for axis in range(rows.ndim) if axis not in keep]
        whole = rows.detach().float()
        self.register_buffer("mean", whole.mean(dim=over, keepdim=True))
        self.register_buffer("spread", whole.std(dim=over, keepdim=True, correction=0).clamp_min(1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised rows."""
        return (x.float() - self.mean) / self.spread


class _LooksUp(torch.nn.Module):
    """The copy behind positions: ART sees nothing of the rows themselves."""

    def __init__(self, inner: torch.nn.Module, rows: Tensor) -> None:
        super().__init__()
        self.inner = inner
        self.rows = rows.detach()

    def forward(self, positions: Tensor) -> Tensor:
        """Logits of the rows at ``positions``."""
        found: Tensor = self.inner(self.rows[positions[:, 0].long()])
        return found


class _SoftCrossEntropy(torch.nn.Module):
    """Cross-entropy against class probabilities, which ART hands on as they are, or against codes."""

    # ART turns one-hot labels into codes for losses of this name only; this one takes both.
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean over the batch."""
        return torch.nn.functional.cross_entropy(logits, target.to(logits.dtype) if target.ndim == 2 else target)
