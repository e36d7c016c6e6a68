"""Where a provider's key comes from: an environment variable, or a file that one names; never the database."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

FILE_SUFFIX: Final = "_FILE"
"""`OPENAI_API_KEY_FILE` names the file with the key, as container platforms mount secrets."""
MAX_KEY_BYTES: Final = 16 * 1024


class KeyMissing(Exception):
    """There is no key; the message goes on after the provider's name and shows nothing of a key."""


def api_key_of(variable: str, env: Mapping[str, str]) -> str:
    """The key in this variable or, where that is empty, in the file that `<variable>_FILE` names. Raises KeyMissing."""
    key = env.get(variable, "").strip()
    if key:
        return key
    path = env.get(variable + FILE_SUFFIX, "").strip()
    if not path:
        raise KeyMissing(f"needs the environment variable {variable} or {variable}{FILE_SUFFIX}")
    try:
        with Path(path).open("rb") as file:
            key = file.read(MAX_KEY_BYTES + 1).decode().strip()
    except (OSError, ValueError) as error:
        raise KeyMissing(f"cannot read the file that {variable}{FILE_SUFFIX} names ({type(error).__name__})") from None
    if not key or len(key) > MAX_KEY_BYTES:
        raise KeyMissing(f"finds no key in the file that {variable}{FILE_SUFFIX} names")
    return key
