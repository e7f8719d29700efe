"""AutoAttack of auditkit against its authors' own code: same networks, rows, radii and budgets.

Reports robust accuracy of both, rows passed through the model by both (forward passes of single rows, counted in the
model itself), by attack too, and CPU seconds. The reference is https://github.com/fra31/auto-attack, on the path.
With two classes its targeted DLR loss is not defined, so that the reference then runs APGD-CE, FAB-T and Square.
The second table holds the least that any order of the attacks must ask under l2: the rows that no attack fools get the
whole of each, and hardly any proposal of Square repeats there.

Run: python benchmarks/autoattack_agreement.py [--rows 1000] [--data FOLDER_WITH_PNEUMONIAMNIST_NPZ]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from autoattack import AutoAttack
from sklearn.datasets import load_digits

from auditkit.methods.robustness import autoattack, pgd

NAMES = {"linf": "Linf", "l2": "L2"}


class Counted(torch.nn.Module):
    """A network that counts the rows it is asked about."""

    def __init__(self, net):
        super().__init__()
        self.net, self.rows = net, 0

    def forward(self, x):
        self.rows += len(x)
        return self.net(x)


def network(side, classes, seed):
    torch.manual_seed(seed)
    stride = 2 if side > 10 else 1
    left = side // (2 * stride)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1, stride=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 8, 3, padding=1, stride=stride),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(8 * left * left, classes),
    )


def trained(x, y, eps, norm, *, adversarial, epochs, seed=0):
    """A network fitted on clean rows, or on rows attacked by five steps of PGD."""
    net = network(x.shape[-1], int(y.max()) + 1, seed)
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            points = x[rows]
            if adversarial:
                settings = {"eps": eps, "norm": norm, "steps": 5, "early_stop": False, "seed": epoch}
                points = pgd(net, points, y[rows], **settings).adversarial
            net.train()
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(points), y[rows]).backward()
            optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return net.eval()


def digits():
    data = load_digits()
    x = torch.from_numpy((data.images / 16).astype(np.float32))[:, None]
    y = torch.from_numpy(data.target)
    return (x[1000:], y[1000:]), (x[:1000], y[:1000])


def xrays(folder):
    data = np.load(Path(folder) / "pneumoniamnist.npz")

    def part(*names):
        x = np.concatenate([data[f"{name}_images"] for name in names]).astype(np.float32)[:, None] / 255
        y = np.concatenate([data[f"{name}_labels"] for name in names]).reshape(-1).astype(np.int64)
        return torch.from_numpy(x), torch.from_numpy(y)

    return part("train"), part("test", "val")


def theirs(net, x, y, eps, norm, classes):
    counted = Counted(net)
    attack = AutoAttack(counted, norm=NAMES[norm], eps=eps, version="standard", device="cpu", verbose=False, seed=0)
    if classes < 4:
        attack.version, attack.attacks_to_run = "custom", ["apgd-ce", "fab-t", "square"]
    attack.fab.n_target_classes = attack.apgd_targeted.n_target_classes = min(9, classes - 1)
    asked = {}
    for name, part in (("apgd-ce", "apgd"), ("apgd-t", "apgd_targeted"), ("fab-t", "fab"), ("square", "square")):
        by_attack(counted, asked, name, getattr(attack, part))
    begun = time.process_time()
    points = attack.run_standard_evaluation(x, y, bs=500)
    spent, rows = time.process_time() - begun, counted.rows
    with torch.no_grad():
        return net(points).argmax(1) == y, rows, spent, asked


def by_attack(counted, asked, name, attack):
    """Let an attack of the reference note how many rows it asks."""
    perturb = attack.perturb

    def noted(*given, **named):
        before = counted.rows
        found = perturb(*given, **named)
        asked[name] = asked.get(name, 0) + counted.rows - before
        return found

    attack.perturb = noted


def ours(net, x, y, eps, norm):
    counted = Counted(net)
    begun = time.process_time()
    found = autoattack(counted, x, y, eps=eps, norm=norm, version="standard")
    spent = time.process_time() - begun
    assert counted.rows == found.n_evaluations
    return ~found.success, counted.rows, spent, found.parts


def main(rows, folder):
    torch.set_num_threads(1)
    settings = [("digits", digits(), "linf", 0.1)]
    if folder:
        settings.append(("PneumoniaMNIST", xrays(folder), "linf", 0.03))
    settings.append(("digits", digits(), "l2", 0.6))
    print(
        "| data | training | norm | eps | n | clean | robust, authors | robust, auditkit | rows asked, authors | "
        "rows asked, auditkit | ratio | CPU ratio |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    by_part = []
    for name, (train, test), norm, eps in settings:
        for adversarial in (False, True):
            epochs = (60 if adversarial else 30) if name == "digits" else 4
            net = trained(*train, eps, norm, adversarial=adversarial, epochs=epochs)
            x, y = test[0][:rows], test[1][:rows]
            with torch.no_grad():
                clean = float((net(x).argmax(1) == y).double().mean())
            mine, asked, spent, parts = ours(net, x, y, eps, norm)
            reference, their_asked, their_spent, their_parts = theirs(net, x, y, eps, norm, int(y.max()) + 1)
            print(
                f"| {name} | {'adversarial' if adversarial else 'standard'} | {norm} | {eps} | {len(x)} | "
                f"{clean:.3f} | {float(reference.double().mean()):.3f} | {float(mine.double().mean()):.3f} | "
                f"{their_asked:,} | {asked:,} | {their_asked / asked:.2f}x | {their_spent / spent:.2f}x |",
                flush=True,
            )
            title = f"{name}, {'adversarial' if adversarial else 'standard'}, {norm}"
            for part in parts:
                told = f"{their_parts[part.name]:,}" if part.name in their_parts else "not run"
                by_part.append(
                    f"| {title} | {part.name} | {part.attacked} | {part.fooled} | {told} | {part.n_evaluations:,} | "
                    f"{part.n_evaluations / their_asked:.2f} |"
                )
    print(
        "\n| case | attack | rows attacked | rows fooled | rows asked, authors | rows asked, auditkit | "
        "of all that the authors' asks |"
    )
    print("|---|---|---|---|---|---|---|")
    print("\n".join(by_part))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1148)
    parser.add_argument("--data", default="")
    given = parser.parse_args()
    main(given.rows, given.data)
