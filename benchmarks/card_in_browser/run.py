"""The card beside other tools' reports in one Chromium: size, load, elements, requests, errors, accessibility.

Usage: python benchmarks/card_in_browser/run.py [--ydata PY] [--evidently PY] [--pytest-html PY] [--giskard PY]

Each option is a Python interpreter of an environment with that peer: `pip install ydata-profiling 'setuptools<81'`,
`pip install evidently 'pandas<3' scikit-learn`, `pip install pytest-html`, `pip install giskard`. Chromium and
`npm ci` in tests/browser are needed. Prints Markdown; all pages are loaded in one browser process, medians of five.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from peers import PEERS, made
from reference import many, reference

from auditkit.core.schema import canonical_json, to_document
from auditkit.render.html.card import render_card

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MODULES = ROOT / "tests" / "browser" / "node_modules"
RUNS = 5
BLANK = "<!doctype html><html lang=en><title>blank</title><main><h1>blank</h1></main></html>"
POLICY = '[[rule]]\nid = "a"\nmetric = "acme.q00"\ncompare = "value"\nover = ["g"]\nmax = 0.9\n'
COLUMNS = (
    "report",
    "bytes",
    "load ms",
    "x blank",
    "elements",
    "JS heap MB",
    "requests out",
    "errors",
    "axe rules (nodes)",
    "sideways at 320 px",
    "s to make",
)


def measured(pages: list[Path]) -> list[dict[str, object]]:
    """What the browser says of each page."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or "chromium"
    command = ["node", str(HERE / "measure.mjs"), chromium, str(MODULES), str(RUNS), *map(str, pages)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout))


def child_seconds(command: list[str], times: int = 3) -> float:
    """CPU seconds of a whole process, the median of ``times`` runs."""
    found = []
    for _ in range(times):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if os.waitstatus_to_exitcode(status):
            raise RuntimeError(f"{' '.join(command)} did not pass")
        found.append(usage.ru_utime + usage.ru_stime)
    return sorted(found)[times // 2]


def gate_seconds(folder: Path) -> float:
    """CPU seconds of ``auditkit gate`` on 100,000 records."""
    policy, path = folder / "policy.toml", folder / "many.json"
    policy.write_text(POLICY, encoding="utf-8")
    path.write_text(canonical_json(to_document(many(100_000))), encoding="utf-8")
    return child_seconds(
        [sys.executable, "-m", "auditkit.cli.main", "--quiet", "gate", str(path), "--policy", str(policy)]
    )


def row_of(words: str, seconds: float | None, row: Mapping[str, object], blank: float) -> str:
    """One line of the table."""
    found, load = row["violations"], float(str(row["load"]))
    axe = f"{found[0]} ({found[1]})" if isinstance(found, list) else str(found)
    cells = [
        words,
        f"{row['bytes']:,}",
        f"{load:.0f}",
        f"{load / blank:.1f}",
        f"{row['nodes']:,}",
        f"{row['heap']:.1f}",
        str(row["requests"]),
        str(row["errors"]),
        axe,
        f"{row['sideways']} px",
        "" if seconds is None else f"{seconds:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def without_pictures(card: str) -> tuple[int, int, int]:
    """Bytes of a card without its pictures, of its PNG files, and of the same pixels in the embedded evidence."""
    shown = sum(map(len, re.findall(r"data:image/png;base64,[A-Za-z0-9+/=]+", card)))
    embedded = sum(map(len, re.findall(r'"[A-Za-z0-9+/=]{1000,}"', card)))
    return len(card.encode()) - shown - embedded, shown, embedded


def collected(folder: Path, chosen: Mapping[str, str | None]) -> tuple[dict[Path, tuple[str, float | None]], list[str]]:
    """Every page with its words and the seconds it took to make, and what is left out."""
    missing = []
    blank, card = folder / "blank.html", folder / "reference.html"
    blank.write_text(BLANK, encoding="utf-8")
    begun = time.perf_counter()
    card.write_text(render_card(reference()), encoding="utf-8")
    labels: dict[Path, tuple[str, float | None]] = {
        blank: ("a blank page", None),
        card: ("**auditkit, reference card**", time.perf_counter() - begun),
    }
    for path in sorted((ROOT / "reports").glob("*/model-card.html")):
        labels[path] = (f"auditkit, {path.parent.name} card", None)
    for name, (words, _) in PEERS.items():
        python = chosen[name]
        seconds, reason = (0.0, "not asked for") if not python else made(name, python, folder / f"{name}.html")
        if reason:
            missing.append(f"{words}: {reason}")
        else:
            labels[folder / f"{name}.html"] = (words, seconds)
    return labels, missing


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in PEERS:
        options.add_argument("--" + name.replace("_", "-"))
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        labels, missing = collected(folder, vars(options.parse_args()))
        rows = measured(list(labels))
        print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
        print("| " + " | ".join(COLUMNS) + " |")
        print("| --- |" + " ---: |" * (len(COLUMNS) - 1))
        blank = float(str(rows[0]["load"]))
        for row, (words, seconds) in zip(rows, labels.values(), strict=True):
            print(row_of(words, seconds, row, blank))
        rest, shown, embedded = without_pictures((folder / "reference.html").read_text(encoding="utf-8"))
        print(f"\nReference card without its pictures: {rest:,} bytes ({shown:,} in PNG files,")
        print(f"{embedded:,} for the same pixels in the embedded evidence).")
        five = many(5_000)
        begun = time.process_time()
        render_card(five)
        print(f"\nRendering 5,000 measurements: {time.process_time() - begun:.2f} CPU s.")
        bare = child_seconds([sys.executable, "-c", "pass"])
        gate = gate_seconds(folder)
        print(f"`auditkit gate` on 100,000 measurements, whole process: {gate:.2f} CPU s,")
        print(f"{gate / bare:.0f} times the {bare:.3f} CPU s of bare Python.")
        for line in missing:
            print(f"\nLeft out: {line}.")


if __name__ == "__main__":
    main()
