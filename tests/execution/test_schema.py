"""Evidence: canonical bytes, digests, the published schema, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math

import jsonschema
import pytest

from auditkit.core.errors import EvidenceError
from auditkit.core.evidence import (
    Counts,
    Curve,
    DataFacts,
    Density,
    Evidence,
    ImageGrid,
    Interval,
    Measurement,
    Outcome,
    Picture,
    PlanFacts,
    RunFacts,
    Series,
    SubjectFacts,
    Table,
)
from auditkit.core.schema import digest_of, dumps, evidence_schema, from_document, loads, packed_json, seal


def evidence():
    facts = SubjectFacts(
        name="m",
        task="binary",
        model_kind="k",
        model_fingerprint=None,
        classes=("0", "1"),
        positive="1",
        score_space="probability",
        capabilities=("labels",),
        test=DataFacts(fingerprint="f", n_rows=3, modality="tabular"),
    )
    artifacts = (
        Table(name="t", title="T", columns=("a", "b"), rows=((1, "x"), (None, True))),
        Curve(name="c", title="C", x_label="x", y_label="y", series=(Series(name="s", x=(0.0,), y=(None,)),)),
        Density(name="d", title="D", x_label="x", rows=("r",), edges=(0.0, 1.0), counts=((3,),)),
        ImageGrid(name="i", title="I", pictures=(Picture(label="p", height=1, width=1, pixels="AA=="),)),
        Counts(name="n", over=("sex",), groups=(("F",),), classes=("0", "1"), n=(((1, 2), (3, 4)),)),
    )
    measurement = Measurement(
        name="demo.x",
        value=0.1,
        n=3,
        interval=Interval(low=0.0, high=0.2, level=0.95, method="wilson"),
        slice={"sex": "F"},
        params={"eps": 0.1, "k": 3, "flag": True, "none": None, "word": "é\u2028</script>\ud800"},
        bounds=(0.0, None),
    )
    outcome = Outcome(
        analyzer="demo.a", version="1", status="measured", measurements=(measurement,), artifacts=artifacts
    )
    failed = Outcome(analyzer="demo.b", version="1", status="failed", reason="why")
    return Evidence(subject=facts, plan=PlanFacts(seed=0, analyzers=()), outcomes=(outcome, failed))


def test_evidence_survives_json_unchanged():
    text = dumps(evidence())
    assert loads(text) == seal(evidence())
    assert dumps(loads(text)) == text


def test_the_published_schema_is_valid_and_accepts_what_is_written():
    schema = evidence_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    document = json.loads(dumps(evidence()))
    jsonschema.validate(document, schema)
    document["outcomes"][0]["status"] = "fine"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_the_digest_leaves_times_and_machine_out_and_nothing_else():
    base = evidence()
    timed = dataclasses.replace(base, run=RunFacts(started="2026-01-01", seconds={"a": 1.0}, platform="Linux"))
    assert digest_of(timed) == digest_of(base)
    assert digest_of(dataclasses.replace(base, as_of="2026-01-01")) != digest_of(base)


def test_edited_evidence_is_refused():
    with pytest.raises(EvidenceError, match="AK113"):
        loads(dumps(evidence()).replace('"value":0.1', '"value":0.2'))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "AK110"),
        ("{", "AK110"),
        ("[" * 100_000, "AK110"),
        (b"\xff\xfe", "AK110"),
        ('{"schema": "auditkit-evidence/1", "x": NaN}', "AK110"),
        ("[]", "AK111"),
        ("{}", "AK111"),
        ('{"schema": 3}', "AK111"),
        ('{"schema": "auditkit-evidence/99"}', "AK111"),
        ('{"schema": "auditkit-evidence/1"}', "AK112"),
        ('{"schema": "auditkit-evidence/1", "outcomes": [1]}', "AK112"),
    ],
)
def test_what_is_not_evidence_is_refused_with_a_code(text, code):
    with pytest.raises(EvidenceError, match=code):
        loads(text)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_nan_or_infinity_anywhere(bad):
    with pytest.raises(ValueError, match="finite"):
        Measurement(name="demo.x", value=bad)
    with pytest.raises(ValueError, match="finite"):
        Measurement(name="demo.x", value=1.0, params={"eps": bad})
    with pytest.raises(ValueError, match="finite"):
        Interval(low=bad, high=1.0, level=0.9, method="m")
    with pytest.raises(ValueError, match="finite"):
        Table(name="t", title="T", columns=("a",), rows=((bad,),))
    with pytest.raises(ValueError, match="finite"):
        Series(name="s", x=(bad,), y=(1.0,))


def test_a_missing_value_needs_a_reason():
    with pytest.raises(ValueError, match="no reason"):
        Measurement(name="demo.x", value=None)
    with pytest.raises(ValueError, match="needs a reason"):
        Outcome(analyzer="a", version="1", status="skipped")


def test_an_interval_the_wrong_way_round_is_refused():
    with pytest.raises(ValueError, match="above high"):
        Interval(low=1.0, high=0.0, level=0.95, method="m")


def test_what_all_measurements_of_a_name_share_is_written_once():
    base = evidence()
    first = dataclasses.replace(base.outcomes[0].measurements[0], direction="higher", unit="s")
    others = [dataclasses.replace(first, slice={"sex": sex}) for sex in "MX"]
    odd = dataclasses.replace(first, slice={"sex": "N"}, direction="lower")
    outcome = dataclasses.replace(base.outcomes[0], measurements=(first, *others, odd))
    record = dataclasses.replace(base, outcomes=(outcome,))
    (written,) = json.loads(dumps(record))["outcomes"]
    assert written["quantities"] == {"demo.x": {"bounds": [0.0, None], "unit": "s"}}
    assert [m["direction"] for m in written["measurements"]] == ["higher", "higher", "higher", "lower"]
    assert not any("bounds" in m or "unit" in m for m in written["measurements"])
    assert loads(dumps(record)) == seal(record)


@pytest.mark.parametrize("quantities", [[], {"demo.x": 3}, {"demo.x": {"bounds": "no"}}])
def test_damaged_shared_fields_are_refused_or_ignored(quantities):
    document = json.loads(dumps(evidence()))
    document["outcomes"][0]["quantities"] = quantities
    with pytest.raises(EvidenceError, match="AK112|AK113"):
        loads(json.dumps(document))


def plain_evidence():
    """As :func:`evidence`, with no lone surrogate, which only the slower of the two readers takes."""
    base = evidence()
    (first, *_), rest = base.outcomes[0].measurements, base.outcomes[1:]
    first = dataclasses.replace(first, params={"eps": 0.1}, direction="lower", unit="s")
    odd = dataclasses.replace(first, name="demo.y", bounds=(None, None), direction="neutral", unit="")
    outcome = dataclasses.replace(base.outcomes[0], measurements=(first, odd))
    run = RunFacts(seconds={"demo.a": 0.25}, python="3")
    return dataclasses.replace(base, outcomes=(outcome, *rest), run=run)


def test_what_auditkit_wrote_is_read_in_one_pass(monkeypatch):
    text = dumps(plain_evidence())
    slowly = from_document(json.loads(text))
    monkeypatch.setattr(json, "loads", lambda *_, **__: pytest.fail("it was read twice"))
    for given in (text, text.encode()):
        assert loads(given) == slowly == seal(plain_evidence())


@pytest.mark.parametrize(
    ("old", "new"),
    [('"value":0.1', '"value":0.2'), ('"value":0.1', '"value":NaN'), ('"bounds":[0.0,', '"bounds":[NaN,')],
)
def test_what_was_changed_after_it_was_written_is_refused_whoever_reads_it(old, new):
    text = dumps(plain_evidence())
    assert old in text
    with pytest.raises(EvidenceError, match="AK110|AK113"):
        loads(text.replace(old, new))


def test_the_same_evidence_spaced_otherwise_is_still_the_same():
    text = dumps(plain_evidence())
    assert loads(json.dumps(json.loads(text), indent=1)) == loads(text)


def test_a_changed_file_whose_digest_was_redone_still_has_no_infinity_in_it():
    document = json.loads(dumps(plain_evidence()))
    document["outcomes"][0]["quantities"]["demo.x"]["bounds"] = [0.0, math.inf]
    content = {key: part for key, part in document.items() if key not in ("run", "digest")}
    raw = json.dumps(content, sort_keys=True, separators=(",", ":"))
    document["digest"] = "sha256:" + hashlib.sha256(raw.encode()).hexdigest()
    with pytest.raises(EvidenceError, match="AK110"):
        loads(json.dumps(document, sort_keys=True, separators=(",", ":")))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda d: {**d, "shapes": []}, "it is not packed"),
        (lambda d: {**d, "words": [7]}, "a word is no string"),
        (lambda d: {**d, "document": {**d["document"], "card": "~x"}}, "as this release packs it: ~x"),
    ],
)
def test_a_wrongly_packed_copy_is_said_to_be_that(damage, why):
    document = json.loads(packed_json(plain_evidence()))
    assert loads(json.dumps(document)) == plain_evidence()
    with pytest.raises(EvidenceError, match="AK115") as refused:
        loads(json.dumps(damage(document)))
    assert "not valid JSON" not in str(refused.value)
    assert why in str(refused.value)
