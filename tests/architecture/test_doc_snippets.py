"""What README and docs tell people to type does what they say: settings are read, options exist, programs run."""

import functools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import auditkit
from auditkit.cli.main import COMMANDS, common_options
from auditkit.config.load import load_config

ROOT = Path(__file__).parents[2]
# What docs/build.py writes is checked by its own test.
PAGES = [
    ROOT / "README.md",
    *(p for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in ("analyzers.md", "errors.md")),
]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
SAVED = '\n[data]\ntest = "rows.csv"\ntarget = "label"\nprediction = "decision"\n'
DATA = '\n[data]\ntest = "rows.csv"\ntarget = "label"\n'


def blocks(language):
    found = [
        (page, text) for page in PAGES for kind, text in FENCE.findall(page.read_text("utf-8")) if kind == language
    ]
    assert found
    return [pytest.param(page, text, id=f"{page.stem}-{number}") for number, (page, text) in enumerate(found)]


def commands():
    """Every line or piece of code that begins with ``auditkit`` and a command, without its remark."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for line in re.findall(r"^(?:    |\$ |- run: )(auditkit [a-z].*)$|`(auditkit [a-z][^`]*)`", text, re.M):
            yield page, re.split(r"\s+#", "".join(line))[0].strip()


@pytest.mark.parametrize(("page", "text"), blocks("toml"))
def test_settings_are_read(page, text, tmp_path):
    if "[project." in text:
        tomllib.loads(text)
        return
    text = text.replace("steadiness.repeat_agreement", "performance.accuracy")  # known once the plug-in is installed
    text += '\n[model]\nfactory = "model:load"\n' if "[training]" in text else ""
    whole = (
        ("" if "version = 1" in text else "version = 1\n")
        + text
        + ("" if "[data]" in text else SAVED if "[model]" not in text else DATA)
    )
    path = tmp_path / "audit.toml"
    path.write_text(whole, "utf-8")
    assert load_config(path)


def test_a_wrong_key_in_a_page_would_be_found(tmp_path):
    (tmp_path / "audit.toml").write_text('version = 1\n[[rule]]\nid = "a"\nmetrik = "b"\n' + SAVED, "utf-8")
    with pytest.raises(auditkit.AuditkitError, match="metrik"):
        load_config(tmp_path / "audit.toml")


@pytest.mark.parametrize(("page", "line"), [pytest.param(p, c, id=c) for p, c in sorted(set(commands()), key=str)])
def test_every_command_and_option_exists(page, line):
    words = shlex.split(line)
    assert words[1] in COMMANDS, f"{page.name}: {line}"
    module, _, name = COMMANDS[words[1]][0].partition(":")
    command = getattr(import_module(module), name)
    taken = {option for param in [*command.params, *common_options()] for option in param.opts}
    for sub in getattr(command, "commands", {}).values():
        taken |= {option for param in sub.params for option in param.opts}
    for word in words[2:]:
        if word.startswith("--"):
            assert word.split("=")[0] in taken, f"{page.name}: {line}: no option {word}"


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_the_first_program_runs_as_written(page, tmp_path, monkeypatch, capsys):
    """As written, but for one analyzer in place of all, which the whole suite runs elsewhere."""
    pytest.importorskip("sklearn")
    (text,) = (text for kind, text in FENCE.findall((ROOT / page).read_text("utf-8")) if kind == "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(auditkit, "audit", functools.partial(auditkit.audit, analyzers=["performance"], progress=False))
    exec(compile(text, page, "exec"), {})
    assert {path.name for path in (tmp_path / "out").glob("[!.]*")} == {"evidence.json", "model-card.html"}
    assert "performance.roc_auc" in capsys.readouterr().out


def test_the_analyzer_of_the_plug_in_page_keeps_the_contract():
    pytest.importorskip("sklearn")
    from auditkit.testing import check_analyzer
    from subject_zoo import pipeline_subject

    (text,) = (text for kind, text in FENCE.findall((ROOT / "docs/plugins.md").read_text("utf-8")) if kind == "python")
    names = {}
    exec(compile(text, "plugins.md", "exec"), names)
    check_analyzer(names["ANALYZER"], pipeline_subject())


def test_the_test_of_the_gate_page_runs(tmp_path):
    (text,) = (text for kind, text in FENCE.findall((ROOT / "docs/gate.md").read_text("utf-8")) if kind == "python")
    (tmp_path / "out").mkdir()
    shutil.copy(ROOT / "reports" / "breast_cancer" / "evidence.json", tmp_path / "out")
    (tmp_path / "audit.toml").write_text('[[rule]]\nid = "a"\nmetric = "performance.accuracy"\nmin = 0.9\n', "utf-8")
    (tmp_path / "test_it.py").write_text("import pytest\n\n\n" + text, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
