"""Products and prices."""

from decimal import Decimal

from stripe_double.endpoint import PAGE, Call, Endpoint, copied, matching, page
from stripe_double.errors import invalid
from stripe_double.offered import only_offered
from stripe_double.values import LIVEMODE, Json, part
from stripe_double.world import World

_PRODUCT_SIMPLE = (
    "name",
    "active",
    "description",
    "images",
    "marketing_features",
    "shippable",
    "statement_descriptor",
    "tax_code",
    "unit_label",
    "url",
    "package_dimensions",
)

_PRICE = (
    "currency",
    "product",
    "product_data",
    "unit_amount",
    "unit_amount_decimal",
    "recurring",
    "active",
    "lookup_key",
    "transfer_lookup_key",
    "metadata",
    "nickname",
    "tax_behavior",
)


def make_product(world: World, params: Json) -> Json:
    """A new product."""
    key = params.get("id") or world.new_id("prod")
    if world.find(key) is not None:
        raise invalid(f"Product already exists: {key}", code="resource_already_exists", param="id")
    product: Json = {
        "id": key,
        "object": "product",
        "active": True,
        "created": world.now,
        "default_price": None,
        "description": None,
        "images": [],
        "livemode": LIVEMODE,
        "marketing_features": [],
        "metadata": {},
        "name": params["name"],
        "package_dimensions": None,
        "shippable": None,
        "statement_descriptor": None,
        "tax_code": None,
        "type": "service",
        "unit_label": None,
        "updated": world.now,
        "url": None,
    }
    copied(product, params, *_PRODUCT_SIMPLE)
    world.add(product)
    world.emit("product.created", product)
    return product


def make_price(world: World, params: Json) -> Json:
    """A new price; also for price_data within other requests, where `product_data` stands for a product."""
    if "product" in params:
        product = world.get("product", params["product"], param="product")
    elif "product_data" in params:
        product = make_product(world, params["product_data"])
    else:
        raise invalid("You must specify either `product` or `product_data`.", code="parameter_missing", param="product")
    amount = _unit_amount(params)
    recurring = _recurring(params.get("recurring"))
    price: Json = {
        "id": world.new_id("price"),
        "object": "price",
        "active": params.get("active", True),
        "billing_scheme": "per_unit",
        "created": world.now,
        "currency": params["currency"].lower(),
        "custom_unit_amount": None,
        "livemode": LIVEMODE,
        "lookup_key": None,
        "metadata": part(params, "metadata"),
        "nickname": params.get("nickname"),
        "product": product["id"],
        "recurring": recurring,
        "tax_behavior": params.get("tax_behavior", "unspecified"),
        "tiers_mode": None,
        "transform_quantity": None,
        "type": "recurring" if recurring else "one_time",
        "unit_amount": amount,
        "unit_amount_decimal": str(amount),
    }
    _take_lookup_key(world, price, params)
    world.add(price)
    world.emit("price.created", price)
    return price


def get_price(world: World, key: str, *, param: str) -> Json:
    """A price that can be sold: it and its product are active."""
    price = world.get("price", key, param=param)
    if not price["active"]:
        raise invalid(f"The price specified is inactive. This field only accepts active prices. ({key})", param=param)
    return price


def price_given(world: World, wanted: Json, *, where: str) -> Json | None:
    """The price of an item of a request, made on the spot where the item describes one; None where it names none."""
    if "price" in wanted:
        return get_price(world, wanted["price"], param=f"{where}[price]")
    return make_price(world, wanted["price_data"]) if "price_data" in wanted else None


def require_recurring(price: Json, *, where: str) -> None:
    """ApiError 400 for a price that is paid once, as an item of a subscription."""
    if price["type"] != "recurring":
        raise invalid("The price specified is set to `type=one_time` but this field only accepts prices with"
                      " `type=recurring`.", param=f"{where}[price]")  # fmt: skip


def product_name(world: World, price: Json) -> str:
    """What the customer calls it."""
    name: str = world.get("product", price["product"])["name"]
    return name


def plan_of(price: Json) -> Json:
    """The old form of a recurring price, which subscription items still carry."""
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"],
        "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"],
        "livemode": LIVEMODE,
        "metadata": price["metadata"],
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def _unit_amount(params: Json) -> int:
    if "unit_amount" in params:
        amount: int = params["unit_amount"]
    elif "unit_amount_decimal" in params:
        exact: Decimal = params["unit_amount_decimal"]
        if exact != exact.to_integral_value():
            raise invalid("This double keeps whole cents.", param="unit_amount_decimal")
        amount = int(exact)
    else:
        raise invalid("Missing required param: unit_amount.", code="parameter_missing", param="unit_amount")
    if amount < 0:
        raise invalid("Invalid non-negative integer", code="parameter_invalid_integer", param="unit_amount")
    return amount


def _recurring(wanted: Json | None) -> Json | None:
    if not wanted:
        return None
    only_offered(wanted, "interval", "interval_count", where="recurring")
    return {
        "interval": wanted["interval"],
        "interval_count": wanted.get("interval_count", 1),
        "meter": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def _take_lookup_key(world: World, price: Json, params: Json) -> None:
    if "lookup_key" not in params:
        return
    wanted = params["lookup_key"] or None
    for other in world.all("price"):
        if wanted is not None and other["lookup_key"] == wanted and other is not price:
            if not params.get("transfer_lookup_key"):
                raise invalid(
                    f"A price (`{other['id']}`) already uses that lookup key. You may use `transfer_lookup_key=true`"
                    " to move the key to a different price.",
                    param="lookup_key",
                )
            with world.changing(other, "price.updated"):
                other["lookup_key"] = None
    price["lookup_key"] = wanted


def _create_product(call: Call) -> Json:
    product = make_product(call.world, call.params)
    if "default_price_data" in call.params:
        price = make_price(call.world, {**call.params["default_price_data"], "product": product["id"]})
        product["default_price"] = price["id"]
    return product


def _update_product(call: Call) -> Json:
    product = call.world.get("product", call.id)
    with call.world.changing(product, "product.updated"):
        copied(product, call.params, *_PRODUCT_SIMPLE, "default_price")
        product["images"] = product["images"] or []
        product["marketing_features"] = product["marketing_features"] or []
    return product


def _list_products(call: Call) -> Json:
    products = matching(call.world.all("product"), call.params, "active", "url")
    if "ids" in call.params:
        products = [p for p in products if p["id"] in call.params["ids"]]
    return page(call, products)


def _delete_product(call: Call) -> Json:
    product = call.world.get("product", call.id)
    if any(p["product"] == call.id for p in call.world.all("price")):
        raise invalid("This product cannot be deleted because it has one or more user-created prices.")
    call.world.forget(call.id)
    call.world.emit("product.deleted", product)
    return {"id": call.id, "object": "product", "deleted": True}


def _create_price(call: Call) -> Json:
    return make_price(call.world, call.params)


def _update_price(call: Call) -> Json:
    price = call.world.get("price", call.id)
    with call.world.changing(price, "price.updated"):
        _take_lookup_key(call.world, price, call.params)
        copied(price, call.params, "active", "nickname", "tax_behavior")
    return price


def _list_prices(call: Call) -> Json:
    prices = matching(call.world.all("price"), call.params, "active", "currency", "product", "type")
    if "lookup_keys" in call.params:
        prices = [p for p in prices if p["lookup_key"] in call.params["lookup_keys"]]
    return page(call, prices)


ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/products",
        "ProductCreateParams",
        _create_product,
        (*_PRODUCT_SIMPLE, "id", "metadata", "default_price_data"),
    ),
    Endpoint("GET", "/v1/products", "ProductListParams", _list_products, (*PAGE, "active", "url", "ids")),
    Endpoint("GET", "/v1/products/{id}", "ProductRetrieveParams", lambda call: call.world.get("product", call.id), ()),
    Endpoint(
        "POST",
        "/v1/products/{id}",
        "ProductUpdateParams",
        _update_product,
        (*_PRODUCT_SIMPLE, "metadata", "default_price"),
    ),
    Endpoint("DELETE", "/v1/products/{id}", "ProductDeleteParams", _delete_product, ()),
    Endpoint("POST", "/v1/prices", "PriceCreateParams", _create_price, _PRICE),
    Endpoint(
        "GET",
        "/v1/prices",
        "PriceListParams",
        _list_prices,
        (*PAGE, "active", "currency", "product", "type", "lookup_keys"),
    ),
    Endpoint("GET", "/v1/prices/{id}", "PriceRetrieveParams", lambda call: call.world.get("price", call.id), ()),
    Endpoint(
        "POST",
        "/v1/prices/{id}",
        "PriceUpdateParams",
        _update_price,
        ("active", "nickname", "tax_behavior", "metadata", "lookup_key", "transfer_lookup_key"),
    ),
)
