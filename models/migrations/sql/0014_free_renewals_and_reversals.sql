-- A renewal may cost nothing, by a coupon or the customer's credit at Stripe, and renews the plan all the same.
ALTER TABLE payments DROP CONSTRAINT payments_amount, ADD CONSTRAINT payments_amount
    CHECK (amount_usd_micro >= 0 AND refunded_usd_micro BETWEEN 0 AND amount_usd_micro);

-- A transfer out may come back in parts: how much of it has.
ALTER TABLE transfers
    ADD COLUMN returned_micro bigint NOT NULL DEFAULT 0,
    ADD COLUMN returned_usd_micro bigint NOT NULL DEFAULT 0;
UPDATE transfers SET returned_micro = amount_micro, returned_usd_micro = amount_usd_micro
    WHERE status IN ('FAILED', 'REVERSED');
ALTER TABLE transfers ADD CONSTRAINT transfers_returned CHECK (
    returned_micro BETWEEN 0 AND amount_micro AND returned_usd_micro BETWEEN 0 AND amount_usd_micro);
-- What it takes from a grant it takes once; what comes back is netted, as for clawbacks.
DROP INDEX ledger_entries_once;
CREATE UNIQUE INDEX ledger_entries_once ON ledger_entries (reference_id, grant_id)
    WHERE kind = 'TRANSFER_OUT' AND amount_micro < 0;
-- What the operator has not reviewed goes back when it is due: what waits already has as long as a new one by default.
UPDATE transfers SET due_at = now() + interval '72 hours' WHERE status = 'IN_REVIEW' AND due_at IS NULL;
