"""Each contract check has a mutant that it must kill, and an honest analyzer that it must let live."""

from __future__ import annotations

import dataclasses
import random
import time

import numpy as np
import pytest

from auditkit.core.analyzer import Analyzer, Params
from auditkit.core.evidence import Interval, Measurement
from auditkit.testing import CHECKS, ContractBroken, check_analyzer
from subject_zoo import mlp_subject

SUBJECT_NEEDS = frozenset({"labels", "scores", "inputs"})


def measurement(value, n=10, **changes):
    interval = Interval(low=0.0, high=1.0, level=0.95, method="wilson")
    return Measurement(
        **{"name": "demo.rate", "value": value, "n": n, "interval": interval, "bounds": (0, 1), **changes}
    )


def honest(subject, context, params):
    context.check_deadline()
    yield measurement(float(context.rng.random()), n=subject.test.n)


def analyzer(run=honest, **changes):
    base = Analyzer(
        name="demo.honest",
        version="1",
        title="Demo",
        summary="A number between 0 and 1.",
        reference="none, a test",
        needs=SUBJECT_NEEDS,
        measures={"demo.rate": "A random number between zero and one."},
        params=Params,
        run=run,
    )
    return dataclasses.replace(base, **changes)


def crashes(subject, context, params):
    context.check_deadline()
    raise RuntimeError("boom")
    yield


def drifts(subject, context, params):
    context.check_deadline()
    yield measurement(time.perf_counter() % 1.0)


def out_of_bounds(subject, context, params):
    context.check_deadline()
    yield measurement(1.5, interval=None, reason="none given")


def interval_elsewhere(subject, context, params):
    context.check_deadline()
    yield measurement(0.9, interval=Interval(low=0.1, high=0.2, level=0.95, method="wilson"))


def no_uncertainty(subject, context, params):
    context.check_deadline()
    yield measurement(0.5, interval=None)


def numpy_scalar(subject, context, params):
    context.check_deadline()
    yield measurement(np.float64(0.5))


def uses_global_generators(subject, context, params):
    context.check_deadline()
    random.random()
    np.random.random()  # noqa: NPY002 - the fault that is planted
    yield measurement(0.5)


def trains_the_model(subject, context, params):
    context.check_deadline()
    subject.model.module.train()
    yield measurement(0.5)


def writes_the_data(subject, context, params):
    context.check_deadline()
    inputs = subject.test.inputs
    inputs[0, 0] += 1.0
    yield measurement(0.5)


def ignores_the_deadline(subject, context, params):
    yield measurement(0.5)


def restarts_its_bar(subject, context, params):
    for _ in range(2):
        for done in range(3):
            context.check_deadline()
            context.progress(done + 1, 3)
    yield measurement(0.5)


def crashes_on_one_row(subject, context, params):
    context.check_deadline()
    if subject.test.n < 5:
        raise IndexError("too few")
    yield measurement(0.5)


MUTANTS = {
    "measured_something": analyzer(crashes),
    "descriptor_is_whole": analyzer(summary=""),
    "same_seed_same_numbers": analyzer(drifts),
    "values_inside_bounds": analyzer(out_of_bounds),
    "interval_holds_value": analyzer(interval_elsewhere),
    "uncertainty_or_reason": analyzer(no_uncertainty),
    "plain_types": analyzer(numpy_scalar),
    "generators_unchanged": analyzer(uses_global_generators),
    "model_unchanged": analyzer(trains_the_model),
    "data_unchanged": analyzer(writes_the_data),
    "deadline_is_kept": analyzer(ignores_the_deadline),
    "progress_is_one_bar": analyzer(restarts_its_bar),
    "small_data_is_survived": analyzer(crashes_on_one_row),
}


@pytest.fixture
def subject():
    import copy

    original = mlp_subject()
    test = dataclasses.replace(original.test, inputs=np.array(original.test.inputs))
    model = copy.copy(original.model)
    try:
        model.module = copy.deepcopy(original.model.module)
    except dataclasses.FrozenInstanceError:
        model = dataclasses.replace(original.model, module=copy.deepcopy(original.model.module))
    return dataclasses.replace(original, test=test, model=model)


def test_the_honest_analyzer_keeps_every_check(subject):
    assert check_analyzer(analyzer(), subject).status == "measured"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_check_kills_its_mutant(check, subject, monkeypatch):
    if check.__name__ == "missing_capability_is_told":
        # The runner itself enforces this one, so its mutant is a runner that no longer looks.
        monkeypatch.setattr("auditkit.execution.runner.missing", lambda needs, subject: None)
        mutant = analyzer()
    else:
        mutant = MUTANTS[check.__name__]
    with pytest.raises(ContractBroken, match=check.__name__):
        check_analyzer(mutant, subject, checks=[check])


def test_a_skip_needs_a_reason(subject):
    with pytest.raises(ValueError, match="needs a reason"):
        check_analyzer(analyzer(), subject, skip={"plain_types": ""})


def test_a_subject_that_lacks_a_need_is_refused(subject):
    with pytest.raises(ValueError, match="cannot try"):
        check_analyzer(analyzer(needs=frozenset({"trees"})), subject)
