"""Webhook endpoints made over the API."""

from dataclasses import dataclass

from stripe_double.endpoint import PAGE, Call, Endpoint, copied, page
from stripe_double.values import API_VERSION, LIVEMODE, Json, part
from stripe_double.webhooks import Deliveries, Target

_PATH = "/v1/webhook_endpoints"
_OFFERED = ("url", "enabled_events", "api_version", "description", "metadata", "connect")


@dataclass(frozen=True, slots=True)
class _Endpoints:
    """Creating one starts deliveries to it."""

    deliveries: Deliveries

    def create(self, call: Call) -> Json:
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
        self.deliveries.targets.append(Target(params["url"], secret, params["enabled_events"], made["id"]))
        return {**made, "secret": secret}

    def update(self, call: Call) -> Json:
        endpoint = call.world.get("webhook_endpoint", call.id)
        copied(endpoint, call.params, "url", "enabled_events", "description")
        for target in self.deliveries.targets:
            if target.key == call.id:
                target.url, target.events = endpoint["url"], endpoint["enabled_events"]
        return endpoint

    def delete(self, call: Call) -> Json:
        call.world.get("webhook_endpoint", call.id)
        call.world.forget(call.id)
        self.deliveries.targets = [target for target in self.deliveries.targets if target.key != call.id]
        return {"id": call.id, "object": "webhook_endpoint", "deleted": True}


def _retrieve(call: Call) -> Json:
    return call.world.get("webhook_endpoint", call.id)


def _list(call: Call) -> Json:
    return page(call, call.world.all("webhook_endpoint"))


def endpoints(deliveries: Deliveries) -> tuple[Endpoint, ...]:
    """The endpoints, which need to know where events go."""
    made = _Endpoints(deliveries)
    return (
        Endpoint("POST", _PATH, "WebhookEndpointCreateParams", made.create, _OFFERED),
        Endpoint("GET", _PATH, "WebhookEndpointListParams", _list, PAGE),
        Endpoint("GET", f"{_PATH}/{{id}}", "WebhookEndpointRetrieveParams", _retrieve, ()),
        Endpoint(
            "POST",
            f"{_PATH}/{{id}}",
            "WebhookEndpointUpdateParams",
            made.update,
            ("url", "enabled_events", "description", "metadata"),
        ),
        Endpoint("DELETE", f"{_PATH}/{{id}}", "WebhookEndpointDeleteParams", made.delete, ()),
    )
