"""The command line through real processes: exit codes, streams, and what bad input says."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

CONFIG = """\
version = 1
[data]
test = "rows.csv"
target = "label"
prediction = "decision"
score = "p"
positive = "yes"
sensitive = ["sex"]
[run]
analyzers = ["performance", "fairness"]
[analyzer."fairness.groups"]
cross_check = false
"""
ROOT = Path(__file__).parents[2]
RULE = '[[rule]]\nid = "ok"\nmetric = "performance.accuracy"\nmin = 0.2\n'


def auditkit(*words, cwd=None, **extra):
    return subprocess.run(
        [sys.executable, "-m", "auditkit.cli.main", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", **extra},
    )


def table(n=120):
    rng = np.random.default_rng(1)
    p = rng.random(n).round(3)
    return pd.DataFrame(
        {
            "label": np.where(rng.random(n) < p, "yes", "no"),
            "decision": np.where(p >= 0.5, "yes", "no"),
            "p": p,
            "sex": np.where(rng.random(n) < 0.5, "F", "M"),
        }
    )


@pytest.fixture
def project(tmp_path):
    table().to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "audit.toml").write_text(CONFIG + RULE)
    return tmp_path


def refused(done, code, exit_code=2):
    """A coded message on stderr, nothing on stdout, no traceback."""
    assert done.returncode == exit_code, done.stderr
    assert f"error {code} " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_run_writes_evidence_and_card_and_names_only_them_on_stdout(project):
    done = auditkit("run", "--out", "out", "--gate", cwd=project)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [os.path.join("out", "evidence.json"), os.path.join("out", "model-card.html")]
    assert re.search(r"\[1/\d+\] performance \.\.\.", done.stderr)
    assert "PASS" in done.stderr
    accuracy = (table().label == table().decision).mean()
    evidence = json.loads((project / "out" / "evidence.json").read_text())
    measured = [m for o in evidence["outcomes"] for m in o.get("measurements", ())]
    whole = [m for m in measured if m["name"] == "performance.accuracy" and "slice" not in m]
    assert whole[0]["value"] == pytest.approx(accuracy)


def test_gate_decides_the_exit_code_and_run_without_it_does_not_judge(project):
    (project / "audit.toml").write_text(CONFIG + RULE.replace("0.2", "0.99"))
    assert auditkit("run", "--out", "out", "--quiet", cwd=project).returncode == 0
    assert auditkit("run", "--out", "out", "--quiet", "--gate", cwd=project).returncode == 1
    assert auditkit("gate", "out/evidence.json", "--quiet", cwd=project).returncode == 1
    (project / "audit.toml").write_text(CONFIG + RULE.replace("0.2", f"{(table().label == table().decision).mean()}"))
    assert auditkit("run", "--out", "out", "--quiet", "--gate", cwd=project).returncode == 4


def test_quiet_is_silent_on_stderr_before_and_after_the_command(project):
    for words in (("--quiet", "run", "--out", "a"), ("run", "--out", "b", "--quiet")):
        done = auditkit(*words, cwd=project)
        assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_key_names_the_nearest_key_and_the_line(project):
    (project / "audit.toml").write_text(CONFIG.replace("target =", "tagret ="))
    message = refused(auditkit("run", "--out", "out", cwd=project), "AK132")
    assert "audit.toml:4: [data] has no key 'tagret', did you mean 'target'?" in message
    assert not (project / "out").exists()


def test_a_missing_column_names_the_nearest_and_the_line(project):
    (project / "audit.toml").write_text(CONFIG.replace('"decision"', '"decicion"'))
    message = refused(auditkit("run", "--out", "out", cwd=project), "AK135")
    assert "audit.toml:5" in message
    assert "did you mean 'decision'?" in message


def test_an_unknown_analyzer_and_a_wrong_setting_are_refused(project):
    message = refused(auditkit("run", "--out", "out", "--only", "performence", cwd=project), "AK121")
    assert "did you mean 'performance'?" in message
    (project / "audit.toml").write_text(CONFIG.replace("cross_check", "cros_check"))
    message = refused(auditkit("run", "--out", "out", cwd=project), "AK123")
    assert "'cros_check', did you mean 'cross_check'?" in message


def test_output_that_cannot_be_written_is_told_before_anything_runs(project):
    (project / "out").write_text("a file where the folder should be")
    message = refused(auditkit("run", "--out", "out", cwd=project), "AK302")
    assert "performance ..." not in message


def test_gate_without_rules_is_a_usage_error(project):
    (project / "audit.toml").write_text(CONFIG)
    refused(auditkit("run", "--out", "out", "--gate", cwd=project), "AK643")


def test_run_writes_the_outputs_of_its_verdict_as_the_gate_does(project):
    done = auditkit("run", "--out", "out", "--gate", "--quiet", "--output", "junit=run.xml,summary=run.md", cwd=project)
    assert done.returncode == 0, done.stderr
    assert auditkit("gate", "out/evidence.json", "--output", "junit=gate.xml", cwd=project).returncode == 0
    assert (project / "run.xml").read_text() == (project / "gate.xml").read_text()
    assert "**Passed.**" in (project / "run.md").read_text()
    done = auditkit("run", "--out", "out", "--gate", "--output", "json=-", cwd=project)
    assert json.loads(done.stdout)["state"] == "pass"


def test_outputs_of_a_run_that_is_not_judged_are_refused(project):
    refused(auditkit("run", "--out", "out", "--output", "junit=run.xml", cwd=project), "AK612")
    refused(auditkit("run", "--out", "out", "--gate", "--output", "junit", cwd=project), "AK415")
    assert not (project / "out").exists()


def test_two_configurations_are_refused(project):
    refused(auditkit("run", "audit.toml", "--config", "audit.toml", "--out", "o", cwd=project), "AK642")


def test_a_hostile_pickle_is_refused_and_does_not_run(project):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(project / "owned"),))

    (project / "model.pkl").write_bytes(pickle.dumps(Evil()))
    text = CONFIG.replace('prediction = "decision"\nscore = "p"\n', "")
    (project / "audit.toml").write_text(text.replace("[data]", '[model]\npath = "model.pkl"\n[data]'))
    message = refused(auditkit("run", "--out", "out", cwd=project), "AK236")
    assert "allow_pickle = true" in message
    wrong = '[model]\npath = "model.pkl"\nallow_pickle = true\nsha256 = "' + "0" * 64 + '"\n[data]'
    (project / "audit.toml").write_text(text.replace("[data]", wrong))
    refused(auditkit("run", "--out", "out", cwd=project), "AK237")
    assert not (project / "owned").exists()


def test_a_name_holding_html_reaches_the_card_as_text(project):
    evil = "<script>alert(1)</script>"
    rows = table()
    rows["sex"] = rows.sex.replace("F", evil)
    rows.to_csv(project / "rows.csv", index=False)
    (project / "audit.toml").write_text(CONFIG + RULE + "[card]\ntitle = '<img src=x onerror=alert(1)>'\n")
    assert auditkit("run", "--out", "out", cwd=project).returncode == 0
    page = (project / "out" / "model-card.html").read_text()
    body = page.split('<script type="application/json"')[0]
    assert "<script>" not in page
    assert "<img src=x" not in body
    assert "&lt;script&gt;alert(1)" in body


def test_escape_sequences_in_a_name_do_not_reach_the_terminal(project):
    text = CONFIG.replace('target = "label"', 'target = "\\u001b[31mlabel"')
    (project / "audit.toml").write_text(text)
    done = auditkit("run", "--out", "out", cwd=project)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr


def model_project(folder, build, rows):
    rows.to_csv(folder / "rows.csv", index=False)
    (folder / "model.py").write_text(build)
    (folder / "audit.toml").write_text(
        'version = 1\n[model]\nfactory = "model:build"\n[data]\ntest = "rows.csv"\ntarget = "y"\n'
        'positive = "good"\nsensitive = ["sex"]\n[run]\ndevice = "cpu"\nanalyzers = ["performance"]\n'
    )


def numbers(n=80):
    rng = np.random.default_rng(0)
    a = rng.standard_normal(n)
    return pd.DataFrame({"a": a, "b": a**2, "sex": np.resize(["F", "M"], n), "y": np.where(a > 0, "good", "bad")})


FITTED = """\
import numpy as np, pandas as pd
from sklearn.{module} import {name}
def build():
    t = pd.read_csv("rows.csv")
    return {name}().fit(t[["a", "b"]].fillna(0), t["y"])
"""


def test_labels_may_be_strings_and_nan_features_are_the_models_own_business(tmp_path):
    rows = numbers()
    rows.loc[:5, "a"] = np.nan
    tree = FITTED.format(module="ensemble", name="HistGradientBoostingClassifier")
    model_project(tmp_path, tree, rows)
    assert auditkit("run", "--out", "out", cwd=tmp_path).returncode == 0
    model_project(tmp_path, FITTED.format(module="linear_model", name="LogisticRegression"), rows)
    message = auditkit("run", "--out", "out2", cwd=tmp_path)
    assert message.returncode == 3
    assert "AK210" in message.stderr
    assert "missing value" in message.stderr
    assert "Traceback" not in message.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys\ndef build():\n    sys.exit(0)\n", "AK137"),
        ("import sys\nsys.exit(0)\n", "AK137"),
        ("import sys\ndef build():\n    return lambda rows: sys.exit(0)\n", "AK210"),
    ],
)
def test_a_model_that_leaves_the_process_is_never_exit_code_0(tmp_path, code, words):
    model_project(tmp_path, code, numbers())
    result = auditkit("run", "--out", "out", cwd=tmp_path)
    assert result.returncode == 3
    assert words in result.stderr
    assert "SystemExit: 0" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_that_leaves_the_process_halfway_keeps_what_was_measured(tmp_path):
    code = """\
import sys, pandas as pd
calls = []
def judge(rows):
    calls.append(1)
    return sys.exit(0) if len(calls) > 3 else ["good"] * len(rows)
def build():
    return judge
"""
    model_project(tmp_path, code, numbers())
    result = auditkit("run", "--out", "out", "--only", "performance", "--only", "robustness.noise", cwd=tmp_path)
    assert result.returncode == 3
    assert "FAILED robustness.noise: AK210" in result.stderr
    outcomes = json.loads((tmp_path / "out" / "evidence.json").read_text())["outcomes"]
    assert {o["analyzer"]: o["status"] for o in outcomes} == {"performance": "measured", "robustness.noise": "failed"}


def test_debug_shows_the_traceback(tmp_path):
    model_project(tmp_path, "def build():\n    raise ValueError('no such weights')\n", numbers())
    plain = auditkit("run", "--out", "out", cwd=tmp_path)
    assert plain.returncode == 3
    assert "AK137" in plain.stderr
    assert "no such weights" in plain.stderr
    assert "Traceback" not in plain.stderr
    loud = auditkit("run", "--out", "out", "--debug", cwd=tmp_path)
    assert "Traceback" in loud.stderr
    assert loud.returncode == plain.returncode  # 1 would read as "a rule failed"


def test_a_run_that_is_killed_goes_on_where_it_was(tmp_path):
    rows = numbers(400)
    model_project(tmp_path, FITTED.format(module="linear_model", name="LogisticRegression"), rows)
    config = (tmp_path / "audit.toml").read_text()
    config = config.replace('["performance"]', '["performance", "explain.lime"]')
    slow = '[analyzer."explain.lime"]\nmax_rows = 300\nsamples = 4000\nengine = "lime"\n'
    (tmp_path / "audit.toml").write_text(config + slow)
    words = [sys.executable, "-m", "auditkit.cli.main", "run", "--out", "out"]
    process = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    finished = tmp_path / "out" / ".auditkit" / "checkpoints"
    limit = time.monotonic() + 120
    while time.monotonic() < limit and not list(finished.glob("*.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "evidence.json").exists()
    (tmp_path / "audit.toml").write_text(config + '[analyzer."explain.lime"]\nmax_rows = 5\nsamples = 200\n')
    again = auditkit("run", "--out", "out", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "kept from the earlier run" in again.stderr
    resumed = json.loads((tmp_path / "out" / "evidence.json").read_text())
    assert resumed["run"]["resumed"] == ["performance"]
    fresh = auditkit("run", "--out", "out", "--fresh", cwd=tmp_path)
    assert "kept from the earlier run" not in fresh.stderr
    assert json.loads((tmp_path / "out" / "evidence.json").read_text())["digest"] == resumed["digest"]


def _heed_interrupts():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_says_that_the_run_can_go_on(tmp_path):
    there = tmp_path / "building"
    model_project(tmp_path, f"import pathlib, time\ndef build():\n    pathlib.Path({str(there)!r}).touch()\n"
                            "    time.sleep(60)\n", numbers())  # fmt: skip
    words = [sys.executable, "-m", "auditkit.cli.main", "run", "--out", "out"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A test run that was started in the background ignores the signal, and would hand that on.
    process = subprocess.Popen(words, cwd=tmp_path, preexec_fn=_heed_interrupts, **pipes)
    assert process.stderr.readline().startswith("configuration audit.toml")
    limit = time.monotonic() + 120
    while time.monotonic() < limit and not there.exists():  # inside the model, however slow the imports are
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command with the same --out continues" in message
    assert "Traceback" not in message


def test_nothing_of_a_long_output_is_lost_when_the_process_ends_at_once(tmp_path):
    """More than a pipe holds, read slowly: the last byte arrives, with the exit code."""
    evidence = ROOT / "reports" / "loan" / "evidence.json"
    words = [sys.executable, "-m", "auditkit.cli.main", "render", str(evidence), "--format", "csv"]
    out = tmp_path / "m.csv"
    subprocess.run([*words, "--out", str(out)], check=True, capture_output=True)
    child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    told, _ = child.communicate()
    assert child.returncode == 0
    assert len(told) > 70_000
    assert told.replace(b"\r\n", b"\n") == out.read_bytes().replace(b"\r\n", b"\n")


@pytest.mark.parametrize("closed", ["2>&-", ">&-", ">&- 2>&-"])
@pytest.mark.parametrize(("least", "code"), [(0.2, 0), (0.99, 1)])
def test_a_closed_stream_does_not_change_the_exit_code(tmp_path, closed, least, code):
    """A job that closes what it does not read learns the verdict all the same: a gate that passed exited with 1."""
    policy = tmp_path / "audit.toml"
    policy.write_text(f'[[rule]]\nid = "a"\nmetric = "performance.accuracy"\nmin = {least}\n')
    evidence = ROOT / "reports" / "loan" / "evidence.json"
    words = (
        f"'{sys.executable}' -m auditkit.cli.main gate '{evidence}' --policy '{policy}' --output json=v.json {closed}"
    )
    assert subprocess.run(["sh", "-c", words], cwd=tmp_path, check=False).returncode == code
    assert json.loads((tmp_path / "v.json").read_text())


def test_a_reader_who_leaves_is_no_error():
    """``auditkit schema evidence | head -1``: the code of a closed pipe, and nothing on stderr."""
    read, write = os.pipe()
    os.close(read)
    words = [sys.executable, "-m", "auditkit.cli.main", "schema", "evidence"]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


PLUGIN = """\
import atexit
from auditkit.core.analyzer import Analyzer, Params
from auditkit.core.evidence import Measurement

atexit.register(lambda: open("left", "w").close())


def _run(subject, context, params):
    yield Measurement(name="acme.rows", value=1.0, n=subject.test.n)


ANALYZER = Analyzer(name="acme.one", version="1.0", title="Acme", summary="s.", reference="r",
                    needs=frozenset({"labels"}), measures={"acme.rows": "Rows."}, params=Params, run=_run)
"""


def test_what_a_plug_in_leaves_to_do_at_exit_is_done(project):
    (project / "acme_plug.py").write_text(PLUGIN)
    facts = project / "acme-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[auditkit.analyzers]\nacme.one = acme_plug:ANALYZER\n")
    (project / "audit.toml").write_text(CONFIG.replace('"fairness"]', '"acme.one"]'))
    path = os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")])
    done = auditkit("run", "audit.toml", "--out", "out", cwd=project, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert (project / "left").exists()
