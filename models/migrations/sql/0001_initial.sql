-- The whole domain. Written as SQL and not generated: check constraints, partial unique indexes and storage
-- parameters are the invariants of this product, and Tortoise 1.1.9 drops some of them (docs/decisions/0001).
-- Amounts named *_micro are micro-credits or micro-dollars in bigint; ids are UUIDv7 made by the application.

-- People ------------------------------------------------------------------------------------------------------------

CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL,
    email_key text NOT NULL,
    name text NOT NULL,
    password_digest text,
    email_verified_at timestamptz,
    oidc_issuer text,
    oidc_subject text,
    totp_secret_encrypted bytea,
    totp_confirmed_at timestamptz,
    totp_last_step bigint,
    locale text NOT NULL DEFAULT 'en',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    erased_at timestamptz,
    CONSTRAINT users_email_length CHECK (char_length(email) BETWEEN 3 AND 320),
    CONSTRAINT users_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT users_oidc_pair CHECK ((oidc_issuer IS NULL) = (oidc_subject IS NULL))
);
CREATE UNIQUE INDEX users_email_key_unique ON users (email_key) WHERE erased_at IS NULL;
CREATE UNIQUE INDEX users_oidc_unique ON users (oidc_issuer, oidc_subject) WHERE oidc_issuer IS NOT NULL;

CREATE TABLE user_tokens (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    purpose text NOT NULL,
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CONSTRAINT user_tokens_purpose CHECK (purpose IN ('VERIFY_EMAIL', 'RESET_PASSWORD', 'TOTP_RECOVERY')),
    CONSTRAINT user_tokens_digest_unique UNIQUE (digest)
);
CREATE INDEX user_tokens_by_user ON user_tokens (user_id, purpose);

CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id),
    created_at timestamptz NOT NULL,
    last_refreshed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_reason text,
    address text,
    user_agent text,
    CONSTRAINT sessions_reason CHECK ((revoked_at IS NULL) = (revoked_reason IS NULL))
);
CREATE INDEX sessions_by_user ON sessions (user_id) WHERE revoked_at IS NULL;

CREATE TABLE refresh_tokens (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES sessions (id),
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CONSTRAINT refresh_tokens_digest_unique UNIQUE (digest)
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
CREATE UNIQUE INDEX refresh_tokens_one_unused ON refresh_tokens (session_id) WHERE used_at IS NULL;

CREATE TABLE mail_preferences (
    id uuid PRIMARY KEY,
    email_key text NOT NULL,
    kind text NOT NULL,
    unsubscribed_at timestamptz NOT NULL,
    source text NOT NULL,
    CONSTRAINT mail_preferences_unique UNIQUE (email_key, kind),
    CONSTRAINT mail_preferences_source CHECK (source IN ('ONE_CLICK', 'SUPPORT', 'VIEWER'))
);

-- The catalog: what is sold ------------------------------------------------------------------------------------------

CREATE TABLE catalog_versions (
    id uuid PRIMARY KEY,
    number integer NOT NULL,
    name text NOT NULL,
    digest text NOT NULL,
    source text NOT NULL,
    credits_per_usd numeric(20, 6) NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    applied_at timestamptz NOT NULL,
    CONSTRAINT catalog_versions_number_unique UNIQUE (number),
    CONSTRAINT catalog_versions_rate CHECK (credits_per_usd > 0)
);

CREATE TABLE plans (
    id uuid PRIMARY KEY,
    code text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    description text,
    rank integer NOT NULL,
    is_default boolean NOT NULL DEFAULT false,
    is_public boolean NOT NULL DEFAULT true,
    workspace_id uuid,
    entitlements jsonb NOT NULL,
    stripe_product_id text,
    created_at timestamptz NOT NULL,
    retired_at timestamptz,
    CONSTRAINT plans_version_unique UNIQUE (code, version),
    CONSTRAINT plans_custom_private CHECK (workspace_id IS NULL OR NOT is_public)
);
CREATE UNIQUE INDEX plans_one_live_version ON plans (code) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX plans_one_default ON plans (is_default) WHERE is_default AND retired_at IS NULL;

CREATE TABLE prices (
    id uuid PRIMARY KEY,
    plan_id uuid NOT NULL REFERENCES plans (id),
    code text NOT NULL,
    amount_usd_micro bigint NOT NULL,
    period text NOT NULL,
    trial_days integer NOT NULL DEFAULT 0,
    credits_micro bigint,
    cadence text,
    rollover boolean NOT NULL DEFAULT false,
    rollover_cap_micro bigint,
    stripe_price_id text,
    created_at timestamptz NOT NULL,
    retired_at timestamptz,
    CONSTRAINT prices_code_unique UNIQUE (plan_id, code),
    CONSTRAINT prices_amount CHECK (amount_usd_micro >= 0),
    CONSTRAINT prices_free_is_zero CHECK ((period = 'FREE') = (amount_usd_micro = 0)),
    CONSTRAINT prices_period CHECK (period IN ('FREE', 'DAYS_30', 'MONTH', 'YEAR', 'LIFETIME')),
    CONSTRAINT prices_cadence CHECK (cadence IN ('MONTH', 'BILLING_PERIOD', 'ONCE')),
    CONSTRAINT prices_policy_whole CHECK ((credits_micro IS NULL) = (cadence IS NULL)),
    CONSTRAINT prices_credits CHECK (credits_micro > 0),
    CONSTRAINT prices_rollover_cap CHECK (rollover_cap_micro IS NULL OR (rollover AND rollover_cap_micro > 0)),
    CONSTRAINT prices_trial CHECK (trial_days BETWEEN 0 AND 365)
);

CREATE TABLE credit_packs (
    id uuid PRIMARY KEY,
    code text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    credits_micro bigint NOT NULL,
    price_usd_micro bigint NOT NULL,
    expires_after_months integer,
    requires_active_plan boolean NOT NULL,
    stripe_price_id text,
    created_at timestamptz NOT NULL,
    retired_at timestamptz,
    CONSTRAINT credit_packs_version_unique UNIQUE (code, version),
    CONSTRAINT credit_packs_amounts CHECK (credits_micro > 0 AND price_usd_micro > 0),
    CONSTRAINT credit_packs_life CHECK (expires_after_months BETWEEN 1 AND 120)
);
CREATE UNIQUE INDEX credit_packs_one_live_version ON credit_packs (code) WHERE retired_at IS NULL;

CREATE TABLE models (
    id uuid PRIMARY KEY,
    slug text NOT NULL,
    name text NOT NULL,
    modality text NOT NULL,
    description text,
    context_tokens integer,
    max_output_tokens integer,
    routes jsonb NOT NULL,
    limits jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    workspace_id uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    retired_at timestamptz,
    CONSTRAINT models_modality CHECK (modality IN ('TEXT', 'EMBEDDING', 'IMAGE', 'VIDEO', 'AUDIO'))
);
CREATE UNIQUE INDEX models_slug_unique ON models (slug) WHERE retired_at IS NULL;

CREATE TABLE model_prices (
    id uuid PRIMARY KEY,
    model_id uuid NOT NULL REFERENCES models (id),
    meter text NOT NULL,
    credits_micro bigint NOT NULL,
    per bigint NOT NULL,
    created_at timestamptz NOT NULL,
    retired_at timestamptz,
    CONSTRAINT model_prices_meter CHECK (meter IN ('INPUT_TOKENS', 'CACHED_INPUT_TOKENS', 'OUTPUT_TOKENS',
        'REASONING_TOKENS', 'REQUESTS', 'IMAGES', 'SECONDS', 'CHARACTERS')),
    CONSTRAINT model_prices_amounts CHECK (credits_micro >= 0 AND per > 0)
);
CREATE UNIQUE INDEX model_prices_one_live ON model_prices (model_id, meter) WHERE retired_at IS NULL;

CREATE TABLE plan_models (
    id uuid PRIMARY KEY,
    plan_id uuid NOT NULL REFERENCES plans (id),
    model_id uuid NOT NULL REFERENCES models (id),
    discount_percent smallint NOT NULL DEFAULT 0,
    CONSTRAINT plan_models_unique UNIQUE (plan_id, model_id),
    CONSTRAINT plan_models_discount CHECK (discount_percent BETWEEN 0 AND 100)
);
CREATE INDEX plan_models_by_model ON plan_models (model_id);

-- Workspaces ---------------------------------------------------------------------------------------------------------

CREATE TABLE workspaces (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    slug text NOT NULL,
    created_by uuid REFERENCES users (id),
    default_plan_id uuid REFERENCES plans (id),
    store_outputs boolean NOT NULL DEFAULT false,
    time_zone text NOT NULL DEFAULT 'UTC',
    concurrent_calls_limit integer,
    stripe_customer_id text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz,
    purged_at timestamptz,
    CONSTRAINT workspaces_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT workspaces_slug_form CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    CONSTRAINT workspaces_concurrency CHECK (concurrent_calls_limit > 0)
);
CREATE UNIQUE INDEX workspaces_slug_unique ON workspaces (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX workspaces_customer_unique ON workspaces (stripe_customer_id) WHERE stripe_customer_id IS NOT NULL;
ALTER TABLE plans ADD CONSTRAINT plans_workspace_fk FOREIGN KEY (workspace_id) REFERENCES workspaces (id);
ALTER TABLE models ADD CONSTRAINT models_workspace_fk FOREIGN KEY (workspace_id) REFERENCES workspaces (id);

CREATE TABLE members (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    user_id uuid NOT NULL REFERENCES users (id),
    role text NOT NULL,
    joined_at timestamptz NOT NULL,
    removed_at timestamptz,
    CONSTRAINT members_role CHECK (role IN ('OWNER', 'ADMIN', 'BILLING', 'MEMBER'))
);
CREATE UNIQUE INDEX members_unique ON members (workspace_id, user_id) WHERE removed_at IS NULL;
CREATE INDEX members_by_user ON members (user_id) WHERE removed_at IS NULL;
CREATE INDEX members_by_workspace ON members (workspace_id, joined_at, id) WHERE removed_at IS NULL;

CREATE TABLE invitations (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    email text NOT NULL,
    email_key text NOT NULL,
    role text NOT NULL,
    digest bytea NOT NULL,
    invited_by uuid REFERENCES users (id),
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz,
    accepted_by uuid REFERENCES users (id),
    revoked_at timestamptz,
    CONSTRAINT invitations_digest_unique UNIQUE (digest),
    CONSTRAINT invitations_role CHECK (role IN ('ADMIN', 'BILLING', 'MEMBER', 'OWNER')),
    CONSTRAINT invitations_one_end CHECK (accepted_at IS NULL OR revoked_at IS NULL)
);
CREATE UNIQUE INDEX invitations_one_open ON invitations (workspace_id, email_key)
    WHERE accepted_at IS NULL AND revoked_at IS NULL;

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    created_by uuid REFERENCES users (id),
    name text NOT NULL,
    environment text NOT NULL,
    prefix text NOT NULL,
    digest bytea NOT NULL,
    scopes text[] NOT NULL,
    models text[],
    addresses text[],
    requests_per_hour integer,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    rotated_to uuid REFERENCES api_keys (id),
    CONSTRAINT api_keys_digest_unique UNIQUE (digest),
    CONSTRAINT api_keys_name_length CHECK (char_length(name) BETWEEN 1 AND 200),
    CONSTRAINT api_keys_environment CHECK (environment IN ('live', 'test')),
    CONSTRAINT api_keys_scopes CHECK (cardinality(scopes) > 0 AND scopes <@ ARRAY['CALLS_WRITE', 'CALLS_READ',
        'USAGE_READ', 'WALLET_READ', 'WORKSPACE_READ', 'WORKSPACE_WRITE', 'BILLING_WRITE']),
    CONSTRAINT api_keys_rate CHECK (requests_per_hour > 0)
);
CREATE INDEX api_keys_by_workspace ON api_keys (workspace_id, created_at, id);

CREATE TABLE audit_events (
    id uuid PRIMARY KEY,
    workspace_id uuid REFERENCES workspaces (id),
    actor_kind text NOT NULL,
    actor_id uuid,
    action text NOT NULL,
    subject_kind text NOT NULL,
    subject_id uuid,
    facts jsonb NOT NULL DEFAULT '{}',
    address text,
    request_id text,
    created_at timestamptz NOT NULL,
    CONSTRAINT audit_events_actor CHECK (actor_kind IN ('USER', 'API_KEY', 'OPERATOR', 'SYSTEM', 'ANONYMOUS'))
);
CREATE INDEX audit_events_by_workspace ON audit_events (workspace_id, id);

-- Subscriptions ------------------------------------------------------------------------------------------------------

CREATE TABLE subscriptions (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    plan_id uuid NOT NULL REFERENCES plans (id),
    price_id uuid NOT NULL REFERENCES prices (id),
    scheduled_price_id uuid REFERENCES prices (id),
    status text NOT NULL,
    anchor_at timestamptz NOT NULL,
    current_period_start timestamptz NOT NULL,
    current_period_end timestamptz,
    period_number integer NOT NULL DEFAULT 0,
    grant_number integer NOT NULL DEFAULT 0,
    next_grant_at timestamptz,
    trial_ends_at timestamptz,
    grace_ends_at timestamptz,
    cancel_at_period_end boolean NOT NULL DEFAULT false,
    canceled_at timestamptz,
    ended_at timestamptz,
    stripe_subscription_id text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT subscriptions_status CHECK (status IN ('TRIALING', 'ACTIVE', 'PAST_DUE', 'CANCELED', 'EXPIRED', 'INCOMPLETE')),
    CONSTRAINT subscriptions_period CHECK (current_period_end IS NULL OR current_period_end > current_period_start),
    CONSTRAINT subscriptions_ended CHECK ((ended_at IS NULL) = (status IN ('TRIALING', 'ACTIVE', 'PAST_DUE', 'INCOMPLETE')))
);
CREATE UNIQUE INDEX subscriptions_one_live ON subscriptions (workspace_id) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX subscriptions_stripe_unique ON subscriptions (stripe_subscription_id)
    WHERE stripe_subscription_id IS NOT NULL;
CREATE INDEX subscriptions_grants_due ON subscriptions (next_grant_at) WHERE ended_at IS NULL AND next_grant_at IS NOT NULL;
CREATE INDEX subscriptions_periods_due ON subscriptions (current_period_end)
    WHERE ended_at IS NULL AND current_period_end IS NOT NULL;

-- Money --------------------------------------------------------------------------------------------------------------

CREATE TABLE wallets (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    balance_micro bigint NOT NULL DEFAULT 0,
    held_micro bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    CONSTRAINT wallets_workspace_unique UNIQUE (workspace_id),
    CONSTRAINT wallets_balance CHECK (balance_micro >= 0),
    CONSTRAINT wallets_held CHECK (held_micro >= 0 AND held_micro <= balance_micro)
) WITH (fillfactor = 50);

CREATE TABLE credit_grants (
    id uuid PRIMARY KEY,
    wallet_id uuid NOT NULL REFERENCES wallets (id),
    kind text NOT NULL,
    burn_rank smallint NOT NULL,
    amount_micro bigint NOT NULL,
    remaining_micro bigint NOT NULL,
    held_micro bigint NOT NULL DEFAULT 0,
    reinstated_micro bigint NOT NULL DEFAULT 0,
    spent_micro bigint NOT NULL DEFAULT 0,
    expired_micro bigint NOT NULL DEFAULT 0,
    clawed_back_micro bigint NOT NULL DEFAULT 0,
    refunded_micro bigint NOT NULL DEFAULT 0,
    transferred_micro bigint NOT NULL DEFAULT 0,
    adjusted_micro bigint NOT NULL DEFAULT 0,
    effective_at timestamptz NOT NULL,
    expires_at timestamptz,
    frozen_reason text,
    requires_active_plan boolean NOT NULL DEFAULT false,
    transferable boolean NOT NULL DEFAULT false,
    source_kind text NOT NULL,
    source_id text NOT NULL,
    subscription_id uuid REFERENCES subscriptions (id),
    payment_id uuid,
    description text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL,
    CONSTRAINT credit_grants_source_unique UNIQUE (source_kind, source_id),
    CONSTRAINT credit_grants_kind CHECK (kind IN ('CYCLE', 'PROMO', 'BONUS', 'PACK', 'TOP_UP', 'ADJUSTMENT', 'EARNINGS')),
    CONSTRAINT credit_grants_amount CHECK (amount_micro > 0),
    CONSTRAINT credit_grants_held CHECK (held_micro >= 0 AND held_micro <= remaining_micro),
    CONSTRAINT credit_grants_parts CHECK (reinstated_micro >= 0 AND spent_micro >= 0 AND expired_micro >= 0
        AND clawed_back_micro >= 0 AND refunded_micro >= 0 AND transferred_micro >= 0),
    CONSTRAINT credit_grants_balance CHECK (amount_micro + reinstated_micro = remaining_micro + spent_micro + expired_micro
        + clawed_back_micro + refunded_micro + transferred_micro + adjusted_micro),
    CONSTRAINT credit_grants_life CHECK (expires_at IS NULL OR expires_at > effective_at),
    CONSTRAINT credit_grants_frozen CHECK (frozen_reason IN ('NO_ACTIVE_SUBSCRIPTION', 'DISPUTE', 'WORKSPACE_DELETED'))
) WITH (fillfactor = 50);
CREATE INDEX credit_grants_live ON credit_grants (wallet_id, burn_rank, expires_at, created_at, id) WHERE remaining_micro > 0;
CREATE INDEX credit_grants_lapsing ON credit_grants (expires_at) WHERE remaining_micro > 0 AND expires_at IS NOT NULL;
CREATE INDEX credit_grants_by_wallet ON credit_grants (wallet_id, created_at, id);
CREATE INDEX credit_grants_by_payment ON credit_grants (payment_id) WHERE payment_id IS NOT NULL;

CREATE TABLE spend_limits (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    subject_kind text NOT NULL,
    subject_id uuid NOT NULL,
    period text NOT NULL,
    limit_micro bigint NOT NULL,
    period_start timestamptz NOT NULL,
    spent_micro bigint NOT NULL DEFAULT 0,
    held_micro bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    CONSTRAINT spend_limits_unique UNIQUE (subject_kind, subject_id, period),
    CONSTRAINT spend_limits_kind CHECK ((subject_kind, period) IN (('API_KEY', 'MONTH'), ('MEMBER', 'MONTH'), ('WORKSPACE', 'DAY'))),
    CONSTRAINT spend_limits_amounts CHECK (limit_micro >= 0 AND spent_micro >= 0 AND held_micro >= 0)
) WITH (fillfactor = 50);

CREATE TABLE holds (
    call_id uuid PRIMARY KEY,
    wallet_id uuid NOT NULL REFERENCES wallets (id),
    workspace_id uuid NOT NULL,
    amount_micro bigint NOT NULL,
    grant_ids uuid[] NOT NULL,
    grant_amounts_micro bigint[] NOT NULL,
    model_slug text NOT NULL,
    user_id uuid,
    api_key_id uuid,
    request_id text NOT NULL,
    idempotency_key text,
    owner uuid NOT NULL,
    payee_wallet_id uuid,
    payee_share_percent smallint NOT NULL DEFAULT 0,
    terms jsonb NOT NULL,
    checkpoint_micro bigint NOT NULL DEFAULT 0,
    checkpoint jsonb,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT holds_amount CHECK (amount_micro >= 0),
    CONSTRAINT holds_allocation CHECK (cardinality(grant_ids) = cardinality(grant_amounts_micro)),
    CONSTRAINT holds_checkpoint CHECK (checkpoint_micro >= 0)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX holds_lapsing ON holds (expires_at);
CREATE INDEX holds_by_wallet ON holds (wallet_id);

CREATE TABLE ledger_entries (
    id uuid PRIMARY KEY,
    wallet_id uuid,
    grant_id uuid,
    kind text NOT NULL,
    amount_micro bigint NOT NULL,
    balance_after_micro bigint,
    counter_account text NOT NULL,
    call_id uuid,
    reference_kind text NOT NULL,
    reference_id text NOT NULL,
    description text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT ledger_entries_kind CHECK (kind IN ('GRANT', 'USAGE', 'EXPIRY', 'REFUND', 'CLAWBACK', 'TRANSFER_OUT',
        'EARNING', 'ADJUSTMENT', 'SHORTFALL')),
    CONSTRAINT ledger_entries_counter CHECK (counter_account IN ('ISSUED', 'REVENUE', 'EXPIRED', 'REFUNDED', 'CLAWED_BACK',
        'PAID_OUT', 'EARNINGS', 'ADJUSTED', 'SHORTFALL')),
    CONSTRAINT ledger_entries_amount CHECK (amount_micro <> 0),
    CONSTRAINT ledger_entries_of_wallet CHECK ((wallet_id IS NULL) = (kind = 'SHORTFALL')
        AND (wallet_id IS NULL) = (grant_id IS NULL) AND (wallet_id IS NULL) = (balance_after_micro IS NULL)),
    CONSTRAINT ledger_entries_balance CHECK (balance_after_micro >= 0)
);
CREATE INDEX ledger_entries_by_wallet ON ledger_entries (wallet_id, id);
CREATE INDEX ledger_entries_by_call ON ledger_entries (call_id) WHERE call_id IS NOT NULL;

CREATE TABLE usage_events (
    call_id uuid NOT NULL,
    sequence smallint NOT NULL DEFAULT 0,
    workspace_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    model_slug text NOT NULL,
    modality text NOT NULL,
    user_id uuid,
    api_key_id uuid,
    input_tokens bigint NOT NULL DEFAULT 0,
    cached_input_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    reasoning_tokens bigint NOT NULL DEFAULT 0,
    requests bigint NOT NULL DEFAULT 0,
    images bigint NOT NULL DEFAULT 0,
    seconds bigint NOT NULL DEFAULT 0,
    characters bigint NOT NULL DEFAULT 0,
    cost_micro bigint NOT NULL,
    charged_micro bigint NOT NULL,
    estimated boolean NOT NULL,
    presumed boolean NOT NULL DEFAULT false,
    provider text NOT NULL,
    details jsonb,
    created_at timestamptz NOT NULL,
    CONSTRAINT usage_events_pkey PRIMARY KEY (call_id, sequence)
);
CREATE INDEX usage_events_by_workspace ON usage_events (workspace_id, created_at);

CREATE TABLE calls (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    model_slug text NOT NULL,
    status text NOT NULL,
    user_id uuid,
    api_key_id uuid,
    request_id text NOT NULL,
    idempotency_key text,
    error_code text,
    error_message text,
    created_at timestamptz NOT NULL,
    completed_at timestamptz,
    CONSTRAINT calls_status CHECK (status IN ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELED')),
    CONSTRAINT calls_ended CHECK ((completed_at IS NULL) = (status IN ('QUEUED', 'RUNNING')))
);
CREATE INDEX calls_by_workspace ON calls (workspace_id, id);

CREATE TABLE call_outputs (
    call_id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    key_version smallint NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz
);
CREATE INDEX call_outputs_lapsing ON call_outputs (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE idempotency_keys (
    workspace_id uuid NOT NULL,
    key text NOT NULL,
    operation text NOT NULL,
    input_digest bytea NOT NULL,
    call_id uuid,
    answer jsonb,
    created_at timestamptz NOT NULL,
    completed_at timestamptz,
    expires_at timestamptz NOT NULL,
    CONSTRAINT idempotency_keys_pkey PRIMARY KEY (workspace_id, key),
    CONSTRAINT idempotency_keys_length CHECK (char_length(key) BETWEEN 1 AND 255)
);
CREATE INDEX idempotency_keys_lapsing ON idempotency_keys (expires_at);

-- Payments, promotions, transfers ------------------------------------------------------------------------------------

CREATE TABLE payment_methods (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    stripe_payment_method_id text NOT NULL,
    kind text NOT NULL,
    brand text,
    last4 text,
    exp_month integer,
    exp_year integer,
    fingerprint_digest bytea,
    is_default boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    removed_at timestamptz,
    CONSTRAINT payment_methods_stripe_unique UNIQUE (stripe_payment_method_id)
);
CREATE UNIQUE INDEX payment_methods_one_default ON payment_methods (workspace_id) WHERE is_default AND removed_at IS NULL;

CREATE TABLE payments (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    purpose text NOT NULL,
    amount_usd_micro bigint NOT NULL,
    refunded_usd_micro bigint NOT NULL DEFAULT 0,
    status text NOT NULL,
    pack_id uuid REFERENCES credit_packs (id),
    price_id uuid REFERENCES prices (id),
    subscription_id uuid REFERENCES subscriptions (id),
    stripe_object_id text,
    action_url text,
    failure_code text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    applied_at timestamptz,
    CONSTRAINT payments_purpose CHECK (purpose IN ('TOP_UP', 'PACK', 'AUTO_RECHARGE', 'SUBSCRIPTION', 'PLAN_CHANGE')),
    CONSTRAINT payments_amount CHECK (amount_usd_micro > 0 AND refunded_usd_micro BETWEEN 0 AND amount_usd_micro),
    CONSTRAINT payments_status CHECK (status IN ('PENDING', 'ACTION_REQUIRED', 'SUCCEEDED', 'FAILED', 'REFUNDED', 'DISPUTED'))
);
CREATE UNIQUE INDEX payments_stripe_unique ON payments (stripe_object_id) WHERE stripe_object_id IS NOT NULL;
CREATE INDEX payments_by_workspace ON payments (workspace_id, created_at, id);
CREATE UNIQUE INDEX payments_one_open_recharge ON payments (workspace_id)
    WHERE purpose = 'AUTO_RECHARGE' AND status IN ('PENDING', 'ACTION_REQUIRED');
ALTER TABLE credit_grants ADD CONSTRAINT credit_grants_payment_fk FOREIGN KEY (payment_id) REFERENCES payments (id);

CREATE TABLE auto_recharges (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id),
    enabled boolean NOT NULL DEFAULT false,
    threshold_usd_micro bigint,
    amount_usd_micro bigint,
    monthly_limit_usd_micro bigint,
    last_attempt_at timestamptz,
    consecutive_failures integer NOT NULL DEFAULT 0,
    last_failure_at timestamptz,
    suspended_reason text,
    updated_at timestamptz NOT NULL,
    CONSTRAINT auto_recharges_complete CHECK (NOT enabled OR (threshold_usd_micro IS NOT NULL AND amount_usd_micro IS NOT NULL)),
    CONSTRAINT auto_recharges_amounts CHECK (threshold_usd_micro >= 0 AND amount_usd_micro > 0 AND monthly_limit_usd_micro > 0)
);

CREATE TABLE invoices (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    stripe_invoice_id text NOT NULL,
    number text,
    status text NOT NULL,
    total_usd_micro bigint NOT NULL,
    hosted_url text,
    pdf_url text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT invoices_stripe_unique UNIQUE (stripe_invoice_id)
);
CREATE INDEX invoices_by_workspace ON invoices (workspace_id, created_at, id);

CREATE TABLE transfers (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    amount_micro bigint NOT NULL,
    amount_usd_micro bigint NOT NULL,
    status text NOT NULL,
    requested_by uuid REFERENCES users (id),
    grant_ids uuid[] NOT NULL,
    grant_amounts_micro bigint[] NOT NULL,
    stripe_transfer_id text,
    stripe_payout_id text,
    failure_code text,
    requested_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    completed_at timestamptz,
    CONSTRAINT transfers_amount CHECK (amount_micro > 0 AND amount_usd_micro >= 0),
    CONSTRAINT transfers_status CHECK (status IN ('REQUESTED', 'IN_REVIEW', 'SENT', 'PAID', 'FAILED', 'REVERSED'))
);
CREATE INDEX transfers_by_workspace ON transfers (workspace_id, requested_at, id);

CREATE TABLE promo_campaigns (
    id uuid PRIMARY KEY,
    code_digest bytea NOT NULL,
    name text NOT NULL,
    credits_micro bigint,
    bonus_percent integer,
    grant_expires_after_days integer,
    starts_at timestamptz,
    ends_at timestamptz,
    total_limit integer,
    per_workspace_limit integer NOT NULL DEFAULT 1,
    redeemed_count integer NOT NULL DEFAULT 0,
    paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    retired_at timestamptz,
    CONSTRAINT promo_campaigns_code_unique UNIQUE (code_digest),
    CONSTRAINT promo_campaigns_one_benefit CHECK ((credits_micro IS NULL) <> (bonus_percent IS NULL)),
    CONSTRAINT promo_campaigns_credits CHECK (credits_micro > 0),
    CONSTRAINT promo_campaigns_percent CHECK (bonus_percent BETWEEN 1 AND 1000),
    CONSTRAINT promo_campaigns_limits CHECK (total_limit > 0 AND per_workspace_limit > 0),
    CONSTRAINT promo_campaigns_never_over CHECK (redeemed_count >= 0 AND (total_limit IS NULL OR redeemed_count <= total_limit))
);

CREATE TABLE promo_redemptions (
    id uuid PRIMARY KEY,
    campaign_id uuid NOT NULL REFERENCES promo_campaigns (id),
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    number integer NOT NULL,
    redeemed_by uuid REFERENCES users (id),
    grant_id uuid REFERENCES credit_grants (id),
    created_at timestamptz NOT NULL,
    CONSTRAINT promo_redemptions_unique UNIQUE (campaign_id, workspace_id, number)
);

CREATE TABLE inbox_events (
    id uuid PRIMARY KEY,
    source text NOT NULL,
    event_id text NOT NULL,
    kind text NOT NULL,
    object_id text,
    payload jsonb NOT NULL,
    received_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    completed_at timestamptz,
    last_error text,
    CONSTRAINT inbox_events_unique UNIQUE (source, event_id)
);
CREATE INDEX inbox_events_due ON inbox_events (due_at) WHERE completed_at IS NULL;

CREATE TABLE outbox_events (
    id uuid PRIMARY KEY,
    workspace_id uuid,
    kind text NOT NULL,
    dedupe_key text,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    completed_at timestamptz,
    last_error text,
    CONSTRAINT outbox_events_dedupe_unique UNIQUE (kind, dedupe_key)
);
CREATE INDEX outbox_events_due ON outbox_events (due_at) WHERE completed_at IS NULL;

-- Alerts and webhooks to customers -------------------------------------------------------------------------------------

CREATE TABLE webhook_endpoints (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    url text NOT NULL,
    event_kinds text[] NOT NULL,
    secret_encrypted bytea NOT NULL,
    key_version smallint NOT NULL,
    disabled_at timestamptz,
    disabled_reason text,
    failing_since timestamptz,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE INDEX webhook_endpoints_by_workspace ON webhook_endpoints (workspace_id) WHERE deleted_at IS NULL;

CREATE TABLE webhook_deliveries (
    id uuid PRIMARY KEY,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoints (id),
    event_id uuid NOT NULL REFERENCES outbox_events (id),
    attempt integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    status_code integer,
    error text,
    completed_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT webhook_deliveries_unique UNIQUE (endpoint_id, event_id)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (due_at) WHERE completed_at IS NULL;

-- Usage read models ----------------------------------------------------------------------------------------------------

CREATE TABLE usage_rollups (
    workspace_id uuid NOT NULL,
    quarter_start timestamptz NOT NULL,
    model_slug text NOT NULL,
    modality text NOT NULL,
    user_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    api_key_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    calls bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    charged_micro bigint NOT NULL,
    CONSTRAINT usage_rollups_pkey PRIMARY KEY (workspace_id, quarter_start, model_slug, user_id, api_key_id)
);

CREATE TABLE assets (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    owner_id uuid REFERENCES users (id),
    call_id uuid,
    content_type text NOT NULL,
    size_bytes bigint NOT NULL,
    storage_path text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT assets_size CHECK (size_bytes >= 0)
);
CREATE INDEX assets_by_workspace ON assets (workspace_id) WHERE deleted_at IS NULL;
CREATE INDEX assets_lapsing ON assets (expires_at) WHERE deleted_at IS NULL AND expires_at IS NOT NULL;
