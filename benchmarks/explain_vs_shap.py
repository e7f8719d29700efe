"""Shapley values against shap, Leverage SHAP and captum: CPU time at equal error, and error at equal evaluations.

Games of 30 features with exact values (enumerated by their own closed structure), with 25 background rows and with one.
"Equal error": our time at the error that shap's KernelExplainer(l1_reg=False) reached, interpolated on our own
curve of error and time. Leverage SHAP is written here from its paper. Trees, in
explain_vs_shap_trees.py: the same ensemble and background to both. One thread; what is compared alternates in one
process; with --write the figures are committed to benchmarks/results/explain.md.

Usage: OMP_NUM_THREADS=1 python benchmarks/explain_vs_shap.py [--write]
"""

from __future__ import annotations

import sys
import time
import tracemalloc
import warnings
from importlib.metadata import version
from math import comb
from pathlib import Path

import numpy as np
import torch

warnings.simplefilter("ignore")
import shap  # noqa: E402 - its import warns
from captum.attr import ShapleyValueSampling  # noqa: E402

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]
from explain.shapley_games import FEATURES, GroupedGame, relative_error, rows_and_background  # noqa: E402
from explain_vs_shap_trees import tree_lines  # noqa: E402

from auditkit.methods.explain import shapley_values  # noqa: E402
from auditkit.methods.explain.surrogate import adjusted_needs  # noqa: E402

RESULT = HERE / "results" / "explain.md"
KINDS = ("near-additive", "moderate", "strong")
ROWS, FEWER, ROUNDS = 16, 8, 3
COALITIONS = {25: (256, 512, 1024, 2048), 1: (512, 2048, 8192)}
BUDGETS = {
    25: (800, 1600, 3200, 6400, 12_800, 25_600, 51_200),
    1: (150, 300, 600, 1200, 2400, 4800, 9600, 19_200),
}


def kernel(game, x, background, coalitions, seed):
    state = np.random.get_state()  # noqa: NPY002 - shap draws from the global generator
    np.random.seed(seed)  # noqa: NPY002
    try:
        return shap.KernelExplainer(game, background).shap_values(x, nsamples=coalitions, l1_reg=False, silent=True)
    finally:
        np.random.set_state(state)  # noqa: NPY002


def ours(game, x, background, budget, seed, estimator="auto"):
    return shapley_values(game, x, background, budget=budget, seed=seed, estimator=estimator).values[:, :, 0]


def leverage_shap(game, x, background, coalitions, seed):
    """Musco and Witter (2025), algorithm 1: paired coalitions without replacement, the sizes equally likely."""
    rng = np.random.default_rng(seed)
    sizes = np.arange(1, FEATURES)
    low, high = 0.0, float(comb(FEATURES, FEATURES // 2))
    for _ in range(200):  # the expected number of coalitions is what is paid for
        middle = (low + high) / 2
        count = sum(min(comb(FEATURES, int(s)), middle) for s in sizes)
        low, high = (middle, high) if count < coalitions else (low, middle)
    values = np.zeros((len(x), FEATURES))
    empty = game(background).mean()
    for i, row in enumerate(x):
        masks, weights = _drawn(low, rng)
        both = np.concatenate([masks, ~masks])
        worth = game(np.where(both[:, None], row, background).reshape(-1, FEATURES)).reshape(len(both), -1).mean(axis=1)
        total = game(row[None])[0] - empty
        size = both.sum(axis=1)
        away = np.eye(FEATURES) - 1.0 / FEATURES
        root = np.sqrt(np.tile(weights, 2) / (size * (FEATURES - size)))[:, None]
        target = root[:, 0] * (worth - empty - total * size / FEATURES)
        values[i] = np.linalg.lstsq(root * (both @ away), target, rcond=None)[0] + total / FEATURES
    return values


def _drawn(rate, rng):
    masks, weights = [], []
    for size in range(1, FEATURES // 2 + 1):
        every = comb(FEATURES, size) // (2 if 2 * size == FEATURES else 1)
        chance = min(1.0, rate / comb(FEATURES, size))
        wanted, seen = rng.binomial(every, chance), set()
        while len(seen) < wanted:
            some = tuple(sorted(rng.choice(FEATURES, size, replace=False).tolist()))
            if 2 * size == FEATURES and 0 not in some:
                some = tuple(sorted(set(range(FEATURES)) - set(some)))
            seen.add(some)
        for some in sorted(seen):
            masks.append(np.isin(np.arange(FEATURES), some))
            weights.append(1.0 / (comb(FEATURES, size) * chance))
    return np.array(masks), np.array(weights)


def cpu(function, *arguments):
    start = time.process_time()
    result = function(*arguments)
    return time.process_time() - start, result


def measured(runs, game, x, background, truth):
    """``{run: (ms a row, error)}``: best time and root mean square error over the rounds, which alternate."""
    spent = {run: [] for run in runs}
    error = {run: [] for run in runs}
    for seed in range(ROUNDS):
        for run in runs:
            function, *rest = run
            took, values = cpu(lambda: function(game, x, background, rest[0], seed, *rest[1:]))  # noqa: B023
            spent[run].append(took / len(x) * 1e3)
            error[run].append(relative_error(values, truth))
    return {run: (min(spent[run]), float(np.sqrt(np.mean(np.square(error[run]))))) for run in runs}


def at_error(curve, wanted):
    """Milliseconds at which our curve ``[(ms, error), ...]`` reaches an error: straight lines in logarithms."""
    ms, error = np.log(np.array(curve)).T
    if np.log(wanted) > error[0]:
        return float(np.exp(ms[0]))
    order = np.argsort(error)
    return float(np.exp(np.interp(np.log(wanted), error[order], ms[order])))


def kernel_lines():
    yield "## Any model: KernelExplainer"
    yield ""
    yield f"{FEATURES} features, {ROWS} rows, `l1_reg=False`; relative root mean square error against the exact values."
    yield "The last column is our smallest time at KernelExplainer's error (never less than at our smallest budget)."
    for b in COALITIONS:
        yield ""
        yield f"Background of {b} row{'s' if b > 1 else ''}:"
        yield ""
        yield "| game | shap: evaluations a row | ms a row | error | auditkit at this error, ms | ratio |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for kind in KINDS:
            game = GroupedGame(kind)
            x, background = rows_and_background(ROWS, b)
            runs = [(kernel, size) for size in COALITIONS[b]] + [(ours, budget) for budget in BUDGETS[b]]
            found = measured(runs, game, x, background, game.exact(x, background))
            curve = [found[run] for run in runs if run[0] is ours]
            for size in COALITIONS[b]:
                ms, error = found[kernel, size]
                mine = at_error(curve, error)
                yield f"| {kind} | {size * b} | {ms:.1f} | {error:.2g} | {mine:.2f} | {ms / mine:.1f} |"


def leverage_lines():
    yield ""
    yield "## Any model: error at equal evaluations"
    yield ""
    yield f"{FEWER} rows. Of one background row `auto` takes `triples`; of 25 rows `leverage`, and `permutation` where"
    yield "the budget is below four evaluations a player and background row."
    yield ""
    heads = ("game", "background", "evaluations a row", "KernelExplainer", "Leverage SHAP", "auto", "tree_adjusted")
    yield f"| {' | '.join(heads)} | auto to Leverage |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for b, budgets in ((25, (1600, 6400, 25_600)), (1, (400, 1600, 6400))):
        for kind in KINDS:
            game = GroupedGame(kind)
            x, background = rows_and_background(FEWER, b)
            truth = game.exact(x, background)
            for budget in budgets:
                runs = [(kernel, budget // b), (leverage_shap, budget // b), (ours, budget)]
                found = measured(runs, game, x, background, truth)
                theirs, leverage, mine = (found[run][1] for run in runs)
                trees = "too few"
                if budget >= adjusted_needs(FEATURES, b):
                    values = ours(game, x, background, budget, 0, "tree_adjusted")
                    trees = f"{relative_error(values, truth):.2g}"
                yield (
                    f"| {kind} | {b} | {budget} | {theirs:.2g} | {leverage:.2g} | {mine:.2g} | {trees} "
                    f"| {mine / leverage:.2f} |"
                )


def seeds_lines(seeds=25, rows=4, budget=400):
    """How often ``auto`` errs less than Leverage SHAP, seed by seed, at a small budget."""
    yield ""
    wins, shares = 0, []
    for kind in KINDS:
        game = GroupedGame(kind)
        x, background = rows_and_background(rows, 1)
        truth = game.exact(x, background)
        mine = [relative_error(ours(game, x, background, budget, seed), truth) for seed in range(seeds)]
        theirs = [relative_error(leverage_shap(game, x, background, budget, seed), truth) for seed in range(seeds)]
        wins += sum(a < b for a, b in zip(mine, theirs, strict=True))
        shares.append(f"{np.mean(mine) / np.mean(theirs):.2f} ({kind})")
    yield (f"Over {seeds} seeds a game at {budget} evaluations ({rows} rows, one background row) `auto` errs less than")
    yield f"Leverage SHAP {wins} times of {seeds * len(KINDS)}; its mean error is {', '.join(shares)} of theirs."


class _Module(torch.nn.Module):
    """The same game as a torch module, in its usual single precision."""

    def __init__(self, game):
        super().__init__()
        for name in ("weights", "bias", "out", "line"):
            self.register_buffer(name, torch.from_numpy(getattr(game, name)).float())

    def forward(self, x):
        return torch.tanh(x @ self.weights + self.bias) @ self.out + x @ self.line


def captum_lines():
    yield ""
    yield "## Permutations: captum's ShapleyValueSampling"
    yield ""
    yield "The same model in torch for both, one background row, equal numbers of permutations, 32 evaluations a call"
    yield "in captum."
    yield ""
    yield "| game | permutations | captum, ms a row | error | auditkit (`permutation`), ms a row | error | ratio |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for kind in KINDS:
        game = GroupedGame(kind)
        module = _Module(game)
        x, background = rows_and_background(ROWS, 1)
        truth = game.exact(x, background)

        def theirs(_, x, background, count, seed):
            torch.manual_seed(seed)
            engine = ShapleyValueSampling(module)  # noqa: B023
            rows = [
                engine.attribute(
                    row[None], torch.from_numpy(background).float(), n_samples=count, perturbations_per_eval=32
                )
                for row in torch.from_numpy(x).float()
            ]
            return torch.cat(rows).numpy()

        def mine(_, x, background, count, seed):
            def predict(m):
                with torch.no_grad():
                    return module(torch.from_numpy(m).float()).numpy()  # noqa: B023

            return ours(predict, x, background, count * (FEATURES - 1), seed, "permutation")

        for count in (26,):
            runs = [(theirs, count), (mine, count)]
            found = measured(runs, game, x, background, truth)
            (a, their_error), (b, our_error) = (found[run] for run in runs)
            yield f"| {kind} | {count} | {a:.2f} | {their_error:.2g} | {b:.2f} | {our_error:.2g} | {a / b:.0f} |"


def memory_lines():
    yield ""
    yield "## Peak memory of arrays, and cost in rows and features"
    yield ""
    yield "`tracemalloc`, MB over what was there before; 25 background rows, moderate game."
    yield ""
    yield "| rows | KernelExplainer, 2,048 coalitions | auditkit, 51,200 evaluations a row |"
    yield "| --- | --- | --- |"
    game = GroupedGame("moderate")
    for n in (1, 8, 32):
        x, background = rows_and_background(n, 25)
        peaks = []
        for function, amount in ((kernel, 2048), (ours, 51_200)):
            tracemalloc.start()
            function(game, x, background, amount, 0)
            peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
            tracemalloc.stop()
        yield f"| {n} | {peaks[0]:.0f} | {peaks[1]:.0f} |"
    yield ""
    yield "CPU milliseconds a row of `auto` (a line and one product, one background row, 64 evaluations a feature)."
    yield "Up to 64 features it takes `triples`, whose regression is most of the time on so cheap a model; beyond,"
    yield "`leverage`:"
    yield ""
    yield "| features | 1 row | 8 rows | 64 rows |"
    yield "| --- | --- | --- | --- |"
    for features in (15, 30, 60, 120, 240):
        rng = np.random.default_rng(0)
        weights = rng.normal(size=features)

        def linear(m, weights=weights):
            return m @ weights + m[:, 0] * m[:, 1]

        cells = []
        for n in (1, 8, 64):
            x, background = rng.normal(size=(n, features)), rng.normal(size=(1, features))
            times = [cpu(lambda: ours(linear, x, background, 64 * features, 0))[0] for _ in range(ROUNDS)]  # noqa: B023
            cells.append(f"{min(times) / n * 1e3:.2f}")
        yield f"| {features} | {' | '.join(cells)} |"


def lines():
    yield "# Shapley values against shap, Leverage SHAP and captum"
    yield ""
    yield f"CPU milliseconds, one thread, best of {ROUNDS} rounds that alternate in one process; 2 cores x86-64 shared"
    yield f"with other work, so read the ratios; Python 3.11, numpy {np.__version__}, shap {version('shap')},"
    yield f"captum {version('captum')}, scikit-learn {version('scikit-learn')}."
    yield "Made by `python benchmarks/explain_vs_shap.py --write`. Errors are relative to the size of the exact values."
    yield ""
    yield from kernel_lines()
    yield from leverage_lines()
    yield from seeds_lines()
    yield from captum_lines()
    yield from tree_lines(ROUNDS)
    yield from memory_lines()


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = []
    for line in lines():
        print(line, flush=True)
        rows.append(line)
    if "--write" in sys.argv:
        RESULT.write_text("\n".join(rows) + "\n")
