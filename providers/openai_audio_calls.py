"""Asks a provider that speaks OpenAI's REST form for speech and transcriptions, whole or streamed."""

import secrets
from typing import Final

from providers.base import JsonObject, Operation, ProviderAnswer, ProviderRequest, ProviderStream
from providers.errors import UpstreamGarbage, UpstreamRejected
from providers.multipart import write_form
from providers.openai_audio import (
    speech_shown,
    speech_usage,
    transcription_asked,
    transcription_shown,
    transcription_usage,
)
from providers.openai_audio_stream import AudioEventStream, SoundStream, reader_for, whole_transcript
from providers.openai_content import text_bytes
from providers.transport import Headers, HttpAnswer, endpoint_of
from providers.wire import Wire, media_type_of, read_all, upstream_request_id

SPEECH_PATH: Final = "/audio/speech"
TRANSCRIPTION_PATH: Final = "/audio/transcriptions"

_EVENTS: Final = "text/event-stream"
_SOUND: Final = ("audio/", "application/octet-stream")


class OpenAIAudio:
    """The audio side of one provider."""

    def __init__(self, wire: Wire, base_url: str, headers: Headers) -> None:
        """`headers` are those of all requests. Raises EndpointError where `base_url` cannot be used."""
        self._wire = wire
        self._boundary = secrets.token_hex(24)
        form = ("Content-Type", f"multipart/form-data; boundary={self._boundary}")
        self._forms = endpoint_of(base_url, TRANSCRIPTION_PATH, (*headers, form, ("Accept", "application/json")))
        self._streamed_forms = endpoint_of(base_url, TRANSCRIPTION_PATH, (*headers, form, ("Accept", _EVENTS)))
        of_json = (*headers, ("Content-Type", "application/json"))
        self._speech = endpoint_of(base_url, SPEECH_PATH, (*of_json, ("Accept", "*/*")))

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """See Provider."""
        if request.operation is Operation.TRANSCRIPTION:
            return await self._written_down(request, await self._hear(request, streamed=False))
        answer = await self._speak(request, "stream", "stream_format")
        sound = await read_all(answer)
        media_type = media_type_of(answer)
        if media_type == "application/json":
            self._wire.parsed(sound)
        if not sound or not media_type.startswith(_SOUND):
            raise UpstreamGarbage("the provider's answer is no sound")
        shown = speech_shown(sound, media_type)
        return ProviderAnswer(shown, None, speech_usage(request.body, {}), upstream_request_id(answer))

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """See Provider. Sound where the caller wants that, else events; a provider that gives the other is translated."""
        if request.operation is Operation.TRANSCRIPTION:
            answer = await self._hear(request, streamed=True)
            if media_type_of(answer) == "application/json":
                return whole_transcript(await self._written_down(request, answer))
            await self._wire.check_stream(answer)
            return AudioEventStream(answer, reader_for(request), self._wire.secret)
        answer = await self._speak(request, "stream")
        as_events, media_type = request.body.get("stream") is True, media_type_of(answer)
        if media_type.startswith(_SOUND):
            return SoundStream(answer, media_type, request.body, as_events=as_events)
        if as_events:
            await self._wire.check_stream(answer)
            return AudioEventStream(answer, reader_for(request), self._wire.secret)
        if media_type == "application/json":
            self._wire.parsed(await read_all(answer))
        answer.close()
        raise UpstreamGarbage("the provider's answer is no sound")

    async def _speak(self, request: ProviderRequest, *but: str) -> HttpAnswer:
        body = {name: value for name, value in request.body.items() if name not in but}
        return await self._wire.send(self._speech, request, {**body, "model": request.upstream_model})

    async def _hear(self, request: ProviderRequest, *, streamed: bool) -> HttpAnswer:
        if request.upload is None:
            raise UpstreamRejected(400, "a transcription needs a file")
        fields: JsonObject = {**transcription_asked(request.body), "model": request.upstream_model}
        if streamed:
            fields["stream"] = True
        form = write_form(fields, request.upload, self._boundary)
        return await self._wire.send_bytes(self._streamed_forms if streamed else self._forms, request, form)

    async def _written_down(self, request: ProviderRequest, answer: HttpAnswer) -> ProviderAnswer:
        assert request.upload is not None, "it was sent"
        parsed = self._wire.parsed(await read_all(answer))
        shown = transcription_shown(request.body, parsed)
        usage = transcription_usage(parsed, request.upload)
        return ProviderAnswer(shown, None, usage, upstream_request_id(answer), text_bytes(str(parsed["text"])))
