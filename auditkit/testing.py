"""The contract that every analyzer keeps, ours and third parties' alike.

``check_analyzer(analyzer, subject)`` runs all checks and raises one :class:`ContractBroken` that lists what broke.
Each check is a plain function in :data:`CHECKS`, so that a test can name the one it expects to fail.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from auditkit.core.analyzer import Analyzer, Context, Params
from auditkit.core.capability import WORDS, missing
from auditkit.core.errors import DeadlineReached, NotApplicable
from auditkit.core.evidence import Measurement, Outcome
from auditkit.core.plan import Step
from auditkit.core.schema import canonical_json, outcome_document, outcome_from
from auditkit.core.seeds import analyzer_seed
from auditkit.core.subject import Subject
from auditkit.execution.predictions import PredictionCache
from auditkit.execution.runner import run_step


class ContractBroken(AssertionError):
    """An analyzer breaks its contract; the message lists every broken check with what was seen."""


@dataclass(frozen=True)
class Trial:
    """What the checks look at: the analyzer, its parameters, a subject it applies to, and one outcome."""

    analyzer: Analyzer
    params: Params
    subject: Subject
    outcome: Outcome
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    told: tuple[tuple[int, int], ...] = ()

    def again(self, subject: Subject | None = None, **settings: Any) -> Outcome:
        """Run once more."""
        return _run(self.analyzer, self.params, subject or self.subject, **settings)


def measured_something(trial: Trial) -> None:
    """On a subject it applies to, it measures."""
    assert trial.outcome.status == "measured", f"{trial.outcome.status}: {trial.outcome.reason}"
    assert trial.outcome.measurements, "no measurement at all"


def descriptor_is_whole(trial: Trial) -> None:
    """The descriptor names its summary, reference, needs that exist, and a sentence for each measurement."""
    analyzer = trial.analyzer
    assert analyzer.title, "no title"
    assert analyzer.summary, "no summary"
    assert analyzer.reference, "no reference"
    assert analyzer.version, "no version"
    unknown = analyzer.needs - set(WORDS)
    assert not unknown, f"needs unknown capabilities {sorted(unknown)}"
    for name, sentence in analyzer.measures.items():
        assert name.startswith(f"{analyzer.family}."), f"{name} is not under the family prefix {analyzer.family}."
        assert len(sentence) > 10, f"{name} has no sentence"


def same_seed_same_numbers(trial: Trial) -> None:
    """The same seed gives the same outcome, byte for byte."""
    first, second = (canonical_json(outcome_document(o)) for o in (trial.outcome, trial.again()))
    assert first == second, "two runs with one seed differ"


def values_inside_bounds(trial: Trial) -> None:
    """Every value, and its interval, lies inside the bounds it declares."""
    for m in trial.outcome.measurements:
        low, high = m.bounds
        for what, value in (("value", m.value), *_ends(m)):
            if value is not None:
                assert low is None or value >= low - 1e-9, f"{m.key}: {what} {value} is below {low}"
                assert high is None or value <= high + 1e-9, f"{m.key}: {what} {value} is above {high}"


def interval_holds_value(trial: Trial) -> None:
    """Every interval holds its point estimate."""
    for m in trial.outcome.measurements:
        if m.interval is not None and m.value is not None:
            inside = m.interval.low - 1e-9 <= m.value <= m.interval.high + 1e-9
            assert inside, f"{m.key}: {m.value} is outside ({m.interval.low}, {m.interval.high})"


def uncertainty_or_reason(trial: Trial) -> None:
    """Every value says how many rows it rests on, and has an interval or says why not."""
    for m in trial.outcome.measurements:
        if m.value is not None:
            assert m.n is not None, f"{m.key} has no n"
            assert m.n >= 0, f"{m.key} has n {m.n}"
            assert m.interval is not None or m.reason, f"{m.key} has neither an interval nor a reason"


def plain_types(trial: Trial) -> None:
    """Values are plain Python numbers, not numpy scalars, and survive JSON unchanged."""
    for m in trial.outcome.measurements:
        for value in (m.value, *(end for _, end in _ends(m))):
            assert value is None or type(value) in (float, int), f"{m.key} holds a {type(value).__name__}"
    text = canonical_json(outcome_document(trial.outcome))
    back = outcome_from(json.loads(text))
    assert canonical_json(outcome_document(back)) == text, "the outcome changes on its way through JSON"


def generators_unchanged(trial: Trial) -> None:
    """The analyzer itself leaves the global random generators alone (the runner restores them too)."""
    for name in ("random", "numpy", "torch"):
        # A library first imported by the analyzer had no generator before, and so none that could be moved.
        if name in trial.before:
            assert trial.before[name] == trial.after.get(name), f"the global generator of {name} moved"


def model_unchanged(trial: Trial) -> None:
    """Parameters, buffers, gradients, requires_grad and train/eval mode of a torch module are as before."""
    assert trial.before.get("model") == trial.after.get("model"), "the model is not as it was"


def data_unchanged(trial: Trial) -> None:
    """Inputs, labels and weights are as before."""
    assert trial.before["data"] == trial.after["data"], "the data is not as it was"


def missing_capability_is_told(trial: Trial) -> None:
    """A subject that lacks what the analyzer needs gets ``not_applicable`` with the missing word."""
    for word in sorted(trial.analyzer.needs & {"scores", "gradients", "trees", "labels"}):
        lesser = _without(trial.subject, word)
        outcome = trial.again(lesser)
        assert outcome.status == "not_applicable", f"without {word}: {outcome.status}"
        assert word in (outcome.reason or ""), f"without {word}: the reason does not name it"


def deadline_is_kept(trial: Trial) -> None:
    """With a deadline already past, it stops at its first check (the runner's own refusal is left out here)."""
    begun = time.monotonic()
    context = Context(
        sequence=analyzer_seed(7, trial.analyzer.name, trial.params.model_dump(mode="json")),
        predictions=PredictionCache(trial.subject),
        deadline=begun - 1.0,
    )
    try:
        for _ in trial.analyzer.run(trial.subject, context, trial.params):
            pass
    except (DeadlineReached, NotApplicable):
        assert time.monotonic() - begun < 5.0, "it went on long after the deadline"
    else:
        raise AssertionError("it ran to its end after the deadline: call context.check_deadline()")


def progress_is_one_bar(trial: Trial) -> None:
    """What is told of progress is one bar: its end stays where it is, nothing told is taken back, nothing is beyond."""
    ends = sorted({total for _, total in trial.told})
    assert len(ends) < 2, f"the end of the bar moves: {ends}"
    steps = [done for done, _ in trial.told]
    assert steps == sorted(steps), f"the bar goes back: {steps}"
    assert all(0 <= done <= total for done, total in trial.told), f"beyond the end of the bar: {steps} of {ends}"


def small_data_is_survived(trial: Trial) -> None:
    """One row, one class or two rows never crash it and never give a number without honesty about n."""
    for rows in (np.array([0]), np.array([0, 1]), _one_class(trial.subject)):
        small = _with_rows(trial.subject, rows)
        outcome = trial.again(small)
        crashed = outcome.status == "failed" and "AK300" in (outcome.reason or "")
        assert not crashed, f"{len(rows)} rows: {outcome.reason}"


CHECKS: tuple[Callable[[Trial], None], ...] = (
    measured_something,
    descriptor_is_whole,
    same_seed_same_numbers,
    values_inside_bounds,
    interval_holds_value,
    uncertainty_or_reason,
    plain_types,
    generators_unchanged,
    model_unchanged,
    data_unchanged,
    missing_capability_is_told,
    deadline_is_kept,
    progress_is_one_bar,
    small_data_is_survived,
)


def check_analyzer(
    analyzer: Analyzer,
    subject: Subject,
    *,
    params: Mapping[str, Any] | None = None,
    skip: Mapping[str, str] | None = None,
    checks: Iterable[Callable[[Trial], None]] = CHECKS,
) -> Outcome:
    """Run the contract on one analyzer and a subject it applies to.

    Args:
        analyzer: The descriptor.
        subject: A small subject that has everything the analyzer needs.
        params: Settings, e.g. a small budget.
        skip: Check name -> the reason it cannot hold for this analyzer.
        checks: Which checks to run.

    Returns:
        The outcome of the first run.

    Raises:
        ContractBroken: Lists every check that failed.
        ValueError: The subject lacks what the analyzer needs, or ``skip`` has an empty reason.
    """
    skip = skip or {}
    if any(not reason for reason in skip.values()):
        raise ValueError("a skipped check needs a reason")
    lacking = missing(analyzer.needs, subject)
    if lacking:
        raise ValueError(f"this subject cannot try {analyzer.name}: {lacking}")
    settings = analyzer.params.model_validate(dict(params or {}))
    before = _state(subject)
    outcome, after, told = _observed_run(analyzer, settings, subject)
    trial = Trial(analyzer, settings, subject, outcome, before, after, told)
    broken = []
    for check in checks:
        if check.__name__ in skip:
            continue
        try:
            check(trial)
        except AssertionError as error:
            broken.append(f"{check.__name__}: {error}")
    if broken:
        raise ContractBroken(f"{analyzer.name} breaks its contract\n  " + "\n  ".join(broken))
    return outcome


def _run(analyzer: Analyzer, params: Params, subject: Subject, **settings: Any) -> Outcome:
    step = Step(name=analyzer.name, params=params, analyzer=analyzer)
    return run_step(subject, step, seed=7, predictions=PredictionCache(subject), **settings)


def _observed_run(
    analyzer: Analyzer, params: Params, subject: Subject
) -> tuple[Outcome, Mapping[str, Any], tuple[tuple[int, int], ...]]:
    """Run with an eye on progress, and on the state as the analyzer itself leaves it, before the runner restores it."""
    seen: dict[str, Any] = {}
    told: list[tuple[int, int]] = []

    def watched(subject: Subject, context: Any, params: Any) -> Any:
        heard = dataclasses.replace(context, progress=lambda done, total: told.append((done, total)))
        try:
            yield from analyzer.run(subject, heard, params)
        finally:
            seen.update(_state(subject))

    import dataclasses

    outcome = _run(dataclasses.replace(analyzer, run=watched), params, subject)
    return outcome, seen or _state(subject), tuple(told)


def _state(subject: Subject) -> dict[str, Any]:
    state: dict[str, Any] = {
        "random": hash(random.getstate()),
        "numpy": np.random.get_state()[1].tobytes(),  # type: ignore[index] # noqa: NPY002
        "data": _digest_data(subject),
        "model": _digest_module(getattr(subject.model, "module", None)),
    }
    if "torch" in sys.modules:
        state["torch"] = sys.modules["torch"].get_rng_state().numpy().tobytes()
    return state


def _digest_data(subject: Subject) -> str:
    import hashlib
    import pickle

    parts = [subject.test.inputs, subject.test.y, subject.test.weights]
    if subject.train is not None:
        parts += [subject.train.inputs, subject.train.y]
    return hashlib.sha256(pickle.dumps([np.asarray(part) for part in parts if part is not None])).hexdigest()


def _digest_module(module: Any) -> Any:
    if module is None or not hasattr(module, "named_parameters"):
        return None
    parameters = [
        (
            name,
            value.detach().cpu().numpy().tobytes(),
            value.requires_grad,
            None if value.grad is None else value.grad.detach().cpu().numpy().tobytes(),
        )
        for name, value in module.named_parameters()
    ]
    buffers = [(name, value.detach().cpu().numpy().tobytes()) for name, value in module.named_buffers()]
    modes = [(name, child.training) for name, child in module.named_modules()]
    return parameters, buffers, modes


def _ends(measurement: Measurement) -> tuple[tuple[str, float], ...]:
    if measurement.interval is None:
        return ()
    return (("interval low", measurement.interval.low), ("interval high", measurement.interval.high))


class _Lesser:
    """The same model without one capability."""

    def __init__(self, model: Any, word: str) -> None:
        self._model = model
        self.capabilities = frozenset(model.capabilities) - {word}
        self.score_space = None if word == "scores" else model.score_space

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def _without(subject: Subject, word: str) -> Subject:
    import dataclasses

    return dataclasses.replace(subject, model=_Lesser(subject.model, word))


def _with_rows(subject: Subject, rows: Any) -> Subject:
    import dataclasses

    return dataclasses.replace(copy.copy(subject), test=subject.test.take(np.asarray(rows, dtype=np.int64)))


def _one_class(subject: Subject) -> Any:
    y = subject.test.y
    return np.flatnonzero(y == y[0])[:30]
