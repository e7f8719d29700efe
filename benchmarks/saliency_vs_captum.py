"""Integrated gradients, occlusion and expected gradients against captum's own settings, in one process.

Integrated gradients: the same tolerance of completeness; captum takes one number of steps for all rows, the smallest
power of two that makes every row complete, at its fastest internal_batch_size. Occlusion: windows of many rows in one
batch against perturbations_per_eval of 1, 32 and 128, and against the bound that no method can beat: the module's own
forward pass of the masked inputs alone, in its fastest batches. Expected gradients: 50 background rows, 200 gradients a
row (4 points a path) against captum's GradientShap, errors against 64 points a path. Alternating rounds, best CPU time
of each. With --write the figures are committed to benchmarks/results/saliency.md.

Usage: OMP_NUM_THREADS=1 python benchmarks/saliency_vs_captum.py [--write]
"""

from __future__ import annotations

import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from captum.attr import GradientShap, IntegratedGradients, Occlusion
from torch import nn

from auditkit.methods.explain.captum_engine import integrated_gradients
from auditkit.methods.explain.differentiable import Differentiated
from auditkit.methods.explain.expected_gradients import expected_gradients
from auditkit.methods.explain.occlusion import occlusion, occlusion_windows

RESULT = Path(__file__).parent / "results" / "saliency.md"
ROUNDS, ROWS, TOLERANCE = 3, 32, 0.01


def mlp():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)).eval()
    return "MLP, 30 inputs", module, torch.randn(ROWS, 30)


def cnn():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 2),
    ).eval()
    return "CNN, 1 x 28 x 28", module, torch.rand(ROWS, 1, 28, 28)


def alternating(*runs):
    spent = []
    for _ in range(ROUNDS):
        spent.append([])
        for run in runs:
            start = time.process_time()
            run()
            spent[-1].append((time.process_time() - start) / ROWS * 1e3)
    return [min(times) for times in zip(*spent, strict=True)]


def paths(name, module, x):
    base = torch.zeros_like(x[:1])
    subject = Differentiated(module=module, forward=module, targets=np.zeros(ROWS, dtype=np.int64))
    found = integrated_gradients(subject, x, base, tolerance=TOLERANCE)
    engine, limit, steps = IntegratedGradients(module), found.diagnostics["completeness_limit"], 16

    def theirs(size, steps):
        return lambda: engine.attribute(x, base, target=0, n_steps=steps, internal_batch_size=size)

    while steps < 512:
        change = (module(x) - module(base))[:, 0].detach()
        total = theirs(None, steps)().reshape(ROWS, -1).sum(dim=1).detach()
        if float((total - change).abs().max()) <= limit:
            break
        steps *= 2
    sizes = (64, 256, 1024, None)
    ours, *rest = alternating(
        lambda: integrated_gradients(subject, x, base, tolerance=TOLERANCE), *(theirs(size, steps) for size in sizes)
    )
    fastest = int(np.argmin(rest))
    return (
        f"| {name} | {ours:.2f} | {rest[fastest]:.2f} ({steps} steps, internal_batch_size {sizes[fastest]}) "
        f"| {rest[fastest] / ours:.2f} | {found.n_evals / ROWS:.0f} |"
    )


def windows(name, module, x, window, stride):
    base = torch.zeros_like(x[:1])
    subject = Differentiated(module=module, forward=module, targets=np.zeros(ROWS, dtype=np.int64))
    engine = Occlusion(module)

    def theirs(count):
        def run():
            with torch.no_grad():
                return engine.attribute(x, window, stride, base, target=0, perturbations_per_eval=count)

        return run

    places = torch.from_numpy(occlusion_windows(tuple(x.shape[1:]), window, stride))
    masked = torch.where(places, base[:, None], x[:, None]).reshape(-1, *x.shape[1:])

    def forward(size):
        def run():
            with torch.no_grad():
                return [module(part) for part in masked.split(size)]

        return run

    found = occlusion(subject, x, base, window=window, stride=stride)
    gap = np.abs(found.values[..., 0] - theirs(128)().numpy()).max()
    ours, one, some, many, *alone = alternating(
        lambda: occlusion(subject, x, base, window=window, stride=stride),
        *(theirs(count) for count in (1, 32, 128)),
        *(forward(size) for size in (64, 128, 256, len(masked))),
    )
    return (
        f"| {name}, window {window} by {stride} | {ours:.2f} | {one:.2f} | {some:.2f} | {many:.2f} "
        f"| {one / ours:.1f} | {some / ours:.1f} | {many / ours:.1f} | {min(alone):.2f} | {ours / min(alone):.1f} "
        f"| {min(one, some, many) / min(alone):.1f} | {gap:.0e} |"
    )


def gradients(name, module, x):
    torch.manual_seed(1)
    background, x = torch.randn(50, *x.shape[1:]), x[:16]
    subject = Differentiated(module=module, forward=module, targets=np.zeros(len(x), dtype=np.int64))
    truth = expected_gradients(subject, x, background, tolerance=1e-9, max_steps=64).values[..., 0]
    engine = GradientShap(module)

    def ours():
        return expected_gradients(subject, x, background, tolerance=1.0).values[..., 0]

    def theirs(samples):
        def run():
            torch.manual_seed(0)
            return engine.attribute(x, background, n_samples=samples, stdevs=0.0, target=0).numpy()

        return run

    def error(values):
        return float(np.sqrt(((values - truth) ** 2).mean() / (truth**2).mean()))

    mine, few, many = (t * ROWS / len(x) for t in alternating(ours, theirs(200), theirs(3200)))
    errors = [error(run()) for run in (ours, theirs(200), theirs(3200))]
    slope = np.log(many / few) / np.log(errors[2] / errors[1])
    equal = float(few * (errors[0] / errors[1]) ** slope)
    return (
        f"| {name} | {mine:.2f} | {errors[0]:.2g} | {few:.2f} | {errors[1]:.2g} | {many:.1f} | {errors[2]:.2g} "
        f"| {equal / mine:.1f} |"
    )


def lines():
    yield "# Integrated gradients and occlusion against captum"
    yield ""
    yield f"CPU milliseconds a row, one process, one thread, best of {ROUNDS} alternating rounds of {ROWS} rows."
    yield f"2 cores x86-64, Python 3.11, torch {version('torch')}, captum {version('captum')}."
    yield "Made by `python benchmarks/saliency_vs_captum.py --write`."
    yield ""
    yield f"Integrated gradients to the same completeness ({TOLERANCE:.0%} of the mean change):"
    yield ""
    yield "| model | auditkit, ms | captum at its fastest, ms | ratio | steps a row, auditkit |"
    yield "| --- | --- | --- | --- | --- |"
    yield paths(*mlp())
    yield paths(*cnn())
    yield ""
    yield "Occlusion; captum with 1, 32 and 128 windows a call. The bound is the module's own forward pass of the"
    yield "masked inputs, in the fastest of four batch sizes; only what is above it can be saved."
    yield ""
    yield (
        "| model | auditkit, ms | 1 | 32 | 128 | ratio 1 | ratio 32 | ratio 128 | bound | auditkit to bound "
        "| captum's best to bound | largest difference |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    yield windows(*mlp(), (1,), (1,))
    yield windows(*cnn(), (1, 4, 4), (1, 2, 2))
    yield windows(*cnn(), (1, 7, 7), (1, 7, 7))
    yield ""
    yield "Expected gradients over 50 background rows; captum's GradientShap at our error from its own two points:"
    yield ""
    yield "| model | auditkit, ms | error | captum, 200 | error | captum, 3,200 | error | ratio at our error |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    yield gradients(*mlp())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    text = "\n".join(lines()) + "\n"
    print(text, end="")
    if "--write" in sys.argv:
        RESULT.write_text(text)
