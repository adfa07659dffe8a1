"""Kafka's own Java client without a Spark session, in a small JVM, for a few questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspark
from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway

from pipelines.runtime.jars import resolve_jars
from pipelines.runtime.java import find_java


@contextmanager
def kafka_gateway() -> Iterator[Any]:
    """A JVM with `org.apache.kafka.clients` on its class path, gone at the end of the block."""
    bundled = Path(pyspark.__file__).parent / "jars"
    needed = [*resolve_jars(), *(j for w in _NEEDED for j in bundled.glob(f"{w}-*.jar"))]
    port, token = launch_gateway(
        jarpath=str(next(bundled.glob("py4j-*.jar"))),
        classpath=":".join(str(jar) for jar in needed),
        javaopts=["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
        die_on_exit=True,
        java_path=str(find_java().executable),
        enable_auth=True,
    )
    gateway = JavaGateway(
        gateway_parameters=GatewayParameters(port=port, auth_token=token, auto_convert=True)
    )
    try:
        yield gateway.jvm
    finally:
        gateway.shutdown()


# What the client needs and Spark brings; without a binding for its log it says nothing.
_NEEDED = ("slf4j-api", "lz4-java", "snappy-java", "zstd-jni")
