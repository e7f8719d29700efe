"""Explained rows of every kind, with names that try to break out of the page."""

from __future__ import annotations

import base64

import numpy as np

from auditkit.core.attribution import Attribution
from auditkit.core.explained_row import Explained, ExplainedRow
from auditkit.core.shown import Picture

HOSTILE = "<script>window.auditkitRan=1</script>\x1b[31m\u202e'\"&"


def attribution(amounts, **more):
    values = np.array(amounts, dtype=float)[None, :, None]
    return Attribution(values=values, prediction=np.array([[0.7]]), base_values=np.array([[0.7 - values.sum()]]),
                       method="shap", output_space="probability", output_names=("yes",), status="exact",
                       **more)  # fmt: skip


def explained_row(kind="features", shown=True, count=20):
    """A row of ``count`` parts whose first name and value are hostile."""
    amounts = [float(value) for value in np.linspace(0.43, -0.3, count)]
    error = {"std_error": np.full((1, count, 1), 0.01)} if kind == "features" else {}
    one = attribution(amounts, **error)
    names = (f"a {HOSTILE}", *(f"part {j}" for j in range(1, count)))
    values = tuple([f"v {HOSTILE}" if shown and j == 0 else (f"word{j}" if shown else None) for j in range(count)])
    pixels = base64.b64encode(bytes(range(64))).decode()
    pictures = tuple(Picture(label=name, height=8, width=8, pixels=pixels, palette="signed") for name in ("a", "b"))
    methods = (
        Explained(method="Shapley values", attribution=one, parts=tuple(amounts), proof="exact: adds up"),
        Explained(method="LIME", attribution=one, parts=tuple(amounts), proof="unverified: no sum", agreement=0.5),
    )
    return ExplainedRow(subject=f"model {HOSTILE}", row=17, split="test", kind=kind, decision=f"yes {HOSTILE}",
                        label="no", output="yes", parts=names, values=values, explained=methods,
                        pictures=pictures if kind == "squares" else (), across=2 if kind == "squares" else None,
                        shown=shown, notes=(f"a note {HOSTILE}",))  # fmt: skip
