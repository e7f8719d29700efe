"""Distinct values against pandas, value by value."""

import decimal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditkit.stats.coding import encode_groups
from auditkit.stats.distinct import distinct, hashed_places

CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 1.0, 2.5, float("nan"), float("inf")]),
    st.sampled_from(["", " ", "a", "b", "1", "nan"]),
    st.sampled_from([pd.NA, pd.NaT, pd.Timestamp("2026-01-01"), decimal.Decimal("NaN"), decimal.Decimal(1)]),
)


def assert_as_pandas(column: object) -> None:
    codes, found = distinct(column)
    expected, uniques = pd.factorize(column)  # type: ignore[call-overload]
    np.testing.assert_array_equal(codes, expected)
    assert len(found) == len(uniques)
    assert all(one == other for one, other in zip(found, uniques, strict=True))


@given(st.lists(CELLS, max_size=30))
def test_distinct_objects_are_those_of_pandas(cells: list[object]) -> None:
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    assert_as_pandas(column)


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float32", "float64", "bool", "datetime64[s]", "timedelta64[ns]"])
@pytest.mark.parametrize("n", [0, 1, 500])
def test_distinct_numbers_are_those_of_pandas(dtype: str, n: int) -> None:
    column = np.random.default_rng(n).integers(0, 40, n).astype(dtype)
    if column.dtype.kind in "fMm" and n > 1:
        column[::7] = np.array("NaT", dtype=dtype) if column.dtype.kind in "Mm" else np.nan
    assert_as_pandas(column)


def test_distinct_values_of_pandas_columns_are_their_own() -> None:
    for column in (
        pd.Series(["b", None, "a", "b"]),
        pd.Series([2, None, 1], dtype="Int64"),
        pd.Series([True, None, False], dtype="boolean"),
        pd.Series(pd.Categorical(["x", None, "y"], categories=["z", "y", "x"])),
        pd.Series(pd.to_datetime(["2026-01-02", None])),
    ):
        assert_as_pandas(column)


def test_values_that_cannot_be_hashed_are_refused() -> None:
    column = np.empty(1, dtype=object)
    column[0] = [1]
    with pytest.raises(TypeError, match="unhashable"):
        distinct(column)


def test_names_whose_hashes_share_their_leading_bits_stay_apart() -> None:
    """Of 5,000 names some share 16 bits: the codes still tell all of them apart."""
    names = np.array([f"group {number}" for number in range(5000)])
    rows = np.tile(names, 3)
    found, codes = encode_groups(rows)
    assert found == tuple(sorted(names.tolist()))
    np.testing.assert_array_equal(np.array(found)[codes], rows)


def test_places_of_hashes_follow_their_appearance() -> None:
    top = np.uint64(1) << np.uint64(48)
    hashed = np.array([9, 3, 9, 3, 5], dtype=np.uint64) * top
    assert hashed_places(hashed).tolist() == [0, 1, 0, 1, 2]
    assert hashed_places(np.array([1, 2], dtype=np.uint64)).tolist() == [0, 0], "equal leading bits: one place"


def test_groups_are_encoded_without_pandas() -> None:
    code = (
        "import sys, numpy as np; from auditkit.stats.coding import encode_groups; "
        "encode_groups(np.tile(np.array(['a', 'b']), 9000)); encode_groups(np.array(['a', None], dtype=object)); "
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
