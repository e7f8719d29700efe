"""Of very many comparisons the worst are listed, and every output counts all of them."""

import dataclasses
import io
import math

import numpy as np
import pytest
from rich.console import Console

import auditkit
from auditkit.cli.verdict_table import print_verdict
from auditkit.core.verdict import Comparison, RuleResult, Side, Verdict
from auditkit.render.html.judged import rule_views
from auditkit.render.html.plain import rule_sentence
from auditkit.render.junit import render_junit
from auditkit.render.markdown import verdict_lines
from auditkit.render.redact_verdict import redact_verdict

GROUPS = 30
PAIRS = math.comb(GROUPS, 2)


@pytest.fixture(scope="module")
def verdict():
    """Thirty groups of 40 rows, with one that is never selected: its 29 pairs fail, the others are unsure."""
    rng = np.random.default_rng(6)
    group = np.repeat(np.arange(GROUPS), 40)
    decided = (rng.random(len(group)) < 0.6).astype(int)
    decided[group == 0] = 0
    report = auditkit.audit_predictions(
        decided, decided, sensitive={"g": np.char.add("g", group.astype(str))}, positive=1, progress=False,
        analyzers=["fairness.groups"],
    )  # fmt: skip
    rule = {"id": "r", "metric": "fairness.selection_rate", "compare": "difference", "max": 0.1, "reason": "x"}
    return report.gate({"version": 1, "rule": [rule]})


def test_the_result_says_how_many_are_not_listed(verdict):
    result = verdict.results[0]
    assert len(result.comparisons) == 300
    assert result.tally().total() == PAIRS
    assert sum(result.unlisted.values()) == PAIRS - 300
    assert result.tally()["fail"] == sum(c.state == "fail" for c in result.comparisons) > 10


def test_every_output_counts_all_of_them(verdict):
    result = verdict.results[0]
    fails, unsure = result.tally()["fail"], result.tally()["inconclusive"]
    view = rule_views(verdict, {0: "r"})[0]
    assert rule_sentence(result).endswith(f"{fails - 1} more of {PAIRS} comparisons do not hold.")
    assert view.chart.title.startswith(f"Of {PAIRS} comparisons with the limit: {fails} outside, {unsure} undecided")
    assert f"the 300 worst of {PAIRS} comparisons listed" in view.how
    assert f"The 300 worst of {PAIRS} comparisons." in verdict_lines(verdict)
    assert f"... and {PAIRS - 50} more" in render_junit(verdict)
    screen = Console(file=io.StringIO(), width=160)
    print_verdict(verdict, screen)
    assert f"{fails - 3} more fail, {unsure} more inconclusive" in screen.file.getvalue()


def test_shared_copies_count_all_of_them_too(verdict):
    small = tuple(
        dataclasses.replace(c, sides=tuple(dataclasses.replace(side, n=5) for side in c.sides))
        for c in verdict.results[0].comparisons
    )
    complete = dataclasses.replace(verdict, results=(dataclasses.replace(verdict.results[0], comparisons=small),))
    shared = redact_verdict(complete).results[0]
    assert shared.message.startswith(f"{shared.tally()['fail']} of {PAIRS} comparisons outside the limit, ")


def test_a_waived_failure_whose_numbers_are_withheld_is_not_called_inside_the_limit():
    sides = (Side(group="a", value=0.9, n=6), Side(group="b", value=0.1, n=300))
    one = Comparison(label="g: a vs b", state="waived", value=0.8, message="found", sides=sides, n=306)
    rule = RuleResult(id="r", metric="fairness.selection_rate", compare="difference", limit="<= 0.1", limits=(0.1,),
                      state="waived", message="waived until 2027", comparisons=(one,))  # fmt: skip
    verdict = Verdict(state="pass", exit_code=0, results=(rule,), summary="1 rule: 1 waived.", as_of="2026-11-30")
    shared = redact_verdict(verdict).results[0]
    assert shared.comparisons[0].value is None
    assert shared.message.startswith("1 of 1 comparisons outside the limit, and waived")
    clean = dataclasses.replace(rule, state="pass", comparisons=(dataclasses.replace(one, state="pass"),))
    kept = redact_verdict(dataclasses.replace(verdict, results=(clean,))).results[0]
    assert kept.message.startswith("1 of 1 comparisons inside the limit")
