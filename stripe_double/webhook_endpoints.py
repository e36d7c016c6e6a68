"""Webhook endpoints made over the API."""

from stripe_double.endpoint import PAGE, Call, Endpoint, copied, page
from stripe_double.values import API_VERSION, LIVEMODE, Json, part
from stripe_double.webhooks import Deliveries, Target


def endpoints(deliveries: Deliveries) -> tuple[Endpoint, ...]:
    """Creating one starts deliveries to it."""

    def create(call: Call) -> Json:
        world, params = call.world, call.params
        made: Json = {
            "id": world.new_id("we"),
            "object": "webhook_endpoint",
            "api_version": params.get("api_version", API_VERSION),
            "application": None,
            "created": world.now,
            "description": params.get("description"),
            "enabled_events": params["enabled_events"],
            "livemode": LIVEMODE,
            "metadata": part(params, "metadata"),
            "status": "enabled",
            "url": params["url"],
        }
        world.add(made)
        secret = world.new_id("whsec")
        deliveries.targets.append(Target(params["url"], secret, params["enabled_events"], made["id"]))
        return {**made, "secret": secret}

    def update(call: Call) -> Json:
        endpoint = call.world.get("webhook_endpoint", call.id)
        copied(endpoint, call.params, "url", "enabled_events", "description")
        for target in deliveries.targets:
            if target.key == call.id:
                target.url, target.events = endpoint["url"], endpoint["enabled_events"]
        return endpoint

    def delete(call: Call) -> Json:
        call.world.get("webhook_endpoint", call.id)
        call.world.forget(call.id)
        deliveries.targets = [target for target in deliveries.targets if target.key != call.id]
        return {"id": call.id, "object": "webhook_endpoint", "deleted": True}

    path = "/v1/webhook_endpoints"
    return (
        Endpoint(
            "POST",
            path,
            "WebhookEndpointCreateParams",
            create,
            ("url", "enabled_events", "api_version", "description", "metadata", "connect"),
        ),
        Endpoint(
            "GET", path, "WebhookEndpointListParams", lambda call: page(call, call.world.all("webhook_endpoint")), PAGE
        ),
        Endpoint(
            "GET",
            f"{path}/{{id}}",
            "WebhookEndpointRetrieveParams",
            lambda call: call.world.get("webhook_endpoint", call.id),
            (),
        ),
        Endpoint(
            "POST",
            f"{path}/{{id}}",
            "WebhookEndpointUpdateParams",
            update,
            ("url", "enabled_events", "description", "metadata"),
        ),
        Endpoint("DELETE", f"{path}/{{id}}", "WebhookEndpointDeleteParams", delete, ()),
    )
