"""Configurations are found, read and refused as documented: every fault at once, with its line."""

import json

import pytest

from auditkit.config.load import find_config, load_config, project_root
from auditkit.config.model import Config, config_schema
from auditkit.core.errors import UsageError

GOOD = """\
version = 1
[model]
factory = "model:build"
[data]
test = "test.csv"
target = "y"
sensitive = ["sex"]
"""


def write(folder, text, name="audit.toml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refused(path):
    with pytest.raises(UsageError) as caught:
        load_config(path)
    return caught.value


def test_a_good_file_is_read_with_its_defaults(tmp_path):
    config = load_config(write(tmp_path, GOOD))
    assert (config.data.target, config.data.sensitive) == ("y", ("sex",))
    assert (config.run.seed, config.run.device, config.run.executor) == (0, "auto", "local")
    assert config.root == tmp_path.resolve()
    assert config.policy_document() is None
    assert config.where("data", "target") == "audit.toml:6"


def test_all_faults_are_told_at_once_with_line_and_nearest_key(tmp_path):
    error = refused(
        write(
            tmp_path,
            GOOD.replace("factory", "factry").replace('target = "y"', "target = 3")
            + 'posative = "yes"\n[run]\nseed = -1\ndevcie = "cpu"\n[[rule]]\nid = "a"\nmetrik = "x"\n',
        )
    )
    assert error.code == "AK132"
    assert error.exit_code == 2
    for line in (
        "audit.toml:3: [model] has no key 'factry', did you mean 'factory'?",
        "audit.toml:6: [data] target: input should be a valid string, got 3",
        "audit.toml:8: [data] has no key 'posative', did you mean 'positive'?",
        "audit.toml:10: [run] seed: input should be greater than or equal to 0, got -1",
        "audit.toml:11: [run] has no key 'devcie', did you mean 'device'?",
    ):
        assert line in error.why
    assert "audit.toml:14" in error.why
    assert "metric" in error.why.split("audit.toml:14", 1)[1]


def test_a_key_of_another_table_is_sent_home(tmp_path):
    error = refused(write(tmp_path, GOOD + "seed = 3\n"))
    assert "audit.toml:8: [data] has no key 'seed'; it belongs in [run]" in error.why


def test_an_unknown_key_of_a_feature_names_the_nearest(tmp_path):
    error = refused(write(tmp_path, GOOD + '[data.schema.age]\nknd = "integer"\n'))
    assert "audit.toml:9: [data.schema.age] has no key 'knd', did you mean 'kind'?" in error.why


def test_a_missing_key_names_its_table(tmp_path):
    error = refused(write(tmp_path, GOOD.replace('target = "y"\n', "")))
    assert "audit.toml:4: [data] needs the key 'target'" in error.why


def test_a_newer_version_is_refused(tmp_path):
    assert "[version]" not in refused(write(tmp_path, GOOD.replace("version = 1", "version = 2"))).why
    assert "audit.toml:1: the top level version: input should be 1, got 2" in refused(tmp_path / "audit.toml").why


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('factory = "model:build"', "", "[model] needs 'path' or 'factory'"),
        ('factory = "model:build"', 'path = "m.pkl"\nallow_pickle = true', "allow_pickle needs 'sha256'"),
        ('[model]\nfactory = "model:build"\n', "", "[data] needs 'prediction' or 'score'"),
        ('sensitive = ["sex"]', 'prediction = "p"', "[data] prediction is for saved predictions"),
        (
            'sensitive = ["sex"]',
            'score_space = "margin"',
            "score_space says what a saved 'score' is, and there is none",
        ),
        ('sensitive = ["sex"]', 'keep = ["age"]', "keep names 'age', which is not one of the sensitive columns"),
        ('sensitive = ["sex"]', "bins = {age = [30]}", "bins names 'age', which is not one of the sensitive columns"),
        ('sensitive = ["sex"]', 'text = "t"\n[data.schema.t]\nkind = "text"', "schema does not apply to a text column"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(tmp_path, old, new, fault):
    assert old in GOOD
    assert fault in refused(write(tmp_path, GOOD.replace(old, new))).why


def test_text_that_is_not_toml_names_the_line(tmp_path):
    error = refused(write(tmp_path, GOOD + "[run\n"))
    assert error.code == "AK131"
    assert error.where == "audit.toml:8"


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "audit.toml").write_bytes(b"\xff\xfe\x00\x81")
    assert refused(tmp_path / "audit.toml").code == "AK131"


def test_the_nearest_file_above_is_found_and_the_search_ends_at_the_repository(tmp_path):
    inner = tmp_path / "repo" / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path, GOOD)
    assert find_config(inner) == (tmp_path / "audit.toml").resolve()
    (tmp_path / "repo" / ".git").mkdir()
    with pytest.raises(UsageError, match="AK130 there is no configuration here"):
        find_config(inner)
    write(tmp_path / "repo", GOOD)
    assert find_config(inner).parent.name == "repo"


def test_auditkit_toml_comes_before_audit_toml_and_pyproject_last(tmp_path):
    prefixed = GOOD.replace("version = 1", "[tool.auditkit]\nversion = 1")
    prefixed = prefixed.replace("[model]", "[tool.auditkit.model]").replace("[data]", "[tool.auditkit.data]")
    write(tmp_path, prefixed, "pyproject.toml")
    assert find_config(tmp_path).name == "pyproject.toml"
    assert load_config(start=tmp_path).data.target == "y"
    write(tmp_path, GOOD)
    assert find_config(tmp_path).name == "audit.toml"
    write(tmp_path, GOOD, "auditkit.toml")
    assert find_config(tmp_path).name == "auditkit.toml"


def test_faults_in_pyproject_have_the_lines_of_pyproject(tmp_path):
    text = '[project]\nname = "x"\n\n[tool.auditkit]\nversion = 1\n[tool.auditkit.data]\ntset = "a"\ntarget = "y"\n'
    text += 'prediction = "p"\n[[tool.auditkit.rule]]\nid = "r"\nmetrik = "m"\nmin = 1\n'
    error = refused(write(tmp_path, text, "pyproject.toml"))
    assert "pyproject.toml:7: [data] has no key 'tset'" in error.why
    assert "pyproject.toml:12" in error.why


def test_a_pyproject_without_the_table_is_refused(tmp_path):
    assert "AK130 pyproject.toml has no [tool.auditkit] table" in str(refused(write(tmp_path, "", "pyproject.toml")))


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"AK130 there is no configuration file .*nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


def test_the_policy_document_is_plain_json(tmp_path):
    rules = '[[rule]]\nid = "a"\nmetric = "performance.accuracy"\nmin = 0.5\n'
    rules += '[[waiver]]\nrule = "a"\nowner = "o"\nreason = "r"\nticket = "t"\nexpires = 2027-01-31\n'
    document = load_config(write(tmp_path, GOOD + rules)).policy_document()
    assert json.loads(json.dumps(document)) == document
    assert document["waiver"][0]["expires"] == "2027-01-31"
    assert set(document) == {"rule", "waiver"}


def test_files_must_stay_under_the_project(tmp_path):
    inner = tmp_path / "project" / "audits"
    inner.mkdir(parents=True)
    path = write(inner, GOOD)
    assert project_root(path) == inner.resolve()
    write(tmp_path / "project", "", "pyproject.toml")
    assert project_root(path) == (tmp_path / "project").resolve()


def test_the_published_schema_knows_every_table():
    schema = config_schema()
    assert set(schema["properties"]) == {field.alias or name for name, field in Config.model_fields.items()}
    assert "schema" in schema["$defs"]["DataSection"]["properties"]
    assert schema["additionalProperties"] is False
