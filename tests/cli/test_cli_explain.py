"""``auditkit explain``: sums that match the model, nothing of the row that was not asked for, errors that mend."""

import json
import re
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from auditkit.cli.explain import METHODS
from auditkit.cli.main import cli

MODEL = """
import numpy as np, pandas as pd
def table(seed=0, n=200):
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"income": 30 + 8 * rng.normal(size=n), "home": rng.choice(["rent-secret", "own-secret"], n),
                         "noise": rng.normal(size=n), "label": rng.choice(["no", "yes"], n)})
def train():
    return table(1)
def renters():
    return train()[lambda x: x["home"] == "rent-secret"]
def one():
    return train()[:1]
class Model:
    classes = ("no", "yes")
    def __call__(self, x):
        p = 1 / (1 + np.exp(-((x["income"] - 30) / 8 + 2.0 * (x["home"] == "own-secret"))))
        return np.column_stack([1 - p, p])
def model():
    from auditkit.subjects.callable import CallableModel
    return CallableModel(Model(), classes=("no", "yes"), output="probability")
def labels():
    from auditkit.subjects.callable import CallableModel
    return CallableModel(lambda x: np.where(x["income"] > 30, "yes", "no"), classes=("no", "yes"), output="label")
def saved():
    return table().assign(decision="yes")
def pipeline():
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder
    coder = make_column_transformer((OneHotEncoder(), ["home"]), remainder="passthrough")
    x = train()
    forest = RandomForestClassifier(10, max_depth=4, random_state=0)
    return make_pipeline(coder, forest).fit(x.drop(columns="label"), x["label"])
def boosted():
    from sklearn.ensemble import GradientBoostingClassifier
    forest = pipeline()
    x = train()
    forest.steps[-1] = ("boosting", GradientBoostingClassifier(n_estimators=10, random_state=0))
    return forest.fit(x.drop(columns="label"), x["label"])
def images():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    x = rng.normal(size=(40, 1, 8, 8)).astype("float32")
    x[y == 1, :, :4, :4] += 2.0
    return {"inputs": x, "label": y}
def network():
    import torch
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2),
                               torch.nn.Flatten(), torch.nn.Linear(16, 2))
    return body
def texts():
    rows = ["a brilliantsecret film", "a dull film", "brilliantsecret"]
    return pd.DataFrame({"text": rows * 5, "label": ["p", "n", "p"] * 5})
def reader():
    from auditkit.subjects.callable import CallableModel
    def score(texts):
        p = np.array([0.9 if "brilliantsecret" in t else 0.2 for t in texts])
        return np.column_stack([1 - p, p])
    return CallableModel(score, classes=("n", "p"), output="probability")
"""

CONFIG = (
    'version = 1\n[model]\nfactory = "{module}:{factory}"\n[data]\ntest = "{module}:{data}"\ntarget = "label"\n{more}'
)
TABLE = 'train = "{module}:train"\npositive = "yes"\n'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a model module of its own name, and a way to call the command there."""
    module = f"explained_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)

    def call(*words, factory="model", data="table", more=TABLE):
        (tmp_path / "audit.toml").write_text(CONFIG.replace("{more}", more).format(
            module=module, factory=factory, data=data))  # fmt: skip
        return CliRunner().invoke(cli, ["explain", "audit.toml", *(str(word) for word in words)])

    yield call
    sys.modules.pop(module, None)


def page_of(folder, name="explanation-row-3.html"):
    return (folder / name).read_text(encoding="utf-8")


def test_a_table_row_adds_up_to_the_users_own_model(project, tmp_path):
    done = project("--row", 3, "--json", "--out", "page.html")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    sys.path.insert(0, str(tmp_path))
    module = __import__(next(tmp_path.glob("explained_*.py")).stem)
    row = module.table().iloc[[3]].drop(columns="label")
    ours = module.Model()(row)[0, 1]
    background = module.Model()(module.train().drop(columns="label"))
    parts = {part["name"]: part["amount"] for part in told["methods"][0]["features"]}
    assert told["base_value"] + sum(parts.values()) == pytest.approx(ours, abs=1e-9)
    assert told["model_output"] == pytest.approx(ours, abs=1e-12)
    assert told["base_value"] == pytest.approx(background[:, 1].mean(), abs=0.1)  # a sample of 100 rows
    assert parts["noise"] == pytest.approx(0.0, abs=1e-12)
    assert told["methods"][0]["status"] == "exact"
    for words in ("base value", "sum", "the model gives", "Proof: exact", "income"):
        assert words in done.stderr
    amounts = re.search(r"^income +([+−][\d.]+) +(\S.*)$", done.stderr, re.MULTILINE)
    assert (amounts[1][0] == "+") == (parts["income"] > 0)
    sys.path.remove(str(tmp_path))


def test_a_pipeline_that_names_its_columns_is_read_and_exact(project):
    done = project("--row", 3, factory="pipeline")
    assert done.exit_code == 0, done.output
    assert "Proof: exact" in done.stderr
    assert "Engine: shapley.trees; all 100 background rows" in done.stderr
    assert "Dropped" not in done.stderr


def test_a_sampled_probability_says_what_steadies_it(project):
    done = project("--row", 3, "--budget", 100, factory="boosted")
    assert done.exit_code == 0, done.output
    assert "Proof: estimated" in done.stderr
    assert "the exact values of those steady what is sampled" in " ".join(done.stderr.split())


def test_no_value_of_the_row_is_shown_unless_its_column_is_shared(project, tmp_path):
    rows = [3, 4, 5, 6]
    for row in rows:
        done = project("--row", row, "--json", "--out", f"p{row}.html")
        assert "-secret" not in done.output + page_of(tmp_path, f"p{row}.html")
        assert "value" not in json.loads(done.stdout)["methods"][0]["features"][0]
    outputs = []
    for row in rows:
        done = project("--row", row, "--out", f"p{row}.html", more=TABLE + '[card]\nshare_columns = ["home"]\n')
        outputs.append(done.stderr + page_of(tmp_path, f"p{row}.html"))
        assert "income =" not in outputs[-1]
    assert all("-secret" in text for text in outputs)


def test_the_page_is_one_file_under_a_strict_policy(project, tmp_path):
    assert project("--row", 3).stdout == "explanation-row-3.html\n"
    page = page_of(tmp_path)
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert not re.search(r"https?://", page)
    assert "Does it add up?" in page


def test_lime_and_several_methods(project, tmp_path):
    done = project("--row", 3, "--method", "shap", "--method", "lime")
    assert done.exit_code == 0, done.output
    assert "LIME: has no order to compare; unverified: the surrogate explains" in " ".join(done.stderr.split())
    assert "Rank correlation with the first" in page_of(tmp_path)


IMAGES = "classes = [0, 1]\n"


def test_lime_names_what_its_samples_do_not_tell(project):
    row = next(j for j, home in enumerate(_homes()) if home == "own-secret")
    told = project("--row", row, "--method", "lime", more=TABLE.replace(":train", ":renters"))
    assert told.exit_code == 0, told.output
    words = " ".join(told.output.split())
    assert "LIME has no weight for home: the perturbed rows are all alike there" in words
    alone = project("--row", row, "--method", "lime", more='train = "{module}:one"\npositive = "yes"\n')
    assert "AK505 the reference table has one complete row" in str(alone.exception)


def _homes():
    room = {}
    exec(MODEL, room)
    return list(room["table"]()["home"])


def test_images_give_maps_and_squares_and_the_image_only_when_shared(project, tmp_path):
    first = project("--row", 3, factory="network", data="images", more=IMAGES)
    assert first.exit_code == 0, first.output
    page = page_of(tmp_path)
    assert page.count('class="ak-picture"') == 4
    assert "Picture of input" not in page
    told = project("--row", 3, "--json", factory="network", data="images", more=IMAGES)
    methods = json.loads(told.stdout)["methods"]
    assert [m["method"] for m in methods] == ["integrated_gradients", "saliency", "grad_cam", "occlusion"]
    squares = methods[0]["squares"]
    assert len(squares) == 16
    document = json.loads(told.stdout)
    total = document["base_value"] + sum(square["amount"] for square in squares)
    assert total == pytest.approx(document["model_output"], abs=methods[0]["diagnostics"]["completeness_limit"])
    project("--row", 3, factory="network", data="images", more=IMAGES + '[card]\nshare_columns = ["inputs"]\n')
    assert "Picture of input" in page_of(tmp_path)


def test_texts_without_gradients_are_explained_by_their_words(project, tmp_path):
    more = 'text = "text"\npositive = "p"\n'
    hidden = project("--row", 0, "--json", "--out", "p.html", factory="reader", data="texts", more=more)
    assert hidden.exit_code == 0, hidden.output
    assert "brilliantsecret" not in hidden.output + page_of(tmp_path, "p.html")
    words = json.loads(hidden.stdout)["methods"][0]["tokens"]
    assert max(words, key=lambda word: word["amount"])["name"] == "word 2"
    shared = project("--row", 0, factory="reader", data="texts", more=more + '[card]\nshare_columns = ["text"]\n')
    assert "brilliantsecret" in shared.stderr
    assert "ak-token" in page_of(tmp_path, "explanation-row-0.html")


@pytest.mark.parametrize(
    ("words", "settings", "code", "told"),
    [
        (("--row", 200), {}, "AK426", "there is no row 200 among the 200 test rows"),
        (("--row", -1), {}, "AK426", "--row 0 to --row 199"),
        (("--row", 0, "--split", "train"), {"more": 'positive = "yes"\n'}, "AK426", "there are no training rows"),
        (("--row", 0), {"factory": "labels"}, "AK427", "the model gives labels only"),
        (("--row", 0, "--method", "grad_cam"), {}, "AK429", "grad_cam needs a torch module"),
        (
            ("--row", 0, "--method", "shap"),
            {"factory": "network", "data": "images", "more": IMAGES},
            "AK429",
            "Shapley values are for tables",
        ),
    ],
)
def test_what_cannot_be_explained_says_why(project, words, settings, code, told):
    error = project(*words, **settings).exception
    assert error.code == code
    assert error.exit_code == 2
    assert told in error.text()


def test_saved_predictions_have_no_model_to_ask(project, tmp_path):
    project("--row", 0)
    text = (tmp_path / "audit.toml").read_text()
    module = re.search(r'"(explained_\w+):', text)[1]
    config = (
        f'version = 1\n[data]\ntest = "{module}:saved"\ntarget = "label"\nprediction = "decision"\npositive = "yes"\n'
    )
    (tmp_path / "saved.toml").write_text(config)
    error = CliRunner().invoke(cli, ["explain", "saved.toml", "--row", "0"]).exception
    assert error.code == "AK427"
    assert "only saved predictions" in error.text()


def test_an_explanation_that_fails_its_check_says_so_first():
    """A record whose residual is too large, as the page and the terminal show it."""
    from rich.console import Console

    from auditkit.analyzers.explain.row_asked import proof_of
    from auditkit.cli.explain import print_row
    from auditkit.core.attribution import Attribution
    from auditkit.core.explained_row import Explained, ExplainedRow
    from auditkit.methods.explain.additivity import checked
    from auditkit.render.html.explanation import render_explanation

    wrong = checked(
        Attribution(values=np.array([[[0.4], [-0.1]]]), prediction=np.array([[0.9]]), base_values=np.array([[0.1]]),
                    method="shap.tree", output_space="probability", output_names=("yes",), status="exact")
    )  # fmt: skip
    row = ExplainedRow(subject="m", row=0, split="test", kind="features", decision="yes", label="no", output="yes",
                       parts=("a", "b<script>"), values=(None, None),
                       explained=(Explained(method="Shapley values", attribution=wrong, parts=(0.4, -0.1),
                                            proof=proof_of(wrong)),))  # fmt: skip
    console = Console(width=100, color_system=None)
    with console.capture() as taken:
        print_row(row, console)
    assert "Proof: failed: base value and attributions miss the model's own output by 0.5" in taken.get()
    page = render_explanation(row)
    assert "status-failed" in page
    assert "b&lt;script&gt;" in page
    assert "b<script>" not in page


def test_the_methods_of_the_command_are_those_of_the_analyzers():
    from auditkit.analyzers.explain.row_asked import ROW_METHODS

    assert METHODS == ROW_METHODS


@pytest.mark.parametrize("sampled", [True, False])
def test_sampled_amounts_line_up_and_stand_beside_their_errors(sampled):
    from rich.console import Console

    from auditkit.cli.explain import print_row
    from auditkit.core.attribution import Attribution
    from auditkit.core.explained_row import Explained, ExplainedRow

    values, errors = np.array([[[0.30061], [-0.000615], [0.00002]]]), np.full((1, 3, 1), 0.0003)
    attribution = Attribution(values=values, prediction=values.sum(axis=1) + 0.4, base_values=np.array([[0.4]]),
                              method="shapley.leverage", output_space="probability", output_names=("yes",),
                              status="estimated", std_error=errors if sampled else None)  # fmt: skip
    told = Explained(method="Shapley values", attribution=attribution, parts=tuple(values[0, :, 0]), proof="estimated")
    row = ExplainedRow(subject="m", row=0, split="test", kind="features", decision="yes", label="no", output="yes",
                       parts=("income", "home", "noise"), values=("104", None, None), shown=True,
                       explained=(told,))  # fmt: skip
    console = Console(width=100, color_system=None)
    with console.capture() as taken:
        print_row(row, console)
    text = taken.get()
    amounts = re.findall(r"^(income = 104|home|noise) +([+−]?[\d.]+)(?:  ± ([\d.]+))? ", text, re.MULTILINE)
    error = "0.0006" if sampled else ""
    assert amounts == [("income = 104", "+0.3006", error), ("home", "−0.0006", error), ("noise", "0.0000", error)]
    assert ("half of the 95 % interval" in text) == sampled
    assert "Values are shown of the columns that [card] share_columns names." in text
