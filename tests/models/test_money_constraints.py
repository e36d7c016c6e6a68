"""Each check constraint and partial unique index of the money tables refuses a bad row, whatever the program does."""

import re
from uuid import UUID

import asyncpg
import pytest

from models.schema_check import expected_schema

ID = UUID(int=1)
OTHER = UUID(int=2)
NOW = "2026-01-31T12:00:00Z"
LATER = "2026-02-28T12:00:00Z"

GOOD: dict[str, dict[str, object]] = {
    "catalog_versions": {
        "id": ID, "number": 1, "name": "Test", "digest": "d", "source": "s", "credits_per_usd": 1000, "applied_at": NOW,
    },
    "plans": {"id": ID, "code": "pro", "version": 1, "name": "Pro", "rank": 1, "entitlements": "{}", "created_at": NOW},
    "prices": {
        "id": ID, "plan_id": ID, "code": "month", "amount_usd_micro": 20_000_000, "period": "MONTH",
        "credits_micro": 1, "cadence": "MONTH", "rollover": True, "rollover_cap_micro": 1, "created_at": NOW,
    },
    "credit_packs": {
        "id": ID, "code": "small", "version": 1, "name": "Small", "credits_micro": 1, "price_usd_micro": 1,
        "expires_after_months": 12, "requires_active_plan": False, "created_at": NOW,
    },
    "model_prices": {"id": ID, "model_id": ID, "meter": "IMAGES", "credits_micro": 0, "per": 1, "created_at": NOW},
    "plan_models": {"id": ID, "plan_id": ID, "model_id": ID, "discount_percent": 100},
    "subscriptions": {
        "id": ID, "workspace_id": ID, "plan_id": ID, "price_id": ID, "status": "ACTIVE", "anchor_at": NOW,
        "current_period_start": NOW, "current_period_end": LATER, "created_at": NOW, "updated_at": NOW,
    },
    "wallets": {"id": ID, "workspace_id": ID, "balance_micro": 10, "held_micro": 10, "created_at": NOW},
    "credit_grants": {
        "id": ID, "wallet_id": ID, "kind": "PACK", "burn_rank": 1, "amount_micro": 100, "reinstated_micro": 5,
        "remaining_micro": 40, "held_micro": 40, "spent_micro": 10, "expired_micro": 10, "clawed_back_micro": 10,
        "refunded_micro": 10, "transferred_micro": 30, "adjusted_micro": -5, "effective_at": NOW, "expires_at": LATER,
        "frozen_reason": "DISPUTE", "source_kind": "payment", "source_id": "1", "created_at": NOW,
    },
    "spend_limits": {
        "id": ID, "workspace_id": ID, "subject_kind": "API_KEY", "subject_id": ID, "period": "MONTH",
        "limit_micro": 0, "period_start": NOW, "created_at": NOW,
    },
    "holds": {
        "call_id": ID, "wallet_id": ID, "workspace_id": ID, "amount_micro": 0, "grant_ids": [ID],
        "grant_amounts_micro": [0], "model_slug": "m", "request_id": "r", "owner": ID, "terms": "{}",
        "created_at": NOW, "expires_at": LATER,
    },
    "ledger_entries": {
        "id": ID, "wallet_id": ID, "grant_id": ID, "kind": "USAGE", "amount_micro": -1, "balance_after_micro": 0,
        "counter_account": "REVENUE", "reference_kind": "call", "reference_id": "1", "description": "", "created_at": NOW,
    },
    "usage_events": {
        "call_id": ID, "workspace_id": ID, "wallet_id": ID, "model_slug": "m", "modality": "TEXT", "cost_micro": 1,
        "charged_micro": 1, "estimated": False, "provider": "p", "created_at": NOW,
    },
    "calls": {
        "id": ID, "workspace_id": ID, "model_slug": "m", "status": "SUCCEEDED", "request_id": "r", "created_at": NOW,
        "completed_at": NOW,
    },
    "idempotency_keys": {
        "workspace_id": ID, "key": "k", "operation": "chat", "input_digest": b"d", "created_at": NOW, "expires_at": LATER,
    },
    "payments": {
        "id": ID, "workspace_id": ID, "purpose": "AUTO_RECHARGE", "amount_usd_micro": 5, "refunded_usd_micro": 5,
        "status": "PENDING", "stripe_object_id": "pi_1", "created_at": NOW, "updated_at": NOW,
    },
    "auto_recharges": {
        "workspace_id": ID, "enabled": True, "threshold_usd_micro": 0, "amount_usd_micro": 1,
        "monthly_limit_usd_micro": 1, "updated_at": NOW,
    },
    "transfers": {
        "id": ID, "workspace_id": ID, "amount_micro": 1, "amount_usd_micro": 0, "status": "REQUESTED",
        "grant_ids": [ID], "grant_amounts_micro": [1], "requested_at": NOW, "updated_at": NOW,
    },
    "promo_campaigns": {
        "id": ID, "code_digest": b"d", "name": "Spring", "credits_micro": 1, "total_limit": 3, "redeemed_count": 3,
        "created_at": NOW,
    },
    "promo_redemptions": {"id": ID, "campaign_id": ID, "workspace_id": ID, "number": 1, "created_at": NOW},
}  # fmt: skip

UNKNOWN = {"kind": "GIFT"}
BAD: list[tuple[str, str, dict[str, object]]] = [
    ("catalog_versions", "catalog_versions_rate", {"credits_per_usd": 0}),
    ("plans", "plans_custom_private", {"workspace_id": ID, "is_public": True}),
    ("prices", "prices_amount", {"amount_usd_micro": -1}),
    ("prices", "prices_free_is_zero", {"amount_usd_micro": 0}),
    ("prices", "prices_free_is_zero", {"period": "FREE"}),
    ("prices", "prices_period", {"period": "WEEK"}),
    ("prices", "prices_cadence", {"cadence": "WEEK"}),
    ("prices", "prices_policy_whole", {"cadence": None}),
    ("prices", "prices_credits", {"credits_micro": 0}),
    ("prices", "prices_rollover_cap", {"rollover": False}),
    ("prices", "prices_rollover_cap", {"rollover_cap_micro": 0}),
    ("prices", "prices_trial", {"trial_days": -1}),
    ("credit_packs", "credit_packs_amounts", {"credits_micro": 0}),
    ("credit_packs", "credit_packs_amounts", {"price_usd_micro": 0}),
    ("credit_packs", "credit_packs_life", {"expires_after_months": 0}),
    ("model_prices", "model_prices_meter", {"meter": "PIXELS"}),
    ("model_prices", "model_prices_amounts", {"credits_micro": -1}),
    ("model_prices", "model_prices_amounts", {"per": 0}),
    ("model_prices", "model_prices_conditions", {"conditions": '["quality"]'}),
    ("plan_models", "plan_models_discount", {"discount_percent": 101}),
    ("subscriptions", "subscriptions_status", {"status": "PAUSED", "ended_at": NOW}),
    ("subscriptions", "subscriptions_period", {"current_period_end": NOW}),
    ("subscriptions", "subscriptions_ended", {"ended_at": NOW}),
    ("subscriptions", "subscriptions_ended", {"status": "CANCELED"}),
    ("wallets", "wallets_balance", {"balance_micro": -1, "held_micro": -1}),
    ("wallets", "wallets_held", {"held_micro": 11}),
    ("wallets", "wallets_held", {"held_micro": -1}),
    ("credit_grants", "credit_grants_kind", UNKNOWN),
    ("credit_grants", "credit_grants_amount", {"amount_micro": 0, "adjusted_micro": -105}),
    ("credit_grants", "credit_grants_held", {"held_micro": 41}),
    ("credit_grants", "credit_grants_held", {"held_micro": -1}),
    ("credit_grants", "credit_grants_held", {"remaining_micro": -1, "held_micro": -1, "spent_micro": 51}),
    ("credit_grants", "credit_grants_parts", {"reinstated_micro": -5, "adjusted_micro": -15}),
    *(
        ("credit_grants", "credit_grants_parts", {part: -1, "adjusted_micro": value - 4})
        for part, value in [
            ("spent_micro", 10), ("expired_micro", 10), ("clawed_back_micro", 10), ("refunded_micro", 10), ("transferred_micro", 30),
        ]
    ),
    ("credit_grants", "credit_grants_balance", {"remaining_micro": 41}),
    ("credit_grants", "credit_grants_balance", {"spent_micro": 9}),
    ("credit_grants", "credit_grants_life", {"expires_at": NOW}),
    ("credit_grants", "credit_grants_frozen", {"frozen_reason": "WHIM"}),
    ("spend_limits", "spend_limits_kind", {"period": "DAY"}),
    ("spend_limits", "spend_limits_kind", {"subject_kind": "WORKSPACE"}),
    ("spend_limits", "spend_limits_amounts", {"limit_micro": -1}),
    ("spend_limits", "spend_limits_amounts", {"spent_micro": -1}),
    ("spend_limits", "spend_limits_amounts", {"held_micro": -1}),
    ("holds", "holds_amount", {"amount_micro": -1}),
    ("holds", "holds_allocation", {"grant_amounts_micro": []}),
    ("holds", "holds_checkpoint", {"checkpoint_micro": -1}),
    ("ledger_entries", "ledger_entries_kind", UNKNOWN),
    ("ledger_entries", "ledger_entries_counter", {"counter_account": "POCKET"}),
    ("ledger_entries", "ledger_entries_amount", {"amount_micro": 0}),
    ("ledger_entries", "ledger_entries_of_wallet", {"grant_id": None}),
    ("ledger_entries", "ledger_entries_of_wallet", {"balance_after_micro": None}),
    ("ledger_entries", "ledger_entries_of_wallet", {"kind": "SHORTFALL"}),
    ("ledger_entries", "ledger_entries_of_wallet", {"wallet_id": None, "grant_id": None, "balance_after_micro": None}),
    ("ledger_entries", "ledger_entries_balance", {"balance_after_micro": -1}),
    ("calls", "calls_status", {"status": "LOST"}),
    ("calls", "calls_ended", {"completed_at": None}),
    ("calls", "calls_ended", {"status": "RUNNING"}),
    ("idempotency_keys", "idempotency_keys_length", {"key": ""}),
    ("idempotency_keys", "idempotency_keys_length", {"key": "k" * 256}),
    ("payments", "payments_purpose", {"purpose": "GIFT"}),
    ("payments", "payments_amount", {"amount_usd_micro": -1, "refunded_usd_micro": 0}),
    ("payments", "payments_amount", {"refunded_usd_micro": 6}),
    ("payments", "payments_amount", {"refunded_usd_micro": -1}),
    ("payments", "payments_status", {"status": "LOST"}),
    ("auto_recharges", "auto_recharges_complete", {"threshold_usd_micro": None}),
    ("auto_recharges", "auto_recharges_complete", {"amount_usd_micro": None}),
    ("auto_recharges", "auto_recharges_amounts", {"threshold_usd_micro": -1}),
    ("auto_recharges", "auto_recharges_amounts", {"amount_usd_micro": 0}),
    ("auto_recharges", "auto_recharges_amounts", {"monthly_limit_usd_micro": 0}),
    ("transfers", "transfers_amount", {"amount_micro": 0}),
    ("transfers", "transfers_amount", {"amount_usd_micro": -1}),
    ("transfers", "transfers_returned", {"returned_micro": -1}),
    ("transfers", "transfers_returned", {"returned_usd_micro": 10**12}),
    ("transfers", "transfers_status", {"status": "LOST"}),
    ("promo_campaigns", "promo_campaigns_one_benefit", {"bonus_percent": 10}),
    ("promo_campaigns", "promo_campaigns_one_benefit", {"credits_micro": None}),
    ("promo_campaigns", "promo_campaigns_credits", {"credits_micro": 0}),
    ("promo_campaigns", "promo_campaigns_percent", {"credits_micro": None, "bonus_percent": 0}),
    ("promo_campaigns", "promo_campaigns_limits", {"total_limit": 0, "redeemed_count": 0}),
    ("promo_campaigns", "promo_campaigns_limits", {"per_workspace_limit": 0}),
    ("promo_campaigns", "promo_campaigns_never_over", {"redeemed_count": 4}),
    ("promo_campaigns", "promo_campaigns_never_over", {"redeemed_count": -1}),
]  # fmt: skip

SECOND: list[tuple[str, str, dict[str, object]]] = [
    ("catalog_versions", "catalog_versions_number_unique", {}),
    ("plans", "plans_version_unique", {"retired_at": NOW}),
    ("plans", "plans_one_live_version", {"version": 2}),
    ("prices", "prices_code_unique", {}),
    ("credit_packs", "credit_packs_one_live_version", {"version": 2}),
    ("model_prices", "model_prices_one_live", {"credits_micro": 5}),
    ("plan_models", "plan_models_unique", {}),
    ("subscriptions", "subscriptions_one_live", {"plan_id": OTHER}),
    ("wallets", "wallets_workspace_unique", {}),
    ("credit_grants", "credit_grants_source_unique", {"wallet_id": OTHER}),
    ("spend_limits", "spend_limits_unique", {"workspace_id": OTHER}),
    ("holds", "holds_pkey", {"call_id": ID}),
    ("usage_events", "usage_events_pkey", {"call_id": ID}),
    ("idempotency_keys", "idempotency_keys_pkey", {"operation": "other"}),
    ("payments", "payments_stripe_unique", {"workspace_id": OTHER}),
    ("payments", "payments_one_open_recharge", {"stripe_object_id": "pi_2", "status": "ACTION_REQUIRED"}),
    ("auto_recharges", "auto_recharges_pkey", {}),
    ("promo_campaigns", "promo_campaigns_code_unique", {}),
    ("promo_redemptions", "promo_redemptions_unique", {}),
]


async def insert(connection: asyncpg.Connection, table: str, row: dict[str, object]) -> None:
    # What a row refers to is not the matter here; checks and unique indexes hold in replica role too.
    await connection.execute("SET LOCAL session_replication_role = replica")
    kept: list[object] = []
    texts: list[str] = []
    for value in row.values():
        if isinstance(value, str):
            texts.append(f"'{value}'")
        else:
            kept.append(value)
            texts.append(f"${len(kept)}")
    await connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(texts)})", *kept)


def changes(entry: tuple[str, str, dict[str, object]]) -> str:
    return f"{entry[1]}-{'-'.join(entry[2])}"


@pytest.mark.parametrize("table", GOOD)
async def test_a_good_row_is_accepted(shared_pg: asyncpg.Connection, table: str) -> None:
    await insert(shared_pg, table, GOOD[table])


@pytest.mark.parametrize(("table", "constraint", "change"), BAD, ids=map(changes, BAD))
async def test_a_bad_row_is_refused(shared_pg: asyncpg.Connection, table: str, constraint: str, change) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refusal:
        await insert(shared_pg, table, GOOD[table] | change)
    assert refusal.value.constraint_name == constraint


@pytest.mark.parametrize(("table", "constraint", "change"), SECOND, ids=map(changes, SECOND))
async def test_a_second_row_is_refused(shared_pg: asyncpg.Connection, table: str, constraint: str, change) -> None:
    await insert(shared_pg, table, GOOD[table])
    new_id = {"id": OTHER} if "id" in GOOD[table] else {}
    with pytest.raises(asyncpg.UniqueViolationError) as refusal:
        await insert(shared_pg, table, GOOD[table] | new_id | change)
    assert refusal.value.constraint_name == constraint


async def test_a_second_open_recharge_is_allowed_once_the_first_has_ended(shared_pg: asyncpg.Connection) -> None:
    await insert(shared_pg, "payments", GOOD["payments"] | {"status": "FAILED"})
    await insert(shared_pg, "payments", GOOD["payments"] | {"id": OTHER, "stripe_object_id": "pi_2"})


async def test_a_shortfall_entry_belongs_to_no_wallet(shared_pg: asyncpg.Connection) -> None:
    nobody = {
        "wallet_id": None,
        "grant_id": None,
        "balance_after_micro": None,
        "kind": "SHORTFALL",
        "counter_account": "SHORTFALL",
    }
    await insert(shared_pg, "ledger_entries", GOOD["ledger_entries"] | nobody)


def test_every_check_of_the_money_tables_has_a_bad_row() -> None:
    checks = {
        name
        for name, definition in expected_schema()["constraints"].items()
        if name.split(".")[0] in GOOD and re.match("CHECK", definition)
    }
    assert checks == {f"{table}.{constraint}" for table, constraint, _ in BAD}
