"""Which metrics a rule may name: whatever an installed analyzer measures, and what the evidence judged already holds.

Analyzers are looked at only for names that neither the count metrics nor the evidence know: the gate stays light.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from auditkit.core.errors import AuditkitError
from auditkit.core.gap_names import gap_names
from auditkit.methods.fairness.metric_table import COMPOSITES, METRICS
from auditkit.policy.hints import nearest
from auditkit.policy.model import Policy


def unknown_metrics(policy: Policy, measured: Collection[str] = ()) -> Iterator[tuple[int, str]]:
    """The positions of the rules whose metric nothing measures, with the sentence that says so.

    Args:
        policy: The rules.
        measured: Names in the evidence that is judged, which may come from analyzers that are not installed here.
    """
    known = {known_as for name in (*METRICS, *COMPOSITES) for known_as in _names(f"fairness.{name}")}
    known |= {*METRICS, *COMPOSITES}
    asked = list(enumerate(rule.metric for rule in policy.rule))
    if all(_is_known(metric, known) or _is_known(metric, measured) for _, metric in asked):
        return
    installed, broken = _installed()
    known |= installed.union(measured)
    for index, metric in asked:
        if not _is_known(metric, known) and metric.partition(".")[0] not in broken:
            yield index, f"no analyzer measures {metric!r}, {_advice(metric, known)}"


def _is_known(metric: str, known: Collection[str]) -> bool:
    """A rule names a number, or what its differences and ratios are of."""
    return any(name in known for name in _names(metric))


def _names(metric: str) -> tuple[str, ...]:
    return metric, *gap_names(metric)


def _installed() -> tuple[set[str], set[str]]:
    """Every name that the installed analyzers document, and the families with an analyzer that could not be asked."""
    from auditkit.core.registry import discover, load

    names: set[str] = set()
    broken: set[str] = set()
    points = discover()
    for name in points:
        try:
            names |= set(load(name, points).measures)
        except AuditkitError:  # the run tells of it; what it would measure is not known
            broken.add(name.partition(".")[0])
    return names, broken


def _advice(metric: str, known: Collection[str]) -> str:
    family = metric.partition(".")[0]
    own = [name for name in known if name.partition(".")[0] == family and "." in metric]
    return nearest(metric, own) or nearest(metric, known) or "`auditkit analyzers` lists what is measured"
