"""An audit logged to a real MLflow store in a folder, read back."""

import json
from dataclasses import replace

import pytest
import sample

from auditkit.api import Report
from auditkit.integrations.mlflow import log_report, metrics_of

RULE = {"id": "accurate", "metric": "performance.accuracy", "min": 0.7}
mlflow = pytest.importorskip("mlflow", reason="needs the [mlflow] extra")


def sample_report() -> Report:
    return Report(replace(sample.evidence(), policy={"version": 1, "rule": [RULE]}))


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    place = (tmp_path / "store").as_uri()
    mlflow.set_tracking_uri(place)
    yield mlflow.MlflowClient(tracking_uri=place)
    while mlflow.active_run():
        mlflow.end_run()


def test_an_audit_is_logged_and_read_back(store, tmp_path):
    report = sample_report()
    run_id = log_report(report)
    run = store.get_run(run_id)
    assert run.data.metrics["performance.accuracy"] == 0.8195
    assert run.data.metrics["performance.accuracy.low"] < 0.8195 < run.data.metrics["performance.accuracy.high"]
    assert (run.data.tags["auditkit.state"], run.data.tags["auditkit.exit_code"]) == (
        "error",
        "3",
    )
    assert run.data.tags["auditkit.evidence"].startswith("sha256:")
    folder = mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="auditkit", dst_path=str(tmp_path / "d"))
    with open(f"{folder}/evidence-shared.json", encoding="utf-8") as file:
        assert json.load(file)["redacted"] is True
    with open(f"{folder}/model-card.html", encoding="utf-8") as file:
        assert file.read() == report.to_html()


def test_it_joins_the_active_run_and_leaves_it_open(store):
    with mlflow.start_run() as run:
        assert log_report(sample_report()) == run.info.run_id
        assert mlflow.active_run().info.run_id == run.info.run_id


def test_numbers_of_the_same_name_stay_apart():
    from auditkit.core.evidence import Measurement

    several = [Measurement(name="a.b", value=float(i), slice={"x": text}) for i, text in enumerate(("é", "ü", "é!"))]
    found = metrics_of(tuple(several))
    assert sorted(found.values()) == [0.0, 1.0, 2.0]
    assert all(len(name) <= 250 for name in metrics_of((Measurement(name="a." + "b" * 400, value=1.0),)))


def test_without_the_package_the_pip_line_is_told(monkeypatch):
    import importlib

    from auditkit.core.errors import MissingExtra

    def refuse(name, *rest):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtra, match=r'pip install "auditkit\[mlflow\]"'):
        log_report(sample_report())
