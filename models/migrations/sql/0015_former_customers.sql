-- Customers of a workspace that somebody has deleted at Stripe: what comes late of their payments still finds the workspace,
-- and how many there were makes the key under which the next one is made.
CREATE TABLE former_customers (
    id uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id),
    stripe_customer_id text NOT NULL,
    deleted_at timestamptz NOT NULL,
    CONSTRAINT former_customers_unique UNIQUE (stripe_customer_id)
);
CREATE INDEX former_customers_workspace ON former_customers (workspace_id);
