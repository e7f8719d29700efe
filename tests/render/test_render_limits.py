"""What a page may weigh, and that its bytes depend on nothing but the evidence."""

import dataclasses
import hashlib
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from auditkit.api import load_report
from auditkit.core.evidence import Density, ImageGrid
from auditkit.render.html.card import ASCII_COST, in_ascii, render_card
from auditkit.render.html.fit import NODES, SIZE, elements

ROOT = Path(__file__).parents[2]
CARDS = sorted((ROOT / "reports").glob("*/model-card.html"))
CODE = (
    "import sys, hashlib; from auditkit.api import load_report;"
    "print(hashlib.sha256(load_report(sys.argv[1]).to_html().encode()).hexdigest())"
)


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_every_sample_card_is_light_and_leaves_no_number_out(path):
    html = path.read_text(encoding="utf-8")
    assert len(unescape(html).encode()) <= SIZE < 800_000
    assert len(html.encode()) <= SIZE * ASCII_COST
    assert elements(html) <= NODES < 4_000
    shown = re.sub(r"(?s)<script.*?</script>", "", html)
    evidence = load_report(path.with_name("evidence.json")).evidence
    wanted = {outcome.analyzer: len(outcome.measurements) for outcome in evidence.outcomes if outcome.measurements}
    assert len(re.findall(r", all \d+ numbers</summary>", shown)) == len(wanted)
    assert sorted(map(int, re.findall(r", all (\d+) numbers</summary>", shown))) == sorted(wanted.values())


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.parent.name)
def test_a_card_of_few_letters_beyond_ascii_is_ascii_and_reads_the_same(path):
    html = path.read_text(encoding="utf-8")
    assert html.isascii()
    assert "\u2212" in unescape(html)
    assert "&#" not in html.partition("</style>")[0].partition("<style>")[2]
    assert "&#" not in html.partition("<script")[2]


def test_a_card_in_another_script_keeps_its_letters():
    page = "<p>" + "\u4e2d\u6587" * 50
    assert in_ascii(page) == page
    assert unescape(in_ascii("x" * 10_000 + page[:9])) == "x" * 10_000 + page[:9]


def test_the_reference_card_keeps_the_limits_of_its_benchmark(monkeypatch):
    """36 bars, 40,000 attributions, 16 overlays; see benchmarks/results/card.md for its load beside other reports."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "card_in_browser"))
    from reference import reference
    from run import without_pictures

    evidence = reference()
    bars = [m for m in evidence.measurements() if m.interval]
    strips = [sum(map(sum, a.counts)) for a in evidence.artifacts() if isinstance(a, Density)]
    pictures = [len(a.pictures) for a in evidence.artifacts() if isinstance(a, ImageGrid)]
    assert (len(bars), strips, pictures) == (36, [40_000], [16])
    card = render_card(evidence)
    bare, shown, _ = without_pictures(card)
    assert len(card.encode()) <= 500_000
    assert bare <= 150_000
    assert shown > 10_000  # the pictures are there
    assert elements(card) <= 2_000
    assert card.count('class="ak-picture"') == 16


def pythons():
    """This interpreter, and others on the path that can import what the core needs."""
    found = [sys.executable]
    for minor in range(11, 16):
        other = shutil.which(f"python3.{minor}")
        needs = [other, "-c", "import jinja2, numpy, pydantic"]
        ready = other and subprocess.run(needs, capture_output=True, check=False).returncode == 0
        if ready and os.path.realpath(other) != os.path.realpath(sys.executable):
            found.append(other)
    return found


@pytest.mark.parametrize("python", pythons())
def test_same_bytes_for_hash_seeds_zones_locales_and_interpreters(python):
    path = ROOT / "reports" / "digits" / "evidence.json"
    want = hashlib.sha256(load_report(path).to_html().encode()).hexdigest()
    settings = (("1", "Asia/Kathmandu", "C"), ("4242", "America/St_Johns", "C.UTF-8"), ("77", "UTC", "POSIX"))
    for seed, zone, locale in settings:
        env = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([python, "-c", CODE, str(path)], capture_output=True, text=True, env=env, check=True)
        assert done.stdout.strip() == want, (seed, zone, locale)


def turned(value):
    """``value`` with the keys of every mapping in reverse order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    if dataclasses.is_dataclass(value):
        fields = {f.name: turned(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **fields)
    return tuple(map(turned, value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", ["loan", "diabetes"])
def test_the_page_does_not_hang_on_the_order_in_which_mappings_were_filled(name):
    evidence = load_report(ROOT / "reports" / name / "evidence.json").evidence
    other = turned(evidence)
    assert list(other.subject.test.sensitive) == list(evidence.subject.test.sensitive)[::-1]
    assert other == evidence
    assert render_card(other) == render_card(evidence)
