-- The list of public models is read page by page, the newest first.
CREATE INDEX published_models_public ON published_models (created_at, model_id)
    WHERE unpublished_at IS NULL AND visibility = 'PUBLIC';
