"""Turns what happened to a simulated workspace into a table for people, with its totals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from billing.rules.text_table import text_table
from kit.money import format_micro, usd_micro_text


class MomentKind(StrEnum):
    """What happened; in this order where several things happened at one instant."""

    STATE = "state"
    CHARGE = "charge"
    RECHARGE = "recharge"
    DECLINED = "declined"
    EXPIRY = "expiry"
    RESET = "reset"
    TAKEN_BACK = "taken back"
    GRANT = "grant"
    FROZEN = "frozen"
    THAWED = "thawed"
    USE = "use"
    REFUSED = "refused"


_ORDER: Final = {kind: place for place, kind in enumerate(MomentKind)}
_MERGED: Final = frozenset({MomentKind.USE, MomentKind.REFUSED})


@dataclass(frozen=True, slots=True)
class Moment:
    """`credits_micro`: what was added to the balance, negative where taken; of a refusal what was wanted in vain.

    `usd_micro`: what the customer was charged, 0 where nothing was. `calls`: how many calls a use or refusal stands for.
    """

    at: datetime
    kind: MomentKind
    text: str = ""
    credits_micro: int = 0
    usd_micro: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the timeline. `until`: the last instant that it stands for. `balance_micro`: after it."""

    moment: Moment
    until: datetime
    balance_micro: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the whole time; `refused_micro` is what was wanted in vain."""

    charged_usd_micro: int
    granted_micro: int
    used_micro: int
    lapsed_micro: int
    refused_micro: int
    calls: int
    refused_calls: int


def in_order(moments: Sequence[Moment]) -> list[Moment]:
    """By time; an expiry is a reset where the next cycle's credits come at the same instant."""
    granted_at = {
        moment.at for moment in moments if moment.kind is MomentKind.GRANT and moment.text.startswith("CYCLE")
    }
    marked = [
        replace(moment, kind=MomentKind.RESET)
        if moment.kind is MomentKind.EXPIRY and moment.text.startswith("CYCLE") and moment.at in granted_at
        else moment
        for moment in moments
    ]
    return sorted(marked, key=lambda moment: (moment.at, _ORDER[moment.kind]))


def rows_of(moments: Sequence[Moment]) -> list[Row]:
    """A line for each moment; uses between two other events are one line, and so are refusals."""
    rows: list[Row] = []
    balance = 0
    open_rows: dict[MomentKind, int] = {}
    for moment in in_order(moments):
        balance += _effect_micro(moment)
        place = open_rows.get(moment.kind)
        if place is not None:
            rows[place] = _joined(rows[place], moment, balance)
            continue
        if moment.kind in _MERGED:
            open_rows[moment.kind] = len(rows)
        else:
            open_rows.clear()
        rows.append(Row(moment, moment.at, balance))
    return rows


def totals_of(moments: Sequence[Moment]) -> Totals:
    """What it comes to."""

    def total(*kinds: MomentKind) -> int:
        return abs(sum(moment.credits_micro for moment in moments if moment.kind in kinds))

    def calls(kind: MomentKind) -> int:
        return sum(moment.calls for moment in moments if moment.kind is kind)

    return Totals(
        charged_usd_micro=sum(moment.usd_micro for moment in moments if moment.kind is not MomentKind.DECLINED),
        granted_micro=total(MomentKind.GRANT),
        used_micro=total(MomentKind.USE),
        lapsed_micro=total(MomentKind.EXPIRY, MomentKind.RESET, MomentKind.TAKEN_BACK),
        refused_micro=total(MomentKind.REFUSED),
        calls=calls(MomentKind.USE),
        refused_calls=calls(MomentKind.REFUSED),
    )


def timeline_text(moments: Sequence[Moment]) -> str:
    """The table, and a closing line of totals."""
    cells = [
        [
            f"{row.moment.at:%Y-%m-%d %H:%M}",
            row.moment.kind.value,
            _signed(_effect_micro(row.moment)) if row.moment.kind is not MomentKind.REFUSED else "",
            format_micro(row.balance_micro),
            usd_micro_text(row.moment.usd_micro) if row.moment.usd_micro else "",
            _detail(row),
        ]
        for row in rows_of(moments)
    ]
    total = totals_of(moments)
    closing = (
        f"charged ${usd_micro_text(total.charged_usd_micro)}; credits granted {format_micro(total.granted_micro)}, used"
        f" {format_micro(total.used_micro)} in {total.calls} calls, lapsed {format_micro(total.lapsed_micro)}; refused"
        f" {total.refused_calls} calls of {format_micro(total.refused_micro)} credits"
    )
    head = ["when (UTC)", "what", "credits", "balance", "USD", ""]
    return f"{text_table(head, cells, right=frozenset({2, 3, 4}))}\n\n{closing}"


def _effect_micro(moment: Moment) -> int:
    return 0 if moment.kind is MomentKind.REFUSED else moment.credits_micro


def _joined(row: Row, moment: Moment, balance: int) -> Row:
    joined = replace(
        row.moment,
        credits_micro=row.moment.credits_micro + moment.credits_micro,
        calls=row.moment.calls + moment.calls,
    )
    return Row(joined, moment.at, balance)


def _detail(row: Row) -> str:
    moment = row.moment
    if moment.kind not in _MERGED:
        return moment.text
    span = f"{moment.calls} call{'' if moment.calls == 1 else 's'} to {row.until:%Y-%m-%d}"
    if moment.kind is MomentKind.REFUSED:
        return f"{span}: {format_micro(moment.credits_micro)} credits were not there"
    return span


def _signed(micro: int) -> str:
    return "" if not micro else f"{'+' if micro > 0 else ''}{format_micro(micro)}"
