"""Odd evidence files are read, or refused with a code, however their measurements were to be built."""

import hashlib
import json

import pytest

from auditkit.core.errors import EvidenceError
from auditkit.core.evidence import DataFacts, Evidence, Measurement, Outcome, PlanFacts, SubjectFacts
from auditkit.core.schema import canonical_json, dumps, loads

SUBJECT = SubjectFacts(
    name="m", task="binary", model_kind="fixed", model_fingerprint=None, classes=("no", "yes"), positive="yes",
    score_space=None, capabilities=(), test=DataFacts(fingerprint="sha256:0", n_rows=50, modality="tabular"),
)  # fmt: skip
EVIDENCE = Evidence(
    subject=SUBJECT,
    plan=PlanFacts(seed=0, analyzers=()),
    outcomes=(
        Outcome(
            analyzer="performance",
            version="1",
            status="measured",
            measurements=(Measurement(name="performance.accuracy", value=0.5, n=50),),
        ),
    ),
)


def edited(part, value):
    """A file that follows its digest, with ``value`` for the part of its only outcome."""
    document = json.loads(dumps(EVIDENCE))
    outcome = document["outcomes"][0]
    if part == "name":
        outcome["measurements"][0]["name"] = value
    else:
        outcome[part] = value
    content = {key: each for key, each in document.items() if key not in ("run", "digest")}
    document["digest"] = "sha256:" + hashlib.sha256(canonical_json(content).encode()).hexdigest()
    return canonical_json(document) + "\n"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("name", ["a.b"]),
        ("name", {"a.b": 1}),
        ("name", None),
        ("quantities", 5),
        ("quantities", ["performance.accuracy"]),
        ("quantities", "performance.accuracy"),
        ("measurements", {}),
        ("measurements", ""),
    ],
)
def test_what_is_no_measurement_is_refused_with_a_code(part, value):
    with pytest.raises(EvidenceError, match="AK11[23]"):
        list(loads(edited(part, value)).by_name.values())


def test_nothing_shared_may_be_said_as_null():
    read = loads(edited("quantities", None))
    assert [each.value for each in read.by_name["performance.accuracy"]] == [0.5]


def test_text_that_no_file_can_hold_is_refused_with_a_code():
    with pytest.raises(EvidenceError, match="AK110"):
        loads("\ud800")
