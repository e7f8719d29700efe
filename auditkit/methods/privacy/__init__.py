"""Privacy: pure functions on arrays and torch modules.

``dp_train`` and ``epsilon`` are here by name; opacus and torch are imported when ``dp_train`` is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditkit.methods.privacy.accounting import epsilon, guarantee, noise_multiplier_for
    from auditkit.methods.privacy.dp_training import Settings, dp_train
    from auditkit.methods.privacy.secret_exposure import exposure
    from auditkit.methods.privacy.shadow_attacks import bavaria, lira_offline, lira_online, rmia

_HOMES = {
    "epsilon": "accounting",
    "guarantee": "accounting",
    "noise_multiplier_for": "accounting",
    "Settings": "dp_training",
    "dp_train": "dp_training",
    "exposure": "secret_exposure",
    "bavaria": "shadow_attacks",
    "lira_offline": "shadow_attacks",
    "lira_online": "shadow_attacks",
    "rmia": "shadow_attacks",
}

__all__ = [
    "Settings",
    "bavaria",
    "dp_train",
    "epsilon",
    "exposure",
    "guarantee",
    "lira_offline",
    "lira_online",
    "noise_multiplier_for",
    "rmia",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
