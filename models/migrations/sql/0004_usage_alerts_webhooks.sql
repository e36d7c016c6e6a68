-- Read models of usage, alerts of workspaces, and what outgoing webhooks need besides their two tables.

-- Usage --------------------------------------------------------------------------------------------------------------

-- A mark says: the roll-up of this quarter may lack events; read them instead. It is written in the transaction that
-- writes the events, and removed in the one that computes the quarter anew, so that in every snapshot a quarter without
-- a mark has a roll-up equal to its events. Several marks of one quarter are as good as one.
CREATE TABLE usage_marks (
    workspace_id uuid NOT NULL,
    quarter_start timestamptz NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT usage_marks_pkey PRIMARY KEY (workspace_id, quarter_start, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE FUNCTION mark_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_marks (workspace_id, quarter_start)
    SELECT DISTINCT a.workspace_id, date_bin('15 minutes', a.created_at, timestamptz 'epoch') FROM added a;
    RETURN NULL;
END
$$;
CREATE TRIGGER usage_events_mark AFTER INSERT ON usage_events REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION mark_usage();

-- A model may change its modality within a quarter.
ALTER TABLE usage_rollups DROP CONSTRAINT usage_rollups_pkey;
ALTER TABLE usage_rollups ADD CONSTRAINT usage_rollups_pkey
    PRIMARY KEY (workspace_id, quarter_start, model_slug, modality, user_id, api_key_id);

-- Whole UTC days of busy workspaces, summed over people and keys: element n + 1 of an array is the sum of the day's first
-- n quarters, so that a part of a day between any two quarters is one subtraction, whatever the time zone. Rows stay in
-- one piece and uncompressed, as a compressed array would be opened at every look-up.
CREATE TABLE usage_days (
    workspace_id uuid NOT NULL,
    day_start timestamptz NOT NULL,
    model_slug text NOT NULL,
    modality text NOT NULL,
    calls bigint[] NOT NULL,
    input_tokens bigint[] NOT NULL,
    output_tokens bigint[] NOT NULL,
    charged_micro bigint[] NOT NULL,
    CONSTRAINT usage_days_pkey PRIMARY KEY (workspace_id, day_start, model_slug, modality),
    CONSTRAINT usage_days_whole CHECK (cardinality(calls) = 97 AND cardinality(input_tokens) = 97
        AND cardinality(output_tokens) = 97 AND cardinality(charged_micro) = 97)
) WITH (toast_tuple_target = 8160);
ALTER TABLE usage_days ALTER COLUMN calls SET STORAGE EXTERNAL, ALTER COLUMN input_tokens SET STORAGE EXTERNAL,
    ALTER COLUMN output_tokens SET STORAGE EXTERNAL, ALTER COLUMN charged_micro SET STORAGE EXTERNAL;

INSERT INTO usage_marks (workspace_id, quarter_start)
SELECT DISTINCT workspace_id, date_bin('15 minutes', created_at, timestamptz 'epoch') FROM usage_events;

-- Alerts -------------------------------------------------------------------------------------------------------------

-- What a workspace wants to be told, and when it is to be looked at next. `is_due` is set in the transaction whose
-- change may cross a line; `look_at` is when time alone may.
CREATE TABLE workspace_alerts (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id),
    cycle_percents bigint[] NOT NULL DEFAULT '{50,80,100}',
    expiry_days bigint[] NOT NULL DEFAULT '{30,7,1}',
    low_balance_micro bigint,
    by_mail boolean NOT NULL DEFAULT true,
    is_due boolean NOT NULL DEFAULT true,
    look_at timestamptz,
    CONSTRAINT workspace_alerts_low CHECK (low_balance_micro > 0),
    CONSTRAINT workspace_alerts_lists CHECK (cardinality(cycle_percents) <= 10 AND cardinality(expiry_days) <= 10)
) WITH (fillfactor = 70);
CREATE INDEX workspace_alerts_due ON workspace_alerts (workspace_id) WHERE is_due;
CREATE INDEX workspace_alerts_timed ON workspace_alerts (look_at) WHERE look_at IS NOT NULL;

-- What is crossed now: a line is told when its row appears, and recovered when it is cleared.
CREATE TABLE raised_alerts (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    kind text NOT NULL,
    subject text NOT NULL,
    raised_at timestamptz NOT NULL,
    cleared_at timestamptz
);
CREATE UNIQUE INDEX raised_alerts_once ON raised_alerts (workspace_id, kind, subject) WHERE cleared_at IS NULL;

-- The highest ledger balance below which a line may be crossed; written by the look. Settlements pay one comparison.
ALTER TABLE wallets ADD COLUMN look_below_micro bigint;

CREATE FUNCTION note_alert_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO workspace_alerts AS a (workspace_id) VALUES (NEW.workspace_id)
    ON CONFLICT (workspace_id) DO UPDATE SET is_due = true WHERE NOT a.is_due;
    RETURN NULL;
END
$$;
CREATE TRIGGER wallets_note_alert AFTER UPDATE ON wallets FOR EACH ROW
    WHEN (NEW.balance_micro > OLD.balance_micro
        OR (NEW.balance_micro < NEW.look_below_micro AND OLD.balance_micro >= NEW.look_below_micro))
    EXECUTE FUNCTION note_alert_due();
CREATE TRIGGER spend_limits_note_alert AFTER UPDATE ON spend_limits FOR EACH ROW
    WHEN (NEW.limit_micro <> OLD.limit_micro OR NEW.period_start <> OLD.period_start
        OR (NEW.spent_micro >= NEW.limit_micro - NEW.limit_micro / 5
            AND OLD.spent_micro < OLD.limit_micro - OLD.limit_micro / 5)
        OR (NEW.spent_micro >= NEW.limit_micro AND OLD.spent_micro < OLD.limit_micro))
    EXECUTE FUNCTION note_alert_due();

-- Webhooks -----------------------------------------------------------------------------------------------------------

-- After a rotation the old secret signs beside the new one until `previous_until`.
ALTER TABLE webhook_endpoints ADD COLUMN previous_secret_encrypted bytea;
ALTER TABLE webhook_endpoints ADD COLUMN previous_until timestamptz;
ALTER TABLE webhook_endpoints ADD COLUMN description text NOT NULL DEFAULT '';
ALTER TABLE webhook_deliveries ADD COLUMN attempted_at timestamptz;
CREATE INDEX webhook_deliveries_by_endpoint ON webhook_deliveries (endpoint_id, id);
