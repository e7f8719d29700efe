"""Fairness: pure functions on arrays. The public names are loaded when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditkit.methods.fairness.bootstrap import bootstrap_metrics as bootstrap_metrics
    from auditkit.methods.fairness.counts import count_groups as count_groups
    from auditkit.methods.fairness.group_counts import GroupCounts as GroupCounts
    from auditkit.methods.fairness.probable import probable_disparity as probable_disparity
    from auditkit.methods.fairness.table import disparity as disparity
    from auditkit.methods.fairness.table import group_metrics as group_metrics

_PLACES = {
    "GroupCounts": "group_counts",
    "bootstrap_metrics": "bootstrap",
    "count_groups": "counts",
    "disparity": "table",
    "group_metrics": "table",
    "probable_disparity": "probable",
}

__all__ = ["GroupCounts", "bootstrap_metrics", "count_groups", "disparity", "group_metrics", "probable_disparity"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
