"""What a reader sees first and can tell apart: order of charts, whole labels, honest legends, numbers as written."""

import json
import re

import pytest
import sample

from auditkit.core.evidence import Curve, Interval, Measurement, Outcome, Series
from auditkit.core.verdict import Comparison, RuleResult, Verdict
from auditkit.render.charts import Row, bar_chart, density_chart, interval_chart
from auditkit.render.html.artifacts import artifact_figures
from auditkit.render.html.card import render_card
from auditkit.render.html.families import family_views
from auditkit.render.html.findings import curve_finding
from auditkit.render.mct import render_mct


def rate(value, **where):
    ends = Interval(low=value - 0.05, high=value + 0.05, method="wilson")
    return Measurement(name="fairness.selection_rate", value=value, n=400, interval=ends, slice=where)


def test_the_intersection_that_a_rule_looks_at_stands_second():
    by_one = tuple(rate(value, **{column: group}) for column in ("age", "sex", "zip")
                   for group, value in (("a", 0.4), ("b", 0.5)))  # fmt: skip
    crossed = tuple(rate(0.3, sex=s, zip=z) for s in "ab" for z in "ab")
    outcome = Outcome(analyzer="fairness.groups", version="1", status="measured", measurements=by_one + crossed)
    (view,) = family_views(sample.evidence(outcomes=(outcome,)), frozenset({"fairness.selection_rate"}))
    titles = [chart.title for chart in view.charts]
    assert "by age runs" in titles[0]
    assert "by sex and zip" in titles[1]
    assert len(titles) == 4


@pytest.mark.parametrize("draw", [interval_chart, bar_chart])
def test_a_chart_with_long_labels_takes_the_width_and_shows_them(draw):
    long = "integrated gradients, guided GradCAM"
    narrow, wide = (draw([Row(label=name, value=0.5)], "t", label="x") for name in ("saliency", long))
    assert not narrow.broad
    assert wide.broad
    assert f">{long}</text>" in wide.figure().text
    assert 'class="ak-chart ak-broad"' in wide.figure().text
    assert "ak-broad" not in narrow.figure().text


def comparisons(*names):
    ends = Interval(low=0.8, high=0.95, method="wilson")
    found = [Comparison(label=name, state="fail", value=0.9, message="", interval=ends) for name in names]
    result = RuleResult(id="r", metric="data.proxy_auc", compare="value", limit="<= 0.65", state="fail", message="m",
                        comparisons=tuple(found))  # fmt: skip
    return Verdict(state="fail", exit_code=1, results=(result,), summary="s", as_of="2026-01-01")


def test_what_all_labels_of_a_rule_share_is_said_once():
    page = render_card(sample.evidence(outcomes=()), comparisons("origin: island", "origin: north"))
    assert ">island</text>" in page
    assert ">proxy strength (origin)</text>" in page
    one = render_card(sample.evidence(outcomes=()), comparisons("origin: island"))
    assert ">origin: island</text>" in one
    apart = render_card(sample.evidence(outcomes=()), comparisons("origin: island", "sex: F"))
    assert ">origin: island</text>" in apart


def test_a_legend_names_only_the_colours_that_are_drawn():
    def keys(*shades):
        chart = density_chart(["a"], [0.0, 1.0, 2.0], [[20, 30]], "t", label="x", color=[shades] if shades else ())
        return [key.label for key in chart.keys]

    assert keys() == []
    assert keys(0.1, 0.9) == ["low feature value", "high feature value"]
    assert keys(None, None) == ["too few rows for a colour"]
    assert keys(None, 0.9) == ["low feature value", "high feature value", "too few rows for a colour"]


def test_a_line_of_y_equal_x_is_a_mark_and_keeps_its_name():
    curve = Curve(name="reliability", title="Reliability", x_label="stated", y_label="observed",
                  series=(Series(name="observed", x=(0.1, 0.5, 0.9), y=(0.2, 0.5, 0.8)),
                          Series(name="perfect calibration", x=(0.0, 1.0), y=(0.0, 1.0))))  # fmt: skip
    (figure,) = artifact_figures(curve)
    assert [key.label for key in figure.draw().keys] == ["observed", "perfect calibration"]
    assert [key.css for key in figure.draw().keys] == ["ak-key-line ak-s0", "ak-key-diagonal"]
    assert {row[0] for row in figure.draw().rows} == {"observed"}


def test_equal_areas_are_not_said_to_run_from_one_to_the_other():
    lines = [
        Series(name=name, x=(0.0, 0.5, 1.0), y=(0.0, height, 1.0)) for name, height in (("a", 0.54), ("b", 0.5401))
    ]
    curve = Curve(name="roc", title="ROC", x_label="x", y_label="y", series=tuple(lines))
    assert curve_finding(curve) == "ROC: the area under the curve is 0.520 for each; guessing gives 0.5."


@pytest.mark.parametrize(("written", "shown"), [(2026, "2026"), (1.5, "1.5"), ("2.0", "2.0")])
def test_a_version_that_is_a_number_is_in_every_output(written, shown):
    evidence = sample.evidence(card={"title": "t", "version": written})
    assert json.loads(render_mct(evidence))["model_details"]["version"]["name"] == shown
    assert re.search(rf"<dt>Version<dd>{re.escape(shown)}\n", render_card(evidence))


def test_analyzers_that_do_not_apply_share_one_banner_with_their_reasons():
    idle = tuple(Outcome(analyzer=f"fairness.{name}", version="1", status="not_applicable", title=name,
                         reason=f"needs {name}.") for name in ("one", "two"))  # fmt: skip
    failed = Outcome(analyzer="fairness.three", version="1", status="failed", title="three", reason="it broke")
    page = render_card(sample.evidence(outcomes=(*idle, failed)))
    (told,) = re.findall('<div class="banner"><b>Does not apply here.</b>(.*?)</div>', page, re.DOTALL)
    assert re.findall("<li>(.*?)</li>", told) == ["one: needs one.", "two: needs two."]
    assert '<p class="banner"><b>three: failed to run.</b> it broke</p>' in page
