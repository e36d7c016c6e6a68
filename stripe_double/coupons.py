"""Coupons, and the discounts that they give the renewals of a subscription."""

from stripe_double.endpoint import PAGE, Call, Endpoint, page
from stripe_double.errors import invalid
from stripe_double.values import LIVEMODE, Json
from stripe_double.world import World

_WHOLE = 100
_SHOWN = ("amount_off", "currency", "duration_in_months", "max_redemptions", "redeem_by")


def _create(call: Call) -> Json:
    world, params = call.world, call.params
    if (params.get("percent_off"), params.get("duration", "once")) != (_WHOLE, "forever"):
        raise invalid("The double's coupons are of 100 %, for ever.", code="double_not_offered", param="percent_off")
    coupon: Json = {
        "id": params.get("id") or world.new_id("co"),
        "object": "coupon",
        **dict.fromkeys(_SHOWN),
        "created": world.now,
        "duration": "forever",
        "livemode": LIVEMODE,
        "metadata": params.get("metadata", {}),
        "name": params.get("name"),
        "percent_off": float(_WHOLE),
        "times_redeemed": 0,
        "valid": True,
    }
    world.add(coupon)
    world.emit("coupon.created", coupon)
    return coupon


def redeem(world: World, subscription: Json, wanted: list[Json] | str) -> None:
    """The subscription's discounts are these from now on; an empty text takes all away."""
    given = [] if isinstance(wanted, str) else wanted
    if any(one.keys() != {"coupon"} for one in given):
        raise invalid("The double takes coupons only.", code="double_not_offered", param="discounts")
    subscription["discounts"] = [_discount(world, subscription, one["coupon"]) for one in given]


def _discount(world: World, subscription: Json, key: str) -> str:
    coupon = world.get("coupon", key, param="discounts[0][coupon]")
    coupon["times_redeemed"] += 1
    empty = ("checkout_session", "customer_account", "end", "invoice", "invoice_item", "promotion_code")
    made = world.add(
        {
            "id": world.new_id("di"),
            "object": "discount",
            **dict.fromkeys(empty),
            "customer": subscription["customer"],
            "source": {"type": "coupon", "coupon": coupon["id"]},
            "start": world.now,
            "subscription": subscription["id"],
            "subscription_item": None,
        }
    )
    return str(made["id"])


def take_off(invoice: Json, discounts: list[str]) -> None:
    """Each line that can be discounted costs nothing: every coupon here is of 100 %, and the first takes it all."""
    if not discounts:
        return
    invoice["discounts"] = list(discounts)
    for line in invoice["lines"]["data"]:
        if line["discountable"] and line["amount"] > 0:
            line["discounts"] = list(discounts)
            line["discount_amounts"] = [{"amount": line["amount"], "discount": discounts[0]}]
    off = sum(taken["amount"] for line in invoice["lines"]["data"] for taken in line["discount_amounts"])
    invoice["total_discount_amounts"] = [{"amount": off, "discount": discounts[0]}]


ENDPOINTS = (
    Endpoint("POST", "/v1/coupons", "CouponCreateParams", _create, ("id", "percent_off", "duration", "name", "metadata")),
    Endpoint("GET", "/v1/coupons", "CouponListParams", lambda call: page(call, call.world.all("coupon")), PAGE),
    Endpoint(
        "GET", "/v1/coupons/{id}", "CouponRetrieveParams", lambda call: call.world.get("coupon", call.id), ()
    ),
)  # fmt: skip
