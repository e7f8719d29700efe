"""The card as PDF, printed by a browser that is installed here; nothing is sent anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from auditkit.core.errors import UsageError

BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
    "brave-browser",
)
_PLACES = {
    "darwin": (
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
        "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
    ),
    "win32": (
        r"C:\Program Files\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Google\Chrome\Application\chrome.exe",
        r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
    ),
}
VARIABLE = "AUDITKIT_BROWSER"


def find_browser() -> str | None:
    """A Chromium-like browser: the one named by ``AUDITKIT_BROWSER``, else the first that is installed."""
    named = os.environ.get(VARIABLE)
    if named:
        return shutil.which(named)
    on_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    return on_path or next((place for place in _PLACES.get(sys.platform, ()) if Path(place).is_file()), None)


def print_pdf(html: str, timeout: float = 120.0) -> bytes:
    """The page ``html`` as PDF.

    The browser runs headless with a profile of its own that is thrown away, and every host name resolves to nothing.
    The bytes hold the time of printing: unlike the card itself, two prints of the same card differ.

    Args:
        html: A self-contained page.
        timeout: Seconds to wait for the browser.

    Raises:
        UsageError: AK649 when no browser is installed, AK648 when it fails or takes too long.
    """
    browser = find_browser()
    if browser is None:
        raise UsageError(
            "AK649",
            "no browser was found to print the card with",
            why=f"looked for {VARIABLE}, {', '.join(BROWSERS)}",
            fix=f"install Chromium, or set {VARIABLE} to a browser's path, or print the HTML card from any browser",
        )
    with tempfile.TemporaryDirectory(prefix="auditkit-") as folder:
        page, target = Path(folder, "card.html"), Path(folder, "card.pdf")
        page.write_text(html, encoding="utf-8")
        command = [
            browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={folder}/profile",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--print-to-pdf={target}",
        ]  # fmt: skip
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # Chromium refuses its sandbox to root
            command.append("--no-sandbox")
        try:
            done = subprocess.run([*command, page.as_uri()], capture_output=True, timeout=timeout, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _failed(type(error).__name__) from error
        if done.returncode or not target.is_file():
            raise _failed(f"exit code {done.returncode}")
        return target.read_bytes()


def _failed(why: str) -> UsageError:
    return UsageError("AK648", "the browser did not print the card", why=why, fix="print the HTML card from a browser")
