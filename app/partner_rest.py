"""What a partner's program asks besides calling: GET /v1/balance, and GET /v1/calls/{id} by call or request id."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

from accounts.rules.roles import ApiScope
from app.asgi import Headers, Receive, Scope, Send, send_json
from app.rest_admission import RestAdmission, Visit, method_not_allowed
from billing.catalog import CatalogHolder
from kit.clock import now
from kit.errors import NotFound
from kit.ids import UnknownIdError, decode_id, encode_id
from kit.money import format_micro, usd_text
from metering.usage import call_of_request, calls_by_id
from metering.views import CallView, UsageView
from metering.wallets import wallet_view
from models.database import Database
from providers.base import JsonObject

BALANCE_PATH: Final = "/v1/balance"
CALLS_PREFIX: Final = "/v1/calls/"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class PartnerRest:
    """The ASGI application of BALANCE_PATH and everything below CALLS_PREFIX."""

    def __init__(self, database: Database, catalog: CatalogHolder, admission: RestAdmission) -> None:
        """The parts of one process."""
        self._database = database
        self._catalog = catalog
        self._admission = admission

    @staticmethod
    def serves(path: str) -> bool:
        """Whether the path is one of these."""
        return path == BALANCE_PATH or path.startswith(CALLS_PREFIX)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        del receive

        async def answer(headers: Headers) -> None:
            if scope["method"] not in {"GET", "HEAD"}:
                await method_not_allowed(send, "GET", headers)
            elif scope["path"] == BALANCE_PATH:
                visit = await self._admission.admit(scope, ApiScope.WALLET_READ, headers)
                await send_json(send, 200, await self._balance(visit), [*headers, (b"cache-control", b"no-store")])
            else:
                visit = await self._admission.admit(scope, ApiScope.CALLS_READ, headers)
                named: str = scope["path"].removeprefix(CALLS_PREFIX)
                await send_json(send, 200, await self._call(visit, named), [*headers, (b"cache-control", b"no-store")])

        await self._admission.answered(scope, send, answer)

    async def _balance(self, visit: Visit) -> JsonObject:
        wallet = await wallet_view(self._database, visit.facts.wallet_id, now())
        rate = self._catalog.current.credits_per_usd
        return {
            "object": "tollgate.balance",
            "workspace": encode_id("ws", wallet.workspace_id),
            "balance": _amount(wallet.balance_micro, rate),
            "held": _amount(wallet.held_micro, rate),
            "available": _amount(wallet.available_micro, rate),
        }

    async def _call(self, visit: Visit, named: str) -> JsonObject:
        call_id = await self._id_of(visit, named)
        call = None if call_id is None else (await calls_by_id(self._database, [call_id])).get(call_id)
        if call is None or call.workspace_id != visit.facts.workspace_id:
            raise NotFound("this workspace has no call of this id")
        return _call_object(call, self._catalog.current.credits_per_usd)

    async def _id_of(self, visit: Visit, named: str) -> UUID | None:
        try:
            return decode_id("call", named)
        except UnknownIdError:
            if not _REQUEST_ID.fullmatch(named):
                return None
            facts = visit.facts
            return await call_of_request(self._database, facts.workspace_id, facts.wallet_id, named)


def _amount(micro: int, rate: Decimal) -> JsonObject:
    return {"credits": format_micro(micro), "usd": usd_text(micro, rate)}


def _call_object(call: CallView, rate: Decimal) -> JsonObject:
    failed = None
    if call.error_code is not None:
        failed = {"code": call.error_code.lower(), "message": call.error_message or "the call failed"}
    return {
        "id": encode_id("call", call.id),
        "object": "tollgate.call",
        "model": call.model_slug,
        "status": call.status.lower(),
        "request_id": call.request_id,
        "created_at": _instant(call.created_at),
        "completed_at": None if call.completed_at is None else _instant(call.completed_at),
        "usage": None if call.usage is None else _usage_object(call.usage, rate),
        "error": failed,
    }


def _usage_object(usage: UsageView, rate: Decimal) -> JsonObject:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_input_tokens,
            "cache_write_tokens": usage.cache_write_input_tokens,
            "long_cache_write_tokens": usage.long_cache_write_input_tokens,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "requests": usage.requests,
        "images": usage.images,
        "seconds": usage.seconds,
        "characters": usage.characters,
        **_amount(usage.charged_micro, rate),
        "estimated": usage.estimated,
        **({"cached": True} if usage.cached else {}),
    }


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
