from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys

import duckdb
import numpy as np
import pandas as pd
import pytest

from auditkit.core.errors import LoadError
from auditkit.subjects.files import read_arrays, read_columns, read_table

pytestmark = pytest.mark.core_only


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_types_are_those_that_pandas_would_read(tmp_path) -> None:
    text = 'n,gap,x,word,flag,day,zip,none\n1,1,0.5,"a, b",true,2020-01-02,0012,\n2,,1e3,,false,2021-03-04,0013,\n'
    frame = read_table(write(tmp_path / "t.csv", text))
    assert frame["n"].dtype == np.int64
    assert frame["gap"].dtype == np.float64
    assert np.isnan(frame["gap"][1])
    assert frame["x"].tolist() == [0.5, 1000.0]
    assert frame["word"][0] == "a, b"
    assert pd.isna(frame["word"][1])
    assert frame["flag"].tolist() == [True, False]
    assert frame["day"].dt.year.tolist() == [2020, 2021]
    assert frame["zip"].tolist() == ["0012", "0013"]
    assert frame["none"].dtype == np.float64


def test_arrays_hold_what_the_table_holds(tmp_path) -> None:
    lines = ["n,gap,x,y,word,gone,flag,maybe,zip,none,A,a"]
    lines += ["1,1,0.5,nan,w,q,true,true,0012,,5,6", "2,,,inf,v,,false,,0013,,7,8"]
    text = "\n".join([*lines, ""])
    for path in (write(tmp_path / "t.csv", text), tmp_path / "t.parquet"):
        if path.suffix == ".parquet":
            duckdb.sql(f"SELECT * FROM read_csv('{tmp_path / 't.csv'}')").write_parquet(str(path))
        arrays, frame = read_columns(path), read_table(path)
        assert isinstance(arrays, dict)
        assert list(arrays) == list(frame.columns)
        for name, values in arrays.items():
            column = frame[name]
            assert values.dtype == (column.dtype if isinstance(column.dtype, np.dtype) else np.dtype(object)), name
            assert [None if pd.isna(v) else v for v in values] == [None if pd.isna(v) else v for v in column], name
        assert arrays["gone"].tolist() == ["q", None]
        assert arrays["maybe"].tolist() == [True, None]


def test_a_table_with_other_types_is_a_dataframe(tmp_path) -> None:
    frame = read_columns(write(tmp_path / "t.csv", "day,n\n2026-01-02,1\n"))
    assert isinstance(frame, pd.DataFrame)
    pd.testing.assert_frame_equal(frame, read_table(tmp_path / "t.csv"))
    duckdb.sql("SELECT [1, 2] AS both, 1 AS n").write_parquet(str(tmp_path / "l.parquet"))
    with pytest.raises(LoadError, match="AK233 column 'both'"):
        read_columns(tmp_path / "l.parquet")
    with pytest.raises(LoadError, match="AK207"):
        read_columns(write(tmp_path / "twice.csv", "a,a\n1,2\n"))


def test_no_rows_give_empty_arrays(tmp_path) -> None:
    arrays = read_columns(write(tmp_path / "t.csv", "a,b\n"))
    assert {name: len(values) for name, values in arrays.items()} == {"a": 0, "b": 0}


def test_columns_and_types_can_be_chosen(tmp_path) -> None:
    path = write(tmp_path / "t.csv", "a,b,c\n1,2,3\n")
    frame = read_table(path, columns=["c", "a"], types={"c": "VARCHAR"})
    assert list(frame.columns) == ["c", "a"]
    assert frame["c"].tolist() == ["3"]
    with pytest.raises(LoadError, match=r"AK232 there is no column 'aa'(.|\n)*did you mean 'a'"):
        read_table(path, columns=["aa"])
    with pytest.raises(LoadError, match="AK232 there is no column 'z'"):
        read_table(path, types={"z": "VARCHAR"})


def test_separators_compression_and_byte_order_marks(tmp_path) -> None:
    assert read_table(write(tmp_path / "s.csv", "a;b\n1,5;2\n"))["b"].tolist() == [2]
    assert read_table(write(tmp_path / "t.tsv", "a,x\tb\n1\t2\n")).columns.tolist() == ["a,x", "b"]
    assert read_table(write(tmp_path / "bom.csv", "\ufeffa,b\n1,2\n")).columns.tolist() == ["a", "b"]
    path = tmp_path / "z.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    assert read_table(path)["a"].tolist() == [1]


def test_names_stay_as_they_are_written(tmp_path) -> None:
    assert read_table(write(tmp_path / "case.csv", 'A,a,"x y"\n1,2,3\n')).columns.tolist() == ["A", "a", "x y"]
    with pytest.raises(LoadError, match="AK207 two columns have the same name: 'a'"):
        read_table(write(tmp_path / "dup.csv", "a,b,a\n1,2,3\n"))


def test_no_row_is_taken_for_a_comment_or_skipped(tmp_path) -> None:
    frame = read_table(write(tmp_path / "hash.csv", "a,b\n#x,1\n# y,2\nz,3\n"))
    assert frame["a"].tolist() == ["#x", "# y", "z"]


def test_wildcards_in_a_name_are_letters(tmp_path) -> None:
    write(tmp_path / "other.csv", "a\n9\n")
    path = write(tmp_path / "[o]*.csv", "a\n1\n")
    assert read_table(path)["a"].tolist() == [1]
    with pytest.raises(LoadError, match="AK230 there is no file"):
        read_table(tmp_path / "*.csv")


@pytest.mark.parametrize(
    "text", ["", "\x00\x01\x02" * 50, "a,b\n1,2\n1,2,3,4\n", "a,b\n1,2\n5\n", 'a,b\n1,"2\n3,4\n'], ids=range(5)
)
def test_a_damaged_csv_is_a_coded_error_without_its_folder(tmp_path, text) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(LoadError, match="AK231") as caught:
        read_table(path)
    assert str(tmp_path) not in str(caught.value)


def test_parquet_round_trip_and_refusals(tmp_path) -> None:
    path = str(tmp_path / "t.parquet")
    source = "SELECT 1::BIGINT a, 'x' \"B b\", true c, DATE '2020-01-01' d, 1.5::DECIMAL(4,1) e"
    duckdb.sql(f"COPY ({source}) TO '{path}'")
    frame = read_table(path)
    assert frame.columns.tolist() == ["a", "B b", "c", "d", "e"]
    assert frame.iloc[0].tolist() == [1, "x", True, pd.Timestamp("2020-01-01"), 1.5]
    keyed = str(tmp_path / "k.parquet")
    duckdb.sql(f"COPY (SELECT 'c0ffee00-0000-4000-8000-000000000001'::UUID u UNION ALL SELECT NULL) TO '{keyed}'")
    keys = read_table(keyed)["u"]
    assert (keys[0], keys.isna().tolist()) == ("c0ffee00-0000-4000-8000-000000000001", [False, True])
    nested = str(tmp_path / "n.parquet")
    duckdb.sql(f"COPY (SELECT 1 a, [1, 2] l, {{'p': 1}} s) TO '{nested}'")
    with pytest.raises(LoadError, match=r"AK233 column 'l' is of type INTEGER\[\]"):
        read_table(nested)
    assert read_table(nested, columns=["a"])["a"].tolist() == [1]
    with pytest.raises(LoadError, match="AK231 'fake.parquet' cannot be read"):
        read_table(write(tmp_path / "fake.parquet", "a,b\n1,2\n"))


def test_what_is_not_a_file_is_refused(tmp_path) -> None:
    with pytest.raises(LoadError, match=r"AK230 there is no file 'tset.csv'(.|\n)*did you mean 'test.csv'"):
        write(tmp_path / "test.csv", "a\n1\n") and read_table(tmp_path / "tset.csv")
    with pytest.raises(LoadError, match="AK230 addresses are not opened"):
        read_table("https://example.org/t.csv")
    with pytest.raises(LoadError, match="AK230 'd.csv' is not a regular file"):
        (tmp_path / "d.csv").mkdir() or read_table(tmp_path / "d.csv")
    with pytest.raises(LoadError, match="AK231 't.xlsx' is not a kind of table"):
        read_table(write(tmp_path / "t.xlsx", "a"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path) -> None:
    os.mkfifo(tmp_path / "p.csv")
    with pytest.raises(LoadError, match="AK230 'p.csv' is not a regular file"):
        read_table(tmp_path / "p.csv")


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_npz_holds_plain_arrays_only(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "ok.npz", x=np.arange(6).reshape(2, 3), y=np.array([0, 1]))
    arrays = read_arrays(tmp_path / "ok.npz")
    assert arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    np.savez(tmp_path / "evil.npz", x=np.array([Bomb()], dtype=object))
    with pytest.raises(LoadError, match="AK234 'evil.npz' cannot be read as plain arrays"):
        read_arrays(tmp_path / "evil.npz")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(LoadError, match="AK234 'raw.npz' is not an npz file"):
        read_arrays(tmp_path / "raw.npz")
    assert not (tmp_path / "executed").exists()
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(10**6))
    with pytest.raises(LoadError, match="AK243 'bomb.npz' unpacks to"):
        read_arrays(tmp_path / "bomb.npz", max_bytes=10**6)


def test_words_that_are_not_true_or_false_stay_words(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('answer,flag,"odd ""name",gap\nyes,true,t,TRUE\nno,false,f,\n')
    frame = read_table(path)
    assert frame["answer"].tolist() == ["yes", "no"]
    assert frame['odd "name'].tolist() == ["t", "f"]
    assert frame["flag"].tolist() == [True, False]
    assert frame["gap"].isna().tolist() == [False, True]


def test_a_damaged_file_is_explained_without_quoting_its_rows(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text('name,income\nAda,1\nGrace Hopper,2,3,4\n"unclosed,3\n')
    with pytest.raises(LoadError, match="AK231") as caught:
        read_table(path)
    assert "Hopper" not in str(caught.value)
    assert "people.csv" in str(caught.value)


# Ctrl-C --------------------------------------------------------------------------------------------------

_INTERRUPTED = """
import os, signal, sys, threading
from pathlib import Path
from auditkit.subjects import files
signal.signal(signal.SIGINT, signal.default_int_handler)
Path("t.csv").write_text("a\\n1\\n")
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    with files.opened_table(Path("t.csv"), "") as connection:
        while True:
            connection.execute("SELECT sum(a.range * b.range) FROM range(9000) a, range(9000) b").fetchall()
except KeyboardInterrupt as interrupt:
    sys.exit(42)
"""


def test_ctrl_c_while_a_table_is_read_is_an_interrupt(tmp_path):
    """DuckDB tells of it as a plain RuntimeError."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 42, done.stderr


def test_other_errors_of_the_reader_stay_what_they_are(tmp_path):
    from auditkit.subjects.files import opened_table

    path = tmp_path / "t.csv"
    path.write_text("a\n1\n")
    with pytest.raises(RuntimeError, match="ours"), opened_table(path, "mend it"):
        raise RuntimeError("ours")
    with pytest.raises(LoadError, match="AK231") as found, opened_table(path, "mend it") as connection:
        connection.execute("SELECT nothing FROM nowhere")
    assert found.value.fix == "mend it"
