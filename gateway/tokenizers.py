"""Tokenizers that an operator installs beside the gateway: they make the bound of a call's input narrower.

A package offers one as an entry point of the group `tollgate.tokenizers`: a function from a text to the number of its
tokens, never too few. A model of the catalog names it (`tokenizer`). Without one, bytes bound tokens.
"""

import logging
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Final, cast

GROUP: Final = "tollgate.tokenizers"
Count = Callable[[str], int]
logger = logging.getLogger(__name__)


class Tokenizers:
    """Those of one process, loaded when a model first names them."""

    def __init__(self, known: Mapping[str, Count] | None = None) -> None:
        """`known` for those that are no entry points."""
        self._found: dict[str, Count | None] = dict(known or {})

    def get(self, name: str) -> Count | None:
        """The one of this name; None, and one line in the log, where it is not installed or cannot be loaded."""
        if name not in self._found:
            self._found[name] = self._load(name)
        return self._found[name]

    def _load(self, name: str) -> Count | None:
        for point in entry_points(group=GROUP, name=name):
            try:
                return self._guarded(name, point.load())
            except Exception:  # code of others, which must not stop a call
                logger.exception("the tokenizer %s cannot be used: bytes bound the input of its models", name)
                return None
        logger.error(
            "the tokenizer %s, which a model of the catalog names, is not installed: bytes bound its input (entry points"
            " of the group %s)",
            name,
            GROUP,
        )
        return None

    def _guarded(self, name: str, count: Count) -> Count:
        def counted(text: str) -> int:
            try:
                tokens = cast("object", count(text))
                return tokens if isinstance(tokens, int) else -1
            except Exception:  # noqa: BLE001 -- likewise; what it says may quote the text, which no log has (D12)
                logger.warning("the tokenizer %s failed at a text; its bytes are counted", name)
                return -1

        return counted


INSTALLED: Final = Tokenizers()
"""Those of this process."""
