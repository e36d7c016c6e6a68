-- What a vendor takes for input that it writes to its cache may have a price of its own, for a longer life another one.
ALTER TABLE model_prices DROP CONSTRAINT model_prices_meter, ADD CONSTRAINT model_prices_meter CHECK (meter IN (
    'INPUT_TOKENS', 'CACHED_INPUT_TOKENS', 'CACHE_WRITE_INPUT_TOKENS', 'LONG_CACHE_WRITE_INPUT_TOKENS', 'OUTPUT_TOKENS',
    'REASONING_TOKENS', 'REQUESTS', 'IMAGES', 'SECONDS', 'CHARACTERS'));
