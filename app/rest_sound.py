"""Sends sound to a client as it comes from the provider, with nothing around it."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine
from typing import Final, Protocol

from app.asgi import Headers, Send
from app.http_protocol import BEFORE_BODY, BREAK_OFF
from gateway.call_stream import CallStream
from gateway.views import CallResult, StreamedEnd, StreamedEvent, StreamedFailure

_UNBUFFERED: Final = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))


class SoundWriter(Protocol):
    """What writes pieces of sound: app.audio_form.AudioWriter."""

    content_type: bytes

    def event(self, event: StreamedEvent) -> bytes:
        """The bytes of a piece; sets the content type."""
        ...


async def send_sound(stream: CallStream, writer: SoundWriter, send: Send, headers: Headers) -> CallResult | None:
    """The whole answer, where the call repeats one that has ended: nothing is sent then; None once all sound is sent.

    The end is sent after the settlement is committed. Where the sound breaks off, so does the connection: there is no other
    way to say it. Raises the refusal of a stream that had no sound.
    """
    event = await anext(stream)
    if isinstance(event, StreamedEnd):
        return event.result
    if isinstance(event, StreamedFailure):
        raise event.refusal
    piece = writer.event(event)
    head = [(b"content-type", writer.content_type), *_UNBUFFERED, *headers]
    await send({"type": "http.response.start", "status": 200, BEFORE_BODY: True, "headers": head})
    await _send_piece(send, piece)
    async for event in stream:
        match event:
            case StreamedEvent():
                await _send_piece(send, writer.event(event))
            case StreamedEnd():
                await send({"type": "http.response.body", "body": b""})
            case StreamedFailure():
                await send({"type": BREAK_OFF})
    return None


@contextlib.asynccontextmanager
async def unwatched(opening: Coroutine[None, None, CallStream]) -> AsyncGenerator[CallStream]:
    """The stream, which goes on to its end when its client disconnects, because that client may ask for it again."""
    stream = await opening
    try:
        yield stream
    except (Exception, asyncio.CancelledError):
        stream.leave()
        raise


async def _send_piece(send: Send, piece: bytes) -> None:
    if piece:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
