"""When a credential that opened a long-lived connection stops being good."""

import asyncio

from accounts.views import Principal
from app.graphql.asking import CredentialReader
from kit.errors import Forbidden, RequestFailure, Unauthenticated


async def until_revoked(
    credentials: CredentialReader, authorization: str | None, principal: Principal, address: str, every_s: float
) -> RequestFailure:
    """Wait until the credential is refused, or stands for other rights than it did, and answer why.

    It is asked from memory while warm: revocations are heard of over pub/sub, which empties that memory. A database
    that is away ends no connection; one opened without a credential lives until it ends of itself.
    """
    if authorization is None:
        await asyncio.Event().wait()
    assert authorization is not None, "waited for ever"
    while True:
        await asyncio.sleep(every_s)
        try:
            found = await credentials.principal_of_text(authorization, address)
        except (Unauthenticated, Forbidden) as failure:
            return failure
        except RequestFailure:
            continue
        if found != principal:
            return Forbidden("the rights of this credential have changed; connect again")
