"""Payment intents: from creation over attempts and the holder's confirmation to success or decline."""

from stripe_double.cards import message_of
from stripe_double.charges import make_charge, settle
from stripe_double.customers import get_customer
from stripe_double.errors import ApiError, card_error, invalid
from stripe_double.payment_methods import attach, behaviour_of
from stripe_double.values import LIVEMODE, Json, part
from stripe_double.world import World, shown

_SLOW_S = 4 * 86_400
CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
_LEAST_AMOUNT = 50
_LARGEST_AMOUNT = 99_999_999


def make_intent(world: World, params: Json) -> Json:
    """A new intent, not yet attempted. `params` as those of the API; amounts in cents."""
    amount: int = params["amount"]
    if amount < _LEAST_AMOUNT:
        raise invalid("Amount must be at least $0.50 usd", code="amount_too_small", param="amount")
    if amount > _LARGEST_AMOUNT:
        raise invalid("Amount must be no more than $999,999.99", code="amount_too_large", param="amount")
    customer = params.get("customer")
    if customer is not None:
        get_customer(world, customer)
    key = world.new_id("pi")
    options: Json = part(params, "payment_method_options")
    kinds: list[str] = params.get("allowed_payment_method_types") or ["card", "link", "paypal"]
    intent: Json = {
        "id": key,
        "object": "payment_intent",
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": params.get(
            "automatic_payment_methods", {"allow_redirects": "always", "enabled": True}
        ),
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": params.get("capture_method", "automatic_async"),
        "client_secret": f"{key}_secret_{world.new_id('s')[2:]}",
        "confirmation_method": params.get("confirmation_method", "automatic"),
        "created": world.now,
        "currency": params["currency"].lower(),
        "customer": customer,
        "customer_account": None,
        "description": params.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": LIVEMODE,
        "metadata": part(params, "metadata"),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": params.get("payment_method"),
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic", **part(options, "card")}},
        "payment_method_types": kinds,
        "processing": None,
        "receipt_email": params.get("receipt_email"),
        "review": None,
        "setup_future_usage": params.get("setup_future_usage"),
        "shipping": None,
        "source": None,
        "statement_descriptor": params.get("statement_descriptor"),
        "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
        "status": "requires_confirmation" if params.get("payment_method") else "requires_payment_method",
        "transfer_data": None,
        "transfer_group": params.get("transfer_group"),
    }
    if intent["capture_method"] == "manual":
        raise invalid("The double captures at once; capture_method=manual is not offered.", param="capture_method")
    world.add(intent)
    world.emit("payment_intent.created", intent)
    return intent


def attempt(
    world: World,
    intent: Json,
    method: Json,
    *,
    off_session: bool,
    no_action: bool = False,
    keep_asking: bool = False,
    authenticated: bool = False,
    return_url: str | None = None,
) -> ApiError | None:
    """Try to pay with a method; the refusal where it is declined, None where it is paid, processing or asks its holder.

    `no_action`: fail where the holder would have to confirm. `keep_asking`: wait for the holder also off session, as
    invoices do. `authenticated`: the holder has just confirmed, on a page of ours. ApiError 400 is raised where it cannot be tried at all.
    """
    if intent["status"] not in CONFIRMABLE:
        raise unexpected_state(intent, "confirm")
    if method["customer"] not in {None, intent["customer"]}:
        raise invalid(
            "The provided PaymentMethod cannot be attached. To reuse a PaymentMethod, you must attach it to a Customer first;"
            " this one belongs to another customer.",
            code="payment_method_invalid_parameter",
            param="payment_method",
        )
    if world.note(method["id"]).get("detached"):
        raise invalid(
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, or was detached"
            " from a Customer, and may not be used again.",
            param="payment_method",
        )
    intent["payment_method"], intent["last_payment_error"], intent["next_action"] = method["id"], None, None
    if not authenticated and _asks_holder(world, method, off_session=off_session):
        if (off_session and not keep_asking) or no_action:
            failure = card_error(
                "Your card was declined. This transaction requires authentication.",
                code="authentication_required",
                decline_code="authentication_required",
            )
            return _declined(world, intent, method, failure, charge=None)
        _ask_holder(world, intent, return_url)
        return None
    return _charge(world, intent, method, authenticated=authenticated)


def authenticate(world: World, intent: Json, *, success: bool) -> ApiError | None:
    """The holder confirmed, or did not, on the page of the intent's next action."""
    if intent["status"] != "requires_action":
        raise unexpected_state(intent, "authenticate")
    method = world.get("payment_method", intent["payment_method"])
    intent["next_action"] = None
    if success:
        return _charge(world, intent, method, authenticated=True)
    failure = invalid(
        "We are unable to authenticate your payment method. Please choose a different payment method and try again.",
        code="payment_intent_authentication_failure",
    )
    return _declined(world, intent, method, failure, charge=None)


def end_processing(world: World, intent: Json) -> ApiError | None:
    """A slow method has an outcome now."""
    if intent["status"] != "processing":
        return None
    method = world.get("payment_method", intent["payment_method"])
    charge = world.get("charge", intent["latest_charge"])
    behaviour = behaviour_of(world, method)
    if behaviour.code is None:
        settle(world, charge)
        _succeeded(world, intent, method)
        return None
    charge["status"], charge["failure_code"] = "failed", behaviour.code
    world.emit("charge.failed", charge)
    failure = invalid(message_of(behaviour), code=behaviour.code)
    return _declined(world, intent, method, failure, charge=charge)


def cancel(world: World, intent: Json, reason: str | None) -> None:
    """End an intent that is not paid."""
    if intent["status"] not in {*CONFIRMABLE, "requires_capture"}:
        raise unexpected_state(intent, "cancel")
    intent["status"], intent["canceled_at"], intent["cancellation_reason"] = "canceled", world.now, reason
    intent["next_action"] = None
    world.emit("payment_intent.canceled", intent)


def unexpected_state(intent: Json, verb: str) -> ApiError:
    """400: the intent is past that."""
    kind = "PaymentIntent" if intent["object"] == "payment_intent" else "SetupIntent"
    code = "payment_intent_unexpected_state" if kind == "PaymentIntent" else "setup_intent_unexpected_state"
    refusal = invalid(
        f"You cannot {verb} this {kind} because it has a status of {intent['status']}.",
        code=code,
    )
    refusal.facts[intent["object"]] = shown(intent)
    return refusal


def is_set_up(world: World, method: Json) -> bool:
    """Whether its holder has confirmed once that it may be charged later."""
    return bool(world.note(method["id"]).get("set_up"))


def set_up(world: World, method: Json) -> None:
    """Its holder has confirmed."""
    world.note(method["id"])["set_up"] = True


def _asks_holder(world: World, method: Json, *, off_session: bool) -> bool:
    needed = behaviour_of(world, method).authentication
    return needed == "always" or (needed == "unless_set_up" and not (off_session and is_set_up(world, method)))


def _ask_holder(world: World, intent: Json, return_url: str | None) -> None:
    intent["status"] = "requires_action"
    world.note(intent["id"])["return_url"] = return_url
    if return_url is None:
        intent["next_action"] = {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    else:
        page = {"return_url": return_url, "url": f"{world.base_url}/authenticate/{intent['id']}"}
        intent["next_action"] = {"type": "redirect_to_url", "redirect_to_url": page}
    world.emit("payment_intent.requires_action", intent)


def _charge(world: World, intent: Json, method: Json, *, authenticated: bool) -> ApiError | None:
    behaviour = behaviour_of(world, method)
    if behaviour.slow:
        make_charge(world, intent, method, status="pending", authenticated=authenticated)
        intent["status"] = "processing"
        world.plan(world.now + _SLOW_S, "payment_intent.settle", intent["id"])
        world.emit("payment_intent.processing", intent)
        return None
    if behaviour.code is not None:
        charge = make_charge(world, intent, method, status="failed", authenticated=authenticated)
        failure = card_error(message_of(behaviour), code=behaviour.code, decline_code=behaviour.decline_code)
        return _declined(world, intent, method, failure, charge=charge)
    charge = make_charge(world, intent, method, status="succeeded", authenticated=authenticated)
    _succeeded(world, intent, method)
    if authenticated:
        set_up(world, method)
    if behaviour.dispute is not None:
        world.plan(world.now, "charge.dispute", charge["id"])
    return None


def _succeeded(world: World, intent: Json, method: Json) -> None:
    intent["status"], intent["amount_received"] = "succeeded", intent["amount"]
    customer = intent["customer"]
    of_kind = part(intent["payment_method_options"], method["type"]).get("setup_future_usage")
    if (of_kind or intent["setup_future_usage"]) and customer is not None and method["customer"] is None:
        attach(world, method, get_customer(world, customer))
        set_up(world, method)
    world.emit("payment_intent.succeeded", intent)


def _declined(world: World, intent: Json, method: Json, failure: ApiError, *, charge: Json | None) -> ApiError:
    intent["status"], intent["payment_method"], intent["processing"] = "requires_payment_method", None, None
    error: Json = {
        **failure.body()["error"],
        "payment_method": method,
        "doc_url": "https://stripe.com/docs/error-codes",
    }
    if charge is not None:
        error["charge"] = charge["id"]
    intent["last_payment_error"] = error
    world.emit("payment_intent.payment_failed", intent)
    failure.facts.update(
        charge=error.get("charge"), doc_url=error["doc_url"], payment_intent=shown(intent), payment_method=method
    )
    return failure
