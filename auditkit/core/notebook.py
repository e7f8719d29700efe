"""How records of the core show in notebooks: by the renderer, found by name, so that the core depends on nothing."""

from __future__ import annotations

from importlib import import_module


def html_of(shown: object) -> str:
    """HTML of a record, made by ``auditkit.render.notebook``."""
    text: str = import_module("auditkit.render.notebook").html_of(shown)
    return text
