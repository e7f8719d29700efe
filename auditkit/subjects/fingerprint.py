"""Content hashes of data and models: the same in every process and on every platform.

The hash of an object is built from its structure: scalars by value, arrays by dtype, shape and
little-endian bytes, mappings and sets without regard to their order, other objects by what pickling
would save of them (nothing is ever unpickled). An object that cannot be taken apart has no hash.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

_DEPTH = 200


class Unhashable(Exception):
    """The object's content cannot be reached."""


def fingerprint_of(value: Any) -> str | None:
    """``sha256:<hex>`` of the content of ``value``, or ``None`` when it cannot be taken apart.

    >>> fingerprint_of({"a": 1, "b": 2}) == fingerprint_of({"b": 2, "a": 1})
    True
    >>> fingerprint_of(np.zeros(2)) == fingerprint_of(np.zeros(2, dtype=np.float32))
    False
    """
    try:
        return "sha256:" + _digest(value, {}, (), 0).hex()
    except (Unhashable, RecursionError):
        return None


def fingerprint_parts(parts: Iterable[tuple[str, Any]]) -> str:
    """One hash over named parts, in order; a part that has no hash counts by its type only."""
    hasher = hashlib.sha256()
    for name, value in parts:
        hasher.update(_tagged("part", name.encode("utf-8")))
        hasher.update((fingerprint_of(value) or f"opaque {type(value).__qualname__}").encode("ascii", "replace"))
    return "sha256:" + hasher.hexdigest()


def array_bytes(array: np.ndarray[Any, Any]) -> Any:
    """The array's bytes, C order and little-endian, without a copy where that is possible."""
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data if array.size else b""


def _tagged(tag: str, content: bytes) -> bytes:
    return f"{tag}:{len(content)}:".encode("ascii") + content


def _leaf(tag: str, content: bytes) -> bytes:
    return hashlib.sha256(_tagged(tag, content)).digest()


def _join(tag: str, digests: Iterable[bytes]) -> bytes:
    hasher = hashlib.sha256(tag.encode("ascii"))
    for digest in digests:
        hasher.update(digest)
    return hasher.digest()


def _digest(value: Any, memo: dict[int, tuple[Any, bytes]], above: tuple[int, ...], depth: int) -> bytes:
    scalar = _scalar(value)
    if scalar is not None:
        return scalar
    if id(value) in above:
        return _leaf("cycle", str(above[::-1].index(id(value))).encode("ascii"))
    if depth > _DEPTH:
        raise Unhashable(type(value).__qualname__)
    if id(value) in memo:
        return memo[id(value)][1]
    digest = _compound(value, memo, (*above, id(value)), depth + 1)
    memo[id(value)] = (value, digest)  # the object is kept alive so that its id stays its own
    return digest


def _scalar(value: Any) -> bytes | None:
    if value is None or isinstance(value, bool | int | complex):
        return _leaf(type(value).__name__, repr(value).encode("ascii"))
    if isinstance(value, float) and type(value) is float:
        return _leaf("float", value.hex().encode("ascii"))
    if type(value) is str:
        return _leaf("str", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray):
        return _leaf("bytes", bytes(value))
    if isinstance(value, np.dtype):
        return _leaf("dtype", str(np.dtype(value).newbyteorder("<").descr).encode("utf-8"))
    if isinstance(value, np.generic):
        return _leaf(f"numpy.{type(value).__name__}", repr(value.item()).encode("utf-8", "surrogatepass"))
    if isinstance(value, type | types.BuiltinFunctionType | np.ufunc | types.ModuleType):
        name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"
        return _leaf("name", name.encode("utf-8"))
    return None


def _compound(value: Any, memo: dict[int, tuple[Any, bytes]], above: tuple[int, ...], depth: int) -> bytes:
    def inner(item: Any) -> bytes:
        return _digest(item, memo, above, depth)

    if isinstance(value, np.ndarray):
        return _array(value, inner)
    if type(value) in (list, tuple):
        return _join(type(value).__name__, map(inner, value))
    if type(value) is dict:
        return _join("dict", sorted(inner(key) + inner(item) for key, item in value.items()))
    if isinstance(value, set | frozenset):
        return _join("set", sorted(map(inner, value)))
    if isinstance(value, types.FunctionType):
        return _function(value, inner)
    if isinstance(value, types.CodeType):
        return _join("code", [inner(value.co_code), inner(value.co_consts), inner(value.co_names)])
    if isinstance(value, types.MethodType):
        return _join("method", [inner(value.__func__), inner(value.__self__)])
    pandas = _pandas(value, inner)
    return pandas if pandas is not None else _reduced(value, inner)


def _array(value: np.ndarray[Any, Any], inner: Any) -> bytes:
    head = _leaf("array", f"{value.dtype.newbyteorder('<').str}{value.shape}".encode("ascii"))
    if value.dtype.names is not None:  # field by field: the padding between fields is not content
        return _join("fields", [head, *(inner(value[name]) for name in value.dtype.names)])
    if value.dtype.hasobject:
        return _join("objects", [head, *map(inner, value.reshape(-1).tolist())])
    if value.dtype.kind == "T":
        return _join("strings", [head, *map(inner, value.reshape(-1).tolist())])
    return _join("array", [head, hashlib.sha256(array_bytes(value)).digest()])


def _function(value: types.FunctionType, inner: Any) -> bytes:
    try:
        cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
    except ValueError as error:  # a name that is not bound yet
        raise Unhashable(value.__qualname__) from error
    parts = (value.__module__, value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, cells)
    return _join("function", map(inner, parts))


def _pandas(value: Any, inner: Any) -> bytes | None:
    if type(value).__module__.partition(".")[0] != "pandas":
        return None
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        columns = [_leaf("column", repr(name).encode("utf-8", "surrogatepass")) for name in value.columns]
        cells = [_column(value.iloc[:, place]) for place in range(value.shape[1])]
        return _join("frame", [inner(len(value)), *columns, *cells])
    if isinstance(value, pd.Series):
        return _column(value)
    if isinstance(value, pd.Index):
        return _join("index", [_leaf("name", repr(value.name).encode("utf-8")), _column(value.to_series())])
    return None


def _column(series: Any) -> bytes:
    """Dtype and values of one column; its index is not content."""
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, np.dtype) and dtype.kind in "biufcmM":
        head = _leaf("dtype", str(dtype).encode("ascii"))
        return _join("column", [head, hashlib.sha256(array_bytes(series.to_numpy())).digest()])
    name = str(dtype)
    parts = [_leaf("dtype", name.encode("utf-8"))]
    if isinstance(dtype, pd.CategoricalDtype):
        parts.append(_column(pd.Series(dtype.categories)))
        parts.append(hashlib.sha256(array_bytes(series.cat.codes.to_numpy().astype("<i8"))).digest())
        return _join("column", parts)
    codes, uniques = pd.factorize(series, use_na_sentinel=True)
    parts.append(hashlib.sha256(array_bytes(codes.astype("<i8"))).digest())
    parts += [_leaf(type(item).__name__, str(item).encode("utf-8", "surrogatepass")) for item in uniques]
    return _join("column", parts)


def _reduced(value: Any, inner: Any) -> bytes:
    """Any other object, by what pickling would save: its class, arguments, state and items."""
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        raise Unhashable(type(value).__qualname__) from error
    if isinstance(reduced, str):
        return _leaf("name", f"{type(value).__module__}.{reduced}".encode())
    function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    parts = [inner(type(value)), inner(function), inner(tuple(arguments)), inner(_plain_state(state))]
    if items is not None:
        parts.append(_join("items", map(inner, items)))
    if pairs is not None:
        parts.append(_join("pairs", sorted(inner(key) + inner(item) for key, item in pairs)))
    return _join("object", parts)


def _plain_state(state: Any) -> Any:
    return dict(state) if isinstance(state, Mapping) else state
