"""Group metrics: auditkit's counts against fairlearn's MetricFrame, on the same rows in one run.

Ten metrics, 24 intersectional groups (6 x 4). Prints CPU seconds and ratios and, with --write, commits them to
benchmarks/results/fairness.md.

Usage: python benchmarks/fairness_vs_fairlearn.py [--write]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import fairlearn.metrics as fl
import numpy as np
import pandas as pd
from sklearn import metrics as sk

from auditkit.methods.fairness import bootstrap_metrics, count_groups, group_metrics

METRICS = {
    "true_positive_rate": fl.true_positive_rate,
    "false_positive_rate": fl.false_positive_rate,
    "false_negative_rate": fl.false_negative_rate,
    "true_negative_rate": fl.true_negative_rate,
    "selection_rate": fl.selection_rate,
    "accuracy": sk.accuracy_score,
    "positive_predictive_value": sk.precision_score,
    "f1": sk.f1_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "error_rate": sk.zero_one_loss,
}
NAMES = tuple(METRICS)
RACE = np.array(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"], dtype=object)
REGION = np.array(["north", "south", "east", "west"], dtype=object)
RESULT = Path(__file__).parent / "results" / "fairness.md"


def rows(n: int):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, n)
    p = np.where(rng.random(n) < 0.7, y, 1 - y)
    return y, p, rng.integers(0, 6, n), rng.integers(0, 4, n)


def ours(y, p, race, region):
    return group_metrics(count_groups(y, p, {"race": race, "region": region}, intersections=2), NAMES)


def theirs(y, p, race, region):
    features = pd.DataFrame({"race": race, "region": region})
    return fl.MetricFrame(metrics=METRICS, y_true=y, y_pred=p, sensitive_features=features).by_group


def cpu(function, *arguments, repeat: int = 5):
    best, result = np.inf, None
    for _ in range(repeat):
        start = time.process_time()
        result = function(*arguments)
        best = min(best, time.process_time() - start)
    return best, result


def deviation(table, frame) -> float:
    keys = [tuple(int(part) if part.isdigit() else part for part in group) for group in table.groups]
    return float(np.abs(table.array.T - frame.loc[keys].to_numpy()).max())


def compare(kind: str, n: int, peer_n: int):
    """CPU seconds of both and their ratio; where ``peer_n < n`` fairlearn's time is scaled up linearly."""

    def columns(size):
        y, p, race, region = rows(size)
        return (y, p, race, region) if kind == "integer codes" else (y, p, RACE[race], REGION[region])

    mine, _ = cpu(ours, *columns(n), repeat=25)
    small = columns(peer_n)
    other, frame = cpu(theirs, *small, repeat=1)
    other *= n / peer_n
    return mine, other, other / mine, deviation(ours(*small), frame)


def main() -> None:
    ours(*rows(500)), theirs(*rows(500))  # imports and caches
    lines = [
        "# Group metrics against fairlearn",
        "",
        "10 metrics, 24 intersectional groups; CPU seconds in one process, best of 25 (auditkit), one run (fairlearn).",
        f"2 cores x86-64, Python 3.11, numpy {np.__version__}, pandas {pd.__version__}, fairlearn "
        f"{__import__('fairlearn').__version__}. Made by `python benchmarks/fairness_vs_fairlearn.py --write`.",
        "",
        "| columns | rows | auditkit, s | fairlearn MetricFrame, s | ratio | largest deviation |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, n, peer_n in (("integer codes", 100_000, 100_000), ("object strings", 1_000_000, 50_000)):
        mine, other, ratio, off = compare(kind, n, peer_n)
        note = "" if n == peer_n else f" (extrapolated linearly from {peer_n:,} rows)"
        lines.append(f"| {kind} | {n:,} | {mine:.5f} | {other:.2f}{note} | {ratio:,.0f} | {off:.1e} |")
    lines += [
        "",
        "1,000 resamples of 10 metrics: limits of every group, and of the difference and ratio of every group to the",
        "largest group, from the cells (the counting pass is apart).",
        "",
        "| rows | counting, s | 1,000 resamples and all limits, s |",
        "| --- | --- | --- |",
    ]
    for n in (10_000, 1_000_000):
        y, p, race, region = rows(n)
        counting, counts = cpu(lambda: count_groups(y, p, {"race": race, "region": region}, intersections=2))  # noqa: B023
        seconds, _ = cpu(lambda: bootstrap_metrics(counts, NAMES, rng=np.random.default_rng(0)))  # noqa: B023
        lines.append(f"| {n:,} | {counting:.5f} | {seconds:.4f} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if "--write" in sys.argv:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
