"""The runner: outcomes for everything, seeds, deadlines, one prediction pass."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

import auditkit
from auditkit.core.analyzer import Analyzer, Note, Params
from auditkit.core.errors import AuditkitError, NotApplicable
from auditkit.core.evidence import Measurement
from auditkit.core.plan import Plan, Step
from auditkit.core.subject import Dataset, Subject
from auditkit.execution.checkpoint import Checkpoints, resume_key
from auditkit.execution.lock import output_lock
from auditkit.execution.predictions import PredictionCache
from auditkit.execution.runner import run_plan, run_step


class CountingModel:
    """Counts its passes."""

    classes = ("no", "yes")
    score_space = "probability"
    capabilities = frozenset({"labels", "scores", "inputs", "model"})
    kind = "counting"
    fingerprint = "sha256:counting"

    def __init__(self, scores=None, decisions=None):
        self.passes = {"scores": 0, "decisions": 0}
        self._scores, self._decisions = scores, decisions

    def predict_scores(self, inputs):
        self.passes["scores"] += 1
        return np.tile([0.4, 0.6], (len(inputs), 1)) if self._scores is None else self._scores

    def predict(self, inputs):
        self.passes["decisions"] += 1
        return np.ones(len(inputs), dtype=np.int64) if self._decisions is None else self._decisions


def subject(model=None, n=8):
    data = Dataset(inputs=np.zeros((n, 2)), y=np.zeros(n, dtype=np.int64), fingerprint="sha256:data")
    return Subject(name="s", model=model or CountingModel(), test=data, task="binary", positive=1)


def analyzer(run, name="demo.a", **changes):
    base = Analyzer(
        name=name,
        version="1",
        title="t",
        summary="s",
        reference="r",
        needs=frozenset({"labels"}),
        measures={"demo.x": "a number for the test"},
        params=Params,
        run=run,
    )
    return dataclasses.replace(base, **changes)


def step(run, name="demo.a", **changes):
    return Step(name=name, params=Params(), analyzer=analyzer(run, name, **changes))


def draws(subject, context, params):
    context.scores()
    context.decisions()
    yield Measurement(name="demo.x", value=float(context.rng.random()), n=1, reason="exact")


def test_the_model_is_asked_once_for_all_analyzers():
    model = CountingModel()
    run_plan(subject(model), Plan(steps=(step(draws), step(draws, "demo.b"), step(draws, "demo.c"))))
    assert model.passes == {"scores": 1, "decisions": 1}


def test_adding_an_analyzer_changes_no_other_number():
    def value(steps, name):
        outcomes = run_plan(subject(), Plan(steps=steps, seed=3)).outcomes
        return next(o.measurements[0].value for o in outcomes if o.analyzer == name)

    alone = value((step(draws, "demo.b"),), "demo.b")
    among = value((step(draws, "demo.a"), step(draws, "demo.b"), step(draws, "demo.c")), "demo.b")
    assert alone == among
    assert value((step(draws, "demo.a"),), "demo.a") != alone


def test_another_seed_gives_other_numbers():
    first, second = (run_step(subject(), step(draws), seed=seed).measurements[0].value for seed in (0, 1))
    assert first != second


def test_what_was_measured_before_a_crash_is_kept_and_the_crash_is_shown():
    def run(subject, context, params):
        yield Measurement(name="demo.x", value=1.0, n=1, reason="exact")
        raise ZeroDivisionError("planted")

    outcome = run_step(subject(), step(run))
    assert outcome.status == "failed"
    assert "ZeroDivisionError: planted" in outcome.reason
    assert outcome.measurements[0].value == 1.0


def test_what_was_measured_is_explained_in_the_analyzers_words():
    def run(subject, context, params):
        yield Measurement(name="demo.x", value=1.0, n=1, reason="exact")

    two = analyzer(run, measures={"demo.x": "a number for the test", "demo.y": "not measured"})
    outcome = run_step(subject(), Step(analyzer=two, name=two.name, params=Params()))
    assert outcome.meanings == {"demo.x": "a number for the test"}


@pytest.mark.parametrize(
    ("produce", "status", "word"),
    [
        (lambda: NotApplicable("AK999", "does not fit"), "not_applicable", "AK999"),
        (lambda: AuditkitError("AK998", "coded"), "failed", "AK998"),
        (lambda: ValueError("plain"), "failed", "AK300"),
    ],
)
def test_errors_become_outcomes(produce, status, word):
    def run(subject, context, params):
        raise produce()
        yield

    outcome = run_step(subject(), step(run))
    assert (outcome.status, word in outcome.reason) == (status, True)


def test_an_analyzer_that_measures_nothing_has_failed():
    outcome = run_step(subject(), step(lambda s, c, p: iter([Note("only words")])))
    assert outcome.status == "failed"
    assert outcome.reason.startswith("AK304")
    assert outcome.reason.endswith("without measuring anything: only words")
    assert outcome.notes == ("only words",)


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([3.14], "AK305"),
        ([Measurement(name="demo.unknown", value=1.0, n=1)], "AK306"),
        ([Measurement(name="demo.x", value=1.0, n=1)] * 2, "AK307"),
    ],
)
def test_bad_records_are_refused(items, code):
    outcome = run_step(subject(), step(lambda s, c, p: iter(items)))
    assert outcome.status == "failed"
    assert code in outcome.reason


def test_a_missing_capability_is_not_applicable_and_named():
    outcome = run_step(subject(), step(draws, needs=frozenset({"gradients"})))
    assert outcome.status == "not_applicable"
    assert "gradients" in outcome.reason


def test_a_missing_package_is_skipped_with_its_pip_line():
    outcome = run_step(subject(), step(draws, packages=("surely_not_installed",), extra="explain"))
    assert outcome.status == "skipped"
    assert 'pip install "auditkit[explain]"' in outcome.reason


def test_the_deadline_skips_what_has_not_started_and_stops_what_has():
    def slow(subject, context, params):
        yield Measurement(name="demo.x", value=1.0, n=1, reason="exact")
        time.sleep(0.05)
        context.check_deadline()

    plan = Plan(steps=(step(slow), step(draws, "demo.b")), deadline_seconds=0.02)
    first, second = run_plan(subject(), plan).outcomes
    assert (first.status, len(first.measurements)) == ("skipped", 1)
    assert second.status == "skipped"
    assert "deadline" in second.reason


def test_a_fault_in_loading_is_a_failed_outcome():
    broken = Step(name="demo.z", fault=AuditkitError("AK122", "does not load"))
    outcome = run_step(subject(), broken)
    assert outcome.status == "failed"
    assert "AK122" in outcome.reason


@pytest.mark.parametrize(
    ("model", "code"),
    [
        (CountingModel(scores=np.zeros((8, 3))), "AK311"),
        (CountingModel(scores=np.full((8, 2), np.nan)), "AK312"),
        (CountingModel(decisions=np.zeros((8, 1), dtype=int)), "AK311"),
        (CountingModel(decisions=np.full(8, 2)), "AK313"),
        (CountingModel(decisions=np.full(8, -1)), "AK313"),
    ],
)
def test_what_the_model_answers_is_checked(model, code):
    with pytest.raises(AuditkitError, match=code):
        PredictionCache(subject(model))("test")


def test_a_model_that_raises_fails_every_analyzer_but_is_asked_once():
    class Raising(CountingModel):
        def predict_scores(self, inputs):
            self.passes["scores"] += 1
            raise RuntimeError("no weights")

    model = Raising()
    outcomes = run_plan(subject(model), Plan(steps=(step(draws), step(draws, "demo.b")))).outcomes
    assert [o.status for o in outcomes] == ["failed", "failed"]
    assert all("AK310" in o.reason and "no weights" in o.reason for o in outcomes)
    assert model.passes["scores"] == 1


def test_finished_analyzers_are_not_run_again(tmp_path):
    runs = []

    def counted(subject, context, params):
        runs.append(1)
        yield from draws(subject, context, params)

    checkpoints = Checkpoints(tmp_path)
    plan = Plan(steps=(step(counted),))
    first = run_plan(subject(), plan, checkpoints=checkpoints)
    second = run_plan(subject(), plan, checkpoints=checkpoints)
    assert len(runs) == 1
    assert second.resumed == ("demo.a",)
    assert second.outcomes == first.outcomes
    checkpoints.clear()
    run_plan(subject(), plan, checkpoints=checkpoints)
    assert len(runs) == 2


def test_failed_analyzers_are_tried_again(tmp_path):
    def broken(subject, context, params):
        raise ValueError("x")
        yield

    checkpoints = Checkpoints(tmp_path)
    run_plan(subject(), Plan(steps=(step(broken),)), checkpoints=checkpoints)
    assert run_plan(subject(), Plan(steps=(step(draws),)), checkpoints=checkpoints).outcomes[0].status == "measured"


def test_the_resume_key_moves_with_everything_that_moves_a_number():
    base, plain = subject(), step(draws)
    keys = {
        resume_key(base, plain, 0, "cpu"),
        resume_key(base, plain, 1, "cpu"),
        resume_key(base, plain, 0, "cuda"),
        resume_key(base, step(draws, version="2"), 0, "cpu"),
        resume_key(base, step(draws, "demo.b"), 0, "cpu"),
        resume_key(dataclasses.replace(base, positive=0), plain, 0, "cpu"),
        resume_key(dataclasses.replace(base, train=base.test), plain, 0, "cpu"),
        resume_key(
            dataclasses.replace(base, test=dataclasses.replace(base.test, fingerprint="sha256:other")), plain, 0, "cpu"
        ),
    }
    other = CountingModel()
    other.fingerprint = "sha256:retrained"
    keys.add(resume_key(subject(other), plain, 0, "cpu"))
    assert len(keys) == 9


def test_what_was_filed_before_an_interval_kept_more_is_measured_afresh(tmp_path, monkeypatch):
    @dataclasses.dataclass
    class Older:
        low: float
        high: float

    checkpoints = Checkpoints(tmp_path)
    plan = Plan(steps=(step(draws),))
    with monkeypatch.context() as earlier:
        earlier.setattr("auditkit.execution.checkpoint.Interval", Older)
        run_plan(subject(), plan, checkpoints=checkpoints)
        assert run_plan(subject(), plan, checkpoints=checkpoints).resumed == ("demo.a",)
    assert run_plan(subject(), plan, checkpoints=checkpoints).resumed == ()


def test_a_model_without_a_fingerprint_is_simply_run_again():
    model = CountingModel()
    model.fingerprint = None
    assert resume_key(subject(model), step(draws), 0, "cpu") is None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"key": "other", "outcome": {}}', b"[]"])
def test_a_damaged_checkpoint_counts_as_absent(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    plan = Plan(steps=(step(draws),))
    run_plan(subject(), plan, checkpoints=checkpoints)
    (path,) = tmp_path.glob("*.json")
    path.write_bytes(damage)
    assert run_plan(subject(), plan, checkpoints=checkpoints).resumed == ()


def test_one_writer_per_folder(tmp_path):
    from auditkit.core.errors import UsageError

    with output_lock(tmp_path), pytest.raises(UsageError, match="AK303"), output_lock(tmp_path):
        pass
    with output_lock(tmp_path):
        pass


def test_an_output_folder_that_is_a_file_is_a_coded_error(tmp_path):
    from auditkit.core.errors import UsageError

    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="AK302"), output_lock(tmp_path / "out"):
        pass


def test_global_generators_are_restored_even_when_an_analyzer_crashes():
    import random

    def rude(subject, context, params):
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - the fault that is planted
        raise ValueError("x")
        yield

    before = (random.getstate(), np.random.get_state()[1].tobytes())  # noqa: NPY002
    run_step(subject(), step(rude))
    assert before == (random.getstate(), np.random.get_state()[1].tobytes())  # noqa: NPY002


def test_faults_of_a_policy_file_name_its_lines_before_the_model_is_asked(tmp_path):
    policy = tmp_path / "policy.toml"
    policy.write_text('[[rule]]\nid = "x"\nmetric = "performance.accuracy"\nmni = 0.5\n')
    asked = []
    with pytest.raises(AuditkitError, match=r"policy.toml:4: (.|\n)*did you mean 'min'"):
        auditkit.audit(asked.append, np.zeros((4, 1)), [0, 1, 0, 1], policy=policy, progress=False)
    assert asked == []
    with pytest.raises(AuditkitError, match=r"policy.toml:4: "):
        auditkit.audit_predictions([0, 1], [0, 1], policy=policy, progress=False)
