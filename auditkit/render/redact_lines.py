"""Which lines of a curve must go from a shared copy: those of groups whose numbers are withheld."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from auditkit.core.evidence import Measurement
from auditkit.render.groups import Group, group_of


def hidden_lines(
    small: Iterable[Group],
    before: Sequence[Measurement],
    after: Sequence[Measurement],
    sensitive: Mapping[str, Mapping[str, int]],
) -> frozenset[str]:
    """Names that lines of withheld groups may have.

    The steps and the interval of a line give the rows behind it. So a group keeps its line only where all its
    measurements keep theirs, and a group that has lines but no measurement (too few rows for one) loses them. A value
    that was undefined from the start tells nothing.

    Args:
        small: Groups with too few rows.
        before: The measurements of the outcome.
        after: The same measurements as they may be shown.
        sensitive: Column -> group -> rows of the data.
    """
    groups = set(small)
    for one, other in zip(before, after, strict=True):
        gone = (one.value is not None and other.value is None) or (one.n is not None and other.n is None)
        if one.slice and gone:
            groups.add(group_of(one))
    measured = {group_of(one) for one in before}
    groups |= {((column, name),) for column, names in sensitive.items() for name in names} - measured
    return frozenset(name for group in groups for name in names_of(group))


def names_of(group: Group) -> list[str]:
    """Names that a group may have as a line of a curve or a row of a table."""
    values = ", ".join(value for _, value in group)
    names = [group[0][1], values] if len(group) == 1 else [values]
    names += [", ".join(f"{column}{sign}{value}" for column, value in group) for sign in (": ", "=")]
    return [*names, *(f"{name}, without privacy" for name in names)]


def left_out(whole: int | None, parts: Iterable[int | None]) -> int:
    """Rows of the whole that no part shows; 0 where that cannot be told.

    >>> left_out(150, [116, 30]), left_out(150, [75, 75]), left_out(None, [3])
    (4, 0, 0)
    """
    shown = [part for part in parts if part is not None]
    return 0 if whole is None else max(whole - sum(shown), 0)
