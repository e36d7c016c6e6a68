"""Reads a catalog file: TOML to terms, or every reason why not."""

import hashlib
import re
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Final

from billing.catalog_models import read_models, read_providers
from billing.catalog_offers import (
    read_auto_recharge,
    read_burn_order,
    read_promos,
    read_publishing,
    read_retired,
    read_sign_up,
    read_top_up,
    read_transfers,
)
from billing.catalog_plans import read_packs, read_plans
from billing.catalog_reader import MAX_PROBLEMS, Findings, Section
from billing.catalog_settings import CatalogSettings
from billing.catalog_terms import CatalogFile
from billing.errors import CatalogErrors

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_CREDITS_PER_USD_MICRO: Final = 10**18
"""A trillion credits to the dollar: with it a bigint still holds the credits of nine million dollars."""

_TOML_PLACE: Final = re.compile(r"^(.*) \(at line (\d+), column (\d+)\)$", re.DOTALL)


def read_catalog(path: Path, shown_name: str | None = None) -> CatalogFile:
    """The catalog in a file; CatalogErrors where it cannot be read or is not well formed."""
    file_name = shown_name or str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CatalogErrors([f"{file_name}: cannot be read: {error.strerror or error}"]) from error
    if len(content) > MAX_FILE_BYTES:
        raise CatalogErrors([f"{file_name}: is larger than {MAX_FILE_BYTES // 1024 // 1024} MB"])
    try:
        source = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CatalogErrors([f"{file_name}: line {line}: this is not UTF-8 text"]) from error
    return parse_catalog(source, file_name)


def parse_catalog(source: str, file_name: str) -> CatalogFile:
    """The catalog in a text; CatalogErrors with all that is wrong with it, each with its path."""
    return catalog_of(_toml(source, file_name), source, file_name)


def catalog_of(values: dict[str, object], source: str, file_name: str) -> CatalogFile:
    """The catalog in parsed TOML; CatalogErrors with all that is wrong with it."""
    findings = Findings(file_name)
    catalog = read_terms(values, source, findings)
    if findings.dropped:
        findings.problems.append(f"{file_name}: and {findings.dropped} more, past the first {MAX_PROBLEMS}")
    if findings.problems:
        raise CatalogErrors(findings.problems)
    return catalog


def read_terms(values: dict[str, object], source: str, findings: Findings) -> CatalogFile:
    """The catalog as far as it can be read, with what is wrong noted in `findings`; to be used when nothing is."""
    top = Section(values, "", "", findings)
    credits_per_usd = _credits_per_usd(top)
    promos = read_promos(top)
    retired_plans, retired_prices = read_retired(top)
    models, costs = read_models(top, credits_per_usd)
    catalog = CatalogFile(
        file_name=findings.file_name,
        source=source,
        digest=hashlib.sha256(source.encode()).hexdigest(),
        name=top.text("name", longest=100),
        credits_per_usd=credits_per_usd,
        default_plan=top.text("default_plan", longest=64),
        plans=read_plans(top),
        packs=read_packs(top),
        models=models,
        promos=promos,
        settings=CatalogSettings(
            burn_order=read_burn_order(top),
            providers=read_providers(top),
            top_up=read_top_up(top),
            auto_recharge=read_auto_recharge(top),
            transfers=read_transfers(top),
            publishing=read_publishing(top),
            sign_up=read_sign_up(top),
            retired_plans=retired_plans,
            retired_prices=retired_prices,
            promo_names=tuple(promos),
            costs=costs,
        ),
    )
    top.finish()
    return catalog


def _credits_per_usd(top: Section) -> Decimal:
    micro = top.amount("credits_per_usd")
    if micro > MAX_CREDITS_PER_USD_MICRO:
        top.add("credits_per_usd", "at most 1000000000000 credits to the dollar")
        micro = 1_000_000
    return Decimal(max(micro, 1)).scaleb(-6)


def _toml(source: str, file_name: str) -> dict[str, object]:
    try:
        return tomllib.loads(source)
    except RecursionError as error:
        raise CatalogErrors([f"{file_name}: its lists and tables are nested too deeply"]) from error
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python takes
        place = _TOML_PLACE.match(str(error))
        if place:
            message, line, column = place.groups()
            raise CatalogErrors([f"{file_name}: line {line}, column {column}: {message}"]) from error
        at_end = str(error).removesuffix(" (at end of document)")
        if at_end != str(error):
            raise CatalogErrors([f"{file_name}: line {source.count(chr(10)) + 1}: {at_end} (the file ends)"]) from error
        raise CatalogErrors([f"{file_name}: this is not TOML: {error}"]) from error
