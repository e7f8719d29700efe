"""Two audits as a page."""

import dataclasses
import re

import hostile
import pytest
import sample
from click.testing import CliRunner

from auditkit.cli.main import cli
from auditkit.core.schema import dumps, seal
from auditkit.policy.moves import moves
from auditkit.render.html.compare import overall, render_compare
from auditkit.render.redact import redact

import test_render_card  # isort: skip


def moved(step):
    """The sample audit with every accuracy moved by ``step``."""
    outcomes = []
    for outcome in sample.evidence().outcomes:
        changed = []
        for m in outcome.measurements:
            if m.name == "performance.accuracy" and m.interval:
                ends = dataclasses.replace(m.interval, low=m.interval.low + step, high=m.interval.high + step)
                m = dataclasses.replace(m, value=m.value + step, interval=ends)
            changed.append(m)
        outcomes.append(dataclasses.replace(outcome, measurements=tuple(changed)))
    return sample.evidence(outcomes=tuple(outcomes))


def page(head, verdicts=(None, None)):
    pair = redact(sample.evidence()), redact(head)
    return test_render_card.Page(render_compare(pair, moves(*pair), verdicts))


def test_what_fell_is_worse_with_both_values_and_the_interval_of_the_change():
    text = page(moved(-0.3)).text
    assert "Worse" in text
    assert re.search(r"Of 131 numbers, 4 moved beyond their interval, 4 of them for the worse\.", text)
    assert "Performance: 4 worse." in text
    line = next(line for line in text.split("\n") if re.match(r"Accuracy +all rows +0\.82", line))
    assert re.search(r"0\.820 .*0\.519 .*−0\.300", line)


def test_the_clean_twin_is_quiet():
    text = page(sample.evidence()).text
    assert "No movement" in text
    assert "0 moved beyond their interval." in text
    assert "What moved" not in text
    assert overall(()) == "still"


def test_rules_stand_side_by_side_and_differing_ones_first():
    shown = page(moved(-0.3), (sample.passing(), sample.failing()))
    assert "Each audit by its own policy." in shown.text
    test_render_card.assert_inert(shown)


def test_only_shared_copies_are_taken():
    with pytest.raises(ValueError, match="redact them first"):
        render_compare((sample.evidence(), redact(sample.evidence())), ())


def test_hostile_names_stay_text():
    take = hostile.Taker()
    base = redact(hostile.poison(sample.evidence(), take))
    shown = test_render_card.Page(render_compare((base, base), moves(base, base)))
    test_render_card.assert_inert(shown)


def test_the_command_writes_the_page_without_small_groups(tmp_path):
    paths = []
    for name, evidence in (("base", sample.evidence()), ("head", moved(-0.3))):
        path = tmp_path / f"{name}.json"
        path.write_text(dumps(seal(dataclasses.replace(evidence, policy=None))), encoding="utf-8")
        paths.append(str(path))
    out = tmp_path / "moved.html"
    done = CliRunner().invoke(cli, ["--quiet", "compare", *paths, "--html", str(out)])
    assert done.exit_code == 1, done.output
    assert done.stdout.strip() == "worse"
    html = out.read_text(encoding="utf-8")
    assert html.endswith("</html>\n")
    assert "Of 131 numbers, 4 moved" in html
