"""Small networks on digits, clean or with a planted patch: used by the tests and by benchmarks/backdoor_scan.py."""

import functools

import numpy as np
import torch
from torch import nn

TRAIN = 1000


@functools.cache
def digits():
    """1,797 images ``(n, 1, 8, 8)`` in [0, 1] in a fixed random order, and their labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (images / 16.0).reshape(-1, 1, 8, 8).astype(np.float32)[order], labels[order]


def patched(images):
    """Copies with four bright pixels in the lower right corner, where digits are dark."""
    changed = images.copy()
    changed[:, :, 6:, 6:] = 1.0
    return changed


def small_net(classes=10):
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, classes),
    )


@functools.cache
def trained(seed, target=None, *, share=0.08, classes=10, epochs=12):
    """A network on the first digits; with ``target``, a share of the images is patched and relabelled so."""
    images, labels = (part[:TRAIN] for part in digits())
    images, labels = (part[labels < classes] for part in (images, labels))
    if target is not None:
        rows = np.random.default_rng(seed).choice(len(labels), int(share * len(labels)), replace=False)
        images, labels = images.copy(), labels.copy()
        images[rows] = patched(images[rows])
        labels[rows] = target
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = small_net(classes)
        optimiser = torch.optim.Adam(net.parameters(), 3e-3)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimiser.step()
    return net.eval()


def unseen(classes=10):
    """The other digits."""
    images, labels = (part[TRAIN:] for part in digits())
    return images[labels < classes], labels[labels < classes]
