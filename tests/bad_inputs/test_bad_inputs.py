"""More than 100 broken inputs through the command line: none exits 0, and each says what is wrong and what mends it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from bad_rows import BAD_ROWS, FPR, NPV, ODDS, PPV, TPR, good_rows

from auditkit.cli.main import main
from auditkit.core.analyzer import Analyzer, Params
from auditkit.execution.lock import output_lock

LIMITS = {"ratio": "min = 0.5", "difference": "max = 0.4"}
CONFIG = """\
version = 1
[data]
test = "rows.csv"
target = "label"
prediction = "decision"
score = "score"
positive = "yes"
sensitive = ["sex"]
[run]
analyzers = ["performance", "fairness.groups"]
[analyzer."fairness.groups"]
cross_check = false
"""
RULE = '[[rule]]\nid = "r"\nmetric = "{}"\ncompare = "{}"\nover = ["sex"]\n{}\n'
WAIVER = '[[waiver]]\nrule = "r"\nowner = "a@b"\nreason = "known"\nticket = "T"\nexpires = {}\n'


def rule(metric="selection_rate", compare="ratio", limit=None):
    return RULE.format(metric, compare, limit or LIMITS[compare])


def audit(folder, text, *more, table=None):
    """The exit code of ``auditkit run --gate`` in this process."""
    if not (folder / "rows.csv").exists():
        (good_rows() if table is None else table).to_csv(folder / "rows.csv", index=False)
    config = folder / "audit.toml"
    config.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit) as left:
        main(["run", str(config), "--out", str(folder / "out"), "--gate", "--quiet", "--no-color", *more])
    return left.value.code


def said(capsys):
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "about", [("selection_rate", "ratio"), ("selection_rate", "difference"), TPR, FPR, PPV, NPV, ODDS]
)
def test_the_intact_twin_exits_0(tmp_path, about):
    assert audit(tmp_path, CONFIG + rule(*about)) == 0


@pytest.mark.parametrize("case", BAD_ROWS, ids=lambda case: case.name)
def test_broken_rows(tmp_path, capsys, case):
    positive = f'"{case.positive}"' if isinstance(case.positive, str) else str(case.positive)
    text = CONFIG.replace('"yes"', positive) + rule(*case.rule)
    code = audit(tmp_path, text, table=case.change(good_rows()))
    words = said(capsys)
    assert (code, case.code in words, case.words in words) == (case.exits, True, True), words
    if case.code.startswith("AK"):
        assert "fix:" in words
        assert "where: audit.toml:" in words


# What is wrong with the configuration -> (edit of its text, exit code, code or state, words)
CONFIGS = {
    "empty": (lambda t: "", 2, "AK132", "needs the key 'data'"),
    "not TOML": (lambda t: "[data\n" + t, 2, "AK131", "audit.toml:1"),
    "not UTF-8": (lambda t: b"\xff\xfe" + t.encode("utf-16-le"), 2, "AK131", "not UTF-8"),
    "no [data]": (lambda t: "version = 1\n" + rule(), 2, "AK132", "needs the key 'data'"),
    "unknown version": (lambda t: t.replace("version = 1", "version = 2"), 2, "AK132", "audit.toml:1"),
    "key misspelt in [data]": (lambda t: t.replace("positive =", "postive ="), 2, "AK132", "did you mean 'positive'"),
    "table misspelt": (lambda t: t.replace("[run]", "[runs]"), 2, "AK132", "did you mean 'run'"),
    "key in the wrong table": (lambda t: t.replace("[run]", "[run]\nweight = 'w'"), 2, "AK132", "belongs in [data]"),
    "no target": (lambda t: t.replace('target = "label"\n', ""), 2, "AK132", "needs the key 'target'"),
    "no test rows": (lambda t: t.replace('test = "rows.csv"\n', ""), 2, "AK132", "needs the key 'test'"),
    "sensitive as one string": (lambda t: t.replace('["sex"]', '"sex"'), 2, "AK132", "sensitive"),
    "neither decisions nor scores": (
        lambda t: t.replace('prediction = "decision"\nscore = "score"\n', ""),
        2,
        "AK132",
        "needs 'prediction' or 'score'",
    ),
    "target misspelt": (lambda t: t.replace('"label"', '"lable"'), 2, "AK135", "did you mean 'label'"),
    "decision misspelt": (lambda t: t.replace('"decision"', '"decison"'), 2, "AK135", "did you mean 'decision'"),
    "score misspelt": (lambda t: t.replace('= "score"', '= "scroe"'), 2, "AK135", "did you mean 'score'"),
    "sensitive column misspelt": (lambda t: t.replace('["sex"]', '["sxe"]'), 2, "AK135", "did you mean 'sex'"),
    "weight column absent": (lambda t: t.replace("[run]", 'weight = "w"\n[run]'), 2, "AK135", "'w'"),
    "cluster column absent": (lambda t: t.replace("[run]", 'cluster = "person"\n[run]'), 2, "AK135", "'person'"),
    "two columns absent": (lambda t: t.replace('"label"', '"a"').replace('"decision"', '"b"'), 2, "AK135", "2 columns"),
    "file absent": (lambda t: t.replace("rows.csv", "row.csv"), 2, "AK134", "did you mean 'rows.csv'"),
    "file outside the project": (lambda t: t.replace("rows.csv", "../rows.csv"), 2, "AK133", "outside the project"),
    "an address": (lambda t: t.replace("rows.csv", "https://a.b/rows.csv"), 2, "AK133", "download the file"),
    "a folder": (lambda t: t.replace("rows.csv", "."), 2, "AK134", "'.' is a folder, not a file"),
    "a task that does not fit": (lambda t: t.replace("[run]", 'task = "regression"\n[run]'), 2, "AK", "regression"),
    "multiclass with a positive class": (
        lambda t: t.replace("[run]", 'classes = ["no", "so", "yes"]\n[run]'),
        2,
        "AK247",
        "",
    ),
    "negative seed": (lambda t: t.replace("[run]", "[run]\nseed = -1"), 2, "AK132", "seed"),
    "deadline of 0": (lambda t: t.replace("[run]", "[run]\ndeadline_seconds = 0"), 2, "AK132", "deadline_seconds"),
    "deadline too short": (lambda t: t.replace("[run]", "[run]\ndeadline_seconds = 1e-9"), 3, "ERROR", "deadline"),
    "analyzer misspelt": (
        lambda t: t.replace('"fairness.groups"]\n[an', '"fairness.group"]\n[an'),
        2,
        "AK121",
        "fairness.groups",
    ),
    "setting misspelt": (lambda t: t.replace("cross_check", "crosscheck"), 2, "AK123", "did you mean 'cross_check'"),
    "setting out of range": (
        lambda t: t.replace("cross_check = false", "intersections = 9"),
        2,
        "AK123",
        "intersections",
    ),
    "settings of no analyzer": (
        lambda t: t.replace('r."fairness.groups"', 'r."fairness.grups"'),
        2,
        "AK121",
        "fairness.groups",
    ),
    "model file absent": (lambda t: '[model]\npath = "m.skops"\n'.join(t.split("[data]\n", 1)[:1]) + t, 2, "AK", ""),
    "executor unknown": (lambda t: t.replace("[run]", '[run]\nexecutor = "spark"'), 2, "AK132", "executor"),
    "no rules": (lambda t: t.replace(rule(), ""), 2, "AK643", "[[rule]]"),
    "rule key misspelt": (lambda t: t.replace("compare", "compair"), 2, "AK132", "did you mean 'compare'"),
    "metric misspelt": (lambda t: t.replace("selection_rate", "selecton_rate"), 2, "AK132", "did you mean"),
    "metric of another library": (
        lambda t: t.replace("selection_rate", "disparate_impact"),
        2,
        "AK132",
        "no analyzer measures",
    ),
    "rule on an absent column": (lambda t: t.replace('over = ["sex"]', 'over = ["race"]'), 3, "ERROR", "'race'"),
    "rule on an absent group": (lambda t: t + 'reference = "X"\n', 3, "ERROR", "'X' is not a group"),
    "rule without a limit": (lambda t: t.replace("min = 0.5\n", ""), 2, "AK132", "needs a limit"),
    "limit in percent": (lambda t: t.replace("min = 0.5", "min = 50"), 2, "AK132", "at most 1"),
    "limit as a word": (lambda t: t.replace("min = 0.5", 'min = "high"'), 2, "AK132", "valid number"),
    "limit NaN": (lambda t: t.replace("min = 0.5", "min = nan"), 2, "AK132", ""),
    "ratio limited from above": (lambda t: t.replace("min = 0.5", "max = 0.5"), 2, "AK132", "limited by min"),
    "two rules of one id": (lambda t: t + rule(), 2, "AK132", "used twice"),
    "unknown decision": (lambda t: t + 'decide = "luck"\n', 2, "AK132", "decide"),
    "confidence of 1": (lambda t: t + "confidence = 1.0\n", 2, "AK132", "confidence"),
    "baseline absent": (lambda t: t.replace("min = 0.5", 'baseline = "b.json"\nmax_increase = 0.1'), 2, "AK", "b.json"),
    "waiver expired": (lambda t: t + WAIVER.format("2026-01-05"), 3, "ERROR", "expired on"),
    "waiver too long": (lambda t: t + WAIVER.format("2999-01-01"), 3, "ERROR", "at most 180"),
    "waiver of no rule": (
        lambda t: t + WAIVER.format("2999-01-01").replace('"r"', '"q"'),
        3,
        "ERROR",
        "does not exist",
    ),
    "waiver without owner": (lambda t: t + WAIVER.format("2999-01-01").replace("a@b", ""), 2, "AK132", "owner"),
    "waiver with a wrong date": (lambda t: t + WAIVER.format("'soon'"), 2, "AK132", "expires"),
    "only an optional rule": (
        lambda t: t.replace('metric = "selection_rate"', 'metric = "robustness.accuracy"\noptional = true').replace(
            'compare = "ratio"\nover = ["sex"]\n', 'compare = "value"\n'
        ),
        3,
        "ERROR",
        "No rule could be counted",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_broken_configuration(tmp_path, capsys, name):
    change, exits, code, fragment = CONFIGS[name]
    found = audit(tmp_path, change(CONFIG + rule()))
    words = said(capsys)
    assert (found, code in words, fragment in words) == (exits, True, True), words


def parquet(folder, select):
    import duckdb

    duckdb.sql(f"COPY ({select}) TO '{folder / 'rows.parquet'}' (FORMAT parquet)")
    return (folder / "rows.parquet").read_bytes()


def archive(folder, **arrays):
    np.savez(folder / "rows.npz", **arrays)
    return (folder / "rows.npz").read_bytes()


CSV = good_rows().to_csv(index=False)
SELECT = "SELECT 'yes' AS label, 'yes' AS decision, 0.5 AS score, {} AS sex"
# What is wrong with the file -> (name, its bytes, code, words)
FILES = {
    "empty file": ("rows.csv", lambda f: b"", "AK231", "header"),
    "only a header": ("rows.csv", lambda f: b"label,decision,score,sex\n", "AK200", "no rows"),
    "binary": ("rows.csv", lambda f: b"\x80\x04\x95\x00\x01" * 40, "AK231", ""),
    "no header": ("rows.csv", lambda f: CSV.split("\n", 1)[1].encode(), "AK", ""),
    "UTF-16": ("rows.csv", lambda f: CSV.encode("utf-16"), "AK231", ""),
    "a row cut short": ("rows.csv", lambda f: (CSV + "yes,yes\n").encode(), "AK231", ""),
    "a cell too many": ("rows.csv", lambda f: (CSV + "yes,yes,0.5,F,9\n").encode(), "AK231", ""),
    "an open quote": ("rows.csv", lambda f: (CSV + 'yes,"yes,0.5,F\n').encode(), "AK", ""),
    "a column twice": ("rows.csv", lambda f: CSV.replace("score", "label", 1).encode(), "AK207", "'label'"),
    "JSON": ("rows.csv", lambda f: json.dumps([{"label": "yes"}]).encode(), "AK", ""),
    "a spreadsheet": ("rows.xlsx", lambda f: b"PK\x03\x04", "AK231", ".csv"),
    "not Parquet": ("rows.parquet", lambda f: b"PAR0" * 20, "AK231", ""),
    "Parquet cut short": ("rows.parquet", lambda f: parquet(f, SELECT.format("'F'"))[:-40], "AK231", ""),
    "lists in a column": ("rows.parquet", lambda f: parquet(f, SELECT.format("['F']")), "AK233", "'sex'"),
    "a structure in a column": ("rows.parquet", lambda f: parquet(f, SELECT.format("{'a': 1}")), "AK233", "'sex'"),
    "not an archive": ("rows.npz", lambda f: b"junk", "AK234", "npz"),
    "pickled objects": ("rows.npz", lambda f: archive(f, label=np.array([{}], dtype=object)), "AK234", "plain arrays"),
    "arrays of two lengths": (
        "rows.npz",
        lambda f: archive(f, label=["yes", "no"], decision=["yes"], score=[0.5, 0.2], sex=["F", "M"]),
        "AK",
        "1 rows",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file(tmp_path, capsys, name):
    file, content, code, fragment = FILES[name]
    (tmp_path / file).write_bytes(content(tmp_path))
    (tmp_path / "rows.csv").touch()
    found = audit(tmp_path, CONFIG.replace("rows.csv", file) + rule())
    words = said(capsys)
    assert (found, code in words, fragment in words) == (2, True, True), words
    assert "fix:" in words


COLUMNS = {
    "a weight of 0": ("weight", lambda t: t.assign(w=np.arange(len(t))), "AK219", "1 of 240 weights"),
    "a negative weight": ("weight", lambda t: t.assign(w=-1.0), "AK219", "240 of 240 weights"),
    "a missing weight": ("weight", lambda t: t.assign(w=[None] + [1.0] * (len(t) - 1)), "AK219", "1 of 240"),
    "weights that are words": ("weight", lambda t: t.assign(w="heavy"), "AK219", "not numbers"),
    "a missing cluster": ("cluster", lambda t: t.assign(w=[None] + ["a"] * (len(t) - 1)), "AK220", "1 of 240 rows"),
    "one cluster": ("cluster", lambda t: t.assign(w="site 1"), "ERROR", "too few"),
    "two clusters": ("cluster", lambda t: t.assign(w=np.arange(len(t)) % 2), "ERROR", "too few"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_broken_weight_or_cluster_column(tmp_path, capsys, name):
    key, change, code, fragment = COLUMNS[name]
    text = CONFIG.replace("[run]", f'{key} = "w"\n[run]') + rule()
    found = audit(tmp_path, text, table=change(good_rows()))
    words = said(capsys)
    assert (found, code in words, fragment in words) == (2 if code.startswith("AK") else 3, True, True), words


CODE = """\
import sys
import numpy as np

class Model:
    classes_ = np.array(["no", "yes"])
    n_features_in_ = 1
    def fit(self, X, y): return self
    def predict(self, X): return np.where(X["score"] > 0.5, "yes", "no")

class Crashes(Model):
    def predict(self, X): raise RuntimeError("boom")

class Exits(Model):
    def predict(self, X): sys.exit(0)

class Short(Model):
    def predict(self, X): return np.array(["no"])

class Other(Model):
    def predict(self, X): return np.array(["maybe"] * len(X))

class NotFinite(Model):
    def predict_proba(self, X): return np.full((len(X), 2), np.nan)

class NotProbabilities(Model):
    def predict_proba(self, X): return np.full((len(X), 2), 3.0)

def raises(): raise ValueError("no such bucket")
def leaves(): sys.exit(0)
def none(): return None
def number(): return 7
"""
# The factory -> (exit code, code, words)
MODELS = {
    "Crashes": (3, "AK210", "boom"),
    "Exits": (3, "AK210", "SystemExit"),
    "Short": (3, "AK211", "(64,) was expected"),
    "Other": (3, "AK212", "'maybe'"),
    "NotFinite": (3, "AK213", "64 of 64 rows"),
    "NotProbabilities": (3, "AK214", "not probabilities"),
    "raises": (3, "AK137", "no such bucket"),
    "leaves": (3, "AK137", "SystemExit"),
    "none": (2, "AK136", "returned None"),
    "number": (2, "AK", "int"),
    "absent": (2, "AK136", "no function 'absent'"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_breaks(tmp_path, capsys, name):
    exits, code, fragment = MODELS[name]
    (tmp_path / "broken_model.py").write_text(CODE)
    text = CONFIG.replace('prediction = "decision"\nscore = "score"\n', 'drop = ["decision"]\n')
    found = audit(tmp_path, text.replace("[data]", f'[model]\nfactory = "broken_model:{name}"\n[data]') + rule())
    words = said(capsys)
    assert (found, code in words, fragment in words) == (exits, True, True), words


def raises(subject, context, params):
    raise RuntimeError("boom")


def leaves(subject, context, params):
    raise SystemExit(0)


def measures_nothing(subject, context, params):
    return iter(())


@pytest.mark.parametrize("ends", [raises, leaves, measures_nothing])
def test_an_analyzer_that_breaks(tmp_path, capsys, monkeypatch, ends):
    broken = Analyzer(
        name="fairness.groups",
        version="1",
        title="t",
        summary="s",
        reference="r",
        needs=frozenset(),
        measures={},
        params=type("Loose", (Params,), {"__annotations__": {"cross_check": bool}, "cross_check": False}),
        run=ends,
    )
    monkeypatch.setattr("auditkit.analyzers.fairness.groups.ANALYZER", broken)
    assert audit(tmp_path, CONFIG + rule()) == 3
    assert "FAILED fairness.groups: AK30" in said(capsys)


def test_an_output_folder_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert audit(tmp_path, CONFIG + rule()) in (2, 3)
    assert "AK" in said(capsys)
    (tmp_path / "out").unlink()
    with output_lock(tmp_path / "out"):
        assert audit(tmp_path, CONFIG + rule()) in (2, 3)
    assert "AK" in said(capsys)


@pytest.mark.parametrize(
    ("more", "code", "fragment"),
    [
        (("--profile", "nyc-ll145"), "AK", "nyc-ll144"),
        (("--only", "fairnes"), "AK", "did you mean 'fairness'"),
        (("--config", "x.toml"), "AK642", "not both"),
        (("--gaet",), "", "--gate"),
    ],
)
def test_a_mistyped_command(tmp_path, capsys, more, code, fragment):
    assert audit(tmp_path, CONFIG + rule(), *more) == 2
    words = said(capsys)
    assert code in words
    assert fragment in words


@pytest.mark.parametrize("name", ["nobody is selected", "one label is missing", "few rows and a lucky tie"])
def test_the_exit_code_of_the_process(tmp_path, name):
    case = next(case for case in BAD_ROWS if case.name == name)
    case.change(good_rows()).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "audit.toml").write_text(CONFIG + rule(*case.rule))
    words = ["-m", "auditkit", "run", "audit.toml", "--out", "out", "--gate"]
    done = subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == case.exits, done.stderr


def test_there_are_more_than_100_broken_inputs():
    assert len(BAD_ROWS) + len(CONFIGS) + len(FILES) + len(COLUMNS) + len(MODELS) > 100
