"""The pretended predictions of the sandbox: pictures and films that take a while, may fail, and can be cancelled.

An id says all about its prediction, so that every process answers for it alike; only cancellations and the keys of
creations are remembered. What is made follows from model and prompt alone.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Final

import orjson

from providers.base import JsonObject
from providers.prediction_terms import PredictionTerms
from providers.sandbox_artifacts import picture
from providers.sandbox_model import MISSING_PREFIX, seed_of

TERMS: Final = PredictionTerms(
    cancel_path="/predictions/{id}/cancel",
    idempotency_header="Idempotency-Key",
    webhook_field="webhook",
    usage=(("IMAGES", "usage.images"), ("SECONDS", "usage.seconds")),
    longest_poll_s=5,
)
"""How the sandbox is spoken to."""
DEFAULT_DELAY_MS: Final = 1_000
MAX_DELAY_MS: Final = 3_600_000
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
MAX_IMAGES: Final = 10
MAX_SECONDS: Final = 600
OUTCOMES: Final = ("succeed", "fail", "forget", "hang", "empty")
"""forget: after its creation nobody knows of it; hang: it never ends; empty: it succeeds with no output."""
USAGES: Final = ("true", "none", "negative", "huge")


@dataclass(frozen=True, slots=True)
class JobBehaviour:
    """How a prediction goes; each field is set by the key `sandbox_` and its name in the metadata of its input.

    `create_delay_ms` passes between the prediction's beginning and the answer that tells its id.
    """

    delay_ms: int = DEFAULT_DELAY_MS
    create_delay_ms: int = 0
    file_delay_ms: int = 0
    outcome: str = "succeed"
    usage: str = "true"
    webhooks: int = 1
    status: int = 200
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Scripted:
    """One prediction."""

    kind: str
    images: int
    seconds: int
    created_ms: int
    delay_ms: int
    file_delay_ms: int
    outcome: str
    usage: str
    bytes: int
    seed: str


class Refused(Exception):
    """The sandbox does not take it; `status` is HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        """`message` for the caller."""
        super().__init__(message)
        self.status = status
        self.message = message


class SandboxPredictions:
    """One per server or process."""

    def __init__(self, now_ms: Callable[[], int], default: JobBehaviour | None = None) -> None:
        """`now_ms`: Unix milliseconds. `default` is the behaviour of predictions whose metadata say nothing."""
        self._now_ms = now_ms
        self._default = default or JobBehaviour()
        self._canceled: dict[str, int] = {}
        self._by_key: dict[str, str] = {}

    def create(self, body: JsonObject, key: str) -> tuple[str, JobBehaviour, bool]:
        """The id, how it will go, and whether it is new: False for a key seen before. Raises Refused."""
        given = body.get("input")
        wanted: JsonObject = given if isinstance(given, dict) else {}  # pyright: ignore[reportUnknownVariableType] -- keys of JSON are texts
        behaviour = _behaviour_of(wanted.get("metadata"), self._default)
        if behaviour.status != 200:
            raise Refused(behaviour.status, f"the sandbox was told to fail with {behaviour.status}")
        if key and key in self._by_key:
            return self._by_key[key], behaviour, False
        model, prompt = body.get("model"), wanted.get("prompt")
        if not isinstance(model, str) or model.startswith(MISSING_PREFIX):
            raise Refused(404, "there is no such model")
        if not isinstance(prompt, str) or not prompt:
            raise Refused(422, "prompt must be a text that is not empty")
        video = "video" in model
        scripted = Scripted(
            kind="video" if video else "image",
            images=0 if video else _whole(wanted.get("n"), 1, MAX_IMAGES),
            seconds=_whole(wanted.get("seconds"), 5, MAX_SECONDS) if video else 0,
            created_ms=self._now_ms(),
            delay_ms=behaviour.delay_ms,
            file_delay_ms=behaviour.file_delay_ms,
            outcome=behaviour.outcome,
            usage=behaviour.usage,
            bytes=behaviour.bytes,
            # Two predictions of one millisecond are two all the same.
            seed=hashlib.sha256(seed_of([model, prompt]) + str(len(self._by_key)).encode()).hexdigest()[:24],
        )
        made = "pred-" + base64.urlsafe_b64encode(orjson.dumps(asdict(scripted))).decode().rstrip("=")
        self._by_key[key or made] = made
        return made, behaviour, True

    def read(self, prediction_id: str, file_base: str) -> JsonObject:
        """The answer to a look; outputs are addresses below `file_base`, data: ones where that is empty. Raises Refused."""
        scripted = self._known(prediction_id)
        canceled_ms = self._canceled.get(prediction_id)
        at = self._now_ms() if canceled_ms is None else canceled_ms
        share = min(1.0, max(0, at - scripted.created_ms) / max(1, scripted.delay_ms))
        done = share >= 1.0 and scripted.outcome != "hang"
        status = "canceled" if canceled_ms is not None else "starting" if share < 0.25 else "processing"
        if done and canceled_ms is None:
            status = "failed" if scripted.outcome == "fail" else "succeeded"
        made = 0
        if status == "succeeded" and scripted.outcome != "empty":
            made = max(1, scripted.images)
        elif status == "canceled":
            made = int(scripted.images * share)
        seconds = scripted.seconds if status == "succeeded" else int(scripted.seconds * share)
        answer: JsonObject = {
            "id": prediction_id,
            "status": status,
            "output": [self._address(prediction_id, scripted, index, file_base) for index in range(made)],
            "error": "the sandbox was told to fail" if status == "failed" else None,
        }
        if status in ("succeeded", "canceled", "failed") and scripted.usage != "none":
            true = {"images": made if scripted.kind == "image" else 0, "seconds": seconds}
            factor = {"negative": -1, "huge": 10**12}.get(scripted.usage, 1)
            answer["usage"] = {name: count * factor for name, count in true.items() if name == _METERS[scripted.kind]}
        return answer

    def cancel(self, prediction_id: str) -> None:
        """End it now, unless it has ended. Raises Refused."""
        scripted = self._known(prediction_id)
        at = self._now_ms()
        if at < scripted.created_ms + scripted.delay_ms or scripted.outcome == "hang":
            self._canceled.setdefault(prediction_id, at)

    def ends_in_ms(self, prediction_id: str) -> int | None:
        """Until its webhook is sent; None for one that never ends."""
        scripted = self._known(prediction_id)
        return None if scripted.outcome == "hang" else max(0, scripted.created_ms + scripted.delay_ms - self._now_ms())

    def file(self, prediction_id: str, index: int) -> tuple[str, bytes, int]:
        """A file's media type, its bytes and the milliseconds to wait before it is sent. Raises Refused."""
        scripted = self._known(prediction_id)
        if not 0 <= index < max(1, scripted.images):
            raise Refused(404, "there is no such file")
        return *_file_of(scripted, index), scripted.file_delay_ms

    def _address(self, prediction_id: str, scripted: Scripted, index: int, file_base: str) -> str:
        if file_base:
            return f"{file_base}/{prediction_id}/{index}"
        media_type, content = _file_of(scripted, index)
        return f"data:{media_type};base64,{base64.b64encode(content).decode()}"

    def _known(self, prediction_id: str) -> Scripted:
        text = prediction_id.removeprefix("pred-")
        try:
            scripted = Scripted(**orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))
        except (binascii.Error, ValueError, TypeError) as error:
            raise Refused(404, "there is no such prediction") from error
        if scripted.outcome == "forget":
            raise Refused(404, "there is no such prediction")
        return scripted


_METERS: Final = {"image": "images", "video": "seconds"}


def _file_of(scripted: Scripted, index: int) -> tuple[str, bytes]:
    seed = seed_of([scripted.seed, index])
    if scripted.kind == "image":
        content = picture(seed)
        # What follows a PNG's end is ignored by whoever shows it.
        return "image/png", content + b"\0" * max(0, min(scripted.bytes, MAX_FILE_BYTES) - len(content))
    size = max(256, min(scripted.bytes, MAX_FILE_BYTES))
    head = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2"
    frames = hashlib.shake_256(seed).digest(size - len(head) - 8)
    return "video/mp4", head + (len(frames) + 8).to_bytes(4, "big") + b"mdat" + frames


def _behaviour_of(metadata: object, default: JobBehaviour) -> JobBehaviour:
    if not isinstance(metadata, dict):
        return default
    found: dict[str, object] = {}
    for name, usual in asdict(default).items():
        value: object = metadata.get(f"sandbox_{name}")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] -- judged below
        if isinstance(usual, int):
            text = str(value) if isinstance(value, str | int) else ""
            if text.isascii() and text.isdigit() and len(text) <= 10:
                found[name] = min(int(text), MAX_DELAY_MS if name.endswith("_ms") else MAX_FILE_BYTES)
        elif value in {"outcome": OUTCOMES, "usage": USAGES}[name]:
            found[name] = value
    # Each value was read as the field's own type; replace() cannot be told so.
    return replace(default, **found)  # pyright: ignore[reportArgumentType]


def _whole(value: object, usual: int, most: int) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most else usual
