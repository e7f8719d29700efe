"""``auditkit doctor``: what is installed, what is missing, and the line that brings it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
from typing import Any

import click

from auditkit import __version__
from auditkit.cli.console import people_console

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
HIDDEN = ("all", "dev")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def doctor(as_json: bool) -> None:
    """Say which Python, packages and device auditkit finds, and how to install what is missing."""
    found = diagnosis()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    _print(found)


def diagnosis() -> dict[str, Any]:
    """Python, device, the packages of the core and of each extra, and analyzers that cannot run."""
    groups = requirements()
    return {
        "auditkit": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": _device(),
        "core": {name: _version(name) for name in groups.pop("", ())},
        "extras": {extra: {name: _version(name) for name in names} for extra, names in groups.items()},
        "analyzers": _analyzers(),
    }


def requirements() -> dict[str, tuple[str, ...]]:
    """Extra -> names of its packages, from auditkit's own metadata; the core is the extra ``""``."""
    groups: dict[str, list[str]] = {"": []}
    for line in importlib.metadata.requires("auditkit") or ():
        name = _REQUIREMENT.match(line)
        extra = _EXTRA.search(line)
        group = extra.group(1) if extra else ""
        if name and group not in HIDDEN and name.group(1).lower() != "auditkit":
            groups.setdefault(group, []).append(name.group(1))
    return {group: tuple(names) for group, names in groups.items()}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> str:
    """What ``device = "auto"`` chooses, in words."""
    if _version("torch") is None:
        return "cpu (torch is not installed)"
    from auditkit.subjects.device import resolve_device

    try:
        chosen = resolve_device("auto")
    except Exception as error:  # a broken install is a finding, not a crash
        return f"cpu (torch does not load: {type(error).__name__}: {str(error)[:120]})"
    return chosen if chosen == "cuda" else "cpu (no CUDA device)"


def _analyzers() -> dict[str, str]:
    """Analyzer -> ``ready``, or why it cannot run."""
    from auditkit.cli.analyzers import missing_packages
    from auditkit.core.errors import AuditkitError
    from auditkit.core.registry import discover, load

    states = {}
    points = discover()
    for name in points:
        try:
            absent = missing_packages(load(name, points))
        except AuditkitError as error:
            states[name] = error.sentence()
            continue
        states[name] = f"needs {', '.join(absent)}" if absent else "ready"
    return states


def _print(found: dict[str, Any]) -> None:
    from rich.text import Text

    from auditkit.cli.tables import Column, print_rows

    console = people_console(stderr=False)
    console.print(Text(f"auditkit {found['auditkit']}, Python {found['python']}, {found['platform']}", "bold"))
    console.print(Text(f"device auto: {found['device']}"))
    console.print()
    rows = []
    for extra, packages in {"core": found["core"], **found["extras"]}.items():
        absent = [name for name, version in packages.items() if version is None]
        mark = Text("missing", "red") if absent else Text("ok", "green")
        shown = ", ".join(f"{name} {version}" if version else f"{name} (missing)" for name, version in packages.items())
        rows.append([Text(extra if extra == "core" else f"[{extra}]"), mark, Text(shown)])
    print_rows(console, [Column(), Column(), Column(least=20)], rows)
    console.print()
    stopped = {name: why for name, why in found["analyzers"].items() if why != "ready"}
    console.print(Text(f"{len(found['analyzers']) - len(stopped)} of {len(found['analyzers'])} analyzers can run"))
    for name, why in stopped.items():
        console.print(Text(f"  {name}: {why}"))
    missing = [extra for extra, packages in found["extras"].items() if None in packages.values()]
    if missing:
        line = Text(f'To install what is missing: pip install "auditkit[{",".join(missing)}]"', "bold")
        console.print(line, soft_wrap=True)  # a command that is to be copied is never broken
