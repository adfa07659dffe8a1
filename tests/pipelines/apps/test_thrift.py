"""BI tools read through the SQL server what DuckDB reads from the files."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyspark
import pytest

from pipelines.apps.thrift import HOST, main, served
from pipelines.lake.views import cohort_query, register_duckdb
from pipelines.stream.kafka.broker import free_port
from tests.pipelines.lake_rows import drop_lake, make_lake

ROOT = Path(__file__).parents[3]


def plain(value: Any) -> Any:
    """One spelling for what the protocol and DuckDB hand over: nested values as JSON, instants as UTC."""
    if isinstance(value, bytes | bytearray):
        value = bytes(value).decode()
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str) and value[:1] in ("[", "{"):
        return json.dumps(json.loads(value), sort_keys=True)
    return value


def ask_duckdb(lake, query: str) -> tuple[list[str], list[str]]:
    con = duckdb.connect()
    register_duckdb(con, lake)
    answer = con.execute(query)
    return [c[0] for c in answer.description], sorted(repr([plain(v) for v in r]) for r in answer.fetchall())


@pytest.mark.slow  # Spark plans every view anew
def test_a_bi_client_gets_through_the_server_what_duckdb_gets(spark, analysts_lake):
    from impala.dbapi import connect

    lake, port = analysts_lake.lake, free_port()
    queries = [
        f"SELECT * FROM {name}" for name in ("gold.profiles_live", "gold.events", "gold.daily_activity")
    ]
    queries.append(cohort_query("logged_in_and_used_mobile"))
    try:
        with served(spark, lake, port) as shown:
            client = connect(HOST, port, auth_mechanism="PLAIN", user="analyst", password="any").cursor()
            for query in queries:
                client.execute(query)
                names = [column[0] for column in client.description]
                rows = sorted(repr([plain(v) for v in row]) for row in client.fetchall())
                assert (names, rows) == ask_duckdb(lake, query), query
                assert rows, query
            client.execute("SHOW TABLES IN gold")
            assert {row[1] for row in client.fetchall()} >= {"profiles", "profiles_live", "events"}
            assert shown is not None
            client.close()
    finally:
        drop_lake(spark)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((HOST, port), timeout=5)  # the server is gone


def test_a_port_in_use_and_a_missing_lake_are_one_line(tmp_path, capsys):
    make_lake(tmp_path / "lake")
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["--lake", str(tmp_path / "lake"), "--port", str(port)]) == 1
        assert f"port {port} is in use" in capsys.readouterr().err
    assert main(["--lake", str(tmp_path / "nowhere")]) == 1
    assert "no lake in" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["--port", "ninety"])
    assert stopped.value.code == 2


@pytest.mark.slow  # a second JVM, and a third one for the client
def test_a_jdbc_client_connects_to_the_server_in_the_foreground_and_a_signal_ends_it(analysts_lake, tmp_path):
    """Beeline, the JDBC client that comes with Spark: unlike others it names its database while it connects."""
    port, spark_home = free_port(), Path(pyspark.__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPARK_HOME": str(spark_home)}
    command = [
        sys.executable,
        "-m",
        "pipelines.apps.thrift",
        "--lake",
        str(analysts_lake.path),
        "--port",
        str(port),
    ]
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url, _, rest = server.stdout.readline().partition("  ")
        assert url == f"jdbc:hive2://{HOST}:{port}/gold"
        assert rest.startswith("as of batch ")
        query = "SELECT count(*), sum(session_count) FROM profiles_live"
        beeline = [
            str(spark_home / "bin" / "beeline"),
            "-u",
            url,
            "-n",
            "me",
            "--outputformat=csv2",
            "-e",
            query,
        ]
        asked = subprocess.run(beeline, env=environment, capture_output=True, text=True, timeout=300)
        assert asked.returncode == 0, asked.stderr
        (expected,) = register_and_ask(analysts_lake.lake, f"USE gold; {query}")
        assert asked.stdout.split()[-1] == ",".join(map(str, expected))
        server.send_signal(signal.SIGINT)
        assert server.wait(300) == 0
    finally:
        server.kill()
    assert list(tmp_path.iterdir()) == []  # no metastore, no log in the working folder


def register_and_ask(lake, query: str) -> list[tuple]:
    con = duckdb.connect()
    register_duckdb(con, lake)
    return con.execute(query).fetchall()
