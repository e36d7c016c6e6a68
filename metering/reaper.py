"""Ends what has lapsed: holds whose call never ended, and grants whose time is over. Called by a worker's loop."""

import asyncio
from typing import Final

from kit import clock
from metering.ledger import Ledger
from metering.operations import Expire, Reap
from metering.rules.uses import payees_of
from metering.views import Outcome, Posted, Rejected
from models.database import Database, execute, fetch_rows

# No row locks here: the ledger locks wallets first, then holds, and looks again. A hold that another reaper takes at
# the same time is ended once; the second finds nothing to do. The hold of a job ends with the job, whose row says what
# may still come of it, also when all workers were away for longer than a hold lives.
_LAPSED_HOLDS: Final = """
SELECT call_id, wallet_id, payee_wallet_id, checkpoint->'details' AS details FROM holds WHERE expires_at <= $1
    AND NOT EXISTS (SELECT FROM jobs WHERE jobs.call_id = holds.call_id AND ended_at IS NULL)
ORDER BY expires_at LIMIT $2
"""
_LAPSED_GRANTS: Final = """
SELECT id, wallet_id FROM credit_grants
WHERE expires_at <= $1 AND remaining_micro > 0 AND remaining_micro > held_micro ORDER BY expires_at LIMIT $2
"""
_OLD_OUTPUTS: Final = """
DELETE FROM call_outputs WHERE call_id IN
    (SELECT call_id FROM call_outputs WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
# A workspace that turned storing off keeps what repeats need and nothing else. The few workspaces that have stored
# outputs are found one by one along the index, so that a round costs nothing by the number of outputs.
_UNWANTED_OUTPUTS: Final = """
WITH RECURSIVE storing (id) AS (
    (SELECT workspace_id FROM call_outputs WHERE repeat_until IS NOT NULL ORDER BY workspace_id LIMIT 1)
    UNION ALL
    SELECT (SELECT o.workspace_id FROM call_outputs o WHERE o.repeat_until IS NOT NULL AND o.workspace_id > s.id
            ORDER BY o.workspace_id LIMIT 1)
    FROM storing s WHERE s.id IS NOT NULL
)
DELETE FROM call_outputs WHERE call_id IN
    (SELECT o.call_id FROM storing s LEFT JOIN workspaces w ON w.id = s.id JOIN call_outputs o ON o.workspace_id = s.id
     WHERE w.store_outputs IS NOT TRUE AND o.repeat_until <= $1 LIMIT $2 FOR UPDATE OF o SKIP LOCKED)
"""


async def reap_holds(database: Database, ledger: Ledger, *, limit: int = 256) -> int:
    """End lapsed holds, the longest lapsed first; answers how many. Call again at once while it answers `limit`."""
    rows = await fetch_rows(database, _LAPSED_HOLDS, clock.now(), limit)
    outcomes = await asyncio.gather(*(ledger.submit(Reap(row[0], row[1], row[2], payees_of(row[3]))) for row in rows))
    return _changed(outcomes)


async def sweep_grants(database: Database, ledger: Ledger, *, limit: int = 256) -> int:
    """Write off what is free of expired grants; answers how many. They were not spendable since they expired."""
    rows = await fetch_rows(database, _LAPSED_GRANTS, clock.now(), limit)
    outcomes = await asyncio.gather(*(ledger.submit(Expire(row[0], row[1])) for row in rows))
    return _changed(outcomes)


async def purge_outputs(database: Database, *, limit: int = 1000) -> int:
    """Forget sealed outputs whose time is over, and those of workspaces that store none any more; answers how many."""
    done = 0
    for query in (_OLD_OUTPUTS, _UNWANTED_OUTPUTS):
        status = await execute(database, query, clock.now(), limit - done)
        done += int(status.rpartition(" ")[2])
    return done


def _changed(outcomes: list[Outcome]) -> int:
    return sum(
        not isinstance(outcome, Rejected) and not (isinstance(outcome, Posted) and not outcome.changed)
        for outcome in outcomes
    )
