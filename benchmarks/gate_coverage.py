"""Are the published intervals as sure as they say, and is the gate wrong no more often than it says?

Simulates selection rates over a grid of settings and writes benchmarks/results/gate_coverage.md with --write:
coverage of the 95 % intervals of single groups, of pairs, and of the worst gap over all groups; and, with the truth
exactly at a rule's limit, how often the gate passes or fails for sure. A two-sided confidence of 95 % leaves 2.5 % to
each side, so each should happen in at most 2.5 % of draws + 3 Monte-Carlo sd.

Usage: python benchmarks/gate_coverage.py [draws] [--write]
"""

from __future__ import annotations

import datetime
import itertools
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from auditkit.core.evidence import DataFacts, Evidence, Outcome, PlanFacts, SubjectFacts
from auditkit.methods.fairness import count_groups
from auditkit.methods.fairness.gaps import disparities, disparity_limits, simultaneous_gap
from auditkit.methods.fairness.metrics import group_rates
from auditkit.policy.evaluate import evaluate
from auditkit.policy.model import parse_policy

RESULT = Path(__file__).parent / "results" / "gate_coverage.md"
LEVEL = 0.95
RATES = (0.02, 0.1, 0.3, 0.5, 0.9)
SIZES = (30, 100, 500, 5000)
GAPS = (0.0, 0.1, 0.3)


@dataclass(frozen=True)
class Found:
    """One setting: what was covered, how often, and the Monte-Carlo sd of that share at the nominal level."""

    what: str
    setting: str
    share: float
    sd: float


def table(hits, sizes):
    """Counts of groups with these positive decisions."""
    names = np.array([f"g{i:04d}" for i in range(len(hits))])
    empty = count_groups(np.zeros(len(hits), int), np.zeros(len(hits), int), names)[1]
    n = np.broadcast_to(sizes, len(hits))
    return replace(empty, n=tuple(((int(m - k), int(k)), (0, 0)) for k, m in zip(hits, n, strict=True)))


def coverage(rng, draws, rates=RATES, sizes=SIZES, gaps=GAPS, many=(2, 6, 24)):
    """Coverage of groups, pairs and worst gaps over the grid; groups of one setting can differ in size."""
    share = lambda found: float(np.mean(found))  # noqa: E731
    sd = math.sqrt(LEVEL * (1 - LEVEL) / draws)
    for p, n in itertools.product(rates, sizes):
        estimates = group_rates(table(rng.binomial(n, p, draws), n), "selection_rate")
        low, high = estimates.limits(LEVEL)
        yield Found("rate", f"p={p}, n={n}", share((low <= p) & (p <= high)), sd)
    for p, n, gap, m in itertools.product(rates, sizes, gaps, sizes):
        q = p - gap if p - gap > 0 else p + gap
        hits = np.stack([rng.binomial(n, p, draws), rng.binomial(m, q, draws)], axis=1).ravel()
        estimates = group_rates(table(hits, np.tile([n, m], draws)), "selection_rate")
        left, right = np.arange(0, 2 * draws, 2), np.arange(1, 2 * draws, 2)
        for kind, truth in (("difference", abs(p - q)), ("ratio", min(p, q) / max(p, q))):
            low, high = disparity_limits(estimates.value, estimates.limits(LEVEL), left, right, kind)
            # Where both observed rates are 0 the ratio is undefined, and no interval is published.
            known = np.isfinite(disparities(estimates.value, left, right, kind)) & np.isfinite(low) & np.isfinite(high)
            if known.mean() > 0.5:
                held = ((low <= truth + 1e-12) & (truth - 1e-12 <= high))[known]
                yield Found(kind, f"p={p}/{q:.2f}, n={n}/{m}", share(held), sd / math.sqrt(known.mean()))
    for p, n, gap, groups in itertools.product(rates, sizes, gaps, many):
        truth = np.full(groups, p)
        truth[0] = p - gap if p - gap > 0 else p + gap
        for kind, value in (("difference", np.ptp(truth)), ("ratio", truth.min() / truth.max())):
            held = []
            for _ in range(draws // 4):
                found = simultaneous_gap(group_rates(table(rng.binomial(n, truth), n), "selection_rate"), kind).interval
                if found is not None:
                    held.append(found.low - 1e-12 <= value <= found.high + 1e-12)
            if len(held) > draws // 8:
                sd_here = math.sqrt(LEVEL * (1 - LEVEL) / len(held))
                yield Found(f"worst {kind}", f"p={p}, gap={gap}, {groups} groups of {n}", share(held), sd_here)


def evidence_of(counts) -> Evidence:
    facts = SubjectFacts(
        name="simulated",
        task="binary",
        model_kind="simulated",
        model_fingerprint=None,
        classes=("0", "1"),
        positive="1",
        score_space=None,
        capabilities=("labels",),
        test=DataFacts(fingerprint="sha256:0", n_rows=1, modality="tabular", sensitive={"group": {}}),
    )
    outcome = Outcome(analyzer="fairness.groups", version="1", status="measured", artifacts=(counts,))
    return Evidence(subject=facts, plan=PlanFacts(seed=0, analyzers=()), outcomes=(outcome,))


def gate(rng, draws, rates=(0.3, 0.5, 0.8), sizes=(100, 1000), many=(2, 6)):
    """The whole gate, policy and all, with the truth exactly at the limit."""
    today = datetime.date(2026, 1, 1)
    for kind, p, n, groups in itertools.product(("difference", "ratio"), rates, sizes, many):
        limit = {"max": 0.1} if kind == "difference" else {"min": 0.8}
        rule = {"id": "r", "metric": "fairness.selection_rate", "compare": kind, "over": ["group"], **limit}
        policy = parse_policy({"rule": [rule]})
        truth = np.full(groups, p)
        truth[0] = p - 0.1 if kind == "difference" else 0.8 * p
        states = []
        for _ in range(draws):
            verdict = evaluate(evidence_of(table(rng.binomial(n, truth), n)), policy, as_of=today)
            states.append(verdict.results[0].state)
        sd = math.sqrt(0.025 * 0.975 / draws)
        for what, state in (("false pass", "pass"), ("false fail", "fail")):
            yield Found(what, f"{kind}, p={p}, {groups} groups of {n}", states.count(state) / draws, sd)
        if "error" in states:
            raise SystemExit(f"the gate was in error: {kind} p={p} n={n}: {verdict.results[0].message}")


def summary(found: list[Found], draws: int) -> str:
    lines = [
        "# Coverage of intervals and errors of the gate",
        "",
        f"Selection rates simulated with {draws:,} draws a setting (a quarter of that for worst gaps). Made by "
        f"`python benchmarks/gate_coverage.py {draws} --write`; nothing here depends on the machine.",
        "",
        "| 95 % interval of | settings | mean coverage | lowest coverage | settings below 94 % | by more than 3 sd |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    intervals = [f for f in found if not f.what.startswith("false")]
    for what in dict.fromkeys(f.what for f in intervals):
        part = [f for f in intervals if f.what == what]
        low = [f for f in part if f.share < 0.94]
        sure = [f for f in part if f.share < 0.94 - 3 * f.sd]
        worst = min(part, key=lambda f: f.share)
        lines.append(
            f"| {what} | {len(part)} | {np.mean([f.share for f in part]):.3f} | {worst.share:.3f} ({worst.setting}) "
            f"| {len(low)} | {len(sure)} |"
        )
    lines += ["", "Settings below 94 %:", ""]
    low = sorted((f for f in intervals if f.share < 0.94), key=lambda f: f.share)
    lines += [f"- {f.what}, {f.setting}: {f.share:.3f}" for f in low] or ["- none"]
    lines += [
        "",
        "The gate with the truth exactly at the limit (difference at most 0.1, or ratio at least 0.8); each error "
        "may happen in 2.5 % of draws:",
        "",
        "| error | settings | mean | highest | over 2.5 % + 3 sd |",
        "| --- | --- | --- | --- | --- |",
    ]
    for what in ("false pass", "false fail"):
        part = [f for f in found if f.what == what]
        worst = max(part, key=lambda f: f.share)
        over = sum(f.share > 0.025 + 3 * f.sd for f in part)
        mean = np.mean([f.share for f in part])
        lines.append(f"| {what} | {len(part)} | {mean:.3f} | {worst.share:.3f} ({worst.setting}) | {over} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    draws = numbers[0] if numbers else 2000
    rng = np.random.default_rng(0)
    text = summary([*coverage(rng, draws), *gate(rng, draws // 4)], draws)
    print(text)
    if "--write" in sys.argv:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
