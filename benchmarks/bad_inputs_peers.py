"""The peers' side of bad_inputs.py: what a gate written with fairlearn, AIF360 or aequitas says of each table.

It imports neither auditkit nor its tests, so that it runs in an environment of its own.

Usage: PYTHON benchmarks/bad_inputs_peers.py FOLDER LIBRARY > ANSWERS.json   (FOLDER holds cases.json and the tables)
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path

import pandas as pd


def fairlearn(y, p, g, metric, compare):
    import fairlearn.metrics as fl
    from sklearn.metrics import precision_score

    if metric == "selection_rate":
        function = fl.demographic_parity_ratio if compare == "ratio" else fl.demographic_parity_difference
        return function(y, p, sensitive_features=g)
    if metric == "equalized_odds":
        return fl.equalized_odds_difference(y, p, sensitive_features=g)

    def negative_predictive_value(y_true, y_pred):
        return precision_score(y_true, y_pred, pos_label=0)

    chosen = {
        "true_positive_rate": fl.true_positive_rate,
        "false_positive_rate": fl.false_positive_rate,
        "positive_predictive_value": precision_score,
        "negative_predictive_value": negative_predictive_value,
    }[metric]
    return fl.MetricFrame(metrics=chosen, y_true=y, y_pred=p, sensitive_features=g).difference()


def aif360(y, p, g, metric, compare):
    from aif360.datasets import BinaryLabelDataset
    from aif360.metrics import ClassificationMetric

    def dataset(labels):
        frame = pd.DataFrame({"sex": (g == "M").astype(float).where(g.notna()), "y": labels})
        return BinaryLabelDataset(df=frame, label_names=["y"], protected_attribute_names=["sex"])

    sides = {"privileged_groups": [{"sex": 1.0}], "unprivileged_groups": [{"sex": 0.0}]}
    found = ClassificationMetric(dataset(y), dataset(p), **sides)
    if metric == "selection_rate":
        value = found.disparate_impact() if compare == "ratio" else found.statistical_parity_difference()
    elif metric == "equalized_odds":
        value = found.equalized_odds_difference()
    elif metric == "true_positive_rate":
        value = found.equal_opportunity_difference()
    elif metric == "false_positive_rate":
        value = found.false_positive_rate_difference()
    else:
        rate = getattr(found, metric)
        value = rate(privileged=False) - rate(privileged=True)
    return min(value, 1 / value) if compare == "ratio" and value > 0 else abs(value)


def aequitas(y, p, g, metric, compare):
    """aequitas judges ratios alone, so every rule is asked as one."""
    from aequitas.bias import Bias
    from aequitas.group import Group

    frame = pd.DataFrame({"score": p, "label_value": y, "sex": g})
    table, _ = Group().get_crosstabs(frame, attr_cols=["sex"])
    judged = Bias().get_disparity_major_group(table, original_df=frame)
    columns = {
        "selection_rate": ["pprev"],
        "equalized_odds": ["tpr", "fpr"],
        "true_positive_rate": ["tpr"],
        "false_positive_rate": ["fpr"],
        "positive_predictive_value": ["precision"],
        "negative_predictive_value": ["npv"],
    }[metric]
    ratios = [value for name in columns for value in judged[f"{name}_disparity"].astype(float)]
    if any(math.isnan(value) for value in ratios):
        return math.nan
    return min(min(value, 1 / value) if value > 0 else 0.0 for value in ratios)


def coded(column):
    """no/yes as 0/1, what is neither as missing; numbers stay what they are."""
    known = column.map({"no": 0, "yes": 1})
    if column.dtype.kind in "iufb":
        return column
    return known.astype(int) if known.notna().all() else known


def main() -> None:
    folder, library = Path(sys.argv[1]), sys.argv[2]
    ask = {"fairlearn": fairlearn, "aif360": aif360, "aequitas": aequitas}[library]
    out, sys.stdout = sys.stdout, sys.stderr
    answers = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        metric, compare = case["rule"]
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                table = pd.read_csv(folder / case["file"])
                y, p = (table[key] if case["raw"] else coded(table[key]) for key in ("label", "decision"))
                value = float(ask(y, p, table["sex"], metric, compare))
            except Exception as error:
                answers[name] = f"refuses ({type(error).__name__})"
                continue
        loud = [w for w in warned if issubclass(w.category, UserWarning | RuntimeWarning)]
        if math.isnan(value):
            answers[name] = "NaN"
        else:
            limit_is_low = compare == "ratio" or library == "aequitas"
            answers[name] = "passes" if (value >= 0.5 if limit_is_low else value <= 0.4) else "fails"
        answers[name] += ", with a warning" if loud else ""
    out.write(json.dumps(answers))


if __name__ == "__main__":
    main()
