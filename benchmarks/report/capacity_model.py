"""From measured figures of a core to cores, drivers, memory, storage and money. Arithmetic alone.

rate a spike asks for   backlog = (factor × rate − capacity) × spike, worked off by capacity − rate while it recovers
                        ⇒ capacity = rate × (factor × spike + recover) / (spike + recover)
cores                   the larger of rate / utilisation and that capacity, by the figure of one core
drivers                 the same by the figure of one driver: a batch's rows go through it. Several: lakes by tenant
index                   of users (nodes × bytes) and of history (events × bytes); above the drivers' limit it is looked
                        up in the tables, by cores of which each does a share of what it does otherwise
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import ceil
from typing import Any

GIB = 2**30
MINUTES_PER_DAY = 1_440
DAYS_PER_MONTH = 365.25 / 12


@dataclass(frozen=True)
class Figure:
    """One measured number; `conditions` say how it came to be."""

    value: float
    unit: str
    conditions: str


@dataclass(frozen=True)
class Figures:
    """What one core, one driver and one event were measured to do, need and leave behind."""

    events_per_core_minute: Figure
    driver_events_per_minute: Figure
    bytes_in_per_event: Figure
    stored_ratio: Figure
    driver_bytes_per_node: Figure
    driver_bytes_per_event: Figure
    cluster_core_share: Figure


@dataclass(frozen=True)
class Assumptions:
    monthly_users: float
    nodes_per_user: float
    utilisation: float
    spike_factor: float
    spike_minutes: float
    recover_minutes: float
    retention_days: float
    executor_gib_per_core: float
    driver_gib: float
    driver_index_limit_gib: float
    hours_per_month: float


@dataclass(frozen=True)
class Prices:
    """Example list prices."""

    as_of: str
    currency: str
    core_hour: float
    memory_gib_hour: float
    storage_gib_month: float


@dataclass(frozen=True)
class Workload:
    """A steady rate, and how many times the assumed users there are."""

    name: str
    events_per_minute: float
    scale: float = 1


@dataclass(frozen=True)
class Capacity:
    """What a workload needs. Money is a month's."""

    workload: Workload
    spike_rate: float
    cores_index_in_drivers: int
    cores_index_in_tables: int
    cores: int
    cores_without_lag: int
    drivers: int
    index_gib_of_users: float
    index_gib_per_day: float
    days_in_drivers: float
    event_keys: float
    is_index_in_drivers: bool
    memory_gib: float
    stored_gib_per_day: float
    stored_gib: float
    compute_money: float
    storage_money: float

    @property
    def money(self) -> float:
        return self.compute_money + self.storage_money

    @property
    def money_per_million_events(self) -> float:
        events = self.workload.events_per_minute * MINUTES_PER_DAY * DAYS_PER_MONTH
        return self.money / events * 1e6


def capacity_of(workload: Workload, figures: Figures, a: Assumptions, prices: Prices) -> Capacity:
    rate = workload.events_per_minute
    for_spike = spike_rate(rate, a)
    needed = max(rate / a.utilisation, for_spike)
    per_core, per_driver = figures.events_per_core_minute.value, figures.driver_events_per_minute.value
    per_core_by_tables = per_core * figures.cluster_core_share.value
    drivers = ceil(needed / per_driver)
    nodes = a.monthly_users * a.nodes_per_user * workload.scale
    of_users = nodes * figures.driver_bytes_per_node.value / GIB
    index_per_day = rate * MINUTES_PER_DAY * figures.driver_bytes_per_event.value / GIB
    index, limit = of_users + index_per_day * a.retention_days, drivers * a.driver_index_limit_gib
    is_held = index <= limit
    cores = ceil(needed / (per_core if is_held else per_core_by_tables))
    memory = cores * a.executor_gib_per_core + drivers * a.driver_gib + (index if is_held else 0.0)
    per_day = rate * MINUTES_PER_DAY * figures.bytes_in_per_event.value * figures.stored_ratio.value / GIB
    stored = per_day * a.retention_days
    return Capacity(
        workload=workload,
        spike_rate=for_spike,
        cores_index_in_drivers=ceil(needed / per_core),
        cores_index_in_tables=ceil(needed / per_core_by_tables),
        cores=cores,
        cores_without_lag=ceil(rate * a.spike_factor / (per_core if is_held else per_core_by_tables)),
        drivers=drivers,
        index_gib_of_users=of_users,
        index_gib_per_day=index_per_day,
        event_keys=rate * MINUTES_PER_DAY * a.retention_days,
        days_in_drivers=max(0.0, (limit - of_users) / index_per_day),
        is_index_in_drivers=is_held,
        memory_gib=memory,
        stored_gib_per_day=per_day,
        stored_gib=stored,
        compute_money=(cores * prices.core_hour + memory * prices.memory_gib_hour) * a.hours_per_month,
        storage_money=stored * prices.storage_gib_month,
    )


def spike_rate(rate: float, a: Assumptions) -> float:
    """The throughput that works a spike's backlog off in the time to recover."""
    spike, recover = a.spike_minutes, a.recover_minutes
    return rate * (a.spike_factor * spike + recover) / (spike + recover)


def declared(kind: type[Any], raw: dict[str, Any], what: str) -> Any:
    """A dataclass from a mapping that must have exactly its fields."""
    wanted = {f.name for f in fields(kind)}
    if set(raw) != wanted:
        raise ValueError(f"{what}: needs exactly {', '.join(sorted(wanted))}")
    return kind(**raw)
