"""Hooks of the documentation site: a page for each analyzer, made from its descriptor and the sample audits.

Used by ``mkdocs build`` (``make docs``); nothing it makes is committed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ("loan", "breast_cancer", "digits", "diabetes")
EXAMPLE_ROWS = 8


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the analyzers' pages in the navigation."""
    for entry in config.nav:
        if isinstance(entry, dict) and "Analyzers" in entry:
            entry["Analyzers"] = [{name: f"analyzers/{name}.md"} for name in _analyzers()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the analyzers' pages."""
    for name, analyzer in _analyzers().items():
        files.append(File.generated(config, f"analyzers/{name}.md", content=_page(analyzer)))
    return files


def _analyzers() -> dict[str, Any]:
    from auditkit.core.registry import discover, load

    return {name: load(name) for name, point in discover().items() if point.value.startswith("auditkit.")}


def _page(analyzer: Any) -> str:
    lines = [f"# {analyzer.name}", "", f"**{analyzer.title}.** {_cell(analyzer.summary)}", ""]
    lines += [f"- Needs: {', '.join(sorted(analyzer.needs)) or 'nothing but the data'}"]
    if analyzer.extra:
        lines.append(f'- Install: `pip install "auditkit[{analyzer.extra}]"`')
    lines.append(f"- Runs by default: {'yes' if analyzer.default else 'no, name it in `[run] analyzers` or `--only`'}")
    lines += [f"- Source: {_cell(analyzer.reference)}", f"- Version of its numbers: {analyzer.version}", ""]
    if analyzer.limits:
        lines += ["## Limits", "", _cell(analyzer.limits), ""]
    lines += ["## What it measures", "", "| measurement | what it is |", "| --- | --- |"]
    lines += [f"| `{name}` | {_cell(told)} |" for name, told in sorted(analyzer.measures.items())]
    lines += ["", "## Settings", "", f'Under `[analyzer."{analyzer.name}"]` of the configuration.', ""]
    lines += ["| setting | default | what it does |", "| --- | --- | --- |"]
    lines += [
        f"| `{key}` | `{_cell(str(field.get_default(call_default_factory=True)))}` | {_cell(field.description or '')} |"
        for key, field in analyzer.params.model_fields.items()
    ]
    return "\n".join([*lines, "", *_example(analyzer.name), *_method(analyzer)]) + "\n"


def _example(name: str) -> list[str]:
    """A few numbers of this analyzer from the first sample audit that has any."""
    from auditkit.api import load_report
    from auditkit.render.markdown import md
    from auditkit.render.numerals import sentence
    from auditkit.render.shared import known, metric_words, shared_copy, slice_words

    for sample in SAMPLES:
        shared, _ = shared_copy(load_report(ROOT / "reports" / sample / "evidence.json").evidence)
        wanted = {m.key for o in shared.outcomes if o.analyzer == name for m in o.measurements}
        found = [m for m in known(shared) if m.key in wanted][:EXAMPLE_ROWS]
        if found:
            lines = ["## Example", "", f"From the sample audit `reports/{sample}`.", ""]
            lines += ["| quantity | of what | value (interval), n |", "| --- | --- | --- |"]
            lines += [
                f"| {md(metric_words(m))} | {md(slice_words(m)) or 'all rows'} | {md(sentence(m))} |" for m in found
            ]
            return [*lines, ""]
    return []


def _method(analyzer: Any) -> list[str]:
    """How: what the analyzer's own module says of itself."""
    told = (sys.modules[analyzer.run.__module__].__doc__ or "").strip()
    return ["## How", "", told.replace("``", "`"), ""] if told else []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
