"""Build the one Spark session of a process: on a laptop, in a test, or inside a job that a cluster has started."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from subprocess import PIPE
from types import MappingProxyType
from typing import IO

from pyspark import SparkConf, SparkContext, SparkFiles
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

import conf
from conf.errors import Refusal
from pipelines.runtime.jars import resolve_jars
from pipelines.runtime.java import find_java
from pipelines.runtime.private_files import HADOOP_SETTING, PRIVATE, keep_files_private, mask
from pipelines.runtime.released_memory import keep_for_next


class SessionUnusable(Refusal):
    """Spark started, or failed to, in a way that this program cannot work with; the message has the way out."""


class Scope(Enum):
    """Who decides a setting: this program, or whoever submits it to a cluster."""

    MACHINE = "machine"  # where and how the JVM runs: ours on a laptop, the submitter's on a cluster
    DEFAULT = "default"  # ours unless whoever submits the job says otherwise
    ALWAYS = "always"  # results depend on it, so it holds even in a session that somebody else has made


@dataclass(frozen=True)
class Setting:
    """One Spark setting and the reason for it."""

    key: str
    value: str
    why: str
    scope: Scope = Scope.DEFAULT


SETTINGS = (
    # results
    Setting(
        "spark.sql.session.timeZone", "UTC", "all instants are UTC, whatever the machine thinks", Scope.ALWAYS
    ),
    # Delta
    Setting(
        "spark.sql.extensions",
        "io.delta.sql.DeltaSparkSessionExtension",
        "Delta's SQL: MERGE, OPTIMIZE, VACUUM",
    ),
    Setting(
        "spark.sql.catalog.spark_catalog",
        "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "tables are Delta tables without being asked",
    ),
    Setting(
        "spark.databricks.delta.snapshotPartitions",
        "1",
        "the default of 50 tasks to read a table's state costs more than the state of these tables",
    ),
    # batches are small, so overhead is what they cost
    Setting(
        "spark.sql.shuffle.partitions", "4", "200 tasks for a batch of some thousand rows are 196 too many"
    ),
    Setting(
        "spark.sql.execution.arrow.pyspark.enabled", "true", "rows reach Python as Arrow and not as pickles"
    ),
    Setting(
        "spark.sql.execution.arrow.maxRecordsPerBatch",
        "50000",
        "kernels are called per Arrow batch; 10,000 rows leave them idle between calls, more takes memory per worker",
    ),
    Setting(
        "spark.sql.execution.arrow.maxBytesPerBatch",
        str(64 * 2**20),
        "50,000 large records from a broker would not fit into one Arrow batch, nor into a worker",
    ),
    Setting(
        "spark.sql.redaction.string.regex",
        r"(?s)\bkafka\.[a-z][a-z.]* (?:->|=) .*?(?:\), kafka, \[|\z)",
        "a plan that somebody prints would show a broker's settings, passwords included",
    ),
    Setting("spark.python.worker.reuse", "true", "starting a Python worker takes longer than most batches"),
    Setting(
        "spark.python.daemon.module",
        "pipelines.runtime.worker_daemon",
        "saves 0.3 s a task: a worker does not read archives of modules anew each time",
        Scope.MACHINE,  # elsewhere the packages may reach workers only after their daemon has started
    ),
    Setting(
        "spark.sql.streaming.checkpointFileManagerClass",
        "org.apache.spark.sql.execution.streaming.FileSystemBasedCheckpointFileManager",
        "saves 75 ms a batch; its renames are atomic on a local disk, and the offsets of record are in ops.batches",
        Scope.MACHINE,  # on an object store the default is the safe one
    ),
    Setting(
        "spark.sql.streaming.fileSource.log.cleanupDelay",
        "1m",
        "a checkpoint's lists of files are joined every ten batches; by default the single ones stay ten minutes",
        Scope.MACHINE,  # the delay is for stores that show a new file late
    ),
    # this machine
    Setting("spark.driver.bindAddress", "127.0.0.1", "nothing listens on the network", Scope.MACHINE),
    Setting("spark.driver.host", "127.0.0.1", "works without a network and behind a VPN", Scope.MACHINE),
    Setting(
        "spark.ui.enabled",
        "false",
        "no port, no thread pool, no memory for a page that nobody opens",
        Scope.MACHINE,
    ),
    Setting(
        "spark.ui.showConsoleProgress",
        "false",
        "the terminal belongs to the program's own output",
        Scope.MACHINE,
    ),
    Setting("spark.sql.catalogImplementation", "in-memory", "no metastore_db, no derby.log", Scope.MACHINE),
    Setting(
        "spark.executor.memory",
        "1g",
        "for local-cluster; a local[n] session has its driver's memory",
        Scope.MACHINE,
    ),
    # what others may read
    Setting(HADOOP_SETTING, PRIVATE, "by default the JVM lets everybody read what it writes"),
)

JAVA_OPTIONS = (
    "-XX:+UseG1GC",  # pauses of 32 ms where ParallelGC has 250
    "-XX:+UseStringDeduplication",
    "-Duser.timezone=UTC",
)

# What the JVM prints at start by itself, before any logging is configured, and that nobody can act on.
NOISE = re.compile(
    r"Using incubator modules|Using Spark's default log4j|Setting default log level|To adjust logging level"
    r"|Picked up (_JAVA_OPTIONS|JAVA_TOOL_OPTIONS)|sun\.misc\.Unsafe|Please consider reporting this"
)

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def build_session(
    app_name: str,
    master: str = "local[*]",
    *,
    extra: Mapping[str, str] = NO_SETTINGS,
    driver_memory: str = "4g",
    checkpoint_dir: Path | None = None,
) -> SparkSession:
    """The session of this process: an existing one, one on the cluster that submitted us, or a new local one.

    `extra` wins over everything declared here. `master` and `driver_memory` are for a local start; a job that was
    submitted keeps what it was submitted with. `checkpoint_dir` is where GraphFrames cuts its lineage.
    """
    keep_files_private()
    if SparkSession.getActiveSession() is not None or SparkContext._active_spark_context is not None:
        # The second half is for a thread of its own: a session is active per thread, the context is the process's.
        spark = _adopt(SparkSession.getActiveSession() or SparkSession.builder.getOrCreate(), extra)
    elif "PYSPARK_GATEWAY_PORT" in os.environ:
        spark = _join_submitted(app_name, master, extra)
    else:
        spark = _start_local(app_name, master, extra, driver_memory)
    if checkpoint_dir is not None:
        checkpoint_dir.mkdir(parents=True, exist_ok=True)
        spark.sparkContext.setCheckpointDir(checkpoint_dir.absolute().as_uri())
    return spark


def _adopt(spark: SparkSession, extra: Mapping[str, str]) -> SparkSession:
    """A session that is there already keeps its settings, but for those that decide results and those asked for."""
    wanted = {setting.key: setting.value for setting in SETTINGS if setting.scope is Scope.ALWAYS} | dict(
        extra
    )
    for key, value in wanted.items():
        if spark.conf.get(key, None) != value and spark.conf.isModifiable(key):
            spark.conf.set(key, value)
    return spark


def _join_submitted(app_name: str, master: str, extra: Mapping[str, str]) -> SparkSession:
    """Under spark-submit the JVM is up: what the submitter has set stays, jars come from `--jars` or `--packages`."""
    SparkContext._ensure_initialized()
    conf_of_job = SparkConf()
    for setting in SETTINGS:
        if setting.scope is Scope.ALWAYS:
            conf_of_job.set(setting.key, setting.value)
        elif setting.scope is Scope.DEFAULT:
            conf_of_job.setIfMissing(setting.key, setting.value)
    for key, value in extra.items():
        conf_of_job.set(key, value)
    conf_of_job.setIfMissing("spark.app.name", app_name)
    conf_of_job.setIfMissing("spark.master", master)
    _require_delta_classes()
    spark = SparkSession.builder.config(conf=conf_of_job).getOrCreate()
    _send_wheels_to_workers(spark)
    if spark.sparkContext._jsc.sc().getCheckpointDir().isEmpty() and _is_local(
        conf_of_job.get("spark.master")
    ):
        spark.sparkContext.setCheckpointDir((_scratch_folder() / "checkpoints").as_uri())
    return spark


def _send_wheels_to_workers(spark: SparkSession) -> None:
    """spark-submit puts a wheel of --py-files on the driver's path but leaves it off the workers'; a zip is on both."""
    for path in spark.sparkContext.getConf().get("spark.submit.pyFiles", "").split(","):
        name = path.rpartition("/")[2]
        if name.endswith(".whl") and Path(SparkFiles.get(name)).is_file():
            copy = _scratch_folder() / f"{name.removesuffix('.whl')}.zip"
            shutil.copyfile(SparkFiles.get(name), copy)
            spark.sparkContext.addPyFile(str(copy))


def _require_delta_classes() -> None:
    jvm = SparkContext._jvm
    assert jvm is not None
    try:
        jvm.java.lang.Class.forName(
            "io.delta.sql.DeltaSparkSessionExtension",
            False,
            jvm.java.lang.Thread.currentThread().getContextClassLoader(),
        )
    except Exception:
        raise SessionUnusable(
            "This job was submitted without Delta's jars. Submit it with\n"
            '  spark-submit --jars "$(python -m pipelines.runtime.jars --paths)" …\n'
            "or with --packages as docs/spark-submit.md has it."
        ) from None


def _start_local(app_name: str, master: str, extra: Mapping[str, str], driver_memory: str) -> SparkSession:
    java = find_java()
    jars = resolve_jars()
    scratch = _scratch_folder()
    _prepare_environment(java.home, master, scratch)

    (scratch / "tmp").mkdir()
    java_options = " ".join(
        (
            *JAVA_OPTIONS,
            f"-Dlog4j2.configurationFile={_log_settings()}",
            f'"-Djava.io.tmpdir={scratch / "tmp"}"',  # a JVM that is killed leaves its folders where we remove them
        )
    )
    settings = {setting.key: setting.value for setting in SETTINGS}
    settings |= {
        "spark.app.name": app_name,
        HADOOP_SETTING: mask(),
        "spark.driver.memory": driver_memory,
        "spark.driver.extraJavaOptions": java_options,
        "spark.executor.extraJavaOptions": java_options,
        "spark.jars": ",".join(str(jar) for jar in jars),
        "spark.local.dir": str(scratch / "local"),
        "spark.sql.warehouse.dir": (scratch / "warehouse").as_uri(),
        "spark.checkpoint.dir": (scratch / "checkpoints").as_uri(),
    }
    if cluster := re.fullmatch(r"local-cluster\[\s*\d+\s*,\s*\d+\s*,\s*(\d+)\s*\]", master):
        settings["spark.executor.memory"] = f"{cluster.group(1)}m"
        # Executors are processes of their own: their Python workers are to run these packages, not others of the name.
        settings["spark.executorEnv.PYTHONPATH"] = _import_path()
    # A master on PYSPARK_SUBMIT_ARGS is somebody's decision; a setting of ours would silently win over it.
    if "--master" not in os.environ.get("PYSPARK_SUBMIT_ARGS", ""):
        settings["spark.master"] = master
    for key in ("spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions"):
        if key in extra:  # added to ours rather than instead of them: without them the log would be back
            extra = {**extra, key: f"{settings[key]} {extra[key]}"}
    settings |= extra

    started = SparkConf(loadDefaults=False)
    for key, value in settings.items():
        started.set(key, value)
    context = _start_context(started, java.home)
    spark = SparkSession(context)
    atexit.register(_stop, spark)
    return spark


def _start_context(settings: SparkConf, java_home: Path) -> SparkContext:
    if SparkContext._gateway is not None:
        # An earlier session of this process was stopped; its JVM, its memory and its jars are still there.
        return SparkContext(conf=settings)
    try:
        gateway = launch_gateway(settings, {"stderr": PIPE})
    except Exception as problem:
        raise SessionUnusable(
            f"The JVM of {java_home} did not start ({type(problem).__name__}). Often the cause is memory: this session "
            f"asks for {settings.get('spark.driver.memory')}. Also try `{java_home}/bin/java -version`."
        ) from problem
    threading.Thread(
        target=_pass_on, args=(gateway.proc.stderr, sys.__stderr__), name="spark-stderr", daemon=True
    ).start()
    return SparkContext(conf=settings, gateway=gateway)


def _pass_on(source: IO[bytes], target: IO[str] | None) -> None:
    """Copy the JVM's standard error to ours line by line, without what it says at every start."""
    for line in source:
        text = line.decode(errors="replace")
        if target is None or NOISE.search(text):
            continue
        with contextlib.suppress(
            OSError, ValueError
        ):  # our side may be closed already; the JVM must not block
            target.write(text)
            target.flush()


def _prepare_environment(java_home: Path, master: str, scratch: Path) -> None:
    import pyspark

    package = Path(pyspark.__file__).parent
    keep_for_next()
    os.environ["JAVA_HOME"] = str(java_home)
    # Workers must be this interpreter with these packages, not the first python3 on PATH.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    # A SPARK_HOME left over from another installation would start another Spark with our jars.
    os.environ["SPARK_HOME"] = str(package)
    if master.startswith("local-cluster"):
        # Its workers write SPARK_HOME/work, which must not be the installed package.
        home = scratch / "spark-home"
        home.mkdir()
        for entry in package.iterdir():
            (home / entry.name).symlink_to(entry)
        os.environ["SPARK_HOME"] = str(home)


def _import_path() -> str:
    """The PYTHONPATH with which another Python process imports this program as this one does."""
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    return os.pathsep.join(dict.fromkeys([str(Path(conf.__file__).absolute().parent.parent), *inherited]))


def set_graph_checkpoints(spark: SparkSession, folder: Path) -> None:
    """Where GraphFrames cuts its lineage, unless the session says so already (`spark.checkpoint.dir`).

    Executors write there and read what others have written, so on a cluster it lies beside the tables.
    """
    if spark.sparkContext._jsc.sc().getCheckpointDir().isEmpty():
        shutil.rmtree(folder, ignore_errors=True)  # an earlier run may have been killed before it could
        spark.sparkContext.setCheckpointDir(folder.absolute().as_uri())


def _scratch_folder() -> Path:
    scratch = Path(tempfile.mkdtemp(prefix="stitchlake-spark-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    return scratch


def _stop(spark: SparkSession) -> None:
    # Registered after the scratch folder, so it runs before: nothing writes there any more when it is removed.
    with contextlib.suppress(Exception):
        spark.stop()


def _log_settings() -> str:
    return (Path(conf.__file__).parent / "log4j2.properties").as_uri()


def _is_local(master: str | None) -> bool:
    return master is not None and master.startswith("local")
