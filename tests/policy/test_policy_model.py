from __future__ import annotations

import datetime
import tomllib

import pytest

from auditkit.core.errors import PolicyError
from auditkit.policy.files import load_policy
from auditkit.policy.model import parse_policy


def parse(text, **keys):
    return parse_policy(tomllib.loads(text), text=text, where="audit.toml", **keys)


def test_every_key_is_read():
    policy = parse(
        """
version = 1
[model]
path = "m.skops"
[groups]
by = ["sex"]
intersections = 2
missing = "exclude"
reference = "best"
[defaults]
confidence = 0.9
inconclusive = "warn"
[[rule]]
id = "a"
metric = "robustness.accuracy"
params = { eps = 0.1, attack = "pgd" }
where = { sex = "F" }
min = 0.5
reason = "as agreed"
[[waiver]]
rule = "a"
owner = "a@b"
reason = "known"
ticket = "T-1"
expires = 2026-12-01
"""
    )
    assert policy.groups.by == ("sex",)
    assert policy.rule[0].params == {"eps": 0.1, "attack": "pgd"}
    assert policy.rule_lines == (13,)
    assert policy.waiver[0].expires == datetime.date(2026, 12, 1)


def test_a_date_survives_as_text_because_evidence_holds_plain_data():
    waiver = {"rule": "a", "owner": "o", "reason": "r", "ticket": "t", "expires": "2026-12-01"}
    document = {"rule": [{"id": "a", "metric": "selection_rate", "min": 0}], "waiver": [waiver]}
    assert parse_policy(document).waiver[0].expires == datetime.date(2026, 12, 1)


def test_all_faults_come_at_once_with_line_and_nearest_key():
    with pytest.raises(PolicyError) as raised:
        parse(
            """
[defaults]
confidnce = 0.9
[[rule]]
id = "a"
metric = "selection_rate"
compare = "ratoi"
min = 0.8
[[rule]]
id = "a"
metrics = "selection_rate"
[[rules]]
id = "b"
"""
        )
    text = raised.value.text()
    assert "AK410 the policy has 6 faults" in text
    assert "audit.toml:3: defaults.confidnce: unknown key 'confidnce', did you mean 'confidence'?" in text
    assert "audit.toml:7: rule[0].compare: Input should be 'value', 'difference' or 'ratio', got 'ratoi'" in text
    assert "audit.toml:11: rule[1].metrics: unknown key 'metrics', did you mean 'metric'?" in text
    assert "audit.toml:9: rule[1].metric: this key is required" in text
    assert "audit.toml:10: rule id 'a' is used twice" in text
    assert "audit.toml:12: unknown section or key [rules], did you mean 'rule'?" in text
    assert raised.value.exit_code == 2


def test_lines_inside_pyproject(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\n\n[[tool.auditkit.rule]]\nid = "a"\nmetric = "x"\nmin = "low"\n')
    with pytest.raises(PolicyError, match=r"pyproject.toml:7: rule\[0\].min"):
        load_policy(path)
    path.write_text('[project]\nname = "x"\n\n[[tool.auditkit.rule]]\nid = "a"\nmetric = "selection_rate"\nmin = 0.1\n')
    assert load_policy(path).rule_lines == (4,)


RULE = '[[rule]]\nid = "a"\nmetric = "selection_rate"\n'


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (RULE, "a rule needs a limit: min or max"),
        (RULE + "min = nan\n", "finite number"),
        (RULE + "max = inf\n", "finite number"),
        (RULE + "min = 0.9\nmax = 0.1\n", "min 0.9 is above max 0.1: no value could pass"),
        (RULE + 'compare = "ratio"\nmin = 0\n', "min must be above 0 and at most 1"),
        (RULE + 'compare = "ratio"\nmin = 80\n', "min must be above 0 and at most 1"),
        (RULE + 'compare = "ratio"\nmax = 0.8\n', "a ratio is limited by min"),
        (RULE + 'compare = "difference"\nmin = 0.1\n', "a difference is limited by max"),
        (RULE + 'compare = "difference"\nmax = -0.1\n', "max must be 0 or more"),
        (RULE + 'min = 0.1\nreference = "best"\n', "reference belongs to compare"),
        (RULE + "min = 0.1\nconfidence = 95\n", "less than 1"),
        (RULE + "min = 0.1\nconfidence = 0.3\n", "greater than 0.5"),
        (RULE + 'min = 0.1\nlevel = "info"\n', "'error' or 'warning'"),
        (RULE + 'min = 0.1\ndecide = "maybe"\n', "'interval' or 'point'"),
        (RULE + 'min = 0.1\nover = ["sex"]\nwhere = { sex = "F" }\n', "both over and where"),
        (RULE + 'min = 0.1\nover = ["sex", "sex"]\n', "named twice in over"),
        (RULE + 'min = 0.1\nsmall = "exclude"\nmin_n = 0\n', "needs min_n of 1 or more"),
        (RULE + 'baseline = "release"\n', "baseline and max_increase go together"),
        ('[[rule]]\nid = ""\nmetric = "x"\nmin = 0\n', "at least 1 character"),
        ('[[waiver]]\nrule = "a"\nowner = "o"\nreason = "r"\nticket = "t"\nexpires = "soon"\n', "'soon' is not a date"),
        (
            '[[waiver]]\nrule = "a"\nowner = ""\nreason = "r"\nticket = "t"\nexpires = 2026-01-01\n',
            "at least 1 character",
        ),
        ("version = 2\n", "this release reads version = 1"),
        ("rule = 3\n", "rule: Input should be a list"),
        ('[groups]\nmissing = "drop"\n', "'group' or 'exclude'"),
    ],
)
def test_rules_that_mean_nothing_are_refused(text, match):
    with pytest.raises(PolicyError, match=match):
        parse(text)
