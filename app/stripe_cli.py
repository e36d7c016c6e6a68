"""The commands of `tollgate stripe`: their words and options; app.stripe_commands does the work."""

import asyncio
import os
import sys

import click

from app.logs import configure_logging
from app.settings import Settings


@click.group()
def stripe() -> None:
    """Stripe's side: what it has told us, and what is sold there. See docs/payments.md."""


@stripe.command()
@click.argument("pattern", required=False)
@click.option("--open", "only_open", is_flag=True, help="Only what is not worked off yet.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many, the last ones.")
def events(pattern: str | None, only_open: bool, limit: int) -> None:
    """Show the inbox. PATTERN picks a kind, an event or an object, with % for anything: 'invoice.%'."""
    from app.stripe_commands import show_events  # noqa: PLC0415 -- commands load what they need only

    sys.exit(asyncio.run(show_events(_settings(), pattern, limit, only_open=only_open)))


@stripe.command()
@click.argument("ids", nargs=-1, required=True)
def replay(ids: tuple[str, ...]) -> None:
    """Work events off once more, by their ids (evt_…) or their objects' (pi_…). Safe: nothing is given twice."""
    from app.stripe_commands import replay_events  # noqa: PLC0415

    sys.exit(asyncio.run(replay_events(_settings(), ids)))


@stripe.command()
def sweep() -> None:
    """Fetch what Stripe's own list of events has and the inbox has not. The worker does this once a day."""
    from app.stripe_commands import sweep_events  # noqa: PLC0415

    sys.exit(asyncio.run(sweep_events(_settings())))


@stripe.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def prices(yes: bool) -> None:
    """Show which prices are missing at Stripe and what is named otherwise there, and make it so, as `catalog apply` does."""
    from app.stripe_commands import make_prices  # noqa: PLC0415

    sys.exit(asyncio.run(make_prices(_settings(), yes=yes)))


def _settings() -> Settings:
    settings = Settings.from_environment(os.environ)
    configure_logging(settings.log_level)
    return settings
