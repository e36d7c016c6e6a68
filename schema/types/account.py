"""One's own account, and limits of spending, as the API shows them."""

from datetime import datetime
from typing import Self
from uuid import UUID

import strawberry

from accounts.views import SessionView
from kit.ids import encode_id
from metering.views import SpendLimitView
from schema.enums import MailKind, SpendLimitPeriod, SpendLimitSubject
from schema.scalars import Credits

_PREFIXES = {SpendLimitSubject.API_KEY: "key", SpendLimitSubject.MEMBER: "mem", SpendLimitSubject.WORKSPACE: "ws"}


@strawberry.type(description="Where the viewer is signed in")
class Session:
    """One of the viewer's."""

    id: strawberry.ID = strawberry.field(description="Its id; give it to `revokeSession`")
    created_at: datetime = strawberry.field(description="When it was signed in")
    last_used_at: datetime = strawberry.field(description="When it last got a new access token")
    expires_at: datetime = strawberry.field(description="When it ends by itself")
    address: str | None = strawberry.field(description="From which address it was signed in")
    user_agent: str | None = strawberry.field(description="By which program")
    is_current: bool = strawberry.field(description="Whether it is the one that asks")

    @classmethod
    def of(cls, view: SessionView, current: UUID | None) -> Self:
        """The session; `current`: the one that asks."""
        return cls(
            id=strawberry.ID(encode_id("ses", view.id)),
            created_at=view.created_at,
            last_used_at=view.last_refreshed_at,
            expires_at=view.expires_at,
            address=view.address,
            user_agent=view.user_agent,
            is_current=view.id == current,
        )


@strawberry.type(description="Whether the viewer gets a kind of mail")
class MailPreference:
    """One kind."""

    kind: MailKind = strawberry.field(description="Which mails")
    wanted: bool = strawberry.field(description="Whether they are sent")


@strawberry.type(description="The most credits that may be spent in a calendar period (UTC)")
class SpendLimit:
    """Of an API key, a member or the workspace."""

    subject: SpendLimitSubject = strawberry.field(description="What kind of thing is limited")
    subject_id: strawberry.ID = strawberry.field(description="Its global id")
    period: SpendLimitPeriod = strawberry.field(description="In which period")
    limit: Credits = strawberry.field(description="The most")
    spent: Credits = strawberry.field(description="What was spent of it in this period")
    held: Credits = strawberry.field(description="What calls in flight may spend of it")

    @classmethod
    def of(cls, view: SpendLimitView) -> Self:
        """The limit."""
        subject = SpendLimitSubject(view.subject_kind)
        return cls(
            subject=subject,
            subject_id=strawberry.ID(encode_id(_PREFIXES[subject], view.subject_id)),
            period=SpendLimitPeriod(view.period),
            limit=Credits(view.limit_micro),
            spent=Credits(view.spent_micro),
            held=Credits(view.held_micro),
        )
