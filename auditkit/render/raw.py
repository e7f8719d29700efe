"""Which artifacts show rows of the data themselves, and which of those the owner asked to share."""

from __future__ import annotations

from collections.abc import Mapping

from auditkit.core.evidence import Artifact, Counts, ImageGrid, Table, TokenRows

# A table that begins with these columns is a text, token by token.
TOKEN_COLUMNS = ("token", "attribution")


def shows_rows(artifact: Artifact) -> bool:
    """Whether an artifact holds what a row of the data holds: its picture, or its words."""
    if isinstance(artifact, ImageGrid | TokenRows):
        return artifact.raw
    return isinstance(artifact, Table) and artifact.columns[:2] == TOKEN_COLUMNS


def asked_for(card: Mapping[str, object]) -> frozenset[str]:
    """Names of artifacts that ``[card] raw`` lists to be shared although they show rows of the data.

    >>> sorted(asked_for({"raw": ["explain.text.tokens"]})), sorted(asked_for({}))
    (['explain.text.tokens'], [])
    """
    names = card.get("raw")
    return frozenset(str(name) for name in names) if isinstance(names, list | tuple) else frozenset()


def title_of(artifact: Artifact) -> str:
    """The artifact's title; counts have a name alone."""
    return artifact.name if isinstance(artifact, Counts) else artifact.title
