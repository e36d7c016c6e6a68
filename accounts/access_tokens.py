"""Access tokens: short-lived JWTs that this product signs and only it reads."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import jwt

from kit.errors import Unauthenticated
from kit.sealing import Sealer, SealError

ALGORITHM: Final = "HS256"
AUDIENCE: Final = "tollgate"
LEEWAY_S: Final = 5
MAX_LENGTH: Final = 2048
_PURPOSE: Final = "access-token"
_TYPE: Final = "at+jwt"
_WRONG: Final = (
    "This is neither an API key, which begins with tg_, nor a valid access token: send such a key, or sign in (signIn)."
)


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What a token says that was found good."""

    user_id: UUID
    session_id: UUID
    expires_at: datetime


class AccessTokens:
    """Signs under the current secret key, and reads under every configured one, so that keys rotate."""

    def __init__(self, sealer: Sealer) -> None:
        """Keys are derived once."""
        self._current = sealer.current_version
        self._keys = {version: sealer.derive(_PURPOSE, version=version) for version in sealer.versions}

    def issue(self, user_id: UUID, session_id: UUID, issued_at: datetime, expires_at: datetime) -> str:
        """A token for this session."""
        claims = {
            "iss": AUDIENCE,
            "aud": AUDIENCE,
            "sub": user_id.hex,
            "sid": session_id.hex,
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        headers = {"kid": str(self._current), "typ": _TYPE}
        return jwt.encode(claims, self._keys[self._current], algorithm=ALGORITHM, headers=headers)

    def read(self, token: str, now: datetime) -> AccessClaims:
        """What the token says; Unauthenticated for every other algorithm, signer, audience, shape or time."""
        refused = Unauthenticated(_WRONG)
        if len(token) > MAX_LENGTH or not token.isascii():
            raise refused
        try:
            header = jwt.get_unverified_header(token)
            if header.get("typ") != _TYPE:
                raise refused
            claims = jwt.decode(
                token,
                self._key_of(header.get("kid")),
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=AUDIENCE,
                # Times are judged below against kit.clock, not against the library's own clock.
                options={
                    "require": ["exp", "iat", "sub", "sid"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            found = AccessClaims(
                user_id=UUID(hex=claims["sub"]),
                session_id=UUID(hex=claims["sid"]),
                expires_at=datetime.fromtimestamp(claims["exp"], UTC),
            )
            issued_at = datetime.fromtimestamp(claims["iat"], UTC)
        except (
            jwt.InvalidTokenError,
            SealError,
            ValueError,
            TypeError,
            AttributeError,
            OverflowError,
            OSError,
        ) as error:
            raise refused from error
        if found.expires_at <= now:
            raise Unauthenticated("The access token has expired: renew it (refreshSession), or sign in again (signIn).")
        if issued_at.timestamp() > now.timestamp() + LEEWAY_S:
            raise refused
        return found

    def _key_of(self, kid: object) -> bytes:
        key = self._keys.get(int(kid)) if isinstance(kid, str) and kid.isdecimal() and len(kid) < 4 else None
        if key is None:
            raise SealError("this key version is not configured")
        return key
