from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditkit.core.errors import UsageError
from auditkit.methods.fairness.counts import count_groups, merge_counts
from auditkit.stats import coding
from auditkit.stats.coding import _encode_hashed, encode_groups

CLASSES = ("no", "maybe", "yes")


def rows(n=400, k=3, seed=0):
    rng = np.random.default_rng(seed)
    groups = {"sex": rng.choice(["F", "M"], n), "race": rng.choice(["a", "b", "c"], n, p=[0.9, 0.09, 0.01])}
    return rng.integers(0, k, n), rng.integers(0, k, n), groups, rng.random(n) + 0.1, rng.integers(0, 60, n)


def test_every_cell_weight_and_moment_equals_a_loop_over_rows():
    y, p, groups, w, c = rows()
    made = count_groups(y, p, groups, classes=CLASSES, weights=w, clusters=c, intersections=2)
    assert [part.over for part in made] == [(), ("sex",), ("race",), ("sex", "race")]
    for part in made:
        for index, group in enumerate(part.groups):
            mask = np.ones(len(y), dtype=bool)
            for column, name in zip(part.over, group, strict=True):
                mask &= groups[column] == name
            vectors = {}
            for i in np.flatnonzero(mask):
                vectors.setdefault(c[i], np.zeros(9))[y[i] * 3 + p[i]] += w[i]
            for a in range(3):
                for b in range(3):
                    cell = mask & (y == a) & (p == b)
                    assert part.n[index][a][b] == cell.sum()
                    assert part.weight[index][a][b] == pytest.approx(w[cell].sum())
                    assert part.weight_sq[index][a][b] == pytest.approx((w[cell] ** 2).sum())
            moment = sum(np.outer(v, v) for v in vectors.values())
            assert np.allclose(part.moment[index], moment)
        assert sum(sum(map(sum, block)) for block in part.n) == len(y)


def test_combinations_without_rows_have_no_cells():
    groups = {"a": np.array(["x", "y", "x"]), "b": np.array(["1", "2", "1"])}
    made = count_groups(np.array([0, 1, 1]), np.array([0, 1, 0]), groups, classes=("n", "y"), intersections=2)
    assert made[-1].groups == (("x", "1"), ("y", "2"))


@given(st.integers(0, 2**32 - 1), st.integers(1, 399))
@settings(max_examples=25, deadline=None)
def test_counts_of_two_shards_add_up_to_the_counts_of_all(seed, cut):
    y, p, groups, w, _ = rows(seed=seed)
    clusters = np.arange(len(y))
    keys = {"classes": CLASSES, "intersections": 2}
    whole = count_groups(y, p, groups, weights=w, clusters=clusters, **keys)
    shards = [
        count_groups(y[s], p[s], {k: v[s] for k, v in groups.items()}, weights=w[s], clusters=clusters[s], **keys)
        for s in (slice(0, cut), slice(cut, None))
    ]
    for one, two, both in zip(*shards, whole, strict=True):
        merged = merge_counts(one, two)
        assert (merged.groups, merged.n) == (both.groups, both.n)
        assert np.allclose(merged.weight, both.weight)
        assert np.allclose(merged.moment, both.moment)


def test_shards_of_different_shape_are_refused():
    y, p, groups, w, _ = rows()
    one = count_groups(y, p, groups, classes=CLASSES)
    with pytest.raises(UsageError, match="AK400 counts over different columns"):
        merge_counts(one[1], one[2])
    with pytest.raises(UsageError, match="AK400 counts over different columns"):
        merge_counts(one[1], count_groups(y, p, groups, classes=CLASSES, weights=w)[1])


@given(st.lists(st.text(max_size=5).filter(lambda s: "\x00" not in s), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_hashed_coding_equals_sorting(names):
    values = np.array(names)
    plain_names, plain_codes = np.unique(values, return_inverse=True)
    fast = _encode_hashed(np.ascontiguousarray(values))
    assert fast is None or (fast[0] == tuple(plain_names) and np.array_equal(fast[1], plain_codes))
    assert encode_groups(values)[0] == tuple(plain_names)


def test_a_hash_collision_is_seen(monkeypatch):
    values = np.array(["aa", "bb", "cc"])
    assert _encode_hashed(values) is not None
    monkeypatch.setattr(coding, "hashed_places", lambda hashed: np.zeros(len(hashed), dtype=np.int64))
    assert _encode_hashed(values) == (("aa", "bb", "cc"), pytest.approx([0, 1, 2])), "the whole hash tells them apart"
    monkeypatch.setattr(coding, "distinct", lambda hashed: (np.zeros(len(hashed), dtype=np.int64), [0]))
    assert _encode_hashed(values) is None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"y_true": np.array(["no", "yes"])}, "y_true must hold integer class codes from 0 to 1"),
        ({"y_true": np.array([0, 2])}, "y_true must hold integer class codes"),
        ({"y_pred": np.array([-1, 0])}, "y_pred must hold integer class codes"),
        ({"y_pred": np.array([0.0, np.nan])}, "y_pred must hold integer class codes"),
        ({"y_pred": np.array([0])}, "y_pred and y_true differ in length"),
        ({"groups": {"sex": np.array(["F"])}}, "sex and y_true differ in length"),
        ({"weights": np.array([1.0, np.nan])}, "weights must be finite and above 0"),
        ({"weights": np.array([1.0, 0.0])}, "weights must be finite and above 0"),
        ({"y_true": np.array([], dtype=int), "y_pred": np.array([], dtype=int), "groups": {}}, "no rows to count"),
        ({"classes": tuple("abcdefghijklm"), "clusters": np.array([0, 1])}, "AK401 clustered rows with 13 classes"),
    ],
)
def test_rows_that_cannot_be_counted_are_refused(change, match):
    given_rows = {
        "y_true": np.array([0, 1]),
        "y_pred": np.array([0, 1]),
        "groups": {"sex": np.array(["F", "M"])},
        "classes": ("no", "yes"),
        **change,
    }
    arguments = [given_rows.pop(name) for name in ("y_true", "y_pred", "groups")]
    with pytest.raises(UsageError, match=match):
        count_groups(*arguments, **given_rows)
