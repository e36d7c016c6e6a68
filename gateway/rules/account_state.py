"""Refuses by name what of a request would read what the account at the provider keeps, or have it keep the request's own texts: that
account is one for all workspaces.

What else a response may not name is in gateway.rules.responses. Texts, and JSON that tools are given, are the caller's own and not
looked into; but one vendor reads the names of files out of a system's text.
"""

from collections.abc import Sequence
from typing import Final

from kit.errors import InvalidInput
from kit.json_values import MAX_LEVELS, is_list, is_object
from providers.base import JsonObject, Operation

_FILE_NAMES: Final = frozenset({"file_id", "file_ids"})
_STORED: Final = "vector_store_ids"
_TURNS: Final = frozenset({"previous_response_id", "conversation"})
"""Which a response is refused for by gateway.rules.responses, with what helps there."""
_KEPT: Final = _FILE_NAMES | _TURNS | {
    "agent_id", "assistant_id", "cachedContent", "cached_content", "container", "context_id", "conversation_id",
    "dataSources", "data_sources", "preset", "prompt_id", "thread", "thread_id", "tool_resources", _STORED,
}  # fmt: skip
"""Fields that name earlier turns, prompts, caches, files, indexes or machines of an account, of all vendors in one list."""
_KEPT_OF_RESPONSES: Final = _KEPT - _TURNS
_KEPT_OF_PICTURES: Final = _FILE_NAMES | {"style_id"}
_STORE: Final = "store"
"""Has OpenAI keep a chat. A response's is answered otherwise: it is always sent as not to be kept."""
NAMED: Final = _KEPT | _KEPT_OF_PICTURES | {_STORE}
"""All fields of a body that are looked for."""
_WITHIN: Final = ("extra_body", "google")
"""Objects in which Gemini takes fields of its own in OpenAI's form."""
_VOICES: Final = ("id", "voice_id")
_OF_TOOLS: Final = frozenset({"input", "arguments", "function", "custom", "function_call"})
"""Fields of messages with what tools are asked, in words of their own."""
_ADDRESSES: Final = frozenset(
    {
        "audio_url", "document_url", "file_uri", "file_url", "image", "image_url", "image_urls", "images", "input_audio",
        "video", "video_url",
    }
)  # fmt: skip
"""What is seen or heard, by its address or as an object with that."""
_WITH_ADDRESS: Final = _ADDRESSES | {"file", "source"}
"""The same, and objects of that kind that may be any text where they are no object."""
_OF_ADDRESS: Final = ("url", "uri", "file_uri", "file_data")
_WEB: Final = frozenset({"http", "https"})
_GEMINI: Final = "generativelanguage.googleapis.com"
_FILES_OF_QWEN: Final = "fileid://"
_BEGINNING: Final = 80
"""Characters of an address that are looked at: it may be a whole picture."""
_SYSTEM: Final = ("system", "developer")


def check_account_state(operation: Operation, body: JsonObject) -> None:
    """InvalidInput names the field that names something of the provider's account."""
    match operation:
        case Operation.CHAT | Operation.MESSAGES:
            _check_fields(body, _KEPT)
            _check_store(body)
            _check_chat(body)
            _check_said(body.get("messages"), "messages")
            system = body.get("system")
            if system:
                _check_system(system, ["system"])
                _check_value(system, ["system"])
        case Operation.RESPONSES:
            _check_fields(body, _KEPT_OF_RESPONSES)
            _check_store({name: value for name, value in body.items() if name in _WITHIN})
            _check_chat(body)
            _check_said(body.get("input"), "input")
            _check_system(body.get("instructions"), ["instructions"])
        case Operation.IMAGE | Operation.VIDEO:
            _check_pictured(body)
        case Operation.SPEECH:
            _check_voice(body.get("voice"), ["voice"])
        case Operation.TRANSCRIPTION:
            _check_fields(body, _FILE_NAMES)
        case Operation.EMBEDDING:
            pass


def _check_fields(body: JsonObject, kept: frozenset[str], field: Sequence[str] = ()) -> None:
    """The names of an object and of those within it in which a vendor takes the same."""
    if len(field) > MAX_LEVELS:
        raise _too_deep(field)
    if not kept.isdisjoint(body):
        for name in body:
            if name in kept and body[name]:
                raise InvalidInput(
                    f"{name} is not served here: it names what the provider's account keeps, which is one for all",
                    field=[*field, name],
                )
    for name in _WITHIN:
        inner = body.get(name)
        if is_object(inner):
            _check_fields(inner, kept, [*field, name])


def _check_store(body: JsonObject) -> None:
    """D12: prompts and outputs are stored nowhere but here, and here only where the workspace turns that on."""
    if body.get(_STORE):
        raise InvalidInput(
            "store is not served here: the provider's account, which is one for all, would keep the chat. Leave it out, and"
            " metadata too where the model is OpenAI's, which takes it for stored chats only",
            field=[_STORE],
        )
    for name in _WITHIN:
        inner = body.get(name)
        if is_object(inner):
            _check_store(inner)


def _check_chat(body: JsonObject) -> None:
    if body.get("tools"):
        _check_tools(body["tools"])
    sound = body.get("audio")
    if is_object(sound):
        _check_voice(sound.get("voice"), ["audio", "voice"])
    prompt = body.get("prompt")
    if is_object(prompt) and prompt.get("id"):
        raise InvalidInput("a stored prompt is not served here: none is kept. Send its text", field=["prompt"])
    compared = body.get("diagnostics")
    if is_object(compared) and compared.get("previous_message_id"):
        raise InvalidInput("an earlier message cannot be named here: none is kept", field=["diagnostics"])


def _check_tools(tools: object) -> None:
    for index, tool in enumerate(tools if is_list(tools) else []):
        if not is_object(tool):
            continue
        search = tool.get("file_search")
        searches = tool.get("type") == "file_search" or (is_object(search) and search.get(_STORED))
        if searches or tool.get(_STORED) or isinstance(tool.get("container"), str):
            raise InvalidInput(
                "a tool cannot read files, stores or containers of the provider's account: none is kept",
                field=["tools", str(index)],
            )


def _check_voice(voice: object, field: Sequence[str]) -> None:
    """A vendor's own voices are named by a text, those that an account had made by an object."""
    if is_object(voice) and any(voice.get(name) for name in _VOICES):
        raise InvalidInput(
            "a voice that the provider's account keeps is not served here: name one of the provider's own", field=field
        )


def _check_said(messages: object, said: str) -> None:
    for index, message in enumerate(messages if is_list(messages) else []):
        if not is_object(message):
            continue
        field = (said, index)
        role = message.get("role")
        if role in _SYSTEM:
            _check_system(message.get("content"), field)
        elif role == "cache":
            raise InvalidInput("messages cannot be named by a cache: none is kept. Send them", field=_named(field))
        # Sound that an earlier answer was is kept by the provider, and named by its id in place of its words.
        sound = message.get("audio")
        if is_object(sound) and sound.get("id"):
            raise InvalidInput(
                "an earlier answer's sound cannot be named by its id: none is kept. Send its transcript as content",
                field=_named(field),
            )
        _check_object(message, field, 1)


def _check_system(content: object, field: Sequence[object]) -> None:
    """Qwen is given the files that it reads in a system's text."""
    for part in content if is_list(content) else [content]:
        text = part.get("text") if is_object(part) else part
        if isinstance(text, str) and _FILES_OF_QWEN in text:
            raise _named_file(field)


def _check_pictured(body: JsonObject) -> None:
    _check_fields(body, _KEPT_OF_PICTURES)
    for name, value in body.items():
        if name == "input":  # of a published model, in words of its own
            continue
        if name == "video" and is_object(value) and value.get("id"):
            raise _named_file([name])
        if name in _WITH_ADDRESS:
            _check_addresses(name, value, [name])
        _check_value(value, [name])


def _check_value(value: object, field: Sequence[str]) -> None:
    if is_object(value):
        _check_object(value, field, 0)
    elif is_list(value):
        for index, item in enumerate(value):
            _check_below(item, (*field, index), 1)


def _check_below(value: object, field: Sequence[object], depth: int) -> None:
    if is_object(value):
        _check_object(value, field, depth)
    elif is_list(value):
        if depth > MAX_LEVELS:
            raise _too_deep(field)
        for item in value:
            _check_below(item, field, depth + 1)


def _check_object(value: JsonObject, field: Sequence[object], depth: int) -> None:
    if depth > MAX_LEVELS:
        raise _too_deep(field)
    if _was_run_there(value.get("type")):
        return
    if value.get("file_id") or value.get("file_ids"):
        raise _named_file(field)
    for name, item in value.items():
        if isinstance(item, str):
            if name in _ADDRESSES:
                _check_address(item, field)
        elif item and name not in _OF_TOOLS:
            if name in _WITH_ADDRESS:
                _check_addresses(name, item, field)
            _check_below(item, field, depth + 1)


def _check_addresses(name: str, value: object, field: Sequence[object]) -> None:
    """Of one that is seen or heard, or of several."""
    if is_object(value):
        for part in _OF_ADDRESS if name != "input_audio" else (*_OF_ADDRESS, "data"):
            _check_address(value.get(part), field)
    elif name in _ADDRESSES:
        for each in value if is_list(value) else [value]:
            _check_address(each, field)


def _check_address(value: object, field: Sequence[object]) -> None:
    """What is no address of the web leads to the account's buckets and files; those of Gemini have one, for its key only."""
    if not isinstance(value, str):
        return
    beginning = value.lstrip()[:_BEGINNING].lower()
    scheme, found, rest = beginning.partition("://")
    if found and not scheme.startswith("data:") and (scheme not in _WEB or rest.startswith(_GEMINI)):
        raise InvalidInput(
            "an address must be one that anybody may read, with https:, http: or data: what the account keeps is not served",
            field=_named(field),
        )


def _was_run_there(kind: object) -> bool:
    """What a tool of the vendor's gave in an earlier turn, sent again: it names files and opens none."""
    return isinstance(kind, str) and kind.endswith("_tool_result") and kind != "tool_result"


def _too_deep(field: Sequence[object]) -> InvalidInput:
    return InvalidInput(f"nested deeper than {MAX_LEVELS} levels", field=_named(field[:1]))


def _named_file(field: Sequence[object]) -> InvalidInput:
    return InvalidInput(
        "a file cannot be named by its id: none is kept. Send what is in it, or its address, in its place",
        field=_named(field),
    )


def _named(field: Sequence[object]) -> list[str]:
    return [str(name) for name in field]
