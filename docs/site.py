"""Hooks of the documentation site: a page for each analyzer, made from its descriptor and the sample audits.

Used by ``mkdocs build`` (``make docs``); nothing it makes is committed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from auditkit.core.evidence import Evidence, Measurement

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ("loan", "breast_cancer", "digits", "diabetes")
EXAMPLE_ROWS = 8
# What no sample audit measures is measured on a small draw of the loan table, with settings that keep the build short.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "fairness.mitigation": {"columns": ["sex"], "tolerances": [0.05], "alphas": [1.0], "rounds": 5},
    "fairness.ranking": {"resamples": 200, "permutations": 99},
    "fairness.subgroups": {"min_rows": 60, "permutations": 99},
    "explain.disparity": {"max_rows": 100, "max_background": 20, "budget": 128, "permutations": 99},
}


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
    """A few numbers of this analyzer: from the first sample audit that has any, else from a small audit made here."""
    for sample in SAMPLES:
        found = _numbers(_sample(sample), name)
        if found:
            return [*_shown(f"From the sample audit `reports/{sample}`.", found)]
    return [*_shown("From a small audit of the loan table, with the settings that it names.", _numbers(_made(), name))]


@cache
def _sample(name: str) -> Evidence:
    from auditkit.api import load_report
    from auditkit.render.shared import shared_copy

    return shared_copy(load_report(ROOT / "reports" / name / "evidence.json").evidence)[0]


@cache
def _made() -> Evidence:
    """What no sample audit measured, of a small draw of the loan table."""
    import auditkit
    from auditkit.demo.loan import APPROVED, loan_splits
    from auditkit.demo.models import boosted_pipeline
    from auditkit.render.shared import shared_copy

    lacking = [name for name in _analyzers() if not any(_numbers(_sample(sample), name) for sample in SAMPLES)]
    train, test = loan_splits(600, 600)
    report = auditkit.audit(
        boosted_pipeline().fit(train.inputs, train.y),
        test.inputs,
        test.y,
        sensitive=test.sensitive,
        train=(train.inputs, train.y, train.sensitive),
        positive=APPROVED,
        analyzers={name: SMALL.get(name, {}) for name in lacking},
        progress=False,
    )
    return shared_copy(report.evidence)[0]


def _numbers(shared: Evidence, name: str) -> list[Measurement]:
    from auditkit.render.shared import known

    wanted = {m.key for o in shared.outcomes if o.analyzer == name for m in o.measurements}
    return [m for m in known(shared) if m.key in wanted][:EXAMPLE_ROWS]


def _shown(where: str, found: Sequence[Measurement]) -> list[str]:
    from auditkit.render.markdown import md
    from auditkit.render.numerals import sentence
    from auditkit.render.shared import metric_words, slice_words

    if not found:
        return []
    rows = [f"| {md(metric_words(m))} | {md(slice_words(m)) or 'all rows'} | {md(sentence(m))} |" for m in found]
    return [
        "## Example",
        "",
        where,
        "",
        "| quantity | of what | value (interval), n |",
        "| --- | --- | --- |",
        *rows,
        "",
    ]


def _method(analyzer: Any) -> list[str]:
    """How: what the analyzer's own module says of itself."""
    told = (sys.modules[analyzer.run.__module__].__doc__ or "").strip()
    return ["## How", "", told.replace("``", "`"), ""] if told else []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
