"""Robust training by our loops and by the trainers of the Adversarial Robustness Toolbox: time and robust accuracy.

Usage: python benchmarks/training_vs_art.py [--seeds 2] [--epochs 5] [--rows 300] [--out FILE]

Both train the digits network of `examples/digits` from the same initial weights with the same epochs, batch size, rate,
eps, steps and step size, in turns, in one process and one thread. Every model is then judged by one attack that neither
trained against: PGD on the margin with 50 steps, then AutoAttack's short set ("fast") on what still stands. The luck of
a training moves robust accuracy by several points, so the engines are compared by their difference over seeds, with
Student's limits.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import t

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples" / "digits"))

import model as digits  # noqa: E402

from auditkit.methods.robustness import autoattack, pgd  # noqa: E402
from auditkit.methods.robustness.art_training import train_with_toolbox  # noqa: E402
from auditkit.methods.robustness.robust_training import Lesson, RobustSettings, train_robust  # noqa: E402

EPS = 0.1
ENGINES = {"own": train_robust, "ART": train_with_toolbox}


def settings(way: str, epochs: int) -> RobustSettings:
    return RobustSettings(way=way, epochs=epochs, batch_size=64, learning_rate=0.1, momentum=0.9, eps=EPS, noise=EPS)


def judged(module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Clean accuracy, and accuracy under both attacks together."""
    right = module(x).argmax(dim=1) == y
    fallen = pgd(module, x, y, eps=EPS, steps=50, loss="margin").success
    left = ~fallen
    fallen[left.clone()] = autoattack(module, x[left], y[left], eps=EPS, version="fast").success
    return float(right.float().mean()), float((~fallen).float().mean())


def measure(seeds: int, epochs: int, n: int) -> list[tuple[str, str, float, float, float]]:
    train, test = digits.train_images(), digits.test_images()
    x, y = torch.tensor(train["inputs"]), torch.tensor(train["digit"]).long()
    x_test, y_test = torch.tensor(test["inputs"])[:n], torch.tensor(test["digit"]).long()[:n]
    rows = []
    for seed in range(seeds):
        for way in ("standard", "noise", "pgd", "trades", "fast"):
            lesson = Lesson(x=x, y=y, n_classes=10)
            for name, train_it in ENGINES.items():
                if name == "ART" and way in ("standard", "noise"):
                    continue
                begun = time.process_time()
                made = train_it(lambda: digits.Digits(10), lesson, settings(way, epochs), seed=seed)
                spent = time.process_time() - begun
                clean, robust = judged(made.module, x_test, y_test) if made.module is not None else (0.0, 0.0)
                rows.append((way, name, spent, clean, robust))
                print(seed, way, name, f"{spent:.1f} s, clean {clean:.3f}, robust {robust:.3f}", flush=True)
    return rows


def limits(differences: np.ndarray) -> str:
    """Student's 95 % limits of a mean."""
    n = len(differences)
    if n < 2:
        return "none from one seed"
    half = float(t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return f"{differences.mean() - half:+.3f} to {differences.mean() + half:+.3f}"


def page(rows: list[tuple[str, str, float, float, float]], seeds: int, epochs: int, n: int) -> str:
    lines = [
        "# Robust training, ours and the toolbox's",
        "",
        f"`python benchmarks/training_vs_art.py --seeds {seeds} --epochs {epochs} --rows {n}` on "
        f"{platform.machine()}, one thread, torch {torch.__version__}: the digits network, linf {EPS}, batches of 64, "
        f"rate 0.1, momentum 0.9, 10 steps of eps/4, {seeds} seeds, {n} test images. Least CPU seconds of a training; "
        "accuracy by an attack that neither trained against: mean, and range over seeds.",
        "",
        "| way | engine | CPU s | times standard | clean accuracy | robust accuracy | range of robust |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    base = min(row[2] for row in rows if row[0] == "standard")
    for way, name in dict.fromkeys((row[0], row[1]) for row in rows):
        mine = np.array([row[2:] for row in rows if row[:2] == (way, name)])
        clean, robust = mine[:, 1:].mean(axis=0)
        spent = mine[:, 0].min()
        ends = f"{mine[:, 2].min():.3f} to {mine[:, 2].max():.3f}"
        lines.append(f"| {way} | {name} | {spent:.1f} | {spent / base:.1f} | {clean:.3f} | {robust:.3f} | {ends} |")
    lines += ["", "| way | robust accuracy, own less ART, over seeds | 95 % limits |", "| --- | --- | --- |"]
    for way in dict.fromkeys(row[0] for row in rows if row[1] == "ART"):
        own, art = (np.array([row[4] for row in rows if row[:2] == (way, name)]) for name in ENGINES)
        lines.append(f"| {way} | {(own - art).mean():+.3f} | {limits(own - art)} |")
    lines += [
        "",
        "The toolbox (1.20.1) takes each batch through numpy and takes weight gradients in the attack; its TRADES "
        "trains against the cross-entropy, not the divergence, and its fast trainer sets its own learning rate and "
        'clips gradients. Ours is the default; `engine = "art"` keeps the toolbox\'s to choose. Where the limits hold '
        "0, which engine trains the more robust model is open.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = page(measure(args.seeds, args.epochs, args.rows), args.seeds, args.epochs, args.rows)
    print(text)
    if args.out is not None:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
