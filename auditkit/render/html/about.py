"""Who and what: details of the model, what its owner says, and the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from auditkit.core.evidence import DataFacts, Evidence
from auditkit.core.verdict import Verdict
from auditkit.render.charts import Chart, Markup, Row, bar_chart
from auditkit.render.charts.tables import CELLS, table_markup
from auditkit.render.html.caveats import caveats_measured, ethics_measured
from auditkit.render.html.names import label, meaning, title
from auditkit.render.html.view import Fact, Prose, Section
from auditkit.render.numerals import count, number, rows_told
from auditkit.render.shared import prose_text
from auditkit.render.text import capitalised, clean, words

_TASKS = {"binary": "binary classification", "multiclass": "classification", "regression": "regression"}
_OWNER = ("owner", "contact", "version", "license")
# Keys of [card] that have a place of their own, with their headings; what else the owner wrote follows the caveats.
PROSE = {
    "intended_use": "",
    "out_of_scope": "Out of scope",
    "factors": "",
    "metrics": "",
    "evaluation_data": "",
    "training_data": "",
    "ethical_considerations": "",
    "limitations": "Known limits",
    "recommendations": "Recommendations",
}
_NOT_PROSE = frozenset({"title", "summary", "min_cell", "raw", "share_columns", *_OWNER, *PROSE})
LEDE = 400
_FEATURES = 500


def task_words(evidence: Evidence) -> str:
    """The task in words."""
    subject = evidence.subject
    text = _TASKS.get(subject.task, clean(subject.task))
    if subject.task == "multiclass":
        text += f" into {len(subject.classes)} classes"
    return text


def first_facts(evidence: Evidence) -> tuple[Fact, ...]:
    """What was audited, for the first screen."""
    subject = evidence.subject
    facts: list[Fact] = [("Task", capitalised(task_words(evidence))), ("Model", clean(subject.model_kind))]
    facts.append(("Test rows", count(subject.test.n_rows)))
    if subject.test.sensitive:
        facts.append(("Groups", ", ".join(clean(column) for column in subject.test.sensitive)))
    return tuple(facts)


def detail_facts(evidence: Evidence) -> tuple[Fact, ...]:
    """Model details, measured ones and those the owner gave."""
    subject, card = evidence.subject, evidence.card
    facts: list[Fact] = [("Name", clean(subject.name)), ("Task", capitalised(task_words(evidence)))]
    facts += [(capitalised(key), prose_text(card[key])) for key in _OWNER if card.get(key)]
    facts.append(("Kind", clean(subject.model_kind)))
    if subject.classes:
        facts.append(("Classes", ", ".join(clean(name) for name in subject.classes)))
    if subject.positive is not None:
        facts.append(("Positive class", clean(subject.positive)))
    if subject.score_space:
        facts.append(("Scores", clean(subject.score_space)))
    if subject.recipe:
        facts.append(("Trained afresh by", clean(subject.recipe)))
    facts.append(
        ("Model fingerprint", clean(subject.model_fingerprint or "none: this kind of model has no content hash"))
    )
    return tuple(facts)


def sections_before(evidence: Evidence, verdict: Verdict | None, cells: int = CELLS) -> tuple[Section, ...]:
    """What comes before the numbers: details, use, factors, metrics, data.

    Tables of more than ``cells`` cells are lined-up text.

    Source: Mitchell et al. (2019), Model cards for model reporting, section 4.
    """
    subject = evidence.subject
    summary = prose_text(evidence.card.get("summary"))
    details = (_prose("", "summary", evidence.card),) if len(summary) > LEDE else ()
    use = Section(
        anchor="use",
        title="Intended use",
        prose=tuple(_prose(PROSE[key], key, evidence.card) for key in ("intended_use", "out_of_scope")),
        measured=(("", _audited_as(evidence)),),
    )
    parts = [
        Section(anchor="details", title="Model details", prose=details, facts=detail_facts(evidence)),
        use,
        _factors(evidence, cells),
        _metrics(evidence, verdict),
        _data("data-used", "Evaluation data", "evaluation_data", subject.test, evidence),
        _data("data-trained", "Training data", "training_data", subject.train, evidence),
    ]
    return tuple(parts)


def sections_after(evidence: Evidence, verdict: Verdict | None) -> tuple[Section, ...]:
    """What comes after the numbers: ethical considerations, caveats, and whatever else the owner says."""
    ethics = Section(
        anchor="ethics",
        title="Ethical considerations",
        prose=(_prose("", "ethical_considerations", evidence.card),),
        measured=ethics_measured(evidence, verdict),
    )
    caveats = Section(
        anchor="caveats",
        title="Caveats and recommendations",
        prose=tuple(_prose(PROSE[key], key, evidence.card) for key in ("limitations", "recommendations")),
        measured=caveats_measured(evidence),
    )
    other = tuple(
        _prose(capitalised(words(key)), key, evidence.card) for key in sorted(set(evidence.card) - _NOT_PROSE)
    )
    rest = (Section(anchor="more", title="More from the owner", prose=other),) if other else ()
    return (ethics, caveats, *rest)


def _audited_as(evidence: Evidence) -> str:
    test = evidence.subject.test
    what = f"Audited as {task_words(evidence)} of {clean(test.modality)} data on {rows_told(test.n_rows)}"
    positive = evidence.subject.positive
    return what + (f"; the positive class is {clean(positive)}." if positive is not None else ".")


def _factors(evidence: Evidence, cells: int) -> Section:
    """The groups that were told apart, with their sizes in the evaluation data."""
    test = evidence.subject.test
    columns = [clean(column) for column in test.sensitive]
    told = (
        f"Measured by group for {_and(columns)}."
        if columns
        else ("No sensitive columns were given, so nothing was measured by group.")
    )
    pairs = sorted({tuple(sorted(m.slice)) for m in evidence.measurements() if len(m.slice) > 1})
    if pairs:
        told += " Intersections measured: " + "; ".join(" with ".join(map(clean, pair)) for pair in pairs[:12]) + "."
    elif len(columns) > 1:
        told += " No intersections of these columns were measured."
    return Section(
        anchor="factors",
        title="Factors",
        prose=(_prose("", "factors", evidence.card),),
        measured=(("", told),),
        charts=tuple(replace(chart, cells=cells) for chart in _groups(test)),
    )


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _metrics(evidence: Evidence, verdict: Verdict | None) -> Section:
    """Which metrics decide, what they mean, and how sure a number must be."""
    rows = []
    for result in verdict.results if verdict else ():
        kind = f" {result.compare}" if result.compare in ("difference", "ratio") else ""
        limit = clean(result.limit).replace("<=", "≤").replace(">=", "≥")
        rows.append(
            (label(result.metric) + kind, limit, meaning(result.metric, evidence.meanings) or clean(result.reason))
        )
    rows = list(dict.fromkeys(rows))
    total = sum(1 for _ in evidence.measurements())
    sure = sum(m.interval is not None for m in evidence.measurements())
    levels = sorted({m.interval.level for m in evidence.measurements() if m.interval})
    told = f"{count(total)} numbers were measured, {count(sure)} of them with an interval"
    told += f" ({_and([f'{number(100 * level)} %' for level in levels])} confidence)." if levels else "."
    more: tuple[tuple[str, Markup], ...] = ()
    if rows:
        table = table_markup("metrics that the policy decides on", ("Metric", "Limit", "What it is"), rows)
        more = (
            (f"{len(rows)} limit{'' if len(rows) == 1 else 's'} of the policy, with what each metric means", table),
        )
    return Section(anchor="metrics", title="Metrics", prose=(_prose("", "metrics", evidence.card),),
                   measured=(("", told),), more=more)  # fmt: skip


def _prose(head: str, key: str, card: Mapping[str, object]) -> Prose:
    text = prose_text(card.get(key))
    paragraphs = tuple(part.strip() for part in text.split("\n\n") if part.strip())
    return Prose(title=head, paragraphs=paragraphs, missing="" if paragraphs else clean(key))


def _data(anchor: str, head: str, key: str, facts: DataFacts | None, evidence: Evidence) -> Section:
    said = (_prose("", key, evidence.card),)
    if facts is None:
        return Section(anchor=anchor, title=head, prose=said, measured=(("", "Not given to the audit."),))
    lines: list[Fact] = [("Rows", count(facts.n_rows))]
    if facts.features:
        lines.append(("Features", count(len(facts.features))))
    if facts.label_counts:
        lines.append(("Labels", ", ".join(f"{clean(name)}: {count(n)}" for name, n in facts.label_counts.items())))
    if facts.weighted:
        lines.append(("Row weights", "yes"))
    if facts.n_clusters is not None:
        lines.append(("Clusters", count(facts.n_clusters)))
    if anchor != "data-used":  # the sizes in the evaluation data stand under the factors
        lines += [(f"By {words(column)}", ", ".join(f"{clean(name)}: {count(n)}" for name, n in groups.items()))
                  for column, groups in facts.sensitive.items()]  # fmt: skip
    lines.append(("Content hash", clean(facts.fingerprint) or "none"))
    same = facts is not evidence.subject.test and facts.features == evidence.subject.test.features
    return Section(anchor=anchor, title=head, prose=said, facts=tuple(lines), more=() if same else _features(facts))


def _groups(facts: DataFacts) -> Iterable[Chart]:
    for column, sizes in facts.sensitive.items():
        total = sum(sizes.values())
        if not total:
            continue
        smallest = min(sizes, key=lambda name: (sizes[name], name))
        share = 100.0 * sizes[smallest] / total
        finding = (
            f"By {words(column)}, the smallest group shown is {clean(smallest)}:"
            f" {count(sizes[smallest])} rows, {number(share)} %."
        )
        rows = [Row(label=clean(name), value=float(size)) for name, size in sizes.items()]
        yield bar_chart(rows[:40], finding, label="rows", head=capitalised(words(column)))


def _features(facts: DataFacts) -> tuple[tuple[str, Markup], ...]:
    if not facts.features:
        return ()
    shown = facts.features[:_FEATURES]
    rows = tuple((clean(feature.name), clean(feature.kind)) for feature in shown)
    more = len(facts.features) - len(shown)
    head = f"{count(len(facts.features))} feature{'' if len(facts.features) == 1 else 's'}" + (
        f", the first {_FEATURES} shown" if more else ""
    )
    return ((head, table_markup("features", ("Feature", "Kind"), rows, 0)),)


def glossary(evidence: Evidence) -> tuple[Fact, ...]:
    """What the measured quantities mean, in plain words."""
    terms: dict[str, str] = {}
    for name in evidence.by_name:
        sentence = meaning(name, evidence.meanings)
        if sentence:
            terms.setdefault(title(name), capitalised(sentence) + ".")
    return tuple(sorted(terms.items(), key=lambda item: item[0].lower()))


def provenance(evidence: Evidence, complete_digest: str) -> tuple[Fact, ...]:
    """Where the page comes from: digests, schema, versions, seed."""
    facts: list[Fact] = [
        ("Evidence", clean(complete_digest) or "not sealed"),
        ("Shared copy", clean(evidence.digest)),
        ("Schema", clean(evidence.schema)),
        ("Seed", str(evidence.plan.seed)),
        ("Test data", clean(evidence.subject.test.fingerprint) or "none"),
    ]
    if evidence.subject.train is not None:
        facts.append(("Training data", clean(evidence.subject.train.fingerprint) or "none"))
    facts += [(clean(name), clean(version)) for name, version in sorted(evidence.subject.versions.items())]
    return tuple(facts)
