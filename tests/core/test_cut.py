"""A file whose measurements were cut out as text gives what a file read as a whole gives, whatever its words are."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.core import cut
from auditkit.core.cut import without_measurements
from auditkit.core.evidence import Evidence, Interval, Measurement, Outcome, PlanFacts
from auditkit.core.schema import dumps, from_document, loads, seal
from auditkit.core.unread import Unread
from subject_zoo import facts

# What a reader of text could take for the end of a measurement, of their list, or for a name.
AWKWARD = [
    '},{"',
    '},{"name":"x.a"',
    "}]",
    "}]}",
    '}],"',
    "},{",
    '"name":"x.b"',
    "#0",
    "\\",
    "é",
    '{"',
    '"',
    "a},{",
    "",
]
WORDS = st.one_of(
    st.sampled_from(AWKWARD), st.lists(st.sampled_from(AWKWARD), max_size=3).map("".join), st.text(max_size=4)
)
NAMES = ["x.a", "x.b", "x.c"]


def evidence_of(slices, names, policy=None) -> Evidence:
    found = [
        Measurement(name=name, value=0.5, n=index, slice=each, interval=Interval(low=0.0, high=1.0, method="wilson"))
        for index, (each, name) in enumerate(zip(slices, names, strict=True))
    ]
    outcomes = [
        Outcome(analyzer=f"x.part_{number}", version="1", status="measured", measurements=tuple(part))
        for number, part in enumerate([found[::2], [], found[1::2]])
    ]
    plan = PlanFacts(seed=0, analyzers=())
    return seal(Evidence(subject=facts(), plan=plan, outcomes=tuple(outcomes), policy=policy))


def assert_same(evidence: Evidence) -> None:
    text = dumps(evidence)
    read, fully = loads(text), from_document(json.loads(text))
    for name in [*fully.by_name, *NAMES, "x.other"]:
        assert list(read.by_name.get(name, ())) == list(fully.by_name.get(name, ())), name
    assert list(read.by_name) == list(fully.by_name)
    assert read == fully
    assert dumps(read) == text


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.dictionaries(st.one_of(st.just("name"), WORDS), WORDS, max_size=2), st.sampled_from(NAMES)),
        max_size=7,
    )
)
def test_whatever_the_words_of_a_file_are_each_name_has_its_measurements(parts):
    assert_same(evidence_of([dict(each) for each, _ in parts], [name for _, name in parts]))


@pytest.mark.parametrize(
    "words",
    [
        {"name": '},{"'},
        {"name": "x.b"},
        {"name": "},{", "a": '"name":"x.b"'},
        {"a": '},{"name":"x.b"'},
        {"a": "\ud83d"},
    ],
)
@pytest.mark.parametrize("few", [0, 8])
def test_a_word_that_looks_like_a_border_or_a_name_hides_and_adds_nothing(words, few, monkeypatch):
    monkeypatch.setattr(cut, "_FEW", few)
    assert_same(evidence_of([words, {"g": "1"}, words, {}], ["x.a", "x.a", "x.b", "x.a"]))


@pytest.mark.parametrize("few", [0, 8])
def test_an_ordinary_file_is_read_by_name_alone(few, monkeypatch):
    monkeypatch.setattr(cut, "_FEW", few)
    monkeypatch.setattr(cut.Texts, "whole", lambda texts: pytest.fail("all were read"))
    read = loads(dumps(evidence_of([{"g": str(index)} for index in range(9)], NAMES * 3)))
    assert [m.slice["g"] for m in read.by_name["x.b"]] == ["4", "1", "7"]
    assert list(read.by_name) == ["x.a", "x.c", "x.b"]


def test_the_evidence_of_a_baseline_in_the_policy_stays_where_it_is():
    inner = json.loads(dumps(evidence_of([{"g": "1"}] * 3, NAMES)))
    evidence = evidence_of([{"g": "2"}] * 4, [*NAMES, "x.a"], policy={"baseline": {"a.json": inner}})
    text = dumps(evidence)
    read = loads(text)
    assert isinstance(read.outcomes[0].measurements, Unread)
    assert read.policy == {"baseline": {"a.json": inner}}
    assert_same(evidence)


@pytest.mark.parametrize("mark", ["#0", "0", "#1", "", None, 0, ["#0"]])
def test_what_stands_for_a_list_that_was_cut_out_is_not_taken_from_a_file(mark):
    document = json.loads(dumps(evidence_of([{}, {}], ["x.a", "x.b"])))
    document["outcomes"][1]["measurements"] = mark
    text = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        assert without_measurements(text) is None


def test_a_changed_number_is_seen_whether_or_not_it_is_asked_for():
    text = dumps(evidence_of([{"g": "1"}] * 3, NAMES))
    at = text.index('"value":0.5')
    with pytest.raises(Exception, match="AK113"):
        loads(text[:at] + '"value":0.6' + text[at + len('"value":0.5') :])


def test_sealed_evidence_without_measurements_is_read():
    bare = evidence_of([], [])
    assert loads(dumps(bare)) == bare
    assert not loads(dumps(bare)).by_name
    assert dataclasses.replace(bare, digest="") != bare
