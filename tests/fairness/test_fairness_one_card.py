"""What two families measure of the same rows is one number on a card, with one interval."""

import itertools
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

import auditkit

# Whose interval is made another way in each family: the value still has to be one.
OTHER_INTERVAL = {"expected_calibration_error"}
SAME = {"recall": "true_positive_rate", "precision": "positive_predictive_value"}


def table(seed, *, weighted, clustered, n=400):
    rng = np.random.default_rng(seed)
    sex, race = rng.choice(["F", "M", "X"], n, p=[0.45, 0.45, 0.1]), rng.choice(["a", "b"], n)
    label = (rng.random(n) < 0.3 + 0.2 * (sex == "M")).astype(int)
    score = np.clip(0.5 * label + 0.25 + rng.normal(0, 0.25, n), 0, 1).round(2)
    score[::50] = 1.0 - label[::50]  # certain, and wrong
    keys = {"weights": np.exp(rng.normal(0, 1, n)) if weighted else None,
            "clusters": rng.integers(0, n // 4, n) if clustered else None}  # fmt: skip
    return label, score, pd.DataFrame({"sex": sex, "race": race}), keys


@pytest.mark.parametrize(("weighted", "clustered"), [(False, False), (True, False), (False, True), (True, True)])
def test_one_quantity_of_one_slice_has_one_value_and_one_interval(weighted, clustered):
    label, score, sensitive, keys = table(0, weighted=weighted, clustered=clustered)
    report = auditkit.audit_predictions(
        label, (score > 0.5).astype(int), scores=score, sensitive=sensitive, positive=1, progress=False,
        analyzers=["data.quality", "performance", "fairness.groups", "fairness.scores"], **keys,
    )  # fmt: skip
    found = defaultdict(list)
    for m in report.evidence.measurements():
        quantity, _, gap = m.name.split(".", 1)[1].partition(".")
        if not m.params:
            found[SAME.get(quantity, quantity), gap, m.over, tuple(sorted(m.slice.items()))].append(m)
    pairs = [pair for each in found.values() for pair in itertools.combinations(each, 2)]
    assert len(pairs) >= 50
    assert {"accuracy", "balanced_accuracy", "f1", "log_loss", "base_rate", "roc_auc", "recall", "precision"} <= {
        m.name.split(".", 1)[1] for pair in pairs for m in pair
    }
    assert sum(bool(one.over) for one, _ in pairs) >= 12
    for one, two in pairs:
        assert one.value == pytest.approx(two.value, abs=1e-12), (one.name, one.slice)
        if one.name.split(".")[1] in OTHER_INTERVAL:
            continue
        assert (one.interval is None) == (two.interval is None), (one, two)
        if one.interval is not None:
            ends = [(m.interval.low, m.interval.high) for m in (one, two)]
            assert ends[0] == pytest.approx(ends[1], abs=1e-9), (one, two)
            assert one.interval.method == two.interval.method, (one, two)


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_and_fit_of_a_group_are_one_number_too(weighted):
    rng = np.random.default_rng(3)
    n = 300
    true, sex = rng.normal(10, 3, n), rng.choice(["F", "M", "X"], n, p=[0.45, 0.45, 0.1])
    keys = {"weights": np.exp(rng.normal(0, 0.7, n))} if weighted else {}
    report = auditkit.audit_predictions(
        true, true + rng.normal(0, 1.5, n), sensitive={"sex": sex}, task="regression", progress=False,
        analyzers=["performance", "fairness.regression"], **keys,
    )  # fmt: skip
    for name, group in itertools.product(("root_mean_squared_error", "r2"), "FMX"):
        one, two = (report.select(f"{family}.{name}", sex=group)[0] for family in ("performance", "fairness"))
        assert (one.value, one.interval.low, one.interval.high) == pytest.approx(
            (two.value, two.interval.low, two.interval.high), abs=1e-12
        )
        assert one.interval.method == two.interval.method == "linearised-log"


def test_the_upper_limit_of_a_root_of_squares_holds_better_on_the_log_scale():
    """Squared errors are skewed: Student's limits of their mean, rooted, lie too low on either side."""
    from auditkit.stats.linearised import mean
    from auditkit.stats.residuals import root_mean_squared_error

    rng = np.random.default_rng(7)
    over = np.zeros(2)
    for _ in range(1500):
        errors = rng.normal(size=25)
        over += [root_mean_squared_error(errors, np.zeros(25)).interval(0.95).high < 1.0,
                 np.sqrt(mean(errors**2, least=0.0).interval(0.95).high) < 1.0]  # fmt: skip
    assert over[0] / 1500 < 0.06
    assert over[1] / 1500 > over[0] / 1500 + 0.015
