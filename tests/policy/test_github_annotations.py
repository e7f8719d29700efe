from __future__ import annotations

import os
import re
import subprocess
import sys

from auditkit.core.evidence import Outcome
from auditkit.core.schema import dumps
from auditkit.render.github import MOST, render_github

FAIR, UNFAIR = {"F": (2000, 4000), "M": (2000, 4000)}, {"F": (1000, 4000), "M": (2000, 4000)}
WAIVER = '[[waiver]]\nrule = "w"\nowner = "a@b"\nreason = "known"\nticket = "T"\nexpires = 2026-07-01\n'
COMMAND = re.compile(r"::(error|warning|notice) ([^\r\n]*?)::([^\r\n]*)")


def lines_of(verdict, file="conf/audit.toml"):
    text = render_github(verdict, file)
    assert text == "" or text.endswith("\n")
    found = [COMMAND.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    return [match.groups() for match in found]


def test_a_level_and_a_line_for_each_state(kit):
    text = (
        kit.rule(id="p", min=0.1)
        + kit.rule(id="f")
        + kit.rule(id="i", min=0.5)
        + kit.rule(id="e", over=["age"])
        + kit.rule(id="w")
        + kit.rule(id="soft", level="warning")
        + WAIVER
    )
    found = lines_of(kit.judge(kit.evidence(*kit.selected(**UNFAIR)), text))
    assert [(level, re.search(r"auditkit%3A (\w+) (\w+)", properties).groups()) for level, properties, _ in found] == [
        ("error", ("e", "error")),
        ("error", ("f", "fail")),
        ("error", ("i", "inconclusive")),
        ("warning", ("soft", "fail")),
        ("notice", ("w", "waived")),
    ]
    assert "file=conf/audit.toml,line=7," in found[1][1]
    assert "sex: F vs M" in found[1][2]


def test_a_pass_is_silent_and_what_does_not_pass_never_is(kit):
    evidence = kit.evidence(*kit.selected(**FAIR))
    assert lines_of(kit.judge(evidence, kit.rule())) == []
    assert [level for level, _, _ in lines_of(kit.judge(evidence, "[groups]\n"))] == ["error"]
    crashed = Outcome(analyzer="a.b", version="1", status="failed", reason="boom")
    (found,) = lines_of(kit.judge(kit.evidence(*kit.selected(**FAIR), others=[crashed]), kit.rule()))
    assert found[2] == "a.b failed: boom"


def test_at_most_nine_of_a_level_and_how_many_more(kit):
    text = "".join(kit.rule(id=f"r{index}") for index in range(30))
    found = lines_of(kit.judge(kit.evidence(*kit.selected(**UNFAIR)), text))
    assert len(found) == MOST + 1 == 10
    assert found[-1][2] == "and 21 more"
    exact = "".join(kit.rule(id=f"r{index}") for index in range(MOST))
    assert len(lines_of(kit.judge(kit.evidence(*kit.selected(**UNFAIR)), exact))) == MOST


def test_names_can_start_no_command_and_forge_no_property(kit):
    hostile = "M,line=9::\r\n::add-mask::50%\x1b[31m"
    evidence = kit.evidence(*kit.selected(**{"F": (1000, 4000), hostile: (2000, 4000)}))
    (found,) = lines_of(kit.judge(evidence, kit.rule(id="a,b: c")))
    assert "%0D%0A::add-mask::50%25" in found[2]
    assert "\x1b" not in found[2]
    assert "title=auditkit%3A a%2Cb%3A c fail" in found[1]


def test_the_command_writes_annotations_to_stdout_at_the_path_in_the_checkout(kit, tmp_path):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "audit.toml").write_text(kit.rule())
    hostile = {"F": (1000, 4000), "::error::" + "x" * 30: (2000, 4000)}
    (tmp_path / "e.json").write_text(dumps(kit.evidence(*kit.selected(**hostile))))
    run = subprocess.run(
        [sys.executable, "-m", "auditkit.cli.main", "gate", "e.json", "--policy", "conf/audit.toml",
         "--output", f"github,junit={tmp_path / 'j.xml'}"],
        capture_output=True, text=True, check=False, cwd=tmp_path, encoding="utf-8",
        env={**os.environ, "GITHUB_WORKSPACE": str(tmp_path), "PYTHONIOENCODING": "utf-8", "COLUMNS": "40"},
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stdout.startswith("::error file=conf/audit.toml,line=1,title=auditkit%3A r fail::ratio of")
    assert run.stdout.count("\n") == 1
    assert not [line for line in run.stderr.splitlines() if line.strip().startswith("::")]
    assert (tmp_path / "j.xml").exists()
