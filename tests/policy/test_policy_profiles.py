from __future__ import annotations

import datetime

import numpy as np
import pytest
from scipy.stats import hypergeom
from statsmodels.stats.proportion import proportions_ztest

from auditkit.core.errors import UsageError
from auditkit.core.evidence import Measurement
from auditkit.policy.evaluate import evaluate
from auditkit.policy.model import parse_policy
from auditkit.policy.profile_tables import Category, fisher_p, standard_deviations
from auditkit.policy.profiles import load_profile, old_profile, profile_names, with_rules, with_tables
from auditkit.render.html.card import render_card
from auditkit.render.redact import redact

DAY = datetime.date(2026, 8, 1)
# The example of the rule itself: people, people above the median score, rate as published, impact ratio as published.
LL144 = {
    "sex": {"Male": (92, 50, "54.3", "1.00"), "Female": (76, 34, "44.7", "0.82")},
    "race": {
        "Hispanic or Latino": (28, 18, "64.2", "1.00"),
        "White": (40, 15, "37.5", "0.58"),
        "Black or African American": (32, 16, "50.0", "0.78"),
        "Native Hawaiian or Pacific Islander": (8, 5, "62.5", "0.97"),
        "Asian": (24, 10, "41.7", "0.65"),
    },
}


def people(columns):
    """Decisions and groups; ``columns`` is a list of ``(group of each column, rows, chosen)``."""
    names = list(columns[0][0])
    p = np.concatenate([np.arange(rows) < chosen for _, rows, chosen in columns]).astype(int)
    groups = {name: np.concatenate([np.repeat(part[name], rows) for part, rows, _ in columns]) for name in names}
    return np.arange(len(p)) % 2, p, groups


def outcome(evidence, name, today=DAY):
    return with_tables(evidence, [load_profile(name)], today).outcomes[-1]


def rows_of(outcome, title):
    (table,) = [artifact for artifact in outcome.artifacts if artifact.title == title]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}, table


@pytest.mark.parametrize("column", ["sex", "race"])
def test_the_example_of_local_law_144_is_reproduced(kit, column):
    other = "race" if column == "sex" else "sex"
    cells = [({column: name, other: "all"}, n, chosen) for name, (n, chosen, _, _) in LL144[column].items()]
    found = outcome(kit.evidence(*people(cells)), "nyc-ll144")
    assert found.status == "measured", found.reason
    rows, _ = rows_of(found, f"Selection rate and impact ratio by {column}")
    for name, (n, chosen, rate, ratio) in LL144[column].items():
        row = rows[name]
        assert (row["applicants"], row["selected"]) == (n, chosen)
        assert f"{row['impact ratio']:.2f}" == ratio
        percent = row["selection rate"] * 100
        # The rule prints 18 of 28 as 64.2, cut off; all its other rates are rounded.
        assert rate == ("64.2" if chosen == 18 else f"{percent:.1f}")
        if chosen == 18:
            assert int(percent * 10) / 10 == 64.2


def test_local_law_144_crosses_sex_and_race_counts_the_unknown_and_leaves_out_the_small(kit):
    cells = [
        ({"Gender": "F", "Ethnicity": "A"}, 400, 100),
        ({"Gender": "M", "Ethnicity": "A"}, 400, 200),
        ({"Gender": "M", "Ethnicity": "B"}, 15, 15),
        ({"Gender": "(missing)", "Ethnicity": "A"}, 30, 30),
    ]
    found = outcome(kit.evidence(*people(cells)), "nyc-ll144")
    rows, table = rows_of(found, "Selection rate and impact ratio by Gender and Ethnicity")
    assert rows["F / A"]["impact ratio"] == pytest.approx(0.5)
    assert rows["M / B"]["impact ratio"] is None
    assert (rows["M / B"]["applicants"], rows["M / B"]["selection rate"]) == (15, 1.0)
    assert "under 2 %" in rows["M / B"]["remark"]
    assert "30 of unknown Gender or Ethnicity are not in the table" in table.note
    assert not any("missing" in name for name in rows)


def test_the_scoring_rate_table_comes_from_what_was_measured(kit):
    cells = [({"sex": s, "race": "x"}, n, 1) for s, n in (("Male", 92), ("Female", 76))]
    measured = [
        Measurement(name="fairness.scoring_rate", value=k / n, n=n, slice=part, reason="none")
        for s, n, k in (("Male", 92, 50), ("Female", 76, 34))
        for part in ({"sex": s}, {"race": s}, {"sex": s, "race": "x"})
    ]
    found = outcome(kit.evidence(*people(cells), measurements=measured), "nyc-ll144")
    rows, _ = rows_of(found, "Scoring rate and impact ratio by sex")
    assert (rows["Female"]["scored above the median"], f"{rows['Female']['impact ratio']:.2f}") == (34, "0.82")


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (lambda kit: kit.evidence(*kit.selected(F=(5, 10), M=(5, 10))), "no sensitive column for race"),
        (
            lambda kit: kit.evidence(*people([({"sex": "F", "race": "A"}, 9, 4)]), status="failed", reason="boom"),
            "was not counted",
        ),
    ],
)
def test_tables_that_cannot_be_made_fail_and_fail_the_gate(kit, evidence, told):
    whole = with_tables(evidence(kit), [load_profile("nyc-ll144")], DAY)
    found = whole.outcomes[-1]
    assert (found.status, told in found.reason) == ("failed", True)
    assert evaluate(whole, parse_policy({"rule": []}), as_of=DAY).exit_code == 3
    assert found in whole.unmeasured()


def test_standard_deviations_and_fisher_agree_with_other_libraries():
    rng = np.random.default_rng(0)
    for _ in range(200):
        n, m = rng.integers(2, 400, 2)
        k, j = rng.integers(0, n + 1), rng.integers(0, m + 1)
        if k + j in (0, n + m):
            continue
        one, two = Category(name="a", people=int(n), chosen=int(k)), Category(name="b", people=int(m), chosen=int(j))
        z, _ = proportions_ztest([j, k], [m, n])
        assert standard_deviations(one, two) == pytest.approx(z, abs=1e-9)
        mass = hypergeom(n + m, k + j, n).pmf(np.arange(max(0, k + j - m), min(n, k + j) + 1))
        p = mass[mass <= hypergeom(n + m, k + j, n).pmf(k) * (1 + 1e-7)].sum()
        assert fisher_p(one, two) == pytest.approx(min(p, 1.0), abs=1e-9)
    nobody = Category(name="c", people=9, chosen=0)
    assert standard_deviations(nobody, nobody) is None


def test_four_fifths_shows_the_ratio_beside_both_tests_and_adds_its_rule(kit):
    evidence = kit.evidence(*kit.selected(F=(60, 100), M=(80, 100), X=(1, 2)))
    found = outcome(evidence, "four-fifths")
    rows, _ = rows_of(found, "Adverse impact by sex")
    assert rows["F"]["ratio to highest"] == pytest.approx(0.75)
    assert rows["F"]["standard deviations"] == pytest.approx(3.0861, abs=1e-4)
    assert rows["F"]["reading"].startswith("below four fifths, beyond two standard deviations")
    assert rows["M"]["reading"] == "highest rate"
    assert (rows["X"]["ratio to highest"], "under 2 %" in rows["X"]["reading"]) == (None, True)
    policy = with_rules(None, [load_profile("four-fifths")])
    verdict = evaluate(kit.evidence(*kit.selected(F=(300, 1000), M=(800, 1000))), parse_policy(policy), as_of=DAY)
    assert (verdict.state, verdict.results[0].id) == ("fail", "four-fifths")
    fair = evaluate(kit.evidence(*kit.selected(F=(790, 1000), M=(800, 1000))), parse_policy(policy), as_of=DAY)
    assert fair.state == "pass"


def test_clustered_rows_get_no_test_that_takes_them_as_independent(kit):
    evidence = kit.evidence(*kit.selected(F=(60, 100), M=(80, 100)))
    test = kit.replace(evidence.subject.test, n_clusters=20)
    evidence = kit.replace(evidence, subject=kit.replace(evidence.subject, test=test))
    rows, table = rows_of(outcome(evidence, "four-fifths"), "Adverse impact by sex")
    assert rows["F"]["standard deviations"] is rows["F"]["Fisher's exact p"] is None
    assert rows["F"]["reading"] == "below four fifths; no test of chance"
    assert "several rows" in table.note


def test_shared_copies_withhold_small_groups_of_the_adverse_impact_table_and_their_complement(kit):
    evidence = kit.evidence(*kit.selected(F=(60, 100), M=(80, 100), X=(1, 5)))
    copy = redact(with_tables(evidence, [load_profile("four-fifths")], DAY))
    rows, _ = rows_of(copy.outcomes[-1], "Adverse impact by sex")
    withheld = {name for name, row in rows.items() if row["n"] is None}
    assert withheld in ({"F", "X"}, {"M", "X"}), "the small group, and one of the two as large as each other"
    assert rows["X"]["selected"] is None


def test_maps_say_what_is_there_and_what_is_not_and_never_that_it_is_enough(kit):
    evidence = kit.replace(kit.evidence(*kit.selected(F=(6, 10), M=(8, 10))), card={"limitations": "small data"})
    for name in ("eu-ai-act", "nist-ai-rmf"):
        found = outcome(evidence, name)
        rows, table = rows_of(found, "Sections and the evidence for them")
        section = rows["Annex IV 3, Article 13(3)(b)" if name == "eu-ai-act" else "MAP 1.1"]
        assert "card: limitations" in section["in this audit"]
        assert "card out_of_scope" in section["not in this audit"]
        assert "not a judgement" in table.note
        page = render_card(with_tables(evidence, [load_profile(name)], DAY), None)
        assert "Sections and the evidence for them" in page
        for word in ("compliant", "in compliance", "complies"):
            assert word not in page.lower()


def test_every_profile_is_dated_sourced_and_warns_when_old(kit):
    assert profile_names() == ("eu-ai-act", "four-fifths", "nist-ai-rmf", "nyc-ll144")
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.status
        assert profile.source
        assert old_profile(profile, profile.as_of + datetime.timedelta(days=180)) is None
        late = profile.as_of + datetime.timedelta(days=181)
        assert "181 days ago" in old_profile(profile, late)
        evidence = kit.evidence(*people([({"sex": "F", "race": "A"}, 9, 4), ({"sex": "M", "race": "A"}, 9, 4)]))
        assert any("181 days ago" in note for note in outcome(evidence, name, late).notes)
        if profile.rule:
            parse_policy(with_rules(None, [profile]))
    with pytest.raises(UsageError, match="AK423 there is no profile 'nyc'"):
        load_profile("nyc")


def test_a_rule_of_ones_own_with_the_same_id_stays(kit):
    own = {"rule": [{"id": "four-fifths", "metric": "selection_rate", "compare": "ratio", "min": 0.5}]}
    assert with_rules(own, [load_profile("four-fifths")]) == own
    assert with_rules(None, [load_profile("nyc-ll144")]) is None


def test_what_lies_by_a_hair_beyond_a_mark_is_not_read_as_on_it():
    """A ratio of 0.79996 is shown as 0.800 in its column, so the reading says how near it is."""
    from auditkit.policy.profile_tables import _reading

    assert _reading(0.79996, 2.0003, 0.04997) == (
        "below four fifths (0.79996), beyond two standard deviations (2.0003), Fisher's p below 0.05 (0.04997)"
    )
    assert _reading(0.7, 3.1, 0.001) == ("below four fifths, beyond two standard deviations, Fisher's p below 0.05")
    assert _reading(0.8, None, None) == "four fifths or more; no test of chance"
