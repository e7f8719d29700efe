"""Which analyzers exist: entry points, built-in and third-party alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from auditkit.core.analyzer import Analyzer
from auditkit.core.errors import AuditkitError, UsageError

GROUP = "auditkit.analyzers"
# Modules of other packages whose analyzers were loaded here: what they leave to do at exit is done.
FOREIGN: set[str] = set()
FAMILY_ORDER = ("data", "performance", "fairness", "explain", "robustness", "privacy")


def discover(points: Iterable[EntryPoint] | None = None) -> Mapping[str, EntryPoint]:
    """Name -> entry point, in family order, without importing any analyzer.

    Raises:
        UsageError: AK120 when two distributions register the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP) if points is None else points:
        if point.name in found and found[point.name].value != point.value:
            raise UsageError(
                "AK120",
                f"two analyzers are registered as {point.name!r}",
                where=f"{found[point.name].value} and {point.value}",
                fix="uninstall one of the two packages, or rename its entry point",
            )
        found[point.name] = point
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def load(name: str, points: Mapping[str, EntryPoint] | None = None) -> Analyzer:
    """Import one analyzer.

    Raises:
        UsageError: AK121 unknown name (the nearest is named).
        AuditkitError: AK122 the entry point does not load, or is not an ``Analyzer`` of that name.
    """
    points = discover() if points is None else points
    if name not in points:
        raise UsageError(
            "AK121", f"there is no analyzer {name!r}", fix=nearest(name, points) or "see `auditkit analyzers`"
        )
    point = points[name]
    if point.module.partition(".")[0] != "auditkit":
        FOREIGN.add(point.module)
    try:
        analyzer = point.load()
    except Exception as error:
        raise AuditkitError(
            "AK122",
            f"analyzer {name!r} does not load",
            where=point.value,
            why=f"{type(error).__name__}: {error}",
            fix="repair or uninstall the package that registers it",
        ) from error
    if not isinstance(analyzer, Analyzer) or analyzer.name != name:
        raise AuditkitError(
            "AK122",
            f"entry point {name!r} does not hold an Analyzer of that name",
            where=point.value,
            fix="point it at an auditkit Analyzer whose name equals the entry point's",
        )
    return analyzer


def select(wanted: Iterable[str], points: Mapping[str, EntryPoint] | None = None) -> tuple[str, ...]:
    """Analyzer names for a list of names or families, in registry order.

    Raises:
        UsageError: AK121 when a word is neither.
    """
    points = discover() if points is None else points
    chosen: set[str] = set()
    for word in wanted:
        matches = {name for name in points if name == word or name.split(".", 1)[0] == word}
        if not matches:
            raise UsageError(
                "AK121",
                f"there is no analyzer or family {word!r}",
                fix=nearest(word, [*points, *FAMILY_ORDER]) or "see `auditkit analyzers`",
            )
        chosen |= matches
    return tuple(name for name in points if name in chosen)


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """``did you mean 'x'?`` for the closest choice, or ``None``."""
    import difflib

    close = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else None


def _order(name: str) -> tuple[int, str]:
    family = name.split(".", 1)[0]
    return (FAMILY_ORDER.index(family) if family in FAMILY_ORDER else len(FAMILY_ORDER), name)
