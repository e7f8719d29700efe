"""What is loaded when: import, listing and gating stay light."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "sklearn", "shap", "lime", "captum", "art", "opacus", "fairlearn", "pandas", "scipy", "duckdb"}


def loaded_after(code: str) -> set[str]:
    """Top-level modules in a fresh process after ``code``."""
    probe = f"{code}\nimport sys, json; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_auditkit_loads_nothing_else():
    loaded = loaded_after("import auditkit")
    assert not loaded & (HEAVY | {"numpy", "pydantic", "jinja2", "rich", "click"})


def test_loading_every_descriptor_loads_nothing_heavy():
    code = "from auditkit.core.registry import discover, load\nfor name in discover(): load(name)"
    assert not loaded_after(code) & HEAVY


@pytest.mark.parametrize(
    "code",
    [
        "import auditkit.policy.evaluate, auditkit.policy.model",
        "import auditkit.render.html.card, auditkit.render.junit",
        "import auditkit.api",
        "import auditkit.cli.main",
        "import auditkit.testing",
    ],
)
def test_light_rooms_load_nothing_heavy(code):
    assert not loaded_after(code) & HEAVY


def test_the_probe_sees_a_heavy_import():
    assert "pandas" in loaded_after("import pandas")


def test_public_names_resolve():
    import auditkit

    for name in auditkit.__all__:
        assert getattr(auditkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        auditkit.nope  # noqa: B018
