"""Webhooks of providers: POST /webhooks/providers/{name}. A genuine one makes its job due now, and nothing else.

What became of the job is read from the provider anew, so that a message which is late, repeated or wrong changes nothing.
"""

import logging
from typing import Final

from app.asgi import Headers, Receive, Scope, Send, read_body, request_id_of, send_bytes, send_json
from gateway.jobs import Jobs
from kit.clock import now
from providers.errors import ProviderNotConfigured
from providers.job_registry import JobProviders
from providers.predictions import WebhookRefused

logger = logging.getLogger(__name__)

PATH: Final = "/webhooks/providers/"
MAX_BODY_BYTES: Final = 1024 * 1024


class ProviderWebhooks:
    """The ASGI application of everything below PATH."""

    def __init__(self, providers: JobProviders, jobs: Jobs) -> None:
        """The parts of one process."""
        self._providers = providers
        self._jobs = jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """204 for what was genuine, whether a job waits for it or not; 401 for what was not."""
        headers: Headers = [(b"x-request-id", request_id_of(scope).encode("ascii"))]
        if scope["method"] != "POST":
            await send_json(send, 405, _error("POST only"), [*headers, (b"allow", b"POST")])
            return
        name = scope["path"].removeprefix(PATH)
        try:
            provider = self._providers.get(name)
        except ProviderNotConfigured:
            await send_json(send, 404, _error("there is no such provider"), headers)
            return
        body = await read_body(scope, receive, MAX_BODY_BYTES)
        given = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        try:
            prediction_id = provider.webhook_subject(given, body, int(now().timestamp()))
        except WebhookRefused as refused:
            logger.warning("a webhook for provider %s was refused: %s", provider.name, refused)
            await send_json(send, 401, _error("this webhook is not genuine"), headers)
            return
        await self._jobs.poke(provider.name, prediction_id)
        await send_bytes(send, 204, b"", b"application/json", headers)


def _error(message: str) -> dict[str, dict[str, str]]:
    return {"error": {"message": message}}
