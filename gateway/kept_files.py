"""Files in the answer of a call that is answered whole: room before it, stored after it, named in place of themselves."""

import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import Final

from gateway.admission import Admitted
from gateway.asset_store import FileTooLarge, StoreAway
from gateway.assets import Assets, Maker, Room, kept_body
from gateway.errors import StorageFull
from gateway.output_files import OutputFiles
from gateway.rules.storage import fetch_time_s, room_for
from kit.errors import Unavailable
from metering.idempotency import read_key
from models.database import Database
from providers.at_once import AtOnce
from providers.base import JsonObject
from providers.errors import ProviderError
from providers.prediction_answers import outputs_of
from providers.predictions import OutputFile
from providers.registry import Registry

logger = logging.getLogger(__name__)

_SOUND: Final = "b64_audio"
"""What the answer of a call that speaks has, instead of a list of files."""


class Keeping:
    """The files of one call. Made by KeptFiles.room."""

    def __init__(
        self,
        assets: Assets,
        files: OutputFiles,
        providers: Registry,
        maker: Maker,
        room: Room,
        most_files: int,
        most_bytes: int | None,
    ) -> None:
        """`room` is set aside. Of more than `most_files` the first are kept; of more than `most_bytes` in all none."""
        self._assets = assets
        self._files = files
        self._providers = providers
        self._maker = maker
        self._room = room
        self._most_files = most_files
        self._most_bytes = most_bytes
        self.used = False

    async def stored(self, provider: str, body: JsonObject) -> JsonObject:
        """The answer with its files kept and named; as it came where they cannot be stored: it is paid for."""
        outputs = outputs_of(body if _SOUND in body else body.get("data"))[: self._most_files]
        try:
            return await self._stored(provider, outputs) if outputs else body
        except (ProviderError, StoreAway, FileTooLarge, Unavailable) as error:
            logger.warning("the files of call %s are not kept: %s", self._maker.call_id, error)
            return body

    async def _stored(self, provider: str, outputs: Sequence[OutputFile]) -> JsonObject:
        source = AtOnce(self._providers.get(provider))
        until = None if self._most_bytes is None else monotonic() + fetch_time_s(self._most_bytes)
        opened = [partial(self._files.content, source, file, until) for file in outputs]
        try:
            rows = await self._assets.write(self._maker, opened, self._room.kept, self._most_bytes)
        except (ProviderError, StoreAway, FileTooLarge):
            if len(outputs) > 1:  # of one that failed nothing lies there
                await self._discard()
            raise
        self.used = True  # if it cannot be said now, the room lapses, and with it what lies there without a row
        await self._assets.keep_now(self._maker.call_id, rows)
        return kept_body(rows)

    async def _discard(self) -> None:
        try:
            await self._assets.discard(self._maker)
        except StoreAway:
            self.used = True  # as above


class KeptFiles:
    """One per process."""

    def __init__(self, database: Database, assets: Assets, files: OutputFiles, providers: Registry) -> None:
        """The parts of one process."""
        self._database = database
        self._assets = assets
        self._files = files
        self._providers = providers

    @asynccontextmanager
    async def room(self, admitted: Admitted) -> AsyncGenerator[Keeping | None]:
        """Room for the files of a call that asks for it (`keeps_assets`), given up at the end unless they were stored.

        StorageFull before anything is held or asked. None for a repeat that finds no room: it makes none.
        """
        caller = admitted.caller
        maker = Maker(admitted.call_id, caller.workspace_id, caller.user_id, caller.api_key_id)
        bound = admitted.bound
        more = room_for(
            admitted.request.operation,
            admitted.model.limits,
            images=bound.images,
            seconds=bound.seconds,
            characters=bound.characters,
        )
        try:
            room = await self._assets.reserve_now(maker, caller.plan.entitlements, more)
        except StorageFull:
            claim = admitted.claim
            if claim is None or await read_key(self._database, caller.workspace_id, claim.key) is None:
                raise
            yield None
            return
        # A provider of our own may make more than was foreseen: it is paid for. A publisher's could fill any plan.
        most_bytes = None if admitted.model.publisher is None else more
        keeping = Keeping(self._assets, self._files, self._providers, maker, room, max(1, bound.images), most_bytes)
        try:
            yield keeping
        finally:
            if not keeping.used:
                with contextlib.suppress(Unavailable):  # then it lapses by itself
                    await self._assets.give_up(admitted.call_id)
