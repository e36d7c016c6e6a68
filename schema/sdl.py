"""The schema as text: the committed snapshot and what partners download."""

from pathlib import Path
from typing import Final

from schema.root import build_schema

SNAPSHOT: Final = Path(__file__).with_name("schema.graphql")
CONTRACT: Final = Path(__file__).with_name("contract.graphql")


def sdl() -> str:
    """The schema in GraphQL's schema definition language."""
    return build_schema().as_str().strip() + "\n"
