"""Rebuild the sample cards from their committed evidence; with ``--audit``, run the audits again first.

Usage: python reports/rebuild.py [--audit] [NAME ...]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from auditkit.api import CARD_FILE, EVIDENCE_FILE, load_report
from auditkit.core.schema import write_bytes, write_text

HERE = Path(__file__).parent
NAMES = ("loan", "breast_cancer", "digits", "diabetes")


def audit(name: str) -> None:
    """Run ``examples/<name>`` and keep its evidence."""
    config = HERE.parent / "examples" / name / "audit.toml"
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "auditkit.cli.main", "run", str(config), "--out", out]
        subprocess.run(command, check=True)
        write_bytes(HERE / name / EVIDENCE_FILE, (Path(out) / EVIDENCE_FILE).read_bytes())


def main(words: list[str]) -> None:
    """Rebuild the named cards, or all."""
    names = [word for word in words if not word.startswith("--")] or list(NAMES)
    for name in names:
        if "--audit" in words:
            audit(name)
        write_text(HERE / name / CARD_FILE, load_report(HERE / name / EVIDENCE_FILE).to_html())
        print(f"reports/{name}/{CARD_FILE}")


if __name__ == "__main__":
    main(sys.argv[1:])
