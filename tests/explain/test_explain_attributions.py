"""Attributions are computed once a run, and are the same whoever asks first."""

import dataclasses

import numpy as np
import pytest

import subject_zoo
from auditkit.analyzers.explain.attributions import AttributionParams, attributed_rows
from auditkit.core.analyzer import Context
from auditkit.core.errors import DeadlineReached
from auditkit.core.seeds import analyzer_seed
from auditkit.execution.predictions import PredictionCache


def context_of(cache, name, run_seed=0):
    return Context(sequence=analyzer_seed(run_seed, name, {}), predictions=cache, once=cache.once, run_seed=run_seed)


@pytest.fixture
def counted(monkeypatch):
    subject = subject_zoo.pipeline_subject()
    cache, rows = PredictionCache(subject), []
    ask = type(subject.model).predict_scores
    monkeypatch.setattr(
        type(subject.model), "predict_scores", lambda self, inputs: rows.append(len(inputs)) or ask(self, inputs)
    )
    return subject, cache, rows


SMALL = AttributionParams(max_rows=10, max_background=5, engine="shapley")


def test_the_second_that_asks_costs_no_pass(counted):
    subject, cache, rows = counted
    first = attributed_rows(subject, context_of(cache, "explain.shap"), SMALL)
    spent = sum(rows)
    assert spent > 10 * 5
    again = attributed_rows(subject, context_of(cache, "explain.disparity"), SMALL)
    assert again is first
    assert sum(rows) == spent
    attributed_rows(subject, context_of(cache, "explain.disparity"), SMALL.model_copy(update={"max_rows": 11}))
    assert sum(rows) > spent


def test_whoever_asks_first_gets_the_same(counted):
    subject, cache, _ = counted
    first = attributed_rows(subject, context_of(cache, "explain.shap"), SMALL)
    other = PredictionCache(subject)
    second = attributed_rows(subject, context_of(other, "explain.proxies"), SMALL)
    assert np.array_equal(first.attribution.values, second.attribution.values)
    assert np.array_equal(first.rows, second.rows)
    third = attributed_rows(subject, context_of(PredictionCache(subject), "explain.shap", run_seed=1), SMALL)
    assert not np.array_equal(first.rows, third.rows)


def test_what_raised_is_tried_again(counted):
    subject, cache, _ = counted
    late = dataclasses.replace(context_of(cache, "explain.shap"), deadline=0.0)
    with pytest.raises(DeadlineReached, match="AK320"):
        attributed_rows(subject, late, SMALL)
    assert attributed_rows(subject, context_of(cache, "explain.shap"), SMALL).unreliable is None
