"""PGD-40 of auditkit beside ART, foolbox and torchattacks: CPU time, rows asked and robust accuracy on the same points.

Every attack has the same radius, steps, step size and a random start; each is timed in turn in every round, and its
least CPU time counts. Points of every attack are decided afresh by the network; each round has other random starts, and
robust accuracy is the mean over rounds. foolbox and torchattacks are no
dependencies: install foolbox==3.3.4 and torchattacks==3.5.1 (--no-deps) beside auditkit[torch,robustness].
Run: python benchmarks/attacks_vs_peers.py
"""

import time

import foolbox
import numpy as np
import torch
import torchattacks
from sklearn.datasets import load_digits

from auditkit.methods.robustness import pgd
from auditkit.methods.robustness.art_engine import load

STEPS, ROUNDS, ROWS = 40, 7, 256


class Counted(torch.nn.Module):
    """A network that counts the rows passed through it."""

    def __init__(self, net):
        super().__init__()
        self.net, self.rows = net, 0

    def forward(self, x):
        self.rows += len(x)
        return self.net(x)


def trained(x, y, eps):
    """A convolutional network, on attacked points where ``eps`` is above 0."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(512, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 10),
    )
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    for epoch in range(20):
        for rows in torch.randperm(len(x)).split(100):
            points = x[rows]
            if eps:
                points = pgd(net, points, y[rows], eps=eps, steps=5, early_stop=False, seed=epoch).adversarial
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(points), y[rows]).backward()
            optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return net.eval()


def attacks(net, x, y, eps):
    """Name -> a function of the round that gives adversarial points."""
    step = eps / 8
    wrapped = load("art.estimators.classification").PyTorchClassifier(
        net, torch.nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=10, clip_values=(0.0, 1.0)
    )
    descent = load("art.attacks.evasion").ProjectedGradientDescent
    settings = {"eps": eps, "eps_step": step, "max_iter": STEPS, "num_random_init": 1, "verbose": False}
    art = descent(wrapped, **settings)
    art_whole = descent(wrapped, batch_size=len(x), **settings)
    box = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    fool = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=STEPS, random_start=True)
    torch_attack = torchattacks.PGD(net, eps=eps, alpha=step, steps=STEPS, random_start=True)
    common = {"eps": eps, "steps": STEPS, "step_size": step}
    return {
        "ART (batches of 32, its default)": lambda turn: torch.from_numpy(art.generate(x.numpy(), y=y.numpy())),
        "ART (one batch)": lambda turn: torch.from_numpy(art_whole.generate(x.numpy(), y=y.numpy())),
        "foolbox": lambda turn: fool(box, x, y, epsilons=eps)[1],
        "torchattacks": lambda turn: torch_attack(x, y),
        "auditkit": lambda turn: pgd(net, x, y, seed=turn, **common).adversarial,
        "auditkit, every step of every row": lambda turn: (
            pgd(net, x, y, seed=turn, early_stop=False, **common).adversarial
        ),
    }


def race(title, net, x, y, eps):
    """Run all in turn and print one table."""
    net = Counted(net).eval()
    runs = attacks(net, x, y, eps)
    times, asked, left = {name: [] for name in runs}, {}, {name: [] for name in runs}
    for turn in range(ROUNDS):
        for name in list(runs) if turn % 2 == 0 else reversed(list(runs)):
            torch.manual_seed(turn)
            np.random.seed(turn)  # noqa: NPY002 - ART draws from the global generator
            net.rows, begun = 0, time.process_time()
            points = runs[name](turn)
            times[name].append(time.process_time() - begun)
            asked[name] = net.rows
            with torch.no_grad():
                left[name].append(int((net(points).argmax(1) == y).sum()))
            assert float((points - x).abs().max()) <= eps + 1e-6
            net.zero_grad(set_to_none=True)
    clean = int((net(x).argmax(1) == y).sum())
    base = min(times["ART (batches of 32, its default)"])
    print(f"\n### {title}: eps {eps}, {len(x)} rows, clean accuracy {clean / len(x):.3f}\n")
    print("| attack | CPU s | ART's default / this | rows asked | robust accuracy |\n|---|---|---|---|---|")
    for name, spent in times.items():
        stands = np.mean(left[name]) / len(x)
        print(f"| {name} | {min(spent):.2f} | {base / min(spent):.2f}x | {asked[name]:,} | {stands:.4f} |")
    rival = min(min(times["foolbox"]), min(times["torchattacks"]))
    print(f"\nBest of foolbox and torchattacks / auditkit: {rival / min(times['auditkit']):.2f}x; ", end="")
    print(f"with every step of every row: {rival / min(times['auditkit, every step of every row']):.2f}x.")
    whole = min(times["auditkit, every step of every row"])
    told = ", ".join(f"{min(spent) / whole:.2f}x {name}" for name, spent in list(times.items())[:4])
    print(f"At equal steps, every step of every row: {told}.")
    both = np.minimum(times["foolbox"], times["torchattacks"])
    paired = [np.median(both / np.array(times[name])) for name in list(runs)[-2:]]
    print(f"Median over rounds, round against round: {paired[0]:.2f}x and {paired[1]:.2f}x.")


def main():
    torch.set_num_threads(1)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x = torch.from_numpy((digits.images / 16).astype(np.float32))[order][:, None]
    y = torch.from_numpy(digits.target)[order]
    for title, training in (("standard training", 0.0), ("adversarial training", 0.08)):
        net = trained(x[:1200], y[:1200], training)
        for eps in (0.1, 0.15):
            race(title, net, x[1200 : 1200 + ROWS], y[1200 : 1200 + ROWS], eps)


if __name__ == "__main__":
    main()
