"""The policy language key by key: what is right is read, what is wrong is refused with its line, why and the fix."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import pytest

from auditkit.core.errors import PolicyError
from auditkit.policy.model import Defaults, Groups, Rule, Waiver, parse_policy

BASE = {
    "groups": {"by": '["sex"]'},
    "defaults": {"confidence": "0.95"},
    "rule": {"id": '"r"', "metric": '"selection_rate"', "compare": '"value"', "min": "0.5"},
    "waiver": {"rule": '"r"', "owner": '"jo"', "reason": '"known"', "ticket": '"T-1"', "expires": "2026-12-01"},
}
MODELS = {"groups": Groups, "defaults": Defaults, "rule": Rule, "waiver": Waiver}
GAP = {"compare": '"difference"', "min": None, "max": "0.1"}

# table, key: a good value (with what it needs beside it), then wrong ones with what is said of them.
KEYS = {
    ("groups", "by"): ('["sex", "race"]', {}, [("3", "a list"), ("[1]", "string")]),
    ("groups", "intersections"): ("4", {}, [("0", "greater than or equal to 1"), ("5", "less than or equal to 4"),
                                            ('"two"', "valid integer"), ("1.5", "integer")]),
    ("groups", "missing"): ('"exclude"', {}, [('"drop"', "'group' or 'exclude'"), ("true", "'group' or 'exclude'")]),
    ("groups", "reference"): ('"largest"', {}, [("3", "valid string"), ('["a"]', "valid string")]),
    ("defaults", "confidence"): ("0.99", {}, [("0.5", "greater than 0.5"), ("1.0", "less than 1"),
                                              ('"high"', "valid number"), ("nan", "finite"), ("95", "less than 1")]),
    ("defaults", "inconclusive"): ('"warn"', {}, [('"pass"', "'fail' or 'warn'")]),
    ("defaults", "decide"): ('"point"', {}, [('"mean"', "'interval' or 'point'")]),
    ("defaults", "small"): ('"exclude"', {"min_n": "30"}, [('"drop"', "'inconclusive' or 'exclude'")]),
    ("defaults", "min_n"): ("30", {}, [("-1", "greater than or equal to 0"), ('"few"', "valid integer")]),
    ("rule", "id"): ('"other"', {}, [('""', "at least 1 character"), ("3", "valid string")]),
    ("rule", "metric"): ('"performance.accuracy"', {}, [('""', "at least 1 character"), ("3", "valid string"),
                                                        ('"selecton_rate"', "did you mean 'selection_rate'?")]),
    ("rule", "compare"): ('"ratio"', {}, [('"gap"', "'value', 'difference' or 'ratio'")]),
    ("rule", "over"): ('"sex"', {}, [("1", "a list"), ('["sex", "sex"]', "named twice in over")]),
    ("rule", "where"): ('{ sex = "F" }', {}, [('"sex"', "a table such as"), ("{ sex = 1 }", "valid string")]),
    ("rule", "params"): ("{ eps = 0.03 }", {}, [("3", "a table such as"), ("{ eps = [1] }", "valid")]),
    ("rule", "reference"): ('"best"', GAP, [("3", "valid string")]),
    ("rule", "min"): ("0.2", {}, [('"low"', "valid number"), ("nan", "finite"), ("inf", "finite")]),
    ("rule", "max"): ("0.9", {}, [('"high"', "valid number"), ("inf", "finite")]),
    ("rule", "decide"): ('"point"', {}, [('"mean"', "'interval' or 'point'")]),
    ("rule", "confidence"): ("0.9", {}, [("0.4", "greater than 0.5"), ("1", "less than 1")]),
    ("rule", "small"): ('"exclude"', {"min_n": "5"}, [('"drop"', "'inconclusive' or 'exclude'")]),
    ("rule", "min_n"): ("5", {}, [("-5", "greater than or equal to 0"), ("1.5", "integer")]),
    ("rule", "level"): ('"warning"', {}, [('"info"', "'error' or 'warning'")]),
    ("rule", "optional"): ("true", {}, [('"perhaps"', "valid boolean")]),
    ("rule", "baseline"): ('"release"', {"min": None, "max_increase": "0.1"}, [("3", "valid string")]),
    ("rule", "max_increase"): ("0.1", {"min": None, "baseline": '"b"'}, [("-0.1", "greater than or equal to 0"),
                                                                       ('"much"', "valid number"), ("inf", "finite")]),
    ("rule", "reason"): ('"as agreed"', {}, [("3", "valid string")]),
    ("waiver", "rule"): ('"r"', {}, [("3", "valid string")]),
    ("waiver", "owner"): ('"jo@example.org"', {}, [('""', "at least 1 character"), ("3", "valid string")]),
    ("waiver", "reason"): ('"data is coming"', {}, [('""', "at least 1 character")]),
    ("waiver", "ticket"): ('"RISK-1"', {}, [('""', "at least 1 character"), ("17", "valid string")]),
    ("waiver", "expires"): ('"2026-11-30"', {}, [('"soon"', "is not a date such as 2027-01-31"), ("3.5", "date")]),
    ("waiver", "groups"): ('"sex=F"', {}, [("3", "a list")]),
}  # fmt: skip


def written(table, key, value, beside):
    """A whole policy with one key set, the line that the key is on, and the text."""
    parts = {name: dict(keys) for name, keys in BASE.items()}
    parts[table] = {**parts[table], key: value, **{k: v for k, v in beside.items() if k != key}}
    lines, at = ["version = 1"], 0
    for name, keys in parts.items():
        lines.append(f"[{name}]" if name in ("groups", "defaults") else f"[[{name}]]")
        for own, text in keys.items():
            if text is not None:
                lines.append(f"{own} = {text}")
                at = len(lines) if (name, own) == (table, key) else at
    return "\n".join(lines) + "\n", at


def parse(text):
    return parse_policy(tomllib.loads(text), text=text, where="audit.toml")


def test_the_table_has_every_key_of_the_language():
    assert {(table, key) for table, model in MODELS.items() for key in model.model_fields} == set(KEYS)


@pytest.mark.parametrize(("table", "key"), KEYS)
def test_a_good_value_is_read(table, key):
    value, beside, _ = KEYS[table, key]
    text, _ = written(table, key, value, {**({"min": "0.5"} if key == "max" else {}), **beside})
    policy = parse(text)
    record = getattr(policy, table)
    record = record[0] if isinstance(record, tuple) else record
    given = tomllib.loads(f"x = {value}")["x"]
    found = getattr(record, key)
    if isinstance(found, tuple):
        assert found == ((given,) if isinstance(given, str) else tuple(given))
    else:
        assert str(found) == str(given)


@pytest.mark.parametrize(
    ("table", "key", "wrong", "told"),
    [(table, key, wrong, told) for (table, key), (_, _, cases) in KEYS.items() for wrong, told in cases],
)
def test_a_wrong_value_is_refused_with_its_line_and_the_fix(table, key, wrong, told):
    _, beside, _ = KEYS[table, key]
    text, line = written(table, key, wrong, beside)
    with pytest.raises(PolicyError) as caught:
        parse(text)
    error = caught.value
    assert (error.code, error.where) == ("AK410", "audit.toml")
    assert told in error.why, error.why
    named = [each for each in error.why.splitlines() if told in each]
    rule_wide = "named twice" in told
    assert rule_wide or named[0].strip().startswith(f"audit.toml:{line}: "), error.why
    assert f".{key}" in named[0] or rule_wide
    assert error.fix.startswith("mend the lines named")


@pytest.mark.parametrize("table", MODELS)
def test_a_misspelt_key_names_the_nearest_and_its_line(table):
    key = max(MODELS[table].model_fields, key=len)
    text, line = written(table, key[:-1] + "_", '"x"', {})
    with pytest.raises(PolicyError, match=f"audit.toml:{line}: .*unknown key .*did you mean '{key}'"):
        parse(text)


@pytest.mark.parametrize("table", ["rule", "waiver"])
def test_a_key_that_is_needed_is_missed(table):
    for key, field in MODELS[table].model_fields.items():
        if field.is_required():
            text, _ = written(table, key, None, {})
            with pytest.raises(PolicyError, match=f"{table}\\.0\\.{key}|{table}\\[0\\]\\.{key}: this key is required"):
                parse(text)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"min": None}, "a rule needs a limit"),
        ({"min": "0.9", "max": "0.1"}, "no value could pass"),
        ({"reference": '"best"'}, "reference belongs to compare"),
        ({"compare": '"difference"'}, "a difference is limited by max"),
        ({**GAP, "max": "-0.1"}, "never below 0"),
        ({"compare": '"ratio"', "max": "0.9"}, "a ratio is limited by min"),
        ({"compare": '"ratio"', "min": "1.2"}, "between 0 and 1"),
        ({"compare": '"ratio"', "min": "0.0"}, "between 0 and 1"),
        ({"small": '"exclude"', "min_n": "0"}, "needs min_n of 1 or more"),
        ({"over": '["sex"]', "where": '{ sex = "F" }'}, "both over and where"),
        ({"baseline": '"b"', "min": None}, "baseline and max_increase go together"),
        ({"max_increase": "0.1", "min": None}, "baseline and max_increase go together"),
        ({"baseline": '"b"', "max_increase": "0.1"}, "limited by max_increase"),
    ],
)
def test_keys_that_contradict_each_other_are_refused_at_their_rule(keys, told):
    text, _ = written("rule", "id", '"r"', keys)
    with pytest.raises(PolicyError) as caught:
        parse(text)
    line = text.splitlines().index("[[rule]]") + 1
    assert told in caught.value.why
    assert f"audit.toml:{line}: " in caught.value.why


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("fairness.selecton_rate", "did you mean 'fairness.selection_rate'?"),
        ("robustness.acuracy", "did you mean 'robustness.accuracy'?"),
        ("performance.roc_auk", "did you mean 'performance.roc_auc'?"),
        ("equalised_odds", "did you mean 'equalized_odds'?"),
        ("zzz", "`auditkit analyzers` lists what is measured"),
        ("fairness", "no analyzer measures 'fairness'"),
        ("fairness.*", "no analyzer measures 'fairness.*'"),
    ],
)
def test_a_metric_that_nothing_measures_is_refused_when_the_policy_is_read(metric, told):
    text, line = written("rule", "metric", f'"{metric}"', {})
    with pytest.raises(PolicyError) as caught:
        parse(text)
    assert f"audit.toml:{line}: rule[0].metric: no analyzer measures {metric!r}" in caught.value.why
    assert told in caught.value.why


def test_every_documented_metric_and_what_the_evidence_holds_may_be_named():
    from auditkit.core.registry import discover, load

    names = sorted({name for analyzer in discover() for name in load(analyzer).measures})
    rules = [{"id": name, "metric": name, "max": 1.0} for name in names]
    assert len(parse_policy({"rule": rules}).rule) == len(names) > 200
    own = {"rule": [{"id": "r", "metric": "house.rule", "max": 1.0}]}
    with pytest.raises(PolicyError, match="no analyzer measures 'house.rule'"):
        parse_policy(own)
    assert parse_policy(own, measured={"house.rule"}).rule[0].metric == "house.rule"


def test_known_metrics_load_no_analyzer():
    code = (
        "import sys; from auditkit.policy.model import parse_policy;"
        "parse_policy({'rule': [{'id': 'a', 'metric': 'selection_rate', 'max': 1.0},"
        " {'id': 'b', 'metric': 'robustness.accuracy', 'max': 1.0}]}, measured={'robustness.accuracy'});"
        "print([m for m in sys.modules if m.startswith('auditkit.analyzers') or m == 'importlib.metadata'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "auditkit.analyzers" not in done.stdout
