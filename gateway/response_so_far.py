"""The events of a stream in OpenAI's Responses form, merged into fewer events; the whole answer is in the last of them."""

from gateway.events_so_far import EventsSoFar, Piece
from kit.json_values import is_object
from providers.base import JsonObject


class ResponseSoFar(EventsSoFar):
    """Takes up events in order."""

    __slots__ = ()

    def body(self) -> JsonObject:
        """The response as the last event that holds one tells it."""
        for told in reversed(self._told):
            response = told.event.get("response")
            if is_object(response):
                return response
        return {}

    def _says_nothing(self, event: JsonObject) -> bool:
        return event.get("type") == "keepalive"

    def _piece_of(self, event: JsonObject) -> Piece | None:
        kind, text = event.get("type"), event.get("delta")
        if (
            not isinstance(kind, str)
            or not kind.endswith(".delta")
            or not isinstance(text, str)
            or event.get("logprobs")
        ):
            return None
        places = ("item_id", "output_index", "content_index", "summary_index")
        return Piece((kind, *(event.get(name) for name in places)), text)

    def _with_text(self, event: JsonObject, text: str) -> JsonObject:
        return {**event, "delta": text}
