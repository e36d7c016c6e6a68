"""Entitlements and model access, and the form in which a plan's row keeps them."""

from dataclasses import fields

import orjson

from billing.rules.entitlements import Entitlements, ModelAccess, access_of, entitlements_json, entitlements_of
from billing.rules.promo_code import MAX_CODE_LENGTH, code_digest, normal_code

FULL = Entitlements(
    requests_per_hour=1,
    support_level="PRIORITY",
    api_access=True,
    team_management=True,
    credit_packs=True,
    monetization=True,
    chained_models=True,
    branding=True,
    compute_discount_percent=2,
    storage_bytes=0,
    asset_retention_days=3,
    request_burst=4,
    concurrent_calls=5,
    members_limit=6,
    api_keys_limit=0,
    published_models_limit=7,
)


def test_every_entitlement_survives_the_way_through_a_row():
    plain = Entitlements(requests_per_hour=1, support_level="")
    assert [item.name for item in fields(FULL) if getattr(FULL, item.name) == getattr(plain, item.name)] == [
        "requests_per_hour"
    ]
    access = ModelAccess(("*", "IMAGE:basic"), (("*", 1), ("chat", 2)))
    row = orjson.loads(orjson.dumps(entitlements_json(FULL, access)))
    assert (entitlements_of(row), access_of(row)) == (FULL, access)


def test_a_row_of_an_older_release_has_the_defaults():
    row = {"requests_per_hour": 9, "support_level": "X"}
    assert entitlements_of(row) == Entitlements(requests_per_hour=9, support_level="X")
    assert access_of(row) == ModelAccess(())


def test_the_most_specific_discount_counts():
    access = ModelAccess(("*",), (("*", 1), ("IMAGE", 2), ("IMAGE:basic", 3), ("dall-e-3", 4)))
    assert access.discount_percent("chat", "TEXT", "standard") == 1
    assert access.discount_percent("other", "IMAGE", "standard") == 2
    assert access.discount_percent("other", "IMAGE", "basic") == 3
    assert access.discount_percent("dall-e-3", "IMAGE", "basic") == 4


def test_a_promo_code_is_compared_without_case_blanks_and_dashes():
    assert normal_code(" hello-2030 \t") == normal_code("HELLO2030") == "HELLO2030"
    assert normal_code("x" * (MAX_CODE_LENGTH + 1)) == ""
    assert code_digest("a", b"1") != code_digest("a", b"2")
