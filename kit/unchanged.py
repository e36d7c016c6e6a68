"""What an update left out, told apart from what it clears."""

from enum import Enum
from typing import Final


class Unchanged(Enum):
    """A field of an update that was left out: it keeps its value, where null clears it."""

    UNCHANGED = 0


UNCHANGED: Final = Unchanged.UNCHANGED
