"""The adapter for any provider of predictions over HTTP, in the words that the catalog gives (PredictionTerms)."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from kit.clock import now
from kit.json_values import folded
from providers.base import JsonObject, Timeouts
from providers.errors import NotReached, ProviderError, UpstreamGarbage, UpstreamTimeout, UpstreamUnavailable
from providers.json_paths import write
from providers.openai_errors import error_object, error_of_status, retry_after_s
from providers.prediction_answers import prediction_of
from providers.prediction_terms import PredictionTerms
from providers.prediction_webhooks import subject_of
from providers.predictions import (
    MOST_FETCH_S,
    OutputFile,
    Prediction,
    PredictionRequest,
    PredictionState,
    PredictionUnknown,
    WebhookRefused,
)
from providers.transport import USER_AGENT, check_header, endpoint_of
from providers.wire import object_in

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
"""The largest answer to a look: room for outputs that come inside it."""
POLL_TIMEOUT_S: Final = 20.0
"""A look is short: a provider that takes longer is looked at again later."""
_PART_BYTES: Final = 256 * 1024
_KNOWS_NOT: Final = frozenset({404, 410})


class HttpPredictionProvider:
    """Serves PredictionProvider over a session, which it does not own."""

    def __init__(
        self,
        name: str,
        *,
        base_url: str,
        api_key: str | None,
        terms: PredictionTerms,
        session: aiohttp.ClientSession,
        timeouts: Timeouts | None = None,
        webhook_secret: str | None = None,
    ) -> None:
        """Raises EndpointError where the address or the key cannot be used."""
        endpoint_of(base_url, "/", ())
        self.name = name
        self.remembers = True
        self.repeatable = terms.idempotency_header is not None
        self.poll_pauses_s = (terms.first_poll_s, max(terms.first_poll_s, terms.longest_poll_s))
        self._base_url = base_url.rstrip("/")
        self._origin = _origin(base_url)
        self._terms = terms
        self._session = session
        self._timeouts = timeouts or Timeouts()
        self._short = replace(self._timeouts, first_byte_s=POLL_TIMEOUT_S, total_s=POLL_TIMEOUT_S)
        self._api_key = api_key
        self._webhook_secret = webhook_secret
        self._headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
        if api_key:
            self._headers[terms.auth_header] = f"{terms.auth_scheme} {api_key}" if terms.auth_scheme else api_key
        for header, value in self._headers.items():
            check_header(header, value)

    async def create(self, request: PredictionRequest) -> Prediction:
        """See PredictionProvider."""
        terms = self._terms
        headers = {"X-Request-Id": request.request_id, **dict(request.trace)}
        if terms.idempotency_header is not None:
            headers[terms.idempotency_header] = request.key
        url = self._url(terms.create_path, model=request.upstream_model)
        answer = await self._ask("POST", url, request.timeouts or self._timeouts, self._body_of(request), headers)
        return prediction_of(terms, answer, "")

    async def read(self, prediction_id: str) -> Prediction:
        """See PredictionProvider."""
        url = self._url(self._terms.poll_path, id=prediction_id)
        found = prediction_of(self._terms, await self._ask("GET", url, self._short), prediction_id)
        return self._with_content(found)

    async def cancel(self, prediction_id: str) -> bool:
        """See PredictionProvider. One that the provider does not know needs no cancelling: the next look says so."""
        terms = self._terms
        if terms.cancel_path is None:
            return False
        try:
            await self._ask(terms.cancel_method, self._url(terms.cancel_path, id=prediction_id), self._short)
        except (PredictionUnknown, UpstreamGarbage):  # a cancellation may well answer nothing
            return True
        return True

    def owns(self, url: str) -> bool:
        """See PredictionProvider."""
        return _origin(url) == self._origin

    async def fetch(self, url: str) -> AsyncGenerator[bytes]:
        """See PredictionProvider."""
        connect_s, idle_s = self._timeouts.connect_s, self._timeouts.idle_s
        times = aiohttp.ClientTimeout(total=MOST_FETCH_S, connect=connect_s, sock_read=idle_s)
        try:
            async with self._session.get(url, headers=self._headers, allow_redirects=False, timeout=times) as answer:
                if answer.status != 200:
                    raise error_of_status(answer.status, None, None)
                async for part in answer.content.iter_chunked(_PART_BYTES):
                    yield part
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure_of(error) from error

    def webhook_subject(self, headers: Mapping[str, str], body: bytes, now_s: int) -> str:
        """See PredictionProvider."""
        if self._webhook_secret is None:
            raise WebhookRefused("this provider has no webhook secret")
        return subject_of(self._terms, self._webhook_secret, headers, body, now_s)

    def _body_of(self, request: PredictionRequest) -> JsonObject:
        terms = self._terms
        names = dict(terms.rename)
        # A renamed field has one name here: what is called as it is there, in any letters, could say other than what the
        # call is priced by.
        theirs = {"model", "stream", *(set(names.values()) - names.keys())}
        left_out = {folded(name) for name in theirs} - {folded(name) for name in names}
        given = {
            names.get(name, name): value
            for name, value in request.body.items()
            if name not in theirs and folded(name) not in left_out
        }
        for name in terms.as_text:
            if isinstance(given.get(name), int | float):
                given[name] = str(given[name])
        body: JsonObject = {}
        write(body, terms.input_field, given)
        if "{model}" not in terms.create_path:
            write(body, terms.model_field, request.upstream_model)
        # Webhooks that could not be verified are not asked for.
        if terms.webhook_field is not None and request.webhook_url is not None and self._webhook_secret is not None:
            write(body, terms.webhook_field, request.webhook_url)
        return body

    def _url(self, path: str, **places: str) -> str:
        for name, value in places.items():
            path = path.replace(f"{{{name}}}", quote(value, safe="/" if name == "model" else ""))
        return self._base_url + path

    def _with_content(self, found: Prediction) -> Prediction:
        from_path = self._terms.content_path
        return found if from_path is None else _content_of(found, self._url(from_path, id=found.id))

    async def _ask(
        self,
        method: str,
        url: str,
        times: Timeouts,
        body: JsonObject | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> JsonObject:
        """The JSON object of a good answer."""
        sent = {**self._headers, **(headers or {}), **({} if body is None else {"Content-Type": "application/json"})}
        timeout = aiohttp.ClientTimeout(total=times.total_s, connect=times.connect_s, sock_read=times.first_byte_s)
        try:
            async with self._session.request(
                method,
                url,
                data=None if body is None else orjson.dumps(body),
                headers=sent,
                allow_redirects=False,
                timeout=timeout,
            ) as answer:
                text = await _read(answer)
                status, told = answer.status, answer.headers
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failure_of(error) from error
        if not 200 <= status < 300:
            wait_s = retry_after_s(told.get("Retry-After-Ms", ""), told.get("Retry-After", ""), now())
            raise self._error_of(status, text, wait_s, known=method == "POST" and body is not None)
        return object_in(text)

    def _error_of(self, status: int, text: bytes, wait_s: float | None, *, known: bool) -> ProviderError:
        if status in _KNOWS_NOT and not known:
            return PredictionUnknown()
        return error_of_status(status, error_object(text, self._api_key), wait_s)


def _content_of(found: Prediction, url: str) -> Prediction:
    if found.state is not PredictionState.SUCCEEDED:
        return found
    return Prediction(found.id, found.state, (OutputFile(url),), found.reported, found.error)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_chunked(_PART_BYTES):
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise UpstreamGarbage(f"the provider's answer is longer than {MAX_ANSWER_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _failure_of(error: Exception) -> ProviderError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamTimeout("connect")
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("first_byte")
    if isinstance(error, aiohttp.ClientConnectorError):
        return NotReached()
    return UpstreamUnavailable("the connection to the provider broke")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", None, None)
    return (parts.scheme, parts.hostname, port)
