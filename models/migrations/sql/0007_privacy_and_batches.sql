-- D12: what a workspace stores goes at once when it turns storing off, what repeats need a little later.
ALTER TABLE call_outputs ADD COLUMN repeat_until timestamptz;
CREATE INDEX call_outputs_stored ON call_outputs (workspace_id) WHERE repeat_until IS NOT NULL;

-- A provider's refusal may echo the prompt: a sentence of ours takes its place, also in what repeats are answered.
UPDATE calls SET error_message = 'the provider refused the request' WHERE error_code = 'UPSTREAM_REJECTED';
UPDATE idempotency_keys SET answer = jsonb_set(answer, '{error_message}', '"the provider refused the request"')
WHERE answer ->> 'error_code' = 'UPSTREAM_REJECTED';

-- Batches ------------------------------------------------------------------------------------------------------------

-- A batch's output files have no content of their own: it is what its lines came to.
CREATE TABLE files (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    purpose text NOT NULL,
    filename text NOT NULL,
    size_bytes bigint NOT NULL,
    batch_id uuid,
    key_version smallint,
    sealed bytea,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT files_purpose CHECK (purpose IN ('BATCH', 'BATCH_OUTPUT', 'BATCH_ERRORS')),
    CONSTRAINT files_content CHECK ((sealed IS NOT NULL) = (purpose = 'BATCH')
        AND (sealed IS NULL) = (key_version IS NULL) AND (sealed IS NULL) = (batch_id IS NOT NULL))
);
CREATE INDEX files_lapsing ON files (expires_at);
CREATE INDEX files_by_workspace ON files (workspace_id, id);

CREATE TABLE batches (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL,
    api_key_id uuid NOT NULL,
    endpoint text NOT NULL,
    input_file_id uuid NOT NULL,
    output_file_id uuid,
    error_file_id uuid,
    status text NOT NULL,
    metadata jsonb NOT NULL,
    problems jsonb,
    total_count integer NOT NULL DEFAULT 0,
    completed_count integer NOT NULL DEFAULT 0,
    failed_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    in_progress_at timestamptz,
    cancelling_at timestamptz,
    ended_at timestamptz,
    purge_at timestamptz,
    CONSTRAINT batches_status
        CHECK (status IN ('VALIDATING', 'FAILED', 'IN_PROGRESS', 'COMPLETED', 'EXPIRED', 'CANCELLING', 'CANCELLED')),
    CONSTRAINT batches_ended CHECK ((ended_at IS NULL) = (status IN ('VALIDATING', 'IN_PROGRESS', 'CANCELLING')))
);
CREATE INDEX batches_open ON batches (created_at) WHERE ended_at IS NULL;
CREATE INDEX batches_by_workspace ON batches (workspace_id, id);
CREATE INDEX batches_lapsing ON batches (purge_at) WHERE purge_at IS NOT NULL;

-- `sealed` is the request until the line is done, then its line of the output or error file.
CREATE TABLE batch_lines (
    id uuid PRIMARY KEY,
    batch_id uuid NOT NULL REFERENCES batches (id) ON DELETE CASCADE,
    number integer NOT NULL,
    state text NOT NULL,
    attempt smallint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    claimed_until timestamptz,
    key_version smallint NOT NULL,
    sealed bytea NOT NULL,
    CONSTRAINT batch_lines_number UNIQUE (batch_id, number),
    CONSTRAINT batch_lines_state CHECK (state IN ('PENDING', 'SUCCEEDED', 'FAILED'))
);
CREATE INDEX batch_lines_pending ON batch_lines (batch_id, number) WHERE state = 'PENDING';
