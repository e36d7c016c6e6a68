"""Why a model call is refused or fails: one class per reason."""

from typing import Final
from uuid import UUID

from kit.errors import Code, Refusal
from kit.money import format_micro
from providers.errors import ProviderError


class ModelNotFound(Refusal):
    """No model of this name is offered."""

    code = Code.MODEL_NOT_FOUND

    def __init__(self, slug: str) -> None:
        """`slug` as the caller wrote it, shortened."""
        super().__init__(
            f"there is no model {slug[:100]!r}; `models` (GET /v1/models) lists those there are", field=["model"]
        )


class ModelDisabled(Refusal):
    """The operator has switched the model off for now."""

    code = Code.MODEL_DISABLED

    def __init__(self, slug: str) -> None:
        """`slug` of the catalog."""
        super().__init__(f"the model {slug!r} is switched off for now", field=["model"])


class ModelNotInPlan(Refusal):
    """The workspace's plan does not include the model."""

    code = Code.MODEL_NOT_IN_PLAN

    def __init__(self, slug: str, plan: str) -> None:
        """`plan` is the plan's name."""
        super().__init__(f"the plan {plan!r} does not include the model {slug!r}", field=["model"])


class ModelNotAllowed(Refusal):
    """The API key's allow-list does not hold the model."""

    code = Code.MODEL_NOT_IN_PLAN

    def __init__(self, slug: str) -> None:
        """`slug` of the catalog."""
        super().__init__(f"this API key may not call the model {slug!r}", field=["model"])


class ModelNotForTestKeys(Refusal):
    """A test key calls models of a sandbox provider only."""

    code = Code.MODEL_NOT_IN_PLAN

    def __init__(self, slug: str) -> None:
        """`slug` of the catalog."""
        super().__init__(
            f"a test key calls sandbox models only, and {slug!r} is none; use a live key (tg_live_…) for it",
            field=["model"],
        )


class ApiNotInPlan(Refusal):
    """The workspace's plan has no API access (rules B13, C2)."""

    code = Code.NOT_IN_PLAN

    def __init__(self, plan: str) -> None:
        """`plan` is the plan's name."""
        super().__init__(f"the plan {plan!r} has no API access: calls with an API key need a plan that has it")


class ChainsNotInPlan(Refusal):
    """The workspace's plan has no chained models (rule B14)."""

    code = Code.NOT_IN_PLAN

    def __init__(self, slug: str, plan: str) -> None:
        """`plan` is the plan's name."""
        super().__init__(f"the plan {plan!r} has no chained models, and {slug!r} is one", field=["model"])


class PublisherPlanTooSmall(Refusal):
    """The publisher's plan no longer includes what its model needs; it comes back with the plan."""

    code = Code.MODEL_DISABLED

    def __init__(self, slug: str, needed: str) -> None:
        """`needed` in words."""
        super().__init__(f"the model {slug!r} is not served now: its publisher's plan has no {needed}", field=["model"])


class ChainRefused(Refusal):
    """A chain cannot be followed: one of its models has changed since it was made."""

    code = Code.MODEL_DISABLED

    def __init__(self, slug: str, why: str) -> None:
        """`why` is a sentence."""
        super().__init__(f"the chain {slug!r} cannot run: {why}", field=["model"])


class ChainStopped(ProviderError):
    """A chain ended at a step; the steps before it are charged, nothing of this one is."""

    repeatable = False
    elsewhere = False

    def __init__(self, step: str, why: str) -> None:
        """`step` is its name, below the names of the chains it is in; `why` a sentence."""
        super().__init__(f"the chain stopped at step {step!r}: {why}")
        self.step = step


class InsufficientCredits(Refusal):
    """The wallet cannot pay what the call could cost."""

    code = Code.INSUFFICIENT_CREDITS

    def __init__(self, needed_micro: int, available_micro: int) -> None:
        """Both in micro-credits."""
        super().__init__(
            f"this call could cost {format_micro(needed_micro)} credits and {format_micro(available_micro)} are available; "
            "add credits, or ask for less, such as fewer output tokens"
        )
        self.needed_micro = needed_micro
        self.available_micro = available_micro


class CreditsHeld(Refusal):
    """Only the holds of calls still running stand in the way; try again when they are done."""

    code = Code.CREDITS_HELD

    def __init__(self, needed_micro: int, available_micro: int, held_micro: int) -> None:
        """All in micro-credits."""
        super().__init__(
            f"this call could cost {format_micro(needed_micro)} credits; {format_micro(available_micro)} are available and "
            f"{format_micro(held_micro)} are held for calls still running"
        )


class SpendLimitReached(Refusal):
    """A limit that an admin set for the key, the member or the workspace would be passed."""

    code = Code.SPEND_LIMIT_REACHED

    def __init__(self, limit: str) -> None:
        """`limit` names it: "this API key's monthly limit"."""
        super().__init__(f"{limit} would be passed")


class CallTooDear(Refusal):
    """The call could cost more than the caller allows with `maxCredits`."""

    code = Code.INVALID_INPUT

    def __init__(self, bound_micro: int, allowed_micro: int) -> None:
        """Both in micro-credits."""
        super().__init__(
            f"this call could cost {format_micro(bound_micro)} credits, above maxCredits {format_micro(allowed_micro)}",
            field=["maxCredits"],
        )


class CallStillRunning(Refusal):
    """The first call with this idempotency key has not ended within the wait."""

    code = Code.CONFLICT

    def __init__(self) -> None:
        """No facts."""
        super().__init__("the first call of this request is still running; repeat later", field=["idempotencyKey"])


class UpstreamFailed(Refusal):
    """The provider failed; nothing was charged unless output had been produced. `http_status` for the REST answer."""

    code = Code.UPSTREAM_ERROR
    http_status = 502
    call_id: UUID | None = None
    """The call's record, where it has one."""
    final: bool = False
    """The same request would be told the same again."""
    kept: str | None = None
    """What the record says of it, without a word of the provider's; None: what all of this code are told as."""


class UpstreamTimedOut(UpstreamFailed):
    """The provider took too long."""

    code = Code.UPSTREAM_TIMEOUT
    http_status = 504


class UpstreamRefused(UpstreamFailed):
    """The provider refused the request as the caller made it; `http_status` is the provider's."""

    code = Code.UPSTREAM_REJECTED

    def __init__(self, message: str, http_status: int) -> None:
        """`http_status` is a 4xx."""
        super().__init__(message)
        self.http_status = http_status


_FAILURES: Final[dict[Code, int]] = {Code.UPSTREAM_ERROR: 502, Code.UPSTREAM_TIMEOUT: 504, Code.UPSTREAM_REJECTED: 400}


class RepeatedFailure(UpstreamFailed):
    """A repeat with the idempotency key of a call that failed: the first failure again."""

    def __init__(self, call_id: UUID, code: Code, message: str) -> None:
        """`code` and `message` of the first answer."""
        super().__init__(message)
        self.final = True
        self.call_id = call_id
        self.code = code
        self.http_status = _FAILURES.get(code, 502)


class CallInterrupted(Refusal):
    """A stream had begun and its end could not be written: at most what its checkpoints say is charged, by the reaper."""

    code = Code.UPSTREAM_ERROR

    def __init__(self) -> None:
        """The cause is in the log, with the call's id."""
        super().__init__("the call was interrupted; at most what it produced until then is charged")


class ClientLeft(Refusal):
    """The reader closed the stream before its end; kept as the call's record."""

    code = Code.CONFLICT

    def __init__(self) -> None:
        """No facts."""
        super().__init__("the client left before the end")


class FilesFull(Refusal):
    """The workspace's files of batches hold as much as they may."""

    code = Code.STORAGE_FULL

    def __init__(self, most_bytes: int) -> None:
        """`most_bytes` together."""
        super().__init__(f"the workspace's files hold at most {most_bytes} bytes together; delete some", field=["file"])


class TooManyBatches(Refusal):
    """As many batches of the workspace are open as may be."""

    code = Code.CONFLICT

    def __init__(self, most: int) -> None:
        """`most` at once."""
        super().__init__(f"{most} batches are open, which is the most; wait for one to end, or cancel it")


class StorageFull(Refusal):
    """The plan's storage has no room for what the call would make."""

    code = Code.STORAGE_FULL

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        """`needed_bytes`: the most that the call's files may take."""
        super().__init__(
            f"what this call makes may take {needed_bytes} bytes and {free_bytes} are free; delete assets, or choose a "
            "plan with more storage"
        )


class NotAJob(Refusal):
    """Only what startCall began can be cancelled."""

    code = Code.CONFLICT

    def __init__(self) -> None:
        """No facts."""
        super().__init__(
            "only calls made with startCall can be cancelled; a stream ends when its reader leaves", field=["callId"]
        )


class JobLost(Refusal):
    """The job came to no end: its provider forgot it, its outcome is unknown, or its files cannot be fetched."""

    code = Code.UPSTREAM_ERROR


class JobTimedOut(Refusal):
    """The job took longer than its model's may."""

    code = Code.UPSTREAM_TIMEOUT

    def __init__(self) -> None:
        """No facts."""
        super().__init__("the job took longer than it may; nothing is charged")


class JobFailed(Refusal):
    """The provider says that it failed; why is not kept, as its words may echo the prompt (D12)."""

    code = Code.UPSTREAM_ERROR

    def __init__(self) -> None:
        """No facts."""
        super().__init__("the provider failed")


class JobCanceled(Refusal):
    """Cancelled by its caller; kept as the call's record."""

    code = Code.CONFLICT

    def __init__(self) -> None:
        """No facts."""
        super().__init__("the call was cancelled")
