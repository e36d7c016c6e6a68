"""`tollgate reconcile`: shows the progress, prints what disagrees and what was repaired, answers the exit code."""

import sys
import time
from typing import Final
from uuid import UUID

import click

from metering.reconcile import Progress, Report, reconcile
from metering.reconcile_checks import (
    ACCOUNTS_CHECK,
    CALL_CHECKS,
    ENTRY_CHECKS,
    KEY_CHECKS,
    USAGE_CHECKS,
    WALLET_CHECKS,
)
from metering.reconcile_repair import Repaired
from models.database import Database

_EVERY_S: Final = 0.5
_PROMISES: Final = {
    check.kind: check.promise
    for checks in (WALLET_CHECKS, USAGE_CHECKS, CALL_CHECKS, KEY_CHECKS, ENTRY_CHECKS, (ACCOUNTS_CHECK,))
    for check in checks
}


async def run_reconcile(database_url: str, *, workspace_id: UUID | None = None, repair: bool = False) -> int:
    """0 when everything agrees, 1 when something does not. Unavailable when the database cannot be reached."""
    database = await Database.open(database_url, max_size=2)
    shown = _Shown()
    try:
        report = await reconcile(database, workspace_id=workspace_id, repair=repair, tell=shown.tell, told=_told)
    finally:
        shown.end()
        await database.close()
    _print(report, shown.last)
    return 0 if report.agrees else 1


class _Shown:
    """The progress on standard error: one line that is rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.last: Progress | None = None
        self._shown_at = 0.0
        self._terminal = sys.stderr.isatty()

    def tell(self, progress: Progress) -> None:
        self.last = progress
        at = time.monotonic()
        if at - self._shown_at >= (_EVERY_S if self._terminal else 10 * _EVERY_S):
            self._shown_at = at
            self._show(progress)

    def end(self) -> None:
        if self.last is not None:
            self._show(self.last)
            if self._terminal:
                click.echo("", err=True)

    def _show(self, progress: Progress) -> None:
        line = (
            f"{progress.walk}: {progress.share:.0%} of {progress.total_rows:,} rows,"
            f" {progress.rows_per_s:,.0f} rows/s, {progress.left_s:.0f} s left"
        )
        click.echo(f"\r\x1b[2K{line}" if self._terminal else line, err=True, nl=not self._terminal)


def _told(repaired: Repaired) -> None:
    what = f"{repaired.table} {repaired.id} {repaired.column}: {repaired.before} -> {repaired.after}"
    click.echo(
        f"repaired {what}" if repaired.refused is None else f"NOT repaired, it would break {repaired.refused}: {what}"
    )


def _print(report: Report, progress: Progress | None) -> None:
    for kind, count in report.counts.items():
        click.echo(f"\n{kind}: {count:,} disagree; the promise: {_PROMISES[kind]}")
        shown = [each for each in report.shown if each.kind == kind]
        for each in shown:
            click.echo(f"  {each.id}  {each.figures}")
        if len(shown) < count:
            click.echo(f"  … and {count - len(shown):,} more")
    checked = ", ".join(f"{count:,} {name}" for name, count in report.checked.items())
    took = f" in {progress.elapsed_s:.1f} s" if progress is not None else ""
    click.echo(f"\nchecked {checked}{took}")
    if report.agrees:
        click.echo("every promise holds")
    else:
        click.echo(f"{sum(report.counts.values()):,} disagreements of {len(report.counts)} kinds")
