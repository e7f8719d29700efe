"""``auditkit gate`` as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from auditkit.core.schema import dumps

FAIR, UNFAIR = {"F": (2000, 4000), "M": (2000, 4000)}, {"F": (1000, 4000), "M": (2000, 4000)}


def gate(*args, **environment):
    return subprocess.run(
        [sys.executable, "-m", "auditkit.cli.main", "gate", *map(str, args)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


@pytest.fixture
def files(kit, tmp_path):
    (tmp_path / "audit.toml").write_text('[model]\npath = "m"\n' + kit.rule())
    (tmp_path / "fair.json").write_text(dumps(kit.evidence(*kit.selected(**FAIR))))
    (tmp_path / "unfair.json").write_text(dumps(kit.evidence(*kit.selected(**UNFAIR))))
    return tmp_path


def test_state_on_stdout_table_on_stderr_and_the_exit_code(files):
    good = gate(files / "fair.json", "--policy", files / "audit.toml")
    assert (good.returncode, good.stdout) == (0, "pass\n"), good.stderr
    bad = gate(files / "unfair.json", "--policy", files / "audit.toml", COLUMNS="80")
    assert (bad.returncode, bad.stdout) == (1, "fail\n")
    assert "FAIL  r: ratio of fairness.selection_rate >= 0.8" in bad.stderr
    assert "F 0.250 (n=4,000)" in bad.stderr
    assert "0.500 [0.469, 0.532]" in bad.stderr
    assert max(map(len, bad.stderr.splitlines())) <= 80
    assert "\x1b" not in bad.stderr


def test_quiet_and_the_junit_and_json_outputs(files):
    target = files / "sub" / "gate.xml"
    run = gate(files / "unfair.json", "--policy", files / "audit.toml", "--quiet", "--output", f"junit={target},json=-")
    assert run.returncode == 1
    assert run.stderr == ""
    assert json.loads(run.stdout)["exit_code"] == 1
    case = ElementTree.parse(target).find(".//testcase")
    assert (case.get("name"), case.get("line")) == ("r", "3")
    assert case.find("failure").get("type") == "fail"


def test_the_embedded_policy_is_the_default(kit, tmp_path):
    policy = {"rule": [{"id": "e", "metric": "selection_rate", "compare": "ratio", "over": ["sex"], "min": 0.8}]}
    evidence = kit.replace(kit.evidence(*kit.selected(**UNFAIR)), policy=policy)
    (tmp_path / "evidence.json").write_text(dumps(evidence))
    run = gate(tmp_path / "evidence.json")
    assert (run.returncode, run.stdout) == (1, "fail\n"), run.stderr


def test_pyproject_holds_a_policy_too(kit, files):
    text = kit.rule().replace("[[rule]]", "[[tool.auditkit.rule]]")
    (files / "pyproject.toml").write_text('[project]\nname = "x"\n' + text)
    assert gate(files / "fair.json", "--policy", files / "pyproject.toml").returncode == 0
    (files / "pyproject.toml").write_text('[project]\nname = "x"\n')
    missing = gate(files / "fair.json", "--policy", files / "pyproject.toml")
    assert missing.returncode == 2
    assert "AK413 pyproject.toml has no [tool.auditkit]" in missing.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--as-of", "tomorrow"], "AK414 --as-of 'tomorrow' is not a date"),
        (["--output", "pdf=x"], "AK415 --output 'pdf=x' is not FORM=FILE"),
        (["--output", "junit"], "AK415"),
    ],
)
def test_wrong_options_exit_2_without_a_traceback(files, args, words):
    run = gate(files / "fair.json", "--policy", files / "audit.toml", *args)
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_an_unwritable_output_exits_2(files):
    (files / "file").write_text("")
    run = gate(files / "fair.json", "--policy", files / "audit.toml", "--output", f"junit={files / 'file' / 'x.xml'}")
    assert run.returncode == 2
    assert "AK416 the junit output cannot be written" in run.stderr


def test_nothing_heavy_is_loaded(files):
    code = (
        "import sys\n"
        "from auditkit.cli.main import main\n"
        f"sys.argv = ['auditkit', 'gate', {str(files / 'fair.json')!r}, '--policy', {str(files / 'audit.toml')!r}]\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert left.code == 0, left.code\n"
        "heavy = ['torch', 'sklearn', 'scipy', 'pandas', 'shap', 'captum', 'art', 'opacus', 'fairlearn', 'duckdb']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.splitlines()[-1] == "[]", run.stdout + run.stderr


def test_names_cannot_paint_the_terminal_or_break_the_xml(kit, tmp_path):
    hostile = "M\x1b[31m<b>&\x00\u202e"
    evidence = kit.evidence(*kit.selected(**{"F": (1000, 4000), hostile: (2000, 4000)}))
    (tmp_path / "e.json").write_text(dumps(evidence))
    (tmp_path / "audit.toml").write_text(kit.rule())
    run = gate(tmp_path / "e.json", "--policy", tmp_path / "audit.toml", "--output", f"junit={tmp_path / 'j.xml'}")
    assert run.returncode == 1
    assert not set(run.stderr) & set("\x1b\x00\u202e")
    assert "M<b>&" in run.stderr
    ElementTree.parse(tmp_path / "j.xml")
