"""Any evidence that can be made survives JSON, byte for byte, and its digest sees every change."""

from __future__ import annotations

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.core.evidence import (
    DataFacts,
    Evidence,
    Interval,
    Measurement,
    Outcome,
    PlanFacts,
    SubjectFacts,
    Table,
)
from auditkit.core.schema import digest_of, dumps, loads

TEXT = st.text(max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), NUMBER, TEXT)


@st.composite
def intervals(draw):
    low, high = sorted((draw(NUMBER), draw(NUMBER)))
    return Interval(low=low, high=high, level=draw(st.floats(0.01, 0.99)), method=draw(TEXT))


@st.composite
def measurements(draw):
    value = draw(st.none() | NUMBER)
    return Measurement(
        name=draw(TEXT),
        value=value,
        n=draw(st.none() | st.integers(0, 10**9)),
        interval=draw(st.none() | intervals()),
        slice=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
        params=draw(st.dictionaries(TEXT, SCALAR, max_size=3)),
        reason=draw(TEXT.filter(bool)) if value is None else draw(st.none() | TEXT),
        unreliable=draw(st.none() | TEXT),
    )


@st.composite
def evidence(draw):
    facts = SubjectFacts(
        name=draw(TEXT),
        task="binary",
        model_kind=draw(TEXT),
        model_fingerprint=draw(st.none() | TEXT),
        classes=("0", "1"),
        positive="1",
        score_space=None,
        capabilities=(),
        test=DataFacts(fingerprint="f", n_rows=1, modality="tabular"),
    )
    rows = draw(st.lists(st.tuples(SCALAR, SCALAR), max_size=3))
    outcome = Outcome(
        analyzer=draw(TEXT),
        version="1",
        status="measured",
        measurements=tuple(draw(st.lists(measurements(), max_size=3))),
        artifacts=(Table(name="t", title=draw(TEXT), columns=("a", "b"), rows=tuple(rows)),),
    )
    return Evidence(subject=facts, plan=PlanFacts(seed=0, analyzers=()), outcomes=(outcome,))


@settings(max_examples=150, deadline=None)
@given(evidence())
def test_json_keeps_every_byte(record):
    text = dumps(record)
    assert dumps(loads(text)) == text


@settings(max_examples=100, deadline=None)
@given(evidence(), TEXT)
def test_the_digest_sees_a_renamed_model(record, name):
    changed = dataclasses.replace(record, subject=dataclasses.replace(record.subject, name=name))
    assert (digest_of(changed) == digest_of(record)) == (name == record.subject.name)
