"""How a Checkout session ends: paid, still processing, expired, or paid late."""

from stripe_double.errors import invalid
from stripe_double.values import Json, part
from stripe_double.world import World


def session_of(world: World, intent: str) -> Json | None:
    """The session that made a payment intent."""
    key = world.note(intent).get("session")
    return world.find(key) if key is not None else None


def complete(world: World, session: Json, payment_status: str) -> None:
    """The customer is through."""
    customer = world.find(session["customer"] or "")
    session["status"], session["payment_status"], session["url"] = "complete", payment_status, None
    known = part(session, "customer_details")
    session["customer_details"] = {
        **dict.fromkeys(
            ("address", "business_name", "email", "individual_name", "name", "phone", "tax_exempt", "tax_ids")
        ),
        **({k: customer[k] for k in ("address", "email", "name", "phone", "tax_exempt")} if customer else {}),
        **{k: v for k, v in known.items() if v is not None},
    }
    world.emit("checkout.session.completed", session)


def session_paid(world: World, session: Json, intent: Json) -> None:
    """A payment that was still processing when the session completed has an outcome."""
    if session["status"] != "complete" or session["payment_status"] != "unpaid":
        return
    if intent["status"] == "succeeded":
        session["payment_status"] = "paid"
        world.emit("checkout.session.async_payment_succeeded", session)
    elif intent["status"] == "requires_payment_method":
        world.emit("checkout.session.async_payment_failed", session)


def expire(world: World, session: Json) -> None:
    """Nobody paid."""
    if session["status"] != "open":
        raise invalid(f'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status'
                      f" of `{session['status']}`.")  # fmt: skip
    session["status"], session["url"], session["expires_at"] = "expired", None, min(session["expires_at"], world.now)
    world.emit("checkout.session.expired", session)
