-- D12: what a workspace stores goes at once when it turns storing off, what repeats need a little later.
ALTER TABLE call_outputs ADD COLUMN repeat_until timestamptz;
CREATE INDEX call_outputs_stored ON call_outputs (workspace_id) WHERE repeat_until IS NOT NULL;

-- A provider's refusal may echo the prompt: a sentence of ours takes its place, also in what repeats are answered.
UPDATE calls SET error_message = 'the provider refused the request' WHERE error_code = 'UPSTREAM_REJECTED';
UPDATE idempotency_keys SET answer = jsonb_set(answer, '{error_message}', '"the provider refused the request"')
WHERE answer ->> 'error_code' = 'UPSTREAM_REJECTED';
