"""Names that people give: what is stored of any Unicode text."""

import unicodedata
from typing import Final

from kit.errors import InvalidInput

MAX_NAME_LENGTH: Final = 200
MAX_RAW_LENGTH: Final = 4000
MAX_MARKS_IN_A_ROW: Final = 4
_JOINERS: Final = frozenset("\u200c\u200d")
_DROPPED: Final = frozenset({"Cc", "Cf", "Co", "Cn"})


def clean_name(text: str, *, field: str = "name") -> str:
    """The name in NFC with controls, bidirectional overrides and runs of blanks and marks removed: 1 to 200 characters.

    InvalidInput where nothing visible remains, it is too long, or it is not Unicode text (a lone surrogate).
    """
    cleaned = printable(text, MAX_NAME_LENGTH + 1, field=field)
    if not cleaned.replace("\u200c", "").replace("\u200d", ""):
        raise InvalidInput("Give a name with at least one visible character.", field=[field])
    if len(cleaned) > MAX_NAME_LENGTH:
        raise InvalidInput(f"A name may have at most {MAX_NAME_LENGTH} characters.", field=[field])
    return cleaned


def printable(text: str, limit: int, *, field: str = "text") -> str:
    """The text on one line, cut at `limit` characters, without what would deceive the eye or break a log line."""
    if len(text) > MAX_RAW_LENGTH:
        raise InvalidInput(f"At most {MAX_RAW_LENGTH} characters.", field=[field])
    kept: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        if category == "Cs":
            raise InvalidInput("This is not valid Unicode text.", field=[field])
        if category == "Cc" or category.startswith("Z"):
            kept.append(" ")
            continue
        if category in _DROPPED and character not in _JOINERS:
            continue
        marks = marks + 1 if category.startswith("M") else 0
        if marks <= MAX_MARKS_IN_A_ROW:
            kept.append(character)
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())[:limit].strip()


def header_text(text: str | None, limit: int = 300) -> str | None:
    """A request header's text, fit to store; None stays None, and so does what is empty or not text."""
    if text is None:
        return None
    try:
        return printable(text[:MAX_RAW_LENGTH], limit) or None
    except InvalidInput:
        return None
