"""A command of the gateway under a sampling profiler: `python -m bench.profiled FILE serve`; used by bench.profile.

A timer of the process's CPU time takes the Python stack; C code counts for the line that called it. The stacks are written
to FILE at the end.
"""

import json
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

from app.cli import main

EVERY_S = 0.001
"""Asked for; the kernel's tick may make it 4 ms."""
_stacks: Counter[tuple[str, ...]] = Counter()


def _sample(number: int, frame: FrameType | None) -> None:
    stack: list[str] = []
    while frame is not None:
        code = frame.f_code
        stack.append(f"{code.co_filename}:{code.co_qualname}:{frame.f_lineno}")
        frame = frame.f_back
    _stacks[tuple(stack)] += 1


def _clear(number: int, frame: FrameType | None) -> None:
    _stacks.clear()


if __name__ == "__main__":
    file = Path(sys.argv.pop(1))
    signal.signal(signal.SIGPROF, _sample)
    signal.signal(signal.SIGUSR2, _clear)
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    try:
        code = main()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        file.write_text(json.dumps([[list(stack), count] for stack, count in _stacks.items()]))
    sys.exit(code)
