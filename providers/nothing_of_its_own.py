"""What a provider of predictions says of files and webhooks that has none."""

from collections.abc import AsyncGenerator, Mapping

from providers.predictions import PredictionUnknown, WebhookRefused


class NothingOfItsOwn:
    """That part of PredictionProvider, for one whose files come inside its answers or lie elsewhere."""

    def owns(self, url: str) -> bool:
        """No address is its own."""
        del url
        return False

    async def fetch(self, url: str) -> AsyncGenerator[bytes]:
        """There is nothing of its own to fetch: PredictionUnknown."""
        raise PredictionUnknown
        yield url.encode()  # which makes it a generator

    def webhook_subject(self, headers: Mapping[str, str], body: bytes, now_s: int) -> str:
        """It sends none: WebhookRefused."""
        del headers, body, now_s
        raise WebhookRefused("this provider sends no webhooks")
