"""Measurements of a file are built when they are asked for, and are then what a full reading gives."""

import datetime
import hashlib
import json
import pickle
from pathlib import Path

import pytest

from auditkit.core.cut import Texts
from auditkit.core.errors import EvidenceError
from auditkit.core.evidence import Evidence, Interval, Measurement, Outcome, PlanFacts
from auditkit.core.schema import dumps, from_document, loads, plain, seal
from auditkit.core.unread import ByName, Unread
from auditkit.policy.evaluate import evaluate
from auditkit.policy.model import parse_policy
from subject_zoo import facts

REPORTS = Path(__file__).parents[2] / "reports"
SUBJECT = facts()
ASKED = "performance.accuracy"


def several() -> Evidence:
    found = [
        Measurement(
            name=name, value=0.1 * index, n=50, interval=Interval(low=0.0, high=1.0, method="wilson"), unit=unit
        )
        for index, (name, unit) in enumerate(
            [(ASKED, ""), ("explain.cost", "EUR"), (ASKED, ""), ("explain.cost", "EUR")]
        )
    ]
    parts = [found[:3], found[3:], []]
    outcomes = [
        Outcome(analyzer=f"performance.part_{number}", version="1", status="measured", measurements=tuple(part))
        for number, part in enumerate(parts)
    ]
    return seal(Evidence(subject=SUBJECT, plan=PlanFacts(seed=0, analyzers=()), outcomes=tuple(outcomes)))


def counted(written):
    built = []

    def build(read):
        parts = read()
        built.extend(part["name"] for part in parts)
        return [Measurement(name=part["name"], value=part["value"], n=1) for part in parts]

    return Unread(written, build), built


def written(*names):
    return Texts(",".join(f'{{"name":"{name}","value":{index}}}' for index, name in enumerate(names)).encode())


def test_only_what_is_asked_for_is_built_and_a_name_only_once():
    unread, built = counted(written("x.a", "x.b", "x.a"))
    plain = (Measurement(name="x.b", value=9.0, n=1),)
    names = ByName([unread, plain])
    assert list(names) == ["x.a", "x.b"]
    assert len(names) == 2
    assert built == []
    assert [m.value for m in names["x.a"]] == [0.0, 2.0]
    assert built == ["x.a", "x.a"]
    assert [m.value for m in names["x.b"]] == [1.0, 9.0]
    assert built == ["x.a", "x.a", "x.b"]
    assert [m.value for m in unread] == [0.0, 1.0, 2.0]
    assert [m.value for m in unread] == [0.0, 1.0, 2.0]
    assert built == ["x.a", "x.a", "x.b", "x.a", "x.b", "x.a"]
    assert "x.c" not in names


def test_it_is_the_tuple_that_it_stands_for():
    unread, _ = counted(written("x.a", "x.b", "x.c"))
    same, _ = counted(written("x.a", "x.b", "x.c"))
    assert unread[-1].name == "x.c"
    assert unread[:2] == (unread[0], unread[1])
    with pytest.raises(IndexError):
        unread[3]
    whole = tuple(unread)
    assert unread == whole
    assert whole == unread
    assert unread == same
    assert unread != whole[:2]
    assert repr(unread) == repr(whole)
    assert unread[1] is whole[1]
    assert len(unread) == 3


def test_a_file_gives_what_was_written_into_it():
    evidence = several()
    read, fully = loads(dumps(evidence)), from_document(json.loads(dumps(evidence)))
    assert isinstance(read.outcomes[0].measurements, Unread)
    assert {name: list(read.by_name[name]) for name in read.by_name} == {
        name: list(evidence.by_name[name]) for name in evidence.by_name
    }
    assert read == evidence == fully
    assert dumps(read) == dumps(evidence)
    assert loads(dumps(loads(dumps(read)))) == evidence


def test_what_is_wrong_with_a_measurement_is_said_when_it_is_asked_for():
    document = json.loads(dumps(several()))
    document["outcomes"][0]["measurements"][1]["interval"]["low"] = 2.0
    content = {key: part for key, part in document.items() if key not in ("run", "digest")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    document["digest"] = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    read = loads(json.dumps(document, sort_keys=True, separators=(",", ":")), where="e.json")
    assert len(read.by_name[ASKED]) == 2
    with pytest.raises(EvidenceError, match="AK112") as caught:
        list(read.measurements())
    assert "above high" in str(caught.value.why)
    assert caught.value.where == "e.json"


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits", "loan"])
def test_a_verdict_is_the_same_whether_all_was_read_or_only_what_its_rules_name(name):
    text = (REPORTS / name / "evidence.json").read_text()
    read, fully = loads(text), from_document(json.loads(text))
    verdicts = [evaluate(e, parse_policy(plain(e.policy)), as_of=datetime.date(2026, 6, 1)) for e in (read, fully)]
    assert verdicts[0] == verdicts[1]
    assert {r.metric for r in verdicts[0].results if r.state != "error"}


def test_evidence_that_was_read_can_be_sent_to_another_process():
    read = loads(dumps(several()))
    assert pickle.loads(pickle.dumps(several())) == read
