"""What a call tells whoever traces it: its steps, the providers it asked, its end; never a word of prompt or output.

Off, it costs a few empty function calls: nothing is measured and nothing is made.
"""

from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Final, Protocol, Self
from uuid import UUID

from gateway.views import Caller, CallRequest
from kit.errors import Refusal
from kit.records import record
from metering.operations import UsageFacts
from providers.base import Operation, Usage
from providers.errors import ProviderError
from providers.transport import Headers

GEN_AI_OPERATIONS: Final = {
    Operation.CHAT: "chat",
    Operation.EMBEDDING: "embeddings",
    Operation.IMAGE: "generate_content",
    Operation.MESSAGES: "chat",
    Operation.RESPONSES: "chat",
    Operation.SPEECH: "generate_content",
    Operation.TRANSCRIPTION: "generate_content",
    Operation.VIDEO: "generate_content",
}
"""`gen_ai.operation.name` of the GenAI semantic conventions, for spans and metrics."""


class Step(StrEnum):
    """The parts of a call besides the provider's own."""

    ADMISSION = "admission"
    HOLD = "hold"
    SETTLEMENT = "settlement"


class JobPart(StrEnum):
    """What a worker does for a job."""

    SUBMIT = "submit"
    END = "end"


@record
class JobFacts:
    """A job's place in its trace. `carried`: what CallTrace.carried gave when it was begun, perhaps in another process."""

    call_id: UUID
    workspace_id: UUID
    request_id: str
    model: str
    operation: Operation
    carried: Headers


class CallTrace(Protocol):
    """One call's trace: entered while the call runs, an exception that passes is its failure."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None: ...

    def step(self, step: Step) -> AbstractContextManager[object]:
        """Entered while that part runs."""
        ...

    def admitted(self, call_id: UUID, model: str) -> None:
        """The call may run; `model` is the catalog's slug."""
        ...

    def asks(self, provider: str, upstream_model: str) -> Headers:
        """A provider is asked now; the headers that let its own trace join this one."""
        ...

    def answered(self, usage: Usage | None) -> None:
        """The provider asked last is done; nothing where it is already."""
        ...

    def provider_failed(self, error: ProviderError) -> None:
        """The provider asked last failed."""
        ...

    def carried(self) -> Headers:
        """What lets another process go on with this trace later; nothing where it is not traced."""
        ...

    def beside(self) -> "CallTrace":
        """For one of several parts of the call that ask providers at once: told of its provider only, never entered."""
        ...

    def settled(self, usage: UsageFacts, charged_micro: int) -> None:
        """What the call used and was charged."""
        ...

    def failed(self, refusal: Refusal) -> None:
        """How it failed, where no exception passes."""
        ...


class Tracing(Protocol):
    """Begins the traces of calls."""

    def begin(self, caller: Caller, request: CallRequest) -> CallTrace:
        """A call is asked for; its trace must be entered."""
        ...

    def resume(self, part: JobPart, facts: JobFacts) -> CallTrace:
        """A worker goes on with a job; likewise."""
        ...


_NOTHING: Final = nullcontext()


class NoTrace:
    """Serves CallTrace by doing nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None: ...

    def step(self, step: Step) -> AbstractContextManager[object]:
        """Nothing."""
        del step
        return _NOTHING

    def admitted(self, call_id: UUID, model: str) -> None:
        """Nothing."""

    def asks(self, provider: str, upstream_model: str) -> Headers:
        """Nothing is sent along."""
        del provider, upstream_model
        return ()

    def answered(self, usage: Usage | None) -> None:
        """Nothing."""

    def provider_failed(self, error: ProviderError) -> None:
        """Nothing."""

    def carried(self) -> Headers:
        """Nothing."""
        return ()

    def beside(self) -> CallTrace:
        """Itself."""
        return self

    def settled(self, usage: UsageFacts, charged_micro: int) -> None:
        """Nothing."""

    def failed(self, refusal: Refusal) -> None:
        """Nothing."""


NO_TRACE: Final = NoTrace()


class NoTracing:
    """Serves Tracing where nobody traces."""

    def begin(self, caller: Caller, request: CallRequest) -> CallTrace:
        """The trace that does nothing."""
        del caller, request
        return NO_TRACE

    def resume(self, part: JobPart, facts: JobFacts) -> CallTrace:
        """Likewise."""
        del part, facts
        return NO_TRACE
