"""The table of the API's endpoints."""

from stripe_double import (
    accounts,
    charges,
    checkout,
    coupons,
    credit_notes,
    customers,
    disputes,
    events,
    invoice_api,
    invoice_payments,
    invoice_preview,
    payment_intent_api,
    payment_methods,
    pending_items,
    portal,
    products,
    refunds,
    schedules,
    setup_intents,
    subscription_api,
    transfers,
    webhook_endpoints,
)
from stripe_double.endpoint import Endpoint
from stripe_double.webhooks import Deliveries

_TABLES = (
    accounts,
    charges,
    checkout,
    coupons,
    credit_notes,
    customers,
    disputes,
    events,
    invoice_api,
    invoice_payments,
    invoice_preview,
    payment_intent_api,
    payment_methods,
    pending_items,
    portal,
    products,
    refunds,
    schedules,
    setup_intents,
    subscription_api,
    transfers,
)


def endpoints(deliveries: Deliveries) -> tuple[Endpoint, ...]:
    """All of them."""
    fixed = tuple(endpoint for table in _TABLES for endpoint in table.ENDPOINTS)
    return (*fixed, *webhook_endpoints.endpoints(deliveries))
