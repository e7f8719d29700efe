"""A whole privacy curve: ten seeds of five arms (no privacy, epsilon 8, 3, 1, 0.5), 10,000 rows by 30 columns.

CPU time of the 50 trainings with their pre-flight checks, and apart from it of the accounting that finds the noise. The
labels of a twentieth of the rows follow another rule, so that the last columns show who pays.

Run: python benchmarks/dp_curve.py
"""

import time

import numpy as np
import torch
from torch import nn

from auditkit.methods.privacy.accounting import noise_multiplier_for
from auditkit.methods.privacy.dp_training import Settings, dp_train, predict_codes

ROWS, COLUMNS, SEEDS, BATCH, EPOCHS = 10_000, 30, 10, 512, 20
EPSILONS = ("inf", 8.0, 3.0, 1.0, 0.5)


def mlp():
    return nn.Sequential(nn.Linear(COLUMNS, 64), nn.ReLU(), nn.Linear(64, 2))


def table(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    few = rng.random(ROWS) < 0.05
    x[:, -1] = np.where(few, 2.0, -2.0)
    merit = np.where(few, x[:, 3:6].sum(axis=1), x[:, :3].sum(axis=1)) + rng.normal(size=ROWS)
    return torch.from_numpy(x), torch.from_numpy((merit > 0).astype(np.int64)), few


def main():
    torch.set_num_threads(1)
    x, y, _ = table(0)
    x_test, y_test, few = table(1)
    steps = Settings(epochs=EPOCHS, batch_size=BATCH, learning_rate=1.0).steps(ROWS)
    begun = time.process_time()
    noises = {
        target: noise_multiplier_for(target, sample_rate=BATCH / ROWS, steps=steps, delta=1e-5)
        for target in EPSILONS[1:]
    }
    accounting = time.process_time() - begun
    print("| epsilon | noise | accuracy | of the many | of the few | CPU s |\n|" + " --- |" * 6)
    total = 0.0
    for target in EPSILONS:
        plain = target == "inf"
        settings = Settings(
            epochs=EPOCHS,
            batch_size=BATCH,
            learning_rate=0.2 if plain else 0.5,
            max_grad_norm=None if plain else 1.0,
            noise_multiplier=0.0 if plain else noises[target],
        )
        begun, right = time.process_time(), []
        for seed in range(SEEDS):
            module = dp_train(mlp, x, y, settings, seed=seed, n_classes=2).module
            right.append(predict_codes(module, x_test, 2) == y_test.numpy())
        spent = time.process_time() - begun
        total += spent
        means = [np.mean(right), np.mean(np.array(right)[:, ~few]), np.mean(np.array(right)[:, few])]
        noise = "" if plain else f"{noises[target]:.3f}"
        print(f"| {target} | {noise} | {' | '.join(f'{m:.3f}' for m in means)} | {spent:.1f} |", flush=True)
    print(
        f"\n{len(EPSILONS) * SEEDS} trainings of {steps} steps: {total:.1f} CPU s; the noise: {accounting:.1f} CPU s."
    )


if __name__ == "__main__":
    main()
