"""The command line: click parses, settings are loaded, one call does the work.

Heavy modules are imported where they are used, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from reconcile import __version__
from reconcile.errors import BUG, INTERRUPTED, TERMINATED, ReconcileError, UsageError, trouble
from reconcile.present.lines import JSON, TEXT, Lines

if TYPE_CHECKING:
    from datetime import date, datetime

    from reconcile.settings import Settings

CONFIG = "reconcile.toml"
FORMATS = ("table", "json", "csv", "markdown")
SHELLS = ("bash", "zsh", "fish")
BY = ("network", "country", "campaign", "day", "hour", "reason", "error-code")

# Flag → what it says. A test holds them against the settings, which share their names.
SETTING_FLAGS = {
    "store": "Folder of the tables, or s3://BUCKET/FOLDER [store].",
    "dlr": "Glob of captured receipts; may be given several times.",
    "send_log": "Glob of logs of what the SMS API answered; may be given several times.",
    "base_url": "Where the Reports API is [https://api.nexmo.com].",
    "via": "auto, sync or async [auto].",
    "account_id": "Account to download [the API key].",
    "products": "SMS, MESSAGES or both, with a comma [SMS].",
    "currency": "Currency of prices that carry none.",
    "lookback": "How far back a run without dates looks [14d].",
    "fill_holes": "How far back days that are not whole are made so [396d].",
    "settle": "How long a day rests before it is asked for [1h].",
    "validity": "How long Vonage tries a message [72h].",
    "longest_validity": "The longest ttl you send with [7d].",
    "grace": "How long lost webhooks are retried [24h].",
    "too_fast": "Delivered sooner than this is too fast [800ms].",
    "capabilities": "CSV of what networks' receipts are worth.",
    "conversions": "CSV of which messages converted.",
    "false_discoveries": "Share of false alarms a rule on networks may make [0.05].",
    "campaign": "Regular expression whose group `campaign` is in client_ref.",
    "fail_on": "Exit 10 where this holds, as 'missing_rate > 2%'; several times.",
    "metrics_file": "Textfile for node_exporter, written at a run's end.",
    "pii": "What becomes of recipients: hash, keep or drop [hash].",
    "pii_key_file": "Key of that hash [made once in your configuration folder].",
    "signature_method": "How receipts are signed; the secret is VONAGE_SIGNATURE_SECRET.",
    "connect_timeout": "For each connection [10s].",
    "read_timeout": "For each wait for bytes [60s].",
    "retries": "Further tries on 429, 5xx and lost connections [6].",
    "retry_longest": "Longest wait between tries [60s].",
    "poll_first": "First wait for a report [2s].",
    "poll_max": "Longest wait between polls [60s].",
    "report_timeout": "When to give a report up [6h].",
    "refresh_limit": "Most records asked again by id a run [20000].",
    "max_billed_records": "Most records to pay for in a run.",
    "memory_limit": "Memory of the engine [half of the machine's].",
    "threads": "Threads of the engine [all].",
    "temp_directory": "Where the engine spills [in the store].",
    "lock_expiry": "How long a bucket's lock outlives a run that was killed [5m].",
    "engine": "What judges: duckdb, or spark (docs/spark.md) [duckdb].",
    "spark": "Master or Connect URL of the cluster, with --engine spark.",
}
SEVERAL = ("dlr", "send_log", "fail_on")
STORE_ONLY = ("store",)
FETCHING = ("store", "base_url", "via", "account_id", "products", "lookback", "fill_holes",
            "settle", "validity", "grace", "pii", "pii_key_file", "connect_timeout", "read_timeout",
            "retries", "retry_longest", "poll_first", "poll_max", "report_timeout",
            "refresh_limit", "max_billed_records", "memory_limit", "threads",
            "temp_directory")  # fmt: skip
JUDGING = ("store", "account_id", "products", "currency", "validity", "longest_validity", "grace",
           "too_fast", "capabilities", "conversions", "false_discoveries", "campaign", "fail_on",
           "pii", "memory_limit", "threads", "temp_directory", "engine", "spark")  # fmt: skip
INGESTING = ("store", "send_log", "pii", "pii_key_file", "signature_method", "memory_limit",
             "threads", "temp_directory")  # fmt: skip
EXPLAINING = ("store", "base_url", "account_id", "products", "currency", "validity",
              "longest_validity", "grace", "too_fast", "capabilities", "pii", "pii_key_file",
              "connect_timeout", "read_timeout", "retries", "retry_longest", "refresh_limit",
              "max_billed_records", "memory_limit", "threads", "temp_directory")  # fmt: skip

Command = Callable[..., Any]
# All that goes to stderr, but for the bars of a terminal.
_lines = Lines()


def settings_flags(*names: str) -> Callable[[Command], Command]:
    """Adds `--config` and a flag for each of these settings; the command gets `settings`."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def loaded(*args: Any, config: Path | None, **flags: Any) -> Any:
            from reconcile.settings import load

            given = {name: flags.pop(name) for name in names}
            return command(*args, settings=load(config, **given), **flags)

        wrapped: Command = loaded
        for name in reversed(names):
            option = f"--{name.replace('_', '-')}"
            wrapped = click.option(
                option,
                name,
                help=SETTING_FLAGS[name],
                multiple=name in SEVERAL,
            )(wrapped)
        return click.option(
            "--config", type=click.Path(path_type=Path), help="Settings file [reconcile.toml]."
        )(wrapped)

    return decorate


def days_flags(command: Command) -> Command:
    """Adds `--date`, `--from`, `--to`: UTC days, `to` excluded."""
    for option in (
        click.option("--to", "to", help="First UTC day not asked for."),
        click.option("--from", "from_", help="First UTC day."),
        click.option("--date", "date_", help="One UTC day, such as 2026-01-31."),
    ):
        command = option(command)
    return command


as_of_flag = click.option("--as-of", help="Judge as things were known then (ISO 8601) [now].")
log_flag = click.option(
    "--log-format", type=click.Choice((TEXT, JSON)), default=TEXT, expose_value=False,
    is_eager=True, callback=lambda _ctx, _param, form: setattr(_lines, "form", form),
    help="json: an object a line on stderr, with progress [text].",
)  # fmt: skip
format_flag = click.option("--format", "form", type=click.Choice(FORMATS), default="table")


def _table_names(_ctx: Any, _param: Any, incomplete: str) -> list[str]:
    """For a shell that completes: the tables that may be meant."""
    from reconcile.tables import BY_NAME

    return [name for name in BY_NAME if name.startswith(incomplete)]


class _Group(click.Group):
    """Keeps the commands in the order in which a night uses them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="reconcile")
def cli() -> None:
    """Reconciles Vonage SMS records with captured delivery receipts.

    \b
    Exit codes: 0 done · 1 a bug · 2 usage, settings, or a store of another version
    3 published, but some days are incomplete · 4 Vonage unreachable or refusing
    5 a broken contract · 6 local input or disk · 10 --fail-on exceeded (3 outranks it)
    75 another run holds the lock · 130, 143 stopped by a signal

    \b
    Example:
      reconcile demo
    """


@cli.command()
@click.option(
    "--config", type=click.Path(path_type=Path), default=Path(CONFIG), show_default=True,
    help="The file to write.",
)  # fmt: skip
@click.option("--dlr", multiple=True, help="Glob of captured receipts; may be given several times.")
@click.option("--store", help="Folder of the tables [store].")
@click.option("--products", help="SMS, MESSAGES or both, with a comma [SMS].")
@click.option("--currency", help="Currency of prices that carry none.")
@click.option("--no-questions", is_flag=True, help="Ask nothing, also on a terminal.")
def init(
    config: Path, dlr: tuple[str, ...], store: str | None, products: str | None,
    currency: str | None, no_questions: bool,
) -> None:  # fmt: skip
    """Asks what no flag says, on a terminal, and writes a commented reconcile.toml.

    It never asks for a secret: the API key and its secret stay in the environment or in a file.

    \b
    Examples:
      reconcile init
      reconcile init --dlr '/var/log/dlr/*.ndjson*' --store /var/lib/reconcile
    """
    from reconcile.present.template import settings_file
    from reconcile.settings import load

    if config.exists():
        raise UsageError(f"{config} is there already: edit it, or name another with --config")
    asks = not no_questions and sys.stdin.isatty() and sys.stdout.isatty()
    given = {"dlr": list(dlr), "store": store, "products": products, "currency": currency}
    if asks:
        given = _answers(given)
    given = {name: value for name, value in given.items() if value}
    found = load(None, **given)  # says what is wrong with an answer before anything is written
    known = found.model_dump(mode="json", include=set(given) | {"store"})
    try:
        with config.open("x", encoding="utf-8") as file:
            file.write(settings_file(known))
    except OSError as error:
        raise UsageError(f"{config} cannot be written: {trouble(error)}") from None
    named = "" if config == Path(CONFIG) else f" --config {shlex.quote(str(config))}"
    click.echo(
        f"Wrote {config}: each setting with a sentence and its default. Next, with VONAGE_API_KEY "
        f"and VONAGE_API_SECRET in the environment:\n  reconcile check{named}"
    )


def _answers(given: dict[str, Any]) -> dict[str, Any]:
    """What somebody at a terminal says to what no flag has said."""
    from reconcile.bucket import is_url
    from reconcile.receipts.ingest import find

    if not given["dlr"]:
        told = click.prompt(
            "Captured receipts, as a glob or a folder (empty: none yet)", default="",
            show_default=False,
        )  # fmt: skip
        given = given | {"dlr": [told] if told else []}
        if told and not is_url(told):
            files, _ = find([told])
            click.echo(f"  files there now: {len(files):,}")
    asked = {
        "store": ("Folder of the tables", "store"),
        "products": ("Products that you send with: SMS, MESSAGES, or both with a comma", "SMS"),
        "currency": ("Currency of your account, such as EUR (empty: unknown)", ""),
    }
    return given | {
        name: given[name] or click.prompt(question, default=usual, show_default=bool(usual))
        for name, (question, usual) in asked.items()
    }


@cli.command()
@settings_flags(*SETTING_FLAGS)
@days_flags
@as_of_flag
@click.option(
    "--summary/--no-summary",
    default=None,
    help="Show the worst networks at the end [on a terminal].",
)
@log_flag
@click.option(
    "--report", "report_file", type=click.Path(path_type=Path), metavar="FILE",
    help="Write the report of the last 14 published days at the end.",
)  # fmt: skip
def run(
    settings: Settings, date_: str | None, from_: str | None, to: str | None, as_of: str | None,
    summary: bool | None, report_file: Path | None,
) -> None:  # fmt: skip
    """Downloads records, reads captures, judges every message, publishes the tables.

    Without dates: the days since the last whole one, and every day that is still open.

    \b
    A rule of --fail-on is held against the summary of the days that were judged, all together:
      MEASURE OP NUMBER[%] [for SCOPE] [with at least N messages]
    MEASURE is missing_rate, unknown_rate, suspect_rate, a count (missing, orphans …), spend,
    spend_unconfirmed or suspect_networks; OP one of > >= < <=; SCOPE is network CODE,
    country CODE, account ID, any network or any country.

    \b
    Examples:
      reconcile run
      reconcile run --date 2026-01-31 --dlr '/var/log/dlr/*.ndjson*'
      reconcile run --fail-on 'missing_rate > 5% for any network with at least 100 messages'
    """
    from reconcile import job
    from reconcile.present.progress import progress
    from reconcile.watching import watched

    if report_file:
        from reconcile.present.report.page import check_installed, check_place

        check_installed()  # said before the night's work, not after it
        check_place(report_file)
    days, moment = _asked(date_, from_, to), _moment(as_of)
    with watched(settings, _code_of, _warn) as watch, progress(_lines) as tell:
        ended = watch.run = job.run(settings, days, moment, tell, given=bool(as_of))
    if report_file:
        _report_of(ended, report_file)
    _tell_end(ended, show=sys.stdout.isatty() if summary is None else summary)


def _report_of(ended: Any, file: Path) -> None:
    """The report at a run's end: what the run has to say is told even where it cannot be made."""
    from reconcile.present.report.page import write_report

    try:
        write_report(ended.settings, file)
    except ReconcileError:
        _tell_end(ended, show=False)
        raise


@cli.command()
@click.argument("archives", nargs=-1, type=click.Path(path_type=Path))
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be asked; ask nothing.")
@click.option("--archive", is_flag=True, help="Take in FILES: reports that you have already.")
@settings_flags(*FETCHING)
@days_flags
@as_of_flag
@format_flag
@log_flag
def fetch(
    archives: tuple[Path, ...], only_plan: bool, archive: bool, settings: Settings,
    date_: str | None, from_: str | None, to: str | None, as_of: str | None, form: str,
) -> None:  # fmt: skip
    """Downloads records only: the days that are not whole yet.

    With --archive it asks nothing of Vonage: it takes in report ZIPs or CSVs, also the dashboard's
    export. --from and --to say which days they hold whole; without, from first record to last. A
    day that had not settled when the file was made is named as incomplete, exit 3.

    \b
    Examples:
      reconcile fetch --plan
      reconcile fetch --from 2026-01-01 --to 2026-02-01 --via async
      reconcile fetch --archive ~/Downloads/SMS_*.zip
    """
    asked, moment = _asked(date_, from_, to), _moment(as_of)
    if archive != bool(archives) or (archive and only_plan):
        raise UsageError("--archive goes with the files to take in, and without --plan")
    if archive:
        _import(settings, archives, asked, moment)
    elif only_plan:
        _foresee(settings, asked, moment, form)
    else:
        _fetch(settings, asked, moment, given=bool(as_of))


def _fetch(settings: Settings, asked: Any, moment: datetime, *, given: bool) -> None:
    from reconcile import job
    from reconcile.fetching import connected
    from reconcile.present.progress import progress

    accounts = settings.credentials()
    with progress(_lines) as tell, job.opened(settings, moment, tell, given=given) as this:
        days = job.plan(this, asked)
        with connected(this, accounts) as vonage:
            job.fetch(this, vonage, days)
        job.finish(this, "fetch")
    _tell_end(this, show=False)


def _foresee(settings: Settings, asked: Any, moment: datetime, form: str) -> None:
    from reconcile import job
    from reconcile.present.foreseen import foreseen
    from reconcile.run import looked_at

    if not settings.owners():
        settings.credentials()  # says what is missing
    with looked_at(settings, moment) as this:
        click.echo(foreseen(job.foresee(this, asked), settings, form), nl=False)


def _import(settings: Settings, files: tuple[Path, ...], asked: Any, moment: datetime) -> None:
    from reconcile import importing, job
    from reconcile.present.progress import progress

    days = (asked.start, asked.end) if asked.start else None
    with progress(_lines) as tell, job.opened(settings, moment, tell) as this:
        for file in files:
            told = importing.take_in(this, file, days)
            of = ", ".join(f"{n:,} of account {name}" for name, n in sorted(told.records.items()))
            click.echo(
                f"{file}: {told.product} records: {of or 'none'}; {told.rejects} rejects; "
                f"{told.first} to {told.last}, days taken as whole: {told.whole}"
            )
        job.finish(this, "fetch")
    _tell_end(this, show=False)


@cli.command()
@click.argument("paths", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what each file holds; take nothing in.")
@click.option("--allow-empty", is_flag=True, help="A glob that matches nothing is no error.")
@settings_flags(*INGESTING)
@as_of_flag
@format_flag
@log_flag
def ingest(
    paths: tuple[str, ...], dry_run: bool, allow_empty: bool, settings: Settings,
    as_of: str | None, form: str,
) -> None:  # fmt: skip
    """Reads captured receipts only, those that are new: files, folders or globs.

    Without PATHS those of the settings. With --dry-run it shows for each file its format, what its
    lines are and why some are rejected, their time span, and how many of their messages the store
    has records of.

    \b
    Examples:
      reconcile ingest --dry-run old-captures/
      reconcile ingest '/var/log/dlr/*.ndjson.gz'
    """
    if not (paths or settings.dlr or ((settings.dlr_sql or settings.send_log) and not dry_run)):
        raise UsageError("name the captures to read, or set dlr in the settings")
    if dry_run:
        _preview(settings, paths or tuple(settings.dlr), _moment(as_of), form, allow_empty)
        return
    from reconcile import job
    from reconcile.present.progress import progress

    with progress(_lines) as tell, job.opened(settings, _moment(as_of), tell) as this:
        if not paths:
            job.ingest_send_logs(this)
        if paths or settings.dlr or settings.dlr_sql:
            job.ingest(this, paths, allow_empty=allow_empty)
        job.finish(this, "ingest")
    captures = this.manifest.get("captures", [])
    for capture in captures:
        click.echo("{source}: {format}, {lines} lines = {receipts} receipts + {rejects} rejects "
                   "+ {blank} blank".format(**capture)
                   + (f"; {capture['strangers']} of the rejects are no receipts by nature"
                      if capture["strangers"] else "")
                   + (f"; {capture['waits']} bytes wait for their line's end"
                      if capture["waits"] else ""))  # fmt: skip
    logs = this.manifest.get("send_logs", [])
    for log in logs:
        lines = (
            "{source}: {format}, {lines} lines = {answers} answers + {rejects} rejects + {blank}"
        )
        click.echo((lines + " blank; {messages} messages, {refused} refused").format(**log))
    if not captures and not logs:
        click.echo("nothing new")
    _refuse([hole["reason"] for hole in this.holes])
    _tell_end(this, show=False)


def _preview(
    settings: Settings, paths: tuple[str, ...], moment: datetime, form: str, allow_empty: bool
) -> None:
    from tempfile import TemporaryDirectory

    from reconcile import border
    from reconcile.job import wishes
    from reconcile.present.previewed import previewed
    from reconcile.present.progress import progress
    from reconcile.receipts.away import brought
    from reconcile.receipts.preview import preview
    from reconcile.run import looked_at

    with (
        progress(_lines) as tell, looked_at(settings, moment) as this,
        TemporaryDirectory(prefix="captures-") as aside,
        brought(paths, {}, Path(aside, "fetched")) as given,
    ):  # fmt: skip
        border.set_key(this.con, settings)
        found = preview(this.store, this.con, this.ledger, given.files, wishes(settings), tell,
                        given.urls)  # fmt: skip
    click.echo(previewed(found, form), nl=False)
    problems = [told.problem for told in found if told.problem]
    _refuse([*([] if allow_empty else [f"{p} matches no file" for p in given.nothing]), *problems])


def _refuse(problems: list[str]) -> None:
    """Each problem of the input as one line, the first of them as the error."""
    from reconcile.errors import InputError

    for problem in problems[1:]:
        _lines.tell("error", problem)
    if problems:
        raise InputError(problems[0])


@cli.command()
@settings_flags(*JUDGING)
@days_flags
@as_of_flag
@log_flag
def judge(
    settings: Settings, date_: str | None, from_: str | None, to: str | None, as_of: str | None
) -> None:
    """Judges again from what the store holds, and asks Vonage nothing.

    \b
    Example:
      reconcile judge --date 2026-01-31 --as-of 2026-02-05T02:00:00Z
    """
    from reconcile import job
    from reconcile.present.progress import progress

    with (
        progress(_lines) as tell,
        job.opened(settings, _moment(as_of), tell, given=bool(as_of)) as this,
    ):
        asked = _asked(date_, from_, to)
        with job.bench_of(this) as bench:
            job.judge(this, bench, job.plan(this, asked, offline=True), heal=asked.start is None)
        job.assess(this)
        job.finish(this, "judge")
    _tell_end(this, show=sys.stdout.isatty())


@cli.command()
@settings_flags(*STORE_ONLY)
@days_flags
@click.option("--by", type=click.Choice(BY), help="What to add up by [network].")
@click.option("--table", metavar="NAME", shell_complete=_table_names,
              help="Rows of a table instead; `schema` lists them.")  # fmt: skip
@click.option("--networks", is_flag=True, help="Networks whose receipts are odd, and why.")
@click.option("--worst", type=click.IntRange(min=1),
              help="Only so many rows, the worst first; of a table the first [20].")  # fmt: skip
@click.option("--where", metavar="CONDITION",
              help="Only rows for which this holds: SQL over the table's columns.")  # fmt: skip
@format_flag
def show(
    settings: Settings, date_: str | None, from_: str | None, to: str | None, by: str | None,
    table: str | None, networks: bool, worst: int | None, where: str | None, form: str,
) -> None:  # fmt: skip
    """Shows the published summaries, the worst first, or the rows of any table.

    Without dates all published days; --networks the last, --by hour (of the day, UTC) the last 14.
    --where sees what is added up: `summary`, or the table `campaigns`, `reasons`, `error_codes`; by
    hour `verdicts`. JSON keeps to docs/show.schema.json (`reconcile.show/1`).

    \b
    Examples:
      reconcile show --worst 10
      reconcile show --by reason --date 2026-01-31 --format csv
      reconcile show --by hour --where "country = 'DE' and verdict <> 'pending'"
      reconcile show --table verdicts --where "list_contains(reasons, 'lost_webhook')"
      reconcile show --networks
    """
    from reconcile.present import show as shown

    if (by is not None) + (table is not None) + networks > 1:
        raise UsageError("--by, --table and --networks are three views: give one of them")
    wanted = shown.Wanted(_asked(date_, from_, to), worst, where, form)
    if networks:
        text = shown.networks(settings, wanted)
    elif table is not None:
        text = shown.rows_of(settings, wanted, table)
    else:
        text = shown.show(settings, wanted, by or BY[0])
    click.echo(text, nl=False)


@cli.command()
@settings_flags("store", "account_id", "products", "memory_limit", "threads", "temp_directory")
@days_flags
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"),
    show_default=True, help="The file to write.",
)  # fmt: skip
def report(
    settings: Settings, date_: str | None, from_: str | None, to: str | None, output: Path
) -> None:
    """Writes the report: one HTML file for people, which needs no network.

    Without dates: the last 14 published days.

    \b
    Examples:
      reconcile report
      reconcile report --from 2026-01-01 --to 2026-02-01 -o january.html
    """
    from reconcile.present.report.page import write_report

    asked = _asked(date_, from_, to)
    size = write_report(settings, output, asked.start, asked.end)
    click.echo(f"{output}: {size:,} bytes")


@cli.command()
@click.argument("ids", metavar="[MESSAGE_ID]...", nargs=-1)
@click.option("--recipient", is_flag=True, help="All messages to a number, read from stdin.")
@click.option("--client-ref", help="All messages sent with this reference.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True,
              help="Of a number or a reference at most so many, the newest.")  # fmt: skip
@click.option("--refresh", is_flag=True, help="Ask Vonage for their newest state by id first.")
@settings_flags(*EXPLAINING)
@click.option("--as-of", help="Judge as things were known then [when the day was judged last].")
@click.option("--format", "form", type=click.Choice(("table", "json")), default="table")
def explain(
    ids: tuple[str, ...], recipient: bool, client_ref: str | None, limit: int, refresh: bool,
    settings: Settings, as_of: str | None, form: str,
) -> None:  # fmt: skip
    """Explains single messages: record, receipts, verdict, and the rules that held.

    It judges them anew, as of when their day was judged last, and asks Vonage nothing unless
    --refresh is given, which is billed as any record is. The number of --recipient is asked for on
    a terminal, and never an argument, which others could see.

    \b
    Examples:
      reconcile explain 0A000000C1D20001
      reconcile explain --client-ref order-17 --format json
      reconcile explain --recipient < number.txt
      reconcile explain 0A000000C1D20001 --refresh
    """
    from reconcile.explaining.explain import explain as explain_all
    from reconcile.explaining.told import Given, not_here
    from reconcile.present.explained import explained
    from reconcile.run import looked_at

    if bool(ids) + recipient + (client_ref is not None) != 1:
        raise UsageError("name message ids, or --recipient, or --client-ref: one of them")
    given = Given(ids, _number(settings) if recipient else None, client_ref, limit)
    moment, refreshed = _moment(as_of), None
    if refresh:
        refreshed = _refresh(settings, given, moment)
    with looked_at(settings, moment) as this:
        found = explain_all(this, given, moment if as_of or refresh else None)
    click.echo(explained(found, form), nl=False)
    if refreshed and refreshed.reopened:
        click.echo(f"reconcile: news of {', '.join(refreshed.reopened)}: the next run judges "
                   "it again", err=True)  # fmt: skip
    if found.are_more:
        click.echo(f"reconcile: only the newest {limit} are shown: raise --limit", err=True)
    problems = [not_here(each, asked=refresh) for each in found.unknown]
    if refreshed and refreshed.failure:
        for problem in problems:
            click.echo(f"reconcile: {problem}", err=True)
        raise refreshed.failure
    _refuse(problems)


def _refresh(settings: Settings, given: Any, moment: datetime) -> Any:
    from reconcile.explaining.refresh import refresh
    from reconcile.present.progress import progress
    from reconcile.run import opened

    settings.credentials()  # says what is missing
    with progress() as tell, opened(settings, moment, tell) as this:
        return refresh(this, given)


def _number(settings: Settings) -> str:
    """A handset's number, from a terminal or from stdin: others can see arguments."""
    if settings.pii == "drop":
        raise UsageError("recipients are not kept (pii is drop): name message ids or --client-ref")
    if sys.stdin.isatty():
        return str(click.prompt("Number (country code first)", err=True))
    return sys.stdin.readline()


@cli.command()
@settings_flags(
    "store", "capabilities", "false_discoveries", "memory_limit", "threads", "temp_directory"
)
@click.option(
    "--days",
    type=click.IntRange(min=1, max=366),
    default=56,
    show_default=True,
    help="How many of the last published days to play again.",
)
@click.option(
    "--wanted",
    type=click.FloatRange(min=0, min_open=True),
    default=0.1,
    show_default=True,
    help="How many false alarms a day you can live with.",
)
@format_flag
def calibrate(settings: Settings, days: int, wanted: float, form: str) -> None:
    """Plays the networks' own history again: how often would each rule have flagged one?

    It changes nothing. If your networks were honest all the time, every flag was a false alarm; the
    last column is the setting that would have kept them to --wanted a day.

    \b
    Example:
      reconcile calibrate --days 56 --wanted 0.1
    """  # fmt: skip
    from reconcile.present.calibrated import calibrated

    click.echo(calibrated(settings, days, wanted, form), nl=False)


@cli.command()
@settings_flags("store", "memory_limit", "threads")
@days_flags
@click.option("--tables", multiple=True, metavar="NAME[,NAME]...", shell_complete=_table_names,
              help="Which tables [summary and the other small ones].")  # fmt: skip
@click.option("--where", help="Only rows for which this holds: SQL over the tables' columns.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="A file .xlsx or .csv, or a folder for a CSV a table.")  # fmt: skip
def export(
    settings: Settings, date_: str | None, from_: str | None, to: str | None,
    tables: tuple[str, ...], where: str | None, output: Path,
) -> None:  # fmt: skip
    """Writes tables as an Excel file or as CSV, for people without parquet.

    In Excel every table is a sheet, and one more says what the columns mean. In CSV a text that
    begins with =, +, -, @ or an apostrophe gets an apostrophe before it, so that no spreadsheet
    takes it for a formula. A file that is there already is replaced, when the new one is whole.

    \b
    Examples:
      reconcile export -o january.xlsx --from 2026-01-01 --to 2026-02-01
      reconcile export -o lost.csv --tables verdicts --where "verdict = 'missing'"
    """
    from reconcile.exporting.export import export as export_all
    from reconcile.frames import Frames

    asked = _asked(date_, from_, to)
    names = [name.strip() for each in tables for name in each.split(",") if name.strip()]
    store = Frames(settings.store, memory_limit=settings.memory_limit, threads=settings.threads)
    for each in export_all(store, output, names, asked.start, asked.end, where):
        click.echo(f"{each.path}: {each.table}, {each.rows:,} rows")


@cli.command()
@settings_flags("pii")
@click.option("--networks", is_flag=True, help="The rules about networks as a whole.")
@format_flag
def rules(settings: Settings, networks: bool, form: str) -> None:
    """Lists the rules: each reason, the verdict it makes, and when it holds.

    \b
    Example:
      reconcile rules --format markdown
      reconcile rules --networks
    """
    from reconcile.present.catalogue import network_rules_text, rules_text

    click.echo(network_rules_text(form) if networks else rules_text(form), nl=False)
    if settings.pii == "drop":
        click.echo("recipient_mismatch and near_match are off: pii is drop", err=True)


@cli.command()
@click.argument("table", required=False, shell_complete=_table_names)
@format_flag
def schema(table: str | None, form: str) -> None:
    """Prints the contract of the tables: a sentence a column.

    \b
    Example:
      reconcile schema summary
    """
    from reconcile.present.catalogue import schema_text

    click.echo(schema_text(table, form), nl=False)


@cli.command()
@settings_flags(*STORE_ONLY)
@format_flag
def status(settings: Settings, form: str) -> None:
    """Shows which days are whole, open or missing, and what Vonage billed.

    \b
    Example:
      reconcile status --store /var/lib/reconcile
    """
    from reconcile.present.status import status as told

    click.echo(told(settings, form), nl=False)


@cli.command()
@settings_flags(*SETTING_FLAGS)
def check(settings: Settings) -> None:
    """Proves what a night needs: credentials, clock, store, disk, key, captures. Bills nothing.

    One line a check, ok, warn or fail; the exit code is that of the first that failed.

    \b
    Example:
      reconcile check --config /etc/reconcile/reconcile.toml
    """
    from reconcile import checking

    found = []
    for each in checking.check(settings, _moment(None)):
        found.append(each)
        click.echo(f"{each.state:4}  {each.name}: {each.sentence}")
    if code := checking.exit_code(found):
        raise SystemExit(code)
    if not checking.is_begun(settings):
        click.echo("Next: `reconcile fetch --plan` says what a first run costs, `reconcile run` "
                   "does it.")  # fmt: skip


@cli.command()
@click.option("--keep", required=True, metavar="DURATION", help="How much is kept, such as 400d.")
@click.option("--dry-run", is_flag=True, help="Say what would go; drop nothing.")
@settings_flags("store", "longest_validity", "grace")
@as_of_flag
def prune(settings: Settings, keep: str, dry_run: bool, as_of: str | None) -> None:
    """Drops days that are older: their tables, rejects, changes, and downloads under way.

    No open day goes, and nothing that judging one may read. What was downloaded and dropped is not
    downloaded again: Vonage would bill it twice.

    \b
    Example:
      reconcile prune --keep 400d --dry-run
    """
    from reconcile.days import parse_duration
    from reconcile.pruning import prune as pruned
    from reconcile.store import Store

    store = Store.open(settings.store)
    told = pruned(store, settings, _moment(as_of), parse_duration(keep), dry=dry_run)
    for table, count in told.partitions.items():
        click.echo(f"{table}: {count} partition{'s' if count > 1 else ''}")
    if told.slices:
        click.echo(f"downloads under way: {told.slices}")
    word = "would be dropped" if dry_run else "dropped"
    click.echo(f"before {told.before}: {told.size:,} bytes {word}")
    if told.held_by:
        click.echo(f"{told.held_by} is open, and judging it may read back to {told.before}: "
                   "days since then are kept")  # fmt: skip


@cli.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Prints what makes a shell complete commands, flags and table names.

    \b
    Examples:
      reconcile completion bash > ~/.local/share/bash-completion/completions/reconcile
      reconcile completion zsh > "${fpath[1]}/_reconcile"
      reconcile completion fish > ~/.config/fish/completions/reconcile.fish
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    if made is None:
        raise UsageError(f"there is no completion for {shell}: take one of {', '.join(SHELLS)}")
    click.echo(made(cli, {}, "reconcile", "_RECONCILE_COMPLETE").source(), nl=False)


@cli.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("reconcile-demo"),
              show_default=True, help="Where the demo's store goes.")  # fmt: skip
def demo(folder: Path) -> None:
    """Runs the real job on three invented days, served over HTTP on this machine.

    \b
    Example:
      reconcile demo
    """
    from reconcile.sandbox.demo import demo as shown

    shown(folder, click.echo)


@cli.group(cls=_Group)
def sandbox() -> None:
    """A Reports API on this machine, and invented traffic with known answers."""


@sandbox.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--messages", type=click.IntRange(min=1), default=100_000, show_default=True, help="In all."
)
@click.option("--days", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--start", help="First UTC day [2026-01-05].")
def generate(folder: Path, messages: int, days: int, seed: int, start: str | None) -> None:
    """Writes a world for the sandbox: records, captured receipts, and truth.parquet.

    \b
    Example:
      reconcile sandbox generate world --messages 200000 --days 3 --seed 7
    """
    from reconcile.days import parse_day
    from reconcile.sandbox import generate as generator

    made = generator.generate(
        folder, messages=messages, days=days, seed=seed,
        start=parse_day(start) if start else generator.START,
    )  # fmt: skip
    click.echo(f"{made.messages:,} messages and {made.receipts:,} receipts in {folder}; "
               f"judge them with:\n  {made.command}")  # fmt: skip


@sandbox.command()
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="A folder from `generate`."
)
@click.option("--port", type=int, default=8025, show_default=True, help="0: any that is free.")
@click.option("--now", help="Answer as the world stood then (ISO 8601) [the clock].")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[=HOW_OFTEN]",
    help="Be cruel: the first N times, or with a probability; `sandbox faults` lists them.",
)
@click.option("--fault-seed", type=int, default=0, show_default=True)
@click.option("--latency", default="0s", show_default=True, help="How long each answer waits.")
@click.option("--stall", default="5s", show_default=True, help="How long a stall lasts.")
@click.option(
    "--truncate-after",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Records after which a report that is struck is cut.",
)
def serve(
    data: Path, port: int, now: str | None, faults: tuple[str, ...], fault_seed: int, latency: str,
    stall: str, truncate_after: int,
) -> None:  # fmt: skip
    """Serves a world as the Reports API does, on loopback, until it is stopped.

    \b
    Examples:
      reconcile sandbox serve --data world
      reconcile sandbox serve --data world --fault error_503=0.05 --fault report_failed=1
    """
    from reconcile.days import parse_duration, parse_moment
    from reconcile.sandbox.cruelty import read_faults
    from reconcile.sandbox.server import Sandbox

    moment = parse_moment(now) if now else None
    with Sandbox(
        data, port=port, now=moment, faults=read_faults(faults), fault_seed=fault_seed,
        latency=parse_duration(latency).total_seconds(),
        stall_seconds=parse_duration(stall).total_seconds(), truncate_after=truncate_after,
    ) as served:  # fmt: skip
        click.echo(f"export VONAGE_API_KEY={served.api_key} VONAGE_API_SECRET={served.api_secret}")
        click.echo(f"# serving {data} at {served.base_url}, for --base-url; stop with Ctrl-C")
        sys.stdout.flush()
        served.serve_forever()


@sandbox.command()
def faults() -> None:
    """Lists the faults that `serve --fault` knows.

    \b
    Example:
      reconcile sandbox faults
    """
    from reconcile.sandbox.cruelty import FAULTS

    for fault in FAULTS:
        click.echo(f"{fault.name:26} {fault.sentence}")


def _asked(date_: str | None, from_: str | None, to: str | None) -> Any:
    from datetime import timedelta

    from reconcile.days import parse_day
    from reconcile.job import Asked

    if date_ and (from_ or to):
        raise UsageError("give --date, or --from and --to, not both")
    if date_:
        day: date = parse_day(date_)
        return Asked(day, day + timedelta(days=1))
    if bool(from_) != bool(to):
        raise UsageError("--from and --to go together; --to is the first day not asked for")
    if not from_ or not to:
        return Asked()
    start, end = parse_day(from_), parse_day(to)
    if end <= start:
        raise UsageError(
            f"--to {to} is not after --from {from_}: --to is the first day not asked for"
        )
    return Asked(start, end)


def _moment(as_of: str | None) -> datetime:
    from datetime import UTC, datetime

    from reconcile.days import parse_moment

    return parse_moment(as_of or datetime.now(UTC).isoformat())


def _tell_end(ended: Any, *, show: bool) -> None:
    """Results to stdout, holes to stderr, and the exit code."""
    if show and ended.manifest.get("judged"):
        from reconcile.present.ended import after_run

        click.echo(after_run(ended), nl=False)
    for hole in ended.holes:
        account = f" (account {hole['account_id']})" if hole["account_id"] else ""
        day = "all days" if hole["day"] == "*" else hole["day"]
        _lines.tell("incomplete", f"incomplete: {day}{account}: {hole['reason']}", **hole)
    for sentence in ended.exceeded:
        _lines.tell("exceeded", f"exceeded: {sentence}")
    if _lines.is_json:
        facts = {name: ended.manifest[name] for name in ("command", "run_id", "as_of", "exit_code")}
        facts |= {name: ended.found.get(name) for name in ("days", "counts", "digest")}
        _lines.tell("end", f"{facts['command']} ended with {ended.exit_code}", **facts)
    if ended.exit_code:
        raise SystemExit(ended.exit_code)


# Which signal ended the run: the engine makes an error of its own of what a handler raises.
_stopped_by: list[int] = []


def _code_of(error: BaseException) -> int:
    """The exit code that `main` will make of what ended a command."""
    if _stopped_by:
        return _stopped_by[0]
    if isinstance(error, ReconcileError):
        return error.exit_code
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else BUG


def _warn(problem: str) -> None:
    _lines.tell("warning", f"warning: {problem}")


def _stop(number: int, _frame: object) -> None:
    _stopped_by.append(TERMINATED if number == signal.SIGTERM else INTERRUPTED)
    raise SystemExit(_stopped_by[0])


def main() -> None:
    """The console script: the only place where our errors end, each as one line and a code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    try:
        code = _run()
    except (SystemExit, Exception):
        if not _stopped_by:
            raise
    if _stopped_by:
        # Threads that wait for Vonage must not hold up the end.
        sys.stdout.flush()
        if _lines.is_json:
            _lines.tell("error", "stopped by a signal", exit_code=_stopped_by[0])
        os._exit(_stopped_by[0])
    sys.exit(code)


def _run() -> int:
    _lines.form = TEXT
    try:
        return cli.main(standalone_mode=False) or 0
    except ReconcileError as error:
        if not _stopped_by:
            _lines.tell("error", " ".join(str(error).split()), exit_code=error.exit_code)
        return error.exit_code
    except click.ClickException as error:
        if "--dlr" in sys.argv and "extra argument" in error.format_message():
            error = click.UsageError("the shell expanded the glob: quote it, as --dlr 'dlr/*'")
        if _lines.is_json:
            _lines.tell("error", error.format_message(), exit_code=error.exit_code)
        else:
            error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BUG


if __name__ == "__main__":
    main()
