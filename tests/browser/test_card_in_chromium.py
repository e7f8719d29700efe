"""The card in a real Chromium: axe, widths, colour schemes, print, requests, console, and scripts that must not run."""

import base64
import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "render"))

import explained  # noqa: E402
import hostile  # noqa: E402
import sample  # noqa: E402

from auditkit.core.evidence import ImageGrid, Outcome, Picture  # noqa: E402
from auditkit.policy.moves import Move  # noqa: E402
from auditkit.render.charts import Tile, picture_grid  # noqa: E402
from auditkit.render.charts.chart import style_sheet  # noqa: E402
from auditkit.render.html.card import render_card  # noqa: E402
from auditkit.render.html.compare import WORDS, render_compare  # noqa: E402
from auditkit.render.html.explanation import render_explanation  # noqa: E402
from auditkit.render.redact import redact  # noqa: E402

REPORTS = HERE.parents[1] / "reports"

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE = shutil.which("node")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt-get install chromium"),
    pytest.mark.skipif(NODE is None, reason="no node on the path: apt-get install nodejs"),
    pytest.mark.skipif(not (HERE / "node_modules").is_dir(), reason="run `npm ci` in tests/browser first"),
]


def look(folder: Path, pages: dict[str, str], *more: str, script: str = "check.mjs") -> list[dict]:
    paths = []
    for name, html in pages.items():
        path = folder / f"{name}.html"
        path.write_text(html, encoding="utf-8")
        paths.append(str(path))
    command = [NODE, script, CHROMIUM, *paths, *more]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=1100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def compared() -> str:
    """The page of two audits between which everything moved."""
    base = redact(sample.evidence())
    head = dataclasses.replace(base, digest="other")
    found = [
        Move(key=m.key, state=state, base=m, head=m, change=0.1, interval=m.interval)
        for m, state in zip(base.measurements(), itertools.cycle(WORDS), strict=False)
    ]
    return render_compare((base, head), found, (sample.failing(), sample.verdict()))


def pictured() -> str:
    """A card of pictures that stand eight in a line, wider than a phone."""
    pixels = base64.b64encode(bytes(range(64))).decode()
    tile = Picture(label="row 12, labelled 7: guided GradCAM", height=8, width=8, pixels=pixels, palette="grey")
    grid = ImageGrid(name="explain.saliency.maps", title="Maps by class.", pictures=(tile,) * 24, across=8)
    outcome = Outcome(analyzer="explain.saliency", version="1", status="measured", artifacts=(grid,))
    return render_card(sample.evidence(outcomes=(outcome,)))


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """The sample card, a poisoned one, the committed cards, a comparison and explained rows, each at three widths in
    light and dark, printed, and with forced colours."""
    take = hostile.Taker()
    poisoned = render_card(hostile.poison(sample.evidence(), take), hostile.poison(sample.verdict(), take))
    pages = {"sample": render_card(sample.evidence(), sample.failing()), "poisoned": poisoned, "compared": compared()}
    pages["pictured"] = pictured()
    pages |= {kind: render_explanation(explained.explained_row(kind)) for kind in ("features", "tokens", "squares")}
    pages |= {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(REPORTS.glob("*/model-card.html"))}
    return look(tmp_path_factory.mktemp("pages"), pages)


def faults(views, key):
    return [(v["page"], v["width"], v["scheme"], v["media"], v[key]) for v in views if v[key]]


def test_every_view_was_looked_at(views):
    assert len(views) == len({v["page"] for v in views}) * 11
    made = {"sample.html", "poisoned.html", "compared.html", "pictured.html"}
    assert made | {f"{path.parent.name}.html" for path in REPORTS.glob("*/model-card.html")} <= {
        v["page"] for v in views
    }
    assert {(v["width"], v["scheme"], v["media"], v["forced"]) for v in views} == {
        *((width, scheme, "screen", False) for width in (1280, 375, 320) for scheme in ("light", "dark")),
        *((width, "light", "print", False) for width in (1280, 375, 320)),
        *((1280, scheme, "screen", True) for scheme in ("light", "dark")),
    }
    # The browser was in the state that the view is named for: else dark and forced colours are never looked at.
    assert all(v["dark"] == (v["scheme"] == "dark") and v["seenForced"] == v["forced"] for v in views)


def test_every_page_is_light(views):
    assert [(v["page"], v["nodes"]) for v in views if v["nodes"] > 4000] == []


@pytest.mark.parametrize("part", range(4))
def test_the_whole_corpus_in_every_field_runs_nothing_and_asks_for_nothing(tmp_path, part):
    """Each field of evidence and verdict meets another string of the corpus on each page."""
    pages = {}
    for start in range(part * 6, part * 6 + 6):
        take = hostile.Taker(start * 10)
        poisoned = hostile.poison(sample.evidence(), take), hostile.poison(sample.verdict(), take)
        assert take.given == set(hostile.FOR_EVIDENCE)
        pages[f"poison-{start}"] = render_card(*poisoned)
    views = look(tmp_path, pages, "--once")
    assert len(views) == 6
    for key in ("ran", "requests", "messages", "openOverflow", "wide"):
        assert faults(views, key) == []
    assert all(v["title"].endswith("(auditkit model card)") for v in views)


def test_axe_finds_nothing(views):
    assert faults(views, "violations") == []


def test_the_page_never_scrolls_sideways(views):
    assert faults(views, "openOverflow") == []
    assert [v for v in views if v["scroll"] > v["client"]] == []
    assert faults(views, "wide") == []


def test_nothing_is_requested_and_the_console_is_quiet(views):
    assert faults(views, "requests") == []
    assert faults(views, "messages") == []


def test_no_hostile_string_runs(views):
    assert faults(views, "ran") == []


def test_a_script_put_into_the_finished_file_is_refused(tmp_path):
    """The page's own policy stops what someone adds to the file later; and the check itself would see a script run."""
    html = render_card(sample.evidence(outcomes=()), None)
    script = f"<script>{hostile.RUN}</script><img src='https://evil.example/p.png'>"
    injected = html.replace("</main>", script + "</main>")
    open_page = injected.replace("Content-Security-Policy", "x-no-policy")
    views = look(tmp_path, {"injected": injected, "open": open_page})
    first = [v for v in views if v["page"] == "injected.html"]
    assert not any(v["ran"] for v in first)
    assert all(any("Content Security Policy" in message for message in v["messages"]) for v in first)
    assert all(v["ran"] for v in views if v["page"] == "open.html")


def test_what_is_far_from_the_screen_is_left_for_later_and_links_search_and_print_find_it(tmp_path):
    pages = {name: (REPORTS / name / "model-card.html").read_text(encoding="utf-8") for name in ("loan", "digits")}
    for seen in look(tmp_path, pages, script="links.mjs"):
        assert len(seen["links"]) > 30
        assert seen["off"] == []
        assert 0 < seen["found"] < 900
        assert seen["text"] < seen["printed"] / 2  # the far sections were not laid out; in print they all are


def test_no_line_of_the_next_picture_shows_at_the_edge_of_a_picture(tmp_path):
    """Pictures black and white by turns on red, on screens of any scale: none holds the other shade."""
    shapes = [(8, 8), (7, 13), (64, 3), (1, 20), (150, 200)]
    charts = [picture_grid([Tile(label=str(i), height=h, width=w, pixels=bytes([255 * (i % 2)]) * (h * w))
                            for i in range(7)], f"{h} by {w}") for h, w in shapes]  # fmt: skip
    red = "body, .ak, .ak-chart, li, .ak-picture { background: #f00 !important; border-color: #f00 !important }"
    page = tmp_path / "pictures.html"
    page.write_text(f"<!doctype html><style>{style_sheet()}{red}</style><body class=ak>"
                    + "".join(chart.__html__() for chart in charts))  # fmt: skip
    sizes = ["1280@1", "320@1", "1280@1.25", "777@1.1", "375@3"]
    command = [NODE, "pictures.mjs", CHROMIUM, str(page), str(tmp_path), *sizes]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300, check=True)
    for view in json.loads(done.stdout):
        screen = np.asarray(Image.open(tmp_path / f"{view['size']}.png").convert("RGB")).astype(int)
        assert len(view["boxes"]) == 7 * len(shapes)
        for place, (name, *box) in enumerate(view["boxes"]):
            left, top, right, bottom = (round(edge * view["scale"]) for edge in box)
            seen = screen[top:bottom, left:right]
            black = int(name.removeprefix("Picture of ")) % 2 == 0
            wrong = seen[..., 1] > 20 if black else seen[..., 0] < 235
            assert not wrong.any(), (view["size"], place, name)
            assert (seen[len(seen) // 2, seen.shape[1] // 2] == (0 if black else 255)).all() or len(seen) < 8


def test_the_card_prints_to_pdf():
    from auditkit.render.pdf import print_pdf

    printed = print_pdf(render_card(sample.evidence(), sample.verdict()))
    assert printed.startswith(b"%PDF-")
    assert printed.rstrip().endswith(b"%%EOF")
    assert printed.count(b"/Type /Page") > 2
