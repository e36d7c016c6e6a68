"""Catalog texts for the tests: a small good one, and the four that ship."""

import tomllib
from copy import deepcopy
from pathlib import Path

from billing.catalog_file import catalog_of, parse_catalog, read_catalog
from billing.catalog_terms import CatalogFile

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("creator-tiers", "pay-as-you-go", "team-workspaces", "usd-balance")

SMALL = """
name = "Small"
credits_per_usd = "100"
default_plan = "free"

[plans.free]
name = "Free"
rank = 0
models = ["TEXT"]
[plans.free.entitlements]
requests_per_hour = 100
support_level = "COMMUNITY"
[[plans.free.prices]]
code = "free"
amount = "0"
period = "FREE"
credits = { amount = "5", cadence = "MONTH" }

[plans.pro]
name = "Pro"
rank = 10
models = ["*"]
discounts = { "IMAGE" = 10 }
[plans.pro.entitlements]
requests_per_hour = 1000
compute_discount_percent = 10
credit_packs = true
api_access = true
support_level = "STANDARD"
[[plans.pro.prices]]
code = "monthly"
amount = "20"
period = "MONTH"
credits = { amount = "500", cadence = "BILLING_PERIOD", rollover = true, rollover_cap = "1000" }
[[plans.pro.prices]]
code = "yearly"
amount = "200"
period = "YEAR"

[packs.small]
name = "Small pack"
credits = "100"
price = "1.50"
expires_after_months = 12

[top_up]
min = "5"
max = "500"
bonus = [{ from = "100", percent = 5 }]

[providers.sandbox]
kind = "sandbox"

[models.chat]
name = "Chat"
modality = "TEXT"
context_tokens = 1000
max_output_tokens = 100
routes = [{ provider = "sandbox", upstream_model = "chat" }]
prices = [
    { meter = "INPUT_TOKENS", credits = "1", per = 1000 },
    { meter = "OUTPUT_TOKENS", usd = "0.02", per = 1000 },
]

[models.image]
name = "Image"
modality = "IMAGE"
max_images = 4
routes = [{ provider = "sandbox", upstream_model = "image" }]
prices = [{ meter = "IMAGES", credits = "2" }]

[promo.welcome]
code_env = "WELCOME_CODE"
credits = "3"
total_limit = 10
"""


def small() -> dict:
    return deepcopy(tomllib.loads(SMALL))


def file_of(values: dict) -> CatalogFile:
    """The catalog of changed values; its source says what they are, so that another content has another digest."""
    return catalog_of(values, repr(values), "catalogs/small.toml")


def shipped(name: str) -> CatalogFile:
    return read_catalog(ROOT / "catalogs" / f"{name}.toml", f"catalogs/{name}.toml")


def small_file() -> CatalogFile:
    return parse_catalog(SMALL, "catalogs/small.toml")
