"""The first migration: the whole domain, as the SQL file beside it says."""

from pathlib import Path

from tortoise.migrations import migration as tortoise_migration
from tortoise.migrations import operations

_SQL = Path(__file__).parent / "sql" / "0001_initial.sql"


class Migration(tortoise_migration.Migration):
    """Forward only: money tables are not dropped by a rollback, a backup is restored instead."""

    initial = True
    operations = [operations.RunSQL(_SQL.read_text(encoding="utf-8"))]  # noqa: RUF012  Tortoise reads a list here
