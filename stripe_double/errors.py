"""The refusals of the API in Stripe's own form."""

from stripe_double.values import Json


class ApiError(Exception):
    """An answer other than 2xx; `facts` are the further fields of the error object."""

    def __init__(self, status: int, kind: str, message: str, **facts: object) -> None:
        """`kind` is Stripe's error type, such as invalid_request_error."""
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.facts = facts

    def body(self) -> Json:
        """The JSON answer."""
        known = {name: value for name, value in self.facts.items() if value is not None}
        return {"error": {"type": self.kind, "message": self.message, **known}}


def invalid(message: str, *, code: str | None = None, param: str | None = None, **facts: object) -> ApiError:
    """400: the request cannot be right."""
    return ApiError(400, "invalid_request_error", message, code=code, param=param, **facts)


def missing(kind: str, key: str, *, param: str = "id", status: int = 404) -> ApiError:
    """404 (400 where a parameter names it): no such object, or not within this account."""
    return ApiError(status, "invalid_request_error", f"No such {kind}: '{key}'", code="resource_missing", param=param)


def require_url(params: Json, name: str) -> None:
    """ApiError 400 where the parameter, if given, is no address of the web."""
    if name in params and not str(params[name]).startswith(("http://", "https://")):
        raise invalid("Not a valid URL", code="url_invalid", param=name)


def require_email(params: Json) -> None:
    """ApiError 400 where `email`, if given, cannot be one."""
    email = str(params.get("email") or "a@b")
    if not all(email.partition("@")) or " " in email:
        raise invalid(f"Invalid email address: {email}", code="email_invalid", param="email")


def card_error(message: str, *, code: str, decline_code: str | None = None, **facts: object) -> ApiError:
    """402: the card was declined, or asks for its holder."""
    return ApiError(402, "card_error", message, code=code, decline_code=decline_code, **facts)
