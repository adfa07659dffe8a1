"""How right the persons are, held against the generator's truth and beside simpler methods.

    truth = read_truth("truth.jsonl")
    stitchlake = measure(truth, Assignment("stitchlake", owners, event_owners), profiles)
    print(report([stitchlake, *measure_baselines(truth, events, identifiers)]))

Everything reported is a count, a ratio or a person's label in the truth (p000123), never an identifier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.accuracy import pairs, simple_methods
from benchmarks.accuracy.pairs import Assignment, Score, Scores, Truth
from benchmarks.accuracy.simple_methods import EXACT_GROUPS, CohortAnswer, Mismatch, cohort_answers, mismatch

PROFILE_COLUMNS = tuple(name for name in pairs.PERSON_FIELDS if name not in ("person", "group"))


@dataclass(frozen=True)
class ExactReport:
    """Persons of the exact groups: how many have one profile of their own, and how many a profile right in all.

    `mismatches` is keyed by column for those with a profile of their own, and by `split` (several canonical ids,
    or an identifier without one), `merged` (their canonical id holds an identifier that is not theirs) and
    `profile_missing` or `profile_repeated` for the others.
    """

    person_count: int
    one_profile_count: int
    exact_count: int
    mismatches: dict[str, Mismatch]
    cohorts: tuple[CohortAnswer, ...]

    @property
    def is_exact(self) -> bool:
        return self.exact_count == self.person_count and all(cohort.is_equal for cohort in self.cohorts)


@dataclass(frozen=True)
class Measurement:
    """One method against the truth. `exact` is None for a method that keeps no complete profiles."""

    name: str
    whole_by_group: dict[
        str, tuple[int, int]
    ]  # one canonical id for all of hers and nobody else's: so many, of all
    identifiers: Scores
    events: Scores | None
    cohorts: tuple[CohortAnswer, ...]
    exact: ExactReport | None = None

    @property
    def person_count(self) -> int:
        return sum(size for group, (_, size) in self.whole_by_group.items() if group in EXACT_GROUPS)

    @property
    def whole_count(self) -> int:
        return sum(whole for group, (whole, _) in self.whole_by_group.items() if group in EXACT_GROUPS)


def exact_people(truth: Truth, owners: pa.Table, profiles: pa.Table) -> ExactReport:
    """Every person of the exact groups has exactly one profile, and each of its values is the true one."""
    if absent := [name for name in ("canonical_id", *PROFILE_COLUMNS) if name not in profiles.column_names]:
        raise ValueError(
            f"profiles: no column {', '.join(absent)}; give a table with the columns of gold.profiles"
        )
    is_asked = truth.is_in(EXACT_GROUPS)
    canonical_id, problem = _profiles_of_persons(truth, owners, profiles)
    problem[~is_asked] = ""
    has_own = is_asked & (problem == "")
    mismatches = {name: mismatch(truth, problem == name) for name in sorted(set(problem.tolist()) - {""})}

    rows = pc.index_in(
        canonical_id.filter(pa.array(has_own)), value_set=profiles["canonical_id"].combine_chunks()
    )
    believed, true = profiles.select(PROFILE_COLUMNS).take(rows), truth.persons.filter(pa.array(has_own))
    is_exact = has_own.copy()
    for column in PROFILE_COLUMNS:
        is_wrong = np.zeros_like(has_own)
        is_wrong[has_own] = ~_same(true[column], believed[column])
        is_exact &= ~is_wrong
        if is_wrong.any():
            mismatches[column] = mismatch(truth, is_wrong)
    return ExactReport(
        person_count=int(is_asked.sum()),
        one_profile_count=int(has_own.sum()),
        exact_count=int(is_exact.sum()),
        mismatches=mismatches,
        cohorts=cohort_answers(truth, Assignment("", owners), profiles),
    )


def measure(truth: Truth, assignment: Assignment, profiles: pa.Table | None = None) -> Measurement:
    """A method's scores; with profiles (columns of gold.profiles) their values and cohorts as well."""
    exact = None if profiles is None else exact_people(truth, assignment.owners, profiles)
    whole, groups = pairs.whole_persons(truth, assignment), truth.person_groups
    return Measurement(
        name=assignment.name,
        whole_by_group={
            g: (int(whole[groups == g].sum()), int((groups == g).sum())) for g in sorted(set(groups))
        },
        identifiers=pairs.pair_scores(truth, assignment),
        events=None if assignment.event_owners is None else pairs.event_scores(truth, assignment),
        cohorts=() if exact is None else exact.cohorts,
        exact=exact,
    )


def measure_baselines(truth: Truth, events: pa.Table, identifiers: pa.Table) -> list[Measurement]:
    """The three baselines over the same events; their cohorts come from profiles simply folded from events."""
    found = [baseline(events, identifiers) for baseline in simple_methods.BASELINES]
    cohorts = [cohort_answers(truth, one, simple_methods.simple_profiles(events, one)) for one in found]
    return [
        replace(measure(truth, one), cohorts=answers) for one, answers in zip(found, cohorts, strict=True)
    ]


def report(measured: Sequence[Measurement]) -> str:
    """Three tables, one row per method: identifiers, events, persons."""
    blocks = []
    for kind in ("identifiers", "events"):
        scored = [(one.name, scores) for one in measured if (scores := getattr(one, kind))]
        if scored:
            groups = list(scored[0][1].by_group)
            header = [kind, "pair P", "pair R", "B3 P", "B3 R", *(f"{group} P / R" for group in groups)]
            rows = [
                [name, *(f"{share:.4f}" for share in _shares(scores.overall).values())]
                + [f"{part.pair_precision:.4f} / {part.pair_recall:.4f}" for part in scores.by_group.values()]
                for name, scores in scored
            ]
            blocks.append(_table(header, rows))
    groups = list(measured[0].whole_by_group) if measured else []
    header = ["persons with one profile", *groups, "every value right", *simple_methods.COHORT_QUESTIONS]
    rows = [
        [one.name, *(f"{whole} of {size}" for whole, size in one.whole_by_group.values())]
        + [f"{one.exact.exact_count} of {one.person_count}" if one.exact else "-"]
        + [f"{a.profile_count} of {a.truth_count}{'' if a.is_equal else ' (differs)'}" for a in one.cohorts]
        for one in measured
    ]
    shared = measured[0].identifiers.shared_count if measured else 0
    notes = (
        f"P precision, R recall, of pairs and B-cubed (B3). {shared} identifiers of several persons have no single\n"
        f"owner and are left out of the pairs. Values and cohorts are of {' and '.join(EXACT_GROUPS)} persons."
    )
    return "\n\n".join([*blocks, _table(header, rows), notes]) + "\n"


def as_rows(measured: Sequence[Measurement]) -> list[dict[str, object]]:
    """One {name, value, unit} per number, for benchmarks/results."""
    return [
        {"name": f"accuracy.{one.name}.{name}", "value": value, "unit": unit}
        for one in measured
        for name, value, unit in _numbers(one)
    ]


def _numbers(one: Measurement) -> Iterator[tuple[str, float, str]]:
    for kind, scores in (("identifiers", one.identifiers), ("events", one.events)):
        if scores:
            for part, score in {"all": scores.overall, **scores.by_group}.items():
                for name, share in _shares(score).items():
                    yield f"{kind}.{part}.{name}", share, "ratio"
            yield f"{kind}.shared_count", scores.shared_count, kind
            yield f"{kind}.unowned_count", scores.unowned_count, kind
            yield f"{kind}.unknown_count", scores.unknown_count, kind
    for group, (whole, size) in one.whole_by_group.items():
        yield f"persons.{group}.one_profile_count", whole, "persons"
        yield f"persons.{group}.person_count", size, "persons"
    if one.exact:
        yield "persons.exact_count", one.exact.exact_count, "persons"
    for answer in one.cohorts:
        yield f"cohorts.{answer.question}.profile_count", answer.profile_count, "persons"
        yield f"cohorts.{answer.question}.truth_count", answer.truth_count, "persons"
        yield f"cohorts.{answer.question}.missing_count", answer.missing.count, "persons"
        yield f"cohorts.{answer.question}.surplus_count", answer.surplus.count, "persons"


def _shares(score: Score) -> dict[str, float]:
    names = ("pair_precision", "pair_recall", "bcubed_precision", "bcubed_recall")
    return {name: getattr(score, name) for name in names}


def _table(header: list[str], rows: list[list[str]]) -> str:
    filled = [row + ["-"] * (len(header) - len(row)) for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(v.rjust(w) for v, w in zip(row[1:], widths[1:], strict=True))])
        for row in filled
    )


def _profiles_of_persons(truth: Truth, owners: pa.Table, profiles: pa.Table) -> tuple[pa.Array, np.ndarray]:
    """Per person: the canonical id of her identifiers (null unless one), and what is wrong with it ("" for nothing).

    A shared identifier counts as each of its persons', so that whoever is given it is not merged with the others.
    """
    persons_of = truth.identifiers["persons"].combine_chunks()
    rows = pc.list_parent_indices(persons_of)
    listed = (
        truth.identifiers.drop_columns("persons")
        .take(rows)
        .append_column("person", pc.list_flatten(persons_of))
    )
    found = pairs.with_owners(listed, owners, pairs.IDENTIFIER_KEY)
    clusters, ids = pairs.numbered(found["canonical_id"])
    own, counts = np.unique(
        np.stack([truth.numbers_of(found["person"]), clusters]), axis=1, return_counts=True
    )
    person_count = len(truth.persons)
    is_one = np.bincount(own[0], minlength=person_count) == 1
    cluster = np.full(person_count, len(ids))
    held = np.zeros(person_count, dtype=np.int64)
    cluster[own[0]], held[own[0]] = own[1], counts
    is_one &= cluster < len(ids)
    place = np.where(is_one, cluster, 0)
    problem = np.select(
        [
            ~is_one,
            held != _occurrences(ids, owners["canonical_id"])[place],
            _occurrences(ids, profiles["canonical_id"])[place] == 0,
            _occurrences(ids, profiles["canonical_id"])[place] > 1,
        ],
        ["split", "merged", "profile_missing", "profile_repeated"],
        default="",
    )
    return ids.take(pa.array(place, mask=~is_one)), problem


def _occurrences(ids: pa.Array, column: pa.ChunkedArray) -> np.ndarray:
    """How often each id stands in the column."""
    places = pc.index_in(column, value_set=ids).drop_null().to_numpy()
    return np.bincount(places, minlength=max(len(ids), 1))


def _same(true: pa.ChunkedArray, believed: pa.ChunkedArray) -> np.ndarray:
    """One flag per row: the two values are equal, or both absent; lists are compared without their order."""
    if pa.types.is_list(true.type):
        pairs = zip(true.to_pylist(), believed.to_pylist(), strict=True)
        return np.array([sorted(left or ()) == sorted(right or ()) for left, right in pairs], dtype=bool)
    believed = believed.cast(true.type, safe=False)
    are_equal = pc.fill_null(pc.equal(true, believed), False)
    return pc.or_(are_equal, pc.and_(true.is_null(), believed.is_null())).to_numpy()
