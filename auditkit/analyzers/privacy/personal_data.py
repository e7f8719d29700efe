"""``privacy.personal_data``: which columns, or texts, look like personal data?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pydantic import Field

from auditkit.analyzers.privacy.columns import column, column_names
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.evidence import Measurement, Table
from auditkit.core.subject import Subject

SHORTEST = 7
LONG_TEXT = 40


class PersonalDataParams(Params):
    """Settings of ``privacy.personal_data``.

    Attributes:
        max_values: Most distinct values looked at of a column, or most texts; drawn at random beyond.
    """

    max_values: int = Field(default=5_000, ge=10)


def run(subject: Subject, context: Context, params: PersonalDataParams) -> Iterator[Produced]:
    """Look at every column, or at the texts, of the test rows: by value and by name."""
    from auditkit.methods.privacy.personal_data import by_name, by_values

    data = subject.test
    found: list[tuple[str, str, str]] = []
    names = column_names(data)
    looked = [(name, column(data, name)) for name in names]
    if data.modality == "text":
        looked.append(("text", np.array([str(text) for text in data.inputs], dtype=object)))
    for place, (name, values) in enumerate(looked):
        context.check_deadline()
        context.progress(place, len(looked))
        telling = by_name(name) if name in names and _could_identify(values) else None
        if telling:
            found.append((name, telling, "its name"))
        texts = _texts(values, context, params.max_values)
        within = bool(texts) and (name not in names or float(np.median([len(text) for text in texts])) > LONG_TEXT)
        for match in by_values(texts, within=within):
            found.append((name, match.kind, "its values" + (", check digits right" if match.checked else "")))
            yield Measurement(
                name="privacy.personal_data_share",
                value=match.share,
                n=len(texts),
                n_of="distinct values",
                params={"column": name, "kind": match.kind},
                direction="lower",
                bounds=(0.0, 1.0),
                reason="exact: it describes the values looked at",
            )
    context.progress(len(looked), len(looked))
    if not looked:
        yield Note("There are no named columns and no texts to look at.")
    yield _count(looked, found)
    if found:
        yield Table(
            name="privacy.personal_data",
            title=f"{len({name for name, _, _ in found})} of {len(looked)} columns look like personal data",
            columns=("column", "looks like", "by"),
            rows=tuple(found),
            note="A name is a hint, not a finding; check digits that are right this often are not chance.",
        )
    yield Note("Names of people in running text, and kinds of numbers that have no check digits, are not found.")


def _count(looked: list[tuple[str, Any]], found: list[tuple[str, str, str]]) -> Measurement:
    return Measurement(
        name="privacy.personal_data_columns",
        value=float(len({name for name, _, _ in found})),
        n=len(looked),
        n_of="columns",
        direction="lower",
        bounds=(0.0, None),
        reason="exact: it describes these columns",
    )


def _could_identify(values: Any) -> bool:
    """Whether a column has more than two values: "phone_service" with yes and no holds nobody's number."""
    import pandas as pd

    series = pd.Series(values)
    return not pd.api.types.is_bool_dtype(series.dtype) and series.nunique() > 2


def _texts(values: Any, context: Context, most: int) -> list[str]:
    """Distinct values as text; numbers only where they are whole and long enough to identify anyone."""
    import pandas as pd

    series = pd.Series(values).dropna()
    kinds = pd.api.types
    if kinds.is_bool_dtype(series.dtype) or kinds.is_datetime64_any_dtype(series.dtype):
        return []
    distinct = series.astype(object).drop_duplicates().to_numpy()
    if kinds.is_numeric_dtype(series.dtype) and not isinstance(series.dtype, pd.CategoricalDtype):
        numbers = distinct.astype(np.float64)
        whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (numbers >= 10 ** (SHORTEST - 1))
        distinct = np.array([str(int(value)) for value in distinct[whole]], dtype=object)
    rows = context.sample_rows(len(distinct), most)
    return [str(distinct[row]) for row in rows]


ANALYZER = Analyzer(
    name="privacy.personal_data",
    version="3",
    title="Columns that look like personal data",
    summary="Columns or texts that hold e-mail addresses, phone, card, account or identity numbers, or places.",
    reference="ISO/IEC 7812-1; ISO 13616; national rules as python-stdnum cites them",
    needs=frozenset({"labels"}),
    measures={
        "privacy.personal_data_share": "Share of the column's distinct values that look like this kind of data.",
        "privacy.personal_data_columns": "Columns that look like personal data, by their values or their names.",
    },
    params=PersonalDataParams,
    run=run,
    extra="privacy",
    packages=("stdnum",),
    default=False,
    limits="Forms and check digits tell what a value looks like, not whose it is.",
)
