"""Ops: what was published, at what cost, how good it was found to be, and in which format the lake is."""

from conf.table_spec import Check, ColumnSpec, TableSpec
from conf.tables import columns as c

BATCHES = TableSpec(
    "ops",
    "batches",
    "one published batch: counts, table versions, step timings, fingerprints",
    (
        c.TENANT,
        ColumnSpec("stream", "string", "the checkpoint's application id", "provenance", nullable=False),
        c.BATCH_ID,
        ColumnSpec(
            "stream_batch_id",
            "long",
            "the batch's number in its checkpoint; null for what has no records, and for a `portion`",
            "provenance",
        ),
        ColumnSpec(
            "kind",
            "string",
            "`batch`; `portion`, after which more of the same batch of the stream comes; without records: `empty`, "
            "`compaction` of hot parts, `upkeep` of files, `rebuild` of everything "
            "derived, `migration` to a newer format, and `replay` of what was in quarantine, whose counts are what "
            "changes: an event that is valid now is one valid more and one quarantined less",
            "provenance",
        ),
        ColumnSpec(
            "record_count",
            "long",
            "records framed: the batch's rows in bronze.events; of a replay, in bronze.corrections",
            "provenance",
        ),
        ColumnSpec(
            "received_count",
            "long",
            "events in them; = valid + quarantined + duplicate. An envelope of n events counts n, and 1 if it holds "
            "none that can be read; every other record is one",
            "provenance",
            is_signed=True,
        ),
        ColumnSpec("valid_count", "long", "events published", "provenance", is_signed=True),
        ColumnSpec("quarantined_count", "long", "events refused", "provenance", is_signed=True),
        ColumnSpec("duplicate_count", "long", "events already known, dropped", "provenance", is_signed=True),
        ColumnSpec(
            "metrics",
            "map<string,long>",
            "further counts: events per flag and per reason of refusal, late and future ones, nodes solved and "
            "why owners changed, persons and sessions touched",
            "provenance",
        ),
        ColumnSpec("step_seconds", "map<string,double>", "where the time went", "provenance"),
        ColumnSpec(
            "table_versions",
            "map<string,long>",
            "the version of every table: one consistent snapshot",
            "provenance",
        ),
        ColumnSpec("inputs", "string", "what was read, as JSON: files or offsets per source", "provenance"),
        ColumnSpec(
            "offsets",
            "string",
            "the offsets of record as of this batch, as JSON: per topic the next offset of each partition",
            "provenance",
        ),
        ColumnSpec(
            "offset_entry",
            "string",
            "hash of the checkpoint's offset entry by which the batch was read; null for what no checkpoint numbers",
            "provenance",
        ),
        ColumnSpec("policy_fingerprint", "string", "hash of the identity policy", "provenance"),
        ColumnSpec(
            "mapping_fingerprints",
            "map<string,string>",
            "hash of each source mapping that whoever published this reads records by",
            "provenance",
        ),
        ColumnSpec(
            "identifier_rules",
            "map<string,string>",
            "what decides node ids apart from policy and key: the number of the program's rules, versions of "
            "Unicode and of the tables of telephone numbers, hash of the e-mail providers' rules. Where they differ, "
            "the lake has to be rebuilt",
            "provenance",
        ),
        ColumnSpec("code_fingerprint", "string", "hash of the program's rules", "provenance"),
        ColumnSpec("key_fingerprint", "string", "hash of the hashing key", "provenance"),
        ColumnSpec("started_at", "timestamp", "when the batch's intent was recorded", "provenance"),
        ColumnSpec("published_at", "timestamp", "when this row was written", "provenance"),
        ColumnSpec(
            "new_tenants", "array<string>", "tenants of which nothing was published before", "provenance"
        ),
    ),
    ("batch_id",),
    "append",
    checks=(
        Check(
            "conservation",
            "every received event is valid, quarantined or a duplicate",
            "received_count = valid_count + quarantined_count + duplicate_count",
        ),
        Check(
            "only_a_replay_takes_back",
            "no count but a replay's is below zero",
            "kind = 'replay' OR least(received_count, valid_count, quarantined_count, duplicate_count) >= 0",
        ),
    ),
)

FILES = TableSpec(
    "ops",
    "files",
    "one landed file that a published batch has met: read, or left out because it had been read",
    (
        c.TENANT,
        c.SOURCE,
        ColumnSpec("path", "string", "the file inside its source's folder", "provenance", nullable=False),
        c.ORIGIN,
        ColumnSpec(
            "origin_key", "long", "64-bit hash of source and origin, by which a name is found", "provenance"
        ),
        ColumnSpec(
            "outcome",
            "string",
            "`read`; `changed`: other content under a name that had been read, of which the records that were not "
            "known are taken; `known`: this name with this content had been read, and nothing of it is taken; `part`: "
            "a file that was read in part, because the batch was too large: the rest is in the next ones",
            "provenance",
            accepted=("read", "changed", "known", "part"),
        ),
        ColumnSpec(
            "byte_count",
            "long",
            "the file's size; null of a `part`, and where the batch was published by a program before format 4",
            "provenance",
        ),
        ColumnSpec("content_digest", "string", "SHA-256 of the file's bytes; null likewise", "provenance"),
        ColumnSpec(
            "first_ordinal", "long", "number of its first record that was taken; null: none was", "provenance"
        ),
        ColumnSpec("last_ordinal", "long", "number of the last one", "provenance"),
        ColumnSpec("record_count", "long", "records taken", "provenance"),
        ColumnSpec(
            "known_record_count",
            "long",
            "records left out: their bytes had been read under this name",
            "provenance",
        ),
        c.BATCH_ID,
    ),
    ("source", "path", "batch_id"),
    "append",
)

QUALITY_RESULTS = TableSpec(
    "ops",
    "quality_results",
    "one expectation of one table, checked against one published batch by one run of the quality job",
    (
        c.TENANT,
        ColumnSpec("run_id", "string", "the run of the quality job", "provenance", nullable=False),
        ColumnSpec(
            "checked_batch_id",
            "long",
            "the published batch that was looked at, with every table as it was then",
            "provenance",
            nullable=False,
        ),
        ColumnSpec("suite", "string", "the table whose rows are looked at: `schema.table`", nullable=False),
        ColumnSpec(
            "rule", "string", "the rule's name in its suite, such as `tenant_is_not_null`", nullable=False
        ),
        ColumnSpec("expectation", "string", "the kind of Great Expectations' expectation", nullable=False),
        ColumnSpec(
            "columns", "array<string>", "the columns that it is about, if it is about some in particular"
        ),
        ColumnSpec("says", "string", "what is expected, in words"),
        ColumnSpec(
            "severity", "string", "`critical` or `warning`", nullable=False, accepted=("critical", "warning")
        ),
        ColumnSpec("is_success", "boolean", "whether it was met", nullable=False),
        ColumnSpec("unexpected_count", "long", "rows that break it; null where it could not be looked at"),
        ColumnSpec("element_count", "long", "rows looked at"),
        ColumnSpec("checked_at", "timestamp", "when the run began", "provenance", nullable=False),
    ),
    ("run_id", "suite", "rule"),
    "append",
)

MIGRATIONS = TableSpec(
    "ops",
    "migrations",
    "one format that the lake was brought to: when it was made, and by each migration since",
    (
        c.TENANT,
        ColumnSpec("from_format", "long", "the format before; null for a lake that was made in this one"),
        ColumnSpec("to_format", "long", "the format since", nullable=False),
        ColumnSpec("migration", "string", "what was done to the tables"),
        ColumnSpec("program_version", "string", "the program that did it", "provenance"),
        ColumnSpec("code_fingerprint", "string", "hash of that program's rules", "provenance"),
        ColumnSpec("applied_at", "timestamp", "when this row was written", "provenance"),
    ),
    ("to_format",),
    "append",
)
