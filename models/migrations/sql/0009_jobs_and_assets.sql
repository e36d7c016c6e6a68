-- Jobs: calls that outlive a request. And what the room of a workspace for assets needs.

-- Jobs ---------------------------------------------------------------------------------------------------------------

-- A job is written in the transaction that places its call's hold, and ended in the one that settles or releases it.
-- `due_at` is when a worker may take it next: a claim moves it ahead as a lease. `submitting_at`: a provider may know of
-- it; `taken_at`: one does, by `prediction_id`. `request` is sealed, and gone once a provider has taken the job.
-- `poked_at`: its provider told us to look again.
CREATE TABLE jobs (
    call_id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    wallet_id uuid NOT NULL REFERENCES wallets (id),
    user_id uuid,
    api_key_id uuid,
    model_slug text NOT NULL,
    operation text NOT NULL,
    request_id text NOT NULL,
    terms jsonb NOT NULL,
    request bytea,
    route integer NOT NULL DEFAULT 0,
    provider text,
    prediction_id text,
    submitting_at timestamptz,
    taken_at timestamptz,
    polls integer NOT NULL DEFAULT 0,
    misses integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    deadline_at timestamptz NOT NULL,
    cancel_requested_at timestamptz,
    poked_at timestamptz,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT jobs_operation CHECK (operation IN ('IMAGE', 'VIDEO')),
    CONSTRAINT jobs_taken CHECK ((taken_at IS NULL) = (prediction_id IS NULL)),
    CONSTRAINT jobs_forgets CHECK (request IS NULL OR (taken_at IS NULL AND ended_at IS NULL))
) WITH (fillfactor = 70);
CREATE INDEX jobs_due ON jobs (due_at) WHERE ended_at IS NULL;
CREATE INDEX jobs_running ON jobs (workspace_id) WHERE ended_at IS NULL;
CREATE INDEX jobs_ended ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE UNIQUE INDEX jobs_prediction ON jobs (provider, prediction_id) WHERE prediction_id IS NOT NULL;

-- Assets -------------------------------------------------------------------------------------------------------------

-- `purged_at`: the file is gone too.
ALTER TABLE assets ADD COLUMN api_key_id uuid;
ALTER TABLE assets ADD COLUMN purged_at timestamptz;
CREATE INDEX assets_by_call ON assets (call_id) WHERE deleted_at IS NULL;
CREATE INDEX assets_by_owner ON assets (owner_id, id) WHERE deleted_at IS NULL;
CREATE INDEX assets_to_purge ON assets (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
DROP INDEX assets_by_workspace;
CREATE INDEX assets_by_workspace ON assets (workspace_id, id) WHERE deleted_at IS NULL;

-- What a workspace's assets take, and what calls under way have set aside for theirs. One row, so that two calls cannot
-- both take the last of the room.
CREATE TABLE workspace_storage (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id),
    used_bytes bigint NOT NULL DEFAULT 0,
    reserved_bytes bigint NOT NULL DEFAULT 0,
    CONSTRAINT workspace_storage_amounts CHECK (used_bytes >= 0 AND reserved_bytes >= 0)
) WITH (fillfactor = 70);

CREATE TABLE storage_reservations (
    call_id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    bytes bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT storage_reservations_bytes CHECK (bytes >= 0)
);
CREATE INDEX storage_reservations_lapsing ON storage_reservations (expires_at);

-- Whoever writes or removes an asset or a reservation changes the sum in the same transaction.
CREATE FUNCTION count_assets() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.deleted_at IS NULL THEN
            INSERT INTO workspace_storage AS s (workspace_id, used_bytes) VALUES (NEW.workspace_id, NEW.size_bytes)
            ON CONFLICT (workspace_id) DO UPDATE SET used_bytes = s.used_bytes + excluded.used_bytes;
        END IF;
    ELSIF OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL THEN
        UPDATE workspace_storage SET used_bytes = used_bytes - OLD.size_bytes WHERE workspace_id = OLD.workspace_id;
    END IF;
    RETURN NULL;
END
$$;
INSERT INTO workspace_storage (workspace_id, used_bytes)
SELECT workspace_id, sum(size_bytes) FROM assets WHERE deleted_at IS NULL GROUP BY workspace_id;
CREATE TRIGGER assets_count AFTER INSERT OR UPDATE OF deleted_at ON assets FOR EACH ROW EXECUTE FUNCTION count_assets();

CREATE FUNCTION count_reservations() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO workspace_storage AS s (workspace_id, reserved_bytes) VALUES (NEW.workspace_id, NEW.bytes)
        ON CONFLICT (workspace_id) DO UPDATE SET reserved_bytes = s.reserved_bytes + excluded.reserved_bytes;
    ELSE
        UPDATE workspace_storage SET reserved_bytes = reserved_bytes - OLD.bytes WHERE workspace_id = OLD.workspace_id;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER storage_reservations_count AFTER INSERT OR DELETE ON storage_reservations
    FOR EACH ROW EXECUTE FUNCTION count_reservations();
