"""Chest x-rays of 28 x 28 pixels (PneumoniaMNIST, CC BY 4.0) and a small convolutional network."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import auditkit

CLASSES = ("normal", "pneumonia")
DATA = Path(os.environ.get("AUDITKIT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "pneumoniamnist.npz"


class Xray(nn.Module):
    """Three convolutions and a linear layer; rectifiers are modules, each used once."""

    def __init__(self, n_outputs: int = 2) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(32 * 7 * 7, n_outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(n, 2)`` of images ``(n, 1, 28, 28)`` in [0, 1]."""
        return self.head(self.features(images).flatten(1))


def _split(name: str) -> dict[str, Any]:
    if not DATA.is_file():
        raise FileNotFoundError(
            "this example needs pneumoniamnist.npz; give its folder as the environment variable AUDITKIT_DATA"
        )
    with np.load(DATA) as arrays:
        images, labels = arrays[f"{name}_images"], arrays[f"{name}_labels"].ravel()
    pixels = (images[:, None] / 255.0).astype(np.float32)
    return {"inputs": pixels, "finding": np.array(CLASSES)[labels]}


def train_images() -> dict[str, Any]:
    """The 4,708 training images."""
    return _split("train")


def test_images() -> dict[str, Any]:
    """The 624 test images."""
    return _split("test")


def recipe() -> auditkit.TorchRecipe:
    """How the network is trained; the audit follows it where it trains again."""
    return auditkit.TorchRecipe(
        name="x-ray CNN", build=Xray, epochs=5, batch_size=64, learning_rate=0.03, momentum=0.9, labels=CLASSES
    )


def build() -> Any:
    """The trained network."""
    train = train_images()
    return recipe().fit(train["inputs"], (train["finding"] == "pneumonia").astype(np.int64), seed=0)
