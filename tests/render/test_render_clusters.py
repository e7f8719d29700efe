"""An attacker solves for the number of clusters of a group from all that a shared copy tells."""

import dataclasses
import functools
import re

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import brentq
from scipy.stats import beta, norm, t

import auditkit
from auditkit.cli.verify import verified, verify
from auditkit.core.evidence import Counts, Interval, Measurement
from auditkit.render.clusters import NO_INTERVAL, open_columns, tells_few_clusters
from auditkit.render.cyclonedx import render_cyclonedx
from auditkit.render.github import render_github
from auditkit.render.gitlab import render_gitlab
from auditkit.render.html.card import render_card
from auditkit.render.junit import render_junit
from auditkit.render.markdown import render_markdown
from auditkit.render.sarif import render_sarif
from auditkit.render.shared import shared_copy
from auditkit.render.summary import render_summary
from auditkit.report import Report

CLUSTERS = 14
RULES = [
    ("mean", "fairness.mean_score", "value", 0.99, {"max": 0.9, "over": ["sex"]}),
    ("lax", "fairness.mean_score", "value", 0.8, {"max": 0.9, "over": ["sex"]}),
    ("rate", "fairness.selection_rate", "value", 0.99, {"max": 0.9, "over": ["sex"]}),
    ("same", "fairness.mean_score", "value", 0.95, {"max": 0.4, "over": ["sex"]}),
    ("gap", "fairness.mean_score", "difference", 0.95, {"max": 0.15, "over": ["sex"]}),
    ("whole", "performance.accuracy", "value", 0.99, {"min": 0.5}),
]
POLICY = {
    "rule": [dict(id=i, metric=m, compare=c, confidence=level, min_n=0, **rest) for i, m, c, level, rest in RULES]
}


@functools.cache
def audited(clustered=True, n=280, min_cell=CLUSTERS + 1):
    """Each cluster holds rows of every group, of one size: Kish's number of clusters is the number of clusters."""
    rng = np.random.default_rng(4)
    clusters, sex = np.repeat(np.arange(CLUSTERS), n // CLUSTERS), np.tile(list("FMX" + "FM"), n // 5)
    chance = np.clip(0.35 + 0.3 * (sex == "M") + rng.normal(0, 0.12, CLUSTERS)[clusters], 0.02, 0.98)
    label = (rng.random(n) < chance).astype(int)
    score = np.clip(chance + rng.normal(0, 0.2, n), 0, 1).round(3)
    score[sex == "X"] = np.clip(score[sex == "X"], 0.51, 1)  # all of X are selected
    return auditkit.audit_predictions(
        label, (score > 0.5).astype(int), scores=score, sensitive={"sex": sex}, positive=1, progress=False,
        policy=POLICY, clusters=clusters if clustered else None, card={"min_cell": min_cell},
        analyzers={"performance": {}, "fairness.groups": {"cross_check": False},
                   "fairness.scores": {"resamples": 20, "permutations": 0}},
    )  # fmt: skip


def rows_behind(share, end, level):
    """The effective rows of a share that has this upper limit, or this lower one where it is 1."""
    tail = (1 - level) / 2
    if share == 1.0:
        return np.log(tail) / np.log(end)
    upper = lambda rows: beta.ppf(1 - tail, share * rows + 1, rows - share * rows) - end  # noqa: E731
    return brentq(upper, 1.0, 1e6)


def student(freedom, level):
    return t.ppf(0.5 + level / 2, freedom)


def told(ratio, high, low, shape=1.0):
    """The degrees of freedom with which quantiles at two levels stand in ``ratio``; ``None`` where none do."""
    lack = lambda v: (student(v, high) / student(v, low)) ** shape - ratio  # noqa: E731
    return round(brentq(lack, 1.01, 1e5)) if lack(1.01) * lack(1e5) < 0 else None


def sides_at_two_levels(evidence, verdict):
    """Limits of a group's number by a rule at one level and on the card at another."""
    for result in verdict.results:
        for comparison in result.comparisons if result.compare == "value" else ():
            group, held = comparison.sides[0].group, comparison.interval or comparison.sides[0].interval
            m = next((m for m in evidence.by_name[result.metric] if list(m.slice.values()) == [group]), None)
            if m is None or held is None or m.interval is None or abs(held.level - m.interval.level) < 1e-9:
                continue
            high, low = sorted((held, m.interval), key=lambda each: -each.level)
            if "student" in m.interval.method:
                yield told((high.high - m.value) / (low.high - m.value), high.level, low.level)
            elif m.value < 1.0:
                rows = [rows_behind(m.value, each.high, each.level) for each in (high, low)]
                z = norm.ppf(0.5 + high.level / 2) / norm.ppf(0.5 + low.level / 2)
                yield told(np.sqrt(rows[1] / rows[0]) * z, high.level, low.level)


def near_limits(evidence):
    """The near limit of the gap of three groups rests on a stricter level than the groups' own limits."""
    gap = next(m for m in evidence.by_name["fairness.mean_score.difference"] if m.over)
    groups = [m for m in evidence.by_name["fairness.mean_score"] if m.slice]
    if gap.interval is None or any(m.interval is None for m in groups):
        return
    strict = 1 - (1 - 0.95) / 3

    def near(freedom):
        arms = {
            m.value: (m.interval.high - m.value) * student(freedom, strict) / student(freedom, 0.95) for m in groups
        }
        return max(abs(a - b) - np.hypot(arms[a], arms[b]) for a in arms for b in arms if a != b)

    fits = [v for v in range(2, 60) if abs(near(v) - gap.interval.low) < 1e-4]
    yield from fits if len(fits) == 1 else ()


def moments(evidence):
    for counts in evidence.artifacts():
        if isinstance(counts, Counts) and counts.over and counts.moment is not None:
            for block, moment in zip(counts.n, counts.moment, strict=True):
                yield round(np.sum(block) ** 2 / np.sum(moment)) - 1


def extreme_shares(evidence):
    """A share of 1 has limits on as many rows as there are clusters, fewer for Student's quantile."""
    for m in evidence.by_name["fairness.selection_rate"]:
        if m.slice and m.value == 1.0 and m.interval is not None:
            rows = rows_behind(1.0, m.interval.low, 0.95)
            lack = lambda k, rows=rows: k * (norm.ppf(0.975) / student(k - 1, 0.95)) ** 2 - rows  # noqa: E731
            yield round(brentq(lack, 2.1, 1e4)) - 1


WAYS = {
    "levels": lambda evidence, verdict: sides_at_two_levels(evidence, verdict),
    "gap": lambda evidence, verdict: near_limits(evidence),
    "moments": lambda evidence, verdict: moments(evidence),
    "all": lambda evidence, verdict: extreme_shares(evidence),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_attacker_finds_the_clusters_of_a_group_in_the_complete_record_and_not_in_a_shared_copy(way):
    report = audited()
    found = list(WAYS[way](report.evidence, report.verdict()))
    assert CLUSTERS - 1 in found, "the attack works on what is not withheld"
    assert not list(WAYS[way](*shared_copy(report.evidence, report.verdict())))


def results(report):
    return {result.id: result for result in shared_copy(report.evidence, report.verdict())[1].results}


def test_what_is_withheld_says_why_and_the_rest_stays():
    complete, shown = {r.id: r for r in audited().verdict().results}, results(audited())
    for name in ("mean", "lax", "rate"):
        assert "clusters" in shown[name].message
        for comparison in shown[name].comparisons:
            assert comparison.interval is None
            assert comparison.n_needed is None
            assert all(side.interval is None and side.value is not None for side in comparison.sides)
            assert "how many clusters" in comparison.message
    assert any(c.n_needed and c.interval for c in complete["same"].comparisons)
    assert not any(c.n_needed or c.interval or "would settle" in c.message for c in shown["same"].comparisons)
    assert shown["whole"] == complete["whole"]
    assert [r.state for r in shown.values()] == [r.state for r in complete.values()]
    groups = [m for m in shared_copy(audited().evidence)[0].by_name["fairness.mean_score"] if m.slice]
    assert len(groups) == 3
    assert all(m.interval is None and m.value is not None and "clusters" in m.reason for m in groups)


def test_of_many_clusters_nothing_is_withheld():
    report = audited(min_cell=6)
    complete = {r.id: r.comparisons for r in report.verdict().results}
    assert {name: shown.comparisons for name, shown in results(report).items()} == complete
    assert any(c.n_needed for c in results(report)["same"].comparisons)
    shared = shared_copy(report.evidence)[0]
    gap = shared.by_name["fairness.mean_score.difference"][0]
    assert gap.interval.low > 0
    assert [m.interval is None for m in shared.by_name["fairness.selection_rate"] if m.slice] == [False] * 3


@functools.cache
def crossed():
    """12 patients, half of them seen on both wards and half on one; ward C knows three of them."""
    rng = np.random.default_rng(8)
    clusters = np.repeat(np.arange(12), 60)
    sex, ward = np.tile(["F", "M"], 360), np.tile(np.repeat(["A", "B"], 2), 180)
    ward = np.where((clusters < 3) & (np.arange(720) % 5 == 0), "C", ward)
    score = np.clip(0.3 + 0.3 * (sex == "M") + 0.1 * (ward == "B") + rng.normal(0, 0.15, 720), 0, 1)
    keys = {"metric": "fairness.mean_score", "compare": "difference", "max": 0.1, "min_n": 0, "confidence": 0.9}
    policy = {"rule": [dict(keys, id="by-sex", over=["sex"]), dict(keys, id="by-ward", over=["ward"]),
                       dict(keys, id="both", over=["sex"], where={"ward": "A"}, metric="fairness.selection_rate")
                       ]}  # fmt: skip
    return auditkit.audit_predictions(
        (rng.random(720) < score).astype(int), (score > 0.5).astype(int), scores=score, positive=1, progress=False,
        sensitive={"sex": sex, "ward": ward}, clusters=clusters, policy=policy, card={"min_cell": 10},
        analyzers={"fairness.scores": {"resamples": 20, "permutations": 0}, "fairness.groups": {"cross_check": False}},
    )  # fmt: skip


def test_few_clusters_in_a_group_close_its_columns_and_no_others():
    complete, shown = {r.id: r for r in crossed().verdict().results}, results(crossed())
    assert [c.interval for c in shown["by-sex"].comparisons] == [c.interval for c in complete["by-sex"].comparisons]
    assert all(c.interval for name in ("by-ward", "both") for c in complete[name].comparisons)
    assert len(complete["both"].comparisons) == 1
    assert not any(c.interval or side.interval for c in shown["by-ward"].comparisons for side in c.sides)
    assert not any(c.interval for c in shown["both"].comparisons), "crossed with a ward of three patients"
    gaps = {m.over: m.interval for m in shared_copy(crossed().evidence)[0].by_name["fairness.mean_score.difference"]}
    assert gaps["sex",].low > 0
    assert gaps["ward",] is None


@functools.cache
def named(few="race (detailed)"):
    """Two columns of one beginning: in the second, and in it alone, a group has few clusters."""
    rng = np.random.default_rng(2)
    clusters, n = np.repeat(np.arange(30), 20), 600
    detailed = np.where((clusters < 6) & (rng.random(n) < 0.4), "C", rng.choice(["A", "B"], n))
    detailed = np.where((clusters == 29) & (np.arange(n) % 2 == 0), "D", detailed)  # one cluster: it has no limits
    score = np.clip(rng.normal(0.5, 0.2, n) + rng.normal(0, 0.05, 30)[clusters], 0, 1).round(3)
    over = {"race": ["race"], few: [few]}
    keys = {"metric": "fairness.mean_score", "max": 0.01, "min_n": 0, "confidence": 0.99}
    policy = {"rule": [
        {**keys, "id": f"{name}-{kind}", "compare": kind, "over": columns}
        for name, columns in over.items() for kind in ("value", "difference")
    ]}  # fmt: skip
    return auditkit.audit_predictions(
        (rng.random(n) < score).astype(int), (score > 0.5).astype(int), scores=score, positive=1, progress=False,
        sensitive={"race": rng.choice(["w", "b"], n), few: detailed}, clusters=clusters, policy=policy,
        analyzers={"performance": {}, "fairness.scores": {"resamples": 20, "permutations": 0},
                   "fairness.groups": {"cross_check": False, "intersections": 1}},
    )  # fmt: skip


@pytest.mark.parametrize("few", ["race (detailed)", "race: detailed", "race where race=w", "(race)"])
def test_the_wording_of_a_column_opens_none(few):
    shown, complete = results(named(few)), {r.id: r for r in named(few).verdict().results}
    for kind in ("value", "difference"):
        assert shown[f"race-{kind}"] == complete[f"race-{kind}"]
        assert shown[f"{few}-{kind}"].comparisons
        for comparison in shown[f"{few}-{kind}"].comparisons:
            assert comparison.interval is None
            assert all(side.interval is None for side in comparison.sides)


def test_no_limits_of_closed_columns_are_told_by_any_quantity():
    """Calibration errors, areas of 1 and means of rates give the clusters too: of closed columns all limits go."""
    shared, complete = shared_copy(named().evidence)[0], named().evidence
    hidden = [m for m in shared.measurements() if "race (detailed)" in (*m.slice, *m.over)]
    assert {m.name.partition(".")[0] for m in hidden} == {"performance", "fairness"}
    assert len(hidden) > 100
    assert all(m.interval is None for m in hidden)
    reasons = {m.reason for m in hidden if m.value is not None and not m.reason.startswith(("exact", "rounded"))}
    assert reasons == {NO_INTERVAL}, "another would tell one cluster"
    assert any("too few" in (m.reason or "") for m in complete.measurements() if m.slice.get("race (detailed)") == "D")
    kept = [m for m in shared.measurements() if "race" in (*m.slice, *m.over)]
    full = {m.key: m for m in complete.measurements()}
    assert [m.interval is None for m in kept] == [full[m.key].interval is None for m in kept]
    counts = {each.over: each for each in shared.artifacts() if isinstance(each, Counts)}
    assert counts["race",].moment is not None
    assert ("race (detailed)",) not in counts


def test_a_crossing_is_no_more_open_than_its_columns():
    """The size of a group rests on all clusters, and so says nothing of those of the group."""
    evidence = named().evidence
    crossed = Measurement(
        name="data.group_share", value=0.1, n=600, slice={"race": "w", "race (detailed)": "C"},
        interval=Interval(low=0.05, high=0.2, method="korn-graubard-clustered", degrees_of_freedom=29.0),
    )  # fmt: skip
    own = dataclasses.replace(crossed, name="fairness.mean_score")
    for extra in ([crossed], [crossed, own]):
        outcome = dataclasses.replace(evidence.outcomes[0], measurements=(*evidence.outcomes[0].measurements, *extra))
        found = open_columns(dataclasses.replace(evidence, outcomes=(outcome, *evidence.outcomes[1:])), 10)
        assert found == {frozenset({"race"})}


def test_a_forged_verdict_over_open_columns_beside_closed_ones_is_found(tmp_path):
    report = named()
    policy = {
        "rule": [{"id": "r", "metric": "selection_rate", "compare": "difference", "max": 0.001, "over": ["race"]}]
    }
    evidence = dataclasses.replace(report.evidence, policy=policy)
    verdict = Report(evidence).verdict()
    assert verdict.state != "pass"
    (result,) = verdict.results
    (comparison,) = result.comparisons
    passing = dataclasses.replace(result, state="pass", comparisons=(dataclasses.replace(comparison, state="pass"),))
    forged = dataclasses.replace(verdict, state="pass", exit_code=0, results=(passing,))
    for judged, state in ((verdict, "holds"), (forged, "differs")):
        page = tmp_path / f"{state}.html"
        page.write_text(render_card(evidence, judged), encoding="utf-8")
        assert {check.what: check.state for check in verified(page)[0]}["verdict"] == state


def test_counts_of_which_a_cell_has_few_clusters_keep_their_moments_to_themselves():
    (counts,) = (each for each in audited(min_cell=6).evidence.counts() if each.over)
    assert not tells_few_clusters(counts, 2)
    assert tells_few_clusters(counts, CLUSTERS + 1)
    assert not tells_few_clusters(dataclasses.replace(counts, moment=None), CLUSTERS + 1)


def test_a_forged_verdict_over_clustered_rows_is_found(tmp_path):
    report = audited(min_cell=4)
    verdict = report.verdict()
    assert {"fail", "inconclusive"} & {result.state for result in verdict.results}
    forged = dataclasses.replace(verdict, state="pass", exit_code=0, results=tuple(
        dataclasses.replace(result, state="pass", comparisons=tuple(
            dataclasses.replace(comparison, state="pass") for comparison in result.comparisons))
        for result in verdict.results))  # fmt: skip
    for judged, state in ((verdict, "holds"), (forged, "differs")):
        page = tmp_path / f"{state}.html"
        page.write_text(render_card(report.evidence, judged), encoding="utf-8")
        assert {check.what: check.state for check in verified(page)[0]}["verdict"] == state


def test_without_clusters_every_interval_is_shown():
    report = audited(clustered=False)
    complete = [c.interval for r in report.verdict().results if r.id == "mean" for c in r.comparisons]
    assert all(c.interval for result in results(report).values() for c in result.comparisons)
    assert [c.interval for c in results(report)["mean"].comparisons] == complete
    shared = shared_copy(report.evidence)[0]
    assert all(m.interval for m in shared.by_name["fairness.mean_score.difference"])
    assert any(isinstance(each, Counts) and each.over for each in shared.artifacts())


def test_no_output_tells_what_is_withheld():
    report = audited()
    evidence, verdict = report.evidence, report.verdict()
    secret = [
        ends
        for result in verdict.results
        if result.id in ("mean", "lax", "rate")
        for comparison in result.comparisons
        for ends in re.findall(r"\[[\d.]+, [\d.]+\]", comparison.message)
    ]
    assert len(secret) == 9
    _, shared = shared_copy(evidence, verdict)
    texts = [report.to_html(), render_markdown(evidence, verdict), render_cyclonedx(evidence, verdict)]
    texts += [render(shared) for render in (render_sarif, render_junit, render_github, render_gitlab, render_summary)]
    for text in texts:
        assert text.count("would settle") <= 3  # of the rule on all rows alone
        for ends in secret:
            assert ends not in text


def test_a_card_without_these_intervals_is_verified(tmp_path):
    page = tmp_path / "card.html"
    page.write_text(audited().to_html(), encoding="utf-8")
    done = CliRunner().invoke(verify, [str(page)], standalone_mode=False)
    assert done.return_value == 0, done.output
    states = {check.what: check.state for check in verified(page)[0]}
    assert states["page"] == states["verdict"] == "holds"


def test_a_number_at_another_level_than_the_rest_is_shown_without_its_interval():
    evidence = audited().evidence
    outcomes = []
    for outcome in evidence.outcomes:
        measured = [
            dataclasses.replace(m, interval=dataclasses.replace(m.interval, level=0.99))
            if m.name == "fairness.mean_score" and m.slice
            else m
            for m in outcome.measurements
        ]
        outcomes.append(dataclasses.replace(outcome, measurements=tuple(measured)))
    shared, _ = shared_copy(dataclasses.replace(evidence, outcomes=tuple(outcomes)))
    found = [m for m in shared.by_name["fairness.mean_score"] if m.slice]
    assert [m.interval for m in found] == [None] * 3
    assert all("clusters" in m.reason for m in found)
