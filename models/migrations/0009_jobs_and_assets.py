"""Jobs, and what the room of a workspace for assets needs."""

from pathlib import Path

from tortoise.migrations import migration as tortoise_migration
from tortoise.migrations import operations

_SQL = Path(__file__).parent / "sql" / "0009_jobs_and_assets.sql"


class Migration(tortoise_migration.Migration):
    """Forward only: money tables are not dropped by a rollback, a backup is restored instead."""

    dependencies = [("models", "0008_published_models")]  # noqa: RUF012  as Tortoise reads it
    operations = [operations.RunSQL(_SQL.read_text(encoding="utf-8"))]  # noqa: RUF012  Tortoise reads a list here
