"""The peers' side of fairness_agreement.py: fairlearn, AIF360 and aequitas asked as their guides show, one call a case.

It imports neither auditkit nor anything of its tests, so that it runs in an environment of its own.

Usage: PYTHON benchmarks/fairness_agreement_peers.py CASES.npz LIBRARY [PART PARTS] > ANSWERS.jsonl
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pandas as pd

AEQUITAS_RATES = ("tpr", "tnr", "for", "fdr", "fpr", "fnr", "npv", "precision", "pprev", "prev")


def cases(path: str):
    with np.load(path) as archive:
        stored = {name: archive[name] for name in archive.files}  # once: an archive reads an array anew at every access
    ends = stored["ends"]
    for index, stop in enumerate(ends):
        rows = slice(int(ends[index - 1]) if index else 0, int(stop))
        weights = stored["w"][rows] if stored["weighted"][index] else None
        yield index, stored["y"][rows], stored["p"][rows], stored["g"][rows], weights


FULL = 40  # every so many cases fairlearn is asked for everything, in a frame of the case's own (a fifth of a second)
BATCH = 300


def fairlearn(y, p, g, w):
    """One case: a MetricFrame and the ready-made disparities."""
    import fairlearn.metrics as fl
    from sklearn import metrics as sk

    metrics = {
        **_base_metrics(),
        "accuracy": sk.accuracy_score,
        "positive_predictive_value": sk.precision_score,
        "f1": sk.f1_score,
        "threat_score": sk.jaccard_score,
        "balanced_accuracy": sk.balanced_accuracy_score,
        "error_rate": sk.zero_one_loss,
    }
    given = None if w is None else {name: {"sample_weight": w} for name in metrics}
    names = np.array([f"g{code}" for code in g])
    frame = fl.MetricFrame(metrics=metrics, y_true=y, y_pred=p, sensitive_features=names, sample_params=given)
    gaps = {f"{name}.difference": float(value) for name, value in frame.difference().items()}
    gaps |= {f"{name}.ratio": float(value) for name, value in frame.ratio().items()}
    both = {"sensitive_features": names, "sample_weight": w}
    gaps["equalized_odds.difference"] = float(fl.equalized_odds_difference(y, p, **both))
    gaps["equalized_odds.ratio"] = float(fl.equalized_odds_ratio(y, p, **both))
    gaps["selection_rate.difference (demographic parity)"] = float(fl.demographic_parity_difference(y, p, **both))
    gaps["selection_rate.ratio (demographic parity)"] = float(fl.demographic_parity_ratio(y, p, **both))
    gaps["true_positive_rate.difference (equal opportunity)"] = float(fl.equal_opportunity_difference(y, p, **both))
    gaps["true_positive_rate.ratio (equal opportunity)"] = float(fl.equal_opportunity_ratio(y, p, **both))
    return {"groups": frame.by_group.to_dict(), "gaps": gaps}


def _base_metrics():
    import fairlearn.metrics as fl

    return {
        "true_positive_rate": fl.true_positive_rate,
        "false_positive_rate": fl.false_positive_rate,
        "false_negative_rate": fl.false_negative_rate,
        "true_negative_rate": fl.true_negative_rate,
        "selection_rate": fl.selection_rate,
    }


def fairlearn_together(batch):
    """Many cases: one MetricFrame with the case as control feature, which compares groups within each case."""
    import fairlearn.metrics as fl

    metrics = _base_metrics()
    y, p, g = (np.concatenate([case[column] for case in batch]) for column in (1, 2, 3))
    w = np.concatenate([np.ones(len(case[1])) if case[4] is None else case[4] for case in batch])
    frame = fl.MetricFrame(
        metrics=metrics,
        y_true=y,
        y_pred=p,
        sensitive_features=pd.Series([f"g{code}" for code in g], name="group"),
        control_features=pd.Series(
            np.repeat([case[0] for case in batch], [len(case[1]) for case in batch]), name="case"
        ),
        sample_params={name: {"sample_weight": w} for name in metrics},
    )
    difference, ratio = frame.difference(), frame.ratio()
    for index, *_, codes, _ in batch:
        present = [f"g{code}" for code in np.unique(codes)]
        rates = frame.by_group.loc[index].loc[present]
        gaps = {f"{name}.difference": float(difference.loc[index, name]) for name in metrics}
        gaps |= {f"{name}.ratio": float(ratio.loc[index, name]) for name in metrics}
        yield {"case": index, "groups": rates.to_dict(), "gaps": gaps}


def aif360(y, p, g, w):
    """Groups 0 (privileged) and 1: AIF360 compares two."""
    from aif360.datasets import BinaryLabelDataset
    from aif360.metrics import BinaryLabelDatasetMetric, ClassificationMetric

    def dataset(labels):
        frame = pd.DataFrame({"g": g.astype(float), "y": labels.astype(float)})
        if w is not None:
            frame["w"] = w
        return BinaryLabelDataset(
            df=frame,
            label_names=["y"],
            protected_attribute_names=["g"],
            instance_weights_name=None if w is None else "w",
            favorable_label=1.0,
            unfavorable_label=0.0,
        )

    sides = {"privileged_groups": [{"g": 0.0}], "unprivileged_groups": [{"g": 1.0}]}
    metric = ClassificationMetric(dataset(y), dataset(p), **sides)
    rates = {
        "true_positive_rate": metric.true_positive_rate,
        "false_positive_rate": metric.false_positive_rate,
        "true_negative_rate": metric.true_negative_rate,
        "false_negative_rate": metric.false_negative_rate,
        "positive_predictive_value": metric.positive_predictive_value,
        "negative_predictive_value": metric.negative_predictive_value,
        "false_discovery_rate": metric.false_discovery_rate,
        "false_omission_rate": metric.false_omission_rate,
        "accuracy": metric.accuracy,
        "error_rate": metric.error_rate,
        "selection_rate": metric.selection_rate,
        "base_rate": metric.base_rate,
    }
    groups = {name: {"g0": float(rate(True)), "g1": float(rate(False))} for name, rate in rates.items()}
    gaps = {
        "selection_rate.difference": metric.statistical_parity_difference(),
        "selection_rate.ratio": metric.disparate_impact(),
        "true_positive_rate.difference": metric.equal_opportunity_difference(),
        "false_positive_rate.difference": metric.false_positive_rate_difference(),
        "false_negative_rate.difference": metric.false_negative_rate_difference(),
        "false_discovery_rate.difference": metric.false_discovery_rate_difference(),
        "false_omission_rate.difference": metric.false_omission_rate_difference(),
        "error_rate.difference": metric.error_rate_difference(),
        "false_positive_rate.ratio": metric.false_positive_rate_ratio(),
        "false_negative_rate.ratio": metric.false_negative_rate_ratio(),
        "false_discovery_rate.ratio": metric.false_discovery_rate_ratio(),
        "false_omission_rate.ratio": metric.false_omission_rate_ratio(),
        "error_rate.ratio": metric.error_rate_ratio(),
        "average_odds.difference": metric.average_abs_odds_difference(),
        "equalized_odds.difference": metric.equalized_odds_difference(),
        "base_rate.difference": BinaryLabelDatasetMetric(dataset(y), **sides).mean_difference(),
    }
    if w is None:
        gaps["generalized_entropy"] = metric.generalized_entropy_index()
    return {"groups": groups, "gaps": {name: float(value) for name, value in gaps.items()}}


def aequitas(y, p, g, w):
    """All groups against group 0; aequitas knows no row weights."""
    from aequitas.bias import Bias
    from aequitas.group import Group

    if w is not None:
        return None
    frame = pd.DataFrame({"score": p, "label_value": y, "g": [f"g{code}" for code in g]})
    table, _ = Group().get_crosstabs(frame, attr_cols=["g"])
    found = table.set_index("attribute_value")
    against = Bias().get_disparity_predefined_groups(table, original_df=frame, ref_groups_dict={"g": "g0"})
    against = against.set_index("attribute_value")
    columns = [f"{name}_disparity" for name in AEQUITAS_RATES if f"{name}_disparity" in against]
    return {
        "groups": {name: found[name].astype(float).to_dict() for name in AEQUITAS_RATES},
        "against": {name.removesuffix("_disparity"): against[name].astype(float).to_dict() for name in columns},
    }


def main() -> None:
    path, library, part, parts = *sys.argv[1:3], *(int(word) for word in sys.argv[3:] or ("0", "1"))
    ask = {"fairlearn": fairlearn, "aif360": aif360, "aequitas": aequitas}[library]
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    out, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    kept = [case for case in cases(path) if case[0] // 10 % parts == part]
    if library == "fairlearn":
        many = [case for case in kept if case[0] % FULL]
        kept = [case for case in kept if case[0] % FULL == 0]
        for start in range(0, len(many), BATCH):
            for answer in fairlearn_together(many[start : start + BATCH]):
                out.write(json.dumps(answer) + "\n")
    for index, y, p, g, w in kept:
        try:
            answer = ask(y, p, g, w)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:160]}"}
        if answer is not None:
            out.write(json.dumps({"case": index, **answer}) + "\n")


if __name__ == "__main__":
    main()
