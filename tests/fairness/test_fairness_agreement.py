"""Group metrics against fairlearn on cases that Hypothesis invents; at length in benchmarks/fairness_agreement.py."""

from __future__ import annotations

import math
import warnings

import fairlearn.metrics as fl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.methods.fairness import count_groups, disparity, group_metrics

SHARED = {
    "selection_rate": fl.selection_rate,
    "true_positive_rate": fl.true_positive_rate,
    "false_positive_rate": fl.false_positive_rate,
    "true_negative_rate": fl.true_negative_rate,
    "false_negative_rate": fl.false_negative_rate,
}
TOLERANCE = 1e-12
ROW = st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 3), st.sampled_from([0.01, 1.0, 3.0, 250.0]))


def lacks(metric, y, g):
    """Whether a group has no rows that ``metric`` divides by, from the rows alone."""
    if metric == "selection_rate":
        return False
    wanted = 1 if metric in ("true_positive_rate", "false_negative_rate") else 0
    return any(not (y[g == code] == wanted).any() for code in np.unique(g))


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(ROW, min_size=2, max_size=60), weighted=st.booleans())
def test_rates_differences_and_ratios_are_those_of_fairlearn(rows, weighted):
    y, p, g = (np.array(column) for column in list(zip(*rows, strict=True))[:3])
    w = np.array([row[3] for row in rows]) if weighted else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = fl.MetricFrame(
            metrics=SHARED,
            y_true=y,
            y_pred=p,
            sensitive_features=g,
            sample_params=None if w is None else {name: {"sample_weight": w} for name in SHARED},
        )
        difference, ratio = frame.difference(), frame.ratio()
    counts = count_groups(y, p, g, weights=w)
    table = group_metrics(counts, tuple(SHARED))
    for name in SHARED:
        for (group,), value in table.values(name).items():
            if value is not None:
                assert value == pytest.approx(frame.by_group[name].loc[int(group)], abs=TOLERANCE)
        if len(np.unique(g)) < 2 or lacks(name, y, g):
            assert disparity(counts, name).value is None
            continue
        assert disparity(counts, name).value == pytest.approx(difference[name], abs=TOLERANCE)
        found = disparity(counts, name, "ratio").value
        if found is None:
            assert math.isnan(ratio[name])
            assert set(table.values(name).values()) == {0.0}
        else:
            assert found == pytest.approx(ratio[name], abs=TOLERANCE)


def test_groups_that_select_nobody_do_not_hide_the_worst_ratio():
    y = np.array([0, 1] * 60)
    p = np.array([1, 0] * 20 + [0] * 80)
    g = np.repeat(["a", "b", "c"], 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = fl.demographic_parity_ratio(y, p, sensitive_features=g)
    for reference in ("pairwise", "best"):
        found = disparity(count_groups(y, p, g), "selection_rate", "ratio", reference)
        assert found.value == theirs == 0.0
        assert found.interval.low == 0.0
        assert found.interval.high < 0.5
    twin = disparity(count_groups(y, np.zeros_like(p), g), "selection_rate", "ratio")
    assert twin.value is None
