"""The tables of profiles, from the evidence alone: impact ratios with tests, and maps from sections to evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from auditkit.core.evidence import MISSING_GROUP, Counts, Evidence, Scalar, Table
from auditkit.core.rounding import SAME, general, keeps_side

SCORING_RATE = "fairness.scoring_rate"
Share = tuple[float, str]


class CannotTabulate(Exception):
    """Why the tables of a profile cannot be made."""


@dataclass(frozen=True, kw_only=True)
class Category:
    """One category: how many people it has and how many of them were selected (or scored above the median)."""

    name: str
    people: int
    chosen: int

    @property
    def rate(self) -> float:
        """Share chosen."""
        return self.chosen / self.people


@dataclass(frozen=True, kw_only=True)
class Categories:
    """The categories of one grouping, and how many people of unknown category are not among them."""

    over: tuple[str, ...]
    known: tuple[Category, ...]
    unknown: int

    def best(self, smallest_share: float) -> Category | None:
        """The category with the highest rate, small ones aside; ``None`` when nobody was chosen."""
        large = [c for c in self.known if not self.is_small(c, smallest_share)]
        top = max(large, key=lambda c: c.rate, default=None)
        return top if top is not None and top.chosen else None

    def is_small(self, category: Category, smallest_share: float) -> bool:
        """Whether a category has less than ``smallest_share`` of all people, the unknown ones included."""
        return category.people < smallest_share * (sum(c.people for c in self.known) + self.unknown)


def adverse_impact(evidence: Evidence, name: str, share: Share) -> list[Table]:
    """For each sensitive column: selection rates, their ratio to the highest, standard deviations and Fisher's p.

    Args:
        evidence: With the counts of ``fairness.groups``, of a binary task.
        name: Of the profile.
        share: Smallest share of the people that a category must have, and the reason.

    Raises:
        CannotTabulate: No sensitive columns, no counts, or not a binary task.
    """
    columns = tuple(evidence.subject.test.sensitive)
    if not columns:
        raise CannotTabulate("the data have no sensitive columns; name them in [data] sensitive")
    tables = []
    for column in columns:
        found = _selected(evidence, (column,))
        best = found.best(share[0])
        rows: list[tuple[Scalar, ...]] = []
        for each in found.known:
            if best is None or each is best or found.is_small(each, share[0]):
                remark = "highest rate" if each is best else share[1] if best else "nobody was selected"
                rows.append(
                    (each.name, each.people, each.chosen, each.rate, 1.0 if each is best else None, None, None, remark)
                )
                continue
            ratio, sd = each.rate / best.rate, standard_deviations(each, best)
            p = None if evidence.subject.test.n_clusters is not None else fisher_p(each, best)
            sd = None if evidence.subject.test.n_clusters is not None else sd
            rows.append((each.name, each.people, each.chosen, each.rate, ratio, sd, p, _reading(ratio, sd, p)))
        tables.append(
            Table(
                name=f"{name}.{column}",
                title=f"Adverse impact by {column}",
                columns=("group", "n", "selected", "selection rate", "ratio to highest", "standard deviations",
                         "Fisher's exact p", "reading"),
                rows=tuple(rows),
                note=_notes(found, evidence),
            )
        )  # fmt: skip
    return tables


def impact_ratios(evidence: Evidence, name: str, columns: Mapping[str, Sequence[str]], share: Share) -> list[Table]:
    """Selection rates (and scoring rates, where measured) with impact ratios: sex, race, and sex by race.

    Args:
        evidence: With the counts of ``fairness.groups``.
        name: Of the profile.
        columns: Of each category of the law, the names that its column may have.
        share: Smallest share of the people that a category must have for a ratio, and the reason.

    Raises:
        CannotTabulate: A column that the law asks for is not there, or there are neither decisions nor scores.
    """
    known = {column.lower(): column for column in evidence.subject.test.sensitive}
    chosen: dict[str, str] = {}
    for wanted, spellings in columns.items():
        found = next((known[spelling] for spelling in spellings if spelling in known), None)
        if found is None:
            raise CannotTabulate(f"no sensitive column for {wanted}: one of {', '.join(spellings)} is looked for")
        chosen[wanted] = found
    groupings = [(column,) for column in chosen.values()] + [tuple(chosen.values())]
    tables = []
    if evidence.subject.task == "binary":
        tables += [_ratio_table(_selected(evidence, over), evidence, name, share, "selection") for over in groupings]
    if SCORING_RATE in evidence.by_name:
        tables += [_ratio_table(_scored(evidence, over), evidence, name, share, "scoring") for over in groupings]
    if not tables:
        raise CannotTabulate("it needs the decisions of a binary task, or scores")
    return tables


def section_map(evidence: Evidence, name: str, sections: Sequence[tuple[str, str, Sequence[str], str]]) -> Table:
    """Which evidence there is for each section of a text, and what is missing; never whether it is enough."""
    rows: list[tuple[Scalar, ...]] = []
    for title, asks, tokens, outside in sections:
        held = {token: _held(evidence, token) for token in tokens}
        present = "; ".join(text for text in held.values() if text) or "nothing"
        absent = [token.replace(":", " ").rstrip(".") for token, text in held.items() if not text]
        if outside:
            absent.append(f"outside any audit: {outside}")
        rows.append((title, asks, present, "; ".join(absent) or "nothing"))
    return Table(
        name=f"{name}.map",
        title="Sections and the evidence for them",
        columns=("section", "asks for", "in this audit", "not in this audit"),
        rows=tuple(rows),
        note="A map, not a judgement: whether the evidence is enough is for people to say.",
    )


def standard_deviations(one: Category, two: Category) -> float | None:
    """The two-proportion z with pooled variance, positive when ``one`` has the lower rate.

    >>> few, many = Category(name="a", people=100, chosen=30), Category(name="b", people=100, chosen=50)
    >>> round(standard_deviations(few, many), 4)
    2.8868
    """
    people = one.people + two.people
    pooled = (one.chosen + two.chosen) / people
    variance = pooled * (1 - pooled) * (1 / one.people + 1 / two.people)
    return (two.rate - one.rate) / math.sqrt(variance) if variance > 0 else None


def fisher_p(one: Category, two: Category) -> float:
    """Two-sided p of Fisher's exact test of independence, by scipy."""
    from scipy.stats import fisher_exact

    table = [[one.chosen, one.people - one.chosen], [two.chosen, two.people - two.chosen]]
    return float(fisher_exact(table).pvalue)


def _reading(ratio: float, sd: float | None, p: float | None) -> str:
    below = ("below four fifths" if ratio < 0.8 - SAME else "four fifths or more") + _narrowly(ratio, 0.8)
    if sd is None or p is None:
        return f"{below}; no test of chance"
    beyond = ("beyond" if abs(sd) > 2 else "within") + " two standard deviations" + _narrowly(abs(sd), 2.0)
    return f"{below}, {beyond}, Fisher's p {'below' if p < 0.05 else 'at or above'} 0.05{_narrowly(p, 0.05)}"


def _narrowly(value: float, limit: float) -> str:
    """The value with more digits, where the three of the table would put it on its limit.

    >>> _narrowly(0.79996, 0.8), _narrowly(0.7, 0.8)
    (' (0.79996)', '')
    """
    return "" if keeps_side(round(value, 3), value, [limit]) else f" ({general(value, [limit], 3)})"


def _ratio_table(found: Categories, evidence: Evidence, name: str, share: Share, kind: str) -> Table:
    best = found.best(share[0])
    rows: list[tuple[Scalar, ...]] = []
    for each in found.known:
        small = found.is_small(each, share[0])
        ratio = each.rate / best.rate if best is not None and not small else None
        remark = share[1] if small else "" if best else "no category has anyone above 0"
        rows.append((each.name, each.people, each.chosen, each.rate, ratio, remark))
    chosen = "selected" if kind == "selection" else "scored above the median"
    return Table(
        name=f"{name}.{kind}.{'-'.join(found.over)}",
        title=f"{kind.capitalize()} rate and impact ratio by {' and '.join(found.over)}",
        columns=("category", "applicants", chosen, f"{kind} rate", "impact ratio", "remark"),
        rows=tuple(rows),
        note=_notes(found, evidence),
    )


def _notes(found: Categories, evidence: Evidence) -> str:
    notes = [f"{found.unknown:,} of unknown {' or '.join(found.over)} are not in the table."]
    if evidence.subject.test.weighted:
        notes.append("People are counted as rows; the row weights of the data are not used here.")
    if evidence.subject.test.n_clusters is not None:
        notes.append("Some people have several rows, so tests that take rows as independent are left out.")
    return " ".join(notes)


def _selected(evidence: Evidence, over: tuple[str, ...]) -> Categories:
    counts = next((part for part in evidence.counts() if set(part.over) == set(over)), None)
    if counts is None:
        raise CannotTabulate(
            f"{' x '.join(over)} was not counted; run fairness.groups with intersections = {len(over)}"
        )
    if counts.positive is None:
        raise CannotTabulate("selection needs a binary task with a positive class")
    order = [counts.over.index(column) for column in over]
    sizes = {tuple(group[i] for i in order): _of(counts, index) for index, group in enumerate(counts.groups)}
    return _categories(over, sizes)


def _of(counts: Counts, index: int) -> tuple[int, int]:
    cells, positive = counts.n[index], counts.positive or 0
    return sum(map(sum, cells)), sum(row[positive] for row in cells)


def _scored(evidence: Evidence, over: tuple[str, ...]) -> Categories:
    found = [m for m in evidence.by_name.get(SCORING_RATE, ()) if set(m.slice) == set(over)]
    sizes = {
        tuple(m.slice[column] for column in over): (m.n, round(m.value * m.n))
        for m in found
        if m.value is not None and m.n
    }
    if not sizes:
        raise CannotTabulate(f"the scoring rate was not measured by {' x '.join(over)}")
    return _categories(over, sizes)


def _categories(over: tuple[str, ...], sizes: Mapping[tuple[str, ...], tuple[int, int]]) -> Categories:
    known = tuple(
        Category(name=" / ".join(group), people=people, chosen=chosen)
        for group, (people, chosen) in sizes.items()
        if MISSING_GROUP not in group and people
    )
    unknown = sum(people for group, (people, _) in sizes.items() if MISSING_GROUP in group)
    return Categories(over=over, known=known, unknown=unknown)


def _held(evidence: Evidence, token: str) -> str:
    """What the evidence holds for one token of a section; empty when nothing."""
    kind, _, what = token.partition(":")
    if kind == "card":
        return f"card: {what.replace('_', ' ')}" if evidence.card.get(what) else ""
    if kind == "facts":
        return f"hash and shape of {evidence.subject.test.n_rows:,} test rows"
    if kind == "plan":
        return f"{len(evidence.plan.analyzers)} analyzers with settings and seed"
    if kind == "policy":
        rules = [rule for rule in _rules(evidence) if what == "rule" or rule.get(what)]
        return f"{len(rules)} rules" + ("" if what == "rule" else f" with a {what}") if rules else ""
    measured = [m for m in evidence.measurements() if m.value is not None and not m.unreliable]
    if kind == "intervals":
        count = sum(1 for m in measured if m.interval)
        return f"{count} of {len(measured)} numbers with an interval" if count else ""
    wanted = [m for m in measured if (m.family == what if kind == "family" else m.name.startswith(what))]
    return f"{len(wanted)} numbers of {what.rstrip('.')}" if wanted else ""


def _rules(evidence: Evidence) -> list[Mapping[str, object]]:
    rules = (evidence.policy or {}).get("rule")
    return [rule for rule in rules if isinstance(rule, Mapping)] if isinstance(rules, list | tuple) else []
