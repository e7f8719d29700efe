"""The generated pages are current, every code means one thing, and every setting is explained."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_generated_pages_are_current():
    done = subprocess.run([sys.executable, ROOT / "docs" / "build.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + "run: python docs/build.py"


def test_every_code_in_the_source_is_on_the_page():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for path in (ROOT / "auditkit").rglob("*.py"):
        for code in re.findall(r"\"(AK\d{3})\b", path.read_text(encoding="utf-8")):
            if code not in ("AK300", "AK304"):  # sentences of outcomes, not raised
                assert code in page, f"{code} of {path.name} is not in docs/errors.md"


def test_what_went_wrong_is_no_line_of_code():
    """Sentences that are indexed out of a tuple, or cut, where they are raised would be one on the page."""
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| AK\d{3} \| \{\w+[^\w}].*$", page, re.MULTILINE) == []


def test_every_setting_of_every_analyzer_is_explained():
    from auditkit.core.registry import discover, load

    for name, point in discover().items():
        if point.value.startswith("auditkit."):
            for key, field in load(name).params.model_fields.items():
                assert field.description, f"{name}: {key} has no description"


def test_the_readme_names_every_analyzer_and_every_command():
    from auditkit.cli.main import COMMANDS
    from auditkit.core.registry import discover

    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, point in discover().items():
        if point.value.startswith("auditkit."):
            assert f"`{name}`" in page, f"{name} is not in the README's table"
    for command in COMMANDS:
        assert f"auditkit {command}" in page, f"`auditkit {command}` is not in the README"
