"""Attribute inference: does the model help to tell a person's attribute beyond what the other columns tell anyway?"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from auditkit.core.evidence import Interval
from auditkit.core.generators import preserved_generators
from auditkit.methods.one_thread import one_openmp_thread

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Inferred:
    """Right guesses ``(n,)`` on the attacked rows: by the other columns alone, and with the model's answers too.

    Attributes:
        by_likelihood: With the chance that the model gives the label at each possible value, weighted by imputation;
            ``None`` where the attribute is no input of the model.
        majority: Right guesses of always naming the commonest value among the rows that the attacker knows.
    """

    without: BoolArray
    with_model: BoolArray
    majority: BoolArray
    by_likelihood: BoolArray | None = None


def infer_attribute(
    known: FloatArray,
    answers: FloatArray,
    attribute: IntArray,
    learn: BoolArray,
    *,
    seed: int,
    log_likelihood: FloatArray | None = None,
) -> Inferred:
    """Guess ``attribute`` on the rows that are not in ``learn``, by two learners that differ in the answers alone.

    Where the model can be asked with each possible value in place, a third guess multiplies what the first learner
    holds likely by the chance that the model then gives the row's label: this also finds what the model remembers of
    its training rows only, which rows that it never saw cannot teach.

    The attacker knows everything but the attribute of the attacked rows, everything of the rows in ``learn``, and
    fits gradient-boosted trees to those. What the learner without the model's answers gets right is imputation: it
    would be possible if the model did not exist.

    Args:
        known: ``(n, d)`` other columns and the label, as numbers; NaN for missing.
        answers: ``(n, m)`` what the model says of each row: its scores, or its log-odds of the label for each value
            that the attribute could have.
        attribute: ``(n,)`` codes of the true values.
        learn: ``(n,)`` rows whose attribute the attacker knows; they should not be training rows of the model.
        seed: Of the learners.
        log_likelihood: ``(n, values)`` log chance of the row's label at each value, in the order of the codes.

    Source: Jayaraman and Evans (2022), Are attribute inference attacks just imputation?, section 4; Mehnaz et al.
    (2022), Are your sensitive attributes private?, and Fredrikson et al. (2014), Privacy in pharmacogenetics, for the
    answers at each possible value.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    values = int(attribute.max()) + 1

    def chances(columns: FloatArray) -> FloatArray:
        """``(attacked, values)``; 0 for values that the attacker has not met."""
        trees = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=15, min_samples_leaf=10, random_state=seed)
        with one_openmp_thread(), warnings.catch_warnings(), preserved_generators(seed):
            warnings.simplefilter("ignore")
            trees.fit(columns[learn], attribute[learn])
            found = np.zeros((int((~learn).sum()), values))
            found[:, np.asarray(trees.classes_, dtype=np.int64)] = trees.predict_proba(columns[~learn])
        return found

    truth, imputed = attribute[~learn], chances(known)
    likely = None
    if log_likelihood is not None:
        likely = (np.log(np.maximum(imputed, 1e-12)) + log_likelihood[~learn]).argmax(axis=1) == truth
    return Inferred(
        without=imputed.argmax(axis=1) == truth,
        with_model=chances(np.column_stack([known, answers])).argmax(axis=1) == truth,
        majority=truth == int(np.bincount(attribute[learn]).argmax()),
        by_likelihood=likely,
    )


def paired_gain(first: BoolArray, second: BoolArray, level: float = 0.95) -> tuple[float, Interval]:
    """Share of right guesses of ``second`` minus that of ``first`` on the same rows, with a score interval.

    Source: Tango (1998), Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design.

    >>> value, interval = paired_gain(np.array([True, False, False]), np.array([True, True, False]))
    >>> round(value, 3), interval.low < 0.0 < interval.high
    (0.333, True)
    """
    from auditkit.stats.intervals import z_value

    n = len(first)
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    value, z = (gained - lost) / n, z_value(level)

    def statistic(delta: float) -> float:
        a = 2.0 * n
        b = -gained - lost + (2.0 * n - gained + lost) * delta
        c = -lost * delta * (1.0 - delta)
        rate = (np.sqrt(max(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
        spread = n * (2.0 * rate + delta * (1.0 - delta))
        return float((gained - lost - n * delta) / np.sqrt(max(spread, 1e-12)))

    low = _crossing(statistic, z, -1.0, value) if value > -1.0 else -1.0
    high = _crossing(statistic, -z, value, 1.0) if value < 1.0 else 1.0
    return value, Interval(low=min(low, value), high=max(high, value), level=level, method="tango-score")


def _crossing(statistic: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where the falling ``statistic`` equals ``target``, by halving."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        if statistic(middle) > target:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
