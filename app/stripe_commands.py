"""The work of `tollgate stripe`: the inbox shown, replayed and swept; the catalog's products and prices made."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import click

from app.ports import stripe_link
from app.settings import Settings
from billing.catalog import CatalogHolder
from billing.stripe_client import StripeAway, StripeRefused
from billing.stripe_inbox import InboxLine, list_inbox, replay, sweep
from billing.stripe_link import StripeLink
from billing.stripe_prices import PriceLine, difference, tell_catalog
from billing.stripe_tell import renewals_changed
from models.database import Database


async def show_events(settings: Settings, pattern: str | None, limit: int, *, only_open: bool) -> int:
    """Print the inbox, the newest last."""
    async with _database(settings) as database:
        lines = await list_inbox(database, pattern, limit, only_open=only_open)
    for line in reversed(lines):
        click.echo(_line(line))
    click.echo(f"{len(lines)} events" if lines else "no such events")
    return 0


async def replay_events(settings: Settings, ids: tuple[str, ...]) -> int:
    """Have events worked off once more by the worker; 1 where none is known."""
    async with _database(settings) as database:
        count = await replay(database, ids)
    click.echo(f"{count} events wait for the worker again" if count else "none of these ids is in the inbox")
    return 0 if count else 1


async def sweep_events(settings: Settings) -> int:
    """Fetch what Stripe's list of events has and the inbox has not."""
    async with _link(settings) as link:
        missing = await sweep(link, force=True)
    click.echo(f"{missing} events were missing and wait for the worker now")
    return 0


async def make_prices(settings: Settings, *, yes: bool) -> int:
    """Show what is missing at Stripe, ask, and make it."""
    async with _link(settings) as link:
        return await tell_prices(link, yes=yes)


async def tell_prices(link: StripeLink, *, yes: bool, dry_run: bool = False) -> int:
    """As `make_prices`, for an account that is open; with `dry_run` shown alone."""
    try:
        lines = await difference(link)
        click.echo(render_lines(lines))
        if dry_run:
            return 0
        if any(line.sign != " " for line in lines) and not yes and not click.confirm("Make these at Stripe?"):
            return 1
        made = await tell_catalog(link)
    except (StripeAway, StripeRefused) as error:
        raise click.ClickException(f"Stripe: {error}; run `tollgate stripe prices` again") from error
    await renewals_changed(link)
    click.echo(f"{len(made)} made at Stripe" if made else "Stripe has all that is sold")
    return 0


def render_lines(lines: list[PriceLine]) -> str:
    """One line for each product's price and for what is told otherwise: + for what would be made, ~ for what changed."""
    return "\n".join(f"{line.sign} {line.text}" for line in lines) or "nothing is sold for money"


@asynccontextmanager
async def _database(settings: Settings) -> AsyncGenerator[Database]:
    if settings.database_url is None:
        raise click.ClickException("TOLLGATE_DATABASE_URL is not set")
    database = await Database.open(settings.database_url.reveal(), max_size=2)
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _link(settings: Settings) -> AsyncGenerator[StripeLink]:
    async with _database(settings) as database:
        catalog = CatalogHolder(database)
        await catalog.reload()
        link = stripe_link(settings, database, catalog)
        if link is None:
            raise click.ClickException("STRIPE_API_KEY is not set")
        try:
            yield link
        except StripeAway as away:
            raise click.ClickException(f"Stripe does not answer: {away.problem}") from away
        finally:
            await link.stripe.aclose()


def _line(line: InboxLine) -> str:
    state = "done" if line.completed_at is not None else f"due {line.due_at:%Y-%m-%d %H:%M}"
    error = "" if line.last_error is None else f"  {line.last_error}"
    return (
        f"{line.received_at:%Y-%m-%d %H:%M:%S}  {line.event_id}  {line.kind}  {line.object_id or '-'}"
        f"  {state}, {line.attempts} tries{error}"
    )
