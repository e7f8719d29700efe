"""A packed document is the document."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.core.packed import packed, unpacked

WORDS = st.sampled_from(
    ["", "~", "~~", "~0", "name", "a long word that is written often", "words", "shapes", "document"]
)
SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.5, 1e-7, 3.0]) | WORDS
DOCUMENTS = st.dictionaries(
    WORDS,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=24
    ),
    max_size=4,
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(DOCUMENTS)
def test_a_document_comes_back(document):
    told = json.dumps(packed(document), sort_keys=True)
    assert json.dumps(unpacked(json.loads(told)), sort_keys=True) == json.dumps(document, sort_keys=True)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(
        st.floats(-1e6, 1e6).map(lambda x: round(x, 4)) | st.floats(allow_nan=False, allow_infinity=False)
        | st.sampled_from([0.0, -0.0, 1.0, 0.1, 0.3, 1e16, 1e-9, 123456789.123456789]), max_size=12,
    ),
    st.sampled_from([[], [1], [None], [True], [0.25] * 8]),
)  # fmt: skip
def test_numbers_come_back_to_the_last_digit(numbers, more):
    document = {"y": [*numbers, *more], "z": [round(x, 3) for x in numbers] * 2}
    told = json.dumps(packed(document))
    assert json.dumps(unpacked(json.loads(told))) == json.dumps(document)


def test_curves_are_written_as_their_differences():
    curve = [round(1 - 0.97**i, 4) for i in range(200)]
    told = json.dumps(packed({"y": curve, "n": [3, 2, 1] * 9}))
    assert len(told) < 0.65 * len(json.dumps({"y": curve, "n": [3, 2, 1] * 9}))
    assert '"~4"' in told


def test_the_order_of_keys_makes_no_difference():
    one = {"a": [{"x": 1, "y": {"p": 1, "q": 2}}, {"x": 2, "y": {"p": 3, "q": 4}}]}
    two = {"a": [{"y": {"q": 2, "p": 1}, "x": 1}, {"y": {"q": 4, "p": 3}, "x": 2}]}
    assert packed(one) == packed(two)


def test_what_repeats_is_written_once():
    rows = [{"name": "fairness.selection_rate", "slice": {"g": f"g{i}"}, "value": i / 1000} for i in range(100)]
    text = json.dumps(packed({"rows": rows}))
    assert text.count("fairness.selection_rate") == 1
    assert text.count("slice") == 1
    assert len(text) < len(json.dumps({"rows": rows})) / 2


def test_a_document_that_is_not_packed_is_left_alone():
    assert unpacked({"schema": "x", "a": ["~0"]}) == {"schema": "x", "a": ["~0"]}


@pytest.mark.parametrize(
    "body",
    [
        "~1",
        "~x",
        "~",
        {"~": [[0]]},
        {"~": [[7, 1]]},
        {"~": [["a"]]},
        {"~": 3},
        {"~": [[]]},
        {"~": [[1, 2]]},
        {"~": [[-2, 1]]},
        {"~": [[0, 1, 2]]},
        {"~": [[False, 1]]},
        {"~": [[2, 1]]},
        {"~4": [1, 2.0]},
        {"~4": [1, True]},
        {"~4": "12"},
        {"~4": {"a": 1}},
        {"~4": [10**400]},
        {"~x": [1]},
        {"~44": [1]},
        {"~²": [1]},
    ],
)
def test_a_document_packed_wrongly_is_refused(body):
    with pytest.raises(ValueError, match="packed"):
        unpacked({"words": ["w"], "shapes": [["a"], 5, [[5, "a"]]], "document": body})


def test_a_word_that_is_no_string_is_refused():
    with pytest.raises(ValueError, match="packed"):
        unpacked({"words": [[["x"] * 100]], "shapes": [], "document": ["~0"] * 100})


def test_few_characters_do_not_become_very_many():
    with pytest.raises(ValueError, match="too long"):
        unpacked({"words": ["w" * 100_000], "shapes": [], "document": ["~0"] * 2000})


def test_few_shapes_do_not_become_very_many_objects():
    empty = [["k"] for _ in range(3000)]
    with pytest.raises(ValueError, match="too long"):
        unpacked({"words": [], "shapes": [empty], "document": {"~": [[0]] * 3000}})
