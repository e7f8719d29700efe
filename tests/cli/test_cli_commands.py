"""Each command's own words: help, init, analyzers, doctor, schema, render, verify."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

from auditkit import __version__
from auditkit.cli.console import people_console
from auditkit.cli.main import COMMANDS, cli, main
from auditkit.config.load import load_config
from auditkit.core.registry import discover

HEAVY = ("torch", "sklearn", "shap", "lime", "captum", "art", "opacus", "fairlearn", "pandas", "scipy", "numpy", "rich")


def call(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """One small audit of saved predictions, with a rule."""
    folder = tmp_path_factory.mktemp("audit")
    rows = ["label,decision,sex"] + [f"{int(i % 3 > 0)},{int(i % 4 > 0)},{'FM'[i % 2]}" for i in range(240)]
    (folder / "rows.csv").write_text("\n".join(rows) + "\n")
    (folder / "audit.toml").write_text(
        'version = 1\n[data]\ntest = "rows.csv"\ntarget = "label"\nprediction = "decision"\npositive = 1\n'
        'sensitive = ["sex"]\n[run]\nanalyzers = ["performance", "fairness"]\n[analyzer."fairness.groups"]\n'
        'cross_check = false\n[[rule]]\nid = "r"\nmetric = "performance.accuracy"\nmin = 0.1\n'
    )
    done = call("run", folder / "audit.toml", "--out", folder / "out", "--quiet")
    assert done.exit_code == 0, done.output
    return folder / "out"


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys\nfrom auditkit.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout
    for name in COMMANDS:
        assert re.search(rf"^  {name}\b", done.stdout, re.MULTILINE)
    assert "_AUDITKIT_COMPLETE" in done.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_and_the_common_options(name):
    done = call(name, "--help")
    assert done.exit_code == 0
    for option in ("--quiet", "--debug", "--no-color", "--version"):
        assert option in done.output


def test_version_everywhere():
    for words in (("--version",), ("run", "--version"), ("gate", "--version")):
        assert call(*words).output == f"auditkit {__version__}\n"


def test_a_misspelt_command_names_the_nearest():
    done = call("rnder")
    assert done.exit_code == 2
    assert "No such command 'rnder'. Did you mean 'render'?" in done.output


def test_completion_script_is_made():
    environment = {**os.environ, "_AUDITKIT_COMPLETE": "bash_source"}
    line = "from auditkit.cli.main import main; main([])"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, env=environment, check=False)
    assert "complete -o nosort -F" in done.stdout


def test_init_writes_a_file_that_reads_and_leaves_limits_open(tmp_path):
    path = tmp_path / "audit.toml"
    assert call("init", path).exit_code == 0
    document = tomllib.loads(path.read_text())
    assert "rule" not in document
    assert load_config(path).data.target == "label"
    again = call("init", path)
    assert again.exception.code == "AK644"
    path.write_text("changed")
    assert call("init", path, "--force").exit_code == 0
    assert load_config(path).version == 1


def test_analyzers_lists_every_registered_one():
    rows = json.loads(call("analyzers", "--json").output)
    assert [row["name"] for row in rows] == list(discover())
    assert not [row for row in rows if "fault" in row]
    text = call("analyzers").output
    for name in discover():
        assert name in text


def test_an_analyzer_is_explained_with_its_settings():
    text = call("analyzers", "explain.shap").output
    for word in ("Lundberg", "explain.attribution_share", "max_rows", "200", 'pip install "auditkit[explain]"'):
        assert word in text
    assert call("analyzers", "explain.shp").exception.code == "AK121"
    assert "max_rows" in json.loads(call("analyzers", "explain.shap", "--json").output)["settings"]["properties"]


def test_doctor_names_versions_and_the_line_for_what_is_missing(monkeypatch):
    found = json.loads(call("doctor", "--json").output)
    import numpy

    assert found["core"]["numpy"] == numpy.__version__
    assert set(found["extras"]) == {"sklearn", "torch", "explain", "fairness", "robustness", "privacy", "mlflow"}
    assert set(found["analyzers"].values()) == {"ready"}
    import auditkit.cli.doctor as doctor

    true_version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in ("shap", "torch") else true_version(name))
    text = call("doctor").output
    assert "shap (missing)" in text
    assert 'pip install "auditkit[explain,torch]"' in re.sub(r"\s+", " ", text) or "auditkit[torch,explain]" in text
    assert "cpu (torch is not installed)" in text


@pytest.mark.parametrize("what", ["evidence", "config", "policy"])
def test_schemas_are_json_schemas_and_accept_what_is_written(what, run_folder):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(call("schema", what).output)
    jsonschema.Draft202012Validator.check_schema(schema)
    evidence = json.loads((run_folder / "evidence.json").read_text())
    document = {
        "evidence": evidence,
        "config": tomllib.loads((run_folder.parent / "audit.toml").read_text()),
        "policy": evidence["policy"],
    }[what]
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "unheard-of": 1}, schema) if what != "evidence" else jsonschema.validate(
            {}, schema
        )


def test_render_makes_every_form(run_folder, tmp_path):
    evidence = run_folder / "evidence.json"
    page = call("render", evidence, "--format", "html").output
    assert page == (run_folder / "model-card.html").read_text()
    assert "performance.accuracy" in call("render", evidence, "--format", "csv").output
    assert call("render", evidence, "--format", "md").output.startswith("#")
    copy = tmp_path / "copy.json"
    assert call("render", evidence, "--format", "json", "--out", copy).output == f"{copy}\n"
    assert json.loads(copy.read_text())["redacted"] is True


def test_verify_holds_for_what_was_written_and_differs_for_what_was_edited(run_folder, tmp_path):
    evidence, card = run_folder / "evidence.json", run_folder / "model-card.html"
    for path in (evidence, card):
        done = call("verify", path)
        assert (done.exit_code, done.stdout) == (0, "holds\n"), done.output
    assert "byte for byte what its evidence gives" in call("verify", card).output
    edited = tmp_path / "evidence.json"
    edited.write_text(evidence.read_text().replace('"n":240', '"n":241', 1))
    assert main_code("verify", edited) == 1
    page = card.read_text()
    assert "Passed" in page
    (tmp_path / "card.html").write_text(page.replace("Passed", "Failed", 1))
    assert main_code("verify", tmp_path / "card.html") == 1
    (tmp_path / "none.html").write_text("<html></html>")
    assert main_code("verify", tmp_path / "none.html") == 2


def test_verify_finds_a_rate_that_its_counts_do_not_give(run_folder, tmp_path):
    from auditkit.core.schema import dumps as sealed
    from auditkit.core.schema import from_document, write_text

    document = json.loads((run_folder / "evidence.json").read_text())
    for outcome in document["outcomes"]:
        for m in outcome.get("measurements", ()):
            if m["name"] == "fairness.selection_rate" and m.get("slice") == {"sex": "F"}:
                m["value"] += 0.01
    document.pop("digest")
    path = tmp_path / "forged.json"
    write_text(path, sealed(from_document(document)))
    done = call("verify", path)
    assert done.stdout == "differs\n"
    assert "fairness.selection_rate|sex=F" in done.stderr


def main_code(*words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return stop.value.code


def test_a_rule_on_groups_after_a_run_without_fairness_names_what_to_ask_for(run_folder, tmp_path, capsys):
    text = (run_folder.parent / "audit.toml").read_text().partition("[[rule]]")[0]
    text = text.replace('"rows.csv"', '"rows2.csv"')
    rule = '[[rule]]\nid = "r"\nmetric = "fairness.selection_rate"\ncompare = "ratio"\nover = ["sex"]\nmin = 0.1\n'
    (tmp_path / "audit.toml").write_text(text + rule)
    (tmp_path / "rows2.csv").write_text((run_folder.parent / "rows.csv").read_text())
    words = ["run", tmp_path / "audit.toml", "--out", tmp_path / "out", "--gate", "--only", "performance"]
    assert main_code(*words) == 3
    told = " ".join(capsys.readouterr().err.split())
    assert "fairness.selection_rate was not measured (fairness was not asked for: add `--only fairness`" in told
    assert "raise intersections" not in told
    assert main_code(*words, "--only", "fairness.groups") == 0


def test_no_color_writes_no_escape_at_all(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def written():
        console = people_console()
        with console.capture() as taken:
            console.print("[bold red]fail[/]")
        return taken.get()

    assert "\x1b[" in written()
    monkeypatch.setenv("NO_COLOR", "1")
    assert written() == "fail\n"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_table_in_another_encoding_is_told_how_to_be_saved(tmp_path, capsys, encoding):
    rows = ["label,decision,sex"] + [f"{i % 2},{i % 2},{chr(233)}{i % 2}" for i in range(40)]
    (tmp_path / "rows.csv").write_bytes("\n".join(rows).encode(encoding))
    (tmp_path / "audit.toml").write_text(
        'version = 1\n[data]\ntest = "rows.csv"\ntarget = "label"\nprediction = "decision"\nsensitive = ["sex"]\n'
    )
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert "AK231" in told
    assert "fix: save it again as UTF-8 text" in told


def test_a_folder_where_a_file_is_to_be_written_is_named_itself(run_folder, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    with pytest.raises(SystemExit) as stop:
        main(["render", str(run_folder / "evidence.json"), "--format", "md", "--out", str(tmp_path / "taken")])
    told = capsys.readouterr().err
    assert stop.value.code != 0
    assert re.search(r"where: \S*/taken\n", told), told
    assert "fix: name a file" in told


@pytest.mark.parametrize("width", [56, 60, 80])
def test_numbers_and_names_are_never_cut_however_narrow(run_folder, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    told = call("gate", run_folder / "evidence.json").stderr
    cells = re.findall(r"[\d.,]+|\[|\]", told)
    assert "…" not in told
    assert cells.count("[") == cells.count("]") >= 2, "every interval that is begun is ended"
    named = call("analyzers", "fairness.groups").stdout
    assert "…" not in named
    if width == 80:
        assert "fairness.positive_predictive_value.difference" in named
