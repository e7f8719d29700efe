"""How often the backdoor scan finds a planted patch and its class, and how often it suspects clean networks.

Networks are those of tests/robustness/backdoored.py. Run: python benchmarks/backdoor_scan.py [seeds]
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "robustness"))

from backdoored import patched, trained, unseen

from auditkit.methods.robustness.trigger_scan import SUSPECT_INDEX, outlier_indices, scan_triggers
from auditkit.stats.intervals import clopper_pearson


def scanned(net, seed, classes):
    images = torch.from_numpy(unseen(classes)[0])
    begun = time.process_time()
    bounds = (torch.zeros(1, 8, 8), torch.ones(1, 8, 8))
    found = scan_triggers(net, images[:200], images[200:400], bounds=bounds, seed=seed)
    return outlier_indices(found.sizes.tolist()), time.process_time() - begun


def row(classes, share, seeds):
    hits, others, indices, spent = 0, 0, [], []
    images, labels = unseen(classes)
    for seed in range(seeds):
        target = None if share is None else seed % classes
        net = trained(seed, target, share=share or 0.0, classes=classes, epochs=20)
        index, seconds = scanned(net, seed, classes)
        suspects = set(np.flatnonzero(index > SUSPECT_INDEX).tolist())
        hits += target in suspects
        others += bool(suspects - {target})
        indices.append(float(index.max()))
        spent.append(seconds)
        with torch.no_grad():
            right = float((net(torch.from_numpy(images)).argmax(dim=1).numpy() == labels).mean())
            works = float("nan")
            if target is not None:
                works = float((net(torch.from_numpy(patched(images))).argmax(dim=1) == target).double().mean())
        print(
            classes,
            share,
            seed,
            target,
            sorted(suspects),
            f"{index.max():.2f} {right:.3f} {works:.3f}",
            file=sys.stderr,
        )
    ends = clopper_pearson(others, seeds, 0.95)
    kind = "clean" if share is None else f"patch on {share:.0%}"
    print(
        f"| {classes} | {kind} | {seeds} | {'' if share is None else hits} "
        f"| {others} ({ends.low:.2f} to {ends.high:.2f}) | {min(indices):.1f} to {max(indices):.1f} "
        f"| {np.mean(spent):.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    torch.set_num_threads(1)
    print("| classes | networks | n | planted class found | with another class suspected | largest index | CPU s |")
    print("|---|---|---|---|---|---|---|")
    for classes, share in ((10, None), (10, 0.1), (10, 0.05), (5, None)):
        row(classes, share, seeds)
