"""A real third-party distribution is installed beside auditkit, found, run and held to the contract."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "plugin_package"

PROBE = """
import json
import numpy as np
import auditkit
from auditkit.core.registry import discover, load
from auditkit.testing import check_analyzer
from auditkit.subjects.build import make_subject
x = np.linspace(-1, 1, 60).reshape(-1, 1)
y = (x[:, 0] > 0).astype(int)
subject = make_subject(lambda rows: (np.asarray(rows)[:, 0] > 0).astype(float), x, y)
outcome = check_analyzer(load("steadiness.repeat"), subject)
report = auditkit.audit(subject.model, x, y, analyzers=["steadiness"], progress=False)
print(json.dumps({
    "names": list(discover()),
    "status": outcome.status,
    "value": report.select("steadiness.repeat_agreement")[0].value,
    "card": "steadiness" in report.to_html().lower(),
}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the plug-in installed by pip."""
    folder = tmp_path_factory.mktemp("site")
    source = tmp_path_factory.mktemp("source")
    import shutil

    shutil.copytree(PACKAGE, source / "package")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", folder, source / "package"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_an_installed_plug_in_is_found_run_and_shown(site):
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "steadiness.repeat" in found["names"]
    assert found["status"] == "measured"
    assert found["value"] == 1.0
    assert found["card"]


def test_without_the_plug_in_its_name_is_unknown():
    from auditkit.core.errors import UsageError
    from auditkit.core.registry import load

    with pytest.raises(UsageError, match="AK121"):
        load("steadiness.repeat")
