"""docs/catalog.md explains every key that the reader asks for, and no other; the chains of docs/chains.md can be read."""

import re
import tomllib

from billing.catalog_check import check, errors_of
from billing.catalog_file import parse_catalog, read_terms
from billing.catalog_reader import Findings
from tests.billing.catalog_samples import ROOT, SHIPPED, small

HEADINGS = {
    "": "Top level",
    "plans.<code>": "[plans.<code>]",
    "plans.<code>.entitlements": "[plans.<code>.entitlements]",
    "plans.<code>.prices[]": "[[plans.<code>.prices]]",
    "plans.<code>.prices[].credits": "[plans.<code>.prices.credits]",
    "packs.<code>": "[packs.<code>]",
    "providers.<name>": "[providers.<name>]",
    "providers.<name>.prediction": "[providers.<name>.prediction]",
    "models.<slug>": "[models.<slug>]",
    "models.<slug>.routes[]": "[[models.<slug>.routes]]",
    "models.<slug>.prices[]": "[[models.<slug>.prices]]",
    "top_up": "[top_up]",
    "top_up.bonus[]": "[[top_up.bonus]]",
    "auto_recharge": "[auto_recharge]",
    "transfers": "[transfers]",
    "publishing": "[publishing]",
    "promo.<name>": "[promo.<name>]",
    "sign_up": "[sign_up]",
    "retired": "[retired]",
    "retired.plans.<code>": "[retired.plans.<code>]",
    "retired.prices.<plan.price>": "[retired.prices.<plan.price>]",
}


def asked_keys() -> dict[str, set[str]]:
    findings = Findings("f")
    rest = small() | {
        "sign_up": {"credits": "1"},
        "retired": {"plans": {"a": {"renewal": "KEEP"}}, "prices": {"a.b": {"renewal": "END"}}},
    }
    read_terms(rest, "", findings)
    for name in SHIPPED:
        read_terms(tomllib.loads((ROOT / "catalogs" / f"{name}.toml").read_text()), "", findings)
    assert findings.problems == []
    return findings.asked


def documented_keys() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    heading = ""
    for line in (ROOT / "docs" / "catalog.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:].strip("`")
        elif key := re.match(r"\| `([a-z0-9_]+)` \|", line):
            found.setdefault(heading, set()).add(key[1])
    return found


def test_every_key_is_documented_under_its_table_and_nothing_else_is():
    assert {HEADINGS[shape]: keys for shape, keys in asked_keys().items()} == documented_keys()


def test_the_chains_shown_are_one_of_a_catalog_that_ships_and_one_that_could_stand_in_it():
    page = (ROOT / "docs" / "chains.md").read_text()
    shipped = (ROOT / "catalogs" / "usd-balance.toml").read_text()
    quoted, other = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert quoted in shipped
    catalog = parse_catalog(f"{shipped}\n{other}", "chains.md")
    assert catalog.models["careful"].chain is not None
    assert errors_of(catalog, check(catalog)) == ()
