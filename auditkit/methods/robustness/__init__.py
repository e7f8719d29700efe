"""Robustness: pure functions on arrays, and attacks on torch models."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditkit.methods.robustness.art_torch import clever_scores, smoothed_radius, toolbox_attack
    from auditkit.methods.robustness.auto_pgd import apgd
    from auditkit.methods.robustness.boundary_walk import fab
    from auditkit.methods.robustness.cross_examination import cross_examine
    from auditkit.methods.robustness.ensemble import autoattack
    from auditkit.methods.robustness.oracle import AttackResult
    from auditkit.methods.robustness.projected_gradient import pgd
    from auditkit.methods.robustness.smoothing import certify
    from auditkit.methods.robustness.window_search import square

_HOMES = {
    "AttackResult": "oracle",
    "apgd": "auto_pgd",
    "autoattack": "ensemble",
    "certify": "smoothing",
    "clever_scores": "art_torch",
    "cross_examine": "cross_examination",
    "fab": "boundary_walk",
    "pgd": "projected_gradient",
    "smoothed_radius": "art_torch",
    "square": "window_search",
    "toolbox_attack": "art_torch",
}
__all__ = [
    "AttackResult",
    "apgd",
    "autoattack",
    "certify",
    "clever_scores",
    "cross_examine",
    "fab",
    "pgd",
    "smoothed_radius",
    "square",
    "toolbox_attack",
]


def __getattr__(name: str) -> Any:
    """Attacks are loaded when asked for; torch comes with them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
