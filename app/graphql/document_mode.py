"""Which documents the edge runs: a setting, read by commands that have no use for GraphQL."""

from enum import StrEnum


class DocumentMode(StrEnum):
    """Which documents are run."""

    ANY = "any"
    TRUSTED_FOR_STRANGERS = "trusted-for-strangers"
    """Callers without a credential may run documents of the manifest only."""
    TRUSTED_ONLY = "trusted-only"
    """Nobody may run others."""
