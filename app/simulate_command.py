"""The verb of `tollgate simulate`: reads what is asked, plays it on a scratch database, prints and draws it."""

import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import click

from app.ports import NoAttempts
from app.scratch_database import scratch_database
from app.settings import Settings
from app.tasks import money_tasks
from app.worker import Worker
from billing.catalog import CatalogHolder
from billing.catalog_file import read_catalog
from billing.catalog_terms import CatalogFile, PlanTerms, PriceTerms
from billing.errors import CatalogErrors, CatalogRefused
from billing.rules.periods import add_months
from billing.rules.timeline import Moment, timeline_text
from billing.rules.timeline_svg import timeline_svg
from billing.rules.usage_pattern import PatternError, UsagePattern, parse_days, parse_pattern, wanted_calls
from billing.services import Billing
from billing.simulated_payments import SimulatedPayments
from billing.simulation import Scenario, Simulation
from billing.simulation_stage import (
    Stage,
    StageError,
    begins_by_itself,
    kept_moments,
    plan_named,
    price_named,
    require_packs,
    set_up,
)
from kit.clock import VirtualClock, installed, now
from kit.errors import Refusal
from kit.money import AmountError, parse_micro
from metering.ledger import Ledger
from models.database import Database
from models.enums import GrantKind

_PROGRESS_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Asked:
    """The command's options as they were given."""

    catalog: Path
    plan: str
    price: str | None
    usage: str
    months: int
    start: datetime | None
    seed: int
    calls_per_day: int
    top_ups: tuple[str, ...]
    packs: tuple[str, ...]
    recharge: str | None
    cancel_after: int | None
    decline_after: int | None
    svg: Path | None


@dataclass(frozen=True, slots=True)
class _Script:
    """The options, read."""

    file: CatalogFile
    plan: PlanTerms
    price: PriceTerms | None
    pattern: UsagePattern
    start: datetime
    end: datetime
    top_ups: tuple[tuple[datetime, int], ...]
    packs: tuple[tuple[datetime, str], ...]
    recharge: tuple[int, int] | None


async def simulate(settings: Settings, asked: Asked) -> int:
    """Play it, print the timeline and draw it; 1 where the catalog cannot be used. Raises click's errors otherwise."""
    try:
        script = _script(asked)
        moments = await _play(settings, asked, script)
    except CatalogErrors as error:
        click.echo("\n".join(error.problems), err=True)
        return 1
    except (CatalogRefused, Refusal) as error:
        raise click.ClickException(str(error)) from error
    except (AmountError, PatternError, StageError) as error:
        raise click.UsageError(str(error)) from error
    what = script.plan.code if script.price is None else f"{script.plan.code}.{script.price.code}"
    title = f"{script.file.name}: {what}, usage {asked.usage}, {asked.months} months"
    click.echo(f"{title}\nSimulated: a virtual clock, and payments that move no money.\n")
    click.echo(timeline_text(moments))
    if asked.svg is not None:
        asked.svg.write_text(timeline_svg(moments, script.start, script.end, title), encoding="utf-8")
        click.echo(f"\ndrawn into {asked.svg}")
    return 0


def _script(asked: Asked) -> _Script:
    file = read_catalog(asked.catalog)
    plan = plan_named(file, asked.plan)
    start = (asked.start or now()).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=UTC)
    packs = tuple(_on_day(text, start) for text in asked.packs)
    require_packs(file, [code for _, code in packs])
    recharge = None
    if asked.recharge is not None:
        threshold, separator, amount = asked.recharge.partition(":")
        if not separator:
            raise click.BadParameter("give THRESHOLD:AMOUNT in dollars, such as 20:10", param_hint="--recharge")
        recharge = parse_micro(threshold), parse_micro(amount)
    return _Script(
        file=file,
        plan=plan,
        price=price_named(plan, asked.price),
        pattern=_pattern(asked.usage, start),
        start=start,
        end=add_months(start, asked.months),
        top_ups=tuple((at, parse_micro(amount)) for at, amount in (_on_day(text, start) for text in asked.top_ups)),
        packs=packs,
        recharge=recharge,
    )


def _pattern(usage: str, start: datetime) -> UsagePattern:
    path = Path(usage)
    if path.suffix != ".csv":
        return parse_pattern(usage)
    try:
        return parse_days(path.read_text(encoding="utf-8-sig"), start.date())
    except (OSError, UnicodeDecodeError) as problem:
        raise click.BadParameter(f"{path} cannot be read: {problem}", param_hint="--usage") from problem


def _on_day(text: str, start: datetime) -> tuple[datetime, str]:
    """Of "50@3": on the third day after the start, at 8 o'clock; without a day at the start."""
    what, _, day = text.partition("@")
    if day and not day.isdigit():
        raise click.BadParameter(f"{text!r}: after the @ comes a number of days since the start")
    return start + timedelta(days=int(day or 0), hours=8), what


async def _play(settings: Settings, asked: Asked, script: _Script) -> list[Moment]:
    url = None if settings.database_url is None else settings.database_url.reveal()
    time_of_play = VirtualClock(script.start)
    click.echo("starting a scratch database …", err=True)
    async with scratch_database(url) as address:
        database = await Database.open(address)
        try:
            with installed(time_of_play):
                return await _on_stage(database, asked, script, time_of_play)
        finally:
            await database.close()


async def _on_stage(database: Database, asked: Asked, script: _Script, clock: VirtualClock) -> list[Moment]:
    stage = await set_up(database, script.file, script.plan, script.start)
    catalog = CatalogHolder(database)
    snapshot = await catalog.reload()
    decline_from = None if asked.decline_after is None else add_months(script.start, asked.decline_after)
    payments = SimulatedPayments(decline_from)
    ledger = await Ledger.open(database, earnings_rank=snapshot.burn_ranks[GrantKind.EARNINGS])
    try:
        billing = Billing(database, ledger, catalog, payments, NoAttempts(), b"")
        simulation = Simulation(
            billing=billing,
            payments=payments,
            time=clock,
            scenario=_scenario(billing, asked, script, stage),
            work=Worker(money_tasks(billing)).run_once,
            progress=_Progress(script.start, script.end),
        )
        await simulation.play()
        return [*simulation.moments, *await kept_moments(database, stage)]
    finally:
        await ledger.close()


def _scenario(billing: Billing, asked: Asked, script: _Script, stage: Stage) -> Scenario:
    snapshot = billing.catalog.current
    plan = snapshot.plans_by_code[script.plan.code]
    price = None
    if script.price is not None and not begins_by_itself(script.file, script.plan, script.price):
        price = next(sold for sold in plan.prices if sold.code == script.price.code)
    return Scenario(
        workspace_id=stage.workspace_id,
        wallet_id=stage.wallet_id,
        model_slug=next((model.slug for model in snapshot.models if model.id in plan.models), "none"),
        price=price,
        start=script.start,
        end=script.end,
        calls=wanted_calls(
            script.pattern, script.start, script.end, calls_per_day=asked.calls_per_day, seed=asked.seed
        ),
        top_ups=script.top_ups,
        packs=script.packs,
        recharge=script.recharge,
        cancel_at=None if asked.cancel_after is None else add_months(script.start, asked.cancel_after),
    )


class _Progress:
    """A line on a terminal's standard error that says how far it is; nothing where it is no terminal."""

    def __init__(self, start: datetime, end: datetime) -> None:
        """Of a simulation between two instants."""
        self._start = start
        self._length = end - start
        self._shown_at = 0.0
        self._shows = sys.stderr.isatty()

    def __call__(self, at: datetime) -> None:
        """Called after each step."""
        done = at - self._start >= self._length - timedelta(microseconds=1)
        if self._shows and (done or time.monotonic() - self._shown_at > _PROGRESS_S):
            self._shown_at = time.monotonic()
            percent = int(100 * ((at - self._start) / self._length))
            click.echo(f"\r{at:%Y-%m-%d}  {percent:3d} %", nl=done, err=True)
