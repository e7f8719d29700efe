"""Markdown, CSV, numbers and clean text."""

import csv
import io
import re

import hostile
import pytest
import sample

from auditkit.core.evidence import Interval
from auditkit.render.html.judged import limit_of
from auditkit.render.markdown import md, render_markdown
from auditkit.render.numerals import number, span
from auditkit.render.table import COLUMNS, csv_text, render_csv
from auditkit.render.text import clean


@pytest.mark.parametrize("text", hostile.CORPUS)
def test_clean_text_holds_nothing_that_controls_or_reorders(text):
    shown = clean(text)
    assert not any(
        ord(c) < 32 or 0x7F <= ord(c) < 0xA0 or 0x202A <= ord(c) <= 0x202E or 0x2066 <= ord(c) <= 0x2069 for c in shown
    )
    assert not any(0xD800 <= ord(c) < 0xE000 or c in "\u2028\u2029\ufeff\u200e\u200f" for c in shown)
    assert len(shown) <= 2000 * 10
    shown.encode("utf-8")
    assert clean(shown) == shown or len(text) > 2000


def test_clean_keeps_letters_of_every_script_and_joined_emoji():
    for text in ("naïve café", "\u0645\u0631\u062d\u0628\u0627", "日本語", "\U0001f469\u200d\U0001f4bb", "क्‍ष"):
        assert clean(text) == text


@pytest.mark.parametrize("text", hostile.CORPUS)
def test_markdown_cells_stay_one_cell_without_markup(text):
    cell = md(text)
    assert "\n" not in cell
    assert "<" not in cell
    assert ">" not in cell.replace("&gt;", "")
    bare = cell.replace("\\\\", "")
    for special in "|`*[]":
        assert bare.count(special) == bare.count("\\" + special), special
    assert not re.search(r"(?i)(https?|ftp)://|www\.", cell)
    assert not cell.startswith(("#", "- ", "+ ", "=", "---"))


def test_the_markdown_card_says_verdict_rules_and_numbers():
    text = render_markdown(sample.evidence(), sample.verdict())
    assert text.startswith("# Loan approval, model 3\n\n**Not judged.** One rule could not be judged")
    assert "| ✗ Failed | selection-by-sex |" in text
    assert "0.820 (0.802 to 0.836), n 2,000" in text
    assert "(failed to run: ValueError" in text
    widths = {line.count(" | ") for line in text.splitlines() if line.startswith("| ✗") or line.startswith("| ✓")}
    assert widths == {4}


def test_the_markdown_of_a_poisoned_evidence_has_no_raw_markup():
    take = hostile.Taker()
    text = render_markdown(hostile.poison(sample.evidence(), take), hostile.poison(sample.verdict(), take))
    assert "<" not in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


@pytest.mark.parametrize("text", hostile.CORPUS)
def test_no_csv_cell_is_a_formula(text):
    assert csv_text(text).lstrip()[:1] not in ("=", "+", "-", "@", "\t", "\r", "|", "%")


def test_the_csv_reads_back_with_one_line_a_measurement():
    evidence = sample.evidence()
    rows = list(csv.DictReader(io.StringIO(render_csv(evidence))))
    assert tuple(rows[0]) == tuple(COLUMNS)
    assert len(rows) == len(list(evidence.measurements()))
    accuracy = next(row for row in rows if row["name"] == "performance.accuracy")
    assert float(accuracy["value"]) == 0.8195
    assert accuracy["n"] == "2000"
    lost = next(row for row in rows if row["name"] == "robustness.median_distance")
    assert lost["value"] == ""
    assert lost["reason"] == "fewer than half of the rows could be changed"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.500"), (0.01, "0.010"), (0.0123456, "0.012"), (0.00999999, "0.010"),
     (0.0042, "0.0042"), (1.0, "1"), (0.0, "0"),
     (-0.25, "−0.250"), (1234567.8, "1,234,568"), (12.3456, "12.3"), (0.9996, "0.9996"),
     (3.1e-9, "3.10 × 10⁻⁹"), (float("nan"), "—"), (float("inf"), "—"),
     (99.96, "100"), (9.996, "10.0"), (123.456, "123"), (0.99999999, "0.99999999"), (1e300, "1.00 × 10³⁰⁰")],
)  # fmt: skip
def test_numbers(value, shown):
    assert number(value) == shown


def test_rounding_noise_at_the_end_of_an_interval_is_zero():
    assert span(Interval(low=1.1e-19, high=0.002, level=0.95, method="x")) == "0 to 0.0020"


@pytest.mark.parametrize(
    ("text", "value", "allowed"),
    [("<= 0.1", 0.1, "below"), ("≥ 0.8", 0.8, "above"), ("max 1e-3", 0.001, "below"), ("at least 5", 5.0, "above")],
)
def test_limits_are_read(text, value, allowed):
    limit = limit_of(text)
    assert (limit.value, limit.allowed) == (value, allowed)


@pytest.mark.parametrize("text", ["", "between 0.1 and 0.2", "0.3", ">= 0.1 and <= 0.2", "none"])
def test_a_limit_that_is_not_plain_is_not_drawn(text):
    assert limit_of(text) is None
