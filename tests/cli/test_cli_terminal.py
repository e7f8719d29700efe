"""A verdict on narrow terminals, in few letters, and of very many rules."""

import dataclasses
import io
import re

import numpy as np
import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

import auditkit
from auditkit.cli.main import cli
from auditkit.cli.tables import Column, print_rows
from auditkit.cli.verdict_table import print_verdict
from auditkit.core.evidence import Interval
from auditkit.core.verdict import Comparison, RuleResult, Side, Verdict


class Encoded(io.StringIO):
    """A terminal that writes one encoding."""

    def __init__(self, encoding):
        super().__init__()
        self.name = encoding

    @property
    def encoding(self):
        return self.name


def printed(verdict, width=80, encoding="utf-8"):
    file = Encoded(encoding)
    print_verdict(verdict, Console(file=file, width=width, force_terminal=False))
    return file.getvalue()


def comparison(label, *sides, value=None):
    value = sides[0][1] if value is None else value
    return Comparison(
        label=label, state="pass", value=value, message="", n=900,
        interval=Interval(low=value - 0.1, high=value + 0.1, method="wilson"),
        sides=tuple(Side(group=name, value=rate, n=900) for name, rate in sides),
    )  # fmt: skip


def result(*comparisons, compare="value", **changes):
    kept = RuleResult(
        id="rule", state="pass", message="m", metric="data.target_leakage_auc", compare=compare, limit="<= 0.95",
        limits=(0.95,), comparisons=comparisons,
    )  # fmt: skip
    return dataclasses.replace(kept, **changes)


def verdict(*results):
    return Verdict(state="pass", exit_code=0, summary="s", results=results, as_of="2026-11-30")


@pytest.mark.parametrize("width", [80, 120])
def test_a_value_over_all_rows_is_told_once_beside_its_rows(width):
    text = printed(verdict(result(comparison("(feature=years_employed): all rows", ("all rows", 0.691)))), width)
    assert text.count("0.691") == 1
    assert re.search(r"\(feature=years_employed\) +900  0\.691 \[0\.591, 0\.791\]", text)


def test_a_value_of_a_group_is_told_once_beside_its_name():
    text = printed(verdict(result(comparison("origin: north", ("north", 0.698)))))
    assert text.count("0.698") == 1
    assert "north (n=900)" in text


def test_the_two_rates_behind_a_difference_are_both_told():
    one = comparison("sex: F vs M", ("F", 0.25), ("M", 0.45), value=0.2)
    text = printed(verdict(result(one, compare="difference")))
    assert "F 0.250 (n=900)" in text
    assert "M 0.450 (n=900)" in text
    assert "0.200 [0.100, 0.300]" in text


@pytest.mark.parametrize("encoding", ["ascii", "iso8859-1", "utf-8"])
def test_columns_line_up_in_letters_that_a_terminal_lacks(encoding):
    one = comparison("地域: 日本語のグループ vs M", ("日本語のグループ", 0.25), ("M", 0.45), value=0.2)
    text = printed(verdict(result(one, compare="difference")), encoding=encoding)
    text.encode(encoding)  # nothing is left to be escaped when it is written
    assert max(map(cell_len, text.splitlines())) <= 80


def test_of_very_many_rules_those_that_did_not_pass_are_told_in_full():
    each = comparison("all rows", ("all rows", 0.691))
    results = [result(each, id=f"fine-{index}") for index in range(100)]
    results.append(result(dataclasses.replace(each, state="fail"), id="broken", state="fail"))
    lines = printed(verdict(*results)).splitlines()
    (place,) = [index for index, line in enumerate(lines) if "broken" in line]
    assert "0.691" in lines[place + 2]
    assert sum("0.691" in line for line in lines) == 24
    assert sum(line.startswith("✓ PASS  fine-") for line in lines) == 100
    assert "The comparisons of 77 more rules are in the card" in "\n".join(lines)


def test_one_reason_for_many_analyzers_is_told_once(tmp_path):
    y = np.tile([0, 1], 40)
    report = auditkit.audit_predictions(y, y, sensitive={"g": y.astype(str)}, progress=False)
    failed = tuple(
        dataclasses.replace(
            o, status="failed", reason="RuntimeError: no memory", measurements=(), artifacts=(), lacking=()
        )
        for o in report.evidence.outcomes
    )
    evidence = dataclasses.replace(report.evidence, outcomes=failed, digest="")
    policy = tmp_path / "audit.toml"
    policy.write_text('[[rule]]\nid = "a"\nmetric = "fairness.selection_rate"\nmin = 0.1\n')
    (told,) = auditkit.Report(evidence).gate(policy).results
    assert told.message.count("no memory") == 1
    assert "fairness.groups, fairness.individual" in told.message


WIDTHS = [40, 60, 80, 120]


def everything(width, rows, columns):
    file = io.StringIO()
    print_rows(Console(file=file, width=width, force_terminal=False), columns, rows)
    text = file.getvalue()
    assert max(map(cell_len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_and_no_word_of_a_verdict_is_lost_however_narrow(width):
    sides = [("Female, 65+", 0.25, 123_456_789), ("Male", 0.45, 98_765_432)]
    one = Comparison(
        label="origin x sex: Female, 65+ vs Male", state="inconclusive", value=0.2, message="", n=222_222_221,
        n_needed=987_654_321, interval=Interval(low=0.1234, high=0.3456, method="wilson"),
        sides=tuple(Side(group=name, value=rate, n=n) for name, rate, n in sides),
    )  # fmt: skip
    text = printed(verdict(result(one, one, one, one, compare="difference", confidence=0.9999)), width)
    words = "inconclusive origin x sex Female, 65+ Male 0.250 (n=123,456,789) 0.450 (n=98,765,432) 0.200 [0.123, 0.346]"
    for word in (*words.split(" "), "987,654,321", "99.99", "1 more inconclusive", "difference"):
        assert word in text, word
    assert max(map(cell_len, text.splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_tables_become_lines_where_they_do_not_fit(width):
    columns = [Column("state"), Column("measurement", least=20), Column("base", right=True), Column("change", least=24)]
    row = ["no longer measured", "fairness.true_positive_rate.difference", "0.1234 (n=1,234,567)", "a long reason why"]
    text = everything(width, [[Text(cell) for cell in row]] * 2, columns)
    for word in " ".join(row).split(" "):
        assert word in text.replace("\n", "") if len(word) > 24 else word in text, (word, text)
    assert ("base " in text) == ("change " in text) == ("measurement" in text)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", [["analyzers"], ["analyzers", "fairness.groups"], ["doctor"]])
def test_commands_that_list_lose_no_word(command, width, monkeypatch):
    def words(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        done = CliRunner().invoke(cli, command)
        return done.output

    narrow = words(width)
    whole = "".join(narrow.split())
    for word in set(words(500).split()):
        assert word in (narrow if len(word) <= 20 else whole), word
