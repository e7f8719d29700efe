"""A private training step against plain SGD and against opacus: CPU time and peak memory as ratios.

Each round times one step (forward, backward, clip, noise, update) of every engine in turn in one process, one thread;
the figure is the median over rounds of the ratio to plain SGD in the same round. Memory: largest sum of live
allocations during a step, by the profiler, above what was live before.

Run: python benchmarks/dp_overhead.py
"""

import copy
import statistics
import time
import warnings

import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping
from torch import nn

from auditkit.methods.memory import keep_freed_memory
from auditkit.methods.privacy.dp_gradient import clipping, summed_loss, trainable
from auditkit.methods.privacy.dp_model import dp_ready
from auditkit.methods.privacy.dp_step import descent, noisy_mean


def mlp():
    return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


def wide_mlp():
    return nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 400), nn.ReLU(), nn.Linear(400, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, 2, 2),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 36, 10),
    )


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(500, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(64, 2)

    def forward(self, tokens):
        return self.out(self.encoder(self.embed(tokens)).mean(dim=1))


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.out = nn.Embedding(500, 32), nn.LSTM(32, 64, batch_first=True), nn.Linear(64, 2)

    def forward(self, tokens):
        return self.out(self.lstm(self.embed(tokens))[0][:, -1])


CASES = {
    "MLP 6k, batch 512": (mlp, lambda: torch.randn(512, 30), 2),
    "MLP 275k, batch 512": (wide_mlp, lambda: torch.randn(512, 128), 10),
    "CNN 20k, batch 256": (cnn, lambda: torch.randn(256, 1, 28, 28), 10),
    "transformer 100k, batch 64": (Transformer, lambda: torch.randint(0, 500, (64, 32)), 2),
    "LSTM 41k, batch 128": (Lstm, lambda: torch.randint(0, 500, (128, 32)), 2),
}


def plain(module, x, y, k):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)

    def step():
        optimizer.zero_grad(set_to_none=True)
        (summed_loss(module, x, y, k) / len(x)).backward()
        optimizer.step()

    return step


def ours(module, x, y, k):
    parameters = trainable(module)
    noise = torch.Generator().manual_seed(0)
    contexts = descent(parameters, 0.01, 0.0), clipping(module, parameters, "ghost", 1.0, k)
    descend, clipped = (context.__enter__() for context in contexts)

    def step():
        sums, _ = clipped(x, y)
        descend(noisy_mean(sums, 1.0, len(x), noise))

    step.contexts = contexts  # their hooks live as long as the step
    return step


def opacus_rows(mode):
    def make(module, x, y, k):
        options = {"force_functorch": True} if mode == "functorch" else {}
        wrapped = GradSampleModule(module, batch_first=True, loss_reduction="mean", **options)
        optimizer = DPOptimizer(
            torch.optim.SGD(wrapped.parameters(), lr=0.01),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_batch_size=len(x),
        )

        def step():
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(wrapped(x), y).backward()
            optimizer.step()

        return step

    return make


def opacus_ghost(module, x, y, k):
    wrapped = GradSampleModuleFastGradientClipping(
        module, batch_first=True, loss_reduction="mean", max_grad_norm=1.0, use_ghost_clipping=True
    )
    optimizer = DPOptimizerFastGradientClipping(
        torch.optim.SGD(wrapped.parameters(), lr=0.01),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_batch_size=len(x),
    )
    criterion = DPLossFastGradientClipping(wrapped, optimizer, nn.CrossEntropyLoss(reduction="mean"))

    def step():
        optimizer.zero_grad(set_to_none=True)
        criterion(wrapped(x), y).backward()
        optimizer.step()

    return step


ENGINES = {
    "plain SGD": plain,
    "auditkit": ours,
    "opacus hooks": opacus_rows("hooks"),
    "opacus functorch": opacus_rows("functorch"),
    "opacus ghost": opacus_ghost,
}


def peak(step):
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    live = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most / 2**20


def measure(case, rounds=15):
    build, draw, k = CASES[case]
    torch.manual_seed(0)
    x = draw()
    y = torch.randint(0, k, (len(x),))
    original = build()
    ready, _ = dp_ready(original, x[:4])
    steps = {}
    for name, make in ENGINES.items():
        # Plain SGD trains the module as its author wrote it, with torch's own fused layers.
        steps[name] = make(copy.deepcopy(original if name == "plain SGD" else ready).train(), x, y, k)
    times = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            begun = time.process_time()
            for _ in range(3):
                step()
            if turn >= 2:
                times[name].append((time.process_time() - begun) / 3)
    memory = {name: peak(step) for name, step in steps.items()}
    print(f"| {case} | {1e3 * statistics.median(times['plain SGD']):.1f} ms, {memory['plain SGD']:.1f} MB", end=" ")
    for name in list(steps)[1:]:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["plain SGD"], strict=True))
        print(f"| {ratio:.2f}x, {memory[name] / memory['plain SGD']:.1f}x", end=" ")
    print("|", flush=True)


def main():
    torch.set_num_threads(1)
    keep_freed_memory()  # as dp_train does
    warnings.simplefilter("ignore")
    print("| model | " + " | ".join(ENGINES) + " |\n|" + " --- |" * (len(ENGINES) + 1))
    for case in CASES:
        measure(case)


if __name__ == "__main__":
    main()
