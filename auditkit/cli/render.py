"""``auditkit render``: one evidence file, many faces; no model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from auditkit.api import Report

FORMATS = ("html", "md", "csv", "json", "cyclonedx", "cyclonedx-1.7", "huggingface", "mct", "pdf")


@click.command()
@click.argument("evidence", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="What to make of it.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write; stdout when left out.")
@click.option("--as-of", metavar="DATE", help="Judge waivers on this date (YYYY-MM-DD); the audit's own by default.")
def render(evidence: Path, form: str, out: Path | None, as_of: str | None) -> None:
    """Turn EVIDENCE (an evidence.json) into a card, a text, a table, or its redacted copy (json).

    html, md, csv, json: the card, its text, its numbers, the shared copy. cyclonedx: an ML-BOM (1.6, or 1.7).
    huggingface: a README.md for the Hub. mct: JSON of Google's model-card-toolkit. pdf: the card printed by an
    installed browser.
    """
    from auditkit.api import load_report
    from auditkit.core.schema import write_bytes, write_text

    if form == "pdf":
        from auditkit.core.errors import UsageError
        from auditkit.render.pdf import print_pdf

        if out is None:
            raise UsageError("AK650", "a PDF needs a file", fix="--out card.pdf")
        write_bytes(out, print_pdf(rendered(load_report(evidence), "html", as_of)))
        click.echo(str(out))
        return
    text = rendered(load_report(evidence), form, as_of)
    if out is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    write_text(out, text)
    click.echo(str(out))


def rendered(report: Report, form: str, as_of: str | None = None) -> str:
    """The evidence in one of :data:`FORMATS` that is text."""
    evidence = report.evidence
    if form == "csv":
        from auditkit.render.table import render_csv

        return render_csv(evidence)
    if form == "json":
        from auditkit.core.schema import dumps
        from auditkit.render.redact import redact

        return dumps(redact(evidence))
    verdict = report.gate(as_of=as_of or evidence.as_of) if evidence.policy else None
    if form == "md":
        from auditkit.render.markdown import render_markdown

        return render_markdown(evidence, verdict)
    if form.startswith("cyclonedx"):
        from auditkit.render.cyclonedx import render_cyclonedx

        return render_cyclonedx(evidence, verdict, form.partition("-")[2] or "1.6")
    if form == "huggingface":
        from auditkit.render.huggingface import render_huggingface

        return render_huggingface(evidence, verdict)
    if form == "mct":
        from auditkit.render.mct import render_mct

        return render_mct(evidence, verdict)
    from auditkit.render.html.card import render_card

    return render_card(evidence, verdict)
