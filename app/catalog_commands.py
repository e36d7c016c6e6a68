"""The verbs of `tollgate catalog`, and the catalog that `tollgate run` applies at its start."""

from pathlib import Path

import click

from app.ports import NoAttempts, stripe_link
from app.settings import Settings
from app.stripe_commands import tell_prices
from billing.catalog import CatalogHolder
from billing.catalog_apply import CatalogChange, PromoCodes, apply, plan_changes
from billing.catalog_check import check
from billing.catalog_file import parse_catalog, read_catalog
from billing.catalog_move import move_subscriptions
from billing.catalog_terms import CatalogFile
from billing.catalog_text import render_catalog, render_change, render_check
from billing.errors import CatalogErrors, CatalogMissing, CatalogRefused
from billing.margin_text import render_margins
from billing.payment_port import NoPayments
from billing.rules.margins import CostsError, margins_of, read_costs
from billing.services import Billing
from kit.clock import now
from metering.ledger import Ledger
from models.database import Database, connection
from models.enums import GrantKind


def check_file(path: Path) -> int:
    """Print what is wrong with a catalog file; 1 when it could not be applied."""
    file = _read(path)
    if file is None:
        return 1
    findings = check(file)
    click.echo(render_check(file, findings))
    return 1 if any(finding.is_error for finding in findings) else 0


def show_file(path: Path) -> int:
    """Print a catalog file as tables."""
    file = _read(path)
    if file is None:
        return 1
    click.echo(render_catalog(file))
    return 0


def show_margins(path: Path, costs: Path | None) -> int:
    """Print what is left of each model's price on each plan; 1 where the file cannot be read or something loses money."""
    file = _read(path)
    if file is None:
        return 1
    known = {(cost.slug, cost.meter, cost.when): cost for cost in file.settings.costs}
    if costs is not None:
        try:
            given = read_costs(costs.read_text(encoding="utf-8-sig"))
        except (CostsError, OSError, UnicodeDecodeError) as problem:
            raise click.BadParameter(f"{costs}: {problem}", param_hint="--costs") from problem
        unknown = sorted({cost.slug for cost in given} - file.models.keys())
        if unknown:
            click.echo(f"not in the catalog: {', '.join(unknown)}", err=True)
        known |= {(cost.slug, cost.meter, cost.when): cost for cost in given}
    margins = margins_of(file, list(known.values()))
    click.echo(render_margins(file, margins), nl=False)
    return 1 if any(margin.is_loss for margin in margins) else 0


async def show_sold(database_url: str) -> int:
    """Print the catalog in force as tables."""
    database = await Database.open(database_url)
    try:
        async with connection(database) as conn:
            row = await conn.fetchrow("SELECT name, source FROM catalog_versions ORDER BY number DESC LIMIT 1")
        if row is None:
            raise click.ClickException(str(CatalogMissing()))
        click.echo(render_catalog(parse_catalog(row["source"], row["name"])))
        return 0
    finally:
        await database.close()


async def apply_file(settings: Settings, path: Path, *, yes: bool, dry_run: bool, move: bool = False) -> int:
    """Show the difference, ask, and apply; 1 when the file is wrong or would strand a subscriber.

    `move`: running subscriptions of the same price have the new terms at once, also those that an earlier file left behind.
    """
    assert settings.database_url is not None, "checked by the command"
    file = _read(path)
    if file is None:
        return 1
    database = await Database.open(settings.database_url.reveal())
    try:
        change = await plan_changes(database, file, promo_codes=_promo_codes(settings))
        click.echo(render_change(change))
        if change.refusals:
            return 1
        if dry_run:
            return 0 if change.changed else await _tell_stripe(settings, database, yes=yes, dry_run=True)
        if not (change.changed or move):  # an earlier run may have been interrupted before it had told Stripe
            return await _tell_stripe(settings, database, yes=yes)
        question = "Apply this, and move running subscriptions onto it now?" if move else "Apply this?"
        if not yes and not click.confirm(question):
            return 1
        await _apply(database, file, settings)
        if change.changed:
            click.echo("applied; every process takes it up within seconds")
        if move:
            click.echo(f"{await _move(database)} running subscriptions have the new terms now")
        return await _tell_stripe(settings, database, yes=yes)
    except (CatalogErrors, CatalogRefused) as error:
        click.echo(str(error), err=True)
        return 1
    finally:
        await database.close()


async def apply_at_start(settings: Settings) -> None:
    """For `tollgate run`: the catalog of TOLLGATE_CATALOG, applied without asking; the command ends where it cannot be."""
    assert settings.database_url is not None, "set by the embedded servers or the environment"
    file = _read(settings.catalog)
    if file is None:
        raise click.ClickException("the catalog cannot be used; see above")
    database = await Database.open(settings.database_url.reveal())
    try:
        change = await _apply(database, file, settings)
        if change.changed:
            click.echo(f"applied the catalog {settings.catalog}", err=True)
    except (CatalogErrors, CatalogRefused) as error:
        raise click.ClickException(str(error)) from error
    finally:
        await database.close()


async def _tell_stripe(settings: Settings, database: Database, *, yes: bool, dry_run: bool = False) -> int:
    """Where Stripe is connected, what is sold is made there too; what is not is made when it is first bought."""
    link = stripe_link(settings, database, CatalogHolder(database))
    if link is None:
        return 0
    try:
        return await tell_prices(link, yes=yes, dry_run=dry_run)
    finally:
        await link.stripe.aclose()


async def _move(database: Database) -> int:
    catalog = CatalogHolder(database)
    snapshot = await catalog.reload()
    ledger = await Ledger.open(database, earnings_rank=snapshot.burn_ranks[GrantKind.EARNINGS])
    try:
        return await move_subscriptions(Billing(database, ledger, catalog, NoPayments(), NoAttempts(), b""))
    finally:
        await ledger.close()


async def _apply(database: Database, file: CatalogFile, settings: Settings) -> CatalogChange:
    return await apply(database, file, now=now(), promo_codes=_promo_codes(settings))


def _promo_codes(settings: Settings) -> PromoCodes:
    secret = b"" if settings.secret_key is None else settings.secret_key.reveal().encode()
    return PromoCodes(secret, settings.environment_texts())


def _read(path: Path) -> CatalogFile | None:
    try:
        return read_catalog(path)
    except CatalogErrors as error:
        click.echo("\n".join(error.problems), err=True)
        return None
