from __future__ import annotations

import hashlib
import pickle
import sys
import types
import zipfile

import numpy as np
import pandas as pd
import pytest

from auditkit.core.errors import LoadError
from auditkit.subjects.loading import load_model
from auditkit.subjects.skops_types import REVIEWED_TYPES

joblib = pytest.importorskip("joblib")
skops = pytest.importorskip("skops.io")
torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")


class Marker:
    """Creates a folder when it is unpickled."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self):
        import os
        import timeit

        if self.how == "mkdir":
            return (os.mkdir, ("executed",))
        if self.how == "system":
            return (os.system, ("mkdir executed",))
        if self.how == "eval":
            return (eval, ("__import__('os').mkdir('executed')",))
        return (timeit.timeit, ("import os; os.mkdir('executed')", "pass"))


HOW = ("mkdir", "system", "eval", "timeit")


def build_line():
    return torch.nn.Linear(3, 2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def forest():
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    return RandomForestClassifier(5, random_state=0).fit(x, (x[:, 0] > 0).astype(int)), x


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(
    "suffix", [".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".bin", ".skops", ".safetensors"]
)
@pytest.mark.parametrize("allow", [False, True])
def test_a_hostile_pickle_under_any_name_runs_nothing(here, how, suffix, allow) -> None:
    path = here / f"model{suffix}"
    path.write_bytes(pickle.dumps(Marker(how)))
    with pytest.raises(LoadError, match="AK23[6-9]|AK242"):
        load_model(path, factory=build_line, allow_pickle=allow)
    assert not (here / "executed").exists()


@pytest.mark.parametrize("how", HOW)
def test_hostile_torch_archives_and_joblib_files_run_nothing(here, how) -> None:
    torch.save({"weight": Marker(how)}, here / "state.pt")
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), here / "whole.pt")
    joblib.dump([np.zeros(3), Marker(how)], here / "m.joblib", compress=3)
    with zipfile.ZipFile(here / "hand.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Marker(how)))
        archive.writestr("archive/version", "3")
    for name, code in (("state.pt", "AK239"), ("whole.pt", "AK239"), ("hand.pt", "AK239"), ("m.joblib", "AK236")):
        with pytest.raises(LoadError, match=code):
            load_model(here / name, factory=build_line)
    assert not (here / "executed").exists()


def test_torchscript_is_refused(here) -> None:
    with zipfile.ZipFile(here / "script.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/constants.pkl", pickle.dumps(()))
        archive.writestr("archive/version", "3")
    with pytest.raises(LoadError, match="AK239"):
        load_model(here / "script.pt", factory=build_line)


def test_a_pickle_needs_both_permission_and_pin(here, forest) -> None:
    model, x = forest
    for name, dump in (
        ("m.pkl", lambda p: p.write_bytes(pickle.dumps(model))),
        ("m.joblib", lambda p: joblib.dump(model, p)),
    ):
        path = here / name
        dump(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with pytest.raises(LoadError, match="AK236(.|\n)*allow_pickle is off"):
            load_model(path)
        with pytest.raises(LoadError, match="AK236(.|\n)*allow_pickle is off"):
            load_model(path, sha256=digest)
        with pytest.raises(LoadError, match="AK236(.|\n)*no sha256 pins it"):
            load_model(path, allow_pickle=True)
        loaded = load_model(path, allow_pickle=True, sha256=digest.upper())
        assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))


def test_a_changed_pickle_is_not_opened(here) -> None:
    path = here / "m.pkl"
    path.write_bytes(pickle.dumps({"fine": 1}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(pickle.dumps(Marker("mkdir")))
    with pytest.raises(LoadError, match="AK237 'm.pkl' is not the file that was pinned"):
        load_model(path, allow_pickle=True, sha256=digest)
    with pytest.raises(LoadError, match="AK237 sha256 is not 64 hexadecimal digits"):
        load_model(path, allow_pickle=True, sha256="abc")
    assert not (here / "executed").exists()


def test_skops_pipelines_load_by_the_reviewed_list(here, forest) -> None:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model, x = forest
    y = (x[:, 0] > 0).astype(int)
    scale = ColumnTransformer([("s", StandardScaler(), [0, 1])], remainder="passthrough")
    boosted = make_pipeline(scale, HistGradientBoostingClassifier(max_iter=5)).fit(x, y)
    for fitted in (model, boosted):
        skops.dump(fitted, here / "m.skops")
        assert np.array_equal(load_model(here / "m.skops").predict_proba(x), fitted.predict_proba(x))


def test_skops_types_off_the_list_are_named(here) -> None:
    from sklearn.preprocessing import FunctionTransformer

    skops.dump(FunctionTransformer(build_line), here / "f.skops")
    with pytest.raises(LoadError, match="AK238 'f.skops' holds types that are not on the reviewed list: .*build_line"):
        load_model(here / "f.skops")
    plain = REVIEWED_TYPES - {"builtins.object"}  # the type of columns of objects: it does nothing
    assert not any(name.split(".")[0] in ("os", "subprocess", "builtins", "operator", "joblib") for name in plain)


@pytest.mark.parametrize("kind", [np.number, "category", pd.CategoricalDtype, [object, "string"]])
def test_pipelines_that_choose_their_columns_by_type_load(here, kind) -> None:
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    table = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0] * 5, "b": pd.Categorical(["x", "y", "x", "z"] * 5)})
    chosen = make_column_transformer((OneHotEncoder(), make_column_selector(dtype_include=kind)), remainder="drop")
    fitted = make_pipeline(chosen, LogisticRegression()).fit(table.assign(c=list("uvuv") * 5), [0, 1] * 10)
    skops.dump(fitted, here / "m.skops")
    rows = table.assign(c=list("uvuv") * 5)
    assert np.array_equal(load_model(here / "m.skops").predict_proba(rows), fitted.predict_proba(rows))


def test_state_dicts_go_into_the_factorys_module(here) -> None:
    source = torch.nn.Linear(3, 2)
    torch.save(source.state_dict(), here / "a.pt")
    torch.save({"state_dict": source.state_dict(), "epoch": 3}, here / "b.pth")
    safetensors.save_file(source.state_dict(), here / "c.safetensors")
    for name in ("a.pt", "b.pth", "c.safetensors"):
        for factory in (build_line, build_line()):
            loaded = load_model(here / name, factory=factory)
            assert torch.equal(loaded.weight, source.weight)
            assert not loaded.training
    with pytest.raises(LoadError, match="AK240 'a.pt' holds weights"):
        load_model(here / "a.pt")
    with pytest.raises(LoadError, match="AK240 the weights in 'a.pt' do not fit"):
        load_model(here / "a.pt", factory=lambda: torch.nn.Linear(4, 2))
    with pytest.raises(LoadError, match="AK240 the factory returned int"):
        load_model(here / "a.pt", factory=lambda: 3)
    torch.save([1, 2], here / "list.pt")
    with pytest.raises(LoadError, match="AK239 'list.pt' holds no state dict"):
        load_model(here / "list.pt", factory=build_line)
    torch.save({}, here / "empty.pt")
    with pytest.raises(LoadError, match="AK239 'empty.pt' holds no state dict"):
        load_model(here / "empty.pt", factory=build_line)


def test_factories_by_name_and_their_errors(here, monkeypatch) -> None:
    module = types.ModuleType("my_models")
    module.build = build_line
    module.broken = lambda: 1 / 0
    monkeypatch.setitem(sys.modules, "my_models", module)
    assert isinstance(load_model("my_models:build"), torch.nn.Linear)
    with pytest.raises(LoadError, match=r"AK241 'my_models' has no 'biuld'(.|\n)*did you mean 'build'"):
        load_model("my_models:biuld")
    with pytest.raises(LoadError, match=r"AK241 the factory raised(.|\n)*ZeroDivisionError"):
        load_model("my_models:broken")
    with pytest.raises(LoadError, match="AK241 'no_such_package' cannot be imported"):
        load_model("no_such_package:build")


def test_odd_files_are_refused(here) -> None:
    with pytest.raises(LoadError, match="AK230 addresses are not opened"):
        load_model("https://example.org/m.skops")
    with pytest.raises(LoadError, match="AK230 there is no file"):
        load_model(here / "m.skops")
    (here / "m.h5").write_bytes(b"x")
    with pytest.raises(LoadError, match="AK235 'm.h5' is not a kind of model file"):
        load_model(here / "m.h5")
    (here / "m.skops").write_bytes(b"x" * 100)
    with pytest.raises(LoadError, match="AK243 'm.skops' is larger than 10 bytes"):
        load_model(here / "m.skops", max_bytes=10)
    with pytest.raises(LoadError, match="AK242 'm.skops' cannot be read as a skops file"):
        load_model(here / "m.skops")
    with zipfile.ZipFile(here / "z.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "0" * 10**6)
    with pytest.raises(LoadError, match="AK243 'z.skops' unpacks to 1000000 bytes"):
        load_model(here / "z.skops", max_bytes=10**5)
    (here / "loop.skops").symlink_to(here / "loop.skops")
    with pytest.raises(LoadError, match="AK230 there is no file 'loop.skops'"):
        load_model(here / "loop.skops")
