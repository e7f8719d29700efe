from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from auditkit.core.schema import dumps

FAIR, UNFAIR, FEW = (
    {"F": (2000, 4000), "M": (2000, 4000)},
    {"F": (1000, 4000), "M": (2000, 4000)},
    {"F": (5, 10), "M": (5, 10)},
)
INSTALLED = any(point.value == "auditkit.pytest_plugin" for point in entry_points(group="pytest11"))


def session(folder, body, *options):
    (folder / "test_release.py").write_text("import pytest\n" + body)
    loaded = [] if INSTALLED else ["-p", "auditkit.pytest_plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", *loaded, *options],
        capture_output=True, text=True, check=False, cwd=folder, encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"},
    )  # fmt: skip


@pytest.fixture
def folder(kit, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "audit.toml").write_text(kit.rule())
    for name, groups in (("fair", FAIR), ("unfair", UNFAIR), ("few", FEW)):
        (tmp_path / f"{name}.json").write_text(dumps(kit.evidence(*kit.selected(**groups))))
    return tmp_path


def test_the_mark_fails_a_test_whose_gate_does_not_pass_and_the_body_runs_when_it_does(folder):
    run = session(
        folder,
        """
@pytest.mark.auditkit(evidence="fair.json", policy="audit.toml")
def test_fair(audit):
    assert audit.verdict.state == "pass"
    assert audit.report.evidence.subject.name == "model"

@pytest.mark.auditkit(evidence="fair.json", policy="audit.toml")
def test_fair_alone():
    pass

@pytest.mark.auditkit(evidence="fair.json", policy="audit.toml")
def test_body_counts():
    assert False, "the body ran"

@pytest.mark.auditkit(evidence="unfair.json", policy="audit.toml")
def test_unfair():
    raise RuntimeError("the body must not run")

@pytest.mark.auditkit(evidence="few.json", policy="audit.toml")
def test_few():
    pass

@pytest.mark.auditkit(evidence="unfair.json", policy="audit.toml", gate=False)
def test_looked_at(audit):
    assert audit.verdict.exit_code == 1

def test_unmarked():
    pass
""",
    )
    assert "3 failed, 4 passed" in run.stdout, run.stdout + run.stderr
    assert "auditkit gate: fail (exit code 1)" in run.stdout
    assert "auditkit gate: inconclusive (exit code 4)" in run.stdout
    assert "the body ran" in run.stdout
    assert "the body must not run" not in run.stdout.split("short test summary")[1]
    assert "r fail: sex: F vs M" in run.stdout


FAULTS = {
    'evidence="none.json", policy="audit.toml"': "AK114 cannot read 'none.json'",
    'evidence="fair.json"': "there is no policy to judge by",
    'evidence="fair.json", polcy="audit.toml"': "not polcy",
    'policy="audit.toml"': "takes evidence= (needed)",
    'evidence="fair.json", policy="pytest.ini"': "AK41",
    'evidence="fair.json", policy="audit.toml", as_of="soon"': "AK323",
}


def test_a_fault_in_the_mark_fails_and_never_skips(folder):
    bodies = [f"@pytest.mark.auditkit({mark})\ndef test_{index}():\n    pass\n" for index, mark in enumerate(FAULTS)]
    run = session(folder, "\n".join([*bodies, "def test_unmarked(audit):\n    pass\n"]))
    assert run.returncode == 1
    assert "6 failed, 1 error" in run.stdout, run.stdout
    parts = run.stdout.split("________ ")
    for index, told in enumerate(FAULTS.values()):
        assert told in next(part for part in parts if part.startswith(f"test_{index} ")), told
    assert "needs @pytest.mark.auditkit(evidence=...)" in run.stdout


def test_the_plug_in_loads_nothing_of_auditkit_until_it_is_used(folder):
    run = session(
        folder,
        "import sys\ndef test_light():\n    assert not {'numpy', 'pydantic', 'auditkit.api'} & set(sys.modules)\n",
        "-p", "no:hypothesispytest",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
