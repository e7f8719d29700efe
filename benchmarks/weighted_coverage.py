"""Are intervals of weighted and clustered rows as sure as they say? How often each limit misses, by simulation.

Every setting is drawn many times and counted by the product itself (one group a draw). The truth is known, so that it
can be written down in how many draws the lower limit lies above it, and in how many the upper one lies below it: each
should be at most 2.5 %. A gate decides on one limit, so that the two together say too little.

Rows of a cluster share a rate, drawn from a beta distribution whose variance makes any two rows of a cluster correlate
as told (1: all rows of a cluster agree). Derived metrics: 30 % of the rows have the positive label, and rows of both
labels are decided rightly with the cluster's rate, so that labels fail together; where clusters have one label, 30 % of
the clusters have it. Every count metric is of a kind that is drawn here: rates of decisions and of right decisions are
shares, rates within a label are the recall or its mirror image, and a rate that is 1 less another misses where it does.

Usage: python benchmarks/weighted_coverage.py [draws] [--write]
"""

from __future__ import annotations

import datetime
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from auditkit.methods.fairness import count_groups
from auditkit.methods.fairness.metrics import group_rates

RESULT = Path(__file__).parent / "results" / "weighted_coverage.md"
LEVEL = 0.95
MISS = 0.025
POSITIVES = 0.3
MOST_ROWS = 1_200_000
RATES = (0.05, 0.2, 0.5)
SIZES = ("4", "20", "50", "2 or 20")
WEIGHTS = ("none", "lognormal", "one in ten counts tenfold", "linked")
WHY_F1 = (
    "F1 and precision are the hardest: all rows of a cluster that is decided wrongly enter the denominator of F1, and "
    "of one that is decided rightly the positive rows alone. Where large clusters are wrong as a whole, and few or no "
    "such were seen, those that were not weigh more than the ones that were. Limits from the rows of the denominator "
    "alone missed up to 21 % there (30 clusters of 20, r=1, p=0.05); these allow for whole clusters that turn. Limits "
    "of shares that took one row only for a sign of how rows of a cluster go together missed up to 8 % with clusters "
    "of 50."
)


@dataclass(frozen=True)
class Setting:
    """What is drawn: ``clusters`` of ``size`` rows (independent rows where there are none) with ``weights``."""

    rate: float
    weights: str = "none"
    rows: int = 0
    clusters: int = 0
    size: str = "4"
    correlation: float = 0.0

    def told(self) -> str:
        rows = f"{self.rows} rows" if self.rows else f"{self.clusters} clusters of {self.size}, r={self.correlation}"
        return f"{rows}, weights {self.weights}, p={self.rate}"

    @property
    def few(self) -> bool:
        """Fewer than five clusters (or ten rows) are expected to hold a hit, or a miss."""
        least = min(self.rate, 1 - self.rate)
        return least * (self.rows / 2 if self.rows else self.clusters) < 5


@dataclass(frozen=True)
class Found:
    """How often the limits of one quantity missed in one setting, and their mean distance."""

    what: str
    setting: Setting
    below: float
    above: float
    width: float
    draws: int

    @property
    def worst(self) -> float:
        return max(self.below, self.above)

    @property
    def missing(self) -> bool:
        """Whether a limit missed more often than Monte-Carlo noise explains."""
        return bool(self.draws) and self.worst > MISS + 3 * np.sqrt(MISS * (1 - MISS) / self.draws)


@dataclass(frozen=True)
class Draws:
    """Rows of all draws, one after the other: which draw and cluster each belongs to, its weight and its chance."""

    draw: np.ndarray
    cluster: np.ndarray | None
    weight: np.ndarray | None
    heavy: np.ndarray
    draws: int

    def chance(self, rate: float, correlation: float, rng: np.random.Generator) -> np.ndarray:
        """Each row's chance of a hit, on average ``rate`` in the weighted rows."""
        chance = np.full(len(self.draw), rate)
        if self.cluster is not None:
            count, scale = int(self.cluster[-1]) + 1, (1 - correlation) / correlation
            shared = rng.beta(rate * scale, (1 - rate) * scale, count) if scale else rng.random(count) < rate
            chance = shared[self.cluster].astype(float)
        if self.heavy.any():  # rows that weigh 4 have 1.2 times the rate, rows that weigh 1 what is left of it
            chance = chance * np.where(self.heavy, 1.2, 1 - 0.2 * 0.3 * 4 / 0.7)
        return chance


def drawn(setting: Setting, draws: int, rng: np.random.Generator) -> Draws:
    """The rows of ``draws`` draws of a setting, fewer where that would be too many."""
    sizes = None
    if setting.clusters:
        draws = min(draws, MOST_ROWS // (setting.clusters * {"20": 20, "50": 50}.get(setting.size, 4)))
        shape = (draws, setting.clusters)
        sizes = {
            "4": lambda: np.full(shape, 4),
            "20": lambda: np.full(shape, 20),
            "50": lambda: np.full(shape, 50),
            "2 or 20": lambda: np.where(rng.random(shape) < 0.1, 20, 2),
        }[setting.size]()
        cluster = np.repeat(np.arange(draws * setting.clusters), sizes.ravel())
        draw = cluster // setting.clusters
    else:
        draws = min(draws, MOST_ROWS // setting.rows)
        cluster, draw = None, np.repeat(np.arange(draws), setting.rows)
    n = len(draw)
    heavy = rng.random(n) < (0.3 if setting.weights == "linked" else 0.0)
    weight = {
        "none": lambda: None,
        "lognormal": lambda: np.exp(rng.normal(0, 1, n)),
        "one in ten counts tenfold": lambda: np.where(rng.random(n) < 0.1, 10.0, 1.0),
        "linked": lambda: np.where(heavy, 4.0, 1.0),
    }[setting.weights]()
    return Draws(draw, cluster, weight, heavy, draws)


def measured(setting: Setting, draws: int, seed: int = 0) -> Iterator[Found]:
    """Every quantity of one setting."""
    rng = np.random.default_rng(seed)
    # A share, and its difference and ratio to that of another sample with twice the rate (or 0.85 times, above a half).
    other = 2 * setting.rate if setting.rate <= 0.25 else 0.85 * setting.rate
    both = []
    for rate in (setting.rate, other):
        rows = drawn(setting, draws, rng)
        hit = rng.random(len(rows.draw)) < rows.chance(rate, setting.correlation, rng)
        both.append(group_rates(_counts(rows, np.zeros(len(hit), dtype=int), hit.astype(int)), "selection_rate"))
    yield _found("share", setting, *both[0].limits(LEVEL), setting.rate)
    count = len(both[0].value)
    pairs = both[0].joined(both[1])
    left = np.arange(count)
    for kind, truth in (("difference", setting.rate - other), ("ratio", setting.rate / other)):
        ends = pairs.directed_limits(left, left + count, kind, LEVEL)
        assert ends is not None
        yield _found(kind, setting, *ends, truth)
    rows = drawn(setting, draws, rng)
    own = rng.random(len(rows.draw)) < POSITIVES
    yield from _derived(setting, rows, own, rng, "")
    if rows.cluster is not None:
        rows = drawn(setting, draws, rng)
        assert rows.cluster is not None
        shared = (rng.random(int(rows.cluster[-1]) + 1) < POSITIVES)[rows.cluster]
        yield from _derived(setting, rows, shared, rng, ", a label a cluster")


def _derived(setting: Setting, rows: Draws, label: np.ndarray, rng: np.random.Generator, told: str) -> Iterator[Found]:
    """The metrics of labels and decisions."""
    wrong = rng.random(len(label)) < rows.chance(setting.rate, setting.correlation, rng)
    counts = _counts(rows, label.astype(int), np.where(wrong, ~label, label).astype(int))
    p, q, e = POSITIVES, 1 - POSITIVES, setting.rate
    for metric, truth in (
        ("balanced_accuracy", 1 - e),
        ("positive_predictive_value", p * (1 - e) / (p * (1 - e) + q * e)),
        ("f1", 2 * p * (1 - e) / (2 * p * (1 - e) + e)),
        ("true_positive_rate", 1 - e),
        ("negative_predictive_value", q * (1 - e) / (q * (1 - e) + p * e)),
        ("threat_score", p * (1 - e) / (p * (1 - e) + e)),
        ("false_negative_share", p),
    ):
        yield _found(metric + told, setting, *group_rates(counts, metric).limits(LEVEL), truth)


def _counts(rows: Draws, label, decided):
    keys = {name: part for name, part in (("weights", rows.weight), ("clusters", rows.cluster)) if part is not None}
    return count_groups(label, decided, {"draw": rows.draw}, positive=1, classes=("0", "1"), **keys)[1]


def _found(what, setting, low, high, truth) -> Found:
    known = np.isfinite(low) & ~np.isnan(high)
    low, high = low[known], high[known]
    if not len(low):
        return Found(what, setting, 0.0, 0.0, 0.0, 0)
    width = float(np.mean(np.minimum(high, 10.0) - low))
    return Found(
        what, setting, float((low > truth + 1e-12).mean()), float((high < truth - 1e-12).mean()), width, len(low)
    )


def settings() -> Iterator[Setting]:
    """All settings of the page."""
    for rows, weights, rate in itertools.product((30, 100, 400, 2000), WEIGHTS, RATES):
        yield Setting(rate, weights, rows=rows)
    for clusters, size, correlation, weights, rate in itertools.product(
        (10, 30, 100), SIZES, (0.1, 0.5, 1.0), ("none", "lognormal"), RATES
    ):
        yield Setting(rate, weights, clusters=clusters, size=size, correlation=correlation)


def page(found: list[Found], draws: int) -> str:
    """The results as Markdown."""
    lines = [
        "# Coverage of intervals of weighted and clustered rows",
        "",
        f"{draws:,} draws a setting (fewer where that would be over {MOST_ROWS:,} rows), 95 % intervals: each limit "
        "should miss at most 2.5 % of the time. A setting counts as missing when a limit misses more often than that "
        "by more than 3 Monte-Carlo sd. Made by `python benchmarks/weighted_coverage.py "
        f"{draws} --write` on {datetime.date.today():%Y-%m-%d}; nothing here depends on the machine.",
        "",
        f"Rates p: {', '.join(map(str, RATES))}. Independent rows: 30, 100, 400 or 2,000, with weights "
        f"{', '.join(WEIGHTS)} (lognormal: sd of the log 1; linked: rows that weigh 4 have 1.2 times the rate). "
        f"Clusters: 10, 30 or 100 of {', '.join(SIZES)} rows (2 or 20: one in ten has 20), whose rows correlate by "
        "0.1, 0.5 or 1, without weights and with lognormal ones. Few hits: fewer than 5 clusters are expected to hold "
        "one. A setting in which no draw has an interval is left out.",
        "",
        "| 95 % interval of | rows | settings | lower misses, mean | upper misses, mean | worst limit | missing |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    kinds = (
        ("independent, weighted or not", lambda s: bool(s.rows)),
        ("clustered", lambda s: bool(s.clusters) and not s.few),
        ("clustered, few hits", lambda s: bool(s.clusters) and s.few),
    )
    for what in dict.fromkeys(part.what for part in found):
        for name, belongs in kinds:
            own = [part for part in found if part.what == what and belongs(part.setting) and part.draws]
            if not own:
                continue
            worst = max(own, key=lambda part: part.worst)
            side = "lower" if worst.below >= worst.above else "upper"
            lines.append(
                f"| {what} | {name} | {len(own)} | {np.mean([p.below for p in own]):.4f} | "
                f"{np.mean([p.above for p in own]):.4f} | {worst.worst:.4f} {side} ({worst.setting.told()}) | "
                f"{sum(part.missing for part in own)} |"
            )
    missing = sorted((part for part in found if part.missing), key=lambda part: -part.worst)
    lines += ["", WHY_F1, ""]
    if not missing:
        lines += ["In no setting does a limit of any quantity miss more often than it says."]
        return "\n".join(lines) + "\n"
    lines += ["Every setting in which a limit of a quantity misses more often than it says:", ""]
    lines += ["| 95 % interval of | setting | lower misses | upper misses |", "| --- | --- | --- | --- |"]
    lines += [f"| {part.what} | {part.setting.told()} | {part.below:.4f} | {part.above:.4f} |" for part in missing]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> None:
    """Measure, print, and write the page if asked to."""
    draws = next((int(word) for word in arguments if word.isdigit()), 2000)
    found = [part for at, setting in enumerate(settings()) for part in measured(setting, draws, at)]
    text = page(found, draws)
    print(text)
    if "--write" in arguments:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
