"""Feature kinds and bounds: inferred from the data, overridable by the user."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from auditkit.core.errors import UsageError
from auditkit.core.features import parse_constraint
from auditkit.core.registry import nearest
from auditkit.core.subject import Constraint, Feature, FeatureKind, Schema

KINDS: tuple[str, ...] = get_args(FeatureKind)
TEXT_DISTINCT = 50  # a string column with more distinct values than this, most of them rare, is text


def infer_schema(frames: Sequence[Any], override: Any = None, constraints: Sequence[str] = ()) -> Schema:
    """The schema of tables with the same columns.

    Args:
        frames: DataFrames (or 2-D arrays) of the splits; bounds and categories are those seen in any of them.
        override: ``None``, a :class:`Schema`, or name -> kind, :class:`Feature` or mapping of its fields.
        constraints: Linear rules between features, such as ``"years_employed <= age - 16"``.

    Raises:
        UsageError: AK207 duplicate column names, AK208 columns of an unknown type, AK225 a wrong override, AK575 a
            wrong field of a feature, AK576 or AK577 a constraint that cannot be read or kept.
    """
    rules = tuple(rule for line in constraints for rule in parse_constraint(line))
    names = _unique_names(frames[0])
    groups = one_hot_groups(frames, names)
    columns = [[_column(frame, place) for frame in frames] for place in range(len(names))]
    features = [_feature(name, parts, groups.get(name)) for name, parts in zip(names, columns, strict=True)]
    if isinstance(override, Schema):
        if set(override.names) != set(names):
            odd = sorted(set(override.names) ^ set(names))
            raise UsageError(
                "AK225", f"the schema and the data differ in columns: {', '.join(odd[:8])}", where="schema"
            )
        rules += override.constraints
        override = {feature.name: feature for feature in override.features}
    told = tuple(_overridden(feature, override or {}) for feature in _checked(override, names, features))
    _check_rules(rules, told)
    return Schema(told, rules)


def one_hot_groups(frames: Sequence[Any], names: Sequence[str]) -> dict[str, str]:
    """Column name -> prefix, for columns ``prefix_a``, ``prefix_b`` ... of 0 and 1 that sum to 1 in every row.

    ``=`` separates like ``_``; where prefixes nest, the largest set that sums to 1 wins.
    """
    flags: dict[str, list[npt.NDArray[np.float64]]] = {}
    for place, name in enumerate(names):
        if "_" in name or "=" in name:
            parts = [_zero_one(_column(frame, place)) for frame in frames]
            present = [part for part in parts if part is not None]
            if len(present) == len(parts):
                flags[name] = present
    sets: dict[str, list[str]] = {}
    for name in flags:
        for place, letter in enumerate(name):
            if letter in "_=" and place > 0:
                sets.setdefault(name[:place].rstrip("_="), []).append(name)
    found: dict[str, str] = {}
    for prefix, members in sorted(sets.items(), key=lambda item: (-len(set(item[1])), item[0])):
        members = sorted(set(members))
        if len(members) < 2 or any(name in found for name in members):
            continue
        totals = [np.sum([flags[name][split] for name in members], axis=0) for split in range(len(frames))]
        if all(bool((total == 1).all()) for total in totals):
            found |= dict.fromkeys(members, prefix)
    return found


def image_schema(arrays: Sequence[npt.NDArray[Any]]) -> Schema:
    """One ``pixel`` feature with the range of the pixels: 0..255, 0..1 or as observed."""
    if all(array.dtype == np.uint8 for array in arrays):
        return Schema((Feature(name="pixel", kind="pixel", low=0.0, high=255.0),))
    low, high = _observed(arrays)
    if low is not None and high is not None and low >= 0.0:
        if high <= 1.0:
            low, high = 0.0, 1.0
        elif high <= 255.0 and high > 2.0:
            low, high = 0.0, 255.0
    return Schema((Feature(name="pixel", kind="pixel", low=low, high=high),))


def token_schema(arrays: Sequence[npt.NDArray[Any]]) -> Schema:
    """One ``token`` feature with the smallest and largest id observed."""
    low, high = _observed(arrays)
    return Schema((Feature(name="token", kind="token", low=low, high=high),))


def text_schema() -> Schema:
    """One ``text`` feature."""
    return Schema((Feature(name="text", kind="text"),))


def column_kind(series: Any) -> FeatureKind:
    """Kind of one DataFrame column, from its dtype and, for strings, its number of distinct values.

    Raises:
        UsageError: AK208 a dtype that is no feature (complex numbers, periods, lists ...).
    """
    import pandas as pd

    dtype = series.dtype
    test = pd.api.types
    if isinstance(dtype, pd.CategoricalDtype):
        return "categorical"
    if test.is_bool_dtype(dtype):
        return "boolean"
    if test.is_datetime64_any_dtype(dtype):
        return "datetime"
    if test.is_integer_dtype(dtype):
        return "integer"
    if test.is_timedelta64_dtype(dtype) or (test.is_numeric_dtype(dtype) and not test.is_complex_dtype(dtype)):
        return "numeric"
    if test.is_object_dtype(dtype) or test.is_string_dtype(dtype):
        try:
            distinct = int(series.nunique())
        except TypeError as error:
            raise _no_feature(series, "it holds lists or other values that are no feature") from error
        many = distinct > TEXT_DISTINCT and distinct > 0.5 * len(series)
        return "text" if many else "categorical"
    raise _no_feature(series, f"its dtype is {dtype}")


def seconds(series: Any) -> npt.NDArray[np.float64]:
    """Datetimes (UTC when without a zone) or durations as seconds; missing is NaN."""
    import pandas as pd

    if pd.api.types.is_timedelta64_dtype(series.dtype):
        return np.asarray(series.dt.total_seconds(), dtype=np.float64)
    if getattr(series.dt, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    stamps = series.to_numpy(dtype="datetime64[ns]")
    micro = stamps.astype("datetime64[us]").astype(np.int64) / 1e6
    return np.where(np.isnat(stamps), np.nan, micro)


def _feature(name: str, parts: Sequence[Any], group: str | None) -> Feature:
    import pandas as pd

    kinds = [column_kind(part) for part in parts]
    kind: FeatureKind = "text" if "text" in kinds and set(kinds) <= {"text", "categorical"} else kinds[0]
    if group is not None:
        return Feature(name=name, kind="onehot", low=0.0, high=1.0, group=group)
    if kind == "boolean":
        return Feature(name=name, kind=kind, low=0.0, high=1.0)
    if kind == "categorical":
        return Feature(name=name, kind=kind, categories=_categories(parts))
    if kind == "text":
        return Feature(name=name, kind=kind)
    if kind == "datetime" or pd.api.types.is_timedelta64_dtype(parts[0].dtype):
        low, high = _observed([seconds(part) for part in parts])
    else:
        low, high = _observed([part.to_numpy(dtype=np.float64, na_value=np.nan) for part in parts])
    return Feature(name=name, kind=kind, low=low, high=high)


def _categories(parts: Sequence[Any]) -> tuple[str, ...]:
    from auditkit.subjects.labels import label_name

    seen: dict[str, None] = {}
    for part in parts:
        values = part.cat.categories if hasattr(part, "cat") else part.dropna().unique()
        names = [label_name(value) for value in values]
        seen |= dict.fromkeys(names if hasattr(part, "cat") else sorted(names))
    return tuple(seen)


def _checked(override: Any, names: Sequence[str], features: list[Feature]) -> list[Feature]:
    if override is None:
        return features
    if not isinstance(override, Mapping):
        raise UsageError(
            "AK225", f"schema= must be a mapping or a Schema, got {type(override).__name__}", where="schema"
        )
    for name in override:
        if str(name) not in names:
            raise UsageError(
                "AK225",
                f"the schema names a column that is not there: {str(name)!r}",
                where="schema",
                fix=nearest(str(name), names) or "name columns of X",
            )
    return features


def _overridden(feature: Feature, override: Mapping[str, Any]) -> Feature:
    if feature.name not in override:
        return feature
    wish = override[feature.name]
    if isinstance(wish, Feature):
        wish = {
            field.name: getattr(wish, field.name)
            for field in dataclasses.fields(wish)
            if getattr(wish, field.name) != field.default
        }
    elif isinstance(wish, str):
        wish = {"kind": wish}
    if not isinstance(wish, Mapping):
        raise UsageError("AK225", f"schema of {feature.name!r}: give a kind or a mapping of fields", where="schema")
    known = {field.name for field in dataclasses.fields(Feature)} - {"name"}
    fields = {str(key): value for key, value in wish.items() if key != "name"}
    for key in fields:
        if key not in known:
            raise UsageError(
                "AK225",
                f"schema of {feature.name!r} has no field {key!r}",
                where="schema",
                fix=nearest(key, known) or f"fields are {', '.join(sorted(known))}",
            )
    if fields.get("kind", feature.kind) not in KINDS:
        raise UsageError(
            "AK225",
            f"schema of {feature.name!r}: there is no kind {fields['kind']!r}",
            where="schema",
            fix=nearest(str(fields["kind"]), KINDS) or f"kinds are {', '.join(KINDS)}",
        )
    if "categories" in fields:
        fields["categories"] = tuple(str(item) for item in fields["categories"])
    changed = dataclasses.replace(feature, **fields)
    if changed.low is not None and changed.high is not None and not changed.low <= changed.high:
        raise UsageError("AK225", f"schema of {feature.name!r}: low is above high", where="schema")
    return changed


def _check_rules(rules: Sequence[Constraint], features: Sequence[Feature]) -> None:
    """Every constraint names columns that are there and hold numbers."""
    kinds = {feature.name: feature.kind for feature in features}
    for rule in rules:
        for name, _ in rule.terms:
            if kinds.get(name) not in ("numeric", "integer", "boolean", "onehot", "datetime"):
                raise UsageError(
                    "AK577",
                    f"the constraint {rule.text!r} names {name!r}, which is "
                    + ("no column" if name not in kinds else f"a {kinds[name]} column"),
                    where="constraints",
                    fix=(nearest(name, tuple(kinds)) if name not in kinds else None) or "name columns of numbers",
                )


def _unique_names(table: Any) -> list[str]:
    if not hasattr(table, "columns"):
        return [f"x{place}" for place in range(table.shape[1])]
    names = [str(name) for name in table.columns]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise UsageError(
            "AK207",
            f"two columns have the same name: {', '.join(map(repr, twice[:8]))}",
            where="X",
            fix="rename one of them",
        )
    return names


def _column(table: Any, place: int) -> Any:
    if hasattr(table, "iloc"):
        return table.iloc[:, place]
    import pandas as pd

    return pd.Series(table[:, place])


def _zero_one(series: Any) -> npt.NDArray[np.float64] | None:
    import pandas as pd

    dtype = series.dtype
    if not (pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_numeric_dtype(dtype)):
        return None
    if isinstance(dtype, pd.CategoricalDtype) or pd.api.types.is_complex_dtype(dtype):
        return None
    values: npt.NDArray[np.float64] = series.to_numpy(dtype=np.float64, na_value=np.nan)
    return values if bool(((values == 0) | (values == 1)).all()) else None


def _observed(parts: Sequence[Any]) -> tuple[float | None, float | None]:
    lows, highs = [], []
    for part in parts:
        values = np.asarray(part)
        if values.dtype.kind == "f":
            values = values[np.isfinite(values)]
        if values.size:
            lows.append(float(values.min()))
            highs.append(float(values.max()))
    if not lows or not (math.isfinite(min(lows)) and math.isfinite(max(highs))):
        return None, None
    return min(lows), max(highs)


def _no_feature(series: Any, why: str) -> UsageError:
    return UsageError(
        "AK208",
        f"column {str(series.name)!r} cannot be a feature",
        where="X",
        why=why,
        fix="turn it into numbers, strings, categories, booleans or datetimes",
    )
