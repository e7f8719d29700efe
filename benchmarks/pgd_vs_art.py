"""PGD-40 of auditkit against ART's, same points and eps: CPU time, model evaluations and robust accuracy.

Run: python benchmarks/pgd_vs_art.py
"""

import copy
import time

import numpy as np
import torch
from sklearn.datasets import load_digits

from auditkit.methods.robustness.art_engine import load
from auditkit.methods.robustness.projected_gradient import pgd


def trained(x, y):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(2048, 10),
    )
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net.eval()


def main(rounds=3, eps=0.1):
    torch.set_num_threads(1)
    digits = load_digits()
    x = torch.from_numpy((digits.images / 16).astype(np.float32))[:, None]
    y = torch.from_numpy(digits.target)
    net = trained(x[:1200], y[:1200])
    x, y = x[1200:1456], y[1200:1456]
    estimators = load("art.estimators.classification")
    evasion = load("art.attacks.evasion")
    wrapped = estimators.PyTorchClassifier(
        copy.deepcopy(net), torch.nn.CrossEntropyLoss(), input_shape=(1, 8, 8), nb_classes=10, clip_values=(0.0, 1.0)
    )
    theirs = evasion.ProjectedGradientDescent(wrapped, eps=eps, eps_step=eps / 8, max_iter=40, verbose=False)
    times = {"art": [], "auditkit": [], "auditkit, all steps": []}
    standing = {}
    for _ in range(rounds):
        begun = time.process_time()
        points = torch.from_numpy(theirs.generate(x.numpy(), y=y.numpy()))
        times["art"].append(time.process_time() - begun)
        with torch.no_grad():
            standing["art"] = int((net(points).argmax(1) == y).sum())
        for name, early in (("auditkit", True), ("auditkit, all steps", False)):
            begun = time.process_time()
            found = pgd(net, x, y, eps=eps, steps=40, early_stop=early)
            times[name].append(time.process_time() - begun)
            standing[name] = int((~found.success).sum())
    base = min(times["art"])
    for name, spent in times.items():
        print(
            f"{name:22s} CPU s {min(spent):6.2f}  ratio {base / min(spent):5.2f}x  standing {standing[name]}/{len(x)}"
        )


if __name__ == "__main__":
    main()
