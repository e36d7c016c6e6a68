"""How a provider of predictions is spoken to, as the catalog describes it: where, in which fields, in which words."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

WHOLE: Final = "."
"""The path of the whole body."""


class WebhookScheme(StrEnum):
    """How a provider signs its webhooks."""

    STANDARD = "standard"
    HMAC_SHA256 = "hmac_sha256"


class PredictionMeter(StrEnum):
    """What a provider may report of a finished prediction."""

    INPUT_TOKENS = "INPUT_TOKENS"
    OUTPUT_TOKENS = "OUTPUT_TOKENS"
    REQUESTS = "REQUESTS"
    IMAGES = "IMAGES"
    SECONDS = "SECONDS"
    CHARACTERS = "CHARACTERS"


class CancelMethod(StrEnum):
    """The method that cancels a prediction."""

    POST = "POST"
    PUT = "PUT"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class PredictionTerms:
    """Paths below the base URL may hold {id} and {model}; paths into JSON are names, numbers and * joined by dots.

    `idempotency_header`: creating again under the same key gives the same prediction; None where the provider promises
    no such thing, then a creation whose outcome is unknown is not tried again. `content_path`: where the finished file
    is fetched with our credential, in place of an address in the answer. `auth_scheme` empty sends the bare key.
    """

    create_path: str = "/predictions"
    poll_path: str = "/predictions/{id}"
    cancel_path: str | None = None
    cancel_method: CancelMethod = CancelMethod.POST
    content_path: str | None = None
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer"
    idempotency_header: str | None = None
    model_field: str = "model"
    input_field: str = "input"
    webhook_field: str | None = None
    rename: tuple[tuple[str, str], ...] = ()
    as_text: tuple[str, ...] = ()
    id_field: str = "id"
    status_field: str = "status"
    output_field: str = "output"
    error_field: str = "error"
    queued: tuple[str, ...] = ("starting", "queued")
    running: tuple[str, ...] = ("processing", "running", "in_progress")
    succeeded: tuple[str, ...] = ("succeeded", "completed")
    failed: tuple[str, ...] = ("failed",)
    canceled: tuple[str, ...] = ("canceled", "cancelled")
    usage: tuple[tuple[str, str], ...] = ()
    webhook_secret_env: str | None = None
    webhook_scheme: WebhookScheme = WebhookScheme.STANDARD
    webhook_signature_header: str = "x-signature"
    first_poll_s: int = 1
    longest_poll_s: int = 15
