"""``auditkit run``: configuration in, evidence, card and (with ``--gate``) verdict out."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from auditkit.cli.console import is_quiet, people_console, say
from auditkit.cli.gate import output_option, parse_outputs, write_outputs
from auditkit.core.errors import UsageError
from auditkit.core.printable import printable

if TYPE_CHECKING:
    from auditkit.api import Report
    from auditkit.config.model import Config
    from auditkit.core.plan import Plan
    from auditkit.execution.runner import ProgressSink


@click.command()
@click.argument("config_path", metavar="[CONFIG]", required=False, type=click.Path(path_type=Path))
@click.option("--config", "config_option", type=click.Path(path_type=Path), help="Configuration file or its folder.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for evidence.json and the card.")
@click.option("--gate", "judge", is_flag=True, help="Judge by the rules of the configuration; exit with the verdict.")
@output_option
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Run only this analyzer, or those of this family that run by default; may be repeated.",
)
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="NAME",
    help="Add the rules and tables of a profile: four-fifths, nyc-ll144, eu-ai-act, nist-ai-rmf.",
)
@click.option("--fresh", is_flag=True, help="Measure everything again, also what an earlier run finished.")
@click.option("--allow-path", multiple=True, type=click.Path(path_type=Path), help="Also read files under this folder.")
def run(  # noqa: PLR0913  (one argument an option)
    config_path: Path | None,
    config_option: Path | None,
    out: Path,
    judge: bool,
    outputs: tuple[str, ...],
    only: tuple[str, ...],
    profiles: tuple[str, ...],
    fresh: bool,
    allow_path: tuple[Path, ...],
) -> int:
    """Audit the model that CONFIG describes.

    Without CONFIG the nearest auditkit.toml, audit.toml or [tool.auditkit] in pyproject.toml is used. A run that
    was stopped continues when it is started again with the same --out.
    """
    from auditkit.config.load import load_config
    from auditkit.policy.profiles import load_profile, old_profile, with_rules

    if config_path is not None and config_option is not None:
        raise UsageError("AK642", "two configurations were named", fix="give CONFIG or --config, not both")
    wanted = parse_outputs(outputs)
    if wanted and not judge:
        raise UsageError("AK612", "--output is of a verdict, and nothing is judged", fix="add --gate")
    config = load_config(config_option or config_path)
    added = [load_profile(name) for name in profiles]
    if judge and with_rules(config.policy_document(), added) is None:
        raise UsageError(
            "AK643", "--gate needs rules, and there are none", where=config.path.name, fix="add a [[rule]] table"
        )
    say(f"configuration {config.path.name}")
    for warning in filter(None, (old_profile(profile, datetime.date.today()) for profile in added)):
        click.echo(f"warning: {warning}", err=True)
    needed = tuple(dict.fromkeys(name for profile in added for name in profile.analyzers))
    plan = _plan(config, only, needed)
    report = run_config(config, plan, out=out, fresh=fresh, allowed=allow_path, profiles=profiles)
    return conclude(report, out, judge=judge, wanted=wanted, policy=config.path)


def run_config(
    config: Config,
    plan: Plan,
    *,
    out: Path,
    fresh: bool,
    allowed: tuple[Path, ...],
    profiles: tuple[str, ...] = (),
) -> Report:
    """Build the subject and audit it; the output folder is tried first, since building may take long."""
    from auditkit.api import audit_subject
    from auditkit.config.subject import subject_from_config
    from auditkit.execution.lock import output_lock
    from auditkit.subjects.device import resolve_device

    with output_lock(out):
        pass
    if config.model is None:
        # DuckDB reads saved predictions outside the interpreter, which meanwhile imports what will draw them.
        threading.Thread(target=import_module, args=("auditkit.render.html.card",), daemon=True).start()
    device = resolve_device(config.run.device if config.model is not None else "cpu")
    subject = subject_from_config(config, device, allowed=allowed)
    with progress_sink() as sink:
        return audit_subject(
            subject,
            plan=plan,
            policy=policy_of(config),
            card=config.card_prose(),
            out=out,
            fresh=fresh,
            device=device,
            progress=sink or False,
            profiles=profiles,
            keep_rows=config.run.keep_rows,
            baseline_folder=config.root,
        )


def policy_of(config: Config) -> Mapping[str, Any] | None:
    """The policy to embed, with the baselines that its rules name; ``None`` without rules."""
    document = config.policy_document()
    if document is None:
        return None
    from auditkit.policy.files import with_baselines

    return with_baselines(document, config.root)


@contextlib.contextmanager
def progress_sink() -> Iterator[ProgressSink | None]:
    """The progress display of this terminal or log; ``None`` with ``--quiet``; taken away at the end."""
    if is_quiet():
        yield None
        return
    from auditkit.execution.progress import BarProgress, console_sink

    sink = console_sink(people_console())
    try:
        yield sink
    finally:
        if isinstance(sink, BarProgress):
            sink.close()


def conclude(
    report: Report,
    out: Path,
    *,
    judge: bool,
    wanted: list[tuple[str, str]] | None = None,
    policy: Path | None = None,
) -> int:
    """Say what came of the audit, name the files on stdout, and return the exit code.

    Args:
        report: The audit.
        out: Its folder.
        judge: Whether to judge it by its policy; the exit code is then the verdict's.
        wanted: The outputs of the verdict, as ``FORM`` and file; ``-`` is stdout.
        policy: The file with the rules, which some outputs point to.
    """
    from auditkit.api import CARD_FILE, EVIDENCE_FILE

    evidence = report.evidence
    say(f"{len(evidence.outcomes)} analyzers: {evidence.tally()}")
    for outcome in evidence.unmeasured():
        click.echo(
            f"{outcome.status.upper()} {printable(outcome.analyzer)}: {printable(outcome.reason or '')}", err=True
        )
    code = 3 if evidence.unmeasured() else 0
    if judge:
        from auditkit.cli.verdict_table import print_verdict

        verdict = report.gate(as_of=evidence.as_of)
        print_verdict(verdict, people_console())
        write_outputs(evidence, verdict, wanted or [], policy)
        code = verdict.exit_code
    if any(target == "-" for _, target in wanted or []):
        return code
    for name in (EVIDENCE_FILE, CARD_FILE):
        click.echo(str(out / name))
    return code


def _plan(config: Config, only: tuple[str, ...], needed: tuple[str, ...]) -> Plan:
    """The plan of the configuration, or of ``--only``, with what the profiles need."""
    from auditkit.core.plan import make_plan

    wanted = only or config.run.analyzers
    return make_plan(
        None if wanted is None else (*wanted, *needed),
        {**{name: {} for name in needed}, **config.analyzer},
        seed=config.run.seed,
        deadline_seconds=config.run.deadline_seconds,
    )
