"""Shapley values of probabilities: exact for logistic regressions, sampled on the log-odds' exact values for others.

Writes ``benchmarks/results/probabilities.md``; about five minutes of CPU on one thread.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from auditkit.methods.explain.game import make_game
from auditkit.methods.explain.shap_engine import explain_scores
from auditkit.methods.explain.shapley import explain_game

ROWS, BACKGROUND, BUDGET, SEEDS = 8, 100, 2048, 8
RESULTS = Path(__file__).parent / "results" / "probabilities.md"
MODELS = {
    "gradient boosting": GradientBoostingClassifier(random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(random_state=0),
}
PAGE = """# Shapley values of probabilities

One run, one thread: `python benchmarks/probabilities.py`

## Boosted models: sampled, and steadied by the log-odds

The probability of a boosted model is no sum over its parts, so its Shapley values are
sampled; its log-odds are such a sum, with exact values. `auto` takes those off the same walks and adds them back.
Errors are root mean squares against enumeration of all sets, as a share of the mean absolute value: {rows} rows,
{background} background rows, {budget:,} model evaluations a row, {seeds} seeds; CPU seconds a seed. With 10
features the budget pays for a pair of walks from each background row, with 14 for three quarters of them. A spread
of 1 gives probabilities mostly between 0.05 and 0.9, one of 4 mostly near 0 or 1. "Told" is the standard error
reported over the error made; it is an upper bound while no background row is used twice.

| model | features | spread | error without | error with | ratio | told without | told with | CPU s without | with |
|---|---|---|---|---|---|---|---|---|---|
{table}

## Logistic regressions: exact

The sigmoid as a sum of waves makes Shapley values of the probability closed sums (`methods/explain/logistic.py`).
Beside them what sampling gives with {budget:,} evaluations a row. The gap is the largest to enumeration of all sets
(for 30 features: of the sums to the model's outputs); the reach is the largest size of log-odds on any mixture.

| features | spread | C | reach | error, sampled | gap, exact | CPU s sampled | CPU s exact |
|---|---|---|---|---|---|---|---|
{exact}
"""


def main() -> None:
    """Measure and write the page."""
    lines = []
    for features in (10, 14):
        for spread in (1.0, 4.0):
            x, y = table(features, spread)
            for name, model in MODELS.items():
                model.fit(x, y)
                lines.append(f"| {name} | {features} | {spread:.0f} | {measured(model, x)} |")
                print(lines[-1], flush=True)
    closed = []
    for features in (6, 10, 14, 30):
        for spread, strength in ((1.0, 1.0), (4.0, 1.0), (4.0, 1e4)):
            closed.append(f"| {features} | {spread:.0f} | {strength:g} | {logistic(features, spread, strength)} |")
            print(closed[-1], flush=True)
    page = PAGE.format(
        rows=ROWS, background=BACKGROUND, budget=BUDGET, seeds=SEEDS, table="\n".join(lines), exact="\n".join(closed)
    )
    RESULTS.write_text(page, encoding="utf-8")


def table(features: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and labels of a logistic truth with an interaction."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, features))
    z = spread * (x[:, 0] + x[:, 1] * x[:, 2] + 0.5 * x[:, 3] - 0.7 * x[:, 4] - 1.0)
    return x, (rng.random(len(x)) < 1.0 / (1.0 + np.exp(-z))).astype(int)


def measured(model: object, x: np.ndarray) -> str:
    """The cells of one model."""
    game = make_game(lambda m: model.predict_proba(m)[:, [1]], x[:ROWS], x[1000 : 1000 + BACKGROUND])
    exact = explain_game(game, estimator="exact", budget=10**12).values
    size = float(np.abs(exact).mean())
    found: dict[str, list[float]] = {}
    for engine in ("shapley", "auto"):
        start = time.process_time()
        runs = [
            explain_scores(game, model=model, space="probability", column=1, budget=BUDGET, seed=s, engine=engine)
            for s in range(SEEDS)
        ]
        seconds = (time.process_time() - start) / SEEDS
        error = rms([run.values - exact for run in runs])
        found[engine] = [error / size, rms([run.std_error for run in runs]) / error, seconds]
    without, steadied = found["shapley"], found["auto"]
    return (
        f"{without[0]:.3f} | {steadied[0]:.3f} | {without[0] / steadied[0]:.1f}x | {without[1]:.1f} | "
        f"{steadied[1]:.1f} | {without[2]:.2f} | {steadied[2]:.2f}"
    )


def logistic(features: int, spread: float, strength: float) -> str:
    """The cells of a logistic regression on labels that its features tell but for noise ``1 / spread``."""
    x, _ = table(features, spread)
    y = x @ np.linspace(1.0, -0.5, features) + np.random.default_rng(1).normal(size=len(x)) / spread > 0.3
    model = LogisticRegression(C=strength, max_iter=5000).fit(x, y)
    rows, background = x[:ROWS], x[1000 : 1000 + BACKGROUND]
    game = make_game(lambda m: model.predict_proba(m)[:, [1]], rows, background)
    start = time.process_time()
    found = explain_scores(game, model=model, space="probability", column=1, budget=BUDGET)
    middle = time.process_time()
    sampled = explain_scores(game, model=model, space="probability", column=1, budget=BUDGET, engine="shapley")
    end = time.process_time()
    assert found.method == "shapley.logistic"
    truth = explain_game(game, estimator="exact", budget=10**12).values if features <= 14 else None
    gap = found.diagnostics["additivity_residual"] if truth is None else float(np.abs(found.values - truth).max())
    moves = np.abs((rows[:, None] - background) * model.coef_[0]).sum(axis=2)
    reach = float((np.abs(model.decision_function(background)) + moves).max())
    error = rms([sampled.values - found.values]) / float(np.abs(found.values).mean())
    return f"{reach:.0f} | {error:.3f} | {gap:.0e} | {end - middle:.2f} | {middle - start:.2f}"


def rms(parts: list[np.ndarray]) -> float:
    """Root mean square of all numbers."""
    return float(np.sqrt(np.mean(np.square(np.stack(parts)))))


if __name__ == "__main__":
    main()
