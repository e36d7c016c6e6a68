"""The command line: `tollgate run`, `serve`, `worker`, `migrate`, `catalog`, `simulate`, `reconcile`, `admin`, `settings`."""

import asyncio
import os
import sys
from pathlib import Path

import click

from app.admin_cli import admin
from app.child import EmbeddedError
from app.collector import loading
from app.logs import configure_logging
from app.setting_values import SettingsError
from app.settings import Settings
from app.stripe_cli import stripe
from app.variables import VARIABLES
from kit.errors import Refusal, RequestFailure
from kit.ids import UnknownIdError, decode_id


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Tollgate: a GraphQL API gateway with usage metering for AI model calls.

    Settings come from the environment; `tollgate settings` lists them.
    """


@cli.command()
@click.option("--host", help="The address to listen on (TOLLGATE_HOST).")
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on (TOLLGATE_PORT).")
@click.option(
    "--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Where data lives (TOLLGATE_DATA_DIR)."
)
@click.option(
    "--catalog", type=click.Path(path_type=Path, exists=True), help="The catalog to apply (TOLLGATE_CATALOG)."
)
@click.option(
    "--stripe-double",
    is_flag=True,
    help="Take payments with a local double of Stripe: plans, cards and top-ups to try, no money moves.",
)
def run(host: str | None, port: int | None, data_dir: Path | None, catalog: Path | None, stripe_double: bool) -> None:
    """Everything in one process: gateway, worker, embedded PostgreSQL and Valkey, and a demo workspace.

    Servers named by TOLLGATE_DATABASE_URL and TOLLGATE_REDIS_URL are used instead of embedded ones. Data survives a
    restart. Ctrl-C stops everything in good order.
    """
    with loading():
        from app.run import run_everything  # noqa: PLC0415 -- commands load what they need only

    settings = _settings(TOLLGATE_HOST=host, TOLLGATE_PORT=port, TOLLGATE_DATA_DIR=data_dir, TOLLGATE_CATALOG=catalog)
    if stripe_double and settings.stripe_api_key is not None:
        raise click.ClickException("STRIPE_API_KEY names a real account; unset it to use --stripe-double")
    asyncio.run(run_everything(settings, stripe_double=stripe_double))


@cli.command()
def serve() -> None:
    """The gateway alone, for production: needs TOLLGATE_DATABASE_URL, TOLLGATE_REDIS_URL and TOLLGATE_SECRET_KEY."""
    with loading():
        from app.run import serve_gateway  # noqa: PLC0415

    settings = _settings()
    settings.check_complete()
    serve_gateway(settings)


@cli.command()
@click.option("--once", is_flag=True, help="Do what is due and stop, for cron; exit code 1 when a task failed.")
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve /metrics, /healthz and /readyz of this process at this port of TOLLGATE_HOST.",
)
def worker(once: bool, metrics_port: int | None) -> None:
    """Work that is due: lapsed holds, expired credits, mail. Any number of workers may run."""
    with loading():
        from app.run import run_worker  # noqa: PLC0415

    settings = _settings()
    settings.check_complete()
    asyncio.run(run_worker(settings, once=once, metrics_port=metrics_port))


@cli.command()
def migrate() -> None:
    """Bring the database's tables up to date; safe to run from several machines at once."""
    from models.migrate import migrate as migrate_database  # noqa: PLC0415

    settings = _settings()
    if settings.database_url is None:
        raise click.ClickException("TOLLGATE_DATABASE_URL is not set")
    applied = asyncio.run(migrate_database(settings.database_url.reveal()))
    click.echo("\n".join(f"applied {name}" for name in applied) or "nothing to apply: the database is up to date")


@cli.group()
def catalog() -> None:
    """Plans, prices, packs and models: check a catalog file, apply it, show it."""


@catalog.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Say what is wrong with a catalog file; exit code 1 when something is."""
    from app.catalog_commands import check_file  # noqa: PLC0415

    sys.exit(check_file(file))


@catalog.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show the difference and stop.")
@click.option(
    "--move",
    is_flag=True,
    help="Running subscriptions that pay the same for the same period have the new terms at once, not at their renewal.",
)
def apply(file: Path, yes: bool, dry_run: bool, move: bool) -> None:
    """Show the difference between a catalog file and what is sold now, ask, and apply it.

    Running subscriptions stay on the terms they were sold until they renew, unless --move is given.
    """
    from app.catalog_commands import apply_file  # noqa: PLC0415

    settings = _settings()
    if settings.database_url is None:
        raise click.ClickException("TOLLGATE_DATABASE_URL is not set")
    sys.exit(asyncio.run(apply_file(settings, file, yes=yes, dry_run=dry_run, move=move)))


@catalog.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--costs",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Providers' prices as CSV: model, meter, usd, per; they count before the file's own.",
)
def margin(file: Path, costs: Path | None) -> None:
    """Print revenue, cost and margin of each model on each plan; exit code 1 when something is sold under cost.

    What the providers take stands in the catalog, as `cost` beside each price, or in the file of --costs.
    """
    from app.catalog_commands import show_margins  # noqa: PLC0415

    sys.exit(show_margins(file, costs))


@catalog.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
def show(file: Path | None) -> None:
    """Print a catalog file, or without one what is sold now, as tables."""
    from app.catalog_commands import show_file, show_sold  # noqa: PLC0415

    if file is not None:
        sys.exit(show_file(file))
    settings = _settings()
    if settings.database_url is None:
        raise click.ClickException("name a FILE, or set TOLLGATE_DATABASE_URL to show what is sold now")
    sys.exit(asyncio.run(show_sold(settings.database_url.reveal())))


@cli.command()
@click.argument("catalog", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--plan", required=True, help="The plan's code, such as team.")
@click.option("--price", help="The price's code, such as yearly; the plan's first where it is left out.")
@click.option("--usage", required=True, metavar="PATTERN", help="What is used; see below.")
@click.option("--months", type=click.IntRange(1, 120), default=14, show_default=True, help="How long it goes on.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), help="The first day, UTC; today where it is left out.")
@click.option("--seed", type=int, default=1, show_default=True, help="Chance of bursty use: the same for one seed.")
@click.option(
    "--calls-per-day", type=click.IntRange(1, 7), default=2, show_default=True, help="A day's use is split over them."
)
@click.option("--top-up", "top_ups", multiple=True, metavar="USD[@DAY]", help="Adds credit by hand; may be repeated.")
@click.option("--pack", "packs", multiple=True, metavar="CODE[@DAY]", help="Buys a pack; may be repeated.")
@click.option("--recharge", metavar="THRESHOLD:AMOUNT", help="Turns auto-recharge on, in dollars.")
@click.option("--cancel-after", type=click.IntRange(0, 120), metavar="MONTHS", help="Cancels the subscription then.")
@click.option("--decline-after", type=click.IntRange(0, 120), metavar="MONTHS", help="Declines every charge from then.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draws the timeline into this file.")
def simulate(catalog: Path, **asked: object) -> None:
    """Play a plan of a CATALOG file against a usage pattern, and print what happens: grants, use, resets, charges.

    The real code runs on a virtual clock and on a scratch database, which is dropped at the end: on the server of
    TOLLGATE_DATABASE_URL, or on an embedded one. Payments are simulated; no provider is called.

    \b
    PATTERN is one of
      steady:50/day        50 credits each day
      weekday:50/day       Monday to Friday
      bursty:50/day        on average; one day in five, five times as much
      growth:50/day+10%    10 % more each month
      none
      FILE.csv             columns day (0 is the first) or date, and credits

    \b
    tollgate simulate catalogs/team-workspaces.toml --plan team --price yearly \\
        --usage bursty:60/day --svg team.svg
    """  # noqa: D301 -- click reads the character \b: keep these lines as they are
    from app import simulate_command  # noqa: PLC0415

    wanted = simulate_command.Asked(catalog=catalog, **asked)  # pyright: ignore[reportArgumentType] -- click gives what the options say
    sys.exit(asyncio.run(simulate_command.simulate(_settings(), wanted)))


cli.add_command(admin)
cli.add_command(stripe)


@cli.command()
@click.option("--workspace", help="Check one workspace only, by its id (ws_…).")
@click.option("--repair-caches", is_flag=True, help="Recompute derived columns that disagree; never entries.")
def reconcile(workspace: str | None, repair_caches: bool) -> None:
    """Check every invariant of the money over the whole database; exit code 1 when something disagrees."""
    from app.reconcile_command import run_reconcile  # noqa: PLC0415

    settings = _settings()
    if settings.database_url is None:
        raise click.ClickException("TOLLGATE_DATABASE_URL is not set")
    try:
        workspace_id = None if workspace is None else decode_id("ws", workspace)
    except UnknownIdError as error:
        raise click.BadParameter("a workspace's id looks like ws_01h…", param_hint="--workspace") from error
    sys.exit(
        asyncio.run(run_reconcile(settings.database_url.reveal(), workspace_id=workspace_id, repair=repair_caches))
    )


@cli.command()
def settings() -> None:
    """List every variable of the environment, its default and its meaning."""
    for variable in VARIABLES:
        click.echo(f"{variable.name}  (default: {variable.default or 'unset'})\n    {variable.meaning}")


def _settings(**given: object) -> Settings:
    """The environment's settings with a command's options over it; ends the command with a clear message otherwise."""
    environment = dict(os.environ)
    environment.update({name: str(value) for name, value in given.items() if value is not None})
    settings = Settings.from_environment(environment)
    configure_logging(settings.log_level)
    for warning in settings.warnings:
        click.echo(f"warning: {warning}", err=True)
    return settings


def main() -> int:
    """The entry point; what an operator can mend ends in a sentence, not in a traceback."""
    try:
        cli(standalone_mode=True)
    except (SettingsError, EmbeddedError, Refusal, RequestFailure) as error:
        click.echo(f"tollgate: {error}", err=True)
        return 1
    return 0
