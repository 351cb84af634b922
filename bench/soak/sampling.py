"""What the processes and the database hold at a moment."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psutil
import psycopg

__all__ = ["DATABASE", "take"]

MIB = 2**20

CONNECTIONS = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
"""Connections of everybody else."""

DATABASE = {
    "events": "select coalesce(max(position), 0) from amends.events",
    "log_mib": """
        select sum(pg_total_relation_size(c.oid))::float8 / 1048576 from pg_class c
        where c.oid in ('amends.events'::regclass, 'amends.commands'::regclass)
    """,
    "small_tables_kib": """
        select sum(pg_total_relation_size(c.oid))::float8 / 1024 from pg_class c
        where c.oid in ('amends.checkpoints'::regclass, 'amends.generations'::regclass, 'amends.snapshots'::regclass)
           or c.relname like 'inventory_levels%' and c.relkind = 'r'
    """,
    "dead_rows": "select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_user_tables",
    "live_rows": "select coalesce(sum(n_live_tup), 0)::bigint from pg_stat_user_tables",
}
"""Figure → the question it answers. Small tables are those whose rows are written over and over: they show bloat."""


def take(processes: Mapping[str, int], url: str) -> dict[str, Any]:
    """Figures of this moment.

    Args:
        processes: name → pid; a process counts with its children.
        url: of the database.
    """
    figures: dict[str, Any] = {}
    for name, pid in processes.items():
        memory, files, threads = _held(pid)
        figures |= {f"{name}_mib": round(memory / MIB, 1), f"{name}_files": files, f"{name}_threads": threads}
    with psycopg.connect(url, autocommit=True) as connection:
        for name, question in {"connections": CONNECTIONS, **DATABASE}.items():
            row = connection.execute(question.encode()).fetchone()
            figures[name] = None if row is None else row[0]
    return figures


def _held(pid: int) -> tuple[int, int, int]:
    """Memory of its own in bytes, open files and threads of a process and its children."""
    memory = files = threads = 0
    root = psutil.Process(pid)
    for process in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            memory += process.memory_full_info().uss  # what PostgreSQL's processes share is counted nowhere else
            files += process.num_fds()
            threads += process.num_threads()
    return memory, files, threads
