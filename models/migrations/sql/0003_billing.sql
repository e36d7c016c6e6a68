-- What billing needs to find its due work, each with one index look-up.

-- When time alone changes a subscription next; written with every change of its row, null where nothing is to come.
ALTER TABLE subscriptions ADD COLUMN due_at timestamptz;
CREATE INDEX subscriptions_due ON subscriptions (due_at) WHERE due_at IS NOT NULL;
DROP INDEX subscriptions_grants_due;
DROP INDEX subscriptions_periods_due;

CREATE INDEX payments_by_subscription ON payments (subscription_id, applied_at) WHERE subscription_id IS NOT NULL;
CREATE INDEX payments_open_recharges ON payments (updated_at) WHERE purpose = 'AUTO_RECHARGE' AND status = 'PENDING';
CREATE INDEX promo_redemptions_waiting ON promo_redemptions (workspace_id, created_at) WHERE grant_id IS NULL;
CREATE INDEX credit_grants_of_plans ON credit_grants (wallet_id) WHERE requires_active_plan AND remaining_micro > 0;

-- Auto-recharge: that it is due is decided in the transaction that spends the credits, whoever writes it. The trigger
-- costs wallets without auto-recharge one comparison; it waits for the end of the transaction, as the grants are
-- written after the wallet, and it needs no clock: credits that have expired are swept, which is an update as well.
ALTER TABLE wallets ADD COLUMN recharge_below_micro bigint;
ALTER TABLE auto_recharges ADD COLUMN is_low boolean NOT NULL DEFAULT false;
CREATE INDEX auto_recharges_due ON auto_recharges (last_attempt_at) WHERE is_low AND enabled AND suspended_reason IS NULL;

CREATE FUNCTION note_low_wallet() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.recharge_below_micro > (
        SELECT coalesce(sum(g.remaining_micro - g.held_micro), 0) FROM credit_grants g
        WHERE g.wallet_id = NEW.id AND g.remaining_micro > 0 AND g.frozen_reason IS NULL
    ) THEN
        UPDATE auto_recharges SET is_low = true WHERE workspace_id = NEW.workspace_id AND enabled AND NOT is_low;
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER wallets_note_low AFTER UPDATE ON wallets DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.recharge_below_micro IS NOT NULL) EXECUTE FUNCTION note_low_wallet();
