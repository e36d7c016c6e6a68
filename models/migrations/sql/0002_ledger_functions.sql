-- The two round trips of a ledger batch: lock and load, then write. Only metering/ledger.py calls them.
-- An array of ledger_write may be empty where all its values are NULL, zero, false or '': unnest pads with NULLs.
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
        SELECT live.* FROM unnest(wallet_ids) AS wanted (wallet_id), LATERAL (
            SELECT * FROM credit_grants c
            WHERE c.wallet_id = wanted.wallet_id AND c.remaining_micro > 0 AND c.frozen_reason IS NULL
              AND c.effective_at <= at AND (c.expires_at IS NULL OR c.expires_at > at)
            ORDER BY c.burn_rank, c.expires_at, c.created_at, c.id
            LIMIT per_wallet
        ) AS live
        UNION ALL
        SELECT named.* FROM credit_grants named WHERE named.id = ANY (grant_ids)
        UNION ALL
        SELECT sourced.* FROM unnest(source_kinds, source_ids) AS s (kind, id)
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
    w_id uuid[], w_balance bigint[], w_held bigint[],
    g_id uuid[], g_amount bigint[], g_remaining bigint[], g_held bigint[], g_reinstated bigint[], g_spent bigint[],
    g_expired bigint[], g_clawed_back bigint[], g_refunded bigint[], g_transferred bigint[], g_adjusted bigint[],
    g_frozen_reason text[],
    h_closed uuid[],
    h_call uuid[], h_wallet uuid[], h_workspace uuid[], h_amount bigint[], h_grants text[], h_grant_amounts text[],
    h_model text[], h_modality text[], h_user uuid[], h_api_key uuid[], h_request text[], h_key text[], h_owner uuid[],
    h_payee uuid[], h_share smallint[], h_terms text[], h_expires timestamptz[], h_limits text[],
    e_id uuid[], e_wallet uuid[], e_grant uuid[], e_kind text[], e_amount bigint[], e_balance bigint[], e_counter text[],
    e_call uuid[], e_reference_kind text[], e_reference_id text[], e_description text[],
    u_call uuid[], u_sequence smallint[], u_workspace uuid[], u_wallet uuid[], u_model text[], u_modality text[],
    u_user uuid[], u_api_key uuid[], u_input bigint[], u_cached bigint[], u_output bigint[], u_reasoning bigint[],
    u_requests bigint[], u_images bigint[], u_seconds bigint[], u_characters bigint[], u_cost bigint[],
    u_charged bigint[], u_estimated boolean[], u_presumed boolean[], u_provider text[], u_details text[],
    c_id uuid[], c_workspace uuid[], c_model text[], c_status text[], c_user uuid[], c_api_key uuid[], c_request text[],
    c_key text[], c_error_code text[], c_error_message text[], c_created timestamptz[]
) RETURNS void LANGUAGE plpgsql VOLATILE
    SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off
AS $$
BEGIN
    UPDATE wallets w SET balance_micro = n.balance, held_micro = n.held, version = w.version + 1
    FROM unnest(w_id, w_balance, w_held) AS n (id, balance, held) WHERE w.id = n.id;
    IF cardinality(g_id) > 0 THEN
        UPDATE credit_grants g SET amount_micro = n.amount, remaining_micro = coalesce(n.remaining, 0),
            held_micro = coalesce(n.held, 0),
            reinstated_micro = g.reinstated_micro + coalesce(n.reinstated, 0),
            spent_micro = g.spent_micro + coalesce(n.spent, 0),
            expired_micro = g.expired_micro + coalesce(n.expired, 0),
            clawed_back_micro = g.clawed_back_micro + coalesce(n.clawed_back, 0),
            refunded_micro = g.refunded_micro + coalesce(n.refunded, 0),
            transferred_micro = g.transferred_micro + coalesce(n.transferred, 0),
            adjusted_micro = g.adjusted_micro + coalesce(n.adjusted, 0),
            frozen_reason = n.frozen_reason
        FROM unnest(g_id, g_amount, g_remaining, g_held, g_reinstated, g_spent, g_expired, g_clawed_back, g_refunded,
                    g_transferred, g_adjusted, g_frozen_reason)
            AS n (id, amount, remaining, held, reinstated, spent, expired, clawed_back, refunded, transferred, adjusted,
                  frozen_reason)
        WHERE g.id = n.id;
    END IF;
    IF cardinality(h_closed) > 0 THEN
        DELETE FROM holds WHERE call_id = ANY (h_closed);
    END IF;
    IF cardinality(h_call) > 0 THEN
        INSERT INTO holds (call_id, wallet_id, workspace_id, amount_micro, grant_ids, grant_amounts_micro, model_slug,
            modality, user_id, api_key_id, request_id, idempotency_key, owner, payee_wallet_id, payee_share_percent, terms,
            created_at, expires_at, limit_ids)
        SELECT call, wallet, workspace, coalesce(amount, 0), grants::uuid[], grant_amounts::bigint[], coalesce(model, ''),
            modality, usr, api_key, coalesce(request, ''), key, owner, payee, coalesce(share, 0), terms::jsonb, at, expires,
            coalesce(limits::uuid[], '{}')
        FROM unnest(h_call, h_wallet, h_workspace, h_amount, h_grants, h_grant_amounts, h_model, h_modality, h_user,
                    h_api_key, h_request, h_key, h_owner, h_payee, h_share, h_terms, h_expires, h_limits)
            AS n (call, wallet, workspace, amount, grants, grant_amounts, model, modality, usr, api_key, request, key,
                  owner, payee, share, terms, expires, limits);
    END IF;
    IF cardinality(e_id) > 0 THEN
        INSERT INTO ledger_entries (id, wallet_id, grant_id, kind, amount_micro, balance_after_micro, counter_account,
            call_id, reference_kind, reference_id, description, created_at)
        SELECT n.id, n.wallet, n.grant_id, n.kind, n.amount,
            CASE WHEN n.wallet IS NOT NULL THEN coalesce(n.balance, 0) END, n.counter, n.call, n.reference_kind,
            coalesce(n.reference_id, ''), coalesce(n.description, ''), at
        FROM unnest(e_id, e_wallet, e_grant, e_kind, e_amount, e_balance, e_counter, e_call, e_reference_kind,
                    e_reference_id, e_description)
            AS n (id, wallet, grant_id, kind, amount, balance, counter, call, reference_kind, reference_id, description);
    END IF;
    IF cardinality(u_call) > 0 THEN
        INSERT INTO usage_events (call_id, sequence, workspace_id, wallet_id, model_slug, modality, user_id, api_key_id,
            input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, requests, images, seconds, characters,
            cost_micro, charged_micro, estimated, presumed, provider, details, created_at)
        SELECT call, coalesce(sequence, 0), workspace, wallet, coalesce(model, ''), modality, usr, api_key,
            coalesce(input, 0), coalesce(cached, 0), coalesce(output, 0), coalesce(reasoning, 0), coalesce(requests, 0),
            coalesce(images, 0), coalesce(seconds, 0), coalesce(characters, 0), coalesce(cost, 0), coalesce(charged, 0),
            coalesce(estimated, false), coalesce(presumed, false), coalesce(provider, ''), details::jsonb, at
        FROM unnest(u_call, u_sequence, u_workspace, u_wallet, u_model, u_modality, u_user, u_api_key, u_input, u_cached,
                    u_output, u_reasoning, u_requests, u_images, u_seconds, u_characters, u_cost, u_charged, u_estimated,
                    u_presumed, u_provider, u_details)
            AS n (call, sequence, workspace, wallet, model, modality, usr, api_key, input, cached, output, reasoning,
                  requests, images, seconds, characters, cost, charged, estimated, presumed, provider, details);
    END IF;
    IF cardinality(c_id) > 0 THEN
        INSERT INTO calls (id, workspace_id, model_slug, status, user_id, api_key_id, request_id, idempotency_key,
            error_code, error_message, created_at, completed_at)
        SELECT n.id, n.workspace, coalesce(n.model, ''), n.status, n.usr, n.api_key, coalesce(n.request, ''), n.key,
            n.error_code, n.error_message, n.created, at
        FROM unnest(c_id, c_workspace, c_model, c_status, c_user, c_api_key, c_request, c_key, c_error_code,
                    c_error_message, c_created)
            AS n (id, workspace, model, status, usr, api_key, request, key, error_code, error_message, created)
        ON CONFLICT (id) DO UPDATE SET status = excluded.status, error_code = excluded.error_code,
            error_message = excluded.error_message, completed_at = excluded.completed_at;
    END IF;
END
$$;
