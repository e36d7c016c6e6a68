"""How much room a call's files may take, and how long they are kept."""

from datetime import datetime, timedelta
from typing import Final

from billing.rules.entitlements import Entitlements
from billing.views import ModelLimits
from kit.records import record
from providers.base import Operation

IMAGE_BYTES: Final = 8_000_000
"""The most that a picture is taken to be where the model states no `asset_bytes`."""
SECOND_BYTES: Final = 4_000_000
"""The same of one second of video."""
CHARACTER_BYTES: Final = 8_000
"""The same of one spoken character: a sixth of a second of uncompressed sound at 48,000 bytes a second."""
FETCH_BYTES_PER_S: Final = 500_000
"""The slowest that a publisher's provider may deliver a file: the buyer's hold stays open meanwhile."""
FETCH_START_S: Final = 15.0
"""What it gets beside that, to begin."""
FETCH_MOST_S: Final = 300.0
"""Its files have as long, however large, as its whole answer had before."""
SHORT_LIFE: Final = timedelta(hours=24)
"""How long files are kept for a workspace that stores no outputs, on a plan without storage of its own (D12)."""


def room_for(operation: Operation, limits: ModelLimits, *, images: int, seconds: int, characters: int = 0) -> int:
    """The bytes to be set aside before a call."""
    if operation is Operation.VIDEO:
        return max(1, seconds) * (limits.asset_bytes or SECOND_BYTES)
    if operation is Operation.SPEECH:
        return max(1, characters) * (limits.asset_bytes or CHARACTER_BYTES)
    return max(1, images) * (limits.asset_bytes or IMAGE_BYTES)


def fetch_time_s(most_bytes: int) -> float:
    """How long all files of a publisher's answer may take, of at most so many bytes."""
    return min(FETCH_MOST_S, FETCH_START_S + most_bytes / FETCH_BYTES_PER_S)


def fits(used: int, reserved: int, more: int, limit: int | None) -> bool:
    """Whether so many more bytes fit into the plan's storage."""
    return limit is None or used + reserved + more <= limit


@record
class KeptTime:
    """How long files are kept, in seconds: `whole_s`, None for ever. `unstored_s` where that is so only because the
    workspace stores outputs: how long they are kept if it turns that off.
    """

    whole_s: float | None
    unstored_s: float | None = None


def kept_time(entitlements: Entitlements, *, stores_outputs: bool) -> KeptTime:
    """How long files are kept.

    A plan that comes with storage keeps them as long as it says (C1); on another plan a workspace keeps them where it has
    turned that on, and otherwise they are there for a day, to be fetched (D12).
    """
    days = entitlements.asset_retention_days
    long_s = None if days is None else timedelta(days=days).total_seconds()
    short_s = SHORT_LIFE.total_seconds() if long_s is None else min(SHORT_LIFE.total_seconds(), long_s)
    if entitlements.storage_bytes is not None:
        return KeptTime(long_s)
    if not stores_outputs:
        return KeptTime(short_s)
    return KeptTime(long_s, None if long_s == short_s else short_s)


def ends_at(at: datetime, kept_s: float | None) -> datetime | None:
    """When what was made at an instant lapses; None never."""
    return None if kept_s is None else at + timedelta(seconds=kept_s)
