-- Limits on free credits: who may have them, and how many were promised where.

-- One line for a workspace that was judged. `given_at`: the first free credits. `by_operator`: not judged any more.
CREATE TABLE free_credit_verdicts (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id),
    allowed boolean NOT NULL,
    refusal text,
    by_operator boolean NOT NULL DEFAULT false,
    decided_at timestamptz NOT NULL,
    given_at timestamptz,
    CONSTRAINT free_credit_verdicts_refusal CHECK (refusal IN ('ADDRESS_RANGE', 'MAIL_DOMAIN', 'PAYMENT_FINGERPRINT')),
    CONSTRAINT free_credit_verdicts_reason CHECK (allowed = (refusal IS NULL))
);
CREATE INDEX free_credit_verdicts_refused ON free_credit_verdicts (decided_at) WHERE NOT allowed;

-- How many new workspaces of an origin may have free credits today. Keyed digests, which are removed after two days.
CREATE TABLE free_credit_counts (
    day date NOT NULL,
    kind text NOT NULL,
    digest bytea NOT NULL,
    taken integer NOT NULL,
    CONSTRAINT free_credit_counts_pkey PRIMARY KEY (day, kind, digest),
    CONSTRAINT free_credit_counts_taken CHECK (taken >= 0)
);

CREATE INDEX payment_methods_by_fingerprint ON payment_methods (fingerprint_digest) WHERE fingerprint_digest IS NOT NULL;

-- Events that were written under names which no dispatcher knew; they are too old to be told, and of another form.
UPDATE outbox_events SET completed_at = now()
WHERE completed_at IS NULL AND kind IN ('auto_recharge.action_required', 'payment.unapplied');
