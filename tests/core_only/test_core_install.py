"""With only the core dependencies: audit saved predictions, gate, render, verify. Run by `make test-core`.

These tests also pass where everything is installed: heavy packages are then blocked from being imported.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn", "shap", "lime", "captum", "art", "opacus", "fairlearn")

# Hides the packages as if they were not installed: neither modules nor distributions are found.
BLOCK = (
    f"HEAVY = {HEAVY!r}\n"
    + """
import importlib.machinery, importlib.metadata
found = importlib.machinery.PathFinder.find_spec.__func__
def hidden(cls, name, path=None, target=None):
    return None if name.split(".")[0] in HEAVY else found(cls, name, path, target)
importlib.machinery.PathFinder.find_spec = classmethod(hidden)
asked = importlib.metadata.distribution
DISTRIBUTIONS = (*HEAVY, "scikit-learn", "adversarial-robustness-toolbox", "skops", "safetensors", "dp-accounting",
    "mlflow-skinny")
def distribution(name):
    if name.lower().replace("_", "-") in DISTRIBUTIONS:
        raise importlib.metadata.PackageNotFoundError(name)
    return asked(name)
importlib.metadata.distribution = distribution
"""
)

POLICY = """
version = 1

[data]
test = "predictions.csv"
target = "approved"
prediction = "decision"
score = "score"
positive = "1"
sensitive = ["sex"]

[[rule]]
id = "equal-selection"
metric = "fairness.selection_rate"
compare = "difference"
over = ["sex"]
max = %s
"""


@pytest.fixture
def folder(tmp_path):
    """A CSV of 2,000 saved predictions whose selection rates differ by 0.3 between the sexes."""
    rng = random.Random(0)
    with (tmp_path / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["approved", "decision", "score", "sex"])
        for row in range(2000):
            sex = "F" if row % 2 else "M"
            decision = int(rng.random() < (0.3 if sex == "F" else 0.6))
            label = int(rng.random() < (0.8 if decision else 0.2))
            writer.writerow([label, decision, round(0.5 * decision + 0.5 * rng.random(), 6), sex])
    block = tmp_path / "site"
    block.mkdir()
    (block / "sitecustomize.py").write_text(BLOCK)
    return tmp_path


def auditkit(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder / "site"), "NO_COLOR": "1"}
    command = [sys.executable, "-m", "auditkit.cli.main", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)


def test_heavy_packages_are_out_of_reach(folder):
    environment = {**os.environ, "PYTHONPATH": str(folder / "site")}
    for package in HEAVY:
        done = subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True, env=environment)
        assert done.returncode, package


def test_saved_predictions_are_audited_gated_rendered_and_verified(folder):
    (folder / "audit.toml").write_text(POLICY % 0.1)
    done = auditkit(folder, "run", "audit.toml", "--out", "o")
    assert done.returncode == 0, done.stderr
    evidence = json.loads((folder / "o" / "evidence.json").read_text())
    measured = {o["analyzer"] for o in evidence["outcomes"] if o["status"] == "measured"}
    assert {"performance", "fairness.groups"} <= measured
    values = {
        m["name"]: m["value"]
        for o in evidence["outcomes"]
        for m in o.get("measurements", ())
        if not m.get("slice") and not m.get("params")
    }
    assert values["fairness.selection_rate.difference"] == pytest.approx(0.3, abs=0.06)
    assert (folder / "o" / "model-card.html").stat().st_size > 5_000

    gated = auditkit(folder, "gate", "o/evidence.json", "--output", "junit=j.xml")
    assert gated.returncode == 1, gated.stderr
    assert "equal-selection" in gated.stderr + gated.stdout
    assert "<failure" in (folder / "j.xml").read_text()

    (folder / "lenient.toml").write_text(POLICY % 0.5)
    assert auditkit(folder, "gate", "o/evidence.json", "--policy", "lenient.toml").returncode == 0

    for kind in ("html", "md", "csv", "json"):
        shown = auditkit(folder, "render", "o/evidence.json", "--format", kind, "--out", f"card.{kind}")
        assert shown.returncode == 0, shown.stderr
        assert (folder / f"card.{kind}").stat().st_size > 1_000
    assert auditkit(folder, "verify", "o/evidence.json").returncode == 0
    assert auditkit(folder, "verify", "o/model-card.html").returncode == 0


def test_edited_evidence_is_not_verified(folder):
    (folder / "audit.toml").write_text(POLICY % 0.1)
    auditkit(folder, "run", "audit.toml", "--out", "o")
    path = folder / "o" / "evidence.json"
    path.write_text(path.read_text().replace('"n_rows":2000', '"n_rows":2001'))
    done = auditkit(folder, "verify", "o/evidence.json")
    assert done.returncode == 1
    assert "does not match its own digest" in done.stderr
    gated = auditkit(folder, "gate", "o/evidence.json")
    assert gated.returncode == 2
    assert "AK113" in gated.stderr


def test_what_needs_a_model_is_shown_as_not_applicable(folder):
    (folder / "audit.toml").write_text(POLICY % 0.1)
    auditkit(folder, "run", "audit.toml", "--out", "o")
    evidence = json.loads((folder / "o" / "evidence.json").read_text())
    status = {o["analyzer"]: o["status"] for o in evidence["outcomes"]}
    assert status["explain.shap"] == status["robustness.adversarial"] == "not_applicable"


def test_doctor_names_the_pip_line_for_each_missing_extra(folder):
    done = auditkit(folder, "doctor")
    assert done.returncode == 0, done.stderr
    assert 'pip install "auditkit[explain,fairness,mlflow,privacy,robustness,sklearn,torch]"' in done.stdout
