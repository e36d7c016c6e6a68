"""Until when assets are kept whose workspace stores outputs no more."""

from pathlib import Path

from tortoise.migrations import migration as tortoise_migration
from tortoise.migrations import operations

_SQL = Path(__file__).parent / "sql" / "0011_assets_of_ended_storing.sql"


class Migration(tortoise_migration.Migration):
    """Forward only: money tables are not dropped by a rollback, a backup is restored instead."""

    dependencies = [("models", "0010_key_cache_answers")]  # noqa: RUF012  as Tortoise reads it
    operations = [operations.RunSQL(_SQL.read_text(encoding="utf-8"))]  # noqa: RUF012  Tortoise reads a list here
