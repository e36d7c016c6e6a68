-- The two round trips of a ledger batch: lock and load, then write. Only metering/ledger.py calls them.
-- ledger_write takes its arrays as texts in PostgreSQL's own notation: that costs the gateway a fifth of what binary arrays
-- cost it. One is NULL where all its values are NULL, zero, false or '', and
-- short arrays are padded with NULLs. Arrays are unnested in a SELECT's list and not in FROM: there each costs 5 µs a call.
-- The planner settings: with arrays of unknown length the plan must not flip to a sequential scan as tables grow.

ALTER TABLE holds
    ADD COLUMN modality text NOT NULL DEFAULT 'TEXT',
    ADD COLUMN limit_ids uuid[] NOT NULL DEFAULT '{}';

CREATE INDEX spend_limits_by_workspace ON spend_limits (workspace_id);
-- Entries without a call are few (grants, refunds, transfers): this index costs the hot path nothing.
CREATE INDEX ledger_entries_by_reference ON ledger_entries (reference_kind, reference_id) WHERE call_id IS NULL;
-- What a transfer takes from a grant, it takes once.
CREATE UNIQUE INDEX ledger_entries_once ON ledger_entries (reference_id, grant_id, (amount_micro < 0))
    WHERE kind = 'TRANSFER_OUT';

CREATE TYPE ledger_wallet AS (id uuid, workspace_id uuid, balance_micro bigint, held_micro bigint);
CREATE TYPE ledger_grant AS (
    id uuid, wallet_id uuid, kind text, burn_rank smallint, amount_micro bigint, remaining_micro bigint, held_micro bigint,
    effective_at timestamptz, expires_at timestamptz, frozen_reason text, requires_active_plan boolean,
    transferable boolean, source_kind text, source_id text, created_at timestamptz
);
CREATE TYPE ledger_hold AS (
    call_id uuid, wallet_id uuid, workspace_id uuid, amount_micro bigint, grant_ids uuid[], grant_amounts_micro bigint[],
    model_slug text, modality text, user_id uuid, api_key_id uuid, request_id text, idempotency_key text, owner uuid,
    payee_wallet_id uuid, payee_share_percent smallint, created_at timestamptz, expires_at timestamptz,
    limit_ids uuid[], checkpoint_micro bigint, checkpoint text
);

CREATE FUNCTION ledger_grants(
    at timestamptz, wallet_ids uuid[], grant_ids uuid[], source_kinds text[], source_ids text[], per_wallet bigint
) RETURNS ledger_grant[] LANGUAGE sql STABLE
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
    SELECT array_agg(ROW(
        g.id, g.wallet_id, g.kind, g.burn_rank, g.amount_micro, g.remaining_micro, g.held_micro, g.effective_at,
        g.expires_at, g.frozen_reason, g.requires_active_plan, g.transferable, g.source_kind, g.source_id,
        g.created_at)::ledger_grant)
    FROM (
        SELECT live.* FROM (SELECT unnest(wallet_ids) AS wallet_id) AS wanted, LATERAL (
            SELECT * FROM credit_grants c
            WHERE c.wallet_id = wanted.wallet_id AND c.remaining_micro > 0 AND c.frozen_reason IS NULL
              AND c.effective_at <= at AND (c.expires_at IS NULL OR c.expires_at > at)
            ORDER BY c.burn_rank, c.expires_at, c.created_at, c.id
            LIMIT per_wallet
        ) AS live
        UNION ALL
        SELECT named.* FROM credit_grants named WHERE named.id = ANY (grant_ids)
        UNION ALL
        SELECT sourced.* FROM (SELECT unnest(source_kinds) AS kind, unnest(source_ids) AS id) AS s
            JOIN credit_grants sourced ON sourced.source_kind = s.kind AND sourced.source_id = s.id
    ) AS g
$$;

CREATE FUNCTION ledger_load(
    at timestamptz, wallet_ids uuid[], call_ids uuid[], grant_ids uuid[], source_kinds text[], source_ids text[],
    per_wallet bigint,
    OUT wallets ledger_wallet[], OUT grants ledger_grant[], OUT holds ledger_hold[], OUT limited uuid[]
) LANGUAGE plpgsql VOLATILE
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    named uuid[];
BEGIN
    -- Each statement of a volatile function has its own snapshot: what follows sees all that was committed before
    -- these locks were had.
    wallets := ARRAY(
        SELECT ROW(locked.id, locked.workspace_id, locked.balance_micro, locked.held_micro)::ledger_wallet FROM (
            SELECT * FROM wallets w WHERE w.id = ANY (wallet_ids) ORDER BY w.id FOR NO KEY UPDATE
        ) AS locked
    );
    named := grant_ids;
    IF cardinality(call_ids) > 0 THEN
        holds := ARRAY(
            SELECT ROW(
                h.call_id, h.wallet_id, h.workspace_id, h.amount_micro, h.grant_ids, h.grant_amounts_micro, h.model_slug,
                h.modality, h.user_id, h.api_key_id, h.request_id, h.idempotency_key, h.owner, h.payee_wallet_id,
                h.payee_share_percent, h.created_at, h.expires_at, h.limit_ids, h.checkpoint_micro, h.checkpoint
            )::ledger_hold
            FROM holds h WHERE h.call_id = ANY (call_ids)
        );
        named := named || ARRAY(
            SELECT DISTINCT part FROM unnest(holds) AS hold, unnest(hold.grant_ids) AS part
        );
    END IF;
    grants := ledger_grants(at, wallet_ids, named, source_kinds, source_ids, per_wallet);
    limited := ARRAY(SELECT l.workspace_id FROM unnest(wallets) AS w JOIN spend_limits l ON l.workspace_id = w.workspace_id);
END
$$;

CREATE FUNCTION ledger_write(
    at timestamptz,
    w_id text, w_balance text, w_held text,
    g_id text, g_amount text, g_remaining text, g_held text, g_spent text, g_frozen_reason text,
    h_call text, h_wallet text, h_workspace text, h_amount text, h_grants text, h_grant_amounts text, h_model text,
    h_modality text, h_user text, h_api_key text, h_request text, h_key text, h_owner text, h_payee text, h_share text,
    h_expires text, h_limits text, h_terms text,
    s_call text, s_status text, s_used text, s_input text, s_cached text, s_output text, s_reasoning text,
    s_requests text, s_images text, s_seconds text, s_characters text, s_cost text, s_charged text, s_estimated text,
    s_presumed text, s_provider text, s_error_code text, s_error_message text, s_entry text, s_grant text, s_amount text,
    s_balance text, s_details text
) RETURNS void LANGUAGE plpgsql VOLATILE
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    closing uuid[] := s_call::uuid[];
    closed bigint;
BEGIN
    UPDATE wallets w SET balance_micro = coalesce(n.balance, 0), held_micro = coalesce(n.held, 0), version = w.version + 1
    FROM (SELECT unnest(w_id::uuid[]) AS id, unnest(w_balance::bigint[]) AS balance, unnest(w_held::bigint[]) AS held) AS n
    WHERE w.id = n.id;
    IF g_id IS NOT NULL THEN
        UPDATE credit_grants g SET amount_micro = n.amount, remaining_micro = coalesce(n.remaining, 0),
            held_micro = coalesce(n.held, 0), spent_micro = g.spent_micro + coalesce(n.spent, 0),
            frozen_reason = n.frozen_reason
        FROM (
            SELECT
                unnest(g_id::uuid[]) AS id, unnest(g_amount::bigint[]) AS amount,
                unnest(g_remaining::bigint[]) AS remaining, unnest(g_held::bigint[]) AS held,
                unnest(g_spent::bigint[]) AS spent, unnest(g_frozen_reason::text[]) AS frozen_reason
        ) AS n
        WHERE g.id = n.id;
    END IF;
    IF s_call IS NOT NULL THEN
        -- What a hold says of its call goes to the call's event, entry and row without coming from the client again.
        WITH ended AS (
            DELETE FROM holds h
            USING (
                SELECT
                    unnest(closing) AS call, unnest(s_status::text[]) AS status, unnest(s_used::boolean[]) AS used,
                    unnest(s_input::bigint[]) AS input, unnest(s_cached::bigint[]) AS cached,
                    unnest(s_output::bigint[]) AS output, unnest(s_reasoning::bigint[]) AS reasoning,
                    unnest(s_requests::bigint[]) AS requests, unnest(s_images::bigint[]) AS images,
                    unnest(s_seconds::bigint[]) AS seconds, unnest(s_characters::bigint[]) AS characters,
                    unnest(s_cost::bigint[]) AS cost, unnest(s_charged::bigint[]) AS charged,
                    unnest(s_estimated::boolean[]) AS estimated, unnest(s_presumed::boolean[]) AS presumed,
                    unnest(s_provider::text[]) AS provider, unnest(s_error_code::text[]) AS error_code,
                    unnest(s_error_message::text[]) AS error_message, unnest(s_entry::uuid[]) AS entry,
                    unnest(s_grant::uuid[]) AS grant_id, unnest(s_amount::bigint[]) AS amount,
                    unnest(s_balance::bigint[]) AS balance, jsonb_array_elements(s_details::jsonb) AS details
            ) AS s
            WHERE h.call_id = s.call
            RETURNING h.call_id, h.wallet_id, h.workspace_id, h.model_slug, h.modality, h.user_id, h.api_key_id,
                h.request_id, h.idempotency_key, h.created_at, s.*
        ), used AS (
            INSERT INTO usage_events (call_id, workspace_id, wallet_id, model_slug, modality, user_id, api_key_id,
                input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, requests, images, seconds, characters,
                cost_micro, charged_micro, estimated, presumed, provider, details, created_at)
            SELECT e.call_id, e.workspace_id, e.wallet_id, e.model_slug, e.modality, e.user_id, e.api_key_id,
                coalesce(e.input, 0), coalesce(e.cached, 0), coalesce(e.output, 0), coalesce(e.reasoning, 0),
                coalesce(e.requests, 0), coalesce(e.images, 0), coalesce(e.seconds, 0), coalesce(e.characters, 0),
                coalesce(e.cost, 0), coalesce(e.charged, 0), coalesce(e.estimated, false), coalesce(e.presumed, false),
                coalesce(e.provider, ''), nullif(e.details, 'null'), at
            FROM ended e WHERE e.used
        ), charged AS (
            INSERT INTO ledger_entries (id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, counter_account,
                call_id, reference_kind, reference_id, description, created_at)
            SELECT e.entry, e.wallet_id, e.grant_id, 'USAGE', e.amount, coalesce(e.balance, 0), 'REVENUE', e.call_id,
                'REQUEST', e.request_id, e.model_slug, at
            FROM ended e WHERE e.entry IS NOT NULL
        )
        INSERT INTO calls (id, workspace_id, model_slug, status, user_id, api_key_id, request_id, idempotency_key,
            error_code, error_message, created_at, completed_at)
        SELECT e.call_id, e.workspace_id, e.model_slug, e.status, e.user_id, e.api_key_id, e.request_id,
            e.idempotency_key, e.error_code, e.error_message, e.created_at, at
        FROM ended e
        ON CONFLICT (id) DO UPDATE SET status = excluded.status, error_code = excluded.error_code,
            error_message = excluded.error_message, completed_at = excluded.completed_at;
        GET DIAGNOSTICS closed = ROW_COUNT;
        IF closed <> cardinality(closing) THEN
            RAISE EXCEPTION 'only % of % holds were there to be closed', closed, cardinality(closing);
        END IF;
    END IF;
    IF h_call IS NOT NULL THEN
        INSERT INTO holds (call_id, wallet_id, workspace_id, amount_micro, grant_ids, grant_amounts_micro, model_slug,
            modality, user_id, api_key_id, request_id, idempotency_key, owner, payee_wallet_id, payee_share_percent, terms,
            created_at, expires_at, limit_ids)
        SELECT call, wallet, workspace, coalesce(amount, 0), grants::uuid[], grant_amounts::bigint[], coalesce(model, ''),
            modality, usr, api_key, coalesce(request, ''), key, owner, payee, coalesce(share, 0), terms, at, expires,
            coalesce(limits::uuid[], '{}')
        FROM (
            SELECT
                unnest(h_call::uuid[]) AS call, unnest(h_wallet::uuid[]) AS wallet,
                unnest(h_workspace::uuid[]) AS workspace, unnest(h_amount::bigint[]) AS amount,
                unnest(h_grants::text[]) AS grants, unnest(h_grant_amounts::text[]) AS grant_amounts,
                unnest(h_model::text[]) AS model, unnest(h_modality::text[]) AS modality, unnest(h_user::uuid[]) AS usr,
                unnest(h_api_key::uuid[]) AS api_key, unnest(h_request::text[]) AS request,
                unnest(h_key::text[]) AS key, unnest(h_owner::uuid[]) AS owner, unnest(h_payee::uuid[]) AS payee,
                unnest(h_share::smallint[]) AS share, unnest(h_expires::timestamptz[]) AS expires,
                unnest(h_limits::text[]) AS limits, jsonb_array_elements(h_terms::jsonb) AS terms
        ) AS n;
    END IF;
END
$$;
