"""Who and what: details of the model, what its owner says, and the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from auditkit.core.evidence import DataFacts, Evidence
from auditkit.render.charts import Chart, Row, bar_chart
from auditkit.render.html.names import meaning, title
from auditkit.render.html.view import DataView, Fact, Prose
from auditkit.render.numerals import count, number, scalar
from auditkit.render.text import capitalised, clean, words

_TASKS = {"binary": "binary classification", "multiclass": "classification", "regression": "regression"}
_OWNER = ("owner", "contact", "version", "license")
_DATA = ("training_data", "evaluation_data")
_NOT_PROSE = frozenset({"title", "min_cell", *_OWNER, *_DATA})

# Heading and key of what only the owner of the model can say.
PROSE = (
    ("Intended use", "intended_use"),
    ("Out of scope", "out_of_scope"),
    ("Factors", "factors"),
    ("Ethical considerations", "ethical_considerations"),
    ("Known limits", "limitations"),
    ("Recommendations", "recommendations"),
)
_OPTIONAL = frozenset({"factors"})
LEDE = 400


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
    facts += [(capitalised(key), _text(card[key])) for key in _OWNER if card.get(key)]
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


def prose(evidence: Evidence) -> tuple[Prose, ...]:
    """What the owner says, in the order of a model card; what is missing is said plainly."""
    out = [_prose(head, key, evidence.card) for head, key in PROSE if key not in _OPTIONAL or evidence.card.get(key)]
    known = {key for _, key in PROSE} | _NOT_PROSE
    if len(_text(evidence.card.get("summary"))) <= LEDE:
        known |= {"summary"}  # the page opens with it
    out += [_prose(capitalised(words(key)), key, evidence.card) for key in sorted(set(evidence.card) - known)]
    sensitive = evidence.subject.test.sensitive
    if not evidence.card.get("factors"):
        text = (
            "Measured by group for " + ", ".join(clean(column) for column in sensitive) + "."
            if sensitive
            else "No sensitive columns were given, so nothing was measured by group."
        )
        out.insert(2, Prose(title="Factors", paragraphs=(text,)))
    return tuple(out)


def _prose(head: str, key: str, card: Mapping[str, object]) -> Prose:
    text = _text(card.get(key))
    paragraphs = tuple(part.strip() for part in text.split("\n\n") if part.strip())
    return Prose(title=head, paragraphs=paragraphs, missing="" if paragraphs else clean(key))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return clean(value, limit=20_000, lines=True).strip()
    return scalar(value)


def data_views(evidence: Evidence) -> tuple[DataView, ...]:
    """The evaluation data and, when there is any, the training data."""
    subject = evidence.subject
    views = [_data("Evaluation data", subject.test, _prose("Source", "evaluation_data", evidence.card))]
    if subject.train is not None or evidence.card.get("training_data"):
        source = _prose("Source", "training_data", evidence.card)
        if subject.train is not None:
            views.append(_data("Training data", subject.train, source))
        else:
            views.append(DataView(title="Training data", facts=(("Rows", "not given to the audit"),), prose=source))
    return tuple(views)


def _data(head: str, facts: DataFacts, source: Prose) -> DataView:
    lines: list[Fact] = [("Rows", count(facts.n_rows)), ("Modality", clean(facts.modality))]
    if facts.features:
        lines.append(("Features", count(len(facts.features))))
    if facts.label_counts:
        lines.append(("Labels", ", ".join(f"{clean(name)} {count(n)}" for name, n in facts.label_counts.items())))
    lines.append(("Row weights", "yes" if facts.weighted else "no"))
    if facts.n_clusters is not None:
        lines.append(("Clusters", count(facts.n_clusters)))
    lines.append(("Content hash", clean(facts.fingerprint) or "none"))
    return DataView(
        title=head, facts=tuple(lines), prose=source, groups=tuple(_groups(facts)), features=_features(facts)
    )


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


def _features(facts: DataFacts) -> Chart | None:
    from auditkit.render.charts.chart import table_markup

    if not facts.features:
        return None
    shown = facts.features[:500]
    rows = tuple((clean(feature.name), clean(feature.kind)) for feature in shown)
    more = len(facts.features) - len(shown)
    return Chart(
        title=f"{count(len(facts.features))} features",
        drawing=table_markup("Features", ("Feature", "Kind"), rows),
        note=f"{count(more)} more are left out here." if more else "",
    )


def glossary(names: Iterable[str]) -> tuple[Fact, ...]:
    """What the measured quantities mean, in plain words; only those that auditkit itself measures."""
    terms: dict[str, str] = {}
    for name in names:
        sentence = meaning(name)
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
