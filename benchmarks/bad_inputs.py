"""Who passes silently: a gate on broken tables of predictions, by auditkit, fairlearn, AIF360 and aequitas.

The tables are those of tests/bad_inputs/bad_rows.py, written as CSV and read with each library's usual means. For the
others no/yes become 0/1 first, except where the case is about strings, and the gate compares the number that the
library returns with the same limit: a ratio of at least 0.5, or a difference of at most 0.4 (aequitas: ratios alone).

    python -m venv PEERS && PEERS/bin/pip install fairlearn aif360 aequitas
    python benchmarks/bad_inputs.py --peers PEERS/bin/python [--write]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "bad_inputs"))

from bad_rows import BAD_ROWS, BadRows, good_rows
from test_bad_inputs import CONFIG, rule

from auditkit.cli.main import main as auditkit

LIBRARIES = ("fairlearn", "aif360", "aequitas")
RESULT = Path(__file__).parent / "results" / "bad_inputs.md"
STATES = {0: "passes", 1: "fails", 2: "refuses", 3: "error", 4: "inconclusive"}


def ours(folder: Path, case: BadRows, file: str) -> str:
    positive = f'"{case.positive}"' if isinstance(case.positive, str) else str(case.positive)
    text = CONFIG.replace("rows.csv", file).replace('"yes"', positive) + rule(*case.rule)
    (folder / "audit.toml").write_text(text, encoding="utf-8")
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
        try:
            auditkit(["run", str(folder / "audit.toml"), "--out", str(folder / "out"), "--gate", "--quiet"])
        except SystemExit as left:
            state = STATES[int(left.code or 0)]
    words = heard.getvalue().split()
    return f"{state} ({words[words.index('error') + 1]})" if state == "refuses" else state


def gather(peers: str) -> tuple[dict[str, dict[str, str]], dict[str, BadRows]]:
    cases = {case.name: case for case in BAD_ROWS if case.peers}
    answers: dict[str, dict[str, str]] = {"auditkit": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = {}
        for place, case in enumerate(cases.values()):
            file = f"rows{place}.csv"
            case.change(good_rows()).to_csv(folder / file, index=False)
            answers["auditkit"][case.name] = ours(folder, case, file)
            told[case.name] = {"file": file, "rule": case.rule, "raw": case.raw}
        (folder / "cases.json").write_text(json.dumps(told), encoding="utf-8")
        script = Path(__file__).with_name("bad_inputs_peers.py")
        for library in LIBRARIES:
            command = [peers, str(script), str(folder), library]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{library} could not be asked:\n{done.stderr[-2000:]}")
            answers[library] = json.loads(done.stdout)
    return answers, cases


def report(answers: dict[str, dict[str, str]], cases: dict[str, BadRows], versions: str) -> str:
    lines = [
        "# Broken inputs: who passes silently",
        "",
        f"{len(cases)} tables of predictions, each broken in one way (tests/bad_inputs/bad_rows.py), before a gate of",
        "one rule that looks at what is broken. The table that they are made from passes everywhere. None should pass",
        "unseen: the number asked for does not exist, or the rows cannot carry it, or they hold one class alone, or",
        f"the gap is real. {versions}.",
        "Made by `python benchmarks/bad_inputs.py --peers PEERS/bin/python --write`.",
        "",
        "| | auditkit | fairlearn | AIF360 | aequitas |",
        "| --- | --- | --- | --- | --- |",
    ]
    order = ("auditkit", *LIBRARIES)
    for label, test in (
        ("passes without a word", lambda told: told == "passes"),
        ("passes with a warning", lambda told: told == "passes, with a warning"),
        ("returns NaN, which passes `not value < limit`", lambda told: told.startswith("NaN")),
    ):
        lines.append(f"| {label} | {' | '.join(str(sum(map(test, answers[name].values()))) for name in order)} |")
    lines += [
        "",
        "| what is broken | rule | auditkit | fairlearn | AIF360 | aequitas |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, case in cases.items():
        told = [answers[library][name] for library in order]
        shown = [f"**{word}**" if word.startswith("passes") else word for word in told]
        lines.append(f"| {name} | {case.rule[0]} {case.rule[1]} | {' | '.join(shown)} |")
    lines += [
        "",
        "auditkit: `refuses` is exit code 2 with the code shown, `error` 3, `inconclusive` 4, `fails` 1.",
        "fairlearn puts 0 for a rate without rows to divide by: a gap beside it is a number, large or small by chance.",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peers", required=True, help="the Python of an environment with fairlearn, aif360 and aequitas"
    )
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name}")
    given = parser.parse_args()
    answers, cases = gather(given.peers)
    show = f"from importlib.metadata import version as v; print(*(n + ' ' + v(n) for n in {LIBRARIES!r}), sep=', ')"
    versions = subprocess.run([given.peers, "-c", show], capture_output=True, text=True, check=True).stdout.strip()
    text = report(answers, cases, versions)
    print(text)
    if given.write:
        RESULT.write_text(text, encoding="utf-8")
    return 1 if any(told.startswith("passes") for told in answers["auditkit"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
