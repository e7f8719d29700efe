from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.pandas import column, data_frames, range_indexes

from auditkit.core.errors import UsageError
from auditkit.core.subject import Dataset
from auditkit.subjects.codec import make_codec
from auditkit.subjects.schema import infer_schema

pytestmark = pytest.mark.core_only


def mixed() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "float": [0.1, np.nan, -3.5],
            "float32": np.array([0.1, 2.5, 1e20], dtype=np.float32),
            "int": np.array([1, -(2**40), 3]),
            "int8": np.array([1, -128, 127], dtype=np.int8),
            "bool": [True, False, True],
            "nullable_int": pd.array([1, None, 3], dtype="Int64"),
            "nullable_bool": pd.array([True, None, False], dtype="boolean"),
            "nullable_float": pd.array([0.5, None, 1.5], dtype="Float64"),
            "category": pd.Categorical(["b", None, "a"], categories=["c", "b", "a"], ordered=True),
            "category_int": pd.Categorical([3, 1, 3]),
            "string": ["x", None, "y"],
            "object": pd.Series(["x", 3, None], dtype=object),
            "date": pd.to_datetime(["2020-01-01 12:00:00.123456", None, "1931-05-06 00:00:00.000001"]),
            "date_ns": pd.to_datetime(["2020-01-01", None, "1931-05-06"]).astype("datetime64[ns]"),
            "date_tz": pd.to_datetime(["2020-07-01", "2020-01-01", None]).tz_localize("Europe/Paris"),
            "span": pd.to_timedelta([1.5, None, -3], unit="h"),
        }
    )


def dataset(inputs) -> Dataset:
    return Dataset(inputs=inputs, y=np.zeros(len(inputs), dtype=np.int64), schema=infer_schema([inputs]))


def test_the_round_trip_is_exact_for_every_dtype() -> None:
    frame = mixed()
    codec = make_codec(dataset(frame))
    matrix = codec.encode(frame)
    assert matrix.dtype == np.float64
    assert matrix.shape == frame.shape
    assert not np.isinf(matrix).any()
    assert np.array_equal(np.isnan(matrix), frame.isna().to_numpy())
    back = codec.decode(matrix)
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert list(back.dtypes) == list(frame.dtypes)


def test_codes_follow_the_order_of_the_categories() -> None:
    frame = mixed()
    codec = make_codec(dataset(frame))
    matrix = pd.DataFrame(codec.encode(frame), columns=list(codec.names))
    assert matrix["category"].tolist()[::2] == [1.0, 2.0]
    assert matrix["bool"].tolist() == [1.0, 0.0, 1.0]
    assert codec.categories[codec.names.index("category")] == ("c", "b", "a")
    assert codec.high[codec.names.index("category")] == 2.0
    assert codec.low[codec.names.index("int8")] == -128.0
    assert codec.kinds[codec.names.index("date")] == "datetime"
    # 2020-01-01 12:00:00.123456 UTC as seconds, by hand
    assert matrix["date"][0] == 1577880000.123456


def test_the_index_does_not_matter_and_the_input_is_untouched() -> None:
    frame = mixed().set_index(pd.Index([7, 7, 9]))
    before = frame.copy(deep=True)
    codec = make_codec(dataset(frame))
    back = codec.decode(codec.encode(frame))
    pd.testing.assert_frame_equal(frame, before)
    pd.testing.assert_frame_equal(back, frame.reset_index(drop=True))


def test_a_perturbed_matrix_is_rounded_into_the_columns_types() -> None:
    frame = pd.DataFrame({"n": [1, 2], "flag": [True, False], "c": ["a", "b"]})
    codec = make_codec(dataset(frame))
    back = codec.decode(np.array([[1.6, 0.4, 0.9], [200.2, 0.6, -0.2]]))
    assert back["n"].tolist() == [2, 200]
    assert back["flag"].tolist() == [False, True]
    assert back["c"].tolist() == ["b", "a"]
    assert list(back.dtypes) == list(frame.dtypes)


def test_float_arrays_pass_unchanged() -> None:
    array = np.random.default_rng(0).normal(size=(5, 3))
    array[0, 0] = np.nan
    codec = make_codec(dataset(array))
    assert np.array_equal(codec.encode(array), array, equal_nan=True)
    assert np.array_equal(codec.decode(codec.encode(array)), array, equal_nan=True)
    whole = np.arange(6, dtype=np.int32).reshape(3, 2)
    back = make_codec(dataset(whole)).decode(whole + 0.3)
    assert back.dtype == np.int32
    assert np.array_equal(back, whole)


def test_numbers_that_the_schema_calls_categorical_are_codes() -> None:
    frame = pd.DataFrame({"zip": [70, 10, 70], "gap": pd.array([3, None, 9], dtype="Int64"), "x": [0.5, 1.0, 2.0]})
    schema = infer_schema([frame], {"zip": "categorical", "gap": "categorical"})
    codec = make_codec(Dataset(inputs=frame, y=np.zeros(3, dtype=np.int64), schema=schema))
    matrix = codec.encode(frame)
    assert matrix[:, 0].tolist() == [1.0, 0.0, 1.0]
    assert codec.categorical.tolist() == [True, True, False]
    assert (codec.low[0], codec.high[0]) == (0.0, 1.0)
    pd.testing.assert_frame_equal(codec.decode(matrix), frame)


@settings(max_examples=60, deadline=None)
@given(
    data_frames(
        index=range_indexes(min_size=1, max_size=8),
        columns=[
            column("f", elements=st.floats(allow_infinity=False)),
            column("i", elements=st.integers(-(2**53) + 1, 2**53 - 1), dtype=np.int64),
            column("s", elements=st.one_of(st.none(), st.text(max_size=5)), dtype=object),
            column("t", elements=st.datetimes(min_value=datetime(1850, 1, 1), max_value=datetime(2100, 1, 1))),
            column("b", elements=st.booleans()),
        ],
    )
)
def test_any_table_comes_back_as_it_went(frame) -> None:
    codec = make_codec(dataset(frame))
    pd.testing.assert_frame_equal(codec.decode(codec.encode(frame)), frame, check_exact=True)


def test_unseen_categories_and_impossible_codes_are_refused() -> None:
    frame = pd.DataFrame({"c": ["a", "b"], "n": [1, 2]})
    codec = make_codec(dataset(frame))
    with pytest.raises(UsageError, match="AK227 column 'c' holds a category that the data set does not: 'z'"):
        codec.encode(pd.DataFrame({"c": ["z", "a"], "n": [1, 2]}))
    with pytest.raises(UsageError, match="AK228 column 'c' has 2 categories"):
        codec.decode(np.array([[2.0, 1.0]]))
    with pytest.raises(UsageError, match="AK228 column 'n' of int64 cannot hold a missing value"):
        codec.decode(np.array([[0.0, np.nan]]))
    with pytest.raises(UsageError, match="AK205"):
        codec.encode(frame[["n", "c"]])
    more = make_codec(dataset(frame), dataset(pd.DataFrame({"c": ["z"], "n": [3]})))
    assert more.encode(pd.DataFrame({"c": ["z", "a"], "n": [1, 2]}))[:, 0].tolist() == [2.0, 0.0]


def test_what_a_float_cannot_hold_is_refused() -> None:
    large = pd.DataFrame({"id": [2**60, 1]})
    codec = make_codec(dataset(large))
    with pytest.raises(UsageError, match="AK227 column 'id' holds integers too large"):
        codec.encode(large)
    fine = pd.DataFrame({"t": pd.to_datetime(["2020-01-01 00:00:00.000000001"])})
    codec = make_codec(dataset(fine))
    with pytest.raises(UsageError, match="AK227 column 't' holds times"):
        codec.encode(fine)
    far = pd.DataFrame({"t": pd.to_datetime(["2107-01-01 00:00:00.000007"])})
    codec = make_codec(dataset(far))
    with pytest.raises(UsageError, match="AK227 column 't' holds times"):
        codec.encode(far)
    texts = Dataset(inputs=["a"], y=np.zeros(1, dtype=np.int64), modality="text")
    with pytest.raises(UsageError, match="AK208 only tables"):
        make_codec(texts)


def test_columns_of_mixed_dtypes_stay_in_their_order_however_they_are_decoded() -> None:
    """Numbers of a dtype are decoded together; between them stand columns that are not."""
    frame = mixed()
    frame["float_again"], frame["int_again"] = [1.0, 2.0, np.nan], [7, 8, 9]
    frame = frame[[*frame.columns[::-2], *frame.columns[-2::-2]]]
    back = make_codec(dataset(frame)).decode(make_codec(dataset(frame)).encode(frame))
    pd.testing.assert_frame_equal(back, frame, check_exact=True)


def test_the_table_decoded_is_no_view_of_the_matrix() -> None:
    frame = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=["a", "b"])
    codec = make_codec(dataset(frame))
    matrix = codec.encode(frame)
    assert not np.shares_memory(codec.decode(matrix).to_numpy(copy=False), matrix)


def test_a_missing_whole_number_names_its_column() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [3, 4]})
    with pytest.raises(UsageError, match="AK228 column 'c'"):
        make_codec(dataset(frame)).decode(np.array([[1.0, 0.5, np.nan]]))
