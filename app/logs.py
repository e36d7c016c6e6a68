"""How a process writes its log: one line an event on standard error, without secrets."""

import logging
import sys

_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def configure_logging(level: str) -> None:
    """Set the root logger; libraries that chatter at info are kept to warnings."""
    logging.basicConfig(level=level.upper(), format=_FORMAT, stream=sys.stderr, force=True)
    for name in ("uvicorn.access", "asyncio", "tortoise", "strawberry.execution", "stripe"):
        logging.getLogger(name).setLevel(logging.WARNING)
