"""A Kafka broker for development and tests: one process, on this machine only. Its data is removed when it stops.

make kafka                                   in the foreground; Ctrl-C stops it and removes what it held
python -m pipelines.stream.kafka.broker --port 9092 --topic events:3
"""

from __future__ import annotations

import argparse
import base64
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from conf.jars import BROKER_JARS
from pipelines.runtime.jars import JarsUnavailable, resolve_jars
from pipelines.runtime.java import JavaMissing, find_java
from pipelines.runtime.stop_signals import stop_signals
from pipelines.stream.kafka.gateway import kafka_gateway

HOST = "127.0.0.1"
START_SECONDS = 120.0


class BrokerFailed(RuntimeError):
    """The broker did not start; the message says where its output is."""


class Broker:
    """One broker, its data in `folder`. It keeps its port and data over `stop` and `start`."""

    def __init__(
        self, folder: Path, port: int | None = None, properties: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.port = folder, port or free_port()
        self._controller_port = free_port()
        self._properties = dict(properties or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port that clients connect to."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The broker's process id; None while it does not run."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it and wait until it accepts connections. BrokerFailed when it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "data"
        settings = self.folder / "server.properties"
        settings.write_text(self._settings(data), encoding="utf-8")
        classes = ":".join(str(jar) for jar in resolve_jars(jar_set=BROKER_JARS))
        # The first compiler alone: a broker that lives for minutes never earns what the second one costs.
        java = [str(find_java().executable), "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        java += ["-cp", classes]
        with (self.folder / "broker.log").open("ab") as log:
            if not (data / "meta.properties").exists():
                name = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
                command = [*java, "kafka.tools.StorageTool", "format", "-t", name, "-c", str(settings)]
                subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=False)
            # A group of its own: Ctrl-C on the terminal is ours to handle, in order.
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(settings)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not _accepts(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerFailed(
                    f"the broker did not start; what it said is in {self.folder / 'broker.log'}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """An orderly end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _settings(self, data: Path) -> str:
        own = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": data.as_posix(),
            "num.partitions": "3",
            # one broker has one copy of everything
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        }
        return "".join(f"{key}={value}\n" for key, value in {**own, **self._properties}.items())


def free_port() -> int:
    """A port that nobody listens on, from below those that the system hands out by itself: a connection that somebody
    opens before the port is used cannot take it."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as s, suppress(OSError):
            s.bind((HOST, port))
            return port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1.0).close()
        return True
    except OSError:
        return False


def _make_topic(address: str, topic: str, partitions: int) -> None:
    with kafka_gateway() as jvm:
        properties = jvm.java.util.Properties()
        properties.setProperty("bootstrap.servers", address)
        admin = jvm.org.apache.kafka.clients.admin.Admin.create(properties)
        asked = jvm.java.util.ArrayList()
        asked.add(jvm.org.apache.kafka.clients.admin.NewTopic(topic, partitions, 1))
        admin.createTopics(asked).all().get()
        admin.close()


def main(argv: list[str] | None = None) -> int:
    """Run a broker until Ctrl-C. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.stream.kafka.broker", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--port", type=int, default=9092, metavar="N", help="default 9092")
    parser.add_argument(
        "--topic", default="events:3", metavar="NAME[:PARTITIONS]", help="made at the start; default events:3"
    )
    args = parser.parse_args(argv)
    topic, _, partitions = args.topic.partition(":")
    if _accepts(args.port):
        print(f"port {args.port} is in use; choose another: make kafka ARGS='--port 9192'", file=sys.stderr)
        return 2
    with stop_signals() as stop:
        return _serve(args.port, topic, int(partitions or 1), stop)


def _serve(port: int, topic: str, partitions: int, stop: threading.Event) -> int:
    folder = Path(tempfile.mkdtemp(prefix="stitchlake-kafka-"))
    broker = Broker(folder, port)
    try:
        broker.start()
        _make_topic(broker.address, topic, partitions)
        print(
            f"Kafka is at {broker.address} with topic {topic}. In another terminal:\n"
            f"  .venv/bin/python -m pipelines.stream.kafka.produce --to {broker.address}/{topic} FILE.jsonl…\n"
            f"  .venv/bin/stitchlake run --source native:kafka://{broker.address}/{topic}\n"
            "Ctrl-C stops it and removes what it held.",
            flush=True,
        )
        while not stop.wait(0.5):
            if not _accepts(broker.port):
                raise BrokerFailed("the broker has ended by itself")
    except (BrokerFailed, JarsUnavailable, JavaMissing) as problem:
        print(problem, file=sys.stderr)
        log = folder / "broker.log"
        print(log.read_text(errors="replace")[-2000:] if log.exists() else "", file=sys.stderr)
        return 1
    finally:
        broker.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
