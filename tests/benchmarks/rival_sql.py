"""The same verdicts and tables in hand-written DuckDB SQL, from parquet to parquet.

It is what one would write for this one day and one account: no Ibis, no store, no contracts, no
checks. Receipts are reduced to a row a message (most have one, which needs no reducing), joined to
the records once, and judged in one pass.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import program
from program import CURRENCY, GRACE_MS, TOO_FAST_MS, VALIDITY_MS, Task

from reconcile import vocabulary as words

GRID = (
    ("pending in_flight", "pending record_open", "pending record_open", "pending record_open"),
    ("missing carrier_silent", "unknown status_unknown", *("suspect record_never_final",) * 2),
    ("missing unattributed", "unknown status_unknown", *("unknown record_stale",) * 2),
    ("pending in_flight", "unknown status_unknown", *("unknown record_unknown",) * 2),
    ("unknown record_unknown", "unknown status_unknown", *("unknown record_unknown",) * 2),
    ("pending in_flight", "unknown status_unknown", "confirmed", "suspect status_conflict"),
    ("missing lost_webhook", "unknown status_unknown", "confirmed", "suspect status_conflict"),
)

RECEIPT = """
    status, error_code, network_code, price, pushed_at, captured_at, account_id, product
"""

HEARD = """
CREATE VIEW {name} AS
SELECT * FROM read_parquet({files}, hive_partitioning = false)
WHERE coalesce(captured_at, pushed_at) IS NULL
   OR coalesce(captured_at, pushed_at) <= getvariable('as_of')
"""

REPEATED = """
CREATE TEMP TABLE repeated AS
SELECT message_id FROM heard GROUP BY message_id HAVING count(*) > 1
"""

# Several receipts: repeats are one event, and the last definite one decides.
SEVERAL = """
CREATE TEMP TABLE several AS
WITH events AS (
    SELECT h.* EXCLUDE (captured_at, source, line, signature),
        mcc.country AS mcc_country,
        CASE WHEN status IN {definite} THEN 2 WHEN status = 'unknown' THEN 1 ELSE 0 END AS class,
        CASE WHEN status = 'read' THEN 'delivered'
             WHEN status IN {definite} THEN status END AS ends,
        count(*) AS copies,
        min(captured_at) AS captured_at,
        bool_and(signature = 'invalid') AS forged,
        bool_or(signature = 'invalid') AS bad_signature
    FROM heard AS h
    SEMI JOIN repeated USING (message_id)
    LEFT JOIN mcc ON mcc.mcc = left(h.network_code, 3)
    GROUP BY ALL
),
dated AS (
    SELECT *, coalesce(pushed_at, captured_at) AS happened_at FROM events
)
SELECT message_id,
    (sum(copies) OVER message)::INTEGER AS receipts,
    (sum(copies - 1) OVER message)::INTEGER AS duplicates,
    status, error_code, network_code, price, pushed_at, captured_at, account_id, product, class,
    mcc_country AS network_country,
    min(recipient) OVER message AS least_recipient,
    max(recipient) OVER message AS most_recipient,
    min(mcc_country) OVER message AS least_country,
    max(mcc_country) OVER message AS most_country,
    min(pushed_at) OVER message AS first_pushed_at,
    bool_or(bad_signature) OVER message AS bad_signature,
    coalesce(min(ends) OVER message <> max(ends) OVER message, false) AS outcomes_differ,
    coalesce(
        max(happened_at) FILTER (class = 0) OVER message
        > min(happened_at) FILTER (class > 0) OVER message, false) AS out_of_order
FROM dated
WINDOW message AS (PARTITION BY message_id)
QUALIFY row_number() OVER (
    PARTITION BY message_id
    ORDER BY forged, class DESC, happened_at DESC NULLS LAST, status DESC NULLS LAST,
        error_code DESC NULLS LAST, network_code DESC NULLS LAST, price DESC NULLS LAST,
        scts DESC NULLS LAST, pushed_at DESC NULLS LAST, sender DESC NULLS LAST,
        recipient DESC NULLS LAST, client_ref DESC NULLS LAST, account_id DESC NULLS LAST,
        product DESC NULLS LAST
) = 1
"""

VERDICTS = """
WITH known AS (
    SELECT r.* EXCLUDE (status, latency_ms, finalized_at),
        finalized_at IS NULL OR finalized_at <= getvariable('as_of') AS ended,
        CASE WHEN ended THEN status END AS status,
        CASE WHEN ended THEN latency_ms END AS latency_ms,
        CASE WHEN ended THEN finalized_at END AS finalized_at,
        coalesce(mcc.country, homes.home) AS home_country
    FROM read_parquet({records}, hive_partitioning = false) AS r
    LEFT JOIN mcc ON mcc.mcc = left(r.network_code, 3)
    LEFT JOIN homes ON homes.country = r.country
    WHERE received_at <= getvariable('as_of')
),
reduced AS (
    SELECT message_id, 1 AS receipts, 0 AS duplicates,
        status, error_code, h.network_code, price, pushed_at, captured_at, account_id, product,
        CASE WHEN status IN {definite} THEN 2 WHEN status = 'unknown' THEN 1 ELSE 0 END AS class,
        mcc.country AS network_country,
        recipient AS least_recipient, recipient AS most_recipient,
        mcc.country AS least_country, mcc.country AS most_country,
        pushed_at AS first_pushed_at, signature = 'invalid' AS bad_signature,
        false AS outcomes_differ, false AS out_of_order
    FROM heard AS h
    ANTI JOIN repeated USING (message_id)
    LEFT JOIN mcc ON mcc.mcc = left(h.network_code, 3)
    UNION ALL
    FROM several
),
stated AS (
    SELECT k.*,
        x.status AS receipt_status,
        x.error_code AS receipt_error_code,
        x.network_code AS receipt_network_code,
        x.price AS receipt_price,
        x.pushed_at, x.captured_at,
        x.account_id AS receipt_account_id,
        x.product AS receipt_product,
        coalesce(x.receipts, 0) AS receipts,
        coalesce(x.duplicates, 0) AS duplicates,
        coalesce(x.class, 0) AS class,
        epoch_ms(k.received_at) AS received_ms,
        coalesce(k.validity_ms, {validity}) AS validity,
        epoch_ms(k.finalized_at) - epoch_ms(k.received_at) AS ended_after_ms,
        CASE WHEN k.status = 'read' THEN 'delivered'
             WHEN k.status IN {definite} THEN k.status END AS record_end,
        CASE WHEN x.status = 'read' THEN 'delivered'
             WHEN x.status IN {definite} THEN x.status END AS receipt_end,
        coalesce(x.least_country <> home_country OR x.most_country <> home_country, false)
            AS other_country,
        coalesce(x.network_country = home_country, false) AS same_country,
        coalesce(x.least_recipient <> k.recipient OR x.most_recipient <> k.recipient, false)
            AS other_recipient,
        coalesce(epoch_ms(x.first_pushed_at) < epoch_ms(k.received_at) - 60000, false)
            AS pushed_early,
        coalesce(x.bad_signature, false) AS bad_signature,
        coalesce(x.outcomes_differ, false) AS outcomes_differ,
        coalesce(x.out_of_order, false) AS out_of_order
    FROM known AS k LEFT JOIN reduced AS x USING (message_id)
),
held AS (
    SELECT *,
        4 * CASE
            WHEN record_end IS NOT NULL
                THEN CASE WHEN coalesce(epoch_ms(finalized_at), received_ms) + {grace}
                               <= {as_of_ms} THEN 6 ELSE 5 END
            WHEN status = 'unknown'
                THEN CASE WHEN coalesce(epoch_ms(finalized_at), received_ms) + {grace}
                               <= {as_of_ms} THEN 4 ELSE 3 END
            WHEN received_ms + validity + {grace} > {as_of_ms} THEN 0
            WHEN epoch_ms(fetched_at) >= received_ms + validity THEN 1
            ELSE 2 END
        + CASE
            WHEN class < 2 THEN class
            WHEN record_end = receipt_end THEN 2
            WHEN product <> receipt_product AND status IN {nowhere} AND receipt_status IN {nowhere}
                THEN 2
            ELSE 3 END AS cell,
        coalesce(record_end, receipt_end) AS ends,
        coalesce(receipt_status IN ('failed', 'rejected'), false) AS claims_failure,
        {bits} AS held
    FROM stated
),
placed AS (
    SELECT held.* EXCLUDE (cell), grid.verdict AS cell_verdict, grid.reason AS cell_reason,
        held & 63 <> 0 AS contradicted,
        NOT contradicted AND held & 64 <> 0 AS deleted,
        NOT contradicted AND NOT deleted AND held & 128 <> 0 AS gave_up,
        NOT contradicted AND NOT deleted AND NOT gave_up AS sound,
        sound AND held & 256 <> 0 AND cell_verdict = 'confirmed' AS untold,
        sound AND held & 512 <> 0 AND cell_verdict IN ('confirmed', 'missing', 'pending')
            AS strange_status,
        sound AND held & 1024 <> 0 AND cell_verdict IN ('confirmed', 'missing', 'pending')
            AS strange_error
    FROM held JOIN grid USING (cell)
)
SELECT message_id, product, account_id, client_ref, sender, recipient, country, country_name,
    network_code, network_name, received_at, finalized_at, latency_ms, status AS record_status,
    error_code AS record_error_code, receipt_status, receipt_error_code, receipt_network_code,
    price AS record_price, receipt_price, coalesce(currency, '{currency}') AS currency,
    pushed_at, captured_at, receipts, duplicates,
    CASE WHEN contradicted THEN 'suspect'
         WHEN deleted THEN 'not_expected'
         WHEN gave_up THEN 'missing'
         WHEN untold OR strange_status OR strange_error THEN 'unknown'
         ELSE cell_verdict END AS verdict,
    CASE WHEN held = 0 AND cell_reason IS NULL THEN []::VARCHAR[]
    ELSE list_filter([
        {contradictions},
        CASE WHEN deleted THEN 'record_deleted' END,
        CASE WHEN gave_up THEN 'platform_expired' END,
        CASE WHEN untold THEN 'error_unknown' END,
        CASE WHEN strange_status THEN 'unmapped_status' END,
        CASE WHEN strange_error THEN 'unmapped_error' END,
        CASE WHEN NOT (contradicted OR deleted OR gave_up OR untold OR strange_status
                       OR strange_error) THEN cell_reason END,
        {context}
    ], lambda reason: reason IS NOT NULL) END AS reasons
FROM placed
ORDER BY message_id
"""

# What each bit of `held` says, lowest first: six contradictions, five refinements, ten of context.
HOLDS = {
    "recipient_mismatch": "other_recipient",
    "time_travel": "ended_after_ms < -1000 OR pushed_early OR latency_ms < 0",
    "foreign_network": "other_country",
    "bad_signature": "bad_signature",
    "status_error_contradiction": """
        receipt_status IN ('delivered', 'read') AND receipt_error_code <> '0'
        OR claims_failure AND receipt_error_code = '0'""",
    "conflicting_finals": "outcomes_differ",
    "record_deleted": "status = 'deleted' AND class = 0",
    "platform_expired": """
        (status = 'expired' OR receipt_status = 'expired')
        AND abs(coalesce(latency_ms, ended_after_ms, epoch_ms(pushed_at) - received_ms) - validity)
            <= least(900000, validity * 0.1)""",
    "error_unknown": """
        claims_failure AND (receipt_error_code IS NULL OR receipt_error_code IN ('1', '99'))""",
    "unmapped_status": """
        coalesce(status NOT IN {statuses}, false)
        OR coalesce(receipt_status NOT IN {statuses}, false)""",
    "unmapped_error": """
        receipt_error_code NOT IN {error_codes}
        AND NOT (receipt_product = 'MESSAGES'
                 AND coalesce(TRY_CAST(receipt_error_code AS BIGINT) >= 1000, false))""",
    "duplicate_receipt": "duplicates > 0",
    "out_of_order": "out_of_order",
    "late_capture": "epoch_ms(captured_at) - received_ms > 259200000",
    "sender_rewritten": "sender_used <> sender",
    "network_differs": """
        network_code <> receipt_network_code AND network_code <> 'unknown' AND same_country""",
    "account_differs": "account_id <> receipt_account_id",
    "price_differs": """
        abs(price - receipt_price) > abs(price) * 0.01 AND abs(price - receipt_price) > 0.0001""",
    "charged_not_delivered": "price > 0 AND ends <> 'delivered'",
    "too_fast": "status IN ('delivered', 'read') AND latency_ms < {too_fast}",
}
CONTEXT = tuple(HOLDS)[11:]

ORPHANS = """
WITH lone AS (
    SELECT h.* FROM heard_on_day AS h ANTI JOIN (
        SELECT message_id FROM read_parquet({records}, hive_partitioning = false)
        WHERE received_at <= getvariable('as_of')
    ) USING (message_id)
),
resembling AS (
    SELECT DISTINCT lone.source, lone.line
    FROM lone JOIN read_parquet({records}, hive_partitioning = false) AS r
        ON ltrim(lone.message_id, '0') = ltrim(r.message_id, '0') AND lone.recipient = r.recipient
    WHERE abs(epoch_ms(coalesce(lone.pushed_at, lone.captured_at)) - epoch_ms(r.received_at))
        <= 259200000 AND r.received_at <= getvariable('as_of')
)
SELECT CASE WHEN account_id <> '{account}' THEN 'foreign_account'
            WHEN resembling.source IS NOT NULL THEN 'near_match'
            ELSE 'unknown_message' END AS kind,
    coalesce(mcc.country, 'unknown') AS country,
    lone.*
FROM lone LEFT JOIN resembling USING (source, line)
LEFT JOIN mcc ON mcc.mcc = left(lone.network_code, 3)
ORDER BY source, line
"""

SUMMARY = """
WITH counted AS (
    SELECT account_id, country, network_code, currency,
        max(country_name) AS country_name, max(network_name) AS network_name,
        count(*) AS messages,
        {verdicts},
        {missing},
        count(*) FILTER (ends IN ('delivered', 'read')) AS delivered,
        count(*) FILTER (ends IN ('failed', 'rejected', 'undeliverable', 'deleted')) AS failed,
        count(*) FILTER (ends = 'expired') AS expired,
        0 AS orphans, 0 AS uncovered, 0 AS foreign_orphans,
        sum(receipts) AS receipts, sum(duplicates) AS duplicate_receipts,
        quantile_cont(latency_ms, [0.5, 0.95, 0.99]) FILTER (ends IN ('delivered', 'read'))
            AS latencies,
        coalesce(sum(record_price), 0) AS spend,
        coalesce(sum(record_price) FILTER (verdict IN ('missing', 'unknown', 'suspect')), 0)
            AS spend_unconfirmed
    FROM (
        SELECT *, CASE WHEN record_status IN {definite} THEN record_status
                       WHEN receipt_status IN {definite} THEN receipt_status END AS ends
        FROM judged
    )
    GROUP BY account_id, country, network_code, currency
),
lone AS (
    SELECT coalesce(account_id, 'unknown') AS account_id, country,
        coalesce(network_code, 'unknown') AS network_code, '{currency}' AS currency,
        count(*) FILTER (kind <> 'uncovered') AS orphans,
        count(*) FILTER (kind = 'uncovered') AS uncovered,
        count(*) FILTER (kind = 'foreign_account') AS foreign_orphans,
        count(*) AS receipts
    FROM orphans GROUP BY ALL
),
grouped AS (
    SELECT account_id, country, network_code, currency,
        max(country_name) AS country_name, max(network_name) AS network_name,
        {sums},
        max(latencies) AS latencies, coalesce(sum(spend), 0) AS spend,
        coalesce(sum(spend_unconfirmed), 0) AS spend_unconfirmed
    FROM (FROM counted UNION ALL BY NAME FROM lone)
    GROUP BY account_id, country, network_code, currency
),
rated AS (
    SELECT *, nullif(greatest(messages - pending - not_expected, 0), 0)::DOUBLE AS told,
        nullif(greatest(messages - pending - not_expected - missing_capture_outage, 0), 0)::DOUBLE
            AS heard,
    FROM grouped
)
SELECT DATE '{day}' AS date, account_id, country, country_name, network_code, network_name,
    currency, {counts},
    {rates},
    round(latencies[1])::BIGINT AS latency_p50_ms,
    round(latencies[2])::BIGINT AS latency_p95_ms,
    round(latencies[3])::BIGINT AS latency_p99_ms,
    spend::DECIMAL(18, 8) AS spend, spend_unconfirmed::DECIMAL(18, 8) AS spend_unconfirmed,
    NULL::VARCHAR AS network_verdict,
    {as_of_ms} >= epoch_ms(TIMESTAMPTZ '{day}T00:00:00Z') + 86400000 + {grace} + greatest(
            {validity},
            (SELECT max(validity_ms) FROM read_parquet({records}, hive_partitioning = false)))
        AND NOT EXISTS (FROM judged WHERE verdict = 'pending') AS is_closed,
    getvariable('as_of') AS as_of, '{rules_version}' AS rules_version
FROM rated
ORDER BY account_id, country, network_code, currency
"""

RATE = """
    {k} / {n} AS {name}_rate,
    CASE WHEN {k} > 0
        THEN ({k} / {n} + 1.9207294103470 / {n}
              - 1.959963984540054 * sqrt({k} / {n} * (1 - {k} / {n}) / {n}
                                         + 0.96036470517353 / {n} ** 2))
             / (1 + 3.8414588206941 / {n})
        ELSE {n} * 0 END AS {name}_rate_low,
    CASE WHEN {k} < {n}
        THEN ({k} / {n} + 1.9207294103470 / {n}
              + 1.959963984540054 * sqrt({k} / {n} * (1 - {k} / {n}) / {n}
                                         + 0.96036470517353 / {n} ** 2))
             / (1 + 3.8414588206941 / {n})
        ELSE {n} * 0 + 1 END AS {name}_rate_high
"""

REASONS = """
WITH grouped AS (
    SELECT account_id, country, network_code, currency, verdict, reasons,
        max(country_name) AS country_name, max(network_name) AS network_name,
        count(*) AS messages, coalesce(sum(record_price), 0) AS spend
    FROM judged
    GROUP BY account_id, country, network_code, currency, verdict, reasons
),
each AS (
    SELECT * EXCLUDE (reasons), unnest(
        CASE WHEN len(reasons) = 0 THEN ['none'] ELSE reasons END) AS reason,
        generate_subscripts(CASE WHEN len(reasons) = 0 THEN ['none'] ELSE reasons END, 1) AS place
    FROM grouped
)
SELECT DATE '{day}' AS date, account_id, country, max(country_name) AS country_name,
    network_code, max(network_name) AS network_name, currency, verdict, reason,
    reason IN {context} AS is_context, sum(messages)::BIGINT AS messages,
    coalesce(sum(messages) FILTER (place = 1), 0)::BIGINT AS messages_first,
    sum(spend)::DECIMAL(18, 8) AS spend
FROM each
GROUP BY account_id, country, network_code, currency, verdict, reason
ORDER BY account_id, country, network_code, currency, verdict, reason
"""

ERROR_CODES = """
SELECT DATE '{day}' AS date, account_id, country, max(country_name) AS country_name,
    network_code, max(network_name) AS network_name, currency, receipt_status,
    coalesce(receipt_error_code, 'unknown') AS receipt_error_code,
    any_value(meanings.meaning) AS meaning, count(*) AS messages,
    coalesce(sum(record_price), 0)::DECIMAL(18, 8) AS spend
FROM judged LEFT JOIN meanings ON meanings.code = receipt_error_code
WHERE receipt_status IS NOT NULL
GROUP BY account_id, country, network_code, currency, receipt_status,
    coalesce(receipt_error_code, 'unknown')
ORDER BY account_id, country, network_code, currency, receipt_status, receipt_error_code
"""


def judge(task: Task) -> None:
    """Judges the day and writes the five tables."""
    task.out.mkdir(parents=True, exist_ok=True)
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"SET memory_limit = '{task.memory_limit}'")
    con.execute(f"SET temp_directory = '{task.out / 'spill'}'")
    con.execute("SET preserve_insertion_order = false")
    con.execute(f"SET VARIABLE as_of = TIMESTAMPTZ '{task.as_of.isoformat()}'")
    _lay_facts(con)
    terms = {
        "definite": words.DEFINITE,
        "nowhere": words.NOT_DELIVERED_ANYWHERE,
        "statuses": words.STATUSES,
        "error_codes": tuple(words.ERROR_CODES),
        "validity": VALIDITY_MS,
        "grace": GRACE_MS,
        "too_fast": TOO_FAST_MS,
        "as_of_ms": int(task.as_of.timestamp() * 1000),
        "day": task.day,
        "account": task.account,
        "currency": CURRENCY,
        "rules_version": words.RULES_VERSION,
    }
    con.execute(HEARD.format(name="heard", files=_list(task.receipts_in_reach())))
    con.execute(REPEATED)
    con.execute(SEVERAL.format(**terms))
    bits = " + ".join(
        f"coalesce({holds.format(**terms)}, false)::INTEGER * {1 << n}"
        for n, holds in enumerate(HOLDS.values())
    )
    names = {name: f"CASE WHEN held & {1 << n} <> 0 THEN '{name}' END"
             for n, name in enumerate(HOLDS)}  # fmt: skip
    contradictions = ", ".join(list(names.values())[:6])
    context = ", ".join(list(names.values())[11:])
    records = _list(task.records())
    verdicts = VERDICTS.format(
        **terms, records=records, bits=bits, contradictions=contradictions, context=context
    )
    _write(con, verdicts, task.target("verdicts"))
    con.execute(f"CREATE VIEW judged AS FROM read_parquet('{task.target('verdicts')}')")

    con.execute(HEARD.format(name="heard_on_day", files=_list(task.receipts())))
    orphans = ORPHANS.format(**terms, records=_list(task.records_in_reach()))
    _write(con, orphans, task.target("orphans"))
    con.execute(f"CREATE VIEW orphans AS FROM read_parquet('{task.target('orphans')}')")

    _write(con, _summary(terms, records), task.target("summary"))
    _write(con, REASONS.format(day=task.day, context=CONTEXT), task.target("reasons"))
    _write(con, ERROR_CODES.format(**terms), task.target("error_codes"))


def _summary(terms: dict[str, object], records: str) -> str:
    verdicts = ("confirmed", "pending", "missing", "unknown", "suspect", "not_expected")
    missing = (
        "lost_webhook", "carrier_silent", "platform_expired", "unattributed", "capture_outage",
    )  # fmt: skip
    counts = (
        "messages", *verdicts, *(f"missing_{reason}" for reason in missing), "delivered", "failed",
        "expired", "orphans", "uncovered", "foreign_orphans",
        "receipts", "duplicate_receipts",
    )  # fmt: skip
    rates = (
        ("missing", "(missing - missing_capture_outage)", "heard"),
        ("unknown", "unknown", "told"),
        ("suspect", "suspect", "told"),
    )
    return SUMMARY.format(
        **terms,
        records=records,
        verdicts=", ".join(f"count(*) FILTER (verdict = '{v}') AS {v}" for v in verdicts),
        missing=", ".join(
            f"count(*) FILTER (verdict = 'missing' AND reasons[1] = '{r}') AS missing_{r}"
            for r in missing
        ),
        sums=", ".join(f"coalesce(sum({c}), 0)::BIGINT AS {c}" for c in counts),
        counts=", ".join(counts),
        rates=", ".join(RATE.format(name=name, k=k, n=n) for name, k, n in rates),
    )


def _lay_facts(con: duckdb.DuckDBPyConnection) -> None:
    cells = [cell.split() for row in GRID for cell in row]
    for name, columns, rows in (
        ("mcc", "mcc VARCHAR, country VARCHAR", words.mcc_table()),
        ("homes", "country VARCHAR, home VARCHAR", list(words.home_countries().items())),
        ("meanings", "code VARCHAR, meaning VARCHAR",
         [(e.code, e.meaning) for e in words.ERROR_CODES.values()]),
        ("grid", "cell INTEGER, verdict VARCHAR, reason VARCHAR",
         [(n, cell[0], cell[1] if cell[1:] else None) for n, cell in enumerate(cells)]),
    ):  # fmt: skip
        con.execute(f"CREATE TEMP TABLE {name} ({columns})")
        marks = ", ".join("?" * len(rows[0]))
        con.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)


def _write(con: duckdb.DuckDBPyConnection, query: str, target: Path) -> None:
    con.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")


def _list(files: list[Path]) -> str:
    return "[" + ", ".join(f"'{file}'" for file in files) + "]"


if __name__ == "__main__":
    program.run(judge)
