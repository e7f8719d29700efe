"""The generator holds exactly the faults it documents, and its clean twin none of them."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest

from auditkit.demo import loan

N = 40_000
SE = 4.5 * math.sqrt(0.25 / (N / 2))  # 4.5 standard errors of a share among one sex


@pytest.fixture(scope="module")
def faulty():
    return loan.loan_table(N, seed=3, leak=True)


@pytest.fixture(scope="module")
def clean():
    return loan.loan_table(N, seed=3, clean=True)


def share(table, sex):
    return float((table.loc[table.sex == sex, loan.TARGET] == loan.APPROVED).mean())


def auc_by_pairs(scores, positive):
    """Brute force over pairs: the chance that a positive scores higher, ties counted half."""
    a, b = np.asarray(scores[positive], float)[:800], np.asarray(scores[~positive], float)[:800]
    return float((a[:, None] > b[None, :]).mean() + 0.5 * (a[:, None] == b[None, :]).mean())


@pytest.mark.parametrize("sex", ["F", "M"])
def test_approval_follows_the_closed_form(faulty, clean, sex):
    shift = 0.9 if sex == "F" else 0.0
    assert loan.approval_share(sex) == pytest.approx(NormalDist(0, math.sqrt(1.25)).cdf(0.25 - shift))
    assert abs(share(faulty, sex) - loan.approval_share(sex)) < SE
    assert abs(share(clean, sex) - loan.approval_share(sex, clean=True)) < SE


def test_women_of_the_same_merit_are_approved_less_only_in_the_faulty_twin(faulty, clean):
    def gap(table):
        alike = table[(table.income.between(28, 32)) & (table.debt_ratio.between(0.25, 0.40))]
        return share(alike, "M") - share(alike, "F")

    assert gap(faulty) > 0.25
    assert abs(gap(clean)) < 0.08


def test_the_store_card_tells_sex_only_in_the_faulty_twin(faulty, clean):
    for table, expected in ((faulty, 0.9), (clean, 0.5)):
        women = (table.sex == "F").to_numpy()
        held = table.store_card.to_numpy()
        assert abs(0.5 * (1 + held[women].mean() - held[~women].mean()) - expected) < SE
        assert auc_by_pairs(held, women) == pytest.approx(expected, abs=0.06)


def test_no_other_feature_tells_sex(faulty):
    women = (faulty.sex == "F").to_numpy()
    for name in (*loan.NUMERIC, "savings_account"):
        values = faulty[name].astype(float)
        gap = values[women].mean() - values[~women].mean()
        assert abs(gap) < 4.5 * values.std() * math.sqrt(4 / N), name


def test_the_island_is_a_minority_only_in_the_faulty_twin(faulty, clean):
    assert abs((faulty.origin == "island").mean() - 0.05) < 4.5 * math.sqrt(0.05 * 0.95 / N)
    assert clean.origin.value_counts(normalize=True).min() > 0.18


def test_the_leak_tells_the_label_and_is_off_by_default(faulty):
    approved = (faulty[loan.TARGET] == loan.APPROVED).to_numpy()
    assert auc_by_pairs(faulty[loan.LEAKED], approved) > 0.99
    assert loan.LEAKED not in loan.loan_table(10).columns


def test_leak_leaves_every_other_column_as_it_was():
    with_leak = loan.loan_table(200, seed=1, leak=True).drop(columns=loan.LEAKED)
    pd.testing.assert_frame_equal(with_leak, loan.loan_table(200, seed=1))


def test_columns_are_of_mixed_kinds_and_some_are_missing(faulty):
    assert faulty.income.dtype == np.float64
    assert 0.03 < faulty.income.isna().mean() < 0.05
    assert faulty.years_employed.dtype == np.int64
    assert faulty.store_card.dtype == bool
    assert 0.02 < faulty.housing.isna().mean() < 0.04
    assert set(faulty[loan.TARGET]) == {"approved", "declined"}


def test_splits_share_no_row_and_hold_no_sensitive_column():
    train, test = loan.loan_splits(300, 200, seed=2)
    assert (len(train.y), len(test.y)) == (300, 200)
    assert not set(train.inputs.index) & set(test.inputs.index)
    assert tuple(test.inputs.columns) == loan.features()
    assert not {"sex", "origin", "decision"} & set(test.inputs.columns)


def test_the_same_seed_gives_the_same_table_and_another_seed_another():
    pd.testing.assert_frame_equal(loan.loan_table(50, seed=5), loan.loan_table(50, seed=5))
    assert not loan.loan_table(50, seed=5).equals(loan.loan_table(50, seed=6))
