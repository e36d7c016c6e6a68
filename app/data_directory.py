"""The directory that holds what this installation keeps on local disk."""

import os
from pathlib import Path

from app.setting_values import SettingsError


def open_data_directory(path: Path) -> Path:
    """Make the data directory if need be; answers its absolute path. One that exists keeps its permissions.

    Raises SettingsError.
    """
    directory = path.expanduser().absolute()
    if not directory.exists():
        try:
            directory.mkdir(parents=True)
        except OSError as problem:
            raise SettingsError([f"TOLLGATE_DATA_DIR: {directory} cannot be made: {problem.strerror}"]) from None
        # As root the servers run as another account, which must be able to walk through, not to look around.
        directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError([f"TOLLGATE_DATA_DIR: this user may not write to {directory}; set it to another directory"])
    return directory
