"""Shadow models together against one by one, and what each membership attack finds on the same models.

First table: CPU time of 16 trainings in one stack (``train_sgd_stacked``) and of the same 16 by ``train_sgd`` in turn,
and the largest difference of their weights; models that are not trained in a stack on a CPU are also forced into one.
Second: TPR at 0.1 % and 1 % false positives and AUC of every attack, mean
over four models under attack that were trained on random halves of the rows; 16 shadow models serve all four. The last
arm is trained with differential privacy at epsilon 1, whose ceiling ``e * fpr + delta`` no attack may pass.

Run: python benchmarks/membership.py
"""

import time
from unittest import mock

import numpy as np
import torch
from torch import nn

from auditkit.methods.privacy import shadow_attacks
from auditkit.methods.privacy.accounting import noise_multiplier_for
from auditkit.methods.privacy.dp_training import Settings, dp_train
from auditkit.methods.privacy.membership import dp_ceiling, membership_auc, tpr_at_fpr
from auditkit.subjects import torch_stacked
from auditkit.subjects.recipes import TorchRecipe
from auditkit.subjects.torch_stacked import train_sgd_stacked
from auditkit.subjects.torch_training import train_sgd

MODELS, TARGETS, ROWS, COLUMNS = 16, 4, 4000, 20
ATTACKS = {
    "LiRA offline": shadow_attacks.lira_offline,
    "LiRA online": shadow_attacks.lira_online,
    "RMIA": shadow_attacks.rmia,
    "BaVarIA": shadow_attacks.bavaria,
}


def mlp(outputs):
    return nn.Sequential(nn.Linear(COLUMNS, 128), nn.ReLU(), nn.Linear(128, outputs))


def deep(outputs):
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, outputs))


def cnn(outputs):
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(1152, outputs)
    )


class Tokens(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.embed, self.out = nn.Embedding(500, 32), nn.Linear(32, outputs)

    def forward(self, tokens):
        return self.out(self.embed(tokens).mean(dim=1))


class Attention(nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.embed, self.out = nn.Embedding(500, 32), nn.Linear(32, outputs)
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, tokens):
        hidden = self.embed(tokens)
        return self.out(self.attend(hidden, hidden, hidden, need_weights=False)[0].mean(dim=1))


CASES = {
    "MLP 2.9k weights, batch 100": (mlp, lambda: torch.randn(2000, COLUMNS), 10, 100),
    "MLP 6.3k weights, batch 64": (deep, lambda: torch.randn(2000, 30), 10, 64),
    "MLP 6.3k weights, batch 32": (deep, lambda: torch.randn(2000, 30), 10, 32),
    "embedding 16k weights, batch 64": (Tokens, lambda: torch.randint(0, 500, (2000, 30)), 10, 64),
    "CNN 20k weights, batch 64": (cnn, lambda: torch.randn(1000, 1, 28, 28), 2, 64),
    "attention 20k weights, batch 64": (Attention, lambda: torch.randint(0, 500, (1000, 30)), 2, 64),
}


def compared(name):
    """CPU seconds of the trainings one by one and together, their ratio, the gap of the weights and how it was done."""
    build, draw, epochs, batch = CASES[name]
    torch.manual_seed(0)
    x, rng = draw(), np.random.default_rng(0)
    y = rng.integers(0, 2, len(x))
    subsets = np.stack([np.flatnonzero(own) for own in shadow_attacks.halves(len(x), MODELS, rng)])
    recipe = TorchRecipe(name=name, build=build, epochs=epochs, batch_size=batch, learning_rate=0.05, momentum=0.9)
    seeds = list(range(MODELS))
    times = [[], []]
    for turn in range(4):
        begun = time.process_time()
        stacked, why = train_sgd_stacked(recipe, (x, y), subsets, n_outputs=2, seeds=seeds)
        between = time.process_time()
        single = [train_sgd(recipe, x[torch.from_numpy(s)], y[s], 2, k) for s, k in zip(subsets, seeds, strict=True)]
        if turn:  # the first turn warms up
            times[0].append(time.process_time() - between)
            times[1].append(between - begun)
    pairs = [(a.parameters(), b.parameters()) for a, b in zip(stacked, single, strict=True)]
    gap = max(float((p - q).detach().abs().max()) for own, other in pairs for p, q in zip(own, other, strict=True))
    return *np.median(times, axis=1), np.median(np.divide(times[0], times[1])), gap, why


def speed():
    print(f"| {MODELS} trainings | one by one, CPU s | stacked, CPU s | faster | weights differ by | how |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in CASES:
        one, together, ratio, gap, why = compared(name)
        print(f"| {name} | {one:.2f} | {together:.2f} | {ratio:.1f}x | {gap:.0e} | {why or 'together'} |", flush=True)
        if why is not None:
            with mock.patch.object(torch_stacked, "_SLOW_STACKED", ()):
                one, together, ratio, gap, why = compared(name)
            how = why or "forced into a stack"
            print(f"| {name} | {one:.2f} | {together:.2f} | {ratio:.1f}x | {gap:.0e} | {how} |", flush=True)


def table(seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    return torch.from_numpy(x), (x[:, :3].sum(axis=1) + rng.normal(size=ROWS) > 0).astype(np.int64)


def odds(module, x, y):
    with torch.no_grad():
        logits = module(x).double().numpy()
    return (logits[:, 1] - logits[:, 0]) * np.where(y == 1, 1.0, -1.0)


def attacks():
    x, y = table()
    inside = shadow_attacks.halves(ROWS, MODELS, np.random.default_rng(1), y)
    targets = shadow_attacks.halves(ROWS, TARGETS, np.random.default_rng(2), y)
    noise = noise_multiplier_for(1.0, sample_rate=0.1, steps=100, delta=1e-5)
    private = Settings(epochs=10, batch_size=200, learning_rate=0.5, max_grad_norm=1.0, noise_multiplier=noise)

    def plain(epochs):
        recipe = TorchRecipe(name="m", build=mlp, epochs=epochs, batch_size=100, learning_rate=0.1, momentum=0.9)

        def train(rows, seeds):
            chosen = np.stack([np.flatnonzero(own) for own in rows])
            return train_sgd_stacked(recipe, (x, y), chosen, n_outputs=2, seeds=seeds)[0]

        return train

    def by_dp(rows, seeds):
        codes = torch.from_numpy(y)
        return [
            dp_train(lambda: mlp(2), x[own], codes[own], private, seed=seed, n_classes=2).module
            for own, seed in zip(rows, seeds, strict=True)
        ]

    columns = ("model", "accuracy in / out", "attack", "TPR at 0.1 %", "TPR at 1 %", "AUC")
    print(f"\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name, train in {"over-fitted, 200 epochs": plain(200), "2 epochs": plain(2), "epsilon 1": by_dp}.items():
        begun = time.process_time()
        shadow = np.stack([odds(module, x, y) for module in train(inside, list(range(MODELS)))])
        spent = time.process_time() - begun
        own = [odds(module, x, y) for module in train(targets, list(range(50, 50 + TARGETS)))]
        right = [
            np.mean([(o > 0)[m == side].mean() for o, m in zip(own, targets, strict=True)]) for side in (True, False)
        ]
        for attack in ("loss", *ATTACKS):
            found = []
            for scores, member in zip(own, targets, strict=True):
                of = scores if attack == "loss" else ATTACKS[attack](scores, shadow, inside)
                rates = [tpr_at_fpr(of, member, rate).value for rate in (0.001, 0.01)]
                found.append([*rates, membership_auc(of, member)[0]])
            low, one, area = np.mean(found, axis=0)
            accuracy = f"{right[0]:.3f} / {right[1]:.3f}"
            print(
                f"| {name} | {accuracy} | {attack} | {100 * low:.2f} % | {100 * one:.2f} % | {area:.3f} |", flush=True
            )
        print(f"| {name} | | {MODELS} shadow models: {spent:.1f} CPU s | | | |", flush=True)
    low, one = (100 * dp_ceiling(rate, 1.0, 1e-5) for rate in (0.001, 0.01))
    print(f"\nCeiling of any attack at epsilon 1: {low:.2f} % and {one:.2f} %.")


if __name__ == "__main__":
    torch.set_num_threads(1)
    speed()
    attacks()
