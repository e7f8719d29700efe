"""The card in a real Chromium: axe, widths, colour schemes, print, requests, console, and scripts that must not run."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "render"))

import hostile  # noqa: E402
import sample  # noqa: E402

from auditkit.render.html.card import render_card  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NODE = shutil.which("node")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt-get install chromium"),
    pytest.mark.skipif(NODE is None, reason="no node on the path: apt-get install nodejs"),
    pytest.mark.skipif(not (HERE / "node_modules").is_dir(), reason="run `npm ci` in tests/browser first"),
]


def look(folder: Path, pages: dict[str, str]) -> list[dict]:
    paths = []
    for name, html in pages.items():
        path = folder / f"{name}.html"
        path.write_text(html, encoding="utf-8")
        paths.append(str(path))
    done = subprocess.run(
        [NODE, "check.mjs", CHROMIUM, *paths], cwd=HERE, capture_output=True, text=True, timeout=1100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    """The sample card and a poisoned one, each at three widths in light and dark, and printed."""
    take = hostile.Taker()
    poisoned = render_card(hostile.poison(sample.evidence(), take), hostile.poison(sample.verdict(), take))
    pages = {"sample": render_card(sample.evidence(), sample.failing()), "poisoned": poisoned}
    return look(tmp_path_factory.mktemp("pages"), pages)


def faults(views, key):
    return [(v["page"], v["width"], v["scheme"], v["media"], v[key]) for v in views if v[key]]


def test_every_view_was_looked_at(views):
    assert len(views) == 2 * 9
    assert {(v["width"], v["scheme"], v["media"], v["forced"]) for v in views} == {
        *((width, scheme, "screen", False) for width in (1280, 375, 320) for scheme in ("light", "dark")),
        (1280, "light", "print", False),
        *((1280, scheme, "screen", True) for scheme in ("light", "dark")),
    }


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


def test_the_card_prints_to_pdf():
    from auditkit.render.pdf import print_pdf

    printed = print_pdf(render_card(sample.evidence(), sample.verdict()))
    assert printed.startswith(b"%PDF-")
    assert printed.rstrip().endswith(b"%%EOF")
    assert printed.count(b"/Type /Page") > 2
