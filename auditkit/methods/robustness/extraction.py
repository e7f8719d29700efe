"""Model extraction without a network: a scikit-learn copy taught by the answers of the audited model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.core.generators import preserved_generators
from auditkit.core.subject import FloatArray, IntArray

FOLDS = 3


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a model: what kind of model it is, and how it decides rows of the kind that taught it."""

    kind: str
    decide: Callable[[Any], IntArray]


def copy_table(rows: FloatArray, answers: IntArray, *, seed: int = 0) -> Copy:
    """The copy that an outsider would choose: logistic regression, random forest or (two classes) gradient boosting.

    The choice is made by the outsider's own means: cross-validation on the answers received.

    Args:
        rows: ``(q, f)`` numbers without missing values.
        answers: ``(q,)`` codes that the model answered.
        seed: Of folds and trees.

    Source: Tramer et al. (2016), section 5, retraining from labels.

    >>> rows = np.linspace(-1.0, 1.0, 60)[:, None]
    >>> copy_table(rows, (rows[:, 0] > 0.2).astype(np.int64)).decide(np.array([[-0.5], [0.6]])).tolist()
    [0, 1]
    """
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    state = seed % 2**31
    candidates: dict[str, Any] = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "random forest": RandomForestClassifier(n_estimators=60, random_state=state),
    }
    if len(np.unique(answers)) == 2:
        # With many classes it learns less from few rows than the other two, and takes a tree a class.
        candidates["gradient boosting"] = GradientBoostingClassifier(n_estimators=50, random_state=state)
    return _best_of(candidates, rows, answers, state)


def copy_texts(texts: Sequence[str], answers: IntArray, *, seed: int = 0) -> Copy:
    """A logistic regression on words and pairs of words, taught by the answers to ``texts``.

    Token ids may be given as words, separated by spaces.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\S+")  # noqa: S106 - no secret
    model = make_pipeline(words, LogisticRegression(C=10.0, max_iter=500))
    return _best_of({"words and logistic regression": model}, list(texts), answers, seed % 2**31)


def _best_of(candidates: dict[str, Any], rows: Any, answers: IntArray, seed: int) -> Copy:
    """The candidate that agrees with most answers of held-out folds, fitted on all of them."""
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    values, counts = np.unique(answers, return_counts=True)
    if len(values) == 1:
        only = int(values[0])
        return Copy("one answer", lambda asked: np.full(_length(asked), only, dtype=np.int64))
    name = next(iter(candidates))
    with preserved_generators(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if len(candidates) > 1 and counts.max() >= FOLDS:
            folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
            found = {
                key: float(np.mean(cross_val_score(model, rows, answers, cv=folds, error_score=0.0)))
                for key, model in candidates.items()
            }
            name = max(found, key=lambda key: found[key])
        model = candidates[name].fit(rows, answers)
    return Copy(name, lambda asked: np.asarray(model.predict(asked), dtype=np.int64))


def _length(rows: Any) -> int:
    return len(rows)
