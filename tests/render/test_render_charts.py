"""Charts: marks where the numbers are, text escaped, colours that can be read."""

import base64
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from dataclasses import replace
from pathlib import Path

import hostile
import pytest

from auditkit.render.charts import (
    Limit,
    Line,
    Marked,
    Row,
    Tile,
    bar_chart,
    density_chart,
    element,
    heat_map,
    interval_chart,
    line_chart,
    picture_grid,
)
from auditkit.render.charts.axis import make_axis
from auditkit.render.charts.pictures import png, tile_from_base64
from auditkit.render.text import clean

ISOLATES = {0x2068: None, 0x2069: None}
ROWS = (
    Row(label="F", value=0.2, low=0.15, high=0.26, n=400, state="fail"),
    Row(label="M", value=0.45, low=0.4, high=0.5, n=380),
    Row(label="X", value=None, note="no rows"),
)


def charts():
    yield interval_chart(ROWS, "finding", label="rate", limit=Limit(value=0.3, allowed="above"), reference=0.33)
    yield bar_chart(ROWS, "finding", label="weight", unit="probability")
    yield line_chart(
        [Line(name="a", x=[0, 1, 2], y=[1.0, None, 0.5], low=[0.9, None, 0.4], high=[1.0, None, 0.6]),
         Line(name="b", x=[0, 2], y=[0.2, 0.3])],
        "finding", x_label="eps", y_label="accuracy", marked=Marked(value=0.4, label="limit"), diagonal=True,
    )  # fmt: skip
    yield density_chart(["f"], [0.0, 1.0, 2.0], [[5, 0]], "finding", label="x", color=[[0.5, None]])
    yield heat_map(["F"], ["a", "b"], [[0.1, None]], "finding", row_label="sex", column_label="age")
    yield picture_grid([Tile(label="p", height=2, width=2, pixels=bytes(4), palette="signed")], "finding")


def tree(chart):
    """The figure as XML: void elements closed, and the optional end tags of table cells put back."""
    html = re.sub(r"(<(?:img|br)[^>]*)>", r"\1/>", chart.figure().text)

    def closed(match):
        cells = re.sub(r"<(t[hd])>([^<]*)", r"<\1>\2</\1>", match.group(1))
        return "<tbody>" + re.sub(r"<tr>((?:(?!<tr>).)*)", r"<tr>\1</tr>", cells, flags=re.S) + "</tbody>"

    return ET.fromstring(re.sub(r"<tbody>(.*?)</tbody>", closed, html, flags=re.S))


@pytest.mark.parametrize("chart", list(charts()))
def test_every_chart_is_well_formed_with_a_finding_and_no_style_attribute(chart):
    root = tree(chart)
    assert root.tag == "figure"
    assert root.find("figcaption").text == "finding"
    assert not [e for e in root.iter() if "style" in e.attrib]
    for svg in root.iter("svg"):
        named = svg.get("role") == "img" and (svg.get("aria-label") or svg.find("title").text)
        assert named or svg.get("aria-hidden") == "true"
    assert chart._repr_html_().startswith("<style>")


@pytest.mark.parametrize("chart", [c for c in charts() if c.rows])
def test_every_chart_has_its_numbers_in_a_table(chart):
    for cells in (0, 10_000):
        details = tree(replace(chart, cells=cells)).find("details")
        assert details.find("div").get("tabindex") == "0"
        if cells:
            assert len(details.findall(".//tbody/tr")) == len(chart.rows)
            continue
        lines = "".join(details.find("div/pre").itertext()).split("\n")
        assert len(lines) == 1 + len(chart.rows)
        for line, row in zip(lines[1:], chart.rows, strict=True):
            assert re.split("  +", line.strip()) == [cell for cell in row if cell]


def test_dots_stand_where_their_values_are():
    chart = interval_chart(ROWS, "finding", label="rate", bounds=(0.0, 1.0))
    dots = [x / 10 for path in tree(chart).iter("path") if path.get("class").startswith("ak-dot ")
            for x in map(float, re.findall(r"M([\d.]+) [\d.]+h0", path.get("d")))]  # fmt: skip
    axis = make_axis([0.2, 0.15, 0.26, 0.45, 0.4, 0.5], "rate", bounds=(0.0, 1.0))
    want = [2 + 96 * (v - axis.low) / (axis.high - axis.low) for v in (0.2, 0.45)]
    assert dots == pytest.approx(want, abs=0.01)
    assert "no rows" in chart.figure().text


def test_bars_start_at_zero_also_when_values_are_negative():
    rows = [Row(label="a", value=-1.0), Row(label="b", value=2.0)]
    (bars,) = [e for e in tree(bar_chart(rows, "finding", label="w")).iter("path") if e.get("class") == "ak-bar"]
    ends = [(float(a), float(b)) for a, b in re.findall(r"M([\d.]+) [\d.]+H([\d.]+)v14H", bars.get("d"))]
    assert len(ends) == 2
    assert ends[0][1] == pytest.approx(ends[1][0], abs=0.02)
    assert ends[1][1] - ends[1][0] == pytest.approx(2 * (ends[0][1] - ends[0][0]), rel=1e-3)


def test_a_line_breaks_at_a_missing_value():
    chart = line_chart([Line(name="a", x=[0, 1, 2, 3, 4], y=[1, 1, None, 1, 1])], "f", x_label="x", y_label="y")
    (path,) = [e for e in tree(chart).iter("path") if "ak-line" in e.get("class")]
    assert path.get("d").count("M") == 2


@pytest.mark.parametrize(
    ("values", "bounds", "low", "high"),
    [([0.5], (None, None), 0.45, 0.55), ([0.0, 0.0], (0.0, 1.0), 0.0, 0.5), ([], (None, None), 0.0, 1.0),
     ([1e9, 2e9], (None, None), 1e9, 2e9), ([-3.0, 7.0], (None, None), -3.0, 7.0), ([0.99, 1.0], (0.0, 1.0), 0.99, 1.0),
     ([5e-7, 9e-7], (None, None), 5e-7, 9e-7)],
)  # fmt: skip
def test_axes_cover_their_values_with_few_round_ticks(values, bounds, low, high):
    axis = make_axis(values, "x", bounds=bounds)
    assert axis.low <= low
    assert axis.high >= high
    assert 2 <= len(axis.ticks) <= 8
    assert bounds[1] is None or axis.high <= bounds[1]


@pytest.mark.parametrize("text", hostile.CORPUS)
def test_no_text_becomes_markup(text):
    chart = interval_chart([Row(label=text, value=0.5, note=text)], text, label=text, unit=text)
    root = tree(chart)
    assert {e.tag for e in root.iter()} <= {
        *("figure", "figcaption", "ul", "li", "i", "svg", "title", "g", "path", "text", "tspan"),
        *("details", "summary", "div", "table", "thead", "tbody", "tr", "th", "td"),
    }
    assert (root.find("figcaption").text or "").translate(ISOLATES) == clean(text)


def test_unknown_attributes_and_links_are_refused():
    with pytest.raises(ValueError, match="attribute 'style' is not allowed"):
        element("p", "x", style="color:red")
    with pytest.raises(ValueError, match="attribute 'onclick' is not allowed"):
        element("p", "x", onclick="1")
    with pytest.raises(ValueError, match="refused link in href"):
        element("a", "x", href="javascript:1")
    with pytest.raises(ValueError, match="refused link in src"):
        element("img", src="data:text/html,x")
    with pytest.raises(ValueError, match="not an element name"):
        element("p onclick", "x")


def test_a_png_reads_back_by_the_specification():
    raw = bytes(range(12))
    data = png(Tile(label="", height=3, width=4, pixels=raw))
    place, chunks = 8, []
    while place < len(data):
        size, kind = struct.unpack(">I4s", data[place : place + 8])
        body = data[place + 8 : place + 8 + size]
        assert struct.unpack(">I", data[place + 8 + size : place + 12 + size])[0] == zlib.crc32(kind + body)
        chunks.append((kind, body))
        place += 12 + size
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", chunks[0][1]) == (4, 3, 8, 0, 0, 0, 0)
    lines = zlib.decompress(chunks[1][1])
    assert [lines[i * 5] for i in range(3)] == [0, 0, 0]
    assert b"".join(lines[i * 5 + 1 : i * 5 + 5] for i in range(3)) == raw


def test_a_signed_picture_is_white_at_zero():
    data = png(Tile(label="", height=1, width=1, pixels=b"\x80", palette="signed"))
    palette = data[data.index(b"PLTE") + 4 :][: 3 * 256]
    assert palette[3 * 128 : 3 * 128 + 3] == b"\xff\xff\xff"
    assert palette[:3] != palette[-3:]


@pytest.mark.parametrize(("height", "pixels"), [(2, "AA=="), (0, ""), (1, "not base64!"), (1, "é")])
def test_a_damaged_picture_is_no_picture(height, pixels):
    assert tile_from_base64("x", height, 1, pixels, "grey") is None
    assert tile_from_base64("x", 1, 1, base64.b64encode(b"\x01").decode(), "grey") is not None


# Colours ------------------------------------------------------------------------------------------------


def tokens():
    """Theme -> colour token -> RGB, read from the style sheet as it is shipped."""
    import auditkit.render.charts

    css = (Path(auditkit.render.charts.__file__).parent / "charts.css").read_text()
    blocks = re.findall(r"\.ak \{(.*?)\}", css, flags=re.S)
    themes = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]
    light, dark, paper = (theme for theme in themes if "bg" in theme)
    return {"light": light, "dark": dark, "print": paper}


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXT = [
    (front, back)
    for back in ("bg", "panel", "sunk")
    for front in ("text", "muted", "accent", "pass", "fail", "inconclusive", "error", "waived")
]
TEXT += [(front, f"{state}-bg") for state in ("pass", "fail", "inconclusive", "error", "waived")
         for front in ("text", "pass", "fail", "inconclusive", "error", "waived")]  # fmt: skip
TEXT += [(f"t{i}", f"h{i}") for i in range(7)] + [("text", "allowed"), ("muted", "allowed")]
MARKS = [(f"s{i}", "panel") for i in range(6)] + [(f"d{i}", "panel") for i in range(5)]
MARKS += [
    ("rule", "panel"),
    ("focus", "bg"),
    ("focus", "panel"),
    ("fail", "allowed"),
    ("s0", "allowed"),
    ("bg", "fail"),
    ("bg", "pass"),
]


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
@pytest.mark.parametrize(("front", "back"), TEXT)
def test_text_has_a_contrast_of_four_and_a_half(theme, front, back):
    colors = tokens()[theme]
    assert contrast(colors[front], colors[back]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
@pytest.mark.parametrize(("front", "back"), MARKS)
def test_marks_have_a_contrast_of_three(theme, front, back):
    colors = tokens()[theme]
    assert contrast(colors[front], colors[back]) >= 3.0


def test_the_contrast_formula_gives_the_published_ends():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_level_labels_stand_left_of_every_curve():
    """The labels end before the first mark, whose place is read from the paths themselves."""
    for lines in ([Line(name="a", x=[0, 1], y=[0.0, 1.0])], [Line(name="b", x=[2, 9], y=[-1250.5, 3000.0])]):
        root = tree(line_chart(lines, "finding", x_label="x", y_label="y", diagonal=True))
        drawn = [float(x) for e in root.iter("path") for x in re.findall(r"[ML]([\d.]+) ", e.get("d") or "")]
        (levels,) = (g for g in root.iter("g") if g.get("class") == "ak-y")
        labels = [e for e in levels.iter("text") if e.get("x")]
        assert labels
        for text in labels:
            assert text.get("text-anchor") == "end"
            end = float(text.get("x").rstrip("%"))
            assert end * 10 < min(drawn)
            assert end / 100 * 280 >= 6 * len(text.text), "the longest label fits a phone"


def test_names_written_from_right_to_left_are_isolated_from_the_numbers_beside_them():
    name = "\u0646\u0633\u0627\u0621"
    chart = interval_chart([Row(label=name, value=0.5, n=7)], f"{name} 372, 18 %", label="rate")
    assert (tree(chart).find("figcaption").text or "") == f"\u2068{name}\u2069 372, 18 %"
    plain = interval_chart([Row(label="F", value=0.5, n=7)], "F 372", label="rate").figure().text
    assert not set("\u2068\u2069") & set(plain)


def test_long_names_that_differ_at_their_ends_stay_apart():
    rows = [Row(label="a very long name that goes on and on " + end, value=0.5) for end in ("one", "two")]
    labels = [e.text for e in tree(interval_chart(rows, "finding", label="rate")).iter("text") if "…" in (e.text or "")]
    assert len(set(labels)) == 2
    assert all(len(label) <= 36 for label in labels)


@pytest.mark.parametrize(("values", "bounds"), [([0.0, 0.0], (0.0, 1.0)), ([1.0], (0.0, 1.0)), ([0.0], (0.0, None))])
def test_an_axis_of_one_value_does_not_pass_what_is_possible(values, bounds):
    axis = make_axis(values, "share", bounds=bounds)
    assert axis.ticks[0] >= bounds[0]
    assert bounds[1] is None or axis.ticks[-1] <= bounds[1]
    assert axis.ticks[0] <= values[0] <= axis.ticks[-1]
