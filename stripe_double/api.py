"""Answers /v1: key, account, idempotency, faults, parameters, expansion, and errors in Stripe's form."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stripe_double.endpoint import Call, Endpoint
from stripe_double.errors import ApiError, invalid, missing
from stripe_double.expand import expanded
from stripe_double.faults import Fault, Faults
from stripe_double.form import parse_form
from stripe_double.offered import only_offered
from stripe_double.params_check import checked
from stripe_double.values import API_VERSION, Json
from stripe_double.world import Answer, Asked, Called, World, shown

_ANSWERS_KEPT_S = 86_400
_KEY = re.compile(r"Bearer ([rs]k_test_\w+)")
_LONGEST_KEY = 255
_OF_ACCOUNTS = ("/v1/payouts", "/v1/balance", "/v1/events", "/v1/account")
"""What a connected account can be asked for (Stripe-Account)."""


class Api:
    """The ASGI application of /v1."""

    def __init__(
        self,
        world: World,
        endpoints: Sequence[Endpoint],
        faults: Faults,
        *,
        before: Callable[[], None],
        after: Callable[[], None],
    ) -> None:
        """`before` runs what is due by now, `after` sends what happened; both around each request."""
        self._world = world
        self._faults = faults
        self._before = before
        self._after = after
        self._by_length: dict[tuple[str, int], list[tuple[list[str], Endpoint]]] = {}
        for endpoint in endpoints:
            segments = endpoint.path.strip("/").split("/")
            self._by_length.setdefault((endpoint.method, len(segments)), []).append((segments, endpoint))
        for routes in self._by_length.values():
            routes.sort(key=lambda route: sum(s.startswith("{") for s in route[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        body = (await request.body()).decode("utf-8", "replace")
        self._before()
        fault = self._faults.taken(request.method, request.url.path)
        if fault is not None and (refusal := fault.before()) is not None:
            self._note(request, refusal.status, fault=fault)
            await _response(refusal.status, orjson.dumps(refusal.body()), self._request_id(), {})(scope, receive, send)
            return
        response = self._answer(request, body)
        self._note(request, response.status_code, fault=fault, replayed="idempotent-replayed" in response.headers)
        self._after()
        if fault is not None and await _lost(fault, receive):
            return
        await response(scope, receive, send)

    def _note(self, request: Request, status: int, *, fault: Fault | None, replayed: bool = False) -> None:
        key, account = request.headers.get("idempotency-key"), request.headers.get("stripe-account")
        kind = fault.kind if fault is not None else None
        called = Called(self._world.now, request.method, request.url.path, key, account, status, replayed, kind)
        self._world.calls.append(called)

    def _request_id(self) -> str:
        return self._world.new_id("req")

    def _answer(self, request: Request, body: str) -> Response:
        request_id = self._request_id()
        key = request.headers.get("idempotency-key")
        self._world.asked = Asked(request_id, key)
        headers: dict[str, str] = {} if key is None else {"idempotency-key": key}
        try:
            status, answer, replayed = self._performed(request, body, key)
        except ApiError as refusal:
            status, answer, replayed = refusal.status, orjson.dumps(refusal.body()), False
        finally:
            self._world.asked = Asked()
            self._world.changes += request.method != "GET"
        if replayed:
            headers["idempotent-replayed"] = "true"
        return _response(status, answer, request_id, headers)

    def _performed(self, request: Request, body: str, key: str | None) -> tuple[int, bytes, bool]:
        account = self._account(request)
        endpoint, ids = self._endpoint(request.method, request.url.path)
        raw = parse_form(body if request.method == "POST" else request.url.query)
        if key is None or request.method != "POST":
            return 200, self._executed(endpoint, ids, raw, account, request.url.path), False
        if len(key) > _LONGEST_KEY:
            raise invalid("Idempotency keys can be at most 255 characters long.")
        scoped = f"{account or ''}:{key}"
        asked = hashlib.sha256(orjson.dumps([request.url.path, raw], option=orjson.OPT_SORT_KEYS)).hexdigest()
        known = self._world.answers.get(scoped)
        if known is not None and known.at > self._world.now - _ANSWERS_KEPT_S:
            if known.request != asked:
                raise ApiError(
                    400,
                    "idempotency_error",
                    f"Keys for idempotent requests can only be used with the same parameters they were first used with."
                    f" Try using a key other than '{key}' if you meant to execute a different request.",
                )
            return known.status, known.body, True
        params = _checked(endpoint, raw)  # a request that never began is not remembered
        try:
            status, answer = 200, self._run(endpoint, ids, params, account, request.url.path)
        except ApiError as refusal:
            status, answer = refusal.status, orjson.dumps(refusal.body())
        self._world.answers[scoped] = Answer(self._world.now, asked, status, answer)
        return status, answer, False

    def _executed(self, endpoint: Endpoint, ids: dict[str, str], raw: Json, account: str | None, path: str) -> bytes:
        return self._run(endpoint, ids, _checked(endpoint, raw), account, path)

    def _run(self, endpoint: Endpoint, ids: dict[str, str], params: Json, account: str | None, path: str) -> bytes:
        expand: list[str] = params.pop("expand", [])
        answer = endpoint.answer(Call(self._world, ids, params, account, path))
        if not expand and answer.get("object") != "list":
            return orjson.dumps(shown(answer))
        return orjson.dumps(expanded(self._world, answer, expand))

    def _account(self, request: Request) -> str | None:
        if _KEY.fullmatch(request.headers.get("authorization", "")) is None:
            raise ApiError(401, "invalid_request_error", "Invalid API Key provided.")
        if request.headers.get("stripe-version", API_VERSION) != API_VERSION:
            raise invalid(f"The double speaks API version {API_VERSION} only.", code="double_not_offered")
        account = request.headers.get("stripe-account")
        if account is not None and not request.url.path.startswith(_OF_ACCOUNTS):
            raise invalid("The double offers this path for the platform only.", code="double_not_offered")
        if account is not None and account not in self._world.kinds.get("account", {}):
            raise ApiError(
                403,
                "invalid_request_error",
                f"The provided key does not have access to account '{account}' (or that account does not exist).",
                code="account_invalid",
            )
        return account

    def _endpoint(self, method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
        given = path.strip("/").split("/")
        for segments, endpoint in self._by_length.get((method, len(given)), []):
            if all(s.startswith("{") or s == g for s, g in zip(segments, given, strict=True)):
                return endpoint, {s[1:-1]: g for s, g in zip(segments, given, strict=True) if s.startswith("{")}
        raise missing("URL", f"{method} {path}", param="url")


def _checked(endpoint: Endpoint, raw: Json) -> Json:
    params = checked(endpoint.params, raw)
    only_offered(params, "expand", *endpoint.takes)
    return params


def _response(status: int, body: bytes, request_id: str, headers: dict[str, str]) -> Response:
    return Response(
        body,
        status,
        {"request-id": request_id, "stripe-version": API_VERSION, **headers},
        media_type="application/json",
    )


async def _lost(fault: Fault, receive: Receive) -> bool:
    """Whether the answer does not reach the client: the effect has happened, the caller cannot know."""
    if fault.hang_s > 0:
        await asyncio.sleep(fault.hang_s)
    if not fault.drop:
        return False
    # uvicorn's receive is a method of the exchange, which holds the connection; ASGI has no word for closing it.
    exchange = getattr(receive, "__self__", None)
    transport = getattr(exchange, "transport", None)
    if transport is None:
        raise RuntimeError("connections can be dropped only under uvicorn")
    transport.abort()
    return True
