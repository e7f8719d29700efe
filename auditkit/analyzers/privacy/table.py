"""``privacy.table``: could people be found in the table itself by what others know of them?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field

from auditkit.analyzers.privacy.columns import as_codes, as_numbers, column, column_names
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Direction, Measurement, Scalar, Table
from auditkit.core.subject import IntArray, Subject

EXACT = "exact: it describes these very rows"
# Words that name what others may know of a person.
KNOWN = """age sex gender race ethnicity origin nationality birth dob zip zipcode postcode postal city town county
    region state country marital married education occupation job religion language"""
SUGGEST_ROWS = 200_000


class TableParams(Params):
    """Settings of ``privacy.table``.

    Attributes:
        quasi_identifiers: Columns that an outsider may know of a person; the sensitive columns, and inputs whose names
            say age, sex, place and the like, when left empty.
        confidential: The column that must not be learned about a person; the label when left out.
        k: Rows that should look alike; a generalisation that reaches it is suggested.
        most_suppressed: Largest share of rows that the suggestion may leave out instead of coarsening further.
        suggest: Whether to look for a generalisation.
    """

    quasi_identifiers: tuple[str, ...] = ()
    confidential: str | None = None
    k: int = Field(default=5, ge=2)
    most_suppressed: float = Field(default=0.05, ge=0.0, lt=1.0)
    suggest: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secret:
    """The confidential column of one split."""

    name: str
    codes: IntArray
    ordered: bool


def run(subject: Subject, context: Context, params: TableParams) -> Iterator[Produced]:
    """Measure each split as it is; suggest a generalisation of the training rows (the test rows without any)."""
    from auditkit.methods.privacy.anonymity import equivalence_classes

    names = params.quasi_identifiers or _likely(subject)
    splits = ["test"] if subject.train is None else ["train", "test"]
    for split in splits:
        context.check_deadline()
        data = subject.split(split)
        here = [name for name in names if params.quasi_identifiers or name in column_names(data)]
        if not here:
            yield Note(f"The {split} rows have none of the columns {', '.join(names)}, so they are not measured.")
            continue
        about: dict[str, Scalar] = {"split": split, "quasi_identifiers": " + ".join(here)}
        secret = _secret(subject, split, params.confidential)
        classes = equivalence_classes([as_codes(column(data, name)) for name in here])
        yield from _measured(classes, secret, {**about, "table": "as given"})
        yield _sizes(classes, split, here)
        if params.suggest and split == splits[0]:
            yield from _suggested(subject, split, here, secret, about, context, params)
    yield Note(
        "Taken as known by an outsider: " + ", ".join(names) + ". What others know is for you to say: name it in "
        "quasi_identifiers."
    )


def _likely(subject: Subject) -> tuple[str, ...]:
    """Sensitive columns and inputs with telling names."""
    import re

    found, telling = list(subject.test.sensitive), set(KNOWN.split())
    for name in column_names(subject.test):
        words = {word.lower() for word in re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", name)}
        if words & telling and name not in found:
            found.append(name)
    if not found:
        raise NotApplicable(
            "AK611",
            "no column is known to be what an outsider may know of a person",
            fix='[analyzer."privacy.table"] quasi_identifiers = ["age", "sex", "postcode"]',
        )
    return tuple(found)


def _secret(subject: Subject, split: str, name: str | None) -> _Secret:
    data = subject.split(split)
    values: Any = data.y if name is None else column(data, name)
    ordered = subject.task == "regression" if name is None else as_numbers(values) is not None
    return _Secret(name=name or "label", codes=as_codes(values), ordered=ordered)


def _measured(classes: IntArray, secret: _Secret, about: dict[str, Scalar]) -> Iterator[Measurement]:
    from auditkit.methods.privacy.anonymity import anonymity, l_diversity, t_closeness

    found = anonymity(classes)
    n = found.n

    def say(
        name: str, value: float, direction: Direction, bounds: tuple[float | None, float | None], **more: Scalar
    ) -> Measurement:
        return Measurement(
            name=f"privacy.{name}",
            value=float(value),
            n=n,
            params={**about, **more},
            direction=direction,
            bounds=bounds,
            reason=EXACT,
        )

    yield say("k_anonymity", found.k, "higher", (1.0, None))
    yield say("unique_share", found.n_unique / n, "lower", (0.0, 1.0))
    yield say("reidentification_risk", found.mean_risk, "lower", (0.0, 1.0))
    told = {"confidential": secret.name}
    diverse = l_diversity(classes, secret.codes)
    yield say("l_diversity", diverse.distinct, "higher", (1.0, None), **told)
    yield say("entropy_l_diversity", diverse.entropy, "higher", (1.0, None), **told)
    yield say("exposed_share", diverse.n_exposed / n, "lower", (0.0, 1.0), **told)
    closeness = t_closeness(classes, secret.codes, ordered=secret.ordered)
    yield say("t_closeness", closeness, "lower", (0.0, 1.0), **told)


def _sizes(classes: IntArray, split: str, names: list[str]) -> Table:
    """Share of the rows in classes of each size."""
    sizes = np.bincount(classes)[classes]
    edges = ((1, 1), (2, 4), (5, 9), (10, 49), (50, None))
    rows = tuple(
        (
            str(low) if low == high else f"{low} to {high}" if high else f"{low} or more",
            float(((sizes >= low) & (sizes <= (high or sizes.max()))).mean()),
        )
        for low, high in edges
    )
    return Table(
        name=f"privacy.class_sizes.{split}",
        title=f"Most {split} rows share {' + '.join(names)} with {_middle(sizes)}",
        columns=("rows that look alike", "share of the rows"),
        rows=rows,
    )


def _middle(sizes: IntArray) -> str:
    others = int(np.median(sizes)) - 1
    return "no other row" if others == 0 else "fewer than ten others" if others < 10 else f"about {others:,} others"


def _suggested(
    subject: Subject,
    split: str,
    names: list[str],
    secret: _Secret,
    about: dict[str, Scalar],
    context: Context,
    params: TableParams,
) -> Iterator[Produced]:
    """The least coarsening found that reaches ``k``, and the table's numbers after it."""
    from auditkit.methods.privacy.generalisation import (
        categorical_hierarchy,
        generalise,
        kept_classes,
        numeric_hierarchy,
    )

    data = subject.split(split)
    if data.n > SUGGEST_ROWS:
        yield Note(f"No generalisation was looked for: {data.n:,} rows are more than {SUGGEST_ROWS:,}.")
        return
    hierarchies = []
    for name in names:
        values = column(data, name)
        numbers = as_numbers(values)
        hierarchies.append(
            categorical_hierarchy(name, as_codes(values)) if numbers is None else numeric_hierarchy(name, numbers)
        )
    context.check_deadline()
    found = generalise(hierarchies, params.k, params.most_suppressed)
    if not any(found.levels) and not found.suppressed.any():
        yield Note(
            f"Every {split} row looks like at least {params.k - 1} others as it is: nothing has to be coarsened."
        )
        return
    kept = ~found.suppressed
    if not kept.any():
        yield Note(f"No generalisation reaches {params.k} rows that look alike: there are only {data.n} rows.")
        return
    hidden = _Secret(name=secret.name, codes=as_codes(secret.codes[kept]), ordered=secret.ordered)
    yield from _measured(kept_classes(found), hidden, {**about, "table": "generalised"})
    yield Measurement(
        name="privacy.suppressed_share",
        value=float(found.suppressed.mean()),
        n=data.n,
        params={**about, "table": "generalised"},
        direction="lower",
        bounds=(0.0, 1.0),
        reason=EXACT,
    )
    yield Table(
        name="privacy.generalisation",
        title=f"Coarsened so, every {split} row that is kept looks like at least {params.k - 1} others",
        columns=("column", "given as", "different values before", "and after"),
        rows=tuple(
            (
                hierarchy.name,
                hierarchy.levels[level].told,
                len(np.unique(hierarchy.levels[0].codes)),
                len(np.unique(hierarchy.levels[level].codes[kept])),
            )
            for hierarchy, level in zip(hierarchies, found.levels, strict=True)
        ),
        note="A suggestion found step by step, not the least possible. Whoever knows more of a person than these "
        "columns, or has the table's other columns, can still find rows.",
    )


_ON = "among rows alike in the quasi-identifiers"
ANALYZER = Analyzer(
    name="privacy.table",
    version="1",
    title="Could people be found in the table?",
    summary="How many rows look alike to someone who knows a few columns, what that gives away, how to coarsen them.",
    reference="Sweeney (2002); Machanavajjhala et al. (2007); Li, Li and Venkatasubramanian (2007)",
    needs=frozenset({"tabular"}),
    measures={
        "privacy.k_anonymity": "Rows of the smallest class of rows that are alike in the quasi-identifiers.",
        "privacy.unique_share": "Share of the rows that nobody else in the table is like.",
        "privacy.reidentification_risk": "Mean chance of picking the right row within its class (prosecutor risk).",
        "privacy.l_diversity": f"Fewest different values of the confidential column {_ON}.",
        "privacy.entropy_l_diversity": f"The same, counted by entropy: values that are rare {_ON} hardly count.",
        "privacy.exposed_share": f"Share of the rows whose confidential value is the only one {_ON}.",
        "privacy.t_closeness": "Largest distance of the confidential column in a class from the whole table.",
        "privacy.suppressed_share": "Share of the rows that the suggested generalisation leaves out.",
    },
    params=TableParams,
    run=run,
    default=False,
    limits="Says how people hide among the rows of this table, not among all people: a row that is unique here may not "
    "be unique in the population. None of these is a guarantee as differential privacy is.",
)
