"""Handwritten digits of 8 x 8 pixels (1,797 images, shipped with scikit-learn) and a small convolutional network."""

from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import auditkit

CLASSES = tuple(range(10))


class Digits(nn.Module):
    """Two convolutions and a linear layer; no batch normalisation, so that it can be trained with privacy."""

    def __init__(self, n_outputs: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(32 * 4 * 4, n_outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 10)`` of images ``(n, 1, 8, 8)`` in [0, 1]."""
        return self.head(self.features(images).flatten(1))


def _splits() -> tuple[dict[str, Any], dict[str, Any]]:
    images, digits = load_digits(return_X_y=True)
    images = (images / 16.0).reshape(-1, 1, 8, 8).astype(np.float32)
    train, test = train_test_split(np.arange(len(digits)), test_size=0.4, random_state=0, stratify=digits)
    first, second = ({"inputs": images[rows], "digit": digits[rows]} for rows in (train, test))
    return first, second


def train_images() -> dict[str, Any]:
    """Arrays of the 60 % that the network is trained on."""
    return _splits()[0]


def test_images() -> dict[str, Any]:
    """Arrays of the other 40 %."""
    return _splits()[1]


def recipe() -> auditkit.TorchRecipe:
    """How the network is trained; the audit follows it to train again with differential privacy."""
    return auditkit.TorchRecipe(
        name="digits CNN", build=Digits, epochs=12, batch_size=64, learning_rate=0.1, momentum=0.9
    )


def build() -> Any:
    """The trained network."""
    train = train_images()
    return recipe().fit(train["inputs"], train["digit"], seed=0)
