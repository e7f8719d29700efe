"""The model card: a pure function from evidence and verdict to one self-contained page."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from auditkit import __version__
from auditkit.core.evidence import Evidence
from auditkit.core.schema import digest_of, packed_json
from auditkit.core.verdict import Verdict
from auditkit.render.charts import Markup, element
from auditkit.render.charts.chart import style_sheet
from auditkit.render.html.about import (
    first_facts,
    glossary,
    provenance,
    sections_after,
    sections_before,
    task_words,
)
from auditkit.render.html.analyses import analyses_section
from auditkit.render.html.families import (
    anchors_of,
    family_views,
    outcome_view,
    slug,
)
from auditkit.render.html.fit import cells_of, fitted
from auditkit.render.html.judged import rule_views, verdict_view
from auditkit.render.html.view import STATES, CardView
from auditkit.render.numerals import rows_told
from auditkit.render.redact import smallest_cell
from auditkit.render.shared import shared_copy
from auditkit.render.text import capitalised, clean, isolated

EMBED_LIMIT = 600_000
VERDICT_LIMIT = 120_000
ASCII_COST = 1.02
_REGION = 'role="region" tabindex="0" aria-label="'


def render_card(evidence: Evidence, verdict: Verdict | None = None, *, digest: str = "") -> str:
    """The whole page.

    Shows only what :func:`auditkit.render.redact.redact` leaves, in the tables and charts as in the copy that is
    embedded. No time, path or machine fact is in it, so the same evidence gives the same bytes.

    Args:
        evidence: The evidence, complete or redacted.
        verdict: What a policy says about it, if there is one.
        digest: That of the complete record, where ``evidence`` is its redacted copy.

    Returns:
        HTML that needs no other file, no network and no script.
    """
    page = fitted(card_view(evidence, verdict, digest), lambda view: page_of("card.html", card=view))
    return in_ascii(page.rstrip("\n") + "\n")


def page_of(template: str, **views: object) -> str:
    """A page of one of the templates, with the style sheet and the policy that allows just this sheet."""
    style = re.sub(r"\n\s+", "\n", f"{style_sheet()}\n{_card_style()}").replace("; }", "}")
    page = _environment().get_template(template)
    sheet = {"csp": Markup(content_policy(style)), "style": Markup(style)}
    return _unique_regions(page.render(release=__version__, **sheet, **views))


def in_ascii(page: str) -> str:
    """``page`` with numbers for its letters beyond ASCII, where that adds at most a fiftieth of its bytes.

    A browser keeps such a page in half the memory and reads it faster, and it survives mail that mangles letters. A
    page in another script stays as it is: in numbers it would be twice as large.

    >>> in_ascii("<title>café</title>" + " " * 200)[:24], in_ascii("<p>été")
    ('<title>caf&#233;</title>', '<p>été')
    """
    spelt = page.encode("ascii", "xmlcharrefreplace")
    return spelt.decode() if len(spelt) <= ASCII_COST * len(page.encode()) else page


def _unique_regions(page: str) -> str:
    """Number the regions whose names repeat, so that each landmark can be told from the others.

    Quotes in text are escaped, so the pattern is found in markup alone.
    """
    seen: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        name = match.group(1)
        seen[name] = seen.get(name, 0) + 1
        return match.group() if seen[name] == 1 else f'{_REGION}{name} ({seen[name]})"'

    return re.sub(re.escape(_REGION) + '([^"]*)"', numbered, page)


def content_policy(style: str) -> str:
    """The page's content security policy: its own style sheet and PNG pictures inside it, nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def card_view(evidence: Evidence, verdict: Verdict | None, digest: str = "") -> CardView:
    """Everything that the page says, as finished words and charts."""
    min_cell = smallest_cell(evidence)
    shared, judged = shared_copy(evidence, verdict)
    anchors = _rule_anchors(judged)
    cells = cells_of(shared)
    ruled = frozenset() if judged is None else frozenset(result.metric for result in judged.results)
    places = anchors_of(shared)
    families = family_views(shared, ruled, cells)
    idle = tuple(
        outcome_view(outcome, place, places)
        for place, outcome in enumerate(shared.outcomes)
        if outcome.status != "measured"
    )
    embedded, note = _embedded(shared)
    return CardView(
        title=clean(evidence.card.get("title") or shared.subject.name, limit=200) or "model",
        lede=_lede(shared),
        facts=first_facts(shared),
        verdict=verdict_view(judged, anchors),
        rules=rule_views(judged, anchors, cells),
        before=sections_before(shared, judged, cells),
        analyses=analyses_section(shared),
        families=families,
        after=sections_after(shared, judged),
        unmeasured=idle,
        glossary=glossary(shared),
        provenance=provenance(shared, digest if evidence.redacted else evidence.digest or digest_of(evidence)),
        min_cell=min_cell,
        icons={state: icon(state) for state in STATES},
        banners=_banners(shared),
        embedded=embedded,
        embedded_verdict=None if embedded is None else _embedded_verdict(judged),
        embedded_note=note,
    )


def icon(state: str) -> Markup:
    """The state's sign; its meaning is always in words beside it."""
    return element("svg", element("circle", cx="12", cy="12", r="11"),
                   element("path", d=STATES[state][2]), class_=f"icon state-{state}",
                   viewBox="0 0 24 24", aria_hidden="true")  # fmt: skip


def _lede(evidence: Evidence) -> str:
    summary = evidence.card.get("summary")
    if isinstance(summary, str) and summary.strip():
        return clean(summary.strip().split("\n\n")[0], limit=400)
    rows = rows_told(evidence.subject.test.n_rows)
    return f"{capitalised(task_words(evidence))}, audited on {rows} that it was tested with."


def _banners(evidence: Evidence) -> tuple[str, ...]:
    return (f"Reduced plan: {clean(evidence.plan.reduced)}",) if evidence.plan.reduced else ()


def _rule_anchors(verdict: Verdict | None) -> dict[int, str]:
    seen: dict[str, int] = {}
    out = {}
    for index, result in enumerate(verdict.results if verdict else ()):
        anchor = f"rule-{slug(result.id)}"
        seen[anchor] = seen.get(anchor, 0) + 1
        out[index] = anchor if seen[anchor] == 1 else f"{anchor}-{seen[anchor]}"
    return out


def _embedded(shared: Evidence) -> tuple[Markup | None, str]:
    """The shared copy as inert JSON; a large one is left out and named by its digest."""
    text = inert_json(packed_json(shared))
    if len(text) > EMBED_LIMIT:
        why = f"over {EMBED_LIMIT // 1000} kB and is not embedded"
        return None, f"The shared copy of the evidence is {why}; its digest is {shared.digest}."
    return Markup(text), "The shared copy of the evidence is embedded in this page as inert JSON."


def _embedded_verdict(judged: Verdict | None) -> Markup | None:
    """The verdict as inert JSON: the copy of the evidence may lack what it rests on, and has six digits alone."""
    if judged is None:
        return None
    text = inert_json(packed_json(judged))
    return Markup(text) if len(text) <= VERDICT_LIMIT else None


def inert_json(text: str) -> str:
    r"""JSON that cannot end the element it stands in.

    >>> inert_json('{"a":"</script>"}')
    '{"a":"\\u003c/script\\u003e"}'
    """
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match.group()):04x}", text)


def _shown(value: object) -> object:
    """What a template may print: safe markup, or text made clean. Anything else is a mistake, and raises."""
    if hasattr(value, "__html__"):
        return value
    if isinstance(value, str):
        return isolated(clean(value, limit=20_000))
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"a template may not print {type(value).__name__}")


@cache
def _environment() -> Environment:
    folder = resources.files("auditkit.render.html").joinpath("templates")
    return Environment(
        loader=FileSystemLoader(str(folder)),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


@cache
def _card_style() -> str:
    return resources.files("auditkit.render.html").joinpath("card.css").read_text(encoding="utf-8")
