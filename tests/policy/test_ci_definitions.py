"""The composite action and the pre-commit hook: their scripts are run here as a runner would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from auditkit.core.schema import dumps

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[2]
UNFAIR = {"F": (1000, 4000), "M": (2000, 4000)}


@pytest.fixture
def steps():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert action["runs"]["using"] == "composite"
    return {step["name"]: step for step in action["runs"]["steps"]}, action


def test_no_input_is_pasted_into_a_script(steps):
    for step in steps[0].values():
        assert "${{" not in step["run"], "an input pasted into a script can run commands: pass it through env"
        assert step["shell"] == "bash"
        used = set(re.findall(r"\$\{?([A-Z_]+)", step["run"])) - {"GITHUB_OUTPUT"}
        assert used <= set(step["env"])


def test_every_input_is_used_and_every_output_comes_from_a_step(steps):
    _, action = steps
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    for name in action["inputs"]:
        assert f"inputs.{name}" in text
    gate = steps[0]["Gate"]
    for output in action["outputs"].values():
        key = re.search(r"steps\.gate\.outputs\.([\w-]+)", output["value"]).group(1)
        assert f"{key}=" in gate["run"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="the action's scripts are for bash")
@pytest.mark.parametrize(
    ("evidence", "code", "state"), [("e.json", 1, "fail"), ("fair.json", 0, "pass"), ("none.json", 2, None)]
)
def test_the_gate_step_keeps_the_exit_code_and_sets_the_outputs(kit, steps, tmp_path, evidence, code, state):
    (tmp_path / "audit.toml").write_text(kit.rule())
    (tmp_path / "e.json").write_text(dumps(kit.evidence(*kit.selected(**UNFAIR))))
    (tmp_path / "fair.json").write_text(dumps(kit.evidence(*kit.selected(F=(2000, 4000), M=(2000, 4000)))))
    (tmp_path / "o u t").mkdir()
    (tmp_path / "o u t" / "verdict.json").write_text('{"state": "stale"}')
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "auditkit"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m auditkit.cli.main "$@"\n')
    command.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    run = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", steps[0]["Gate"]["run"]],
        capture_output=True, text=True, check=False, cwd=tmp_path, encoding="utf-8",
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "EVIDENCE": evidence,
             "POLICY": "audit.toml", "OUT": "o u t", "GITHUB_OUTPUT": str(tmp_path / "outputs"),
             "GITHUB_WORKSPACE": str(tmp_path)},
    )  # fmt: skip
    assert run.returncode == code, run.stderr
    outputs = dict(line.split("=", 1) for line in (tmp_path / "outputs").read_text().splitlines())
    assert (outputs["exit-code"], outputs.get("state")) == (str(code), state)
    assert ("::error file=audit.toml,line=1" in run.stdout) == (code == 1)
    assert (tmp_path / outputs["junit"]).exists() == (code != 2)


def test_the_hook_is_one_that_pre_commit_accepts():
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["entry"] == "auditkit gate"
    for name, wanted in {"evidence.json": True, "out/evidence.json": True, "baseline.json": True, "audit.toml": True,
                         "x/pyproject.toml": True, "data.json": False, "model.py": False}.items():  # fmt: skip
        assert bool(re.search(hook["files"], name)) is wanted
    clientlib = pytest.importorskip("pre_commit.clientlib")
    assert clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
