-- Models that workspaces publish (rules B12 to B15), and what each use of one came to.

-- What `models` does not know of a published model. `chain` is set for a chain, the address for a provider.
CREATE TABLE published_models (
    model_id uuid PRIMARY KEY REFERENCES models (id),
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    visibility text NOT NULL,
    base_url text,
    upstream_model text,
    api_key_encrypted bytea NOT NULL DEFAULT '',
    key_version smallint NOT NULL DEFAULT 0,
    chain jsonb,
    input_schema jsonb,
    prompt text,
    logo_url text,
    colour text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    unpublished_at timestamptz,
    CONSTRAINT published_models_visibility CHECK (visibility IN ('PRIVATE', 'PUBLIC')),
    CONSTRAINT published_models_source CHECK ((chain IS NULL) = (base_url IS NOT NULL AND upstream_model IS NOT NULL))
);
CREATE INDEX published_models_by_workspace ON published_models (workspace_id, created_at, model_id)
    WHERE unpublished_at IS NULL;

-- One row for each published model that a settled call used, alone or as a step of a chain. A read model of
-- `usage_events` and `ledger_entries`: written in the settlement's own transaction, replaced by a correction.
CREATE TABLE published_uses (
    call_id uuid NOT NULL,
    model_id uuid NOT NULL,
    wallet_id uuid NOT NULL,
    uses integer NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    charged_micro bigint NOT NULL,
    earned_micro bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (call_id, model_id),
    CONSTRAINT published_uses_amounts CHECK (earned_micro >= 0 AND charged_micro >= 0)
);
CREATE INDEX published_uses_by_publisher ON published_uses (wallet_id, created_at);
