"""Kind `postgres`: incidents into a star schema of PostgreSQL, for BI (Metabase, Superset, Grafana, Power BI).

Rooms: `connector` renders and judges, `tables` is the schema and how it came to be, `writing` the statements that
write a batch. Nothing here opens a connection: the SQL is text, which `seal` puts beside the rows.

Decision: Tocsin makes the tables and brings them up to date (`create: true`), under a lock and in a schema of its own.
A script to be run by hand before every upgrade is what `create: false` is for; everybody else would forget it.
"""

from __future__ import annotations

from connectors.kinds.postgres.connector import Postgres, PostgresSettings

__all__ = ["Postgres", "PostgresSettings"]
