"""The chunks of a streamed chat, merged into one chunk or one whole answer that says the same."""

from copy import deepcopy
from dataclasses import dataclass, field

from kit.json_values import is_list, is_object
from providers.base import JsonObject


@dataclass(slots=True)
class _Choice:
    """One choice: texts of its delta by name, in pieces; everything else as it came last."""

    texts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    others: JsonObject = field(default_factory=dict[str, object])
    tool_calls: dict[int, JsonObject] = field(default_factory=dict[int, JsonObject])
    arguments: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    finish_reason: object = None

    def add(self, choice: JsonObject) -> None:
        if choice.get("finish_reason") is not None:
            self.finish_reason = choice["finish_reason"]
        delta = choice.get("delta")
        for name, value in delta.items() if is_object(delta) else ():
            if name == "tool_calls" and is_list(value):
                for call in value:
                    if is_object(call):
                        self._add_tool_call(call)
            elif isinstance(value, str) and name != "role":
                self.texts.setdefault(name, []).append(value)
            elif value is not None or name not in self.others:
                self.others[name] = value

    def _add_tool_call(self, call: JsonObject) -> None:
        at = call.get("index")
        index = at if isinstance(at, int) else 0
        whole = self.tool_calls.setdefault(index, {})
        whole.update({name: value for name, value in call.items() if name not in {"index", "function"}})
        function = call.get("function")
        for name, value in function.items() if is_object(function) else ():
            if name == "arguments" and isinstance(value, str):
                self.arguments.setdefault(index, []).append(value)
            elif value is not None:
                whole[f"function.{name}"] = value

    def merged(self, *, indexed: bool) -> JsonObject:
        """The choice so far: as a delta, whose tool calls are `indexed`, or as a message."""
        joined = {name: "".join(pieces) for name, pieces in self.texts.items()}
        merged: JsonObject = {**self.others, **joined}
        if self.tool_calls:
            merged["tool_calls"] = [
                {**({"index": index} if indexed else {}), **self._tool_call(index)} for index in sorted(self.tool_calls)
            ]
        return merged

    def _tool_call(self, index: int) -> JsonObject:
        kept = self.tool_calls[index].items()
        function: JsonObject = {name[9:]: value for name, value in kept if name.startswith("function.")}
        if index in self.arguments:
            function["arguments"] = "".join(self.arguments[index])
        call: JsonObject = {name: value for name, value in kept if not name.startswith("function.")}
        return {**call, "function": function} if function else call


@dataclass(slots=True)
class SoFar:
    """Takes up chunks in order."""

    _frame: JsonObject = field(default_factory=dict[str, object])
    _choices: dict[int, _Choice] = field(default_factory=dict[int, _Choice])

    @property
    def is_empty(self) -> bool:
        """Nothing was taken up."""
        return not self._frame and not self._choices

    def add(self, chunk: JsonObject) -> None:
        """Take up one chunk; only what it says of its choices and around them counts."""
        self._frame.update({name: value for name, value in chunk.items() if name != "choices"})
        choices = chunk.get("choices")
        for choice in choices if is_list(choices) else ():
            if is_object(choice):
                at = choice.get("index")
                self._choices.setdefault(at if isinstance(at, int) else 0, _Choice()).add(choice)

    def copy(self) -> "SoFar":
        """The same, to go its own way."""
        return deepcopy(self)

    def chunks(self) -> list[JsonObject]:
        """One chunk in place of all."""
        return [{**self._frame, "choices": self._told("delta")}]

    def body(self) -> JsonObject:
        """The answer as it would have been without streaming."""
        return {**self._frame, "object": "chat.completion", "choices": self._told("message")}

    def _told(self, as_name: str) -> list[JsonObject]:
        return [
            {"index": index, as_name: choice.merged(indexed=as_name == "delta"), "finish_reason": choice.finish_reason}
            for index, choice in sorted(self._choices.items())
        ]
