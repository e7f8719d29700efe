"""``auditkit analyzers``: what can be measured, and with which settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from auditkit.cli.console import people_console

if TYPE_CHECKING:
    from rich.text import Text

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
    from rich.text import Text

    from auditkit.cli.tables import Column, print_rows

    columns = [Column("analyzer"), Column("needs", least=12), Column("runs"), Column("what it measures", least=20)]
    lines = []
    for row in rows:
        if "fault" in row:
            lines.append([Text(row["name"]), Text(""), Text("broken", "red"), Text(row["fault"])])
            continue
        runs = "by default" if row["default"] else "if named"
        runs = f"needs [{row['extra']}]" if row["missing"] else runs
        lines.append([Text(row["name"]), Text(", ".join(row["needs"]) or "-"), Text(runs), Text(row["summary"])])
    print_rows(people_console(stderr=False), columns, lines)
    click.echo("\nSettings and measurements of one: auditkit analyzers NAME")


def _explain(analyzer: Analyzer) -> None:
    from rich.text import Text

    from auditkit.cli.tables import Column, print_rows

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
    measured = [[Text(name), Text(text)] for name, text in analyzer.measures.items()]
    print_rows(console, [Column(), Column(least=24)], measured, indent=2)  # names are typed by people: never broken
    console.print(Text(f'Settings, under [analyzer."{analyzer.name}"]', "bold"))
    settings = _settings(analyzer)
    print_rows(console, [Column(), *[Column(least=14)] * 3], settings or [[Text("none")] + [Text()] * 3], indent=2)


def _settings(analyzer: Analyzer) -> list[list[Text]]:
    """Name, default, kind and description of each."""
    from rich.text import Text

    rows = []
    for name, spec in analyzer.params.model_json_schema().get("properties", {}).items():
        field = analyzer.params.model_fields[name]
        default = "required" if field.is_required() else _plain(field.get_default(call_default_factory=True))
        rows.append([Text(name), Text(default), Text(_kind(spec)), Text(spec.get("description", ""))])
    return rows


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
