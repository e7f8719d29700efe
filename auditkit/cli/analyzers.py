"""``auditkit analyzers``: what can be measured, and with which settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from auditkit.cli.console import people_console

if TYPE_CHECKING:
    from auditkit.core.analyzer import Analyzer


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def analyzers(name: str | None, as_json: bool) -> None:
    """List the analyzers, or explain the one called NAME with its settings."""
    from auditkit.core.registry import discover, load

    points = discover()
    if name is not None:
        found = load(name, points)
        if as_json:
            click.echo(json.dumps({**facts(found), "settings": found.params.model_json_schema()}, indent=2))
        else:
            _explain(found)
        return
    rows = [_listed(known, points) for known in points]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    _table(rows)


def facts(analyzer: Analyzer) -> dict[str, Any]:
    """An analyzer's descriptor as plain data."""
    return {
        "name": analyzer.name,
        "version": analyzer.version,
        "title": analyzer.title,
        "summary": analyzer.summary,
        "reference": analyzer.reference,
        "needs": sorted(analyzer.needs),
        "extra": analyzer.extra,
        "missing": missing_packages(analyzer),
        "default": analyzer.default,
        "measures": dict(analyzer.measures),
        "limits": analyzer.limits,
    }


def missing_packages(analyzer: Analyzer) -> list[str]:
    """Import names that the analyzer needs and that are not installed."""
    import importlib.util

    return [package for package in analyzer.packages if importlib.util.find_spec(package) is None]


def _listed(name: str, points: Any) -> dict[str, Any]:
    from auditkit.core.errors import AuditkitError
    from auditkit.core.registry import load

    try:
        return facts(load(name, points))
    except AuditkitError as error:
        return {"name": name, "fault": error.sentence()}


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("analyzer", "needs", "runs", "what it measures"):
        table.add_column(column, overflow="fold", no_wrap=column in ("analyzer", "runs"))
    for row in rows:
        if "fault" in row:
            table.add_row(Text(row["name"]), Text(""), Text("broken", "red"), Text(row["fault"]))
            continue
        runs = "by default" if row["default"] else "if named"
        runs = f"needs [{row['extra']}]" if row["missing"] else runs
        table.add_row(Text(row["name"]), Text(", ".join(row["needs"]) or "-"), Text(runs), Text(row["summary"]))
    people_console(stderr=False).print(table)
    click.echo("\nSettings and measurements of one: auditkit analyzers NAME")


def _explain(analyzer: Analyzer) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = people_console(stderr=False)
    console.print(Text(f"{analyzer.name} {analyzer.version}: {analyzer.title}", "bold"))
    for text in (analyzer.summary, analyzer.limits):
        if text:
            console.print(Text(text))
    console.print(Text(f"Reference: {analyzer.reference}"))
    console.print(Text(f"Needs: {', '.join(sorted(analyzer.needs)) or 'nothing but data'}"))
    absent = missing_packages(analyzer)
    if analyzer.extra:
        state = f"missing {', '.join(absent)}; " if absent else "installed; "
        console.print(Text(f'Extra: [{analyzer.extra}], {state}pip install "auditkit[{analyzer.extra}]"'))
    console.print(Text("Measures", "bold"))
    measured = Table.grid(padding=(0, 2, 0, 0))
    measured.add_column(no_wrap=True, overflow="fold")  # names are typed by people: whole, however narrow
    measured.add_column(overflow="fold")
    for name, text in analyzer.measures.items():
        measured.add_row(Text(name), Text(text))
    console.print(Padding(measured, (0, 0, 0, 2)))
    console.print(Text(f'Settings, under [analyzer."{analyzer.name}"]', "bold"))
    console.print(Padding(_settings(analyzer), (0, 0, 0, 2)))


def _settings(analyzer: Analyzer) -> Any:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="fold")
    for _ in range(3):
        grid.add_column(overflow="fold")
    properties = analyzer.params.model_json_schema().get("properties", {})
    if not properties:
        grid.add_row(Text("none"))
    for name, spec in properties.items():
        field = analyzer.params.model_fields[name]
        default = "required" if field.is_required() else _plain(field.get_default(call_default_factory=True))
        grid.add_row(Text(name), Text(default), Text(_kind(spec)), Text(spec.get("description", "")))
    return grid


def _plain(value: Any) -> str:
    return json.dumps(value, default=lambda other: list(other) if isinstance(other, set | frozenset) else str(other))


def _kind(spec: dict[str, Any]) -> str:
    """A few words for a JSON Schema type, with its bounds."""
    if "anyOf" in spec:
        return " or ".join(_kind(part) for part in spec["anyOf"])
    if "enum" in spec:
        return " | ".join(str(value) for value in spec["enum"])
    kind = str(spec.get("type", "value"))
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {spec[key]}" for key, sign in bounds.items() if key in spec]
    if kind == "array" and isinstance(spec.get("items"), dict):
        return f"list of {_kind(spec['items'])}"
    return " ".join([kind, *limits])
