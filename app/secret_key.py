"""The key `tollgate run` makes for itself when TOLLGATE_SECRET_KEY is unset."""

import os
import secrets
from pathlib import Path

from app.data_directory import open_data_directory
from app.setting_values import SECRET_KEY_CHARACTERS, SettingsError

_FILE = "secret_key"


def kept_secret_key(data_dir: Path) -> str:
    """The key in the data directory (mode 0600), made at random the first time."""
    directory = open_data_directory(data_dir)
    path = directory / _FILE
    if not path.exists():
        # Linked into place whole: of two that start at once, both read the key of the first.
        unfinished = directory / f"{_FILE}.{secrets.token_hex(8)}"
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(unfinished)
        except FileExistsError:
            pass
        finally:
            unfinished.unlink()
    key = path.read_text(encoding="ascii").strip()
    if len(key) < SECRET_KEY_CHARACTERS:
        raise SettingsError([f"{path} holds no usable key; restore it, or remove it and lose what it encrypted"])
    return key
