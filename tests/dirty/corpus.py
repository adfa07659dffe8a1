"""The poison corpus: payloads that programs stumble over, made by declared generators from a seed.

Every entry says what has to become of it: valid, with which flags, or quarantined, for which reasons. The rules are
those of docs/dirty-input.md; an entry that differs is a defect of the program or of the page.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import count, islice

import pyarrow as pa
import pyarrow.parquet as pq

from tests.dirty.naughty import BLANK, BLOCKED, LOST, STRINGS, TIMES
from tests.dirty.shapes import SHAPES, Record, Shape

SEED = 20260301
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Outcome:
    """What one event comes to: refused for `reasons`, or valid where there are none; with `flags` either way."""

    reasons: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Poison:
    """One record of a mapping and what each of its events comes to (more than one only in envelopes).

    No payload holds a line feed, so that each can be a line among others.
    """

    name: str
    mapping: str
    payload: bytes
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class PoisonFile:
    """One landed file, and what each event in it comes to, in their order."""

    name: str
    mapping: str
    content: bytes
    outcomes: tuple[Outcome, ...]


VALID = Outcome()
Lines = Iterator[tuple[str, bytes | Record | str, Outcome | tuple[Outcome, ...]]]
Generator = Callable[[Shape, random.Random], Lines]


def refused(*reasons: str, flags: tuple[str, ...] = ()) -> Outcome:
    return Outcome(reasons, flags)


def flagged(*flags: str) -> Outcome:
    return Outcome((), flags)


MALFORMED = refused("malformed_json")


def line(record: object) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


# Generators: per format, what is wrong --------------------------------------------------------------------------


def truncated(shape: Shape, chance: random.Random) -> Lines:
    """Cut at every kind of place: each kind once, at a place of that kind taken by chance."""
    whole = line(shape.record("cut", further={"t": True, "n": None, "e": 'a"b\\u00e9', "z": -1.5e-3}))
    text = whole.decode("latin-1")  # one character a byte
    kinds = {
        "after_brace": r"\{",
        "in_a_key": r"\"[a-z]{2}(?=[a-z_]+\":)",
        "before_colon": r"\"[A-Za-z_]+\"(?=:)",
        "after_colon": r":",
        "in_a_text": r":\"[a-z0-9]",
        "in_an_escape": r"\\(?=\")",
        "after_comma": r",",
        "in_true": r"tru",
        "in_null": r"nul",
        "in_a_number": r"-1\.",
        "in_an_exponent": r"5e-",
        "in_a_list": r"\[",
    }
    for kind, pattern in kinds.items():
        ends = [m.end() for m in re.finditer(pattern, text)]
        if ends:
            yield kind, whole[: chance.choice(ends)], MALFORMED
    yield "last_byte", whole[:-1], MALFORMED
    wide = [at for at, byte in enumerate(whole) if byte >= 0xC0]
    yield "in_a_character", whole[: wide[0] + 1], refused("invalid_utf8")
    yield "first_byte", b"{", MALFORMED


def nested(shape: Shape, chance: random.Random) -> Lines:
    def deep(at: str, opened: str, inner: str, closed: str, levels: int) -> bytes:
        text = line(shape.record(f"deep-{at}-{levels}-{len(opened)}", **{at: "HERE"})).decode()
        return text.replace('"HERE"', opened * levels + inner + closed * levels).encode()

    yield "lists", deep("free", "[", "", "]", 1000), VALID
    yield "objects", deep("free", '{"a":', "1", "}", 1000), VALID
    yield "mixed", deep("free", '[{"a":', "null", "}]", 500), VALID
    yield "lists_below_the_top", deep("properties", '{"p":', "[[1]]", "}", 1000), VALID
    yield "too_deep", deep("free", "[", "", "]", 1025), MALFORMED
    yield "far_too_deep", deep("free", "[", "", "]", 100_000), MALFORMED
    yield "never_closed", b"[" * 200_000, MALFORMED
    yield "objects_never_closed", b'{"a":' * 200_000, MALFORMED
    yield "as_time", deep("at", "[", "", "]", 1000), refused("no_timestamp")
    yield "as_user", deep("user", '{"a":', "1", "}", 1000), flagged("wrong_type_identifier")
    yield (
        "as_device",
        deep("device", "[", '"d"', "]", 1000),
        refused("no_identifier", flags=("wrong_type_identifier",)),
    )
    yield (
        "as_context",
        deep("context", '{"a":', "1", "}", 1000),
        (VALID if shape.mapping != "segment" else refused("no_identifier")),
    )
    beside_a_long_number = deep("free", "[", "", "]", 1000)[:-1] + b',"%s":' % shape.event_id.encode()
    yield "beside_a_long_number", beside_a_long_number + b"1" * 40 + b"}", VALID


def repeated_keys(shape: Shape, chance: random.Random) -> Lines:
    """Of a repeated key the last one counts."""

    def twice(path: str, first: object, *more: object) -> bytes:
        name = path.rpartition(".")[2]
        record = shape.record(f"twice-{name}-{len(more)}")
        last = json.dumps(name) + ":"
        text = line(record).decode()
        before = f"{last}{json.dumps(first)},"
        again = "".join(f",{last}{json.dumps(m)}" for m in more)
        at = text.index(last)
        end = at + len(last) + json.JSONDecoder().raw_decode(text, at + len(last))[1] - at - len(last)
        return (text[:at] + before + text[at:end] + again + text[end:]).encode()

    yield "time_first_wrong", twice(shape.at, "never"), VALID
    yield "time_last_wrong", twice(shape.at, "x", "never"), refused("no_timestamp")
    yield "event_id", twice(shape.event_id, "other"), VALID
    yield "identifier", twice(shape.device, "other-device"), VALID
    yield "identifier_last_null", twice(shape.device, "x", None), refused("no_identifier")
    yield (
        "identifier_last_object",
        twice(shape.device, "x", {}),
        refused("no_identifier", flags=("wrong_type_identifier",)),
    )
    text = line(shape.record("twice-many")).decode()
    yield "ten_thousand_times", (text[:-1] + ',"k":1' * 10_000 + "}").encode(), VALID


def encodings(shape: Shape, chance: random.Random) -> Lines:
    def encoded(text: str, encoding: str) -> bytes:
        return json.dumps({"free": text, "of": shape.mapping}, ensure_ascii=False).encode(encoding)

    def with_bytes(inner: bytes) -> bytes:
        return line(shape.record(f"raw-{inner.hex()[:24]}", free="HERE")).replace(b"HERE", inner)

    invalid = refused("invalid_utf8")
    yield "latin_1", encoded("Köln", "latin-1"), invalid
    yield "windows_1252", encoded("10 € “a”", "cp1252"), invalid
    yield "shift_jis", encoded("ソ連", "shift_jis"), invalid
    yield "utf_16_with_mark", encoded("a", "utf-16"), invalid
    yield "utf_16_little", encoded("Köln", "utf-16-le"), invalid
    yield "utf_16_ascii", '{"a":1}'.encode("utf-16-le"), MALFORMED  # NULs are UTF-8, if no JSON
    yield "utf_32", '{"a":1}'.encode("utf-32-be"), MALFORMED
    yield "ebcdic", encoded("a", "cp037"), invalid
    yield "overlong_slash", with_bytes(b"\xc0\xaf"), invalid
    yield "overlong_nul", with_bytes(b"\xc0\x80"), invalid
    yield "overlong_three", with_bytes(b"\xe0\x80\xaf"), invalid
    yield "raw_surrogate", with_bytes(b"\xed\xa0\x80"), invalid
    yield "raw_surrogate_pair", with_bytes(b"\xed\xa0\xbd\xed\xb8\x80"), invalid
    yield "beyond_unicode", with_bytes(b"\xf4\x90\x80\x80"), invalid
    yield "lone_continuation", with_bytes(b"\x80"), invalid
    yield "five_bytes", with_bytes(b"\xf8\x88\x80\x80\x80"), invalid
    yield "cut_character", with_bytes(b"\xf0\x9f\x98"), invalid
    yield (
        "random_bytes",
        bytes(chance.choice([b for b in range(256) if b != 10]) for _ in range(300)),
        invalid,
    )
    replaced = flagged("replaced_character")
    yield "escaped_surrogate", with_bytes(b"\\ud800"), replaced
    yield "escaped_low_surrogate", with_bytes(b"\\udc00\\ud800"), replaced
    yield "escaped_surrogate_behind_a_backslash", with_bytes(b"\\\\ud800"), VALID
    yield "escaped_pair", with_bytes(b"\\ud83d\\ude00"), VALID
    yield "escaped_nul", with_bytes(b"\\u0000"), VALID
    yield "raw_nul", with_bytes(b"\x00"), MALFORMED
    yield "raw_control", with_bytes(b"\x01\x1f"), MALFORMED
    yield "raw_tab", with_bytes(b"\t"), MALFORMED
    yield "nul_behind", line(shape.record("nul")) + b"\x00", MALFORMED
    yield "nuls_alone", b"\x00" * 64, MALFORMED
    yield "byte_order_mark", b"\xef\xbb\xbf" + line(shape.record("mark")), VALID
    yield "two_byte_order_marks", b"\xef\xbb\xbf" * 2 + line(shape.record("marks")), MALFORMED
    yield "mark_alone", b"\xef\xbb\xbf", MALFORMED


def numbers(shape: Shape, chance: random.Random) -> Lines:
    def number(text: str, at: str = "free") -> bytes:
        return line(shape.record(f"n-{at}-{text[:9]}-{len(text)}", **{at: "HERE"})).replace(
            b'"HERE"', text.encode()
        )

    for text in ("-0", "-0.0", str(2**63), str(2**64), "1e-400", "1" + "0" * 300, "0." + "1" * 400, "1E+2"):
        yield f"free_{text[:20]}", number(text), VALID
        yield (
            f"user_{text[:20]}",
            number(text, "user"),
            (VALID if text not in ("-0", "-0.0", "1e-400") else BLOCKED_USER),
        )
    for text in ("1e400", "-1e400", "1" + "0" * 400, "1" + "0" * 5000, "9" * 1_000_000):
        yield f"free_{text[:9]}_{len(text)}", number(text), VALID
        yield (
            f"user_{text[:9]}_{len(text)}",
            number(text, "user"),
            VALID if len(text) < 512 else flagged("oversized_identifier"),
        )
    for text in ("NaN", "-NaN", "Infinity", "-Infinity", "nan", "inf"):
        yield f"free_{text}", number(text), MALFORMED
        yield f"user_{text}", number(text, "user"), MALFORMED
    for text in ("01", "+1", "1.", ".5", "0x10", "1_000", "1,5", "--1", "1e", "٣", "½"):
        yield f"free_{text}", number(text), MALFORMED
    yield "fraction_as_user", number("0.1", "user"), VALID
    yield "long_fraction_as_user", number("0." + "3" * 5000, "user"), flagged("oversized_identifier")
    yield "no_id_fits", number("1e308", "user"), VALID
    yield "ten_thousand_zeros_behind_a_point", number("1." + "0" * 10_000, "user"), VALID
    yield "long_event_id", number("8" * 40, "event_id"), VALID
    yield "true_as_user", number("true", "user"), flagged("wrong_type_identifier")


BLOCKED_USER = flagged("blocked_identifier")
LOST_USER = flagged("malformed_identifier")


def naughty(shape: Shape, chance: random.Random) -> Lines:
    """Strings where somebody's name, a tenant or an id belongs: taken as they are."""
    for name, text in STRINGS.items():
        yield (
            f"user_{name}",
            shape.record(f"user-{name}", user=text),
            BLOCKED_USER if name in BLOCKED else LOST_USER if name in LOST else VALID,
        )
    for name in chance.sample(sorted(STRINGS), 12):
        text = STRINGS[name]
        if shape.tenant:
            yield f"tenant_{name}", shape.record(f"tenant-{name}", tenant=text), VALID
        yield f"event_id_{name}", shape.record(f"id-{name}", event_id=text), VALID
        yield f"event_type_{name}", shape.record(f"type-{name}", event_type=text), VALID
        yield f"free_key_{name}", shape.record(f"key-{name}") | {text: 1}, VALID
    for name, text in BLANK.items():
        is_absent = text == "" and shape.mapping != "native"  # in a column, an empty text is no value
        yield f"user_{name}", shape.record(f"user-{name}", user=text), VALID if is_absent else BLOCKED_USER
        yield f"event_id_{name}", shape.record(f"id-{name}", event_id=text), VALID
        if shape.tenant:
            yield f"tenant_{name}", shape.record(f"tenant-{name}", tenant=text), VALID
    yield "user_long", shape.record("user-long", user="x" * 513), flagged("oversized_identifier")
    yield (
        "user_very_long",
        shape.record("user-very-long", user="x" * MEBIBYTE),
        flagged("oversized_identifier"),
    )
    yield "event_id_long", shape.record("", event_id="y" * 100_000), flagged("oversized_event_id")
    if shape.tenant:
        yield "tenant_long", shape.record("tenant-long", tenant="t" * 513), refused("unusable_tenant")


WRONG = {"list": ["a"], "object": {"a": 1}, "true": True, "false": False, "empty_list": [], "number": 7}


def wrong_types(shape: Shape, chance: random.Random) -> Lines:
    for kind, value in WRONG.items():
        is_text = kind == "number"  # a number is as good as its digits

        def of(part: str, value: object = value, kind: str = kind) -> Record:
            return shape.record(f"{part}-{kind}", **{part: value})

        yield f"event_id_{kind}", of("event_id"), VALID if is_text else flagged("wrong_type_event_id")
        # Where a format has one field for type and name, both are wrong.
        both = ("wrong_type_event_name",) if shape.mapping in ("snowplow", "shopstream") else ()
        wrong = flagged(*both, "wrong_type_event_type")
        yield f"event_type_{kind}", of("event_type"), VALID if is_text else wrong
        yield f"platform_{kind}", of("platform"), VALID if is_text else flagged("wrong_type_platform")
        if shape.tenant:
            yield f"tenant_{kind}", of("tenant"), VALID if is_text else refused("unusable_tenant")
        is_list = kind in ("list", "empty_list")
        yield f"user_{kind}", of("user"), VALID if is_text or is_list else flagged("wrong_type_identifier")
    if shape.mapping == "native":
        for name, value in (("word", "soon"), ("year_one", "0001-01-01T00:00:00Z"), ("object", {})):
            unread = shape.record(f"received-{name}", received_at=value)
            yield f"received_at_{name}", unread, flagged("unusable_received_at")
        for name in ("nobody", "a@b", "a b@c.example", "@c.example", "a@c..example", "a@b@c.example"):
            mail = shape.record(f"mail-{name}", **{"identifiers.email": name})
            yield f"email_{name}", mail, flagged("malformed_identifier")
        for kind, value in WRONG.items():
            yield (
                f"identifiers_{kind}",
                shape.record(kind) | {"identifiers": value},
                (
                    refused("no_identifier", flags=("unknown_namespace",))
                    if kind == "object"
                    else refused("no_identifier", flags=("wrong_type_identifier",))
                ),
            )
            yield f"properties_{kind}", shape.record(f"properties-{kind}", properties=value), VALID
            yield f"context_{kind}", shape.record(f"context-{kind}", context=value), VALID
            is_object = kind == "object"
            yield (
                f"actor_{kind}",
                shape.record(f"actor-{kind}", actor=value),
                (VALID if is_object else flagged("wrong_type_actor")),
            )
            yield (
                f"event_name_{kind}",
                shape.record(f"event_name-{kind}", event_name=value),
                (VALID if kind == "number" else flagged("wrong_type_event_name")),
            )
    yield (
        "device_object",
        shape.record("x", device={"id": "d"}),
        refused("no_identifier", flags=("wrong_type_identifier",)),
    )


def times(shape: Shape, chance: random.Random) -> Lines:
    for name, (value, reason, flag) in TIMES.items():
        # Elsewhere another time stands in for the one that is missing.
        is_flagged = flag == "utc" and not shape.is_utc
        outcome = refused(reason) if reason else flagged("assumed_utc") if is_flagged else VALID
        yield name, shape.record(f"t-{name}", at=value), outcome
    yield "absent", shape.record("t-absent", at=...), refused("no_timestamp")
    if shape.mapping == "snowplow":
        second = shape.record(
            "t-second", at="-5965-09-20 15:44:22.721", collector_tstamp="2026-03-01 12:00:00"
        )
        yield "second_choice", second, flagged("unusable_timestamp")


def sizes(shape: Shape, chance: random.Random) -> Lines:
    many = [f"m-{shape.mapping}-{n}" for n in range(51)]
    yield "identifiers_51", shape.record("51", user=many), refused("too_many_identifiers")
    yield "identifiers_50", shape.record("50", device=many[:50]), VALID
    yield "identifiers_51_repeated", shape.record("r51", device=many[:49] * 20), VALID
    yield (
        "identifiers_100_000",
        shape.record("100k", user=[f"k{n}" for n in range(100_000)]),
        refused("too_many_identifiers"),
    )
    yield "free_fields_10_000", shape.record("wide") | {f"f{n}": n for n in range(10_000)}, VALID
    yield "free_key_long", shape.record("long-key") | {"k" * 100_000: 1}, VALID
    if shape.mapping == "native":
        yield "line_10_mb", shape.record("10mb", free="x" * 10_000_000), VALID
        yield "line_10_mb_of_lists", shape.record("10mb-lists", free=[[]] * 3_000_000), VALID
        yield "line_17_mib", shape.record("17mb", free="x" * 17 * MEBIBYTE), refused("record_too_large")
        yield (
            "actors_200_000",
            shape.record("actors", actor={"user_id": list(range(200_000))}),
            refused("too_many_identifiers"),
        )
        yield (
            "sessions_200_000",
            shape.record("weak")
            | {"identifiers": {"device_id": "d", "session_id": [f"s{n}" for n in range(200_000)]}},
            refused("too_many_identifiers"),
        )
        yield (
            "addresses_200_000",
            shape.record("ips", context={"ip": [str(n) for n in range(200_000)]}),
            refused("too_many_identifiers"),
        )
        yield (
            "namespaces_50_000",
            shape.record("spaces")
            | {"identifiers": {"device_id": "d"} | {f"x{n}": n for n in range(50_000)}},
            flagged("unknown_namespace"),
        )


def no_records(shape: Shape, chance: random.Random) -> Lines:
    """What is JSON and no object, or two things in one line, or no JSON at all."""
    good = line(shape.record("beside"))
    no_object = refused("not_an_object")
    for name, text in {
        "list": "[]", "list_of_records": "[" + good.decode() + "]", "text": '"a"', "number": "1",
        "true": "true", "null": "null", "empty_text": '""',
    }.items():  # fmt: skip
        yield name, text, no_object
    for name, text in {
        "two": good + good, "two_spaced": good + b" " + good, "two_in_a_list": good + b"," + good,
        "rubbish_behind": good + b"x", "rubbish_before": b"x" + good, "comma_behind": good + b",",
        "brace_missing": good[:-1], "brace_too_many": good + b"}", "single_quotes": b"{'a':1}",
        "no_quotes": b"{a:1}", "comment": b"{/* a */}", "line_comment": b"// " + good, "trailing_comma": b'{"a":1,}',
        "no_value": b'{"a":}', "no_colon": b'{"a" 1}', "bad_escape": b'{"a":"\\x41"}', "words": b"hello",
        "undefined": b'{"a":undefined}', "python": b"{'a': None, 'b': True}", "xml": b"<event id='1'/>",
        "yaml": b"- event: 1", "csv": b"e1,2026-03-01,u1", "form": b"event_id=1&user_id=2", "base64": b"eyJhIjoxfQ==",
        "gzip": gzip.compress(b"{}", mtime=0).replace(b"\n", b"") , "log": b"2026-03-01 12:00:00 INFO event",
        "vertical_tab": b"\x0b" + good, "form_feed": good + b"\x0c", "byte": b"\x1a",
    }.items():  # fmt: skip
        yield name, text, refused("invalid_utf8") if name == "gzip" else MALFORMED
    is_empty = refused("no_timestamp", "no_identifier")
    yield "empty_object", "{}", is_empty
    yield "empty_key", '{"":""}', is_empty
    yield "prototype", '{"__proto__":{"timestamp":1},"constructor":1}', is_empty


def envelopes(shape: Shape, chance: random.Random) -> Lines:
    if shape.mapping != "segment":
        return
    good = [shape.record(f"batch-{n}") for n in range(3)]

    def batch(name: str, *elements: object) -> Record:
        mine = [
            e | {"messageId": f"{name}-{i}"} if isinstance(e, dict) and e else e
            for i, e in enumerate(elements)
        ]
        return {"batch": mine, "sentAt": "2026-03-01T12:00:00Z", "free": name}

    no_object = refused("not_an_object")
    yield "empty", batch("empty"), refused("no_events")
    yield "object", {"batch": {"a": 1}}, refused("no_events")
    yield "number", {"batch": 7}, refused("no_events")
    yield "text", {"batch": "x"}, refused("no_events")
    yield "broken_json_text", {"batch": "[{"}, refused("no_events")
    yield "scalars", batch("scalars", 1, None, "a", [], good[0]), (*[no_object] * 4, VALID)
    yield "of_batches", batch("inner", {"batch": [good[0]]}), refused("no_identifier")
    yield "empty_element", batch("hollow", {}, good[1]), (refused("no_identifier"), VALID)
    yield "one_of_three_bad", batch("third", good[0], {**good[1], "timestamp": "never"}, good[2]), (
        VALID, flagged("unusable_timestamp"), VALID,  # the envelope says when it was sent
    )  # fmt: skip
    never = {"timestamp": "never", "sentAt": "never"}
    bad = batch("no-time", good[0], {**good[1], **never}, good[2]) | {"sentAt": "never"}
    yield "one_of_three_bad_and_no_other_time", bad, (VALID, refused("no_timestamp"), VALID)
    no_number = line(batch("no-number", good[0], {**good[1], "free": "HERE"}, good[2]))
    for word in ("NaN", "-Infinity"):
        text = no_number.replace(b'"HERE"', word.encode()).replace(b"no-number", b"no-" + word.encode())
        yield f"one_of_three_{word}", text, (VALID, MALFORMED, VALID)
    yield "no_number_around", line(batch("around", *good)).replace(b'"around"}', b"NaN}"), MALFORMED
    mended = line(batch("cut", good[0], {**good[1], "free": "HERE"}, good[2])).replace(b"HERE", b"\\ud83d")
    yield "one_of_three_cut", mended, (VALID, flagged("replaced_character"), VALID)
    yield "too_many", {"batch": [{}] * 10_001}, refused("too_many_events")
    huge = {"batch": [{"type": "track", "userId": "u"}] * 3_000, "context": {"blob": "x" * 100_000}}
    yield "amplified", huge, refused("envelope_too_large")


GENERATORS: dict[str, Generator] = {
    g.__name__: g
    for g in (
        truncated, nested, repeated_keys, encodings, numbers, naughty, wrong_types, times, sizes, no_records,
        envelopes,
    )
}  # fmt: skip


def poison(seed: int = SEED) -> list[Poison]:
    """All records of the corpus, format by format."""
    entries = []
    for shape in SHAPES.values():
        for kind, generator in GENERATORS.items():
            chance = random.Random(f"{seed} {shape.mapping} {kind}")
            for name, made, outcomes in generator(shape, chance):
                payload = (
                    made
                    if isinstance(made, bytes)
                    else made.encode()
                    if isinstance(made, str)
                    else line(made)
                )
                each = outcomes if isinstance(outcomes, tuple) else (outcomes,)
                entries.append(Poison(f"{shape.mapping}-{kind}-{name}", shape.mapping, payload, each))
    return entries


# Whole files ----------------------------------------------------------------------------------------------------


def files() -> list[PoisonFile]:
    """Landed files that are wrong as files; what is good in them has to arrive. No event id is there twice."""
    found: list[PoisonFile] = []
    fresh = count()

    def add(name: str, *outcomes: Outcome, mapping: str, content: bytes | str) -> None:
        text = content if isinstance(content, bytes) else content.encode()
        stem, dot, extension = name.partition(".")
        found.append(PoisonFile(f"{mapping}_{stem}{dot}{extension}", mapping, text, outcomes))

    for mapping in COLUMNS:
        _csv_files(SHAPES[mapping], partial(add, mapping=mapping), fresh)
        _parquet_files(SHAPES[mapping], partial(add, mapping=mapping), fresh)
    for shape in SHAPES.values():
        _json_files(shape, partial(add, mapping=shape.mapping), fresh)
    add("cut.csv", MALFORMED_CSV, mapping="native", content=b"event_id,timestamp,identifiers\ne,1772366400")
    add("odd.txt", UNREADABLE, mapping="native", content=b"whatever")
    add("no_extension", UNREADABLE, mapping="native", content=b"whatever")
    return found


COLUMNS = ("flat", "snowplow", "shopstream")  # formats with all they need in columns
MALFORMED_CSV, UNREADABLE = refused("malformed_csv"), refused("unreadable_file")
NO_ID, NO_TIME, NOTHING = (
    refused("no_identifier"),
    refused("no_timestamp"),
    refused("no_timestamp", "no_identifier"),
)
Add = Callable[..., None]


def _csv_files(shape: Shape, add: Add, fresh: Iterator[int]) -> None:
    header = ",".join([shape.event_id, shape.at, shape.device, "note"])

    def good(number: int = 4) -> list[str]:
        return [f"f{n},2026-03-01T12:00:00Z,d{n},plain" for n in islice(fresh, number)]

    for name, mark, end in (("mixed.csv", "", "\n"), ("windows.csv", "\ufeff", "\r\n")):
        a, b, c, d = good()
        open_quote, rubbish = 'x1,2026-03-01T12:00:00Z,d1,"open', 'x2,2026-03-01T12:00:00Z,d2,"a"b'
        few, many = "x3,2026-03-01T12:00:00Z", "x4,2026-03-01T12:00:00Z,d4,a,b"
        bad = MALFORMED_CSV
        add(
            name, *(VALID, bad, VALID, bad, bad, VALID, bad, NOTHING, VALID),
            content=mark + end.join([header, a, open_quote, b, rubbish, few, c, many, ",,,", d, ""]),
        )  # fmt: skip
    add("no_header.csv", *[NOTHING] * 3, content="\n".join(good()))
    add("wrong_header.csv", *[MALFORMED_CSV] * 4, content="\n".join(["a;b;c;d", *good()]))
    add("other_header.csv", *[NOTHING] * 4, content="\n".join(["a,b,c,d", *good()]))
    add("open_header.csv", *[MALFORMED_CSV] * 4, content="\n".join(['"a,b,c,d', *good()]))
    doubled = header.replace("note", shape.device)
    add("doubled_header.csv", *[VALID] * 4, content="\n".join([doubled, *good()]))
    a, b = good(2)
    latin = "\n".join([header, a, b.replace("plain", "Köln")]).encode("latin-1")
    add("latin.csv", VALID, refused("invalid_utf8"), content=latin)
    add("utf16.csv", *[refused("invalid_utf8")] * 4, content="\n".join([header, *good()]).encode("utf-16"))
    add("nul.csv", VALID, content="\n".join([header, good(1)[0].replace("plain", "a\0b")]))
    add("header_only.csv", content=header + "\n")
    add("empty.csv", content="")
    add("blank.csv", content="\n \n\t\n")
    a, b = good(2)
    quoted = a.replace("plain", '"a ""b"", c\nd"')
    add("quoted.csv", VALID, VALID, content="\n".join([header, quoted, b]))
    packed = gzip.compress("\n".join([header, *good(200)]).encode(), mtime=0)[:-20]
    add("cut.csv.gz", *[VALID] * (_gunzipped(packed).count(b"\n") - 1), UNREADABLE, content=packed)


def _json_files(shape: Shape, add: Add, fresh: Iterator[int]) -> None:
    def good(number: int) -> list[bytes]:
        return [line(shape.record(f"file-{n}")) for n in islice(fresh, number)]

    def packed() -> bytes:
        return gzip.compress(b"\n".join(good(60)) + b"\n", mtime=0)

    cut = packed()
    cut = cut[: len(cut) * 2 // 3]
    arrived = _gunzipped(cut)
    half = [MALFORMED] if arrived.rpartition(b"\n")[2] else []
    add("cut.jsonl.gz", *[VALID] * arrived.count(b"\n"), *half, UNREADABLE, content=cut)
    add("not_gzip.jsonl.gz", UNREADABLE, content=good(1)[0])
    spoilt = bytearray(packed())
    spoilt[-6] ^= 0xFF  # the checksum
    add("checksum.jsonl.gz", *[VALID] * 60, UNREADABLE, content=bytes(spoilt))
    add("blank.jsonl", content=b"\n\n  \n\t\r\n")
    mark = b"\xef\xbb\xbf"
    add("marks.jsonl", *[VALID] * 3, content=mark + (b"\n" + mark).join(good(3)))
    add("carriage.jsonl", *[VALID] * 3, content=b"\r\n".join(good(3)) + b"\r\n")
    add("parquet.jsonl", MALFORMED, content=b"PAR1\x15\x04\x15")
    add("cut.json", VALID, VALID, MALFORMED, content=b"[" + b",".join(good(3))[:-9])
    a, b = good(2)
    add("broken_element.json", VALID, MALFORMED, content=b"[" + a + b",{bad}," + b + b"]")
    add("end_missing.json", VALID, VALID, UNREADABLE, content=b"[" + b",".join(good(2)))
    add("pretty.json", VALID, VALID, content=json.dumps([json.loads(x) for x in good(2)], indent=2))
    add("after.json", VALID, MALFORMED, content=b"[" + good(1)[0] + b"]x")


def _parquet_files(shape: Shape, add: Add, fresh: Iterator[int]) -> None:
    def table(at: object = 1772366400, device: pa.Array | None = None) -> pa.Table:
        ids = [f"p{n}" for n in islice(fresh, 3)]
        columns = {
            shape.event_id: pa.array(ids),
            shape.at: at if isinstance(at, pa.Array) else pa.array([at] * 3),
            shape.device: pa.array(ids) if device is None else device,
            "note": pa.array([1.5, float("nan"), None]),
        }
        return pa.table(columns)

    def add_table(name: str, rows: pa.Table, *outcomes: Outcome) -> None:
        add(name, *outcomes, content=_parquet(rows))

    whole = _parquet(table())
    add_table("good.parquet", table(), VALID, VALID, VALID)
    add("cut.parquet", UNREADABLE, content=whole[: len(whole) // 2])
    add("no_footer.parquet", UNREADABLE, content=whole[:-8])
    add("not.parquet", UNREADABLE, content=b"PAR1PAR1")
    add_table("no_rows.parquet", table().slice(0, 0))
    add_table(
        "wrong_types.parquet",
        table(pa.array(["never", None, "2026-03-01T12:00:00Z"]), pa.array([["a"], [], None])),
        *(NO_TIME, NOTHING, NO_ID),
    )
    no_device = refused("no_identifier", flags=("wrong_type_identifier",))
    structs = pa.array([{"id": "d1"}, None, {"id": None}])
    add_table("structs.parquet", table(device=structs), no_device, NO_ID, no_device)
    instants = pa.array([2**62, -(2**62), 0], pa.timestamp("us", tz="UTC"))
    add_table("instants.parquet", table(instants), *[refused("timestamp_out_of_range")] * 3)
    add_table(
        "binary.parquet", table(device=pa.array([b"\xff\xfe", b"", b"d"])), VALID, NO_ID, VALID
    )  # base64
    latin = pa.StringArray.from_buffers(
        1, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")
    )
    add_table("latin.parquet", table().slice(0, 1).set_column(3, "note", latin), refused("invalid_utf8"))
    doubled = table()
    doubled = doubled.rename_columns([*doubled.column_names[:3], shape.device])
    add_table("doubled.parquet", doubled, VALID, VALID, VALID)


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _gunzipped(content: bytes) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(content)
