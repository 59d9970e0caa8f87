"""How the engine's connections are set up."""

from __future__ import annotations

from mesh_core.store.connections import connect


def test_a_statement_of_the_engine_takes_one_core(database_url: str) -> None:
    with connect(database_url, "test") as connection:
        connection.execute("CREATE TABLE numbers AS SELECT n FROM generate_series(1, 1000) AS n")
        for setting in ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size"):
            connection.execute(f"SET {setting} = 0")
        assert "Gather" not in str(connection.execute("EXPLAIN SELECT sum(n) FROM numbers").fetchall())
        assert connection.execute("SHOW max_parallel_maintenance_workers").fetchone() == ("0",)
        connection.execute("SET max_parallel_workers_per_gather = 2")
        assert "Gather" in str(connection.execute("EXPLAIN SELECT sum(n) FROM numbers").fetchall())
