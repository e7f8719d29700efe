"""The Python API: one call audits a model, one object holds what came of it."""

from __future__ import annotations

import datetime
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditkit.core.evidence import Evidence, PlanFacts, PlannedAnalyzer, RunFacts
from auditkit.core.plan import Plan, make_plan
from auditkit.core.rows import ROWS_FILE, RowsRecord, rows_bytes
from auditkit.core.schema import dumps, loads, plain, write_bytes
from auditkit.report import CARD_FILE, EVIDENCE_FILE, PolicySource, Report, day_of, load_report, policy_document

if TYPE_CHECKING:
    from auditkit.core.subject import Subject, TrainingRecipe
    from auditkit.execution.runner import ProgressSink, RunResult

__all__ = ["CARD_FILE", "EVIDENCE_FILE", "Report", "audit", "audit_predictions", "audit_subject", "load_report"]

Settings = Iterable[str] | Mapping[str, Mapping[str, Any]] | None


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
    card: Mapping[str, Any] | None = None,
    recipe: TrainingRecipe | None = None,
    tokenizer: Any = None,
    out: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
    name: str | None = None,
    keep_rows: bool = False,
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
        card: What the card says beside the numbers, with the keys of ``[card]`` (``intended_use``, ``owner`` ...),
            and the smallest count that it shows (``min_cell``); where left out, the ``[card]`` of ``policy``.
        recipe: How to train afresh (private training, comparisons).
        tokenizer: Callable from list of str to token ids, for text models.
        out: Folder for evidence, card and checkpoints; nothing is written without it.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: Seed of everything random in the audit.
        progress: Show progress on stderr.
        name: What the card calls the model.
        keep_rows: Also write ``rows.npz`` into ``out``: label, decision, scores and groups of each row, private, so
            that a later audit of the same rows can be compared on pairs.

    Raises:
        UsageError: Bad arguments or data, with a code and the edit that mends it.
    """
    from auditkit.subjects.build import make_subject
    from auditkit.subjects.device import resolve_device

    document = _checked_policy(policy)
    prose = _checked_card(card, document)
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
    return audit_subject(
        subject,
        plan=_plan(analyzers, seed),
        policy=document,
        card=prose,
        out=out,
        device=resolved,
        progress=progress,
        keep_rows=keep_rows,
        baseline_folder=_folder_of(policy),
    )


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
    classes: Sequence[Any] | None = None,
    score_space: str = "probability",
    threshold: float | None = None,
    analyzers: Settings = None,
    policy: PolicySource = None,
    card: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
    name: str = "saved predictions",
    keep_rows: bool = False,
) -> Report:
    """Audit predictions that were made elsewhere; the core install is enough.

    Args:
        y_true: Labels ``(n,)``.
        y_pred: Decisions ``(n,)``; may be absent when ``scores`` are given.
        scores: Score of the positive class ``(n,)``, or one column a class ``(n, k)``.
        sensitive: As in :func:`audit`, like the arguments below.
        weights: Row weights.
        clusters: Person or site of each row.
        task: ``binary``, ``multiclass`` or ``regression``.
        positive: Label of the positive class.
        classes: Labels in the order of the columns of ``scores``; the sorted labels that occur when left out.
        score_space: What the scores are: ``probability``, ``logit`` (log-odds), or ``margin``: points on a scale of
            their own, higher for the positive class, such as credit scores, which rank rows alone.
        threshold: The score, as given, from which a row is decided as positive where ``y_pred`` is absent; 0.5, or 0 of
            log-odds, by default.
        analyzers: Names, families or settings.
        policy: Rules to embed and judge by.
        card: As in :func:`audit`.
        out: Folder to write to.
        seed: Seed of everything random in the audit.
        progress: Show progress on stderr.
        name: What the card calls the predictions.
        keep_rows: As in :func:`audit`.
    """
    from auditkit.subjects.build import make_predictions_subject

    document = _checked_policy(policy)
    prose = _checked_card(card, document)
    subject = make_predictions_subject(
        y_true,
        y_pred,
        scores,
        sensitive=sensitive,
        weights=weights,
        clusters=clusters,
        task=task,
        positive=positive,
        classes=classes,
        score_space=score_space,
        threshold=threshold,
        name=name,
    )
    return audit_subject(
        subject,
        plan=_plan(analyzers, seed),
        policy=document,
        card=prose,
        out=out,
        progress=progress,
        keep_rows=keep_rows,
        baseline_folder=_folder_of(policy),
    )


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
    keep_rows: bool = False,
    baseline_folder: Path | None = None,
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
        keep_rows: Also write the private record of rows into ``out``.
        baseline_folder: Where the policy's baselines are, for their records of rows.
    """
    import contextlib

    from auditkit.execution.checkpoint import FOLDER, Checkpoints
    from auditkit.execution.lock import output_lock
    from auditkit.execution.runner import run_plan
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
        day = (day_of(as_of) or datetime.date.today()).isoformat() if policy is not None else None
        result = run_plan(subject, plan, device=device, sink=_sink(progress, stack), checkpoints=checkpoints)
        evidence = _evidence(subject, plan, result, device, policy, day, card)
        record = _record(subject, result, keep_rows or (baseline_folder is not None and "baseline" in (policy or {})))
        if record is not None and baseline_folder is not None and evidence.policy:
            evidence = _with_pairs(evidence, baseline_folder, record)
        # As a reader of the file gets it, order of mappings included: the card is then the same bytes from either.
        text = dumps(evidence)
        report = Report(loads(text, where=EVIDENCE_FILE), folder)
        if chosen:
            today = day_of(as_of) or datetime.date.today()
            text = dumps(with_tables(report.evidence, chosen, today))
            report = Report(loads(text, where=EVIDENCE_FILE), folder)
        if folder is not None:
            report.write(folder, text)
            if keep_rows and record is not None:
                write_bytes(folder / ROWS_FILE, rows_bytes(record))
    return report


def _evidence(
    subject: Subject,
    plan: Plan,
    result: RunResult,
    device: str,
    policy: Mapping[str, Any] | None,
    as_of: str | None,
    card: Mapping[str, Any] | None,
) -> Evidence:
    """What the run gave, not yet sealed."""
    from auditkit.subjects.facts import subject_facts

    steps = tuple(
        PlannedAnalyzer(name=step.name, params=step.params.model_dump(mode="json"), asked=step.asked)
        for step in plan.steps
    )
    return Evidence(
        subject=subject_facts(subject),
        plan=PlanFacts(seed=plan.seed, analyzers=steps, reduced=plan.reduced),
        outcomes=result.outcomes,
        policy=None if policy is None else plain(policy),
        as_of=as_of,
        card=plain(card or {}),
        run=RunFacts(
            started=result.started,
            seconds=result.seconds,
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.machine()}",
            device=device,
            resumed=result.resumed,
        ),
    )


def _record(subject: Subject, result: RunResult, wanted: bool) -> RowsRecord | None:
    """The record of the test rows where it is wanted and the model could be asked."""
    if not wanted:
        return None
    from auditkit.core.errors import AuditkitError
    from auditkit.execution.rows import rows_of

    try:
        return rows_of(subject, result.predictions)
    except AuditkitError:  # the outcomes tell of the model that failed
        return None


def _with_pairs(evidence: Evidence, folder: Path, record: RowsRecord) -> Evidence:
    """The evidence with the joint cells of its rows and its baselines' beside them in its policy."""
    from auditkit.policy.files import paired_baselines

    policy = dict(evidence.policy or {})
    policy["baseline"] = paired_baselines(plain(policy.get("baseline") or {}), folder, evidence, record)
    return replace(evidence, policy=policy)


def _folder_of(policy: PolicySource) -> Path | None:
    return Path(policy).parent if isinstance(policy, str | Path) else None


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


def _checked_card(card: Mapping[str, Any] | None, policy: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """What the card is to say, refused before the model is asked anything."""
    own = (policy or {}).get("card") if card is None else card
    if not isinstance(own, Mapping):
        return {}
    from auditkit.config.load import checked_card

    return checked_card(own, where="card" if card is not None else "[card] of the policy")


def _checked_policy(policy: PolicySource) -> Mapping[str, Any] | None:
    """The policy document, refused before the model is asked anything; faults name file and line."""
    from auditkit.policy.model import parse_policy

    document, text, where = policy_document(policy)
    if document is not None:
        parse_policy(document, text=text, where=where)
    return document
