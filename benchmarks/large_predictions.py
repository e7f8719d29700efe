"""20 million saved predictions in a Parquet file: audit, card, JUnit and exit code in how much memory and time?

Usage: python benchmarks/large_predictions.py [--rows 20000000] [--write]

Beside it, in the same run: what reading the same file as a data frame takes before anything is measured, and a
MetricFrame of fairlearn, where it is installed, on as many rows as its time allows (its time grows with the rows).
Peak memory is the resident memory of the whole process, as the system counts it.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "large_predictions.md"
PEER_ROWS = 1_000_000
TARGET_MIB = 1024
CONFIG = """version = 1
[data]
test = "predictions.parquet"
target = "label"
prediction = "decision"
score = "score"
positive = "1"
sensitive = ["sex", "age"]
[run]
analyzers = ["performance", "fairness.groups"]
[[rule]]
id = "selection-by-sex"
metric = "fairness.selection_rate"
compare = "ratio"
over = ["sex"]
min = 0.80
"""
# The scores of women are 0.02 higher; one row in a hundred has no age.
DRAW = """COPY (
  SELECT CASE WHEN hash(i, 1) % 2 = 0 THEN 'female' ELSE 'male' END AS sex,
         CASE WHEN hash(i, 2) % 100 = 0 THEN NULL
              ELSE ['18-29', '30-44', '45-59', '60+'][1 + (hash(i, 3) % 4)::INTEGER] END AS age,
         s AS score, (s >= 0.5)::INTEGER AS decision,
         ((hash(i, 4) % 1000000) / 1e6 < 0.1 + 0.8 * s)::INTEGER AS label
  FROM (SELECT i, least(1.0, (hash(i, 5) % 1000000) / 1e6 * 0.98 + 0.02 * (hash(i, 1) % 2 = 0)::INTEGER) AS s
        FROM range(ROWS) t(i))
) TO 'PATH' (FORMAT parquet)"""
READ = "import duckdb; frame = duckdb.read_parquet('PATH').df()"
FAIRLEARN = """
import duckdb, fairlearn.metrics as fl
frame = duckdb.sql("SELECT * FROM 'PATH' LIMIT LIMITED").df()
rates = {n: getattr(fl, n) for n in ("selection_rate", "true_positive_rate", "false_positive_rate")}
fl.MetricFrame(metrics=rates, y_true=frame.label, y_pred=frame.decision,
               sensitive_features=frame[["sex", "age"]].fillna("missing")).by_group
"""


def measure(command: list[str]) -> tuple[float, float, int]:
    """CPU seconds, peak MiB and exit code of one process."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = child.stderr.read() if child.stderr else b""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1, 4):
        raise SystemExit(f"{command[:4]} failed:\n{error.decode()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, child.returncode


def main() -> None:
    rows = int(sys.argv[sys.argv.index("--rows") + 1]) if "--rows" in sys.argv else 20_000_000
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        path = str(folder / "predictions.parquet")
        drawn = DRAW.replace("ROWS", str(rows)).replace("PATH", path)
        # In a process of its own: a child's peak counts from that of the process which started it.
        subprocess.run(
            [sys.executable, "-c", f"import duckdb; duckdb.sql({drawn!r})"], check=True, stdout=subprocess.DEVNULL
        )
        (folder / "audit.toml").write_text(CONFIG)
        out = folder / "out"
        audit = [sys.executable, "-m", "auditkit.cli.main", "run", str(folder / "audit.toml"), "--out", str(out)]
        judged = [*audit, "--gate", "--quiet", "--output", f"junit={out}/junit.xml"]
        found = [("auditkit run --gate", rows, *measure(judged))]
        size = (out / "evidence.json").stat().st_size / 1e3, (out / "model-card.html").stat().st_size / 1e3
        read = READ.replace("PATH", path)
        found.append(("the file as a data frame, nothing measured", rows, *measure([sys.executable, "-c", read])))
        if importlib.util.find_spec("fairlearn"):
            few = min(rows, PEER_ROWS)
            peer = FAIRLEARN.replace("PATH", path).replace("LIMITED", str(few))
            found.append(("fairlearn MetricFrame, 3 rates", few, *measure([sys.executable, "-c", peer])))
        megabytes = Path(path).stat().st_size / 1e6
    lines = [
        "# Many saved predictions",
        "",
        f"A Parquet file of {rows:,} rows ({megabytes:.0f} MB): labels, decisions, scores and two sensitive columns.",
        "The audit measures performance and the rates of every group and intersection, and writes evidence",
        f"({size[0]:.0f} kB), card ({size[1]:.0f} kB) and JUnit. Target: at most {TARGET_MIB} MiB.",
        "Made by `python benchmarks/large_predictions.py --write`.",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        "| | rows | CPU s | CPU s per million rows | peak MiB | x memory of auditkit |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    base = found[0][3]
    for label, count, seconds, peak, _ in found:
        lines.append(
            f"| {label} | {count:,} | {seconds:.1f} | {seconds / count * 1e6:.2f} | {peak:.0f} | {peak / base:.1f} |"
        )
    print("\n".join(lines))
    if "--write" in sys.argv:
        RESULT.write_text("\n".join(lines) + "\n")
    sys.exit(0 if base <= TARGET_MIB else 1)


if __name__ == "__main__":
    main()
