"""The one place where refusals become answers: `userErrors` in a payload, or the failure of the whole request."""

from collections.abc import Awaitable, Sequence
from typing import Final, Protocol, Self, TypeVar

import strawberry

from kit.errors import BadRequest, Code, Forbidden, NotFound, Refusal, RequestFailure
from resolvers.context import RequestContext
from schema.enums import UserErrorCode

V = TypeVar("V")
P = TypeVar("P")
V_contra = TypeVar("V_contra", contravariant=True)
P_co = TypeVar("P_co", covariant=True)
_JSON_FIELDS: Final = frozenset({"chain", "custom"})
"""Inputs of the scalar JSON in which refusals point at a place."""


@strawberry.type(description="Something in the input that the caller can mend: a rule of the domain said no")
class UserError:
    """The contract's UserError."""

    code: UserErrorCode = strawberry.field(description="Why, for programs")
    message: str = strawberry.field(description="A sentence for a person")
    field: list[str] = strawberry.field(description="Where in the input, as a path; empty when it is the whole")

    @classmethod
    def of(cls, refusal: Refusal) -> Self:
        """The error that tells of this refusal."""
        return cls(code=refusal.code, message=refusal.message, field=path_of(refusal.field))


@strawberry.type(description="What a mutation did")
class Payload:
    """The base of every mutation's payload: `userErrors`, and null in every other field when there are any."""

    user_errors: list[UserError] = strawberry.field(
        default_factory=list[UserError],
        description="What stands in the way, for the caller to mend; empty when it was done",
    )

    @classmethod
    def refused(cls, errors: list[UserError]) -> Self:
        """The payload that says what stands in the way."""
        return cls(user_errors=errors)


class PayloadType(Protocol[V_contra, P_co]):
    """A class of payloads that are made from a view."""

    def of(self, view: V_contra, /) -> P_co:
        """The payload of what was done."""
        ...

    def refused(self, errors: list[UserError], /) -> P_co:
        """The payload that says what stands in the way."""
        ...


async def answered(context: RequestContext, payload: PayloadType[V, P], work: Awaitable[V]) -> P:
    """The payload of the work, or of the refusal it ended with.

    What the viewer may not see is NOT_FOUND like what is not there; other failures are the whole field's.
    """
    try:
        view = await work
    except Refusal as refusal:
        return payload.refused([UserError.of(refusal)])
    except NotFound as failure:
        return payload.refused([UserError(code=Code.NOT_FOUND, message=failure.message, field=path_of(failure.field))])
    finally:
        context.renew()
    return payload.of(view)


def request_failure_of(error: BaseException | None) -> RequestFailure | None:
    """The top-level failure that an exception from a resolver stands for; None: a fault of ours, to be masked."""
    if isinstance(error, RequestFailure):
        return error
    if isinstance(error, Refusal):
        match error.code:
            case Code.INVALID_INPUT:
                return BadRequest(error.message)
            case Code.NOT_FOUND:
                return NotFound(error.message)
            case _:
                return Forbidden(error.message)
    return None


def path_of(field: Sequence[str]) -> list[str]:
    """A refusal's field in the API's names; what lies in a JSON value keeps the names that its writer gave it."""
    within = next((index + 1 for index, part in enumerate(field) if part in _JSON_FIELDS), len(field))
    return [*map(camel, field[:within]), *field[within:]]


def camel(name: str) -> str:
    """snake_case to the API's camelCase; anything else unchanged."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail) if tail and head else name
