"""No output writes a number on the other side of its limit: what failed never reads as what would have passed."""

import dataclasses
import io
import random
import re

import pytest
from rich.console import Console

from auditkit.cli.verdict_table import print_verdict
from auditkit.core.evidence import Interval
from auditkit.core.rounding import general
from auditkit.core.verdict import Comparison, RuleResult, Side, Verdict
from auditkit.policy.decide import Limit
from auditkit.render.html.judged import rule_views
from auditkit.render.html.plain import rule_sentence
from auditkit.render.junit import render_junit
from auditkit.render.markdown import render_markdown, verdict_lines
from auditkit.render.numerals import number
from auditkit.render.redact_verdict import redact_verdict


def side(value, limit):
    return 0 if abs(value - limit) <= 1e-12 else 1 if value > limit else -1


def read(text):
    """A number back from how a person reads it; shares no code with what wrote it."""
    power = {"⁻": "-", **{sup: str(n) for n, sup in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}}
    return float("".join(power.get(c, c) for c in text.replace("−", "-").replace(",", "").replace(" × 10", "e")))


CASES = [
    (0.8, 0.79996),
    (0.8, 0.8000049),
    (0.8, 0.8 + 1e-15),
    (0.1, 0.10000004),
    (0.12345678, 0.12345679),
    (1.0, 0.99999),
    (1234567.0, 1234567.4),
    (2e-05, 2.001e-05),
    (0.05, 0.0499999),
    (-0.3, -0.29999),
]
_random = random.Random(5)
CASES += [(limit, limit * (1 + _random.choice((-1, 1)) * 10 ** _random.uniform(-9, -2))) for limit in
          (_random.choice((0.8, 0.1, 0.65, 12.5, 3000.0, 0.0007)) for _ in range(60))]  # fmt: skip


@pytest.mark.parametrize(("limit", "value"), CASES)
def test_written_numbers_keep_their_side(limit, value):
    for text in (number(value, [limit]), general(value, [limit])):
        assert side(read(text), limit) == side(value, limit), text


def test_without_the_limit_they_would_not():
    crossed = [value for limit, value in CASES if side(read(number(value)), limit) != side(value, limit)]
    assert len(crossed) > 20
    assert number(0.7123, [0.8]) == number(0.7123) == "0.712"
    assert general(0.71234, [0.8]) == "0.7123"


@pytest.mark.parametrize("limit", [0.8, 0.79999975, 1234567.25, 0.1 + 0.2, 3e-07])
def test_a_limit_is_told_to_twelve_digits(limit):
    assert Limit(limit, None).text() == f">= {float(f'{limit:.12g}'):.12g}"
    assert read(Limit(limit, None).text().removeprefix(">= ")) == pytest.approx(limit, rel=1e-11)


def verdict_of(state, value, low, high, limit=0.8, decide="interval", compare="value", sides=1):
    given = tuple(Side(group=g, value=value if sides == 1 else 0.5, n=50_000) for g in ("all rows", "b")[:sides])
    interval = Interval(low=low, high=high, level=0.95, method="clopper-pearson")
    text = Limit(limit, None).text()
    one = Comparison(
        label="all rows" if sides == 1 else "g: all rows vs b",
        state=state,
        value=value,
        interval=interval,
        sides=given,
        n=50_000,
        message=f"found {general(value, [limit])}, limit {text}",
    )
    result = RuleResult(
        id="r",
        metric="performance.accuracy",
        compare=compare,
        limit=text,
        limits=(limit,),
        state=state,
        message=one.message,
        decide=decide,
        comparisons=(one,),
    )
    return Verdict(state=state, exit_code=1, results=(result,), summary=f"r failed: {one.message}", as_of="2026-01-01")


def shown(verdict):
    """Every output of a verdict, by name."""
    screen = Console(file=io.StringIO(), width=160)
    print_verdict(verdict, screen)
    view = rule_views(verdict, {0: "r"})[0]
    return {
        "terminal": screen.file.getvalue(),
        "junit": render_junit(verdict),
        "markdown": "\n".join(verdict_lines(verdict)),
        "card": f"{view.message} {re.sub('<[^>]+>', ' ', str(view.compared))}",
        "drawing": re.sub("<[^>]+>", " ", str(view.chart.drawing)) if view.chart else "0.79996",
    }


def numbers(text):
    return [read(found) for found in re.findall(r"(?<![\w.])[-−]?\d+\.\d+(?![\w.]*-)", text)]


@pytest.mark.parametrize("name", ["terminal", "junit", "markdown", "card", "drawing"])
def test_a_failure_by_a_hair_is_not_written_as_the_limit(name):
    text = shown(verdict_of("fail", 0.79996, 0.7975, 0.8025, decide="point"))[name]
    assert "0.79996" in text
    assert "0.800 " not in text
    assert not re.search(r"is 0\.8\b", text)


@pytest.mark.parametrize("name", ["terminal", "markdown", "card", "drawing"])
def test_an_interval_that_reaches_over_reads_so(name):
    text = shown(verdict_of("inconclusive", 0.81, 0.79997, 0.8195))[name]
    assert any(0.7999 < found < 0.8 for found in numbers(text)), text
    far = shown(verdict_of("inconclusive", 0.81, 0.7512, 0.8695))[name]
    assert "0.751" in far
    assert "0.7512" not in far


def test_terminal_and_card_round_alike():
    for value in (0.99987, 0.00002, 123456.789, 0.5):
        texts = shown(verdict_of("fail", value, value, value, limit=0.7))
        written = number(value)
        assert written in texts["card"]
        assert written.replace(" × 10⁻⁵", "e-5") in texts["terminal"]


@pytest.mark.parametrize(
    ("low", "high", "why"),
    [
        (0.75, 0.85, "The interval crosses the limit"),
        (0.70, 0.78, "The interval lies beyond the limit, but not after the correction for many comparisons"),
        (0.82, 0.90, "A group has fewer rows than the rule asks for"),
    ],
)
def test_an_undecided_rule_says_why(low, high, why):
    verdict = verdict_of("inconclusive", (low + high) / 2, low, high)
    view = rule_views(verdict, {0: "r"})[0]
    assert f" {why}, so these rows cannot decide." in rule_sentence(verdict.results[0])
    assert view.chart.title == f"{why}."


def test_an_error_with_a_value_is_not_called_an_interval_that_crosses():
    verdict = verdict_of("error", 0.9, 0.85, 0.95)
    assert rule_views(verdict, {0: "r"})[0].chart.title == "It could not be judged."


@pytest.mark.parametrize(("value", "kept"), [(0.788, False), (0.7, True), (0.81, False)])
def test_shared_copies_withhold_what_rounding_would_carry_across(value, kept):
    """Rates of 300 rows are rounded to steps of 0.05 here, so that a group of 5 cannot be found by subtraction."""
    state = "fail" if value < 0.8 else "pass"
    verdict = verdict_of(state, value, value - 0.2, value + 0.1, compare="ratio", sides=2)
    sides = (Side(group="a", value=0.5, n=300), Side(group="b", value=0.4, n=300), Side(group="c", value=0.4, n=5))
    one = dataclasses.replace(verdict.results[0].comparisons[0], sides=sides[:2], label="g: a vs b", n=600)
    other = dataclasses.replace(one, sides=sides[1:], label="g: b vs c", n=305)
    rule = dataclasses.replace(verdict.results[0], comparisons=(one, other))
    shared = redact_verdict(dataclasses.replace(verdict, results=(rule,))).results[0]
    coarse = shared.comparisons[0]
    assert coarse.state == state
    assert (coarse.value is not None) == kept
    if kept:
        assert coarse.value == pytest.approx(value, abs=0.025)


def test_the_whole_markdown_card_holds_the_same_number():
    import numpy as np

    import auditkit

    n = 100_003
    labels = (np.arange(n) < int(0.8 * n)).astype(int)
    report = auditkit.audit_predictions(labels, np.ones(n, int), analyzers=["performance"], positive=1, progress=False)
    policy = {"version": 1, "rule": [{"id": "r", "metric": "performance.accuracy", "min": 0.8, "decide": "point"}]}
    verdict = report.gate(policy)
    assert verdict.state == "fail"
    assert "0.799996" in verdict.results[0].message
    assert "0.799996" in render_markdown(report.evidence, verdict)
    assert "0.799996 (0.798 to 0.802); at least 0.8 is required" in rule_sentence(verdict.results[0])
