from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from auditkit.subjects.build import make_predictions_subject
from auditkit.subjects.fingerprint import fingerprint_of

pytestmark = pytest.mark.core_only


class Node:
    def __init__(self) -> None:
        self.other = self


class Slots:
    __slots__ = ("a",)

    def __init__(self, a) -> None:
        self.a = a


def distinct(*values) -> bool:
    prints = [fingerprint_of(value) for value in values]
    return None not in prints and len(set(prints)) == len(prints)


def test_types_and_values_are_told_apart() -> None:
    assert distinct(1, 1.0, True, "1", b"1", None, np.int64(1), np.float32(1), [1], (1,), {1}, {1: 1}, 1j)
    assert distinct(0.0, -0.0, float("nan"), float("inf"))
    assert distinct(["ab"], ["a", "b"], [["a"], "b"], [])
    assert distinct({"a": 1}, {"a": 2}, {"b": 1})
    assert distinct(Slots(1), Slots(2), Node())


def test_order_counts_in_lists_and_not_in_mappings() -> None:
    assert distinct([1, 2], [2, 1])
    assert fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    assert fingerprint_of({"x", "y", "z"}) == fingerprint_of({"z", "y", "x"})


def test_arrays_count_by_dtype_shape_and_values_and_not_by_layout() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert distinct(array, array.astype(np.float32), array.reshape(3, 2), array + 1e-15, array.astype(object))
    assert fingerprint_of(array) == fingerprint_of(np.asfortranarray(array)) == fingerprint_of(array[::-1][::-1])
    assert fingerprint_of(array) == fingerprint_of(array.astype(">f8"))


def test_padding_between_fields_is_not_content() -> None:
    layout = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 16})
    one, two = np.zeros(3, layout), np.zeros(3, layout)
    two.view(np.uint8)[3] = 99
    assert one.tobytes() != two.tobytes()
    assert fingerprint_of(one) == fingerprint_of(two)
    two["a"][0] = 1
    assert distinct(one, two)


def test_frames_count_by_columns_dtypes_and_values_and_not_by_index() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert fingerprint_of(frame) == fingerprint_of(frame.set_index(pd.Index([5, 6])))
    assert distinct(
        frame,
        frame[["b", "a"]],
        frame.astype({"a": "int32"}),
        frame.astype({"a": "Int64"}),
        frame.astype({"b": "category"}),
        frame.assign(b=["x", "y"]),
        frame.iloc[::-1],
        frame.iloc[:1],
        frame.assign(a=pd.to_datetime([1, 2])),
    )
    mixed = pd.DataFrame({"b": pd.Series(["1", 1], dtype=object)})
    assert distinct(mixed, pd.DataFrame({"b": pd.Series([1, "1"], dtype=object)}))


def test_cycles_end_and_the_unreachable_has_no_hash() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert fingerprint_of(loop) is not None
    assert fingerprint_of(number for number in ()) is None
    assert fingerprint_of(lambda: 1) is not None
    assert distinct(lambda: 1, lambda: 2)


SCRIPT = """
import numpy as np, pandas as pd
from auditkit.subjects.build import make_predictions_subject
rng = np.random.default_rng(0)
s = pd.DataFrame({"sex": rng.choice(["F", "M"], 50), "age": pd.Categorical(rng.choice(["old", "young"], 50))})
subject = make_predictions_subject(rng.integers(0, 2, 50), rng.integers(0, 2, 50), rng.random(50), sensitive=s,
                                   weights=rng.random(50) + 0.5, clusters=rng.choice(["a", "b"], 50))
print(subject.test.fingerprint, subject.model.fingerprint)
"""


def test_data_hashes_are_the_same_in_another_process() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("sha256:") == 2


def test_each_part_of_a_data_set_counts() -> None:
    y = np.array([0, 1, 0, 1])
    base = {"y_true": y, "y_pred": y, "sensitive": {"sex": ["F", "M", "F", "M"]}}
    variants = [
        base,
        base | {"y_true": y[::-1]},
        base | {"sensitive": {"sex": ["F", "M", "F", "F"]}},
        base | {"sensitive": {"gender": ["F", "M", "F", "M"]}},
        base | {"weights": np.ones(4)},
        base | {"weights": np.full(4, 2.0)},
        base | {"clusters": [1, 1, 2, 2]},
        base | {"classes": (0, 1, 2)},
    ]
    prints = [make_predictions_subject(**variant).test.fingerprint for variant in variants]
    assert len(set(prints)) == len(prints)
    assert make_predictions_subject(**base).test.fingerprint == prints[0]
