"""Draws a simulated workspace's timeline as an SVG picture: the balance over time, and what was charged."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import Final

from billing.rules.timeline import Moment, MomentKind, in_order
from kit.money import format_micro, usd_micro_text

WIDTH: Final = 1000
HEIGHT: Final = 460
_LEFT, _RIGHT, _TOP, _BOTTOM, _MONEY = 90, 980, 60, 340, 430
"""The frame of the balance, and the ground line of the charges below it, in user units."""

_COLOURS: Final = {
    MomentKind.GRANT: "#1a7f37",
    MomentKind.RESET: "#bf8700",
    MomentKind.EXPIRY: "#cf222e",
    MomentKind.TAKEN_BACK: "#cf222e",
    MomentKind.REFUSED: "#8250df",
    MomentKind.FROZEN: "#57606a",
    MomentKind.DECLINED: "#cf222e",
}
_CHARGES: Final = frozenset({MomentKind.CHARGE, MomentKind.RECHARGE, MomentKind.DECLINED})
_MOST_TICKS: Final = 16


def timeline_svg(moments: Sequence[Moment], start: datetime, end: datetime, title: str) -> str:
    """A whole document. The balance is a step line; marks stand where credits came, were reset, lapsed or were missing."""
    ordered = in_order(moments)
    levels = _levels(ordered)
    highest = max([level for _, level in levels], default=0) or 1
    dearest = max([moment.usd_micro for moment in ordered if moment.kind in _CHARGES], default=0) or 1

    def x(at: datetime) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * ((at - start) / (end - start)), 1)

    def y(micro: int) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * micro / highest, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="24" font-size="16">{escape(title)}</text>',
        *_legend(),
        *_ticks(start, end, x),
        f'<path d="M{_LEFT} {_TOP}V{_BOTTOM}H{_RIGHT}M{_LEFT} {_MONEY}H{_RIGHT}" fill="none" stroke="#57606a"/>',
        _label(_LEFT - 6, _TOP + 4, format_micro(highest), "end"),
        _label(_LEFT - 6, _BOTTOM, "0", "end"),
        _label(_LEFT - 6, _MONEY, "charges", "end"),
        f'<path class="balance" d="{_path(levels, x, y, end)}" fill="none" stroke="#0969da" stroke-width="1.5"/>',
    ]
    parts += [_mark(moment, x(moment.at)) for moment in ordered if moment.kind in _COLOURS.keys() - _CHARGES]
    parts += [_bar(moment, x(moment.at), dearest) for moment in ordered if moment.kind in _CHARGES]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _levels(ordered: Sequence[Moment]) -> list[tuple[datetime, int]]:
    levels: list[tuple[datetime, int]] = []
    balance = 0
    for moment in ordered:
        if moment.credits_micro and moment.kind is not MomentKind.REFUSED:
            balance += moment.credits_micro
            levels.append((moment.at, balance))
    return levels


def _path(
    levels: Sequence[tuple[datetime, int]], x: Callable[[datetime], float], y: Callable[[int], float], end: datetime
) -> str:
    steps = "".join(f"H{x(at)}V{y(level)}" for at, level in levels)
    return f"M{_LEFT} {_BOTTOM}{steps}H{x(end)}"


def _legend() -> list[str]:
    parts: list[str] = []
    kinds = (MomentKind.GRANT, MomentKind.RESET, MomentKind.EXPIRY, MomentKind.REFUSED, MomentKind.FROZEN)
    for place, kind in enumerate(kinds):
        left = _LEFT + 110 * place
        parts.append(f'<circle cx="{left + 4}" cy="40" r="4" fill="{_COLOURS[kind]}"/>')
        parts.append(_label(left + 14, 44, kind.value, "start"))
    return parts


def _ticks(start: datetime, end: datetime, x: Callable[[datetime], float]) -> list[str]:
    months: list[datetime] = []
    at = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while at < end:
        if at >= start:
            months.append(at)
        at = (at + timedelta(days=32)).replace(day=1)
    every = -(-len(months) // _MOST_TICKS) or 1
    return [
        f'<path d="M{x(month)} {_TOP}V{_MONEY}" stroke="#eaeef2"/>'
        + _label(x(month), _BOTTOM + 16, f"{month:%Y-%m}", "middle")
        for month in months[::every]
    ]


def _mark(moment: Moment, left: float) -> str:
    what = f"{moment.at:%Y-%m-%d} {moment.kind.value} {format_micro(moment.credits_micro)} {moment.text}"
    height = _TOP - 6 if moment.kind is MomentKind.GRANT else _BOTTOM + 5
    return (
        f'<circle class="{moment.kind.name.lower()}" cx="{left}" cy="{height}" r="3" fill="{_COLOURS[moment.kind]}">'
        f"<title>{escape(what.strip())}</title></circle>"
    )


def _bar(moment: Moment, left: float, dearest: int) -> str:
    height = round(max(2.0, 60 * moment.usd_micro / dearest), 1)
    colour = _COLOURS.get(moment.kind, "#1f6feb")
    what = f"{moment.at:%Y-%m-%d} {moment.kind.value} ${usd_micro_text(moment.usd_micro)} {moment.text}"
    return (
        f'<rect class="{moment.kind.name.lower()}" x="{round(left - 2, 1)}" y="{round(_MONEY - height, 1)}" width="4"'
        f' height="{height}" fill="{colour}"><title>{escape(what.strip())}</title></rect>'
    )


def _label(left: float, top: float, text: str, anchor: str) -> str:
    return f'<text x="{left}" y="{top}" text-anchor="{anchor}" fill="#57606a">{escape(text)}</text>'
