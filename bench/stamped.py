"""A command of the gateway that notes when a streamed call passes each of its steps: `python -m bench.stamped FILE serve`.

Used by bench.first_token, with one stream at a time. FILE is written at the end: of each stream the seconds that each of
STEPS took, on the clock that all processes share. A stamp costs half a microsecond.
"""

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from app import http_protocol
from app.cli import main
from gateway import streaming
from gateway.settling import Settling
from providers.http_connection import HttpConnection

STEPS = {
    "request": "request read: HTTP, key, body; the call's admission, until its hold is asked for",
    "hold": "one hold's commit, as the stream waits for it; the limiter answers meanwhile",
    "provider": "from the hold's commit until the provider is asked",
    "answer": "the provider's answer begins (direct: the whole of it)",
    "output": "from it until the first output is written to the client",
}

_passed: list[float] = []
_streams: list[list[float]] = []


def _stamp(number: int) -> None:
    """The step of this number begins; a stream that skips one is not counted."""
    if number == 0:
        _passed.clear()
    if len(_passed) == number:
        _passed.append(time.perf_counter())
    if len(_passed) > len(STEPS):
        _streams.append([after - before for before, after in pairwise(_passed)])
        _passed.clear()


def _before(owner: Any, name: str, number: int) -> None:
    """Stamp each call of a method, or of a module's function, as it begins."""
    inner: Callable[..., Any] = getattr(owner, name)

    def stamped(*args: Any, **named: Any) -> Any:
        _stamp(number)
        return inner(*args, **named)

    setattr(owner, name, stamped)


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    _before(http_protocol.HttpProtocol, "data_received", 0)
    _before(Settling, "begin", 1)
    _before(streaming, "held", 2)
    _before(HttpConnection, "start", 3)
    _before(HttpConnection, "data_received", 4)
    _before(http_protocol._Cycle, "_send_body", 5)
    try:
        code = main()
    finally:
        file.write_text(json.dumps(_streams))
    sys.exit(code)
