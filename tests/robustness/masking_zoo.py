"""Honest networks of several kinds, trainings and precisions on digits and on a table, for the masking tests."""

import functools

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import nn

from auditkit.methods.robustness import pgd

EPS = {"digits": 0.08, "table": 0.05}
TRAIN = {"digits": 900, "table": 300}
ROWS = 80


@functools.cache
def data(name):
    if name == "digits":
        found = load_digits()
        inputs = (found.images / 16)[:, None]
    else:
        found = load_breast_cancer()
        low, high = found.data.min(0), found.data.max(0)
        inputs = (found.data - low) / (high - low)
    order = np.random.default_rng(0).permutation(len(found.target))
    return torch.from_numpy(inputs.astype(np.float32))[order], torch.from_numpy(found.target)[order]


def build(kind, name):
    features, classes = (64, 10) if name == "digits" else (30, 2)
    if kind == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))
    if kind == "convolutions":
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, classes),
        )
    if kind == "deep":
        layers = [part for _ in range(4) for part in (nn.Linear(48, 48), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), nn.Linear(features, 48), nn.ReLU(), *layers, nn.Linear(48, classes))
    if kind == "batch norm":
        middle = [nn.BatchNorm1d(48), nn.ReLU()]
    elif kind == "dropout":
        middle = [nn.ReLU(), nn.Dropout(0.3)]
    else:
        middle = [{"relu": nn.ReLU(), "tanh": nn.Tanh(), "gelu": nn.GELU(), "silu": nn.SiLU()}[kind]]
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 48), *middle, nn.Linear(48, classes))


@functools.cache
def trained(kind, seed=0, training="plain", name="digits", precision="float32"):
    x, y = (part[: TRAIN[name]] for part in data(name))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build(kind, name)
        optimiser = torch.optim.Adam(net.parameters(), 5e-3, weight_decay=1e-3 if training == "decay" else 0.0)
        for epoch in range(12):
            for rows in torch.randperm(len(x)).split(90):
                points = x[rows]
                if training == "adversarial":
                    made = pgd(net, points, y[rows], eps=EPS[name], steps=4, early_stop=False, seed=epoch)
                    points = made.adversarial
                elif training == "noise":
                    points = (points + 0.1 * torch.randn_like(points)).clamp(0, 1)
                net.train()
                optimiser.zero_grad()
                smooth = 0.1 if training == "smoothing" else 0.0
                nn.functional.cross_entropy(net(points), y[rows], label_smoothing=smooth).backward()
                optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return net.eval().to(getattr(torch, precision))


KINDS = ("linear", "relu", "convolutions", "deep", "batch norm", "dropout", "tanh", "gelu", "silu")
HONEST = [
    *((kind, seed, "plain") for kind in KINDS for seed in (0, 1)),
    *((kind, seed, "adversarial") for kind in ("relu", "convolutions", "deep", "tanh", "gelu") for seed in (0, 1)),
    *((kind, 0, how) for kind in ("relu", "convolutions") for how in ("noise", "smoothing", "decay")),
    *((kind, 0, how, "table") for kind in ("linear", "relu", "deep", "tanh") for how in ("plain", "adversarial")),
    *(
        (kind, 0, "plain", "digits", precision)
        for kind in ("relu", "convolutions")
        for precision in ("float64", "bfloat16")
    ),
]
