"""Verifies identity tokens of one OpenID Connect issuer, whose keys it fetches and keeps."""

import asyncio
import logging
from dataclasses import dataclass
from time import monotonic
from typing import Final, cast
from urllib.parse import urlsplit

import aiohttp
import jwt
import orjson

from kit.clock import now
from kit.errors import Unauthenticated, Unavailable

MAX_TOKEN_LENGTH: Final = 16_384
MAX_BODY_BYTES: Final = 512_000
MAX_KEYS: Final = 50
LEEWAY_S: Final = 60
MAX_AGE_S: Final = 86_400
FRESH_S: Final = 3_600.0
"""After this the keys are fetched anew, so that a key the issuer withdrew ends."""
REFETCH_PAUSE_S: Final = 30.0
"""An unknown key id makes us look again, but not more often than this: anyone can invent key ids."""
STALE_S: Final = 86_400.0
"""While the issuer cannot be reached its last keys are trusted this long."""
FETCH_TIMEOUT_S: Final = 5.0
_ALGORITHM_OF_TYPE: Final = {("RSA", ""): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the issuer says about a person."""

    issuer: str
    subject: str
    email: str | None
    email_verified: bool
    name: str | None


@dataclass(frozen=True, slots=True)
class _Key:
    algorithm: str
    key: jwt.PyJWK


class OidcVerifier:
    """One per process and issuer."""

    def __init__(self, issuer: str, audience: str, http: aiohttp.ClientSession) -> None:
        """`issuer` as tokens name it; `audience` is our client id there."""
        self._issuer = issuer
        self._audience = audience
        self._http = http
        self._keys: dict[str, _Key] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Identity:
        """The identity in a token; Unauthenticated unless signature, algorithm, issuer, audience and times are right.
        Unavailable while the issuer's keys cannot be had.
        """
        refused = Unauthenticated("This identity token is not valid.")
        if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
            raise refused
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise refused from error
        kid = header.get("kid", "")
        key = await self._key_of(kid) if isinstance(kid, str) else None
        # The algorithm is the key's, never the token's: no "none", no HMAC under a public key.
        if key is None or header.get("alg") != key.algorithm:
            raise refused
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                options={
                    "require": ["exp", "iat", "sub", "aud", "iss"],
                    "verify_exp": False,  # times are judged below, against kit.clock
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError, TypeError) as error:
            raise refused from error
        if not self._is_timely(claims) or not self._is_ours(claims):
            raise refused
        return _identity(claims, self._issuer)

    def _is_timely(self, claims: dict[str, object]) -> bool:
        at = now().timestamp()
        expires_at, issued_at, not_before = claims["exp"], claims["iat"], claims.get("nbf", 0)
        if not (_is_number(expires_at) and _is_number(issued_at) and _is_number(not_before)):
            return False
        # Compared as numbers: a claim may be larger than a date can be.
        return (
            float(str(expires_at)) > at - LEEWAY_S
            and float(str(not_before)) <= at + LEEWAY_S
            and at - MAX_AGE_S <= float(str(issued_at)) <= at + LEEWAY_S
        )

    def _is_ours(self, claims: dict[str, object]) -> bool:
        """A token for several audiences must name us as the party it was issued to (OpenID Connect Core, 3.1.3.7)."""
        party = claims.get("azp")
        audience = claims["aud"]
        several = isinstance(audience, list) and audience != [self._audience]
        return party == self._audience if several else party in {None, self._audience}

    async def _key_of(self, kid: str) -> _Key | None:
        age_s = monotonic() - self._fetched_at
        if kid in self._keys and age_s < FRESH_S:
            return self._keys[kid]
        async with self._lock:
            if monotonic() - self._tried_at > REFETCH_PAUSE_S:
                await self._fetch()
        if monotonic() - self._fetched_at > STALE_S:
            raise Unavailable("The identity provider cannot be reached. Try again.")
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        self._tried_at = monotonic()
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                document = await self._json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                keys = _keys_of(await self._json(_keys_url(document, self._issuer)))
        except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, OSError) as error:
            _log.warning("No keys of the identity provider: %s", type(error).__name__)
            return
        self._keys, self._fetched_at = keys, monotonic()

    async def _json(self, url: str) -> dict[str, object]:
        async with self._http.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            body = bytearray()
            async for part in response.content.iter_chunked(65_536):
                body += part
                if len(body) > MAX_BODY_BYTES:
                    raise ValueError("the answer is too large")
        return _object(orjson.loads(body))


def _keys_url(document: dict[str, object], issuer: str) -> str:
    url = document.get("jwks_uri")
    if document.get("issuer") != issuer or not isinstance(url, str):
        raise ValueError("the discovery document is of another issuer")
    if urlsplit(url).scheme != "https" and urlsplit(issuer).scheme == "https":
        raise ValueError("the keys are not offered over https")
    return url


def _keys_of(document: dict[str, object]) -> dict[str, _Key]:
    """The signing keys of the allowed algorithms by key id; others are left out."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise TypeError("the key set has no keys")
    keys: dict[str, _Key] = {}
    for listed_key in cast("list[object]", listed)[:MAX_KEYS]:  # isinstance cannot tell of what
        entry = _object(listed_key)
        algorithm = _ALGORITHM_OF_TYPE.get((str(entry.get("kty")), str(entry.get("crv", ""))))
        if algorithm is None or entry.get("use", "sig") != "sig" or entry.get("alg", algorithm) != algorithm:
            continue
        try:
            keys[str(entry.get("kid", ""))] = _Key(algorithm, jwt.PyJWK.from_dict(entry, algorithm))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
    return keys


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("expected a JSON object")
    return cast("dict[str, object]", value)  # JSON objects have texts as keys


def _identity(claims: dict[str, object], issuer: str) -> Identity:
    subject, email, name = claims["sub"], claims.get("email"), claims.get("name")
    if not isinstance(subject, str) or not 1 <= len(subject) <= 255 or "\x00" in subject:
        raise Unauthenticated("This identity token names no subject.")
    return Identity(
        issuer=issuer,
        subject=subject,
        email=email if isinstance(email, str) else None,
        email_verified=claims.get("email_verified") is True,
        name=name if isinstance(name, str) else None,
    )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
