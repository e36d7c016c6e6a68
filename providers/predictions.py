"""The protocol that every provider of predictions serves, with the frozen values that cross it.

A prediction is made, looked at until it has ended, and may be cancelled: work that takes minutes.
"""

from collections.abc import AsyncGenerator, Mapping
from enum import StrEnum
from typing import Final, Protocol

from kit.records import record
from providers.base import Headers, JsonObject, Operation, Timeouts
from providers.errors import ProviderError

MAX_OUTPUTS: Final = 100
"""More files of one prediction are not taken."""
MOST_FETCH_S: Final = 900.0
"""How long one file of an operator's provider may take that comes all the while: whoever fetches it has no time for others."""


class PredictionState(StrEnum):
    """Where a prediction stands at its provider."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


ENDED: Final = frozenset({PredictionState.SUCCEEDED, PredictionState.FAILED, PredictionState.CANCELED})


@record
class OutputFile:
    """A file that a prediction made: its address, or its bytes where the answer held them."""

    url: str | None = None
    inline: bytes | None = None
    content_type: str | None = None


@record
class Prediction:
    """What a provider says of a prediction.

    `reported`: what it says was used, by the names of providers.base.Usage; None where it cannot be believed.
    """

    id: str
    state: PredictionState
    outputs: tuple[OutputFile, ...] = ()
    reported: Mapping[str, int] | None = None
    error: str = ""


@record
class PredictionRequest:
    """A prediction to be made: `body` in OpenAI's names. `key` is one for all tries of a job at one provider.

    `trace` and `timeouts` as in providers.base.ProviderRequest.
    """

    operation: Operation
    upstream_model: str
    body: JsonObject
    key: str
    request_id: str
    webhook_url: str | None = None
    timeouts: Timeouts | None = None
    trace: Headers = ()


class PredictionUnknown(ProviderError):
    """The provider does not know this prediction (any more)."""

    repeatable = False
    elsewhere = False

    def __init__(self) -> None:
        """No facts."""
        super().__init__("the provider no longer knows this job")


class WebhookRefused(Exception):
    """The webhook is not from the provider, is too old, or names no prediction."""


class PredictionProvider(Protocol):
    """A place that makes predictions. Raises only ProviderError (and CancelledError)."""

    @property
    def name(self) -> str:
        """Its name in the catalog."""
        ...

    @property
    def repeatable(self) -> bool:
        """Making a prediction again under the same key gives the same one."""
        ...

    @property
    def remembers(self) -> bool:
        """A prediction that was made can be read again."""
        ...

    @property
    def poll_pauses_s(self) -> tuple[int, int]:
        """The first and the longest pause between looks."""
        ...

    async def create(self, request: PredictionRequest) -> Prediction:
        """The prediction, perhaps ended already."""
        ...

    async def read(self, prediction_id: str) -> Prediction:
        """As it stands now. PredictionUnknown where the provider has none of this id."""
        ...

    async def cancel(self, prediction_id: str) -> bool:
        """Ask for its end; False where the provider cannot. What was made until then `read` says."""
        ...

    def owns(self, url: str) -> bool:
        """Whether the address is the provider's own, where the operator named it, so that it may be fetched as it is."""
        ...

    def fetch(self, url: str) -> AsyncGenerator[bytes]:
        """The bytes of a file at an address of its own, with our credential; close it when you leave early."""
        ...

    def webhook_subject(self, headers: Mapping[str, str], body: bytes, now_s: int) -> str:
        """The id of the prediction that a webhook is about, once its signature is right. Raises WebhookRefused."""
        ...
