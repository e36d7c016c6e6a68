"""Addresses of assets that work for a short while and for whoever holds them: signed, and never guessed."""

import base64
import hmac
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from kit.ids import encode_id
from kit.sealing import Sealer

URL_LIFE: Final = timedelta(minutes=10)
_MAX_DIGITS: Final = 12


class AssetUrls:
    """Signs under the current version of TOLLGATE_SECRET_KEY, and knows the signatures of all configured ones."""

    def __init__(self, sealer: Sealer, base_url: str) -> None:
        """`base_url`: TOLLGATE_ASSETS_URL."""
        self._base_url = base_url
        self._keys = [sealer.derive("asset-urls", version=version) for version in sealer.versions]

    def url_of(self, asset_id: UUID, at: datetime, asset_ends_at: datetime | None) -> tuple[str, datetime]:
        """An address, and until when it works: URL_LIFE, but not longer than the asset is kept."""
        until = at + URL_LIFE if asset_ends_at is None else min(at + URL_LIFE, asset_ends_at)
        until = until.replace(microsecond=0)
        name, stamp = encode_id("asset", asset_id), str(int(until.timestamp()))
        url = f"{self._base_url}/assets/{name}?expires={stamp}&signature={_signature(self._keys[0], name, stamp)}"
        return url, until

    def is_genuine(self, name: str, stamp: str, signature: str) -> bool:
        """Whether we signed this; whether it is still good, `is_over` says."""
        given = signature.encode("utf-8", "replace")
        # Every key is compared, so that the time tells nothing.
        matches = [hmac.compare_digest(_signature(key, name, stamp).encode(), given) for key in self._keys]
        return any(matches)

    def is_over(self, stamp: str, at: datetime) -> bool:
        """Whether the address has lapsed; also for what is no instant."""
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= _MAX_DIGITS):
            return True
        return int(stamp) <= at.timestamp()


def _signature(key: bytes, name: str, stamp: str) -> str:
    digest = hmac.digest(key, f"{name}\n{stamp}".encode("utf-8", "replace"), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
