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


def test_saved_predictions_are_audited_without_pandas(tmp_path):
    rows = "\n".join(f"{'ab'[i % 2]},{i % 3 > 0:d},{i % 7 / 7},{i % 5 > 1:d}" for i in range(300))
    (tmp_path / "rows.csv").write_text(f"group,label,score,decision\n{rows}\n", encoding="utf-8")
    (tmp_path / "audit.toml").write_text(
        'version = 1\n[data]\ntest = "rows.csv"\ntarget = "label"\nprediction = "decision"\nscore = "score"\n'
        'positive = "1"\nsensitive = ["group"]\n[run]\nanalyzers = ["performance", "fairness.groups"]\n'
        '[analyzer."fairness.groups"]\ncross_check = false\n',
        encoding="utf-8",
    )
    words = ["auditkit", "run", str(tmp_path / "audit.toml"), "--out", str(tmp_path / "out"), "--quiet"]
    code = f"import sys\nfrom auditkit.cli.main import main\nsys.argv = {words!r}\ntry: main()\nexcept SystemExit: pass"
    loaded = loaded_after(code)
    assert "duckdb" in loaded
    assert not loaded & (HEAVY - {"duckdb", "scipy"}), "scipy gives a few quantiles"
    assert list((tmp_path / "out").rglob("model-card.html"))


def test_the_probe_sees_a_heavy_import():
    assert "pandas" in loaded_after("import pandas")


def test_public_names_resolve():
    import auditkit

    for name in auditkit.__all__:
        assert getattr(auditkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        auditkit.nope  # noqa: B018
