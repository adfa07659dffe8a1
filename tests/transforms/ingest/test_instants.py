"""When it happened, however it is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.ingest.values.instants import ASSUMED_UTC, EPOCH, NO_TIMESTAMP, OUT_OF_RANGE, instant

NOON = 1_714_564_800_000_000  # 2024-05-01T12:00:00Z
DAY = 1_714_521_600_000_000


@pytest.mark.parametrize(
    ("value", "micros"),
    [
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01T12:00:00.123456Z", NOON + 123_456),
        ("2024-05-01T12:00:00.123456789Z", NOON + 123_456),
        ("2024-05-01T12:00:00.1Z", NOON + 100_000),
        ("2024-05-01t12:00:00z", NOON),
        (" 2024-05-01T12:00:00Z ", NOON),
        ("2024-05-01 12:00:00 UTC", NOON),
        ("2024-05-01 12:00:00.000 +0000", NOON),
        ("2024-05-01T14:00:00+02:00", NOON),
        ("2024-05-01T17:30:00+0530", NOON),
        ("20240501T120000Z", NOON),
        (1714564800, NOON),
        (1714564800.5, NOON + 500_000),
        (1714564800.123456, NOON + 123_456),
        (1714564800123, NOON + 123_000),
        (1714564800123456, NOON + 123_456),
        (1714564800123456789, NOON + 123_456),
        ("1714564800", NOON),
        ("1714564800.25", NOON + 250_000),
        ("1714564800000", NOON),
        ("1712121200300", 1_712_121_200_300_000),  # reads as 1712-12-12T03:00 in ISO's basic format
        ("1.7145648e9", NOON),
        (Decimal(1714564800), NOON),
        ("1990-01-01T00:00:00Z", 631_152_000_000_000),
        ("2100-01-01T00:00:00Z", 4_102_444_800_000_000),
    ],
)
def test_instants_are_read(value, micros):
    assert instant(value) == (micros, None)


@pytest.mark.parametrize(
    ("value", "micros"),
    [("2024-05-01T12:00:00", NOON), ("2024-05-01 12:00", NOON), ("2024-05-01", DAY), ("20240501", DAY)],
)
def test_without_an_offset_utc_is_assumed_and_said(value, micros):
    assert instant(value) == (micros, ASSUMED_UTC)


@pytest.mark.parametrize(
    "value",
    [
        "1989-12-31T23:59:59.999999Z", "2100-01-01T00:00:00.000001Z", "0001-01-01T00:00:00+23:00", 0, -1,
        631_151_999, 4_102_444_801, "12345678", "99999999999999999999999", 1e300, 10**40, "1e300",
    ],
)  # fmt: skip
def test_instants_outside_1990_to_2100_are_out_of_range(value):
    assert instant(value) == (None, OUT_OF_RANGE)


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "yesterday", "2024-13-01T00:00:00Z", "2024-05-01T24:61:00Z", True, False, [], {}, [1e9],
     float("nan"), float("inf"), "NaN", "٢٠٢٤-05-01", "x" * 100_000, "1" * 1000],
)  # fmt: skip
def test_what_is_no_instant_is_no_timestamp(value):
    assert instant(value) == (None, NO_TIMESTAMP)


@given(st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)))
def test_every_spelling_of_an_instant_is_the_same_instant(moment):
    moment = moment.replace(tzinfo=UTC)
    micros = (moment - EPOCH) // timedelta(microseconds=1)
    for value in (
        moment.isoformat(),
        micros,
        str(micros),
        micros * 1000,
        f"{micros // 10**6}.{micros % 10**6:06d}",
    ):
        assert instant(value)[0] == micros
