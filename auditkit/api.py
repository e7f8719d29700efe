"""The Python API: one call audits a model, one object holds what came of it."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.core.errors import EvidenceError, UsageError
from auditkit.core.evidence import Evidence, Measurement, Outcome, PlanFacts, PlannedAnalyzer, RunFacts
from auditkit.core.plan import Plan, make_plan
from auditkit.core.schema import dumps, loads, plain, seal, write_text

if TYPE_CHECKING:
    import pandas as pd

    from auditkit.core.subject import Subject, TrainingRecipe
    from auditkit.core.verdict import Verdict
    from auditkit.execution.runner import ProgressSink

EVIDENCE_FILE = "evidence.json"
CARD_FILE = "model-card.html"
Settings = Iterable[str] | Mapping[str, Mapping[str, Any]] | None
PolicySource = str | Path | Mapping[str, Any] | None


@dataclass(frozen=True)
class Report:
    """What one audit found: a thin face over its :class:`~auditkit.core.evidence.Evidence`."""

    evidence: Evidence

    def save(self, out: str | Path) -> Path:
        """Write ``evidence.json`` and ``model-card.html`` into the folder ``out``; returns the folder."""
        from auditkit.execution.lock import output_lock

        folder = Path(out)
        with output_lock(folder):
            return self._write(folder)

    def _write(self, folder: Path) -> Path:
        write_text(folder / EVIDENCE_FILE, dumps(self.evidence))
        write_text(folder / CARD_FILE, self.to_html())
        return folder

    def select(self, name: str, *, contains: bool = False, **groups: str) -> tuple[Measurement, ...]:
        """Measurements of ``name`` on exactly the slice ``groups``.

        Args:
            name: Measurement name, e.g. ``fairness.selection_rate``.
            contains: Also slices that have more columns (intersections).
            groups: Column -> group, e.g. ``sex="F"``; none for all rows.
        """
        wanted = {column: str(group) for column, group in groups.items()}
        return tuple(
            measurement
            for measurement in self.evidence.measurements()
            if measurement.name == name
            and (dict(measurement.slice) == wanted or (contains and wanted.items() <= measurement.slice.items()))
        )

    def outcome(self, analyzer: str) -> Outcome:
        """The outcome of one analyzer.

        Raises:
            UsageError: AK321 when it was not in the plan.
        """
        for outcome in self.evidence.outcomes:
            if outcome.analyzer == analyzer:
                return outcome
        names = ", ".join(outcome.analyzer for outcome in self.evidence.outcomes)
        raise UsageError("AK321", f"{analyzer!r} was not part of this audit", why=f"it ran: {names}")

    def table(self) -> pd.DataFrame:
        """One row a measurement: name, slice, over, params, value, low, high, level, method, n, unit, reason."""
        import pandas as pd

        rows = [
            {
                "name": m.name,
                "slice": ", ".join(f"{column}={group}" for column, group in sorted(m.slice.items())),
                "over": ", ".join(m.over),
                "params": ", ".join(f"{key}={value}" for key, value in sorted(m.params.items())),
                "value": m.value,
                "low": m.interval.low if m.interval else None,
                "high": m.interval.high if m.interval else None,
                "level": m.interval.level if m.interval else None,
                "method": m.interval.method if m.interval else None,
                "n": m.n,
                "unit": m.unit,
                "reason": m.unreliable or m.reason,
            }
            for m in self.evidence.measurements()
        ]
        return pd.DataFrame(rows)

    def gate(self, policy: PolicySource = None, *, as_of: str | datetime.date | None = None) -> Verdict:
        """Judge the evidence by a policy: a path to a TOML file, a mapping, or the embedded one.

        Args:
            policy: Where the rules are; ``None`` for those the audit was run with.
            as_of: The date that waivers are judged on; today by default.

        Raises:
            PolicyError: When the policy cannot be read, or there is none.
        """
        from auditkit.policy.evaluate import evaluate
        from auditkit.policy.model import parse_policy

        document, text, where = _policy_document(policy)
        if document is None:
            document, where = plain(self.evidence.policy), "the embedded policy"
        if not document:
            raise UsageError(
                "AK322", "there is no policy to judge by", fix="pass a policy, or run the audit with one ([[rule]] ...)"
            )
        day = _date(as_of) or datetime.date.today()
        return evaluate(self.evidence, parse_policy(document, text=text, where=where), as_of=day)

    def verdict(self) -> Verdict | None:
        """The verdict of the embedded policy on the date of the audit, or ``None`` without one."""
        return self.gate(as_of=self.evidence.as_of) if self.evidence.policy else None

    def to_html(self) -> str:
        """The model card: one self-contained page."""
        from auditkit.render.html.card import render_card

        return render_card(self.evidence, self.verdict())

    def _repr_html_(self) -> str:
        import html

        return (
            '<iframe title="auditkit model card" sandbox width="100%" height="720" '
            f'srcdoc="{html.escape(self.to_html(), quote=True)}"></iframe>'
        )


def audit(  # the stable public surface: one argument for each thing that a caller may know
    model: Any,
    X: Any,
    y: Any,
    *,
    sensitive: Any = None,
    train: tuple[Any, Any] | None = None,
    weights: Any = None,
    clusters: Any = None,
    task: str | None = None,
    positive: Any = None,
    schema: Any = None,
    constraints: Sequence[str] = (),
    analyzers: Settings = None,
    policy: PolicySource = None,
    recipe: TrainingRecipe | None = None,
    tokenizer: Any = None,
    out: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
    name: str | None = None,
) -> Report:
    """Audit a trained model.

    Args:
        model: scikit-learn estimator or pipeline, torch module, callable, or an auditkit ``Model``.
        X: Test inputs of the model's own type: DataFrame, array, list of str.
        y: Test labels ``(n,)``.
        sensitive: DataFrame, Series or mapping of columns to compare groups over.
        train: ``(X_train, y_train)``, for privacy, backgrounds and overlap.
        weights: Row weights ``(n,)``, positive.
        clusters: The person or site of each row ``(n,)``; intervals then respect it.
        task: ``binary``, ``multiclass`` or ``regression``; inferred when absent.
        positive: The label of the positive class of a binary task.
        schema: Feature kinds, bounds, units and what may change, where the inferred ones are wrong.
        constraints: Linear rules that every row of a table keeps, such as ``years_employed <= age - 16``.
        analyzers: Names or families, or a mapping name -> settings; ``None`` for all that run by default.
        policy: Rules to embed and judge by: path or mapping.
        recipe: How to train afresh (private training, comparisons).
        tokenizer: Callable from list of str to token ids, for text models.
        out: Folder for evidence, card and checkpoints; nothing is written without it.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: Seed of everything random in the audit.
        progress: Show progress on stderr.
        name: What the card calls the model.

    Raises:
        UsageError: Bad arguments or data, with a code and the edit that mends it.
    """
    from auditkit.subjects.build import make_subject
    from auditkit.subjects.device import resolve_device

    document = _checked_policy(policy)
    resolved = resolve_device(device)
    subject = make_subject(
        model,
        X,
        y,
        sensitive=sensitive,
        train=train,
        weights=weights,
        clusters=clusters,
        task=task,
        positive=positive,
        schema=schema,
        constraints=constraints,
        recipe=recipe,
        tokenizer=tokenizer,
        device=resolved,
        name=name or type(model).__name__,
    )
    plan = _plan(analyzers, seed)
    return audit_subject(subject, plan=plan, policy=document, out=out, device=resolved, progress=progress)


def audit_predictions(
    y_true: Any,
    y_pred: Any = None,
    *,
    scores: Any = None,
    sensitive: Any = None,
    weights: Any = None,
    clusters: Any = None,
    task: str | None = None,
    positive: Any = None,
    analyzers: Settings = None,
    policy: PolicySource = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    name: str = "saved predictions",
) -> Report:
    """Audit predictions that were made elsewhere; the core install is enough.

    Args:
        y_true: Labels ``(n,)``.
        y_pred: Decisions ``(n,)``; may be absent when ``scores`` are given.
        scores: Probability of the positive class ``(n,)``, or one column a class ``(n, k)``.
        sensitive: As in :func:`audit`, like the arguments below.
        weights: Row weights.
        clusters: Person or site of each row.
        task: ``binary``, ``multiclass`` or ``regression``.
        positive: Label of the positive class.
        analyzers: Names, families or settings.
        policy: Rules to embed and judge by.
        out: Folder to write to.
        seed: Seed of everything random in the audit.
        progress: Show progress on stderr.
        name: What the card calls the predictions.
    """
    from auditkit.subjects.build import make_predictions_subject

    document = _checked_policy(policy)
    subject = make_predictions_subject(
        y_true,
        y_pred,
        scores,
        sensitive=sensitive,
        weights=weights,
        clusters=clusters,
        task=task,
        positive=positive,
        name=name,
    )
    return audit_subject(subject, plan=_plan(analyzers, seed), policy=document, out=out, progress=progress)


def audit_subject(
    subject: Subject,
    *,
    plan: Plan,
    policy: Mapping[str, Any] | None = None,
    as_of: str | datetime.date | None = None,
    card: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    device: str = "cpu",
    progress: bool | ProgressSink = False,
    profiles: Iterable[str] = (),
) -> Report:
    """Audit a subject that is already built, by a plan that is already checked.

    Args:
        subject: Model and data.
        plan: What to run.
        policy: The policy document to embed (checked before anything runs).
        as_of: Date of the policy; today by default, and only recorded when there is a policy.
        card: Prose of ``[card]``.
        out: Folder for evidence, card and checkpoints.
        fresh: Forget the checkpoints in ``out``.
        device: ``cpu`` or ``cuda``.
        progress: ``True`` for progress on stderr, or a sink of your own.
        profiles: Names of profiles of law or practice whose rules and tables are added.
    """
    import contextlib

    from auditkit.execution.checkpoint import FOLDER, Checkpoints
    from auditkit.execution.lock import output_lock
    from auditkit.policy.model import POLICY_SECTIONS, parse_policy
    from auditkit.policy.profiles import load_profile, with_rules, with_tables

    chosen = [load_profile(name) for name in profiles]
    policy = with_rules(policy, chosen)
    if policy is not None:
        parse_policy(policy)
        # Of an audit.toml the policy alone: paths of models and data do not belong in the evidence.
        policy = {key: policy[key] for key in POLICY_SECTIONS if key in policy}
    folder = None if out is None else Path(out)
    with contextlib.ExitStack() as stack:
        checkpoints = None
        if folder is not None:
            stack.enter_context(output_lock(folder))
            checkpoints = Checkpoints(folder / FOLDER / "checkpoints")
            if fresh:
                checkpoints.clear()
        day = (_date(as_of) or datetime.date.today()).isoformat() if policy is not None else None
        report = Report(_run(subject, plan, _sink(progress, stack), checkpoints, device, policy, day, card))
        if chosen:
            today = _date(as_of) or datetime.date.today()
            report = Report(loads(dumps(with_tables(report.evidence, chosen, today)), where=EVIDENCE_FILE))
        if folder is not None:
            report._write(folder)
    return report


def load_report(path: str | Path) -> Report:
    """Read an ``evidence.json``.

    Raises:
        EvidenceError: When it is not one, was changed after it was written, or is from a newer release.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EvidenceError(
            "AK114",
            f"cannot read {path.name!r}",
            why=error.strerror or type(error).__name__,
            fix="give the path of the evidence.json that `auditkit run` wrote",
        ) from error
    return Report(loads(content, where=path.name))


def _run(
    subject: Subject,
    plan: Plan,
    sink: ProgressSink | None,
    checkpoints: Any,
    device: str,
    policy: Mapping[str, Any] | None,
    as_of: str | None,
    card: Mapping[str, Any] | None,
) -> Evidence:
    from auditkit.execution.runner import run_plan
    from auditkit.subjects.facts import subject_facts

    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result = run_plan(subject, plan, device=device, sink=sink, checkpoints=checkpoints)
    steps = tuple(
        PlannedAnalyzer(name=step.name, params=step.params.model_dump(mode="json"), asked=step.asked)
        for step in plan.steps
    )
    evidence = seal(
        Evidence(
            subject=subject_facts(subject),
            plan=PlanFacts(seed=plan.seed, analyzers=steps, reduced=plan.reduced),
            outcomes=result.outcomes,
            policy=None if policy is None else plain(policy),
            as_of=as_of,
            card=plain(card or {}),
            run=RunFacts(
                started=started,
                seconds=result.seconds,
                python=platform.python_version(),
                platform=f"{platform.system()} {platform.machine()}",
                device=device,
                resumed=result.resumed,
            ),
        )
    )
    # As a reader of the file gets it, order of mappings included: the card is then the same bytes from either.
    return loads(dumps(evidence), where=EVIDENCE_FILE)


def _plan(analyzers: Settings, seed: int) -> Plan:
    if analyzers is None:
        return make_plan(seed=seed)
    if isinstance(analyzers, Mapping):
        return make_plan(tuple(analyzers), analyzers, seed=seed)
    if isinstance(analyzers, str):
        analyzers = (analyzers,)
    return make_plan(tuple(analyzers), seed=seed)


def _sink(progress: bool | ProgressSink, stack: Any) -> ProgressSink | None:
    if not isinstance(progress, bool):
        return progress
    if not progress:
        return None
    from rich.console import Console

    from auditkit.execution.progress import BarProgress, console_sink

    sink = console_sink(Console(file=sys.stderr))
    if isinstance(sink, BarProgress):
        stack.callback(sink.close)
    return sink


def _date(value: str | datetime.date | None) -> datetime.date | None:
    if value is None or isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(value)
    except ValueError as error:
        raise UsageError("AK323", f"{value!r} is not a date", fix="write it as YYYY-MM-DD") from error


def _checked_policy(policy: PolicySource) -> Mapping[str, Any] | None:
    """The policy document, refused before the model is asked anything; faults name file and line."""
    from auditkit.policy.model import parse_policy

    document, text, where = _policy_document(policy)
    if document is not None:
        parse_policy(document, text=text, where=where)
    return document


def _policy_document(policy: PolicySource) -> tuple[Mapping[str, Any] | None, str | None, str]:
    """The policy document, its text when it came from a file, and what to call it in errors."""
    if policy is None or isinstance(policy, Mapping):
        return policy, None, "policy"
    from auditkit.policy.files import read_policy_file

    document, text = read_policy_file(Path(policy))
    return document, text, Path(policy).name
