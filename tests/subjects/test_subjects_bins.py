"""Numbers as groups: borders are named, fixed, and never guessed."""

import numpy as np
import pandas as pd
import pytest

from auditkit.config.load import load_config
from auditkit.config.subject import subject_from_config
from auditkit.core.errors import UsageError
from auditkit.subjects.bins import binned


def test_bins_agree_with_pandas_cut():
    ages = np.random.default_rng(0).integers(0, 100, 500)
    borders = [18, 30.5, 65]
    cut = pd.cut(ages, [-np.inf, *borders, np.inf], right=False, labels=False)
    names = np.array(["under 18", "18 to under 30.5", "30.5 to under 65", "65 and over"])
    assert binned(ages, borders, where="age").tolist() == names[cut].tolist()


@pytest.mark.parametrize("values", [[1.0, np.nan], [1, None], ["1", ""], pd.array([1, None], dtype="Int64")])
def test_a_missing_value_stays_missing(values):
    assert binned(values, [5], where="x").tolist() == ["under 5", None]


def test_text_that_is_no_number_and_borders_that_do_not_rise_are_refused():
    with pytest.raises(UsageError, match="AK440 1 of 2 values are not numbers"):
        binned(["40", "old"], [18], where="age")
    for borders in ([], [3, 3], [5, 2], [float("nan")]):
        with pytest.raises(UsageError, match="AK441"):
            binned([1], borders, where="age")


def test_a_configuration_bins_an_age_and_the_groups_say_how(tmp_path):
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"y": rng.integers(0, 2, 200), "p": rng.integers(0, 2, 200), "age": rng.integers(18, 90, 200)})
    table.loc[:4, "age"] = None
    table.to_csv(tmp_path / "rows.csv", index=False)
    text = 'version = 1\n[data]\ntest = "rows.csv"\ntarget = "y"\nprediction = "p"\nsensitive = ["age"]\n'
    (tmp_path / "audit.toml").write_text(text)
    with pytest.raises(UsageError, match=r"bin it: \[data\] bins = \{age"):
        subject_from_config(load_config(tmp_path / "audit.toml"))
    (tmp_path / "audit.toml").write_text(text + "bins = {age = [30, 60]}\n")
    groups = subject_from_config(load_config(tmp_path / "audit.toml")).test.sensitive["age"]
    assert sorted(set(groups.tolist())) == ["(missing)", "30 to under 60", "60 and over", "under 30"]
    assert (groups == "(missing)").sum() == 5
    assert (groups == "under 30").sum() == (table.age < 30).sum()
