"""Disparities that are rounded: none at all may be shown, and none lies across the limit that it is judged by."""

import pytest

from auditkit.core.evidence import Measurement, Outcome
from auditkit.render.beside_limits import ACROSS, beside_limits
from auditkit.render.coarse import coarse, withholds

NAME = "fairness.selection_rate.difference"


def gap(value, **changes):
    return Measurement(**{"name": NAME, "value": value, "n": 289, "over": ("sex",), "bounds": (0.0, 1.0), **changes})


def outcome(m):
    return Outcome(analyzer="fairness.groups", version="1", status="measured", measurements=(m,))


def test_no_gap_is_shown_as_none_where_a_share_of_none_is_half_a_step():
    assert coarse(gap(0.0), 10).value == 0.0
    assert coarse(gap(0.004), 10).value == 0.0
    share = gap(0.0, name="fairness.selection_rate", over=(), slice={"sex": "F"})
    assert coarse(share, 10).value == 0.025


@pytest.mark.parametrize("exact", [0.078, 0.0749, 0.0751, 0.04])
@pytest.mark.parametrize("limit", [0.08, 0.06, 0.1, 0.3])
@pytest.mark.parametrize("metric", ["selection_rate", "fairness.selection_rate"])
def test_a_rounded_gap_reads_as_its_rule_is_decided_or_is_withheld(exact, limit, metric):
    policy = {"rule": [{"id": "r", "metric": metric, "compare": "difference", "max": limit}]}
    rounded = coarse(gap(exact), 10)
    ((shown,),) = (each.measurements for each in beside_limits([outcome(rounded)], [outcome(gap(exact))], policy))
    if shown.value is None:
        assert shown.reason == ACROSS
        assert withholds(shown)
        assert (rounded.value > limit, rounded.value < limit) != (exact > limit, exact < limit)
    else:
        assert shown == rounded
        assert (shown.value > limit, shown.value < limit) == (exact > limit, exact < limit)


def test_some_would_lie_across_and_without_a_rule_they_are_shown():
    exact, policy = (
        gap(0.078),
        {"rule": [{"id": "r", "metric": "selection_rate", "compare": "difference", "max": 0.08}]},
    )
    rounded = coarse(exact, 10)
    assert rounded.value == 0.1
    assert beside_limits([outcome(rounded)], [outcome(exact)], policy)[0].measurements[0].value is None
    for other in (None, {}, {"rule": [{"id": "r", "metric": "selection_rate", "compare": "ratio", "min": 0.08}]}):
        assert beside_limits([outcome(rounded)], [outcome(exact)], other)[0].measurements == (rounded,)
    assert beside_limits([outcome(exact)], [outcome(exact)], policy)[0].measurements == (exact,)
