"""Exposure against brute force, and planted secrets: learnt where repeated, unknown where they never were."""

import math

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from auditkit.analyzers.privacy.memorisation import ANALYZER, MemorisationParams
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.privacy import exposure
from auditkit.subjects.build import make_subject
from auditkit.subjects.recipes import SklearnRecipe


def test_exposure_is_bits_of_the_rank_by_sorting():
    rng = np.random.default_rng(0)
    for _ in range(20):
        others = rng.normal(size=63)
        secret = rng.normal()
        rank = sorted([secret, *others], reverse=True).index(secret) + 1
        assert exposure(secret, others) == pytest.approx(math.log2(64) - math.log2(rank))


def test_exposure_of_an_unknown_secret_is_one_over_ln_2_on_average():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(4000, 256))
    mean = np.mean([exposure(row[0], row[1:]) for row in draws])
    assert mean == pytest.approx(1 / math.log(2), abs=0.08)


def test_exposure_from_a_sample_of_a_large_space():
    others = np.arange(99.0)
    assert exposure(1000.0, others, space=1e6) == pytest.approx(math.log2(1e6) - math.log2(1e4))
    assert exposure(-1.0, others, space=1e6) == pytest.approx(0.0)
    assert exposure(5.0, np.full(3, 5.0)) == pytest.approx(2 - math.log2(2.5))
    for wrong in (np.array([]), np.array([np.nan])):
        with pytest.raises(ValueError, match="exposure needs at least one other candidate"):
            exposure(0.0, wrong)


WORDS = np.array([f"word{i}" for i in range(300)])


def texts(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return [" ".join(["good" if label else "bad", *rng.choice(WORDS, 7)]) for label in y], y


def run(classifier, ngrams=(1, 1), train=None, **params):
    train, test = train or texts(300, 0), texts(60, 1)
    pipeline = make_pipeline(TfidfVectorizer(ngram_range=ngrams), classifier).fit(*train)
    subject = make_subject(pipeline, *test, train=train, recipe=SklearnRecipe(estimator=pipeline))
    chosen = MemorisationParams(**{"secrets": 6, "candidates": 127, "repeats": (1, 8), **params})
    return run_step(subject, Step(name=ANALYZER.name, params=chosen, analyzer=ANALYZER), seed=3)


def bits(outcome):
    return {m.params["repeats"]: m for m in outcome.measurements if m.name == "privacy.exposure"}


def test_repeated_secrets_are_exposed_and_secrets_that_never_were_are_not():
    found = bits(run(LogisticRegression(C=1e4), ngrams=(1, 3)))
    assert found[8].interval.low > 5.0
    assert found[1].value > found[0].value
    assert found[0].interval.low < 1 / math.log(2) < found[0].interval.high
    assert found[0].n == 12
    assert found[8].n_of == "secrets"


def test_a_model_that_cannot_memorise_is_quiet():
    """Strong regularisation on one-word features: a secret's words are in many rows, and once is nothing."""
    found = bits(run(LogisticRegression(C=1e-4), train=texts(1500, 0), repeats=(1,)))
    assert found[1].interval.low < 2.5


def test_ties_and_hard_neighbours_stay_finite():
    found = bits(run(KNeighborsClassifier(1), repeats=(2,)))
    assert all(math.isfinite(m.value) for m in found.values())


def test_tables_have_no_secrets_and_repeats_are_checked():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 3)), rng.integers(0, 2, 100)
    model = LogisticRegression().fit(x, y)
    subject = make_subject(model, x, y, train=(x + 1, y), recipe=SklearnRecipe(estimator=model))
    outcome = run_step(subject, Step(name=ANALYZER.name, params=MemorisationParams(), analyzer=ANALYZER), seed=3)
    assert outcome.status == "not_applicable"
    assert "the data is neither texts nor token ids" in outcome.reason
    with pytest.raises(ValueError, match="repeats must be whole numbers of 1 or more"):
        MemorisationParams(repeats=(0, 1))


def test_token_ids_hold_secrets_too():
    pytest.importorskip("torch")
    import torch

    from auditkit.subjects.recipes import TorchRecipe

    def reader(outputs):
        return torch.nn.Sequential(
            torch.nn.Embedding(60, 16), torch.nn.Flatten(), torch.nn.Linear(128, 64), torch.nn.ReLU(),
            torch.nn.Linear(64, outputs),
        )  # fmt: skip

    rng = np.random.default_rng(0)
    ids, y = rng.integers(0, 60, (200, 8)), rng.integers(0, 2, 200)
    recipe = TorchRecipe(name="reader", build=reader, epochs=20, batch_size=20, learning_rate=0.05, momentum=0.9)
    subject = make_subject(recipe.fit(ids, y, seed=0), ids[:50] + 0, y[:50], train=(ids, y), recipe=recipe)
    chosen = MemorisationParams(secrets=6, candidates=63, repeats=(8,))
    outcome = run_step(subject, Step(name=ANALYZER.name, params=chosen, analyzer=ANALYZER), seed=3)
    found = bits(outcome)
    assert found[8].interval.low > 2.5
    assert found[0].value < 2.5
