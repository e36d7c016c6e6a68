"""Prints the schema; with --write it renews the committed snapshot and docs/access.md."""

import sys
from pathlib import Path
from typing import Final

from resolvers.access_table import as_markdown
from schema.sdl import SNAPSHOT, sdl

ACCESS: Final = Path(__file__).parents[1] / "docs" / "access.md"

if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        SNAPSHOT.write_text(sdl(), encoding="utf-8")
        ACCESS.write_text(as_markdown(), encoding="utf-8")
    else:
        sys.stdout.write(sdl())
