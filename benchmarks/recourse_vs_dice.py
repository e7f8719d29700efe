"""Recourse on the loan table against DiCE: is what is found accepted and feasible, what does it cost, how long?

    python -m venv ENV && ENV/bin/pip install -e . dice-ml==0.12 && ENV/bin/python benchmarks/recourse_vs_dice.py

Both search for the same declined applicants of the embedded loan story, with the same model and the same columns held:
age, and nothing else. DiCE's random, genetic and k-d tree methods return one counterfactual a row and may use complete
rows only, so rows with a missing value are left out for both. What is returned is decoded to the columns' own types and
judged alike: accepted by the model itself, feasible by the same record (bounds seen in the data, whole numbers, known
categories, age as it was), cost as the sum of changes in standard deviations, 1 for a category. CPU time, one thread.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

from auditkit.core.subject import Dataset
from auditkit.demo.loan import BOOLEAN, NUMERIC, loan_splits
from auditkit.demo.models import boosted_pipeline
from auditkit.methods.explain.recourse import find_recourse
from auditkit.subjects.grid import table_grid
from auditkit.subjects.schema import infer_schema

ROWS, WANTED = 100, "approved"


class Adapted:
    """The pipeline with labels 0 and 1 for DiCE, which hands back booleans as strings and loses dtypes."""

    def __init__(self, model: Any, like: pd.DataFrame) -> None:
        self.model, self.like = model, like

    def typed(self, table: pd.DataFrame) -> pd.DataFrame:
        """The columns' own types."""
        out = {}
        for name in self.like.columns:
            column = table[name]
            out[name] = (column.astype(str).str.lower() == "true") if name in BOOLEAN else column
            if name not in BOOLEAN:
                out[name] = out[name].astype(self.like[name].dtype)
        return pd.DataFrame(out, index=table.index)

    def predict(self, table: pd.DataFrame) -> Any:
        """0 or 1."""
        return (self.model.predict(self.typed(table)) == WANTED).astype(int)

    def predict_proba(self, table: pd.DataFrame) -> Any:
        """Columns for 0 and 1."""
        chance = self.model.predict_proba(self.typed(table))[:, list(self.model.classes_).index(WANTED)]
        return np.column_stack([1.0 - chance, chance])


def dice(method: str, model: Any, train: pd.DataFrame, y: Any, rows: pd.DataFrame) -> tuple[list[Any], float]:
    """One counterfactual (or ``None``) a row, and CPU seconds of the search."""
    import dice_ml

    texts = dict.fromkeys(BOOLEAN, str)
    table = train.assign(y=(y == WANTED).astype(int)).dropna().astype(texts)
    adapted = Adapted(model, rows)
    data = dice_ml.Data(dataframe=table, continuous_features=list(NUMERIC), outcome_name="y")
    explainer = dice_ml.Dice(data, dice_ml.Model(model=adapted, backend="sklearn"), method=method)
    vary = [name for name in rows.columns if name != "age"]
    seeded = {"random_seed": 0} if method == "random" else {}
    begun = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        found = explainer.generate_counterfactuals(
            rows.astype(texts), total_CFs=1, desired_class=1, features_to_vary=vary, verbose=False, **seeded
        )
    seconds = time.process_time() - begun
    frames = [example.final_cfs_df for example in found.cf_examples_list]
    return [None if f is None or not len(f) else adapted.typed(f.iloc[:1]) for f in frames], seconds


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    train, test = loan_splits(6000, 2000)
    model = boosted_pipeline().fit(train.inputs, train.y)
    whole = test.inputs.dropna()
    schema = infer_schema([train.inputs, test.inputs], {"age": {"immutable": True}})
    data = Dataset(inputs=whole, y=np.zeros(len(whole)), schema=schema)
    grid = table_grid(data, choose=True)
    approved = model.predict(whole) == WANTED
    places = np.flatnonzero(~approved)[:ROWS]
    rows, x = whole.iloc[places], grid.matrix[places]
    chance_of = list(model.classes_).index(WANTED)

    def judge(points: Any) -> tuple[Any, Any]:
        chance = model.predict_proba(grid.codec.decode(points))[:, chance_of]
        return chance > 0.5, np.log(chance / (1.0 - chance))

    model.predict_proba(rows)
    begun = time.process_time()
    ours = find_recourse(judge, x, grid.space, grid.matrix[np.flatnonzero(approved)[:500]])
    own = time.process_time() - begun
    answers: dict[str, tuple[list[Any], float]] = {
        "auditkit": (
            [grid.codec.decode(p[None]) if ok else None for p, ok in zip(ours.points, ours.found, strict=True)],
            own,
        )
    }
    for method in ("random", "genetic", "kdtree"):
        answers[f"DiCE {method}"] = dice(method, model, train.inputs, train.y, rows)
    print(
        f"{ROWS} declined applicants; Python {sys.version.split()[0]}; {ours.n_evaluations / ROWS:.0f} decisions a row."
    )
    print()
    heads = "search", "returned", "accepted", "feasible", "median cost", "times ours", "changes", "CPU ms a row"
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for name, (points, seconds) in answers.items():
        print(line(name, points, seconds, model, grid, x, ours.cost))


def line(name: str, points: list[Any], seconds: float, model: Any, grid: Any, x: Any, least: Any) -> str:
    """One row of the table; costs are of what is accepted and feasible."""
    from auditkit.methods.explain.recourse_moves import changed_parts

    cost, accepted, feasible, parts = [], 0, 0, []
    for row, point in enumerate(points):
        if point is None:
            cost.append(np.inf)
            continue
        yes = model.predict(point)[0] == WANTED
        try:
            matrix = grid.codec.encode(point)
            inside = bool(grid.space.feasible(x[row : row + 1], matrix, None)[0])
        except Exception:  # a category that the data does not hold
            inside = False
        accepted, feasible = accepted + yes, feasible + inside
        good = yes and inside
        cost.append(float(grid.space.cost(x[row : row + 1], matrix)[0]) if good else np.inf)
        if good:
            parts.append(int(changed_parts(grid.space, x[row : row + 1], matrix).sum()))
    costs = np.array(cost)
    both = np.isfinite(costs) & np.isfinite(least)
    ratio = float(np.median(costs[both] / least[both])) if both.any() else float("nan")
    n = len(points)
    returned = sum(point is not None for point in points)
    cells = (
        name,
        f"{returned / n:.0%}",
        f"{accepted / n:.0%}",
        f"{feasible / n:.0%}",
        f"{np.median(costs):.2f}",
        f"{ratio:.2f}",
        f"{np.mean(parts) if parts else float('nan'):.1f}",
        f"{1000 * seconds / n:.0f}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
