"""Are the published intervals as sure as they say, and is the gate wrong no more often than it says?

Coverage of rates, differences and ratios is *exact*: every pair of outcomes is listed, its interval computed and its
binomial probability added up, so that a figure below the nominal level is a fault and no noise. The worst gap over many
groups, and the whole gate with more than two groups, are simulated. Newcombe's and Miettinen and Nurminen's intervals
stand beside ours on the same outcomes.

Usage: python benchmarks/gate_coverage.py [draws] [--write]
"""

from __future__ import annotations

import datetime
import itertools
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.stats import binom

from auditkit.core.evidence import DataFacts, Evidence, Outcome, PlanFacts, SubjectFacts
from auditkit.methods.fairness import count_groups
from auditkit.methods.fairness.gaps import disparity_limits, mover_limits
from auditkit.methods.fairness.metrics import group_rates
from auditkit.methods.fairness.worst import simultaneous_gap
from auditkit.policy.evaluate import evaluate
from auditkit.policy.model import parse_policy

RESULT = Path(__file__).parent / "results" / "gate_coverage.md"
LEVEL = 0.95
RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
SIZES = (5, 10, 20, 30, 100, 200)
SINGLE_SIZES = (5, 10, 20, 30, 50, 100, 500, 5000, 100_000)
KINDS = ("difference", "ratio")
Z = 1.959963984540054


@dataclass(frozen=True)
class Found:
    """One setting: the share of outcomes that it was about, exact where ``sd`` is 0, and the mean width."""

    what: str
    method: str
    setting: str
    share: float
    sd: float = 0.0
    width: float = math.nan


def table(hits, sizes):
    """Counts of groups with these positive decisions."""
    names = np.array([f"g{i:06d}" for i in range(len(hits))])
    empty = count_groups(np.zeros(len(hits), int), np.zeros(len(hits), int), names)[1]
    n = np.broadcast_to(sizes, len(hits))
    return replace(empty, n=tuple(((int(m - k), int(k)), (0, 0)) for k, m in zip(hits, n, strict=True)))


def single(rates=RATES, sizes=SINGLE_SIZES) -> Iterator[Found]:
    """Exact coverage of the limits of one rate."""
    for n, p in itertools.product(sizes, rates):
        spread = 9 * math.sqrt(n * p * (1 - p)) + 9
        hits = np.arange(max(0, math.floor(n * p - spread)), min(n, math.ceil(n * p + spread)) + 1)
        estimates = group_rates(table(hits, n), "selection_rate")
        chance = binom.pmf(hits, n, p)
        for method, (low, high) in (("ours", estimates.limits(LEVEL)), ("Wilson", estimates.rough_limits(LEVEL, 1.0))):
            held = (low <= p + 1e-12) & (p - 1e-12 <= high)
            yield Found(
                "rate", method, f"p={p}, n={n}", float(chance @ held), width=float(chance @ (high - low) / chance.sum())
            )


def outcomes(n: int, m: int):
    """All outcomes of two groups of ``n`` and ``m`` rows: their rates, and the pairs as ``(n + 1, m + 1)`` indices."""
    hits = np.concatenate([np.arange(n + 1), np.arange(m + 1)])
    sizes = np.concatenate([np.full(n + 1, n), np.full(m + 1, m)])
    left, right = np.meshgrid(np.arange(n + 1), n + 1 + np.arange(m + 1), indexing="ij")
    return group_rates(table(hits, sizes), "selection_rate"), left.ravel(), right.ravel()


def pair_coverage(rates=RATES, sizes=SIZES) -> Iterator[Found]:
    """Exact coverage of the limits of differences and ratios, and the gate's two errors with the truth at the limit."""
    for n, m in itertools.combinations_with_replacement(sizes, 2):
        estimates, left, right = outcomes(n, m)
        value = estimates.value
        rough = estimates.rough_limits(LEVEL, 1.0)
        for kind in KINDS:
            methods = {
                "ours": disparity_limits(estimates, left, right, kind, LEVEL),
                "Newcombe / MOVER": mover_limits(value, rough, left, right, kind),
            }
            if kind == "difference":
                methods["Miettinen-Nurminen"] = miettinen_nurminen(value[left], n, value[right], m)
            for p, q in itertools.product(rates, rates):
                chance = np.outer(binom.pmf(np.arange(n + 1), n, p), binom.pmf(np.arange(m + 1), m, q)).ravel()
                yield from _judged(kind, methods, chance, (n, m, p, q))


def _judged(kind, methods, chance, setting) -> Iterator[Found]:
    n, m, p, q = setting
    truth = abs(p - q) if kind == "difference" else min(p, q) / max(p, q)
    where = f"p={p}/{q}, n={n}/{m}"
    for method, (low, high) in methods.items():
        known = np.isfinite(low) & np.isfinite(high)
        mass = float(chance[known].sum())
        if mass < 0.5:  # both rates are 0 in most outcomes: the ratio is undefined, and no interval is published
            continue
        weight = chance[known] / mass
        held = (low[known] <= truth + 1e-12) & (truth - 1e-12 <= high[known])
        yield Found(kind, method, where, float(weight @ held), width=float(weight @ (high - low)[known]))
        if 0 < truth < 1:
            # The limit of a rule at the truth: it passes where the whole interval is inside, fails where none of it is.
            inside, beyond = (high <= truth, low > truth) if kind == "difference" else (low >= truth, high < truth)
            for what, wrong in (("false pass", inside), ("false fail", beyond)):
                yield Found(f"{what}, two groups", method, f"{kind}, {where}", float(chance[known] @ wrong[known]))


def miettinen_nurminen(p, n, q, m):
    """Their score limits of the absolute difference, by bisection."""
    d0 = p - q
    ends = []
    for far in (-1.0, 1.0):
        inner, outer = d0.copy(), np.full(d0.shape, far)
        for _ in range(40):
            middle = (inner + outer) / 2
            inside = np.abs(_score(p, n, q, m, middle)) <= Z
            inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
        ends.append(inner)
    low, high = ends
    near = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(np.abs(low), np.abs(high)))
    return near, np.maximum(np.abs(low), np.abs(high))


def _score(p, n, q, m, d):
    """The score statistic at a difference ``d``, with the restricted estimates in closed form (1985, appendix)."""
    total, x, y = n + m, p * n, q * m
    l2 = (n + 2 * m) * d - total - x - y
    l1 = (m * d - total - 2 * y) * d + x + y
    l0 = y * d * (1 - d)
    cube = (l2 / (3 * total)) ** 3 - l1 * l2 / (6 * total**2) + l0 / (2 * total)
    size = np.sign(cube) * np.sqrt(np.maximum((l2 / (3 * total)) ** 2 - l1 / (3 * total), 0))
    size = np.where(size == 0, 1e-30, size)
    angle = (np.pi + np.arccos(np.clip(cube / size**3, -1, 1))) / 3
    below = np.clip(2 * size * np.cos(angle) - l2 / (3 * total), 0, 1)
    above = np.clip(below + d, 0, 1)
    variance = (above * (1 - above) / n + below * (1 - below) / m) * total / (total - 1)
    gap = p - q - d
    return np.where(np.abs(gap) < 1e-12, 0.0, gap / np.sqrt(np.maximum(variance, 1e-300)))


def worst(rng, draws, rates=(0.3,), sizes=(30, 500), gaps=(0.0, 0.2), many=(6,)) -> Iterator[Found]:
    """Simulated coverage of the worst gap over many groups."""
    for p, n, gap, groups in itertools.product(rates, sizes, gaps, many):
        truth = np.full(groups, p)
        truth[0] = p + gap
        held: dict[str, list[bool]] = {kind: [] for kind in KINDS}
        for _ in range(draws):
            estimates = group_rates(table(rng.binomial(n, truth), n), "selection_rate")
            for kind, value in (("difference", np.ptp(truth)), ("ratio", truth.min() / truth.max())):
                found = simultaneous_gap(estimates, kind).interval
                if found is not None:
                    held[kind].append(found.low - 1e-12 <= value <= found.high + 1e-12)
        for kind, each in held.items():
            sd = math.sqrt(LEVEL * (1 - LEVEL) / max(len(each), 1))
            yield Found(f"worst {kind}", "ours", f"p={p}, gap={gap}, {groups} groups of {n}", float(np.mean(each)), sd)


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


def gate(rng, draws, rates=(0.5,), sizes=(1000,), many=(6,)) -> Iterator[Found]:
    """The whole gate, policy and all, with the truth exactly at the limit."""
    today = datetime.date(2026, 1, 1)
    for kind, p, n, groups in itertools.product(KINDS, rates, sizes, many):
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
            share = states.count(state) / draws
            yield Found(f"{what}, many groups", "ours", f"{kind}, p={p}, {groups} groups of {n}", share, sd)
        if "error" in states:
            raise SystemExit(f"the gate was in error: {kind} p={p} n={n}: {verdict.results[0].message}")


def summary(found: list[Found], draws: int) -> str:
    """The report: coverage, widths and errors of the gate."""
    lines = [
        "# Coverage of intervals and errors of the gate",
        "",
        f"Rates p in {', '.join(map(str, RATES))}; sizes of one group {', '.join(map(str, SINGLE_SIZES))}, of pairs "
        f"{', '.join(map(str, SIZES))}, every combination. Rates, differences and ratios: exact, by listing all "
        f"outcomes. Worst gaps and many groups: {draws} draws a setting. Made by "
        f"`python benchmarks/gate_coverage.py {draws} --write`; nothing here depends on the machine.",
        "",
        "| 95 % interval of | method | settings | mean coverage | lowest coverage | below 94 % | mean width |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    intervals = [f for f in found if not f.what.startswith("false")]
    for what, method in dict.fromkeys((f.what, f.method) for f in intervals):
        part = [f for f in intervals if (f.what, f.method) == (what, method)]
        low = min(part, key=lambda f: f.share)
        below = sum(f.share < 0.94 - 3 * f.sd for f in part)
        width = np.mean([f.width for f in part])
        lines.append(
            f"| {what} | {method} | {len(part)} | {np.mean([f.share for f in part]):.4f} | {low.share:.4f} "
            f"({low.setting}) | {below} | {'' if math.isnan(width) else f'{width:.4f}'} |"
        )
    lines += [
        "",
        "Simulated figures count as below 94 % when they are so by more than 3 Monte-Carlo sd. Mean width of the",
        "interval of a difference, by the size of both groups:",
        "",
        "| rows in each group | ours | Newcombe | Miettinen-Nurminen | ours / Newcombe |",
        "| --- | --- | --- | --- | --- |",
    ]
    for n in SIZES:
        at = [f for f in intervals if f.what == "difference" and f.setting.endswith(f"n={n}/{n}")]
        if at:
            one, two, three = (
                float(np.mean([f.width for f in at if f.method.startswith(name)])) for name in ("ours", "Newc", "Miet")
            )
            lines.append(f"| {n} | {one:.4f} | {two:.4f} | {three:.4f} | {one / two:.3f} |")
    lines += [
        "",
        "The gate with the truth exactly at the limit. A confidence of 95 % leaves 2.5 % to each error:",
        "",
        "| error | method | settings | mean | highest | over 2.5 % (+ 3 sd where simulated) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    wrong = [f for f in found if f.what.startswith("false")]
    for what, method in dict.fromkeys((f.what, f.method) for f in wrong):
        part = [f for f in wrong if (f.what, f.method) == (what, method)]
        high = max(part, key=lambda f: f.share)
        over = sum(f.share > 0.025 * (1 + 1e-4) + 3 * f.sd for f in part)
        mean = np.mean([f.share for f in part])
        lines.append(f"| {what} | {method} | {len(part)} | {mean:.4f} | {high.share:.4f} ({high.setting}) | {over} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    draws = numbers[0] if numbers else 400
    rng = np.random.default_rng(0)
    text = summary([*single(), *pair_coverage(), *worst(rng, draws), *gate(rng, draws)], draws)
    print(text)
    if "--write" in sys.argv:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
