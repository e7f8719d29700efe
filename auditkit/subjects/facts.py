"""What the evidence says about the subject: hashes, shapes, versions; no paths, no rows."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterable

import numpy as np

from auditkit.core.capability import capabilities
from auditkit.core.evidence import DataFacts, FeatureFacts, SubjectFacts
from auditkit.core.subject import Dataset, IntArray, StrArray, Subject
from auditkit.stats.coding import encode_groups

PACKAGES = (
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "torch",
    "shap",
    "lime",
    "captum",
    "fairlearn",
    "adversarial-robustness-toolbox",
    "opacus",
)


def subject_facts(subject: Subject) -> SubjectFacts:
    """The facts of ``subject`` that go into the evidence."""
    model = subject.model
    return SubjectFacts(
        name=subject.name,
        task=subject.task,
        model_kind=model.kind,
        model_fingerprint=model.fingerprint,
        classes=subject.classes,
        positive=None if subject.positive is None else subject.classes[subject.positive],
        score_space=model.score_space,
        capabilities=tuple(sorted(capabilities(subject))),
        test=data_facts(subject.test, subject.classes),
        train=None if subject.train is None else data_facts(subject.train, subject.classes),
        recipe=None if subject.recipe is None else subject.recipe.name,
        versions=versions(_packages_of(getattr(model, "estimator", None))),
    )


def data_facts(dataset: Dataset, classes: tuple[str, ...] = ()) -> DataFacts:
    """Shape, hash and group sizes of one split; label counts when ``classes`` are given."""
    rows = np.ones(len(dataset.y), dtype=np.int64) if dataset.counted is None else dataset.counted.rows
    return DataFacts(
        fingerprint=dataset.fingerprint,
        n_rows=dataset.n,
        modality=dataset.modality,
        features=tuple(FeatureFacts(name=feature.name, kind=feature.kind) for feature in dataset.schema.features),
        sensitive={column: _sizes(values, rows) for column, values in dataset.sensitive.items()},
        label_counts={name: int(rows[dataset.y == code].sum()) for code, name in enumerate(classes)},
        weighted=dataset.weights is not None,
        n_clusters=None if dataset.clusters is None else len(np.unique(dataset.clusters)),
    )


def _sizes(values: StrArray, rows: IntArray) -> dict[str, int]:
    """Rows of each group."""
    names, codes = encode_groups(values)
    counts = np.bincount(codes, weights=rows, minlength=len(names))  # exact up to 2^53 rows
    return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _packages_of(estimator: object) -> tuple[str, ...]:
    """The packages that a scikit-learn estimator and its parts come from, a booster's among them."""
    get_params = getattr(estimator, "get_params", None)
    if not callable(get_params):
        return ()
    try:
        parts = [estimator, *get_params(deep=True).values()]
    except Exception:  # the user's own code; which packages it needs is told as far as it is known
        parts = [estimator]
    modules = {type(part).__module__.partition(".")[0] for part in parts if hasattr(type(part), "fit")}
    return tuple(sorted(modules - {"", "sklearn"}))


def versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Versions of Python, auditkit, what may have made a number, and ``packages``; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in ("auditkit", *PACKAGES, *packages):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
