"""What ``auditkit gate --output`` writes may be shared: small groups are withheld, and the step summary is added."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from auditkit.cli.main import cli
from auditkit.core.schema import dumps

# The small group's rate, 3 of 7, can be told by its digits alone.
SMALL = {"F": (2000, 4000), "M": (2000, 4000), "X": (3, 7)}
LARGE = {"F": (2000, 4000), "M": (2000, 4000), "X": (300, 700)}
FORMS = ("junit", "sarif", "gitlab", "metrics", "summary", "json")


def written(kit, tmp_path, groups, form):
    (tmp_path / "audit.toml").write_text(kit.rule(id="first", compare="difference", min=None, max=0.001))
    (tmp_path / "evidence.json").write_text(dumps(kit.evidence(*kit.selected(**groups))))
    policy, evidence = str(tmp_path / "audit.toml"), str(tmp_path / "evidence.json")
    done = CliRunner().invoke(cli, ["gate", evidence, "--policy", policy, "--output", f"{form}={tmp_path / 'out'}"])
    assert done.exit_code in (1, 4), done.output
    return (tmp_path / "out").read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FORMS)
def test_no_output_tells_the_rate_of_a_small_group(kit, tmp_path, form):
    assert "0.428" not in written(kit, tmp_path, SMALL, form)


@pytest.mark.parametrize("form", ["json", "sarif", "junit", "summary"])
def test_the_rate_of_a_large_group_is_told(kit, tmp_path, form):
    assert "0.428" in written(kit, tmp_path, LARGE, form).replace("0.4285", "0.428")


def test_github_adds_the_summary_to_the_page_of_the_step(kit, tmp_path, monkeypatch):
    page = tmp_path / "summary.md"
    page.write_text("earlier step\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    (tmp_path / "audit.toml").write_text(kit.rule())
    (tmp_path / "evidence.json").write_text(dumps(kit.evidence(*kit.selected(F=(1000, 4000), M=(2000, 4000)))))
    files = [str(tmp_path / "evidence.json"), "--policy", str(tmp_path / "audit.toml")]
    done = CliRunner().invoke(cli, ["gate", *files, "--output", "github"])
    assert done.exit_code == 1
    assert done.stdout.startswith("::error ")
    text = page.read_text(encoding="utf-8")
    assert text.startswith("earlier step\n# Audit\n")
    assert "| ✗ Failed | r |" in text

    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))  # a folder: cannot be written
    done = CliRunner().invoke(cli, ["gate", *files, "--output", "github"])
    assert done.exit_code == 1
    assert "the step summary cannot be written" in done.stderr


def test_the_outputs_are_the_whole_verdict(kit, tmp_path):
    document = json.loads(written(kit, tmp_path, SMALL, "json"))
    (rule,) = document["results"]
    assert len(rule["comparisons"]) == 3
    withheld = [c for c in rule["comparisons"] if "X" in c["label"]]
    assert withheld
    assert all(c["value"] is None and c["interval"] is None for c in withheld)
