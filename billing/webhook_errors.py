"""Refusals about outgoing webhooks."""

from kit.errors import Code, Refusal


class UrlRefused(Refusal):
    """We do not send there; the message says why."""

    code = Code.INVALID_INPUT

    def __init__(self, reason: str) -> None:
        """`reason` is a sentence."""
        super().__init__(reason, field=["url"])


class UnknownEventKind(Refusal):
    """There is no event of this name, or none was named."""

    code = Code.INVALID_INPUT

    def __init__(self, given: str) -> None:
        """`given` as the caller wrote it; empty where nothing was given."""
        super().__init__(f"there is no event {given[:60]!r}" if given else "name an event", field=["events"])


class TooManyEndpoints(Refusal):
    """A workspace has as many endpoints as it may."""

    code = Code.CONFLICT

    def __init__(self, most: int) -> None:
        """`most`: how many it may have."""
        super().__init__(f"a workspace has at most {most} webhook endpoints; delete one first")


class EndpointDisabled(Refusal):
    """The endpoint is off, so nothing is sent to it."""

    code = Code.CONFLICT

    def __init__(self) -> None:
        """The message says what to do."""
        super().__init__("this endpoint is disabled; enable it first")
