"""What the card should say, given in Python."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import auditkit
from auditkit.core.errors import UsageError
from auditkit.subjects.build import make_subject
from auditkit.subjects.facts import subject_facts

RULES = '[[rule]]\nid = "rate"\nmetric = "fairness.selection_rate"\ncompare = "ratio"\nover = ["sex"]\nmin = 0.8\n'


def audited(**keys):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    sex = np.where(np.arange(80) < 30, "F", "M")
    return auditkit.audit_predictions(
        y, y, sensitive={"sex": sex}, analyzers=["fairness.groups"], progress=False, **keys
    )


def test_prose_and_smallest_count_come_from_python():
    report = audited(card={"intended_use": "Sorting post.", "min_cell": 1})
    assert report.evidence.card == {"intended_use": "Sorting post.", "min_cell": 1}
    page = report.to_html()
    assert "Sorting post." in page
    assert "withheld in shared copies" not in page
    assert "withheld in shared copies" in audited(card={"min_cell": 40}).to_html()


def test_a_model_is_audited_with_prose_alike():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 2))
    y = (x[:, 0] > 0).astype(int)
    model = LogisticRegression().fit(x, y)
    report = auditkit.audit(model, x, y, analyzers=["performance"], progress=False, card={"owner": "Ada"})
    assert report.evidence.card["owner"] == "Ada"


def test_the_card_of_a_policy_file_is_used_unless_another_is_given(tmp_path):
    (tmp_path / "audit.toml").write_text('[card]\nowner = "Ada"\n' + RULES)
    assert audited(policy=tmp_path / "audit.toml").evidence.card["owner"] == "Ada"
    assert audited(policy=tmp_path / "audit.toml", card={"owner": "Bob"}).evidence.card["owner"] == "Bob"
    assert "owner" not in audited(policy=tmp_path / "audit.toml", card={}).evidence.card


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"intended_us": "x"}, "[card] has no key 'intended_us', did you mean 'intended_use'"),
        ({"min_cell": 0}, "[card] min_cell"),
        ({"owner": 3, "titel": "x"}, "'titel'"),
    ],
)
def test_a_wrong_key_or_value_is_refused_before_anything_runs(card, words):
    with pytest.raises(UsageError, match="AK132") as caught:
        audited(card=card)
    assert words in str(caught.value.why)


def test_the_version_of_the_package_that_a_step_comes_from_is_told(monkeypatch):
    class Booster(LogisticRegression):
        pass

    Booster.__module__ = "jinja2.sandbox"  # stands in for a package of boosters
    x = np.random.default_rng(2).normal(size=(40, 2))
    y = (x[:, 0] > 0).astype(int)
    plain = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    other = make_pipeline(StandardScaler(), Booster()).fit(x, y)
    found = [subject_facts(make_subject(model, x, y)).versions for model in (plain, other)]
    assert "jinja2" not in found[0]
    assert found[1]["jinja2"]
