-- What the payment provider holds for us, and what is still to be told to it.

-- The hosted page of a payment, and when the provider was last asked how the payment stands.
ALTER TABLE payments ADD COLUMN stripe_checkout_id text;
ALTER TABLE payments ADD COLUMN asked_at timestamptz;
CREATE UNIQUE INDEX payments_checkout_unique ON payments (stripe_checkout_id) WHERE stripe_checkout_id IS NOT NULL;
CREATE INDEX payments_open ON payments (updated_at) WHERE status IN ('PENDING', 'ACTION_REQUIRED');

-- Since when the provider does not know how a subscription stands with us. Set in the transaction that changes it, by
-- whatever code, and cleared when the provider has been told: a crash between the two leaves it to the worker.
ALTER TABLE subscriptions ADD COLUMN tell_due_at timestamptz;
CREATE INDEX subscriptions_tell_due ON subscriptions (tell_due_at) WHERE tell_due_at IS NOT NULL;
CREATE FUNCTION note_tell_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tell_due_at := NEW.updated_at;
    RETURN NEW;
END
$$;
CREATE TRIGGER subscriptions_note_tell BEFORE UPDATE ON subscriptions FOR EACH ROW
    WHEN (NEW.stripe_subscription_id IS NOT NULL
        AND (NEW.cancel_at_period_end IS DISTINCT FROM OLD.cancel_at_period_end
            OR NEW.scheduled_price_id IS DISTINCT FROM OLD.scheduled_price_id
            OR NEW.price_id IS DISTINCT FROM OLD.price_id
            OR (NEW.ended_at IS NULL) <> (OLD.ended_at IS NULL)))
    EXECUTE FUNCTION note_tell_due();

-- What is fetched anew is written by the order of the fetches: a number is drawn before one, and an older one is too late.
CREATE SEQUENCE stripe_fetches;
ALTER TABLE workspaces ADD COLUMN methods_fetch_number bigint NOT NULL DEFAULT 0;
ALTER TABLE invoices ADD COLUMN fetch_number bigint NOT NULL DEFAULT 0;

-- One worker at a time works off what is told of one object.
ALTER TABLE inbox_events ADD COLUMN leased_until timestamptz;
CREATE INDEX inbox_events_by_object ON inbox_events (object_id) WHERE completed_at IS NULL;
CREATE INDEX inbox_events_received ON inbox_events (received_at);

-- Until when a sweep over the provider's own list of events has looked.
CREATE TABLE inbox_sweeps (
    id uuid PRIMARY KEY,
    source text NOT NULL,
    swept_until timestamptz NOT NULL,
    CONSTRAINT inbox_sweeps_unique UNIQUE (source)
);

-- Where a workspace's transfers out go to, and the next look at a transfer.
CREATE TABLE payout_accounts (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id),
    stripe_account_id text,
    payouts_enabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX payout_accounts_unique ON payout_accounts (stripe_account_id) WHERE stripe_account_id IS NOT NULL;
ALTER TABLE transfers ADD COLUMN due_at timestamptz;
ALTER TABLE transfers ADD COLUMN refusals integer NOT NULL DEFAULT 0;
CREATE INDEX transfers_due ON transfers (due_at) WHERE due_at IS NOT NULL;
