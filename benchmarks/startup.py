"""CPU seconds and peak memory of the commands people wait for, beside what importing a peer costs.

The commands on 100,000 saved predictions write evidence, card and JUnit and exit with the verdict: all analyzers that
run by default, and the performance and group counts alone. Run it in a core install to see what a CI job pays
(``pip install auditkit``); there fairlearn's cross-check of the rates, and so its import, is left out.

Usage: python benchmarks/startup.py [--demo]     (--demo also times the whole embedded audit)
Prints Markdown; every figure is the median of whole processes in this one run.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 7
ROWS = 100_000
CONFIG = """version = 1
[data]
test = "predictions.csv"
target = "label"
prediction = "decision"
score = "score"
positive = "1"
sensitive = ["sex", "age"]
[[rule]]
id = "selection-by-sex"
metric = "fairness.selection_rate"
compare = "ratio"
over = ["sex"]
min = 0.80
"""
AUDITKIT = [sys.executable, "-m", "auditkit.cli.main"]


def measure(command: list[str], runs: int = RUNS) -> tuple[float, float, float]:
    """Median CPU seconds (user + system), wall seconds and peak MiB of a command, after one warm-up."""
    cpu, wall, peak = [], [], []
    for turn in range(runs + 1):
        begun = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if turn or runs == 1:
            cpu.append(usage.ru_utime + usage.ru_stime)
            wall.append(time.perf_counter() - begun)
            peak.append(usage.ru_maxrss / 1024)
        if runs == 1:
            break
    return statistics.median(cpu), statistics.median(wall), max(peak)


def make_inputs(folder: Path, sample: Path) -> None:
    """100,000 saved predictions, and evidence with 100,000 further measurements of two groups in 2,500 regions."""
    import numpy as np

    from auditkit.core.schema import dumps, from_document

    rng = np.random.default_rng(0)
    score = rng.random(ROWS)
    label = rng.random(ROWS) < 0.1 + 0.8 * score
    sex, age = rng.choice(["female", "male"], ROWS), rng.choice(["18-29", "30-44", "45-59", "60+"], ROWS)
    lines = [f"{s},{a},{y:d},{p:.5f},{p > 0.5:d}" for s, a, y, p in zip(sex, age, label, score, strict=True)]
    (folder / "predictions.csv").write_text("\n".join(["sex,age,label,score,decision", *lines]) + "\n")
    document = json.loads(sample.read_text())
    added = [
        {
            "name": f"fairness.quantity_{i % 20}",
            "value": (i * 7919 % 1000) / 1000,
            "n": 1000 + i,
            "interval": {"low": 0.0, "high": 1.0, "method": "none"},
            "slice": {"sex": "FM"[i % 2], "region": f"r{i // 40}"},
        }
        for i in range(100_000)
    ]
    first = {**document["outcomes"][0], "analyzer": "fairness.many", "measurements": added, "artifacts": []}
    document["outcomes"].append(first)
    document["digest"] = ""
    (folder / "many.json").write_text(dumps(from_document(document)))


def saved_predictions(folder: Path, analyzers: list[str] | None) -> list[str]:
    """The command that audits and gates the 100,000 saved predictions."""
    name = "default" if analyzers is None else "two"
    chosen = "" if analyzers is None else f"[run]\nanalyzers = {json.dumps(analyzers)}\n"
    (folder / f"{name}.toml").write_text(CONFIG + chosen)
    out = folder / name
    words = ["run", str(folder / f"{name}.toml"), "--out", str(out), "--fresh", "--gate", "--quiet"]
    return [*AUDITKIT, *words, "--output", f"junit={out / 'junit.xml'}"]


def lacks_nothing(command: list[str]) -> bool:
    """Whether what the command imports is installed here: a core install has no peers."""
    return command[1] != "-c" or all(
        importlib.util.find_spec(word.split(".")[0]) for word in re.findall(r"import (\S+)", command[2])
    )


def main() -> None:
    evidence = Path(__file__).parents[1] / "reports" / "loan" / "evidence.json"
    if "--make" in sys.argv:
        make_inputs(Path(sys.argv[-1]), evidence)
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled once
    rows: list[tuple[str, list[str], float | None]] = [
        ("python -c pass", [sys.executable, "-c", "pass"], None),
        ("import auditkit", [sys.executable, "-c", "import auditkit"], None),
        ("auditkit --help", [*AUDITKIT, "--help"], 0.15),
        ("auditkit gate (loan evidence)", [*AUDITKIT, "gate", str(evidence)], 0.6),
        ("import fairlearn.metrics", [sys.executable, "-c", "import fairlearn.metrics"], None),
        ("import shap", [sys.executable, "-c", "import shap"], None),
    ]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        # In a process of its own: the peak memory of a child counts from that of the process which started it.
        subprocess.run([sys.executable, __file__, "--make", made], check=True)
        big = folder / "many.json"
        rows.append(("auditkit gate (100,000 measurements)", [*AUDITKIT, "gate", str(big)], 1.0))
        for label, analyzers, target in (
            ("auditkit run --gate (100,000 predictions, by default)", None, 1.5),
            ("auditkit run --gate (100,000 predictions, two analyzers)", ["performance", "fairness.groups"], 1.5),
        ):
            rows.append((label, saved_predictions(folder, analyzers), target))
        measured = [(label, *measure(command), target) for label, command, target in rows if lacks_nothing(command)]
    if "--demo" in sys.argv:
        with tempfile.TemporaryDirectory() as out:
            measured.append(("auditkit demo", *measure([*AUDITKIT, "demo", "--out", out, "--quiet"], 1), 180.0))
            card = (Path(out) / "model-card.html").stat().st_size
        print(f"Demo card: {card / 1000:.0f} kB (target <= 500 kB)\n")
    base = measured[0][1]
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print("| command | CPU s | wall s | peak MiB | x bare python (CPU) | target s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for label, cpu, wall, peak, target in measured:
        goal = "" if target is None else f"{target:g}"
        print(f"| {label} | {cpu:.3f} | {wall:.3f} | {peak:.0f} | {cpu / base:.1f} | {goal} |")


if __name__ == "__main__":
    main()
