"""What a configuration describes becomes the right subject; what is missing is named with file and line."""

import sys

import duckdb
import numpy as np
import pandas as pd
import pytest

from auditkit.config.factories import call_factory, is_reference
from auditkit.config.load import load_config
from auditkit.config.subject import subject_from_config
from auditkit.core.errors import AuditkitError, UsageError

PREDICTIONS = """\
version = 1
[data]
test = "rows.csv"
target = "label"
prediction = "decision"
score = "p"
positive = "yes"
sensitive = ["sex"]
weight = "w"
cluster = "person"
"""
MODEL = """\
import numpy as np, pandas as pd
from sklearn.linear_model import LogisticRegression

def table(n=60):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 2))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "sex": np.where(x[:, 1] > 0, "F", "M"),
                         "y": np.where(x[:, 0] > 0, "yes", "no")})

def build():
    t = table()
    return LogisticRegression().fit(t[["a", "b"]], t["y"])

def build_with_sex():
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    from sklearn.compose import ColumnTransformer
    t = table()
    encode = ColumnTransformer([("s", OneHotEncoder(), ["sex"])], remainder="passthrough")
    return make_pipeline(encode, LogisticRegression()).fit(t[["a", "b", "sex"]], t["y"])

def broken():
    return [][1]

def nothing():
    return None

def number():
    return 3
"""


def rows(n=40):
    rng = np.random.default_rng(1)
    p = rng.random(n).round(3)
    return pd.DataFrame(
        {
            "label": np.where(rng.random(n) < p, "yes", "no"),
            "decision": np.where(p >= 0.5, "yes", "no"),
            "p": p,
            "sex": np.where(rng.random(n) < 0.5, "F", "M"),
            "w": rng.uniform(0.5, 2, n).round(3),
            "person": np.arange(n) // 2,
        }
    )


@pytest.fixture
def project(tmp_path):
    rows().to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


def configured(folder, text):
    (folder / "audit.toml").write_text(text)
    return load_config(folder / "audit.toml")


def factory_text(function="build", extra=""):
    return (
        f'version = 1\n[model]\nfactory = "model:{function}"\n[data]\ntest = "model:table"\ntarget = "y"\n'
        f'positive = "yes"\nsensitive = ["sex"]\n{extra}'
    )


def test_saved_predictions_become_a_subject(project):
    table = rows()
    subject = subject_from_config(configured(project, PREDICTIONS))
    codes = {name: code for code, name in enumerate(subject.classes)}
    assert subject.task == "binary"
    assert subject.positive == codes["yes"]
    assert subject.test.y.tolist() == [codes[v] for v in table.label]
    np.testing.assert_allclose(subject.test.weights, table.w)
    assert len(set(subject.test.clusters.tolist())) == 20
    scores = subject.model.predict_scores(subject.test.inputs)
    np.testing.assert_allclose(scores[:, codes["yes"]], table.p)
    assert subject.test.sensitive["sex"].tolist() == table.sex.tolist()


def test_saved_points_of_a_scale_of_their_own_become_margins(project):
    subject = subject_from_config(
        configured(project, PREDICTIONS.replace("[data]\n", '[data]\nscore_space = "margin"\n'))
    )
    assert subject.model.score_space == "margin"
    np.testing.assert_allclose(subject.model.predict_scores(subject.test.inputs)[:, subject.positive], rows().p)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_parquet_and_csv_give_the_same_subject(project, suffix):
    source, target = project / "rows.csv", project / "rows.parquet"
    duckdb.sql(f"COPY (SELECT * FROM read_csv('{source}', all_varchar = true)) TO '{target}' (FORMAT parquet)")
    subject = subject_from_config(configured(project, PREDICTIONS.replace("rows.csv", f"rows.{suffix}")))
    assert subject.test.sensitive["sex"].tolist() == rows().sex.tolist()


def test_every_missing_column_is_named_with_its_line_and_the_nearest(project):
    text = PREDICTIONS.replace('"decision"', '"decisoin"').replace('["sex"]', '["sx"]')
    with pytest.raises(UsageError) as caught:
        subject_from_config(configured(project, text))
    error = caught.value
    assert error.code == "AK135"
    assert "audit.toml:5: there is no column 'decisoin'; did you mean 'decision'?" in error.why
    assert "audit.toml:8: there is no column 'sx'; did you mean 'sex'?" in error.why


def test_one_missing_column_is_the_error_itself(project):
    with pytest.raises(UsageError, match=r"AK135 there is no column 'lable'[\s\S]*audit.toml:4[\s\S]*'label'"):
        subject_from_config(configured(project, PREDICTIONS.replace('"label"', '"lable"')))


def test_a_score_column_of_words_is_refused(project):
    with pytest.raises(UsageError, match="AK138 the score column 'sex' is not numeric"):
        subject_from_config(configured(project, PREDICTIONS.replace('score = "p"', 'score = "sex"')))


def test_a_missing_file_names_the_nearest(project):
    with pytest.raises(UsageError, match=r"AK134 there is no file 'row.csv'[\s\S]*'rows.csv'"):
        subject_from_config(configured(project, PREDICTIONS.replace("rows.csv", "row.csv")))


def test_files_outside_the_project_are_refused_unless_allowed(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    rows().to_csv(outside / "rows.csv", index=False)
    config = configured(project, PREDICTIONS.replace("rows.csv", str(outside / "rows.csv")))
    with pytest.raises(UsageError, match="AK133"):
        subject_from_config(config)
    assert subject_from_config(config, allowed=(outside,)).test.n == 40


def test_a_link_out_of_the_project_is_followed_and_refused(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    rows().to_csv(outside / "rows.csv", index=False)
    (project / "link.csv").symlink_to(outside / "rows.csv")
    with pytest.raises(UsageError, match="AK133 'link.csv' lies outside the project"):
        subject_from_config(configured(project, PREDICTIONS.replace("rows.csv", "link.csv")))


def test_addresses_are_refused(project):
    with pytest.raises(UsageError, match="AK133 .* is an address, not a file"):
        subject_from_config(configured(project, PREDICTIONS.replace("rows.csv", "https://example.org/rows.csv")))


def test_a_factory_of_the_configurations_folder_is_found_and_the_path_is_left_as_it_was(project):
    before = list(sys.path)
    subject = subject_from_config(configured(project, factory_text()))
    assert sys.path == before
    assert list(subject.test.inputs.columns) == ["a", "b"]
    assert subject.test.sensitive["sex"].tolist() == np.where(subject.test.inputs.b > 0, "F", "M").tolist()
    assert (subject.model.predict(subject.test.inputs) == subject.test.y).mean() > 0.9


def test_a_sensitive_column_that_the_model_takes_is_given_to_it(project):
    subject = subject_from_config(configured(project, factory_text("build_with_sex")))
    assert list(subject.test.inputs.columns) == ["a", "b", "sex"]


def test_train_rows_bring_their_groups(project):
    subject = subject_from_config(configured(project, factory_text(extra='train = "model:table"\n')))
    assert subject.train.n == 60
    assert set(subject.train.sensitive) == {"sex"}


def test_a_schema_override_reaches_the_features(project):
    extra = '[data.schema.a]\nkind = "numeric"\nlow = -10.0\nimmutable = true\n'
    feature = subject_from_config(configured(project, factory_text(extra=extra))).test.schema["a"]
    assert (feature.low, feature.immutable) == (-10.0, True)


def test_two_modules_of_the_same_name_are_kept_apart(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.py").write_text(f"def who():\n    return {name!r}\n")
    calls = [call_factory("model:who", tmp_path / name, where="x") for name in ("one", "two", "one")]
    assert calls == ["one", "two", "one"]


@pytest.mark.parametrize(
    ("function", "code", "words"),
    [
        ("biuld", "AK136", "did you mean 'build'?"),
        ("broken", "AK137", "IndexError: list index out of range"),
        ("nothing", "AK136", "returned None"),
        ("number", "AK215", "int is not a model that auditkit knows"),
    ],
)
def test_a_factory_that_fails_says_how(project, function, code, words):
    with pytest.raises(AuditkitError) as caught:
        subject_from_config(configured(project, factory_text(function)))
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_factory_that_raises_names_the_line_of_the_users_code(project):
    line = MODEL.splitlines().index("    return [][1]") + 1
    with pytest.raises(AuditkitError, match=f"model.py:{line}"):
        call_factory("model:broken", project, where="audit.toml:3")


def test_a_missing_module_is_told_from_a_missing_import_inside_it(project):
    (project / "needy.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(UsageError, match="AK136 there is no module 'modle'"):
        call_factory("modle:build", project, where="x")
    with pytest.raises(AuditkitError, match="AK137 module 'needy' cannot be imported"):
        call_factory("needy:build", project, where="x")


def test_data_from_a_factory_must_be_a_table(project):
    text = factory_text().replace("model:table", "model:number")
    with pytest.raises(UsageError, match="AK138 'model:number' returned int, not a table"):
        subject_from_config(configured(project, text))


def test_npz_images_are_read_by_array_name(project):
    rng = np.random.default_rng(0)
    np.savez(project / "images.npz", pictures=rng.random((30, 4, 4)).astype("float32"), digit=rng.integers(0, 2, 30))
    (project / "net.py").write_text(
        "import torch\n"
        "def build():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))\n"
    )
    text = 'version = 1\n[model]\nfactory = "net:build"\n[data]\ntest = "images.npz"\ninputs = "pictures"\n'
    text += 'target = "digit"\nclasses = [0, 1]\n'
    subject = subject_from_config(configured(project, text))
    assert subject.test.modality == "image"
    assert subject.test.inputs.shape == (30, 4, 4)
    with pytest.raises(UsageError, match="AK135 there is no array 'digits'"):
        subject_from_config(configured(project, text.replace('"digit"', '"digits"')))


def test_an_npz_of_python_objects_is_refused(project):
    np.savez(project / "evil.npz", label=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UsageError, match="AK234 'evil.npz' cannot be read as plain arrays"):
        subject_from_config(configured(project, PREDICTIONS.replace("rows.csv", "evil.npz")))


def test_a_file_of_another_kind_is_refused(project):
    (project / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(UsageError, match="AK231 'rows.xlsx' is not a kind of table"):
        subject_from_config(configured(project, PREDICTIONS.replace("rows.csv", "rows.xlsx")))


def test_a_recipe_may_be_an_unfitted_estimator(project):
    (project / "train.py").write_text(
        "from sklearn.linear_model import LogisticRegression\ndef recipe():\n    return LogisticRegression()\n"
        "def wrong():\n    return 3\n"
    )
    subject = subject_from_config(configured(project, factory_text(extra='[training]\nfactory = "train:recipe"\n')))
    assert subject.recipe.name == "LogisticRegression"
    with pytest.raises(UsageError, match="AK136 'train:wrong' returned int, not a training recipe"):
        subject_from_config(configured(project, factory_text(extra='[training]\nfactory = "train:wrong"\n')))


def test_a_text_column_becomes_a_list_of_strings(project):
    (project / "words.py").write_text(
        "import pandas as pd\n"
        "def table():\n    return pd.DataFrame({'t': ['good', None, 'bad', 'good'] * 5, 'y': [1, 0, 0, 1] * 5})\n"
        "def build():\n"
        "    def says(texts):\n        return [1 if 'good' in t else 0 for t in texts]\n"
        "    return says\n"
    )
    text = 'version = 1\n[model]\nfactory = "words:build"\n[data]\ntest = "words:table"\ntarget = "y"\ntext = "t"\n'
    subject = subject_from_config(configured(project, text))
    assert subject.test.modality == "text"
    assert subject.test.inputs[:3] == ["good", "", "bad"]


def test_references_are_told_from_paths():
    assert is_reference("pkg.mod:make")
    assert not is_reference("C:model")
    assert not is_reference("data/test.csv")
    assert not is_reference("model:")
