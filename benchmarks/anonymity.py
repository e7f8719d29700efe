"""k-anonymity, l-diversity and t-closeness of a million rows: CPU seconds, and the ratio to pycanon.

    python benchmarks/anonymity.py [--peer PYTHON] [--write]

``--peer`` is the interpreter of an environment with pycanon, which wants older versions of numpy than auditkit::

    python -m venv peer && peer/bin/pip install pycanon
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from auditkit.methods.privacy.anonymity import anonymity, equivalence_classes, l_diversity, t_closeness

RESULT = Path(__file__).parent / "results" / "anonymity.md"
KNOWN = ["age", "sex", "place", "race"]
PEER = """
import json, sys, time
import pandas as pd
from pycanon import anonymity
frame = pd.read_csv(sys.argv[1])
known = ["age", "sex", "place", "race"]
start = time.process_time()
found = {
    "k": int(anonymity.k_anonymity(frame, known)),
    "l": int(anonymity.l_diversity(frame, known, ["illness"])),
    "t": float(anonymity.t_closeness(frame, known, ["illness"])),
}
print(json.dumps({"seconds": time.process_time() - start, **found}))
"""


def table(n: int) -> pd.DataFrame:
    """People whose illness depends on their age; many are alike, some are alone."""
    rng = np.random.default_rng(0)
    age = np.clip(rng.normal(45, 18, n).astype(int), 0, 95)
    return pd.DataFrame(
        {
            "age": age,
            "sex": rng.integers(0, 2, n),
            "place": np.minimum(rng.geometric(0.05, n), 200),
            "race": rng.choice(5, n, p=[0.7, 0.15, 0.1, 0.04, 0.01]),
            "illness": np.array(list("abcdefgh"))[np.minimum(rng.geometric(0.3, n) - 1 + (age > 60), 7)],
        }
    )


def ours(frame: pd.DataFrame) -> dict[str, float]:
    """The three numbers, and the CPU seconds they took, coding of the columns included."""
    start = time.process_time()
    known = [pd.factorize(frame[name])[0] for name in KNOWN]
    secret = pd.factorize(frame["illness"], sort=True)[0]
    classes = equivalence_classes(known)
    found = {
        "k": anonymity(classes).k,
        "l": l_diversity(classes, secret).distinct,
        "t": t_closeness(classes, secret),
    }
    return {"seconds": time.process_time() - start, **found}


def main() -> None:
    """Print, or write, the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--peer")
    options.add_argument("--write", action="store_true")
    chosen = options.parse_args()
    lines = [
        "| rows | auditkit, CPU s | pycanon, CPU s | ratio | k | l | t |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for n in (30_000, 1_000_000):
        frame = table(n)
        best = min((ours(frame) for _ in range(3)), key=lambda found: found["seconds"])
        told = ["-", "-"]
        if chosen.peer and n <= 30_000:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "table.csv"
                frame.to_csv(path, index=False)
                done = subprocess.run(
                    [chosen.peer, "-W", "ignore", "-c", PEER, str(path)], capture_output=True, text=True, check=True
                )
            peer = json.loads(done.stdout.splitlines()[-1])
            assert (peer["k"], peer["l"]) == (best["k"], best["l"]), peer
            assert abs(peer["t"] - best["t"]) < 1e-3, (peer, best)  # pycanon rounds
            told = [f"{peer['seconds']:.2f}", f"{peer['seconds'] / best['seconds']:,.0f}x"]
        lines.append(
            f"| {n:,} | {best['seconds']:.3f} | {told[0]} | {told[1]} | {best['k']} | {best['l']} | {best['t']:.4f} |"
        )
    text = "\n".join(lines) + "\n"
    print(text)
    if chosen.write:
        RESULT.write_text(
            "# k-anonymity, l-diversity, t-closeness\n\nFour quasi-identifiers, eight illnesses; CPU seconds, best of "
            "three (auditkit), one run (pycanon, in an environment of its own).\n2 cores x86-64, Python 3.11; "
            "`python benchmarks/anonymity.py --peer peer/bin/python --write`.\n\n" + text,
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
