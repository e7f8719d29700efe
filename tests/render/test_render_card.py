"""The page: its structure, its safety, its bytes."""

import base64
import dataclasses
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import hostile
import pytest
import sample

from auditkit.core.evidence import Evidence, Measurement, Outcome
from auditkit.core.packed import unpacked
from auditkit.core.schema import from_document, seal
from auditkit.render.html.card import EMBED_LIMIT, render_card
from auditkit.render.html.families import family_views
from auditkit.render.redact import redact
from auditkit.render.text import clean

TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "nav",
        "main",
        "section",
        "article",
        "footer",
        "script",
    ),
    *(
        "a",
        "div",
        "p",
        "h1",
        "h2",
        "h3",
        "dl",
        "dt",
        "dd",
        "ul",
        "li",
        "span",
        "b",
        "i",
        "br",
        "code",
        "pre",
        "mark",
    ),
    *("details", "summary", "figure", "figcaption", "table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "g", "circle", "path", "text", "tspan", "defs", "image", "use"),
}
POLICY = re.compile(
    r"default-src 'none'; img-src data:; style-src 'sha256-([A-Za-z0-9+/=]{44})'; base-uri 'none'; form-action 'none'"
)


class Page(HTMLParser):
    """Every element with its attributes, and the text, as a browser would take them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw: dict[str, str] = {"style": "", "script": ""}
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        if inside in self.raw:
            self.raw[inside] += data
        else:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return "".join(self.words)


@pytest.fixture(scope="module")
def html():
    return render_card(sample.evidence(), sample.verdict())


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def assert_inert(page: Page) -> None:
    """No element or attribute that could run, load, or style anything."""
    assert {tag for tag, _ in page.elements} <= TAGS
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert name != "style", tag
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src"):
                assert value.startswith("data:image/png;base64," if tag == "image" else "#"), value[:60]
    scripts = [attributes.get("type") for attributes in page.all("script")]
    assert scripts == ["application/json"] * len(scripts)
    assert len(scripts) <= 2  # the evidence and its verdict
    assert [a["http-equiv"] for a in page.all("meta") if "http-equiv" in a] == ["Content-Security-Policy"]


def test_the_policy_is_strict_and_its_hash_is_that_of_the_style_sheet(page):
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    found = POLICY.fullmatch(policy)
    assert found
    digest = base64.b64encode(hashlib.sha256(page.raw["style"].encode()).digest()).decode()
    assert found.group(1) == digest
    assert "url(" not in page.raw["style"]
    assert "@import" not in page.raw["style"]


def test_the_page_is_inert_and_holds_no_outside_address(html, page):
    assert_inert(page)
    outside = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.S)
    assert not re.search(r"(?:https?:)?//[a-z]", outside)


@pytest.mark.parametrize("start", [0, 37, 74, 111, 148, 185])
def test_hostile_names_and_values_stay_text(start):
    take = hostile.Taker(start)
    evidence = seal(
        dataclasses.replace(
            hostile.poison(sample.evidence(), take), card={"title": take(), "summary": take(), take(): take()}
        )
    )
    verdict = hostile.poison(sample.verdict(), take)
    assert take.given == set(hostile.FOR_EVIDENCE)
    html = render_card(evidence, verdict)
    page = Page(html)
    assert_inert(page)
    assert html.endswith("</html>\n")
    own = re.sub("\u2068[^\u2066-\u2069<>&]*\u2069", "", html)  # whole isolates around right-to-left words, by us
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]", own)
    json.JSONDecoder().raw_decode(page.raw["script"])[0]
    assert clean(verdict.results[0].id) in page.text
    html.encode("utf-8")


def test_the_glossary_says_what_a_third_party_says_of_its_numbers():
    said = {"acme.zeal": "Share of rows that an <b>acme</b> model is keen on."}
    measured = (sample.rate("acme.zeal", 0.4, 200), sample.rate("acme.calm", 0.4, 200))
    outcome = Outcome(analyzer="acme.x", version="1", status="measured", measurements=measured, meanings=said)
    page = Page(render_card(seal(sample.evidence(outcomes=(outcome,)))))
    assert_inert(page)
    assert "Zeal: Share of rows that an <b>acme</b> model is keen on." in page.text
    assert "Calm:" not in page.text


def test_there_are_enough_hostile_strings():
    assert len(set(hostile.CORPUS)) >= 200


def test_headings_descend_one_level_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_ids_are_unique_and_every_link_has_its_end(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"][1:] for attributes in page.all("a")}
    assert targets <= set(ids)


def anchored(page: Page) -> list[str]:
    return [a["id"] for a in page.all("span") if a.get("id", "").startswith("m-")]


def test_every_measurement_of_the_shared_copy_has_an_anchor(page):
    rows = anchored(page)
    assert len(rows) == len(set(rows)) == len(list(redact(sample.evidence()).measurements()))


def test_anchors_of_the_same_key_twice_differ():
    twice = sample.rate("acme.flip_rate", 0.5, 100)
    evidence = sample.evidence(
        outcomes=(Outcome(analyzer="acme.x", version="1", status="measured", measurements=(twice, twice)),)
    )
    assert len(set(anchored(Page(render_card(evidence))))) == 2


def test_every_drawing_is_named_or_hidden(page):
    for attributes in page.all("svg"):
        assert attributes.get("aria-hidden") == "true" or attributes.get("role") == "img"
    assert sum(a.get("role") == "img" for a in page.all("svg")) >= 20


def test_every_table_scrolls_in_a_region_of_its_own_name(page):
    regions = [a for a in page.all("div") if a.get("role") == "region"]
    assert len(regions) == len(page.all("table")) + len(page.all("pre"))
    assert all(a.get("tabindex") == "0" for a in regions)
    names = [a["aria-label"] for a in regions]
    assert len(set(names)) == len(names)


def test_the_first_screen_says_verdict_why_policy_and_counts(page):
    text = page.text
    start = text.index("Not judged")
    first = text[start : text.index("Every rule of the policy, those")]
    for words in (
        "Of 6 rules, 2 are broken, 1 could not be judged, 1 cannot be decided with these rows, 1 is broken under a "
        "waiver and 1 holds.",
        "no-leak",
        "selection-by-sex",
        "By policy audit.toml, 6 rules, as of 2026-11-21",
        "privacy.dp_training",
    ):
        assert words in first
    assert first.index("selection-by-sex") < first.index("no-leak") < first.index("errors-by-age")
    assert re.search(r"1\s+passed", first)
    assert re.search(r"2\s+failed", first)


def test_a_pass_shows_its_comparison_too(page):
    passing = page.text[page.text.index("accurate-enough Passed") :]
    assert "0.802 to 0.836" in passing[:1500]


def test_everything_not_measured_is_there_with_its_reason(page):
    for outcome in sample.evidence().outcomes:
        if outcome.status != "measured":
            assert clean(outcome.reason) in page.text


def test_a_third_partys_analyzer_gets_a_section_with_a_chart(page):
    text = page.text
    section = text[text.index("Measured by an analyzer that is not part of auditkit.") :]
    assert "Flip rate by sex runs from 0.021 for M to 0.083 for F" in section


def test_no_value_is_shown_raw(page):
    assert not re.search(r"\b(None|nan|NaN|inf)\b", page.text)
    assert "fewer than half of the rows could be changed" in page.text
    assert "Not to be relied upon: the gradient is zero for half of the rows" in page.text


def test_missing_prose_is_said_plainly(page):
    assert "Not stated. The owner can add it as ethical_considerations in [card]." in page.text


def test_the_embedded_copy_is_the_redacted_evidence(page):
    packed, _ = json.JSONDecoder().raw_decode(page.raw["script"])  # the verdict follows
    document = unpacked(packed)
    assert document["redacted"] is True
    assert "run" not in document
    assert from_document(document) == redact(sample.evidence())


def test_a_large_copy_is_left_out_and_named():
    many = tuple(sample.rate("acme.x", 0.5, 100, params={"k": i, "pad": f"{i:0200}"}) for i in range(4000))
    evidence = sample.evidence(
        outcomes=(Outcome(analyzer="acme.x", version="1", status="measured", measurements=many),)
    )
    html = render_card(evidence)
    embedded, named = "application/json" in html, f"its digest is {redact(evidence).digest}" in html
    assert not embedded  # of plain booleans: a failure must not print a page of a megabyte
    assert named
    assert EMBED_LIMIT == 600_000


def test_a_typical_card_is_small(html):
    assert len(html.encode()) <= 500_000


def test_without_a_policy_nothing_is_judged():
    text = Page(render_card(sample.evidence(), None)).text
    assert "Measured, not judged" in text
    assert "Every rule of the policy" not in text


def test_a_page_that_judges_nothing_begins_with_a_number_of_each_part():
    def first_screen(evidence, verdict=None):
        return render_card(evidence, verdict).partition('<section id="verdict"')[2].partition("</section>")[0]

    shown = first_screen(sample.evidence(policy=None))
    parts = dict(re.findall(r'<a href="#(m-[^"]+)"><i>([^<]+)</i>', shown))
    assert list(parts.values()) == ["Performance", "Fairness", "Robustness", "Privacy"]
    page = render_card(sample.evidence(policy=None))
    assert all(f'id="{anchor}"' in page for anchor in parts)
    assert 'class="tiles"' not in first_screen(sample.evidence(), sample.verdict())


def test_the_first_drawings_of_fairness_are_of_what_its_key_numbers_are_about():
    names = ("accuracy", "balanced_accuracy", "false_positive_rate", "selection_rate", "true_positive_rate")
    measured = [
        Measurement(name=f"fairness.{name}", value=value, n=400, slice={"sex": sex}, reason="exact")
        for name in names
        for sex, value in (("F", 0.3), ("M", 0.4))
    ]
    outcome = Outcome(analyzer="fairness.groups", version="1", status="measured", measurements=measured)
    (view,) = family_views(seal(sample.evidence(outcomes=(outcome,))), frozenset())
    assert [chart.title.partition(" by sex")[0] for chart in (*view.charts, *view.folded)] == [
        "Selection rate",
        "True positive rate",
        "False positive rate",
        "Accuracy",
        "Balanced accuracy",
    ]
    (view,) = family_views(seal(sample.evidence(outcomes=(outcome,))), frozenset({"fairness.accuracy"}))
    assert view.charts[0].title.startswith("Accuracy by sex")


def test_an_evidence_without_outcomes_still_makes_a_page():
    page = Page(render_card(sample.evidence(outcomes=()), sample.passing()))
    assert_inert(page)
    assert "Passed" in page.text


def test_times_and_machines_do_not_change_the_page(html):
    other = sample.evidence(run=dataclasses.replace(sample.evidence().run, started="2031-01-01", platform="Windows"))
    assert render_card(other, sample.verdict()) == html
    assert "host7" not in html


def test_rendering_the_shared_copy_shows_the_same_numbers(html):
    again = Page(render_card(redact(sample.evidence()), sample.verdict()))
    assert again.raw["script"] == Page(html).raw["script"]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_same_evidence_same_bytes_in_another_process(zone, html):
    code = (
        "import sys,hashlib; sys.path.insert(0, sys.argv[1]); import sample;"
        "from auditkit.render.html.card import render_card;"
        "print(hashlib.sha256(render_card(sample.evidence(), sample.verdict()).encode()).hexdigest())"
    )
    env = {**os.environ, "PYTHONHASHSEED": "1" if zone == "UTC" else "4242", "TZ": zone, "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout.strip() == hashlib.sha256(html.encode()).hexdigest()


def test_markup_is_made_in_two_places_only():
    """The audited ways by which markup enters a page: the SVG writer, and the card's style, policy and JSON."""
    root = Path(__file__).parents[2] / "auditkit" / "render"
    uses = {}
    for path in root.rglob("*.py"):
        uses[path.relative_to(root).as_posix()] = len(re.findall(r"\bMarkup\(", path.read_text()))
    assert {name: n for name, n in uses.items() if n} == {"charts/svg.py": 7, "html/card.py": 4}
    templates = "".join(path.read_text() for path in root.rglob("templates/*.html"))
    assert "|safe" not in templates.replace(" ", "")
    assert "autoescape" not in templates


def test_a_measurement_without_a_value_is_an_em_dash_with_its_reason():
    lost = Measurement(name="acme.lost", value=None, reason="nothing to divide by")
    outcome = Outcome(analyzer="acme.x", version="1", status="measured", measurements=(lost,))
    text = Page(render_card(sample.evidence(outcomes=(outcome,)))).text
    assert "nothing to divide by" in text
    assert isinstance(sample.evidence(), Evidence)


def test_many_groups_are_drawn_by_their_ends_and_a_large_page_by_fewer_charts():
    many = tuple(
        sample.rate(f"acme.x{i % 40:02}", 0.2 + (i // 40) / 100, 100, slice={"g": f"g{i // 40:02}"})
        for i in range(2000)
    )
    outcome = Outcome(analyzer="acme.x", version="1", status="measured", measurements=many)
    page = Page(render_card(sample.evidence(outcomes=(outcome,))))
    assert "by g (24 of 50 groups are drawn) runs from 0.200 for g00 to 0.690 for g49" in page.text
    assert "drawings are left out to keep this page small" in page.text
    assert len(page.elements) <= 4000
    own = anchored(page)
    assert len(own) == len(set(own)) >= 150
    numbers = page.text[page.text.index("Of what") :]
    assert all(
        len(re.findall(rf"\n +g g{i:02} ", numbers)) + len(re.findall(rf"\ng g{i:02} ", numbers)) == 40
        for i in range(50)
    )
    assert sum(a.get("id", "").startswith("q-") for a in page.all("b")) == 40


def test_families_whose_names_hold_no_letters_keep_apart():
    named = [
        Outcome(analyzer=f"{family}.a", version="1", status="measured", measurements=(sample.rate("q.x", 0.5, 100),))
        for family in ("===", "]]>", "'''")
    ]
    html = render_card(sample.evidence(outcomes=tuple(named)))
    ids = re.findall(r'<section id="(family-[^"]+)"', html)
    assert sorted(ids) == ["family-x", "family-x--2", "family-x--3"]
    assert all(f'href="#{anchor}"' in html for anchor in ids)


def test_a_key_number_that_is_withheld_gives_way_to_one_that_is_not():
    def gap(column, value, reason=None):
        return Measurement(
            name="fairness.selection_rate.difference", value=value, n=400, over=(column,), reason=reason or "exact"
        )

    numbers = (gap("race", None, "withheld in shared copies"), gap("sex", 0.123))
    outcome = Outcome(analyzer="fairness.groups", version="1", status="measured", measurements=numbers)
    tiles = family_views(seal(sample.evidence(outcomes=(outcome,))), frozenset(), 10)[0].tiles
    assert [tile.value for tile in tiles][:1] == ["0.123"]
    assert len(tiles) == 2


def test_the_strongest_attack_and_the_dearest_privacy_are_the_key_numbers():

    def one(name, value, direction, reason=None, **params):
        return Measurement(
            name=name, value=value, n=900, params=params, direction=direction, reason=reason or "exact: a test"
        )

    measured = (
        one("privacy.dp_accuracy", 0.9, "higher", arm="non-private"),
        one("privacy.dp_accuracy", 0.7, "higher", arm="private"),
        one("privacy.membership_auc", 0.51, "lower", attack="loss"),
        one("privacy.membership_auc", None, "lower", attack="rmia", reason="it was not made"),
        one("privacy.membership_auc", 0.62, "lower", attack="lira-online"),
    )
    outcome = Outcome(analyzer="privacy.membership", version="1", status="measured", measurements=measured)
    (view,) = family_views(sample.evidence(outcomes=(outcome,)), frozenset())
    shown = [(tile.value, tile.detail.split(", ")[-1]) for tile in view.tiles]
    assert ("0.700", "arm private") in shown[:2]
    assert ("0.620", "attack lira-online") in shown[:2]
