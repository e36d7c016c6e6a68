-- The disputes of a payment, each with what became of it: several may be open at once, each of a part. As with invoices,
-- what an older fetch says is too late.
CREATE TABLE payment_disputes (
    id uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payments (id),
    stripe_dispute_id text NOT NULL,
    amount_usd_micro bigint NOT NULL,
    status text NOT NULL,
    fetch_number bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT payment_disputes_unique UNIQUE (payment_id, stripe_dispute_id),
    CONSTRAINT payment_disputes_amount CHECK (amount_usd_micro >= 0),
    CONSTRAINT payment_disputes_status CHECK (status IN ('OPEN', 'WON', 'LOST'))
);

-- The price that an upgrade was made from, to which it goes back where its money does.
ALTER TABLE payments ADD COLUMN former_price_id uuid REFERENCES prices (id);
