"""Performance by group: auditkit's estimates with intervals against a plain scikit-learn loop without any.

Prints CPU seconds of both and their ratio, measured in one run.
Usage: python benchmarks/performance_vs_sklearn.py [rows]
"""

import sys
import time

import numpy as np
from sklearn import metrics as sk

from auditkit.analyzers.performance.rows import Rows, classification_estimates
from auditkit.stats.linearised import Design
from auditkit.stats.resampling import resample_weights

GROUPS = 12


def data(n: int):
    rng = np.random.default_rng(0)
    z = 1.5 * rng.normal(size=n)
    p = 1 / (1 + np.exp(-z))
    y = (rng.random(n) < p).astype(np.int64)
    return y, p, (p >= 0.5).astype(np.int64), rng.integers(0, GROUPS, n)


def ours(y, p, decided, group):
    scores = np.stack([1 - p, p], axis=1)
    rows = Rows(y, decided, scores, scores, Design(), ("no", "yes"), 1)
    found = [classification_estimates(rows.take(np.flatnonzero(group == g)), 15, 20, False) for g in range(GROUPS)]
    return [{name: (e.value, e.interval(0.95)) for (name, _), e in estimates.items()} for estimates in found]


def sklearn_values(y, p, decided, weights=None):
    return {
        "accuracy": sk.accuracy_score(y, decided, sample_weight=weights),
        "balanced_accuracy": sk.balanced_accuracy_score(y, decided, sample_weight=weights),
        "precision": sk.precision_score(y, decided, sample_weight=weights),
        "recall": sk.recall_score(y, decided, sample_weight=weights),
        "f1": sk.f1_score(y, decided, sample_weight=weights),
        "roc_auc": sk.roc_auc_score(y, p, sample_weight=weights),
        "average_precision": sk.average_precision_score(y, p, sample_weight=weights),
        "log_loss": sk.log_loss(y, p, sample_weight=weights),
        "brier_score": sk.brier_score_loss(y, p, sample_weight=weights),
    }


def theirs(y, p, decided, group):
    return [sklearn_values(*(a[group == g] for a in (y, p, decided))) for g in range(GROUPS)]


def cpu(function, *arguments):
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def main(n: int) -> None:
    arrays = data(n)
    cpu(ours, *data(2000)), cpu(theirs, *data(2000))  # imports and caches
    mine, a = min((cpu(ours, *arrays) for _ in range(3)), key=lambda pair: pair[0])
    other, b = min((cpu(theirs, *arrays) for _ in range(3)), key=lambda pair: pair[0])
    worst = max(abs(a[g][name][0] - value) for g in range(GROUPS) for name, value in b[g].items())
    y, p, decided, _ = arrays
    blocks = resample_weights(np.random.default_rng(0), n, 3)
    resample, _ = cpu(lambda: [sklearn_values(y, p, decided, w) for block in blocks for w in block])
    print(f"{n} rows, {GROUPS} groups; largest disagreement {worst:.1e}")
    print(f"auditkit, 10 quantities with intervals: {mine:.3f} CPU s")
    print(f"scikit-learn loop, 9 quantities, no interval: {other:.3f} CPU s ({other / mine:.1f} x auditkit)")
    print(f"scikit-learn, 1,000 bootstrap resamples (from 3): {resample / 3 * 1000:.0f} CPU s")
    print(f"ratio for intervals: {resample / 3 * 1000 / mine:.0f} x auditkit")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
