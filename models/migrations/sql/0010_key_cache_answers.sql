-- Whether whole calls made with an API key may be given the answer of an equal earlier one, where the call does not say.
ALTER TABLE api_keys ADD COLUMN cache_answers boolean NOT NULL DEFAULT false;
