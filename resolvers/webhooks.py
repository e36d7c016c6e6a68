"""A workspace's webhook endpoints and what it wants to be told of its credits."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from accounts.audit import Noting
from accounts.rules.roles import Action
from billing.alerts import AlertSettings, alert_settings, change_alert_settings
from billing.webhook_endpoints import DeliveryView, EndpointSecret, EndpointView
from kit.errors import NotFound
from kit.pages import Page
from kit.unchanged import Unchanged
from resolvers.access import key_of, looked_up, require, unseen, workspace_for
from resolvers.context import RequestContext
from resolvers.pages import page_request


async def of_workspace(context: RequestContext, workspace_id: UUID) -> list[EndpointView]:
    """The endpoints, the oldest first."""
    await require(context, Action.WEBHOOKS_READ, workspace_id)
    return await context.services.webhooks.of_workspace(workspace_id)


async def deliveries(
    context: RequestContext, endpoint: EndpointView, *, first: int | None, after: str | None
) -> Page[DeliveryView]:
    """What was sent to an endpoint that was shown, the newest first."""
    return await context.services.webhooks.deliveries(endpoint.id, page_request(first, after))


async def create(
    context: RequestContext, *, workspace_id: str, url: str, events: Sequence[str], description: str | None
) -> EndpointSecret:
    """A new endpoint with its secret. UrlRefused, UnknownEventKind, TooManyEndpoints."""
    key = await workspace_for(context, Action.WEBHOOKS_WRITE, workspace_id)
    note = Noting(context.actor, key)
    return await context.services.webhooks.create(key, url, events, description or "", note=note)


async def update(
    context: RequestContext,
    *,
    endpoint_id: str,
    url: str | None,
    events: Sequence[str] | None,
    description: str | None,
    enabled: bool | None,
) -> EndpointView:
    """Change what is given. UrlRefused, UnknownEventKind."""
    found = await _writable(context, endpoint_id)
    return await context.services.webhooks.update(
        found.id,
        url=url,
        event_kinds=events,
        description=description,
        enabled=enabled,
        note=Noting(context.actor, found.workspace_id),
    )


async def delete(context: RequestContext, *, endpoint_id: str) -> str:
    """Gone; its id."""
    found = await _writable(context, endpoint_id)
    await context.services.webhooks.delete(found.id, note=Noting(context.actor, found.workspace_id))
    return endpoint_id


async def rotate(context: RequestContext, *, endpoint_id: str) -> EndpointSecret:
    """A new secret; the old one signs beside it for a day."""
    found = await _writable(context, endpoint_id)
    return await context.services.webhooks.rotate(found.id, note=Noting(context.actor, found.workspace_id))


async def send_test(context: RequestContext, *, endpoint_id: str) -> DeliveryView:
    """An event to try the endpoint with. EndpointDisabled."""
    found = await _writable(context, endpoint_id)
    return await context.services.webhooks.send_test(found.id, note=Noting(context.actor, found.workspace_id))


async def replay(context: RequestContext, *, delivery_id: str) -> DeliveryView:
    """Send it again. EndpointDisabled."""
    with looked_up("webhook_delivery_id"):
        key = key_of(context, "delivery", delivery_id)
        try:
            found = await context.services.webhooks.delivery(key)
            endpoint = await context.services.webhooks.get(found.endpoint_id)
        except NotFound as error:
            raise unseen() from error
        await require(context, Action.WEBHOOKS_WRITE, endpoint.workspace_id, seen_with=Action.WEBHOOKS_READ)
    return await context.services.webhooks.replay(key, note=Noting(context.actor, endpoint.workspace_id))


async def alerts_of(context: RequestContext, workspace_id: UUID) -> AlertSettings:
    """What the workspace wants to be told."""
    await require(context, Action.BILLING_READ, workspace_id)
    return await alert_settings(context.services.database, workspace_id)


async def update_alerts(
    context: RequestContext,
    *,
    workspace_id: str,
    cycle_percents: Sequence[int] | None,
    expiry_days: Sequence[int] | None,
    low_balance_micro: int | Unchanged | None,
    by_mail: bool | None,
) -> AlertSettings:
    """Change what is given. InvalidInput."""
    key = await workspace_for(context, Action.BILLING_WRITE, workspace_id)

    def changed(before: AlertSettings) -> AlertSettings:
        return replace(
            before,
            cycle_percents=before.cycle_percents if cycle_percents is None else tuple(cycle_percents),
            expiry_days=before.expiry_days if expiry_days is None else tuple(expiry_days),
            low_balance_micro=(
                before.low_balance_micro if isinstance(low_balance_micro, Unchanged) else low_balance_micro
            ),
            by_mail=before.by_mail if by_mail is None else by_mail,
        )

    note = Noting(context.actor, key)
    return await change_alert_settings(context.services.database, key, changed, note=note)


async def _writable(context: RequestContext, endpoint_id: str) -> EndpointView:
    with looked_up("webhook_endpoint_id"):
        key = key_of(context, "hook", endpoint_id)
        try:
            found = await context.services.webhooks.get(key)
        except NotFound as error:
            raise unseen() from error
        await require(context, Action.WEBHOOKS_WRITE, found.workspace_id, seen_with=Action.WEBHOOKS_READ)
    return found
