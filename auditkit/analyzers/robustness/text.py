"""Accuracy on texts as people type them, and whether decisions depend on terms that should not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from pydantic import Field, field_validator

from auditkit.analyzers.robustness.estimates import Rows, proportion
from auditkit.analyzers.robustness.shifted import Shift, accuracy_measures, decide_under
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import UsageError
from auditkit.core.evidence import Measurement
from auditkit.core.subject import IntArray, Subject

TYPOS = (0.02, 0.05, 0.1)
SPACES = (0.1, 0.25, 0.5)


class TextParams(Params):
    """Settings of ``robustness.text``.

    Attributes:
        synonyms: Word, or several, -> words that mean the same in these texts; none are known without this list.
        swaps: Name of a swap -> sets of terms that should not matter (names, spellings of a dialect), of any language.
        gender: Swap English words that tell a gender, too.
        max_rows: Test texts looked at.
        min_group_rows: Groups with fewer texts among those looked at are left out.
    """

    synonyms: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    swaps: dict[str, tuple[tuple[str, ...], ...]] = Field(default_factory=dict)
    gender: bool = True
    max_rows: int = Field(default=500, ge=1)
    min_group_rows: int = Field(default=5, ge=1)

    @field_validator("synonyms")
    @classmethod
    def _lower(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if any(not words for words in value.values()):
            raise ValueError("each word needs a synonym")
        lower = {word.strip().lower(): words for word, words in value.items()}
        if len(lower) < len(value) or "" in lower:
            raise ValueError("words must differ in more than case, and be more than spaces")
        return lower


def run(subject: Subject, context: Context, params: TextParams) -> Iterator[Produced]:
    """Change a sample of the test texts in every way; yield accuracies, gaps, and how often swaps change decisions."""
    from auditkit.methods.robustness import text as methods

    swaps = {name: [list(terms) for terms in sets] for name, sets in params.swaps.items()}
    for name, sets in swaps.items():
        methods.check_sets(sets, f"swaps.{name}")
    if params.gender:
        if "gender" in swaps:
            raise UsageError("AK581", "swaps has a 'gender' of its own", where="swaps", fix="set gender = false")
        swaps["gender"] = [list(terms) for terms in methods.GENDER_TERMS]
    positions = context.sample_rows(subject.test.n, params.max_rows)
    texts: list[str] = list(subject.test.take(positions).inputs)
    shifts = _shifts(texts, params, context.seed)
    yield from accuracy_measures(decide_under(subject, context, positions, shifts, {}), "text", params.min_group_rows)
    for name, sets in swaps.items():
        context.check_deadline()
        yield from _swap(subject, context, positions, texts, name, sets)
    yield Note(
        f"{len(positions):,} of {subject.test.n:,} texts. Severities: typos at {_percent(TYPOS)} of the letters; "
        f"spaces lost or doubled at {_percent(SPACES)}; case all small, title, all capitals; punctuation without last "
        "mark, with one more, without any."
    )


def _percent(shares: tuple[float, ...]) -> str:
    return ", ".join(f"{share:.0%}" for share in shares)


def _shifts(texts: list[str], params: TextParams, seed: int) -> list[Shift]:
    from auditkit.methods.robustness import text as methods

    def each(place: int, change: Callable[[str, int, np.random.Generator], str]) -> Callable[[int], list[str]]:
        def make(severity: int) -> list[str]:
            rng = np.random.default_rng([seed % 2**32, place, severity])
            return [change(text, severity, rng) for text in texts]

        return make

    three = (1, 2, 3)
    shifts = [
        Shift(name="typos", severities=three, make=each(0, lambda t, s, rng: methods.with_typos(t, TYPOS[s - 1], rng))),
        Shift(name="case", severities=three, make=each(1, lambda t, s, rng: methods.with_case(t, s))),
        Shift(
            name="spacing",
            severities=three,
            make=each(2, lambda t, s, rng: methods.with_spacing(t, SPACES[s - 1], rng)),
        ),
        Shift(name="punctuation", severities=three, make=each(3, lambda t, s, rng: methods.with_punctuation(t, s))),
    ]
    if params.synonyms:
        words = each(4, lambda t, s, rng: methods.with_synonyms(t, params.synonyms, rng))
        shifts.append(Shift(name="synonyms", severities=(1,), make=words))
    return shifts


def _swap(
    subject: Subject, context: Context, positions: IntArray, texts: list[str], name: str, sets: list[list[str]]
) -> Iterator[Produced]:
    """How many of the texts with a term are decided otherwise when it is swapped."""
    from auditkit.core.generators import preserved_generators
    from auditkit.methods.robustness.text import with_terms_swapped

    variants = [with_terms_swapped(text, sets) for text in texts]
    holding = np.array([bool(found) for found in variants], dtype=np.bool_)
    owner = np.repeat(np.arange(len(texts)), [len(found) for found in variants])
    flat = [variant for found in variants for variant in found]
    changed = np.zeros(len(texts), dtype=np.bool_)
    if flat:
        clean: Any = context.decisions()[positions]
        with preserved_generators():
            decided = np.asarray(subject.model.predict(flat))
        np.logical_or.at(changed, owner, decided != clean[owner])
    estimate = proportion(changed[holding], Rows.of(subject.test, positions).where(holding))
    yield Measurement(
        name="robustness.decision_change_rate",
        value=estimate.value,
        n=int(holding.sum()),
        interval=estimate.interval,
        params={"swap": name},
        direction="lower",
        bounds=(0.0, 1.0),
        reason=estimate.reason if holding.any() else "no text looked at holds one of the terms",
    )


ANALYZER = Analyzer(
    name="robustness.text",
    version="5",
    title="Text robustness",
    summary="Accuracy on texts with typos, other case, spacing, marks and words; decisions when terms are swapped.",
    reference="Ribeiro et al. (2020), Beyond accuracy: behavioral testing of NLP models with CheckList",
    needs=frozenset({"model", "labels", "inputs", "text", "classification"}),
    measures={
        "robustness.text_accuracy": "Share of texts decided rightly under one change at one severity.",
        "robustness.mean_text_accuracy": "Mean accuracy over severities (and changes) of the same texts.",
        "robustness.mean_text_accuracy.difference": "Largest gap between groups in this mean.",
        "robustness.text_drop": "Clean accuracy minus the mean accuracy under changes, text by text.",
        "robustness.decision_change_rate": "Share of texts with a term that are decided otherwise when it is swapped.",
    },
    params=TextParams,
    run=run,
    limits="A swap that changes no decision here may change one elsewhere; swapped texts can be ungrammatical.",
)
