"""The first screen of cards that are unlike any sample: very many rules, and a model that crashes everywhere."""

import re
from dataclasses import replace

import sample

from auditkit.core.evidence import Interval, Measurement
from auditkit.core.verdict import RuleResult, Verdict
from auditkit.render.html.card import render_card
from auditkit.render.html.caveats import caveats_measured
from auditkit.render.html.judged import verdict_view
from auditkit.render.markdown import verdict_lines
from auditkit.render.unmeasured import with_one_reason

CRASH = "failed: AK210 the model raised an error (M.predict): RuntimeError: out of memory"


def result(index, state):
    return RuleResult(id=f"rule-{index:03d}", metric="fairness.f1", compare="value", limit=">= 0.5", state=state,
                      message="told")  # fmt: skip


def verdict(passed, failed=0, unmeasured=()):
    results = [*(result(i, "pass") for i in range(passed)), *(result(passed + i, "fail") for i in range(failed))]
    return Verdict(state="fail", exit_code=1, results=tuple(results), summary="s", as_of="2026-01-01",
                   unmeasured=tuple(unmeasured))  # fmt: skip


def view(of):
    return verdict_view(of, {index: f"r{index}" for index in range(len(of.results))})


def test_of_many_rules_that_hold_the_first_are_named_and_the_others_counted():
    many = view(verdict(150, failed=30))
    assert (len(many.passed), many.more_passed) == (20, 130)
    assert many.passed[0] == ("r0", "rule-000")
    assert (len(many.reasons), many.more) == (6, 24)
    assert {tally.state: tally.count for tally in many.tallies} == {
        "pass": 150, "fail": 30, "inconclusive": 0, "error": 0, "waived": 0,
    }  # fmt: skip
    for few in (0, 5, 20, 21):  # one more takes no more room than saying so
        assert (len(view(verdict(few)).passed), view(verdict(few)).more_passed) == (few, 0)


def test_the_page_says_how_many_more_rules_passed_and_where_they_are():
    evidence = sample.evidence()
    html = render_card(evidence, verdict(23))
    shown = html[html.index('id="verdict"') : html.index('id="rules"')]
    assert '<a href="#rules">and 3 more</a>' in shown
    assert len(re.findall(r">rule-\d{3}<", shown)) == 20
    # Every rule is on the page all the same.
    assert all(f"rule-{index:03d}" in html for index in range(23))


def test_analyzers_that_fail_for_one_reason_are_told_of_together():
    names = ("performance", "fairness.groups", "robustness.noise")
    unmeasured = [*(f"{name} {CRASH}" for name in names), "privacy.membership skipped: no train rows"]
    told = (f"performance, fairness.groups and robustness.noise {CRASH}", "privacy.membership skipped: no train rows")
    assert with_one_reason(unmeasured) == told
    assert with_one_reason([]) == ()
    assert with_one_reason(["alone"]) == ("alone",)
    broken = verdict(1, unmeasured=unmeasured)
    assert view(broken).unmeasured == told
    html = render_card(sample.evidence(), broken)
    shown = html[html.index('id="verdict"') : html.index('id="rules"')]
    assert shown.count("out of memory") == 1
    assert all(name in shown for name in names)
    lines = "\n".join(verdict_lines(broken))
    assert lines.count("out of memory") == 1
    assert "privacy.membership skipped" in lines.replace("\\", "")


def by_site(values):
    return [
        Measurement(name="performance.accuracy", value=value, n=20, slice={"site": f"s{index:02d}"}, bounds=(0.0, 1.0),
                    reason=None if value is not None else "withheld",
                    interval=None if value is None else Interval(low=value - 0.1, high=value + 0.1, method="m"))
        for index, value in enumerate(values)
    ]  # fmt: skip


def test_a_finding_over_groups_is_never_told_of_groups_without_a_value():
    from auditkit.render.html.figures import _group_finding

    def said(*values):
        members = by_site(values)
        return _group_finding(members[0], "site", members)

    assert said(0.8, 0.8) == "Accuracy by site is the same for every group: 0.800."
    assert (
        said(0.8, None, 0.8)
        == "Accuracy by site is the same for each of 2 groups: 0.800. 1 other group has no value here."
    )
    assert said(0.8, None, 0.4, None).endswith("their intervals do not overlap. 2 other groups have no value here.")
    assert said(0.8) == "Accuracy by site is 0.800 for s00, the only group."
    assert said(0.8, None) == "Accuracy by site: fewer than two groups have a value."
    many = said(*[None] * 30, *[0.5 + index / 100 for index in range(10)])
    assert many.startswith("Accuracy by site (10 of 40 groups are drawn) runs from 0.500 for s30 to 0.590 for s39;")
    assert many.endswith("30 other groups have no value here.")


def test_a_page_whose_tables_fill_it_still_has_charts(monkeypatch):
    from auditkit.render.html import fit

    full = render_card(sample.evidence())
    monkeypatch.setattr(fit, "SIZE", 10_000)
    heavy = render_card(sample.evidence())
    monkeypatch.setattr(fit, "LEAST", 0)
    bare = render_card(sample.evidence())
    drawn = [page.count("<figure") for page in (full, heavy, bare)]
    assert drawn[0] > drawn[1] > drawn[2]
    assert len(heavy) <= len(bare) + 60_000


def test_one_number_of_a_kind_is_told_as_one():
    told = {
        1: ("1 number has no interval", "1 number failed a check of its own", "beside it."),
        2: ("2 numbers have no interval", "2 numbers failed a check of their own", "beside them."),
    }
    limits = Interval(low=0.4, high=0.6, level=0.95, method="wilson")
    for count, sentences in told.items():
        numbers = [Measurement(name=f"fairness.bare{k}", value=0.5, n=50) for k in range(count)]
        numbers += [
            Measurement(name=f"fairness.odd{k}", value=0.5, n=50, interval=limits, unreliable="odd")
            for k in range(count)
        ]
        outcome = replace(sample.fairness(), measurements=tuple(numbers), artifacts=())
        said = " ".join(words for _, words in caveats_measured(sample.evidence(outcomes=(outcome,))))
        assert all(sentence in said for sentence in sentences), said
