"""The runner: each step of the plan becomes an outcome, whatever happens inside it."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.util
import logging
import time
from collections.abc import Callable
from typing import Protocol

from auditkit.core.analyzer import Analyzer, Context, Note
from auditkit.core.capability import missing
from auditkit.core.errors import AuditkitError, DeadlineReached, MissingExtra, NotApplicable
from auditkit.core.evidence import Artifact, Measurement, Outcome, Status
from auditkit.core.generators import preserved_generators
from auditkit.core.plan import Plan, Step
from auditkit.core.seeds import analyzer_seed, seed_integer
from auditkit.core.subject import Subject
from auditkit.execution.checkpoint import Checkpoints, resume_key
from auditkit.execution.predictions import PredictionCache

LOG = logging.getLogger("auditkit")


class ProgressSink(Protocol):
    """Where progress goes; every method is cheap."""

    def start(self, name: str, index: int, total: int) -> None:
        """Analyzer ``index`` (from 0) of ``total`` begins."""

    def advance(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` units of the current analyzer are done."""

    def finish(self, name: str, outcome: Outcome, seconds: float, resumed: bool) -> None:
        """The current analyzer ended."""


class Silent:
    """The sink that shows nothing."""

    def start(self, name: str, index: int, total: int) -> None:
        """Show nothing."""

    def advance(self, name: str, done: int, total: int) -> None:
        """Show nothing."""

    def finish(self, name: str, outcome: Outcome, seconds: float, resumed: bool) -> None:
        """Show nothing."""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What the run gave: outcomes in plan order, seconds of each, and the names taken from checkpoints.

    ``started`` is when, in UTC; ``predictions`` the cached pass over the model.
    """

    outcomes: tuple[Outcome, ...]
    seconds: dict[str, float]
    resumed: tuple[str, ...]
    started: str
    predictions: PredictionCache


def run_plan(
    subject: Subject,
    plan: Plan,
    *,
    device: str = "cpu",
    sink: ProgressSink | None = None,
    checkpoints: Checkpoints | None = None,
) -> RunResult:
    """Run every step; a step that fails, is skipped or does not apply leaves an outcome that says so."""
    sink = sink or Silent()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    predictions = PredictionCache(subject)
    deadline = None if plan.deadline_seconds is None else time.monotonic() + plan.deadline_seconds
    outcomes: list[Outcome] = []
    seconds: dict[str, float] = {}
    resumed: list[str] = []
    for index, step in enumerate(plan.steps):
        sink.start(step.name, index, len(plan.steps))
        begun = time.monotonic()
        key = resume_key(subject, step, plan.seed, device)
        outcome = checkpoints.load(key) if checkpoints else None
        if outcome is not None:
            resumed.append(step.name)
        else:
            outcome = run_step(
                subject,
                step,
                seed=plan.seed,
                device=device,
                deadline=deadline,
                predictions=predictions,
                sink=sink,
            )
            if checkpoints:
                checkpoints.save(key, outcome)
        seconds[step.name] = round(time.monotonic() - begun, 3)
        outcomes.append(outcome)
        sink.finish(step.name, outcome, seconds[step.name], step.name in resumed)
    return RunResult(
        outcomes=tuple(outcomes), seconds=seconds, resumed=tuple(resumed), started=started, predictions=predictions
    )


def run_step(
    subject: Subject,
    step: Step,
    *,
    seed: int = 0,
    device: str = "cpu",
    deadline: float | None = None,
    predictions: PredictionCache | None = None,
    sink: ProgressSink | None = None,
) -> Outcome:
    """Run one step. Never raises for a fault of the analyzer; what it yielded before a fault is kept."""
    analyzer = step.analyzer
    if analyzer is None:
        fault = step.fault.sentence() if step.fault else "the analyzer could not be loaded"
        return Outcome(analyzer=step.name, version="", status="failed", reason=fault)
    params = step.params.model_dump(mode="json")
    sequence = analyzer_seed(seed, analyzer.name, params)
    collected = _Collected(analyzer)
    status, reason = _refused(subject, step, deadline)
    if status is None:
        advance = _advancer(sink, analyzer.name)
        cache = predictions or PredictionCache(subject)
        context = Context(
            sequence=sequence,
            predictions=cache,
            run_seed=seed,
            once=cache.once,
            device=device,
            deadline=deadline,
            progress=advance,
        )
        with preserved_generators():
            status, reason = _drain(analyzer, subject, context, step, collected)
    known = {m.name for m in collected.measurements}
    return Outcome(
        analyzer=analyzer.name,
        version=analyzer.version,
        status=status,
        reason=reason,
        measurements=tuple(collected.measurements),
        artifacts=tuple(collected.artifacts),
        notes=tuple(collected.notes),
        params=params,
        seed=seed_integer(sequence),
        title=analyzer.title,
        reference=analyzer.reference,
        meanings={name: analyzer.measures[name] for name in sorted(known)},
        lacking=() if status == "measured" else tuple(sorted(set(analyzer.measures) - known)),
    )


def _advancer(sink: ProgressSink | None, name: str) -> Callable[[int, int], None]:
    if sink is None:
        return lambda done, total: None
    return lambda done, total: sink.advance(name, done, total)


def _refused(subject: Subject, step: Step, deadline: float | None) -> tuple[Status | None, str | None]:
    """Why a step is not even started, if so."""
    analyzer = step.analyzer
    assert analyzer is not None
    lacking = missing(analyzer.needs, subject)
    if lacking:
        return "not_applicable", lacking
    if subject.test.counted is not None and analyzer.run_counted is None:
        return "not_applicable", (
            f"needs the rows themselves; these {subject.test.n:,} were counted as they were read, to save memory. "
            'Set [data] rows = "keep", or audit a sample'
        )
    absent = [package for package in analyzer.packages if importlib.util.find_spec(package) is None]
    if absent:
        return "skipped", MissingExtra.of(analyzer.extra or "all", ", ".join(absent)).sentence()
    if deadline is not None and time.monotonic() > deadline:
        return "skipped", "the deadline of the run passed before it started; raise [run] deadline_seconds"
    return None, None


def _drain(
    analyzer: Analyzer, subject: Subject, context: Context, step: Step, collected: _Collected
) -> tuple[Status, str | None]:
    run = analyzer.run if subject.test.counted is None else analyzer.run_counted
    assert run is not None  # _refused saw to it
    try:
        for item in run(subject, context, step.params):
            collected.add(item)
    except NotApplicable as error:
        return "not_applicable", error.sentence()
    except (MissingExtra, DeadlineReached) as error:
        return "skipped", error.sentence()
    except AuditkitError as error:
        LOG.debug("%s failed", analyzer.name, exc_info=True)
        return "failed", error.sentence()
    except (Exception, SystemExit) as error:
        LOG.debug("%s crashed", analyzer.name, exc_info=True)
        return "failed", f"AK300 {analyzer.name} crashed: {type(error).__name__}: {str(error)[:500]}"
    if not collected.measurements and not collected.artifacts:
        why = f": {collected.notes[0]}" if collected.notes else ""
        return "failed", f"AK304 {analyzer.name} ended without measuring anything{why}"
    return "measured", None


class _Collected:
    """What an analyzer yielded, checked as it comes."""

    def __init__(self, analyzer: Analyzer) -> None:
        self.analyzer = analyzer
        self.measurements: list[Measurement] = []
        self.artifacts: list[Artifact] = []
        self.notes: list[str] = []
        self.keys: set[str] = set()

    def add(self, item: object) -> None:
        """File one yielded item.

        Raises:
            AuditkitError: AK305 not a record, AK306 an undocumented name, AK307 the same number twice.
        """
        if isinstance(item, Note):
            self.notes.append(item.text)
        elif isinstance(item, Measurement):
            self._check(item)
            self.keys.add(item.key)
            self.measurements.append(item)
        elif isinstance(item, Artifact):
            self.artifacts.append(item)
        else:
            raise AuditkitError("AK305", f"{self.analyzer.name} yielded a {type(item).__name__}, not a record")

    def _check(self, item: Measurement) -> None:
        if item.name not in self.analyzer.measures or item.family != self.analyzer.family:
            raise AuditkitError(
                "AK306",
                f"{self.analyzer.name} measured {item.name!r}, which its descriptor does not document",
                fix="add the name to `measures`, under the analyzer's own family",
            )
        if item.key in self.keys:
            raise AuditkitError("AK307", f"{self.analyzer.name} measured {item.key!r} twice")
