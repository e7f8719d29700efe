from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.core.toml_lines import key_lines, line_of

TEXT = '''# a comment with [brackets] and a = 1
version = 1
title = """
id = "not a key"
[not.a.header]
"""

[groups]
by = [
  "sex",   # ] not the end
  "race",
]

[defaults]
confidence = 0.95
limits.small = 3
"quoted.key" = { inner = 1 }

[[rule]]
id = "first"
params = { eps = 0.1 }

[[rule]]
id = 'second'
[rule.where]
sex = "F"

[analyzer."explain.shap"]
max_rows = 10
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("version",), 2),
        (("title",), 3),
        (("groups",), 8),
        (("groups", "by"), 9),
        (("defaults", "confidence"), 15),
        (("defaults", "limits", "small"), 16),
        (("defaults", "quoted.key"), 17),
        (("defaults", "quoted.key", "inner"), 17),
        (("rule",), 19),
        (("rule", 0), 19),
        (("rule", 0, "id"), 20),
        (("rule", 0, "params", "eps"), 21),
        (("rule", 1), 23),
        (("rule", 1, "id"), 24),
        (("rule", 1, "where"), 25),
        (("rule", 1, "where", "sex"), 26),
        (("analyzer", "explain.shap"), 28),
        (("analyzer", "explain.shap", "max_rows"), 29),
        (("analyzer", "explain.shap", "absent"), 28),
        (("nothing",), None),
    ],
)
def test_the_line_of_each_key(path, line):
    tomllib.loads(TEXT)
    assert line_of(TEXT, path) == line


def test_windows_line_ends_count_once():
    assert line_of("a = 1\r\nb = 2\r\n", ("b",)) == 2


def test_keys_inside_strings_and_arrays_are_not_keys():
    assert ("id",) not in key_lines(TEXT)
    assert ("not", "a", "header") not in key_lines(TEXT)


@given(st.text(alphabet="ab.=[]{}\"'#\\ \n", max_size=80))
def test_any_text_ends(text):
    assert all(1 <= line <= text.count("\n") + 1 for line in key_lines(text).values())
