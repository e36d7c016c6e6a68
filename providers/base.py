"""The protocol that every provider adapter serves, with the frozen values that cross it."""

from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from kit.records import record

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""The largest answer taken from a provider, streamed or whole."""

JsonObject = dict[str, object]
"""A parsed JSON object in the wire form of its operation; unknown fields are kept as they came."""

Headers = tuple[tuple[str, str], ...]
"""Names and values of HTTP headers."""


class Operation(StrEnum):
    """What is asked of a model, in which wire form: OpenAI's, but MESSAGES is a chat in Anthropic's.

    RESPONSES is a chat in the form of OpenAI's Responses API, from which all state is left out. VIDEO is a job. The answer of SPEECH is JSON here: `content_type` and `b64_audio`.
    """

    CHAT = "CHAT"
    MESSAGES = "MESSAGES"
    RESPONSES = "RESPONSES"
    EMBEDDING = "EMBEDDING"
    IMAGE = "IMAGE"
    SPEECH = "SPEECH"
    TRANSCRIPTION = "TRANSCRIPTION"
    VIDEO = "VIDEO"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a provider may take, in seconds.

    `connect_s` bounds the connection with its TLS handshake, `first_byte_s` the wait from the request sent to the
    first byte of the answer's body, `idle_s` each pause after that, `total_s` the whole call.
    """

    connect_s: float = 5.0
    first_byte_s: float = 120.0
    idle_s: float = 60.0
    total_s: float = 600.0


@record
class Upload:
    """A file that goes with a request."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)


@record
class ProviderRequest:
    """One call: `body` is the request in its operation's form, into which the adapter puts `upstream_model` and the
    stream options; an adapter of another vendor translates it, and the answer back.

    `request_id` travels to the provider as X-Request-Id. `timeouts` None takes the provider's own. `trace` are the headers
    by which its trace joins ours. `vendor_headers`
    are the caller's that only the form's own vendor understands. `max_output_tokens` is what was reckoned with where
    the body sets no limit. `upload` is the recording of a TRANSCRIPTION, whose fields are the body.
    """

    operation: Operation
    upstream_model: str
    body: JsonObject
    request_id: str
    timeouts: Timeouts | None = None
    trace: tuple[tuple[str, str], ...] = ()
    vendor_headers: Headers = ()
    max_output_tokens: int | None = None
    upload: Upload | None = None


@record
class Usage:
    """What a call used; each number is non-negative.

    `input_tokens` includes `cached_input_tokens` and `output_tokens` includes `reasoning_tokens`. `reported` is True
    where the provider's answer says so or shows it (images are counted), False where somebody estimated.
    `cache_write_input_tokens` is another part of the input than the cached one, and includes
    `long_cache_write_input_tokens`, those for the longer life.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    requests: int = 1
    images: int = 0
    seconds: int = 0
    characters: int = 0
    reported: bool = True
    cache_write_input_tokens: int = 0
    long_cache_write_input_tokens: int = 0


@record
class ProviderAnswer:
    """A whole answer. `usage` None: the provider reported none that can be believed.

    `raw` is the answer's text where it came over the wire. `content_bytes` is the UTF-8 length of all generated text,
    tool arguments and reasoning included: the ground for an estimate where `usage` is None.
    """

    body: JsonObject
    raw: bytes | None
    usage: Usage | None
    upstream_request_id: str | None
    content_bytes: int = 0


@record
class StreamChunk:
    """One event of a stream: `data` is the text after `data:`, `parsed` the same as JSON, None only for the end mark.

    `usage` is set where this event reports it (the last one counts); with output of a message, it is of what came before it. `done` marks the end: the end mark `[DONE]`, of a
    response its last event.
    """

    data: bytes
    parsed: JsonObject | None
    usage: Usage | None
    content_bytes: int
    done: bool = False


class ProviderStream(Protocol):
    """The events of one streamed answer; ends after the chunk that is `done`, raises ProviderError where it breaks."""

    @property
    def upstream_request_id(self) -> str | None:
        """The provider's own id of the call, from its answer's headers."""
        ...

    def __aiter__(self) -> AsyncIterator[StreamChunk]: ...

    async def __anext__(self) -> StreamChunk: ...

    async def aclose(self) -> None:
        """End it: before the end mark this closes the connection, so that the provider stops. May be repeated."""
        ...


class ReadyStream:
    """Serves ProviderStream from chunks that are there already."""

    def __init__(self, upstream_request_id: str | None, chunks: Sequence[StreamChunk]) -> None:
        """`chunks` up to the one that is `done`."""
        self.upstream_request_id = upstream_request_id
        self._chunks = deque(chunks)

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        """Itself."""
        return self

    async def __anext__(self) -> StreamChunk:
        """See ProviderStream."""
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.popleft()

    async def aclose(self) -> None:
        """See ProviderStream."""
        self._chunks.clear()


class Provider(Protocol):
    """A place that answers model calls. Raises only ProviderError (and CancelledError) from a call."""

    @property
    def name(self) -> str:
        """Its name in the catalog."""
        ...

    async def complete(self, request: ProviderRequest) -> ProviderAnswer:
        """The whole answer. Cancelling closes the connection."""
        ...

    async def stream(self, request: ProviderRequest) -> ProviderStream:
        """The stream, once the provider has accepted the call; read the first chunk before promising success."""
        ...

    async def aclose(self) -> None:
        """Close every connection; calls in flight fail."""
        ...
