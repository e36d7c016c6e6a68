"""Faults ordered beforehand: the next call of a path fails before it does anything, or its answer is lost after."""

import re
from dataclasses import dataclass, field

from stripe_double.errors import ApiError, invalid
from stripe_double.values import Json

KINDS = ("error_before", "rate_limit_before", "drop_after", "timeout_after", "lock_timeout_before", "conflict_before")
_HANG_S = 600.0


@dataclass
class Fault:
    """One ordered fault. `path` is a regular expression of the whole path."""

    kind: str
    path: re.Pattern[str]
    method: str | None
    times: int
    after: int
    hang_for_s: float

    def before(self) -> ApiError | None:
        """The refusal in place of doing anything."""
        if self.kind == "error_before":
            return ApiError(500, "api_error", "An unknown error occurred (ordered from the double).")
        if self.kind == "rate_limit_before":
            return ApiError(429, "invalid_request_error", "Request rate limit exceeded.", code="rate_limit")
        if self.kind == "lock_timeout_before":
            return ApiError(
                429, "invalid_request_error", "This object cannot be accessed right now.", code="lock_timeout"
            )
        if self.kind == "conflict_before":
            return ApiError(409, "idempotency_error", "There is currently another in-progress request using this key.",
                            code="idempotency_key_in_use")  # fmt: skip
        return None

    @property
    def drop(self) -> bool:
        """Whether the connection is closed in place of the answer."""
        return self.kind in {"drop_after", "timeout_after"}

    @property
    def hang_s(self) -> float:
        """How long the answer is held back."""
        return self.hang_for_s if self.kind == "timeout_after" else 0.0


@dataclass
class Faults:
    """What is ordered and not yet used."""

    ordered: list[Fault] = field(default_factory=list[Fault])

    def order(self, wanted: Json) -> None:
        """Take an order of the control endpoint: kind, path, and perhaps method, times, after, seconds."""
        kind = str(wanted.get("kind"))
        if kind not in KINDS:
            raise invalid(f"Invalid kind: must be one of {', '.join(KINDS)}", param="kind")
        method = wanted.get("method")
        self.ordered.append(
            Fault(
                kind,
                re.compile(str(wanted.get("path", ".*"))),
                str(method).upper() if method is not None else None,
                int(wanted.get("times", 1)),
                int(wanted.get("after", 0)),
                float(wanted.get("seconds", _HANG_S)),
            )
        )

    def taken(self, method: str, path: str) -> Fault | None:
        """The fault of this call, used up by it."""
        for fault in self.ordered:
            if fault.method not in {None, method} or fault.path.fullmatch(path) is None:
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.ordered.remove(fault)
            return fault
        return None
