"""Scripts that make each peer's report of a like size, each to be run in an environment of its own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

TABLE = """
import numpy as np, pandas as pd
rng = np.random.default_rng(0)
n = 5000
frame = pd.DataFrame({f"x{i}": rng.normal(size=n) for i in range(7)})
frame["sex"] = rng.choice(["F", "M"], n); frame["region"] = rng.choice(list("abcd"), n)
frame["label"] = (frame["x0"] + rng.normal(size=n) > 0).astype(int)
"""
PEERS = {
    "ydata": ("ydata-profiling, minimal, 5,000 x 10", TABLE + """
from ydata_profiling import ProfileReport
ProfileReport(frame, minimal=True, progress_bar=False).to_file(out)
"""),
    "evidently": ("evidently, drift and summary, 2,500 vs 2,500 rows", TABLE + """
from evidently import Report
from evidently.presets import DataDriftPreset, DataSummaryPreset
Report([DataDriftPreset(), DataSummaryPreset()]).run(frame[:2500], frame[2500:]).save_html(out)
"""),
    "pytest_html": ("pytest-html, self-contained, 60 tests", """
import os, subprocess, tempfile
folder = tempfile.mkdtemp()
test = "import pytest\\n@pytest.mark.parametrize('i', range(60))\\ndef test_x(i):\\n    assert i % 7, f'row {i}'\\n"
open(os.path.join(folder, "test_x.py"), "w").write(test)
subprocess.run([sys.executable, "-m", "pytest", "-q", folder, "--html", out, "--self-contained-html"], check=False)
"""),
    "giskard": ("giskard, scan report", TABLE + """
import giskard
data = giskard.Dataset(frame, target="label", cat_columns=["sex", "region"])
model = giskard.Model(lambda d: np.stack([d["x0"] <= 0, d["x0"] > 0], axis=1).astype(float), "classification",
                      classification_labels=[0, 1], feature_names=[c for c in frame if c != "label"])
giskard.scan(model, data).to_html(out)
"""),
}  # fmt: skip


def made(name: str, python: str, out: Path) -> tuple[float, str]:
    """Seconds to make the peer's report, and why there is none."""
    code = f"import sys; out = {str(out)!r}\n{PEERS[name][1]}"
    begun = time.perf_counter()
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, timeout=900)
    reason = "" if out.is_file() else (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1][:160]
    return time.perf_counter() - begun, reason
