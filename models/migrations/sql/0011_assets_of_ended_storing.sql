-- Assets that are kept for longer only because their workspace had turned storing on, end at `unstored_until` once it has
-- turned that off (D12). Null where a plan with storage keeps them, and for what was made before this.
ALTER TABLE assets ADD COLUMN unstored_until timestamptz;
CREATE INDEX assets_stored ON assets (workspace_id, unstored_until) WHERE unstored_until IS NOT NULL AND deleted_at IS NULL;
