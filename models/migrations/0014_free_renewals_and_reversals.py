"""Renewals that cost nothing, and transfers out that come back in parts."""

from pathlib import Path

from tortoise.migrations import migration as tortoise_migration
from tortoise.migrations import operations

_SQL = Path(__file__).parent / "sql" / "0014_free_renewals_and_reversals.sql"


class Migration(tortoise_migration.Migration):
    """Forward only: money tables are not dropped by a rollback, a backup is restored instead."""

    dependencies = [("models", "0013_disputes")]  # noqa: RUF012  as Tortoise reads it
    operations = [operations.RunSQL(_SQL.read_text(encoding="utf-8"))]  # noqa: RUF012  Tortoise reads a list here
