"""Setup intents: a method is saved for later without a payment."""

from stripe_double.cards import message_of
from stripe_double.customers import get_customer
from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import ApiError, card_error, invalid
from stripe_double.payment_intents import CONFIRMABLE, set_up, unexpected_state
from stripe_double.payment_methods import attach, behaviour_of, resolve
from stripe_double.values import LIVEMODE, Json, part
from stripe_double.world import World, shown


def make_setup(world: World, params: Json) -> Json:
    """A new setup intent."""
    key = world.new_id("seti")
    if params.get("customer") is not None:
        get_customer(world, params["customer"])
    setup: Json = {
        "id": key,
        "object": "setup_intent",
        "application": None,
        "automatic_payment_methods": params.get("automatic_payment_methods")
        or {"allow_redirects": "always", "enabled": True},
        "cancellation_reason": None,
        "client_secret": f"{key}_secret_{world.new_id('s')[2:]}",
        "created": world.now,
        "customer": params.get("customer"),
        "customer_account": None,
        "description": params.get("description"),
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": LIVEMODE,
        "mandate": None,
        "metadata": part(params, "metadata"),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {"mandate_options": None, "network": None, "request_three_d_secure": "automatic"}
        },
        "payment_method_types": params.get("allowed_payment_method_types") or ["card", "link", "paypal"],
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": params.get("usage", "off_session"),
    }
    world.add(setup)
    world.emit("setup_intent.created", setup)
    return setup


def confirm_setup(
    world: World, setup: Json, method: Json, *, return_url: str | None, authenticated: bool = False
) -> ApiError | None:
    """Try to save the method; the refusal where the card declines that."""
    if setup["status"] not in CONFIRMABLE:
        raise unexpected_state(setup, "confirm")
    setup["payment_method"], setup["last_setup_error"] = method["id"], None
    if behaviour_of(world, method).authentication != "never" and not authenticated:
        setup["status"] = "requires_action"
        url = f"{world.base_url}/authenticate/{setup['id']}"
        world.note(setup["id"])["return_url"] = return_url
        setup["next_action"] = {"type": "redirect_to_url", "redirect_to_url": {"return_url": return_url, "url": url}}
        world.emit("setup_intent.requires_action", setup)
        return None
    return _save(world, setup, method)


def authenticate_setup(world: World, setup: Json, *, success: bool) -> ApiError | None:
    """The holder confirmed, or did not."""
    if setup["status"] != "requires_action":
        raise unexpected_state(setup, "authenticate")
    setup["next_action"] = None
    method = world.get("payment_method", setup["payment_method"])
    if success:
        return _save(world, setup, method)
    failure = invalid("We are unable to authenticate your payment method.", code="setup_intent_authentication_failure")
    return _failed(world, setup, method, failure)


def _save(world: World, setup: Json, method: Json) -> ApiError | None:
    behaviour = behaviour_of(world, method)
    if not behaviour.attaches:
        failure = card_error(
            message_of(behaviour), code=behaviour.code or "card_declined", decline_code=behaviour.decline_code
        )
        return _failed(world, setup, method, failure)
    if setup["customer"] is not None:
        attach(world, method, get_customer(world, setup["customer"]))
    set_up(world, method)
    setup["status"] = "succeeded"
    world.emit("setup_intent.succeeded", setup)
    return None


def _failed(world: World, setup: Json, method: Json, failure: ApiError) -> ApiError:
    setup["status"], setup["payment_method"] = "requires_payment_method", None
    setup["last_setup_error"] = {**failure.body()["error"], "payment_method": method}
    world.emit("setup_intent.setup_failed", setup)
    failure.facts.update(setup_intent=shown(setup), payment_method=method)
    return failure


def _create(call: Call) -> Json:
    setup = make_setup(call.world, call.params)
    if "payment_method" in call.params:
        method = resolve(call.world, call.params["payment_method"])
        setup["payment_method"], setup["status"] = method["id"], "requires_confirmation"
        if call.params.get("confirm"):
            return _confirmed(call, setup, method)
    return setup


def _confirmed(call: Call, setup: Json, method: Json) -> Json:
    failure = confirm_setup(call.world, setup, method, return_url=call.params.get("return_url"))
    if failure is not None:
        raise failure
    return setup


def _confirm(call: Call) -> Json:
    setup = call.world.get("setup_intent", call.id)
    key = call.params.get("payment_method") or setup["payment_method"]
    if key is None:
        raise invalid(
            "You cannot confirm this SetupIntent because it's missing a payment method.", param="payment_method"
        )
    return _confirmed(call, setup, resolve(call.world, key))


def _cancel(call: Call) -> Json:
    setup = call.world.get("setup_intent", call.id)
    if setup["status"] not in CONFIRMABLE:
        raise unexpected_state(setup, "cancel")
    setup["status"], setup["next_action"] = "canceled", None
    setup["cancellation_reason"] = call.params.get("cancellation_reason")
    call.world.emit("setup_intent.canceled", setup)
    return setup


def _update(call: Call) -> Json:
    setup = call.world.get("setup_intent", call.id)
    copied(setup, call.params, "description", "customer")
    return setup


def _list(call: Call) -> Json:
    return page(call, matching(call.world.all("setup_intent"), call.params, "customer", "payment_method"))


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/setup_intents",
        "SetupIntentCreateParams",
        _create,
        (
            "customer",
            "payment_method",
            "confirm",
            "return_url",
            "description",
            "metadata",
            "usage",
            "automatic_payment_methods",
            "allowed_payment_method_types",
        ),
    ),
    Endpoint("GET", "/v1/setup_intents", "SetupIntentListParams", _list, (*PAGE, "customer", "payment_method")),
    Endpoint(
        "GET",
        "/v1/setup_intents/{id}",
        "SetupIntentRetrieveParams",
        lambda call: call.world.get("setup_intent", call.id),
        (),
    ),
    Endpoint(
        "POST", "/v1/setup_intents/{id}", "SetupIntentUpdateParams", _update, ("description", "customer", "metadata")
    ),
    Endpoint(
        "POST", "/v1/setup_intents/{id}/confirm", "SetupIntentConfirmParams", _confirm, ("payment_method", "return_url")
    ),
    Endpoint("POST", "/v1/setup_intents/{id}/cancel", "SetupIntentCancelParams", _cancel, ("cancellation_reason",)),
)
