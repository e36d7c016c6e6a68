-- Prices that count where a request says so: fields of its body and the values that count, {} for the ordinary price.
ALTER TABLE model_prices
    ADD COLUMN conditions jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT model_prices_conditions CHECK (jsonb_typeof(conditions) = 'object');
DROP INDEX model_prices_one_live;
CREATE UNIQUE INDEX model_prices_one_live ON model_prices (model_id, meter, md5(conditions::text)) WHERE retired_at IS NULL;
