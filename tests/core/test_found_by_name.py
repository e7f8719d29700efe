"""Measurements of an evidence file found by name, however many names are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from auditkit.core import cut
from auditkit.core.cut import Texts
from auditkit.core.evidence import Measurement
from auditkit.core.unread import ByName, Unread

NAMES = [f"acme.q{i % 37}" for i in range(400)]


def parts(built: list[int]) -> list[Sequence[Measurement]]:
    """Measurements already built, and two parts that count how many they build."""

    def build(written):
        found = written()
        built.append(len(found))
        return [Measurement(name=part["name"], value=part["value"]) for part in found]

    first = [Measurement(name=name, value=float(index)) for index, name in enumerate(NAMES[:50])]
    rest = [f'{{"name":"{name}","value":{index}}}' for index, name in enumerate(NAMES)]
    return [first, *(Unread(Texts(",".join(part).encode()), build) for part in (rest[50:200], rest[200:]))]


def test_each_name_has_its_measurements_in_order_before_and_after_all_are_indexed():
    asked = list(dict.fromkeys(NAMES))
    assert len(asked) > 2 * cut._FEW
    found = ByName(parts([]))
    for name in asked:
        assert [m.value for m in found[name]] == [float(i) for i, each in enumerate(NAMES) if each == name], name
    assert list(found) == asked
    assert len(found) == len(asked)


def test_only_what_is_asked_for_is_built():
    built: list[int] = []
    found = ByName(parts(built))
    assert [m.name for m in found["acme.q3"]] == ["acme.q3"] * NAMES.count("acme.q3")
    assert sum(built) == sum(name == "acme.q3" for name in NAMES[50:])


@pytest.mark.parametrize("asked", [0, 30])
def test_a_name_that_is_not_there_is_not_found(asked):
    found = ByName(parts([]))
    for name in list(found)[:asked]:
        assert found[name]
    with pytest.raises(KeyError):
        found["acme.other"]
    assert found.get("acme.other") is None
