"""The card as PDF: the browser that is there prints it, and its absence is told."""

import stat
import sys

import pytest

from auditkit.core.errors import UsageError
from auditkit.render import pdf


def fake_browser(folder, body):
    path = folder / "browser"
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_without_a_browser_the_way_out_is_told(monkeypatch):
    monkeypatch.setattr(pdf.shutil, "which", lambda name: None)
    monkeypatch.setattr(pdf, "_PLACES", {})
    with pytest.raises(UsageError, match="AK649 no browser was found"):
        pdf.print_pdf("<p>x</p>")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a shebang")
@pytest.mark.parametrize(("body", "why"), [("sys.exit(3)", "exit code 3"), ("", "exit code 0")])
def test_a_browser_that_prints_nothing_is_an_error(tmp_path, monkeypatch, body, why):
    monkeypatch.setenv(pdf.VARIABLE, fake_browser(tmp_path, body))
    with pytest.raises(UsageError, match=rf"AK648 (.|\n)*{why}"):
        pdf.print_pdf("<p>x</p>")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a shebang")
def test_a_browser_that_hangs_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setenv(pdf.VARIABLE, fake_browser(tmp_path, "import time; time.sleep(60)"))
    with pytest.raises(UsageError, match=r"AK648 (.|\n)*TimeoutExpired"):
        pdf.print_pdf("<p>x</p>", timeout=0.5)
