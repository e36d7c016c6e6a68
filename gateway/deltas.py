"""The pieces of a streamed chat, one by one, and put together again."""

from dataclasses import dataclass, field

from gateway.payloads import ChatOutputView
from providers.base import JsonObject


@dataclass(frozen=True, slots=True)
class DeltaView:
    """A piece of one choice's output."""

    index: int
    content: str | None
    tool_calls: object


def deltas_of(chunk: JsonObject) -> list[DeltaView]:
    """The pieces in a chunk that have something to show."""
    found: list[DeltaView] = []
    for choice in _objects(chunk.get("choices")):
        delta = _objects([choice.get("delta") or choice.get("message")])
        if not delta:
            continue
        index, content, calls = choice.get("index"), delta[0].get("content"), delta[0].get("tool_calls")
        text = content if isinstance(content, str) and content else None
        if text is not None or calls:
            found.append(DeltaView(index if isinstance(index, int) else 0, text, calls or None))
    return found


@dataclass(slots=True)
class Assembly:
    """The first choice of a stream, as a whole answer would have shown it."""

    _texts: list[str] = field(default_factory=list[str])
    _tool_calls: dict[int, JsonObject] = field(default_factory=dict[int, JsonObject])
    _arguments: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    _finish_reason: str = "unknown"

    def add(self, chunk: JsonObject) -> None:
        """Take up one chunk."""
        for choice in _objects(chunk.get("choices")):
            if choice.get("index", 0) != 0:
                continue
            reason = choice.get("finish_reason")
            if isinstance(reason, str):
                self._finish_reason = reason
        for delta in deltas_of(chunk):
            if delta.index == 0:
                self._texts.append(delta.content or "")
                for call in _objects(delta.tool_calls):
                    self._add_tool_call(call)

    def _add_tool_call(self, call: JsonObject) -> None:
        at = call.get("index")
        index = at if isinstance(at, int) else 0
        whole = self._tool_calls.setdefault(index, {})
        function = _objects([call.get("function")])
        for name in ("id", "type"):
            if isinstance(call.get(name), str):
                whole[name] = call[name]
        if function:
            if isinstance(function[0].get("name"), str):
                whole["name"] = function[0]["name"]
            arguments = function[0].get("arguments")
            self._arguments.setdefault(index, []).append(arguments if isinstance(arguments, str) else "")

    def output(self) -> ChatOutputView:
        """What has come so far."""
        calls = [
            {
                "id": call.get("id"),
                "type": call.get("type", "function"),
                "function": {"name": call.get("name"), "arguments": "".join(self._arguments.get(index, []))},
            }
            for index, call in sorted(self._tool_calls.items())
        ]
        return ChatOutputView("".join(self._texts) or None, self._finish_reason, calls or None)


def _objects(value: object) -> list[JsonObject]:
    if not isinstance(value, list):
        return []
    return [item for item in value if isinstance(item, dict)]  # pyright: ignore[reportUnknownVariableType] -- parsed JSON
