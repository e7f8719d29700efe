"""Figures published by others, recomputed."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from auditkit.methods.fairness.counts import count_groups
from auditkit.methods.fairness.gaps import disparities, pairs
from auditkit.methods.fairness.metrics import group_rates
from auditkit.methods.fairness.worst import simultaneous_gap

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def table(*names):
    paths = [DATA / name for name in names]
    if not all(path.exists() for path in paths):
        pytest.skip(f"{', '.join(names)} is not present beside the repository")
    rows = []
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            rows += list(csv.DictReader(stream, skipinitialspace=True))
    return rows


def test_propublica_compas_confusion_tables():
    rows = table("compas-two-years.csv.gz")
    y = np.array([int(row["two_year_recid"]) for row in rows])
    p = np.array([int(row["score_text"] != "Low") for row in rows])
    race = np.array([row["race"] for row in rows])
    whole, groups = count_groups(y, p, {"race": race}, classes=("no", "yes"), positive=1)
    assert whole.n == (((2681, 1282), (1216, 2035)),)
    cells = dict(zip((g for (g,) in groups.groups), groups.n, strict=True))
    assert cells["African-American"] == ((990, 805), (532, 1369))
    assert cells["Caucasian"] == ((1139, 349), (461, 505))
    for metric, black, white in (
        ("false_positive_rate", 0.4485, 0.2345),
        ("false_negative_rate", 0.2799, 0.4772),
    ):
        rates = group_rates(groups, metric)
        value = dict(zip((g for (g,) in groups.groups), rates.value, strict=True))
        assert value["African-American"] == pytest.approx(black, abs=5e-5)
        assert value["Caucasian"] == pytest.approx(white, abs=5e-5)


def test_adult_base_rates_by_sex():
    rows = table("adult.train.csv.gz", "adult.test.csv.gz")
    y = np.array([int(row["Y"].rstrip(".") == ">50K") for row in rows])
    sex = np.array([row["sex"] for row in rows])
    counts = count_groups(y, y, {"sex": sex}, classes=("<=50K", ">50K"), positive=1)[1]
    rates = group_rates(counts, "base_rate")
    value = dict(zip((g for (g,) in counts.groups), rates.value, strict=True))
    assert value["Female"] == pytest.approx(0.109251, abs=5e-7)
    assert value["Male"] == pytest.approx(0.303767, abs=5e-7)
    assert simultaneous_gap(rates, "difference").value == pytest.approx(0.194516, abs=5e-7)
    assert simultaneous_gap(rates, "ratio").value == pytest.approx(0.359655, abs=5e-7)


# New York City, 6 RCNY 5-301, the rule's own example: selected, applicants, printed rate in %, printed ratio.
LL144 = {
    "sex": {"Male": (50, 92, 54.3, 1.00), "Female": (34, 76, 44.7, 0.82)},
    "race": {
        "Hispanic": (18, 28, 64.2, 1.00),
        "White": (15, 40, 37.5, 0.58),
        "Black": (16, 32, 50.0, 0.78),
        "Pacific Islander": (5, 8, 62.5, 0.97),
        "Asian": (10, 24, 41.7, 0.65),
    },
}


@pytest.mark.parametrize("column", LL144)
def test_nyc_local_law_144_impact_ratios(column):
    example = LL144[column]
    p = np.concatenate([np.arange(n) < k for k, n, _, _ in example.values()]).astype(int)
    g = np.repeat(list(example), [n for _, n, _, _ in example.values()])
    counts = count_groups(np.zeros(len(p), dtype=int), p, {column: g}, classes=("n", "y"), positive=1)[1]
    rates = group_rates(counts, "selection_rate")
    left, best = pairs(rates, "best")
    ratios = dict(zip(left.tolist(), disparities(rates.value, left, best, "ratio"), strict=True))
    for index, (name,) in enumerate(counts.groups):
        _, n, percent, ratio = example[name]
        assert rates.rows[index] == n
        # 64.2 in the rule is 18/28 = 64.29 truncated, the others are rounded.
        assert 100 * rates.value[index] == pytest.approx(percent, abs=0.1)
        assert round(float(ratios.get(index, 1.0)), 2) == ratio
