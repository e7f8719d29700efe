"""A synthetic loan table whose faults are known, because its generator is written down here.

No number in it comes from real people. Every applicant has a *merit* ``m ~ N(0, 1)``, a weighted sum of three
independent standard normals (weights 0.6, -0.6 and sqrt(0.28), so that its variance is one):

    m = 0.6 * z_income - 0.6 * z_debt + sqrt(0.28) * z_years

and a past decision that a lender took with some noise ``e ~ N(0, 0.5)``:

    approved  if  m + e > THRESHOLD + penalty,          penalty = PENALTY for women, 0 for men

The share of approved men is therefore ``Phi(-THRESHOLD / sqrt(1.25))`` and that of women
``Phi(-(THRESHOLD + PENALTY) / sqrt(1.25))``; :func:`approval_share` gives both.

Sex and origin are recorded but are not features of the model, and no merit feature depends on them. The faults:

1. **Proxy.** ``store_card`` is held by 90 % of the women and by 10 % of the men: as a score for sex its AUC is 0.90.
2. **Harsher labels.** Women of the same merit are approved less (``PENALTY = 0.9`` on the scale of merit).
3. **Minority.** ``origin = island`` is 5 % of the table.
4. **Leak** (only with ``leak=True``). ``statement_day`` counts the days until the first loan statement was sent: it is
   filled in after the decision, and its AUC for the label is over 0.99.

The clean twin (``clean=True``) is drawn from the same generator without them: no penalty, ``store_card`` held by half
of both sexes, ``origin`` split 45 : 35 : 20, no leak.

Columns: ``income`` (numeric, thousands a year, 4 % missing), ``debt_ratio`` (numeric, in (0, 1)), ``years_employed``
(integer), ``age`` (integer), ``late_payments`` (integer), ``employment``, ``housing`` (3 % missing) and ``purpose``
(categories), ``savings_account`` and ``store_card`` (boolean), and with ``leak`` ``statement_day`` (integer).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.core.subject import FloatArray, IntArray

TARGET = "decision"
APPROVED, DECLINED = "approved", "declined"
SENSITIVE = ("sex", "origin")
NUMERIC = ("income", "debt_ratio", "years_employed", "age", "late_payments")
CATEGORICAL = ("employment", "housing", "purpose")
BOOLEAN = ("savings_account", "store_card")
LEAKED = "statement_day"

MERIT_WEIGHTS = (0.6, -0.6, math.sqrt(0.28))
NOISE = 0.5
THRESHOLD = -0.25
PENALTY = 0.9
CARD_SHARE = {"F": 0.9, "M": 0.1}
ORIGINS = {"north": 0.70, "south": 0.25, "island": 0.05}
CLEAN_ORIGINS = {"north": 0.45, "south": 0.35, "island": 0.20}


@dataclass(frozen=True)
class LoanSplit:
    """One split: ``inputs`` are the model's features, ``y`` the past decisions, ``sensitive`` the recorded groups."""

    inputs: pd.DataFrame
    y: pd.Series
    sensitive: pd.DataFrame


def features(leak: bool = False) -> tuple[str, ...]:
    """Names of the model's features, in order."""
    return (*NUMERIC, *CATEGORICAL, *BOOLEAN, *((LEAKED,) if leak else ()))


def approval_share(sex: str, clean: bool = False) -> float:
    """The exact share of ``sex`` (``F`` or ``M``) that the past decisions approve.

    >>> round(approval_share("M"), 3), round(approval_share("F"), 3)
    (0.588, 0.28)
    >>> approval_share("F", clean=True) == approval_share("M")
    True
    """
    shift = PENALTY if sex == "F" and not clean else 0.0
    return NormalDist().cdf(-(THRESHOLD + shift) / math.sqrt(1.0 + NOISE**2))


def loan_table(n: int, *, seed: int = 0, clean: bool = False, leak: bool = False) -> pd.DataFrame:
    """Draw ``n`` applicants with features, sensitive columns and the past decision.

    Args:
        n: Rows.
        seed: Seed of the draw; the same arguments give the same table.
        clean: Without the planted faults.
        leak: With the leaked column.
    """
    import pandas as pd

    rng = np.random.default_rng([seed, int(clean), 2024])
    sex = np.where(rng.random(n) < 0.5, "F", "M")
    shares = CLEAN_ORIGINS if clean else ORIGINS
    origin = rng.choice(list(shares), size=n, p=list(shares.values()))
    z_income, z_debt, z_years = rng.standard_normal((3, n))
    merit = MERIT_WEIGHTS[0] * z_income + MERIT_WEIGHTS[1] * z_debt + MERIT_WEIGHTS[2] * z_years
    penalty = np.where((sex == "F") & (not clean), PENALTY, 0.0)
    approved = merit + NOISE * rng.standard_normal(n) > THRESHOLD + penalty
    card_share = 0.5 if clean else np.where(sex == "F", CARD_SHARE["F"], CARD_SHARE["M"])
    columns = {
        "income": np.where(rng.random(n) < 0.04, np.nan, np.round(np.exp(3.4 + 0.45 * z_income), 1)),
        "debt_ratio": np.round(1.0 / (1.0 + np.exp(0.8 - 0.9 * z_debt)), 3),
        "years_employed": _years(z_years),
        "age": rng.integers(21, 70, n),
        "late_payments": rng.poisson(0.8, n),
        "employment": rng.choice(["full_time", "part_time", "self_employed"], n, p=[0.7, 0.2, 0.1]),
        "housing": rng.choice(["rent", "own", "mortgage"], n, p=[0.5, 0.2, 0.3]).astype(object),
        "purpose": rng.choice(["car", "home", "study", "other"], n, p=[0.35, 0.3, 0.15, 0.2]),
        "savings_account": rng.random(n) < 0.6,
        "store_card": rng.random(n) < card_share,
    }
    columns["housing"][rng.random(n) < 0.03] = None
    statement_day = np.where(approved, rng.integers(5, 40, n), 0)
    if leak:
        columns[LEAKED] = statement_day
    columns |= {"sex": sex, "origin": origin, TARGET: np.where(approved, APPROVED, DECLINED)}
    return pd.DataFrame(columns)


def split_of(table: pd.DataFrame) -> LoanSplit:
    """Features, labels and sensitive columns of a loan table."""
    names = [name for name in table.columns if name not in (*SENSITIVE, TARGET)]
    return LoanSplit(inputs=table[names], y=table[TARGET], sensitive=table[list(SENSITIVE)])


def loan_splits(
    n_train: int, n_test: int, *, seed: int = 0, clean: bool = False, leak: bool = False
) -> tuple[LoanSplit, LoanSplit]:
    """Independent train and test splits of one draw; row labels of the two do not meet."""
    table = loan_table(n_train + n_test, seed=seed, clean=clean, leak=leak)
    return split_of(table.iloc[:n_train]), split_of(table.iloc[n_train:])


def _years(z: FloatArray) -> IntArray:
    """Years employed: a rounded, monotone function of its standard normal, from 0 to 45."""
    years: IntArray = np.clip(np.round(8.0 * np.exp(0.6 * z)), 0, 45).astype(np.int64)
    return years
