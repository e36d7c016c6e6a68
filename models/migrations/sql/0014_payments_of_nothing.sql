-- A renewal may cost nothing, by a coupon or the customer's credit at Stripe, and renews the plan all the same.
ALTER TABLE payments DROP CONSTRAINT payments_amount, ADD CONSTRAINT payments_amount
    CHECK (amount_usd_micro >= 0 AND refunded_usd_micro BETWEEN 0 AND amount_usd_micro);
