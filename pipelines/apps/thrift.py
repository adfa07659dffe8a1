"""Serve a lake's tables and views to BI tools: `make thrift LAKE=lake PORT=10000`.

    python -m pipelines.apps.thrift --lake lake --port 10000

The Spark Thrift server that comes with Spark, on this machine only, in a session of our own: whoever connects sees
the catalog of that session, bronze to ops, as of one published batch. Every so often it moves on to the newest one.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from conf.jars import GRAPHFRAMES
from conf.settings import load_settings
from pipelines.apps.cli.problems import Exit, reported
from pipelines.apps.reading_sessions import reading_sessions
from pipelines.lake.lake import Lake, existing_lake
from pipelines.lake.snapshot import Snapshot
from pipelines.lake.views import register_spark
from pipelines.runtime.jars import resolve_jars
from pipelines.runtime.process_end import run_and_end
from pipelines.runtime.session import build_session
from pipelines.runtime.stop_signals import stop_signals

HOST = "127.0.0.1"
# HiveServer2 takes these from the JVM's system properties; everything else stays as JDBC drivers expect it.
PROPERTIES = {
    "hive.server2.thrift.bind.host": HOST,  # there is no password, so nobody else gets in
    "derby.stream.error.file": "/dev/null",  # the metastore that Hive's classes insist on is in memory and never asked
}
SESSION = {
    "spark.sql.thriftServer.incrementalCollect": "true",  # a BI tool that asks for everything gets it in portions
}


class PortTaken(RuntimeError):
    """Something else listens on the port; the message says which and the way out."""


def main(argv: list[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM. Returns 0, 1 when there is no lake or the port is taken, 2 on bad usage."""
    args = _parser().parse_args(argv)
    try:
        with reported("thrift"):
            lake, settings = existing_lake(args.lake), load_settings(args.env)
            _require_free(args.port)
            extra = {**SESSION, "spark.driver.extraClassPath": _class_path()}
            spark = build_session(
                "stitchlake thrift", settings.master, extra=extra, driver_memory=settings.driver_memory
            )
            with stop_signals() as stop, served(spark, lake, args.port) as shown:
                print(f"jdbc:hive2://{HOST}:{args.port}/gold  {_as_of(shown)}; Ctrl-C stops", flush=True)
                follow(spark, lake, shown, args.refresh_seconds, stop)
            return 0
    except PortTaken as e:
        print(f"stitchlake thrift: {e}", file=sys.stderr)
        return 1
    except Exit as e:
        return e.code


@contextmanager
def served(spark: SparkSession, lake: Lake, port: int) -> Iterator[Snapshot | None]:
    """The lake in the session's catalog, and the session's catalog on `port`; yields what the catalog shows."""
    _require_free(port)
    shown = register_spark(spark, lake)
    jvm: Any = spark.sparkContext._jvm
    for key, value in {**PROPERTIES, "hive.server2.thrift.port": str(port)}.items():
        jvm.java.lang.System.setProperty(key, value)
    # A Kafka client that has logged in by PLAIN leaves its server's half behind, which asks callers for a password that
    # is not ours to ask for.
    jvm.java.security.Security.removeProvider("Simple SASL/PLAIN Server Provider")
    hive = jvm.org.apache.spark.sql.hive.thriftserver.HiveThriftServer2
    with reading_sessions(spark):
        server = hive.startWithSparkSession(spark._jsparkSession, False)
        try:
            yield shown
        finally:
            server.stop()


def follow(
    spark: SparkSession, lake: Lake, shown: Snapshot | None, refresh_seconds: float, stop: threading.Event
) -> None:
    """Move the catalog on to what was published, every `refresh_seconds` until `stop`; with 0 it stays where it is."""
    if refresh_seconds <= 0:
        stop.wait()
    while not stop.wait(refresh_seconds):
        try:
            shown = register_spark(spark, lake, shown)
        except Exception as e:  # whoever is connected keeps what is shown, and the next turn tries again
            print(f"stitchlake thrift: could not move on ({type(e).__name__}); trying again", file=sys.stderr)


def _class_path() -> str:
    """Delta's jars. A JDBC driver names its database while it connects, and Hive's classes answer that in a thread
    that sees the JVM's own class path and not what spark.jars has added: no connection without DeltaCatalog there."""
    return os.pathsep.join(str(j) for j in resolve_jars() if not j.name.startswith(GRAPHFRAMES.artifact))


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise PortTaken(
                f"port {port} is in use; stop what listens there, or give another --port"
            ) from None


def _as_of(shown: Snapshot | None) -> str:
    return "nothing published yet" if shown is None else f"as of batch {shown.batch_id:,}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.apps.thrift", description="Serve a lake's tables and views to BI tools."
    )
    parser.add_argument("--lake", type=Path, default=Path("lake"), metavar="DIR", help="default: lake/")
    parser.add_argument("--port", type=_port, default=10_000, metavar="N", help="default: 10000")
    parser.add_argument(
        "--refresh-seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="how often to move on to the batch published last; 0: never; default: 30",
    )
    parser.add_argument(
        "--env", default="laptop", metavar="NAME", help="settings: laptop, cluster, or a YAML file"
    )
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError("a port from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    run_and_end(main)
