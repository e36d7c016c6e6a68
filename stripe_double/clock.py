"""The server's own time: it runs with the real one, stands still, or is moved forward."""

import time


class Clock:
    """Seconds since 1970, whole."""

    def __init__(self) -> None:
        """Starts at the real time and runs."""
        self._offset_s = 0
        self._stands_at: int | None = None

    def now(self) -> int:
        """The present second."""
        return self._stands_at if self._stands_at is not None else int(time.time()) + self._offset_s

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return self._stands_at is not None

    def set(self, at: int, *, frozen: bool) -> None:
        """Put it to an instant; from there it runs, or stands still."""
        self._stands_at = at if frozen else None
        self._offset_s = at - int(time.time())
