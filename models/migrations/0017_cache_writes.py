"""Prices of input that a vendor writes to its cache."""

from pathlib import Path

from tortoise.migrations import migration as tortoise_migration
from tortoise.migrations import operations

_SQL = Path(__file__).parent / "sql" / "0017_cache_writes.sql"


class Migration(tortoise_migration.Migration):
    """Forward only: money tables are not dropped by a rollback, a backup is restored instead."""

    dependencies = [("models", "0016_conditional_prices")]  # noqa: RUF012  as Tortoise reads it
    operations = [operations.RunSQL(_SQL.read_text(encoding="utf-8"))]  # noqa: RUF012  Tortoise reads a list here
