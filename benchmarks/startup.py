"""CPU seconds and peak memory of the commands people wait for, beside what importing a peer costs.

Usage: python benchmarks/startup.py [--demo]     (--demo also times the whole embedded audit)
Prints Markdown; every figure is the median of whole processes in this one run.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 7
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


def main() -> None:
    evidence = Path(__file__).parents[1] / "reports" / "loan" / "evidence.json"
    rows: list[tuple[str, list[str], float | None]] = [
        ("python -c pass", [sys.executable, "-c", "pass"], None),
        ("import auditkit", [sys.executable, "-c", "import auditkit"], None),
        ("auditkit --help", [*AUDITKIT, "--help"], 0.15),
        ("auditkit gate (loan evidence)", [*AUDITKIT, "gate", str(evidence)], 0.6),
        ("import fairlearn.metrics", [sys.executable, "-c", "import fairlearn.metrics"], None),
        ("import shap", [sys.executable, "-c", "import shap"], None),
    ]
    measured = [(label, *measure(command), target) for label, command, target in rows]
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
