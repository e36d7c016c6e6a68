"""The sandbox server's part for predictions: /v1/predictions, the files they made, and webhooks when they end."""

import asyncio
import base64
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import orjson

from providers.base import JsonObject
from providers.sandbox_jobs import now_ms
from providers.sandbox_predictions import JobBehaviour, Refused, SandboxPredictions

_PREDICTIONS: Final = "/v1/predictions"
_FILES: Final = "/v1/files"
_WEBHOOK_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class JobReply:
    """An answer, to be sent after `delay_ms`."""

    status: int
    media_type: str
    body: bytes
    delay_ms: int = 0


class SandboxJobServer:
    """One per server."""

    def __init__(
        self,
        log: Callable[[JsonObject], None],
        webhook_secret: bytes | None = None,
        default: JobBehaviour | None = None,
    ) -> None:
        """`log` is told what was made and cancelled. `webhook_secret` signs webhooks as Standard Webhooks says."""
        self._predictions = SandboxPredictions(now_ms, default)
        self._log = log
        self._secret = webhook_secret
        self._sending: set[asyncio.Task[None]] = set()

    @staticmethod
    def serves(path: str) -> bool:
        """Whether a path is this part's."""
        return path.startswith((f"{_PREDICTIONS}/", f"{_FILES}/")) or path == _PREDICTIONS

    def answer(self, method: str, path: str, host: str, key: str, text: bytes) -> JobReply:
        """The answer to one request; `host` is how the caller names the server, `key` its Idempotency-Key."""
        try:
            return self._answer(method, path.split("/")[2:], f"http://{host}{_FILES}", key, text)
        except Refused as refused:
            return _json(refused.status, {"error": {"message": refused.message}})

    def _answer(self, method: str, steps: list[str], files: str, key: str, text: bytes) -> JobReply:
        match method, steps:
            case "POST", ["predictions"]:
                return self._create(text, key, files)
            case "GET", ["predictions", prediction_id]:
                return _json(200, self._predictions.read(prediction_id, files))
            case "POST", ["predictions", prediction_id, "cancel"]:
                self._predictions.cancel(prediction_id)
                self._log({"prediction": prediction_id, "event": "canceled"})
                return _json(200, self._predictions.read(prediction_id, files))
            case "GET", ["files", prediction_id, index] if index.isdigit():
                media_type, content, delay_ms = self._predictions.file(prediction_id, int(index))
                self._log({"prediction": prediction_id, "event": "fetched", "index": int(index)})
                return JobReply(200, media_type, content, delay_ms)
            case _:
                raise Refused(404, "there is nothing at this address")

    def _create(self, text: bytes, key: str, files: str) -> JobReply:
        try:
            parsed: object = orjson.loads(text)
        except orjson.JSONDecodeError:
            parsed = None
        if not isinstance(parsed, dict):
            raise Refused(400, "the body is not a JSON object")
        body: JsonObject = parsed  # pyright: ignore[reportUnknownVariableType] -- keys of JSON are texts
        prediction_id, behaviour, is_new = self._predictions.create(body, key)
        self._log({"prediction": prediction_id, "event": "created" if is_new else "repeated", "key": key})
        webhook = body.get("webhook")
        if is_new and isinstance(webhook, str) and behaviour.webhooks and behaviour.outcome != "forget":
            ends_in_ms = self._predictions.ends_in_ms(prediction_id)
            if ends_in_ms is not None:
                task = asyncio.ensure_future(self._notify(webhook, prediction_id, ends_in_ms, behaviour.webhooks))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
        answer: JsonObject = {"id": prediction_id, "status": "starting", "output": None}
        if behaviour.outcome != "forget":
            answer = self._predictions.read(prediction_id, files)
        return _json(201, answer, behaviour.create_delay_ms)

    async def _notify(self, url: str, prediction_id: str, wait_ms: int, times: int) -> None:
        await asyncio.sleep(wait_ms / 1000)
        body = orjson.dumps({"id": prediction_id, "status": "ended"})
        message_id, stamp = f"msg_{os.urandom(8).hex()}", str(now_ms() // 1000)
        head = f"webhook-id: {message_id}\r\nwebhook-timestamp: {stamp}\r\n"
        if self._secret is not None:
            mac = hmac.digest(self._secret, f"{message_id}.{stamp}.".encode() + body, "sha256")
            head += f"webhook-signature: v1,{base64.b64encode(mac).decode()}\r\n"
        await asyncio.gather(*[self._post(url, head, body) for _ in range(times)])

    async def _post(self, url: str, head: str, body: bytes) -> None:
        parts = urlsplit(url)
        lines = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        request = f"{lines}{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        status = 0
        try:
            async with asyncio.timeout(_WEBHOOK_TIMEOUT_S):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
                writer.write(request)
                line = await reader.readline()
                status = int(line.split()[1])
                writer.close()
        except (OSError, ValueError, IndexError):
            status = 0
        self._log({"event": "webhook", "status": status})


def _json(status: int, body: JsonObject, delay_ms: int = 0) -> JobReply:
    return JobReply(status, "application/json", orjson.dumps(body), delay_ms)
