"""Sessions of a Spark process that answer questions to the lake and refuse every other statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.java_gateway import ensure_callback_server_started
from pyspark.sql import SparkSession

from pipelines.apps.questions import QueryRefused, require_spark_question

# What a tool sends on its own account. It changes the connection and nothing outside of it.
_OF_A_CONNECTION = frozenset(
    ("ResetCommand", "SetCatalogAndNamespace", "SetCommand", "SetNamespaceCommand", "UseNamespace")
)


@contextmanager
def reading_sessions(spark: SparkSession) -> Iterator[None]:
    """Sessions that are made from `spark` within the block read only, `spark` itself does what it did."""
    spark._jsparkSession.sessionState()  # has its parser from now on
    ensure_callback_server_started(spark.sparkContext._gateway)
    parsers = _Parsers()
    spark._jsparkSession.extensions().injectParser(parsers)
    try:
        yield
    finally:
        parsers.is_reading = False  # what was injected stays, so it steps aside


class _Parsers:
    """Puts a reading parser before the parser of a new session."""

    def __init__(self) -> None:
        self.is_reading = True

    def apply(self, session: Any, parser: Any) -> Any:
        return _ReadingParser(self, parser) if self.is_reading else parser

    class Java:
        implements = ("scala.Function2",)


class _ReadingParser:
    """Spark's parser, but what is no question becomes one that fails with the reason. Only what a user sends comes as a
    plan: the text of a view, which names the lake's files, comes as a query."""

    def __init__(self, parsers: _Parsers, parser: Any) -> None:
        self._parsers, self._parser = parsers, parser

    def parsePlan(self, text: str) -> Any:
        if not self._parsers.is_reading:
            return self._parser.parsePlan(text)
        try:
            plan = self._parser.parsePlan(text)
            require_spark_question(plan, also=_OF_A_CONNECTION)
        except (QueryRefused, PySparkException, Py4JJavaError) as error:
            return self._parser.parsePlan(f"SELECT raise_error({_literal(_said(error))})")
        return plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    class Java:
        implements = ("org.apache.spark.sql.catalyst.parser.ParserInterface",)


def _said(error: Exception) -> str:
    if isinstance(error, Py4JJavaError):
        return "the statement cannot be understood"
    text = (error.getMessage() if isinstance(error, PySparkException) else None) or str(error)
    return next((line.strip() for line in text.splitlines() if line.strip()), "the statement failed")


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
