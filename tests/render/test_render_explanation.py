"""The page of one explained row: amounts that add up on the page, hostile names escaped, all parts in the table."""

import dataclasses
import re

import explained
import pytest

from auditkit.render.html.explanation import DRAWN, render_explanation


@pytest.mark.parametrize("kind", ["features", "tokens", "squares"])
@pytest.mark.parametrize("shown", [True, False])
def test_pages_escape_every_name_and_hide_values_that_may_not_be_shown(kind, shown):
    page = render_explanation(explained.explained_row(kind, shown))
    assert "<script" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert ("word3" in page) == shown
    assert ("No value of the row is shown" in page) != shown


def test_lines_and_missing_values_are_told_where_there_are_any():
    row = explained.explained_row(count=3)
    exact = dataclasses.replace(row.first.attribution, std_error=None)
    values = (dataclasses.replace(row.first, attribution=exact),)
    for some, sampled, partly in (
        (row, True, False),
        (dataclasses.replace(row, values=("104", None, None)), True, True),
        (dataclasses.replace(row, values=("104", None, None), explained=values), False, True),
    ):
        page = render_explanation(some)
        assert ("95 % intervals of sampled amounts" in page) == sampled
        assert ("Values are shown of the columns that the owner names" in page) == partly


def test_every_part_is_in_the_table_and_the_rest_is_one_bar():
    page = render_explanation(explained.explained_row(count=20))
    for place in range(1, 20):
        assert re.search(rf"part {place}\b", page)
    assert f"{20 - DRAWN} others" in page
    one_more = render_explanation(explained.explained_row(count=DRAWN + 1))
    assert "others" not in one_more


def test_sum_and_output_stand_side_by_side():
    page = render_explanation(explained.explained_row())
    facts = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
    assert facts["Base value"] == "−0.600"
    assert facts["Base value and sum"] == facts["The model gives"] == "0.700"
    assert facts["Sum over 20 features"] == "+1.30"


def test_a_row_needs_parts_and_amounts_that_match():
    row = explained.explained_row()
    with pytest.raises(ValueError, match="differ in number"):
        dataclasses.replace(row, parts=row.parts[:-1])
    with pytest.raises(ValueError, match="without an explanation"):
        dataclasses.replace(row, explained=())
