"""A frame's rows as Python values whose instants say that they are UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def rows_of(frame: DataFrame) -> list[tuple[Any, ...]]:
    """Every row, maps and structs as dicts.

    Not `collect()`: that turns instants into the local time of this machine and says nothing of a zone, so the hour
    that a clock repeats in autumn comes out of order.
    """
    # By place: two columns of one name are two values.
    table = frame.toDF(*map(str, range(len(frame.columns)))).toArrow()
    columns = [column.to_pylist(maps_as_pydicts="strict") for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows
