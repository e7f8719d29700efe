"""What all measurements of a name share is written once in the JSON: bounds, direction and unit.

Its reading is :class:`auditkit.core.evidence.Shared`'s.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

SHARED = ("bounds", "direction", "unit")

# What the published schema says of it.
SCHEMA: dict[str, Any] = {
    "description": "Measurement name -> the fields that all measurements of that name in this outcome share; "
    "what a measurement has itself, other than the default, comes first.",
    "type": "object",
    "additionalProperties": {"type": "object"},
}


def fold(outcome: dict[str, Any]) -> None:
    """Move shared fields of an outcome's measurements into its ``quantities``, in place."""
    named: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for measurement in outcome.get("measurements", ()):
        named[measurement["name"]].append(measurement)
    quantities: dict[str, dict[str, Any]] = {}
    for name, measurements in named.items():
        first = measurements[0]
        shared = {
            key: first[key] for key in SHARED if key in first and all(m.get(key) == first[key] for m in measurements)
        }
        if shared:
            quantities[name] = shared
            for measurement in measurements:
                for key in shared:
                    del measurement[key]
    if quantities:
        outcome["quantities"] = quantities
