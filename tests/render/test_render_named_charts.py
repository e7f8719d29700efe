"""Charts by name: what they say of themselves, against other ways to compute it."""

import base64
import re
import struct
import zlib
from html import unescape

import numpy as np
import pytest

from auditkit.core.attribution import Attribution
from auditkit.core.evidence import ImageGrid, Outcome, Picture, Table
from auditkit.core.verdict import Verdict
from auditkit.render.charts import (
    Choice,
    Line,
    Tile,
    beeswarm_chart,
    confusion_matrix,
    dependence_chart,
    frontier_chart,
    overlay_grid,
    picture_grid,
    reliability_chart,
    roc_chart,
    token_chart,
)
from auditkit.render.charts.pictures import laid_over, png
from auditkit.render.html.card import render_card
from auditkit.render.redact import redact

import sample  # isort: skip

RNG = np.random.default_rng(7)


def points(chart) -> set[tuple[int, int, str]]:
    """Every point of a swarm, read back from its relative moves."""
    found = set()
    for d, css in re.findall(r'<path d="([^"]*)" class="ak-swarm ak-q(\w)"', chart.drawing.text):
        x = y = 0
        for dx, dy in re.findall(r"m(-?\d+) ?(-?\d+)h0", d):
            x, y = x + int(dx), y + int(dy)
            found.add((x, y, css))
    return found


def test_the_area_of_a_roc_chart_is_that_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    y = RNG.integers(0, 2, 400)
    score = y + RNG.normal(size=400)
    fpr, tpr, _ = metrics.roc_curve(y, score)
    chart = roc_chart([Line(name="a", x=fpr.tolist(), y=tpr.tolist())])
    said = float(re.search(r"is ([\d.]+);", chart.title).group(1))
    assert said == pytest.approx(metrics.roc_auc_score(y, score), abs=0.0006)


def test_a_reliability_chart_names_its_largest_gap():
    chart = reliability_chart([Line(name="a", x=[0.1, 0.5, 0.9], y=[0.1, 0.45, 0.6])])
    assert "where 0.900 is stated: 0.600 happens" in chart.title


def test_a_confusion_matrix_counts_like_numpy():
    cells = RNG.integers(0, 50, (4, 4))
    chart = confusion_matrix("abcd", cells.tolist())
    assert chart.title.startswith(f"{np.trace(cells)} of {cells.sum()} rows")
    off = cells - np.diag(np.diag(cells))
    assert f", {off.max()} rows" in chart.note
    assert confusion_matrix("ab", [[3, 0], [0, 2]]).note == ""


def test_the_frontier_is_that_of_brute_force():
    cost, gain = RNG.integers(0, 6, 30), RNG.integers(0, 6, 30)
    choices = [
        Choice(label=f"c{i}", cost=float(c), gain=float(g)) for i, (c, g) in enumerate(zip(cost, gain, strict=True))
    ]
    chart = frontier_chart(choices, cost_label="epsilon", gain_label="accuracy")
    for i, row in enumerate(chart.rows):
        no_worse = (cost <= cost[i]) & (gain >= gain[i])
        better = (cost < cost[i]) | (gain > gain[i])
        assert (row[-1] == "best") == (not (no_worse & better).any())


def test_a_beeswarm_draws_every_row_where_its_value_is():
    values = RNG.normal(size=(300, 2))
    features = np.stack([np.arange(300.0), np.full(300, np.nan)], axis=1)
    chart = beeswarm_chart(["a", "b"], values, label="attribution", features=features)
    seen = points(chart)
    assert {css for *_, css in seen} == {"0", "1", "2", "3", "4", "n"}
    first = {x for x, y, css in seen if css != "n"}
    low, high = min(first), max(first)
    ends = values[:, 0].min(), values[:, 0].max()
    middle = float(np.sort(values[:, 0])[150])
    assert any(abs(x - (low + (middle - ends[0]) / (ends[1] - ends[0]) * (high - low))) <= 1.5 for x in first)
    assert all(0 <= x <= 1000 for x in first)
    assert chart.rows[0][3] == chart.rows[0][3]
    assert float(chart.rows[0][3].replace("−", "-")) == pytest.approx(np.median(values[:, 0]), rel=0.02, abs=0.002)


def test_points_piled_up_do_not_hide_each_other():
    chart = beeswarm_chart(["a"], np.zeros((9, 1)), label="x")
    assert len(points(chart)) == 9


def test_too_many_points_become_strips():
    chart = beeswarm_chart(["a"], RNG.normal(size=(50_001, 1)), label="x", features=RNG.normal(size=(50_001, 1)))
    assert "ak-swarm" not in chart.drawing.text
    assert chart.rows[0][1] == "50,001"


def test_forty_thousand_points_stay_light():
    text = beeswarm_chart([f"f{i}" for i in range(20)], RNG.normal(size=(2000, 20)), label="x",
                          features=RNG.normal(size=(2000, 20))).figure().text  # fmt: skip
    assert len(text) < 350_000
    assert len(re.findall(r"<[a-z]", text)) < 200


def test_dependence_medians_are_those_of_numpy_and_missing_rows_are_left_out():
    x = RNG.normal(size=203)
    y = 2 * x + RNG.normal(size=203)
    x[:3] = np.nan
    chart = dependence_chart(x, y, name="age", label="attribution", color=x)
    assert len(chart.rows) == 10
    order = np.argsort(x[3:])
    for part, row in zip(np.split(order, 10), chart.rows, strict=True):
        assert int(row[1]) == 20
        assert float(row[3].replace("−", "-")) == pytest.approx(np.median(y[3:][part]), rel=0.02, abs=0.002)


def test_an_overlay_is_grey_where_nothing_is_attributed_and_coloured_where_something_is():
    base = Tile(label="b", height=1, width=3, pixels=bytes([200, 200, 200]))
    over = Tile(label="o", height=1, width=3, pixels=bytes([128, 255, 0]), palette="signed")
    mixed = laid_over(base, over)
    data = png(mixed)
    size = struct.unpack(">I", data[data.index(b"PLTE") - 4 :][:4])[0]
    palette = data[data.index(b"PLTE") + 4 :][:size]
    colors = [palette[3 * i : 3 * i + 3] for i in mixed.pixels]
    none, plus, minus = (tuple(color) for color in colors)
    assert max(none) - min(none) < 25
    assert plus[0] > plus[2] + 80
    assert minus[2] > minus[0] + 80
    assert zlib.decompress(data[data.index(b"IDAT") + 4 : -16])[1:] == mixed.pixels
    assert overlay_grid([base], [over], "finding").figure().text.count('class="ak-picture"') == 1
    with pytest.raises(ValueError, match="a picture of 1 x 3 with an overlay of 1 x 2"):
        laid_over(base, Tile(label="", height=1, width=2, pixels=b"ab", palette="signed"))


def test_each_picture_is_cut_out_of_a_sheet_at_its_own_rows():
    rng = np.random.default_rng(0)
    tiles = [Tile(label=str(i), height=1500, width=2, pixels=rng.bytes(3000), palette="grey" if i % 2 else "signed")
             for i in range(6)]  # fmt: skip
    text = picture_grid(tiles, "finding").figure().text
    sheets = dict(re.findall(r'<image href="data:image/png;base64,([^"]+)" id="([^"]+)"', text))
    sheets = {name: base64.b64decode(data) for data, name in sheets.items()}
    assert len(sheets) == 4  # two of a palette fit below each other, the third does not
    cuts = re.findall(r'<svg viewBox="0 (\d+) 2 1500" role="img" aria-label="Picture of (\d)" class="ak-picture">'
                      r'<use href="#([^"]+)">', text)  # fmt: skip
    assert [label for _, label, _ in cuts] == list("012345")
    for (top, _, name), tile in zip(cuts, tiles, strict=True):
        data = sheets[name]
        start = data.index(b"IDAT")
        rows = zlib.decompress(data[start + 4 :][: struct.unpack(">I", data[start - 4 : start])[0]])
        cut = b"".join(rows[3 * r + 1 : 3 * r + 3] for r in range(int(top), int(top) + 1500))
        assert cut == tile.pixels
        assert (b"PLTE" in data) == (tile.palette == "signed")
        above, below = (rows[3 * r + 1 : 3 * r + 3] for r in (int(top) - 1, int(top) + 1500))
        assert (above, below) == (tile.pixels[:2], tile.pixels[-2:])


def test_a_picture_without_all_its_pixels_is_refused():
    """In a sheet it would shift the pictures below it."""
    with pytest.raises(ValueError, match="a picture of 2 x 3 with 5 pixels"):
        Tile(label="", height=2, width=3, pixels=bytes(5))


def test_tokens_are_marked_by_strength_and_sign_and_never_become_markup():
    chart = token_chart(["<b>", "good", "bad", "the"], [0.5, 1.0, -1.0, 0.0])
    text = chart.drawing.text
    assert '<mark class="ak-p3">good</mark>' in text
    assert '<mark class="ak-m3">bad</mark>' in text
    assert '<mark class="ak-p2">&lt;b&gt;</mark>' in text
    assert " the" in text
    assert chart.rows[1] == ("good", "1")
    with pytest.raises(ValueError, match="1 tokens and 2 weights"):
        token_chart(["a"], [1.0, 2.0])


# Notebooks and the card -----------------------------------------------------------------------------------


def attribution(**more):
    values = np.array([[[0.2], [-0.5], [0.1]]])
    facts = {"values": values, "feature_names": ("age", "income<b>", "sex"), **more}
    return Attribution(prediction=np.array([[0.8]]), method="shap", output_space="probability", output_names=("yes",),
                       status="estimated", **facts)  # fmt: skip


def test_an_attribution_shows_its_largest_feature_first_with_its_error():
    html = attribution(std_error=np.full((1, 3, 1), 0.1))._repr_html_()
    assert "income&lt;b&gt; moves yes most: −0.500." in html
    assert "−0.696 to −0.304" in html
    assert "The model gives yes 0.800 (probability)." in html


def test_an_attribution_of_pictures_and_of_text_shows_too():
    picture = attribution(values=np.zeros((1, 4, 4, 1)), feature_names=())._repr_html_()
    assert "over 4 x 4 inputs" in picture
    text = attribution(feature_groups=("token",))._repr_html_()
    assert 'class="ak-m3">income&lt;b&gt;</mark>' in text


def test_a_verdict_shows_every_rule():
    verdict = sample.verdict()
    html = verdict._repr_html_()
    assert isinstance(verdict, Verdict)
    assert all(result.id in html for result in verdict.results)
    assert "Of 6 rules, 2 are broken" in html


def tokens_outcome():
    table = Table(name="explain.text.tokens", title="A review", columns=("token", "attribution"),
                  rows=(("awful", -0.7), ("plot", 0.1)))  # fmt: skip
    grid = ImageGrid(name="explain.rows", title="Rows", raw=True,
                     pictures=(Picture(label="row", height=1, width=1, pixels="AA=="),))  # fmt: skip
    return Outcome(analyzer="explain.text", version="1", status="measured", artifacts=(table, grid))


def test_tokens_and_pictures_of_rows_are_shared_only_when_asked_for_by_name():
    evidence = sample.evidence(outcomes=(tokens_outcome(),))
    html = unescape(render_card(evidence))
    assert "awful" not in html
    assert "“A review” is left out of shared copies" in html
    asked = sample.evidence(outcomes=(tokens_outcome(),), card={"raw": ["explain.text.tokens"]})
    shown = unescape(render_card(asked))
    assert 'class="ak-m3">awful</mark>' in shown
    assert "“Rows” is left out of shared copies" in shown
    assert [a.name for a in redact(asked).artifacts()] == ["explain.text.tokens"]


def test_a_sweep_of_thresholds_says_where_the_model_itself_decides():
    from auditkit.core.evidence import Curve, Series
    from auditkit.render.html.findings import curve_finding

    swept = Series(name="selection rate", x=(0.0, 1.0), y=(1.0, 0.0))
    own = Series(name="the model's own decision", x=(0.3,), y=(0.41,))
    labels = {"name": "thresholds", "title": "What other thresholds would give", "x_label": "from", "y_label": "rate"}
    told = curve_finding(Curve(**labels, series=(swept, own)))
    assert told == "What other thresholds would give: the model's own is about 0.3, where it selects 0.410 of the rows."
    assert curve_finding(Curve(**labels, series=(swept,))) == "What other thresholds would give."


def test_groups_without_any_value_have_no_empty_frame():
    from auditkit.core.evidence import Measurement
    from auditkit.render.html.figures import figures

    def rates(value):
        pairs = (("x", value), ("y", None))
        return [Measurement(name="a.rate", value=v, slice={"g": g}, reason="why") for g, v in pairs]

    assert figures(rates(None)) == []
    assert len(figures(rates(0.5))) == 1
