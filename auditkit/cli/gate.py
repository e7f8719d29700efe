"""``auditkit gate``: evidence and a policy in, an exit code out; neither model nor data is needed."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import datetime

    from auditkit.core.evidence import Evidence
    from auditkit.core.verdict import Verdict
    from auditkit.policy.model import Policy

OUTPUTS = ("junit", "sarif", "gitlab", "metrics", "summary", "github", "json")

output_option = click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="FORM=FILE",
    help=f"FORM: {', '.join(OUTPUTS)}; FILE - is stdout; github alone annotates.",
)


@click.command()
@click.argument("evidence", type=click.Path(path_type=Path))
@click.option("--policy", type=click.Path(path_type=Path), help="A TOML file with [[rule]]; default: the embedded one.")
@click.option("--as-of", metavar="DATE", help="Judge waivers on this date (YYYY-MM-DD); today by default.")
@output_option
def gate(evidence: Path, policy: Path | None, as_of: str | None, outputs: tuple[str, ...]) -> None:
    """Judge EVIDENCE by a policy. The exit code is the answer; stdout holds the state, one word.

    Exit codes: 0 pass, 1 a rule failed, 2 usage or configuration, 3 a rule is in error or something could
    not be measured, 4 inconclusive.
    """
    with without_collector():
        verdict = judge(evidence, policy, as_of, parse_outputs(outputs))
    click.get_current_context().exit(verdict.exit_code)


def judge(path: Path, policy: Path | None, as_of: str | None, wanted: list[tuple[str, str]]) -> Verdict:
    """The verdict on the evidence in ``path``, printed for people and written to the outputs ``wanted``."""
    from auditkit.cli.console import is_quiet, people_console
    from auditkit.policy.evaluate import evaluate

    found = read_evidence(path)
    rules = read_policy(policy, found)
    if policy is not None and rules.baseline:
        from auditkit.policy.files import with_pairs

        rules = with_pairs(rules, policy.parent, found, path.parent)
    verdict = evaluate(found, rules, as_of=parse_date(as_of))
    if not is_quiet():
        from auditkit.cli.verdict_table import print_verdict

        print_verdict(verdict, people_console())
    write_outputs(found, verdict, wanted, policy)
    if not any(target == "-" for _, target in wanted):
        click.echo(verdict.state)
    return verdict


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Start and judge without the cyclic garbage collector, a tenth of the gate's time: nothing here makes garbage
    that must go before the process ends."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_evidence(path: Path) -> Evidence:
    """The evidence in ``path``.

    Raises:
        EvidenceError: AK411 when the file cannot be read; AK110 and following when it is not evidence.
    """
    from auditkit.core.errors import EvidenceError
    from auditkit.core.schema import loads

    try:
        content = path.read_bytes()
    except OSError as error:
        raise EvidenceError(
            "AK411",
            "the evidence cannot be read",
            where=str(path),
            why=error.strerror or type(error).__name__,
            fix="give the evidence.json that `auditkit run` wrote",
        ) from error
    return loads(content, where=str(path))


def read_policy(path: Path | None, evidence: Evidence) -> Policy:
    """The policy in the TOML file ``path``, or the one embedded in ``evidence``.

    Raises:
        PolicyError: AK410 faults, AK412 unreadable or not TOML, AK413 no policy at all.
    """
    from auditkit.core.errors import PolicyError
    from auditkit.core.schema import plain
    from auditkit.policy.files import load_policy
    from auditkit.policy.model import parse_policy

    measured = evidence.by_name
    if path is not None:
        return load_policy(path, measured)
    if not evidence.policy:
        raise PolicyError(
            "AK413",
            "there is no policy to judge by: the evidence has none embedded",
            fix="auditkit gate EVIDENCE --policy audit.toml",
        )
    return parse_policy(plain(evidence.policy), where="the embedded policy", measured=measured)


def parse_date(text: str | None) -> datetime.date:
    """The date of ``--as-of``; today when left out.

    Raises:
        UsageError: AK414 when it is not a date.
    """
    import datetime

    from auditkit.core.errors import UsageError

    if text is None:
        return datetime.date.today()
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise UsageError("AK414", f"--as-of {text[:40]!r} is not a date", fix="write it as 2027-01-31") from error


def parse_outputs(outputs: tuple[str, ...]) -> list[tuple[str, str]]:
    """``FORM=FILE`` pairs of ``--output``, which may be given often or hold several after commas.

    Raises:
        UsageError: AK415 when one is not such a pair.
    """
    from auditkit.core.errors import UsageError

    pairs = []
    for part in (piece for output in outputs for piece in output.split(",")):
        form, equals, target = part.partition("=")
        if part == "github":  # GitHub reads annotations from the step's own output
            equals, target = "=", "-"
        if form not in OUTPUTS or not equals or not target:
            raise UsageError(
                "AK415",
                f"--output {part[:80]!r} is not FORM=FILE",
                why=f"the forms are {', '.join(OUTPUTS)}",
                fix="--output junit=gate.xml",
            )
        pairs.append((form, target))
    return pairs


def write_outputs(evidence: Evidence, verdict: Verdict, wanted: list[tuple[str, str]], policy: Path | None) -> None:
    """Write the outputs ``wanted`` of a verdict on ``evidence``, small cells withheld; see :func:`write_output`."""
    if wanted:
        from auditkit.render.shared import shared_verdict

        shared = shared_verdict(evidence, verdict)
        for form, target in wanted:
            write_output(shared, form, target, policy)


def write_output(verdict: Verdict, form: str, target: str, policy: Path | None = None) -> None:
    """Write ``verdict`` as ``form`` to the file ``target``, or to stdout for ``-``; ``policy`` is the policy's file.

    ``github`` also adds the summary to the page of the step, where GitHub tells of one.

    Raises:
        UsageError: AK416 when the file cannot be written.
    """
    from auditkit.core.errors import UsageError
    from auditkit.core.schema import write_text

    text = _rendered(verdict, form, policy)
    if form == "github":
        _step_summary(verdict)
    if target == "-":
        click.echo(text, nl=False)
        return
    try:
        write_text(Path(target), text)
    except OSError as error:
        raise UsageError(
            "AK416",
            f"the {form} output cannot be written",
            where=target,
            why=error.strerror or type(error).__name__,
            fix="name a file, in a folder that may be written to",
        ) from error


def _rendered(verdict: Verdict, form: str, policy: Path | None) -> str:
    place = None if policy is None else _in_repository(policy)
    if form == "github":
        from auditkit.render.github import render_github

        return render_github(verdict, place)
    if form == "sarif":
        from auditkit.render.sarif import render_sarif

        return render_sarif(verdict, place)
    if form == "gitlab":
        from auditkit.render.gitlab import render_gitlab

        return render_gitlab(verdict, place)
    if form == "junit":
        from auditkit.render.junit import render_junit

        return render_junit(verdict)
    if form == "metrics":
        from auditkit.render.openmetrics import render_openmetrics

        return render_openmetrics(verdict)
    if form == "summary":
        from auditkit.render.summary import render_summary

        return render_summary(verdict)
    import dataclasses
    import json

    return json.dumps(dataclasses.asdict(verdict), indent=1, sort_keys=True, allow_nan=False) + "\n"


def _step_summary(verdict: Verdict) -> None:
    """Append the summary to the file that GitHub names; it is an extra, so a file that cannot be written is told."""
    import os

    named = os.environ.get("GITHUB_STEP_SUMMARY")
    if not named:
        return
    from auditkit.render.summary import render_summary

    try:
        with Path(named).open("a", encoding="utf-8", newline="\n") as page:
            page.write(render_summary(verdict))
    except OSError as error:
        click.echo(f"warning: the step summary cannot be written: {error.strerror}", err=True)


def _in_repository(policy: Path) -> str:
    """The policy's path from the root of the checkout (the working folder outside GitHub), as annotations name it."""
    import os

    root = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd())
    try:
        return policy.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return policy.name
