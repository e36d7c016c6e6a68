"""Rows of the ledger's tables as they are written, from what the postings made of them."""

from dataclasses import fields
from typing import Final

import orjson

from metering.array_text import braces
from metering.operations import UsageFacts
from metering.rules.cache_writes import WRITTEN, WRITTEN_LONG, kept_details
from metering.rules.state import CallRow, EntryRow, Hold, Lot, UsageRow
from models.pool import dump_json

_MESSAGE_LENGTH: Final = 2000
_NOTHING_USED: Final = (None,) * 14
_NOTHING_CHARGED: Final = (None,) * 4
_IN_DETAILS: Final = frozenset({WRITTEN, WRITTEN_LONG})


def lot_row(lot: Lot) -> tuple[object, ...]:
    """What calls change of a grant."""
    return (lot.id, lot.amount, lot.remaining, lot.held, lot.spent, lot.frozen_reason)


def is_counted(lot: Lot) -> bool:
    """Whether more was done to it than calls do."""
    return bool(lot.reinstated or lot.expired or lot.clawed_back or lot.refunded or lot.transferred or lot.adjusted)


def counted_lot_row(lot: Lot) -> tuple[object, ...]:
    """All that may change of a grant."""
    return (
        lot.id,
        lot.amount,
        lot.remaining,
        lot.held,
        lot.spent,
        lot.frozen_reason,
        lot.reinstated,
        lot.expired,
        lot.clawed_back,
        lot.refunded,
        lot.transferred,
        lot.adjusted,
    )


def new_lot_row(lot: Lot) -> tuple[object, ...]:
    """A grant that is new."""
    return (
        lot.id,
        lot.wallet_id,
        lot.kind,
        lot.burn_rank,
        lot.amount,
        lot.remaining,
        lot.held,
        lot.reinstated,
        lot.spent,
        lot.expired,
        lot.clawed_back,
        lot.refunded,
        lot.transferred,
        lot.adjusted,
        lot.effective_at,
        lot.expires_at,
        lot.frozen_reason,
        lot.requires_active_plan,
        lot.transferable,
        lot.source_kind,
        lot.source_id,
        lot.subscription_id,
        lot.payment_id,
        lot.description,
        lot.created_at,
    )


def hold_row(hold: Hold) -> tuple[object, ...]:
    """A new hold but for its terms."""
    parts = hold.parts
    return (
        hold.call_id,
        hold.wallet_id,
        hold.workspace_id,
        hold.amount,
        braces([lot.id for lot, _ in parts]),
        braces([part for _, part in parts]),
        hold.model_slug,
        hold.modality,
        hold.user_id,
        hold.api_key_id,
        hold.request_id,
        hold.idempotency_key,
        hold.owner,
        hold.payee_wallet_id,
        hold.payee_share_percent,
        hold.expires_at,
        braces([limit.id for limit in hold.limits]) if hold.limits else None,
    )


def end_row(end: CallRow, used: UsageRow | None, charge: EntryRow | None) -> tuple[object, ...]:
    """The end of a call whose hold the database has, with its first charge, and last its details."""
    message = None if end.error_message is None else clean_text(end.error_message)
    charged = _NOTHING_CHARGED if charge is None else (charge[0], charge[2], charge[4], charge[5])
    if used is None:
        return (end.call.call_id, end.status, *_NOTHING_USED, end.error_code, message, *charged, None)
    usage = used.usage
    return (
        end.call.call_id,
        end.status,
        True,
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.requests,
        usage.images,
        usage.seconds,
        usage.characters,
        used.cost,
        used.charged,
        usage.estimated,
        used.presumed,
        clean_text(usage.provider),
        end.error_code,
        message,
        *charged,
        kept_details(usage),
    )


def usage_row(row: UsageRow) -> tuple[object, ...]:
    """A usage event in full."""
    call, usage = row.call, row.usage
    details = kept_details(usage)
    return (
        call.call_id,
        row.sequence,
        call.workspace_id,
        call.wallet_id,
        call.model_slug,
        call.modality,
        call.user_id,
        call.api_key_id,
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.requests,
        usage.images,
        usage.seconds,
        usage.characters,
        row.cost,
        row.charged,
        usage.estimated,
        row.presumed,
        clean_text(usage.provider),
        None if details is None else json_text(details),
    )


def call_row(row: CallRow) -> tuple[object, ...]:
    """A call in full."""
    call = row.call
    return (
        call.call_id,
        call.workspace_id,
        call.model_slug,
        row.status,
        call.user_id,
        call.api_key_id,
        call.request_id,
        call.idempotency_key,
        row.error_code,
        None if row.error_message is None else clean_text(row.error_message),
        call.created_at,
    )


def usage_json(usage: UsageFacts) -> dict[str, object]:
    """The facts as they are kept with a checkpoint, in the journal and in the cache of answers; see cache_writes.usage_of."""
    known = {each.name: getattr(usage, each.name) for each in fields(usage) if each.name not in _IN_DETAILS}
    return {**known, "details": kept_details(usage)}


def clean_text(text: str) -> str:
    """What a provider sent must not keep a settlement from being written: no NUL, no lone surrogate, no endless text."""
    if len(text) > _MESSAGE_LENGTH or not text.isascii() or "\x00" in text:
        text = text[:_MESSAGE_LENGTH].replace("\x00", "").encode(errors="replace").decode()
    return text


def json_text(value: object) -> str:
    """What jsonb takes; what is no JSON is told in words instead of keeping a settlement from being written."""
    try:
        text = dump_json(value).decode()
    except orjson.JSONEncodeError:
        text = orjson.dumps({"unwritable": repr(value)[:_MESSAGE_LENGTH].encode(errors="replace").decode()}).decode()
    # jsonb has no NUL character. Where the escape is itself escaped this only changes a text nobody relies on.
    return text.replace("\\u0000", "\\ufffd") if "\\u0000" in text else text
