"""Workspaces and the viewer as the API shows them."""

from datetime import datetime, timedelta
from typing import Annotated, Self
from uuid import UUID

import strawberry

from accounts.views import AuditEventView, WorkspaceView
from kit.clock import now
from kit.ids import encode_id
from metering.limiter import BucketState
from resolvers import (
    api_keys,
    assets,
    audit,
    billing,
    calls,
    members,
    payments,
    people,
    publishing,
    spending,
    usage,
    viewer,
    webhooks,
    workspaces,
)
from schema.cost import Cost, sized
from schema.enums import ActorKind, CallStatus, FreeCreditsRefusal, Role, UsageInterval
from schema.federation import BY_ID
from schema.inputs.values import as_tuple, given
from schema.node import Info, Node
from schema.pagination import After, Connection, First, connection_of, listed
from schema.scalars import Json
from schema.types.account import MailPreference, Session, SpendLimit
from schema.types.api_keys import ApiKey
from schema.types.billing import PlanSubscription
from schema.types.calls import Asset, ModelCall
from schema.types.catalog import Plan
from schema.types.payments import Invoice, PaymentMethod, TaxId, Transfer
from schema.types.people import Invitation, Member, User
from schema.types.published import EarningsReport, PublishedModel
from schema.types.storage import WorkspaceStorage
from schema.types.usage import From, GroupBy, Interval, TimeZone, To, UsageReport
from schema.types.wallets import Since, Until, Wallet
from schema.types.webhooks import AlertSettings, WebhookEndpoint

ModelSlug = Annotated[str | None, strawberry.argument(description="Only calls of the model with this slug")]
OfPublished = Annotated[strawberry.ID | None, strawberry.argument(description="Only this published model")]
Statuses = Annotated[list[CallStatus] | None, strawberry.argument(description="Only calls that stand so")]
Roles = Annotated[
    list[Role] | None, strawberry.argument(description="Only those in which the viewer has one of these roles")
]


@strawberry.type(description="How many requests the token bucket still allows")
class RateLimitStatus:
    """The contract's RateLimitStatus."""

    limit: int = strawberry.field(description="What the bucket holds: one hour's requests")
    remaining: int = strawberry.field(description="What is left of it")
    reset_at: datetime = strawberry.field(description="When it is full again, if nothing more is asked")

    @classmethod
    def of(cls, view: BucketState) -> Self:
        """The state of the bucket that limits first."""
        return cls(
            limit=view.limit, remaining=view.remaining, reset_at=now() + timedelta(microseconds=view.reset_after_us)
        )


_ACTOR_PREFIXES = {ActorKind.USER: "user", ActorKind.API_KEY: "key"}


@strawberry.type(description="One line of the audit log; never changed afterwards")
class AuditEvent(Node):
    """Who did what to what."""

    action: str = strawberry.field(description="What was done, as noun.verb")
    actor_kind: ActorKind = strawberry.field(description="What kind of actor did it")
    actor_id: strawberry.ID | None = strawberry.field(description="The id of the person or API key that did it")
    subject_kind: str = strawberry.field(description="What kind of thing it was done to")
    facts: Json = strawberry.field(description="What else is known: ids and settings, never secrets")
    address: str | None = strawberry.field(description="From which address")
    request_id: str | None = strawberry.field(description="By which request")
    created_at: datetime = strawberry.field(description="When")

    @classmethod
    def of(cls, view: AuditEventView) -> Self:
        """The event."""
        prefix = _ACTOR_PREFIXES.get(view.actor_kind)
        known = view.actor_id is not None and prefix is not None
        return cls(
            id=strawberry.ID(encode_id("aud", view.id)),
            action=view.action,
            actor_kind=view.actor_kind,
            actor_id=strawberry.ID(_id(prefix, view.actor_id)) if known else None,
            subject_kind=view.subject_kind,
            facts=Json(view.facts),
            address=view.address,
            request_id=view.request_id,
            created_at=view.created_at,
        )


def _id(prefix: str | None, key: UUID | None) -> str:
    return "" if prefix is None or key is None else encode_id(prefix, key)


@strawberry.type(
    description="A personal or team environment: owns a wallet, its members, keys and usage", directives=[BY_ID]
)
class Workspace(Node):
    """The contract's Workspace. Its fields authorise themselves; who holds one may read its scalars."""

    view: strawberry.Private[WorkspaceView]
    name: str = strawberry.field(description="Its name for people")
    slug: str = strawberry.field(description="Its name in addresses")
    created_at: datetime = strawberry.field(description="When it was made")
    viewer_role: Role | None = strawberry.field(description="The viewer's role in it; null for an API key")
    store_outputs: bool = strawberry.field(description="Whether outputs of calls are kept; off unless turned on")
    time_zone: str = strawberry.field(description="The time zone in which its days begin")

    @listed("Who belongs to it, in order of joining")
    async def members(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[Member] | None:
        """A page of members."""
        page = await members.of_workspace(info.context, self.view.id, first=first, after=after)
        return connection_of(page, Member.of)

    @listed("Who is invited, the newest first")
    async def invitations(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[Invitation] | None:
        """A page of open invitations."""
        page = await members.invitations_of_workspace(info.context, self.view.id, first=first, after=after)
        return connection_of(page, Invitation.of)

    @strawberry.field(description="The plan that holds now")
    async def plan(self, info: Info) -> Plan | None:
        """The plan."""
        view = await workspaces.plan(info.context, self.view)
        return None if view is None else Plan.of(view)

    @strawberry.field(description="Its subscription; null where it has none, or it has ended")
    async def subscription(self, info: Info) -> PlanSubscription | None:
        """The subscription."""
        view = await billing.subscription_of(info.context, self.view)
        return None if view is None else PlanSubscription.of(view)

    @strawberry.field(description="Why it gets no free credits of a sign-up, a trial or a free plan; null where it may")
    async def free_credits_refused(self, info: Info) -> FreeCreditsRefusal | None:
        """The reason."""
        reason = await workspaces.free_credits_refused(info.context, self.view)
        return None if reason is None else FreeCreditsRefusal(reason)

    @strawberry.field(description="Its credits")
    async def wallet(self, info: Info) -> Wallet | None:
        """The wallet."""
        view = await workspaces.wallet(info.context, self.view)
        return None if view is None else Wallet.of(view)

    @strawberry.field(description="Its saved payment methods, the default one first", directives=[sized(5)])
    async def payment_methods(self, info: Info) -> list[PaymentMethod] | None:
        """The methods."""
        return [PaymentMethod.of(view) for view in await payments.methods_of(info.context, self.view.id)]

    @listed("Its invoices, the newest first")
    async def invoices(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[Invoice] | None:
        """A page of invoices."""
        page = await payments.invoices_of(info.context, self.view.id, first=first, after=after)
        return connection_of(page, Invoice.of)

    @listed("What was paid out of it, or is on its way, the newest first")
    async def transfers(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[Transfer] | None:
        """A page of transfers."""
        page = await payments.transfers_of(info.context, self.view.id, first=first, after=after)
        return connection_of(page, Transfer.of)

    @strawberry.field(
        description="The tax ids on its invoices, as the payment provider has them now",
        directives=[Cost(weight="10"), sized(5)],
    )
    async def tax_ids(self, info: Info) -> list[TaxId] | None:
        """The tax ids."""
        return [TaxId.of(view) for view in await payments.tax_ids_of(info.context, self.view.id)]

    @listed("Its API keys, ended ones included, the newest first")
    async def api_keys(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[ApiKey] | None:
        """A page of keys."""
        page = await api_keys.of_workspace(info.context, self.view.id, first=first, after=after)
        return connection_of(page, ApiKey.of)

    @listed("Its model calls, the newest first")
    async def calls(
        self,
        info: Info,
        first: First = 20,
        after: After = strawberry.UNSET,
        model: ModelSlug = strawberry.UNSET,
        statuses: Statuses = strawberry.UNSET,
        begin: Since = strawberry.UNSET,
        to: Until = strawberry.UNSET,
    ) -> Connection[ModelCall] | None:
        """A page of calls."""
        page = await calls.page_of_workspace(
            info.context,
            self.view.id,
            first=first,
            after=after,
            model=model or None,
            statuses=as_tuple(statuses),
            begin=given(begin),
            end=given(to),
        )
        return connection_of(page, ModelCall.of)

    @listed("What its calls made and is kept: all of it for owners and admins, for others what they made themselves")
    async def assets(self, info: Info, first: First = 20, after: After = strawberry.UNSET) -> Connection[Asset] | None:
        """A page of assets."""
        page = await assets.of_workspace(info.context, self.view.id, first=first, after=after)
        return connection_of(page, Asset.of)

    @strawberry.field(description="The room that its assets take")
    async def storage(self, info: Info) -> WorkspaceStorage | None:
        """The room."""
        return WorkspaceStorage.of(await assets.storage(info.context, self.view.id))

    @strawberry.field(description="Where its events are sent", directives=[sized(20)])
    async def webhook_endpoints(self, info: Info) -> list[WebhookEndpoint] | None:
        """The endpoints."""
        return [WebhookEndpoint.of(view) for view in await webhooks.of_workspace(info.context, self.view.id)]

    @strawberry.field(description="What it wants to be told about its credits")
    async def alert_settings(self, info: Info) -> AlertSettings | None:
        """The settings."""
        return AlertSettings.of(await webhooks.alerts_of(info.context, self.view.id))

    @strawberry.field(description="What it used in a range of time", directives=[Cost(weight="5")])
    async def usage(
        self,
        info: Info,
        begin: From,
        to: To,
        interval: Interval = UsageInterval.DAY,
        group_by: GroupBy = [],  # noqa: B006  the schema's default, never written to
        time_zone: TimeZone = strawberry.UNSET,
    ) -> UsageReport | None:
        """A report."""
        report = await usage.of_workspace(
            info.context,
            self.view,
            begin=begin,
            end=to,
            interval=interval,
            group_by=group_by or (),
            time_zone=time_zone or None,
        )
        return UsageReport.of(report)

    @listed("The models it publishes, the oldest first")
    async def published_models(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[PublishedModel] | None:
        """A page of published models."""
        page = await publishing.of_workspace(info.context, self.view.id, first=first, after=after)
        return connection_of(page, PublishedModel.of)

    @strawberry.field(
        description="What its published models were used for and earned in a range of time",
        directives=[Cost(weight="5")],
    )
    async def earnings(
        self,
        info: Info,
        begin: From,
        to: To,
        interval: Interval = UsageInterval.DAY,
        time_zone: TimeZone = strawberry.UNSET,
        published_model_id: OfPublished = strawberry.UNSET,
    ) -> EarningsReport | None:
        """A report."""
        report = await publishing.earnings(
            info.context,
            self.view,
            begin=begin,
            end=to,
            interval=interval,
            time_zone=time_zone or None,
            model_id=given(published_model_id),
        )
        return EarningsReport.of(report)

    @strawberry.field(description="What is left of the limit that the viewer meets first in it")
    async def rate_limit(self, info: Info) -> RateLimitStatus:
        """The state of the bucket."""
        return RateLimitStatus.of(await workspaces.rate_limit(info.context, self.view.id))

    @listed("Who did what in it, the newest first; for its owners and admins")
    async def audit_log(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET
    ) -> Connection[AuditEvent] | None:
        """A page of the audit log."""
        page = await audit.of_workspace(info.context, self.view.id, first=first, after=after)
        return connection_of(page, AuditEvent.of)

    @strawberry.field(description="What it, its members and its API keys may spend", directives=[sized(20)])
    async def spend_limits(self, info: Info) -> list[SpendLimit] | None:
        """The limits."""
        return [SpendLimit.of(view) for view in await spending.of_workspace(info.context, self.view.id)]

    @classmethod
    def of(cls, view: WorkspaceView) -> Self:
        """The workspace."""
        return cls(
            id=strawberry.ID(encode_id("ws", view.id)),
            view=view,
            name=view.name,
            slug=view.slug,
            created_at=view.created_at,
            viewer_role=view.viewer_role,
            store_outputs=view.store_outputs,
            time_zone=view.time_zone,
        )


@strawberry.type(description="Who asks: a person or an API key")
class Viewer:
    """The contract's Viewer."""

    @strawberry.field(description="The signed-in person; null for an API key")
    async def user(self, info: Info) -> User | None:
        """The person."""
        view = await people.viewer_user(info.context)
        return None if view is None else User.of(view)

    @strawberry.field(description="The API key that asks; null for a person")
    async def api_key(self, info: Info) -> ApiKey | None:
        """The key."""
        view = await people.viewer_key(info.context)
        return None if view is None else ApiKey.of(view)

    @strawberry.field(description="Whether the person signs in with a second factor; null for an API key")
    async def two_factor(self, info: Info) -> bool | None:
        """Whether it is on."""
        view = await people.viewer_user(info.context)
        return None if view is None else view.two_factor

    @strawberry.field(description="Where the person is signed in, the latest used first", directives=[sized(10)])
    async def sessions(self, info: Info) -> list[Session] | None:
        """The live sessions."""
        current = info.context.principal.session_id
        return [Session.of(view, current) for view in await viewer.live_sessions(info.context)]

    @strawberry.field(description="Which mails the person gets", directives=[sized(3)])
    async def mail_preferences(self, info: Info) -> list[MailPreference] | None:
        """Each kind that can be turned off."""
        kinds = await viewer.mail_preferences(info.context)
        return [MailPreference(kind=kind, wanted=wanted) for kind, wanted in kinds.items()]

    @listed("What the person's calls made, in whatever workspace, those they have left included; the newest first")
    async def assets(self, info: Info, first: First = 20, after: After = strawberry.UNSET) -> Connection[Asset] | None:
        """A page of assets."""
        page = await assets.of_viewer(info.context, first=first, after=after)
        return connection_of(page, Asset.of)

    @listed("The workspaces the viewer belongs to; `roles` narrows it, for example to those they administer")
    async def workspaces(
        self, info: Info, first: First = 20, after: After = strawberry.UNSET, roles: Roles = strawberry.UNSET
    ) -> Connection[Workspace]:
        """A page of workspaces."""
        page = await workspaces.of_viewer(info.context, first=first, after=after, roles=roles or None)
        return connection_of(page, Workspace.of)
