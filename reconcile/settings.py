"""Every setting: its name, its default, and where it comes from.

A flag outranks the environment (`RECONCILE_NAME`), which outranks `reconcile.toml`. Secrets come
from the environment or from a file that it names, never from a flag or from `reconcile.toml`.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from reconcile import capabilities, fail_on
from reconcile.bucket import LOOPBACK, is_url
from reconcile.capabilities import Capability
from reconcile.days import parse_duration
from reconcile.engine import LEAST_MEMORY, bytes_of
from reconcile.errors import SettingsError, trouble

PREFIX = "RECONCILE_"
CONFIG = Path("reconcile.toml")
# URLs by which others watch the job. Whoever knows one can use it, so they are secrets.
PING_URL, WEBHOOK_URL = f"{PREFIX}PING_URL", f"{PREFIX}WEBHOOK_URL"


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _globs(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return json.loads(value) if value.startswith("[") else [value]


def _words(value: Any) -> Any:
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


SignatureMethod = Literal["md5hash", "md5", "sha1", "sha256", "sha512"]
Duration = Annotated[timedelta, BeforeValidator(_duration)]


@dataclass(frozen=True)
class Owner:
    """Whose records are downloaded as one: an account's, or its subaccounts' as well."""

    account_id: str
    with_subaccounts: bool = False


@dataclass(frozen=True)
class Account:
    """Credentials, and whose records they open; the secret never shows in a repr."""

    account_id: str
    api_key: str
    api_secret: str = field(repr=False)
    owners: tuple[Owner, ...] = ()

    def __post_init__(self) -> None:
        if not self.owners:
            object.__setattr__(self, "owners", (Owner(self.account_id),))


def _a_place(place: object) -> object:
    """A folder, or the URL of a bucket."""
    if not isinstance(place, str):
        return place
    if "://" not in place:
        return Path(place)
    if not is_url(place):
        raise ValueError("must be a folder, or s3://BUCKET/FOLDER")
    return place


class AccountSettings(BaseModel):
    """One `[[accounts]]` entry: which account, and where its secret is."""

    model_config = ConfigDict(extra="forbid")

    api_key: str
    account_id: str | None = None
    api_secret_env: str | None = None
    api_secret_file: Path | None = None
    subaccounts: list[str] = []
    include_subaccounts: bool = False
    signature_method: SignatureMethod | None = None
    signature_secret_env: str | None = None
    signature_secret_file: Path | None = None

    def owners(self) -> tuple[Owner, ...]:
        """Whose records this entry downloads."""
        own = Owner(self.account_id or self.api_key, self.include_subaccounts)
        return (own, *map(Owner, self.subaccounts))


class SqlCapture(BaseModel):
    """One `[[dlr_sql]]` entry: receipts captured in a database (`receipts.database`)."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    url_env: str | None = None
    url_file: Path | None = None
    query: str = Field(min_length=1)
    key: str = Field(min_length=1)
    columns: dict[str, str] = {}
    overlap: int = Field(10_000, ge=0)

    def url(self) -> str:
        """The database's URL.

        Raises:
            SettingsError: it is nowhere to be found.
        """
        if self.url_file:
            return _secret_file(self.url_file)
        if self.url_env:
            return _secret(self.url_env)
        raise SettingsError(f"dlr_sql {self.name}: name its URL with url_env or url_file")


class Settings(BaseSettings):
    """What a run is told; every field is a key, a flag and an environment variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    store: Annotated[Path | str, BeforeValidator(_a_place)] = Field(
        Path("store"), description="Folder of the tables, or s3://BUCKET/FOLDER."
    )
    dlr: Annotated[list[str], NoDecode, BeforeValidator(_globs)] = Field(
        default=[], description="Globs of the captured receipts."
    )
    dlr_sql: list[SqlCapture] = Field(
        default=[], description="Receipts captured in databases, in tables."
    )
    send_log: Annotated[list[str], NoDecode, BeforeValidator(_globs)] = Field(
        default=[], description="Globs of the logs of what the SMS API answered at sending."
    )
    base_url: str = Field("https://api.nexmo.com", description="Where the Reports API is.")
    via: Literal["auto", "sync", "async"] = Field("auto", description="Which Reports API.")
    products: Annotated[list[Literal["SMS", "MESSAGES"]], NoDecode, BeforeValidator(_words)] = (
        Field(default=["SMS"], description="Whose records: SMS API, Messages API (channel sms).")
    )
    account_id: str | None = Field(None, description="Account to download (default: the API key).")
    accounts: list[AccountSettings] = Field(default=[], description="Several accounts, in tables.")
    currency: str | None = Field(None, description="Currency of prices that carry none.")

    lookback: Duration = Field(
        timedelta(days=14), description="How far back the nightly run looks."
    )
    fill_holes: Duration = Field(
        timedelta(days=396), description="How far back days that are not whole are made so."
    )
    settle: Duration = Field(
        timedelta(hours=1), description="How long a day rests before it is asked for."
    )
    validity: Duration = Field(timedelta(hours=72), description="How long Vonage tries a message.")
    longest_validity: Duration = Field(
        timedelta(days=7), description="The longest ttl you send with."
    )
    grace: Duration = Field(timedelta(hours=24), description="How long webhooks are retried.")
    too_fast: Duration = Field(
        timedelta(milliseconds=800), description="Delivered sooner than this is too fast."
    )

    capabilities: Path | None = Field(
        None, description="CSV of what networks' receipts are worth (capabilities.py)."
    )
    conversions: Path | None = Field(
        None, description="CSV of which messages converted (conversions.py)."
    )
    false_discoveries: float = Field(
        0.05, gt=0, lt=0.5, description="Share of false alarms that a rule on networks may make."
    )
    campaign: str | None = Field(
        None, description="Regular expression whose group `campaign` is in client_ref."
    )

    fail_on: Annotated[list[str], NoDecode, BeforeValidator(_globs)] = Field(
        default=[], description="Rules that end a run with exit 10 where they hold (fail_on.py)."
    )
    metrics_file: Path | None = Field(
        None, description="Textfile for Prometheus's node_exporter, written when a run ends."
    )

    pii: Literal["hash", "keep", "drop"] = Field("hash", description="What becomes of recipients.")
    pii_key_file: Path | None = Field(None, description="Key of the hash (default: made once).")

    signature_method: SignatureMethod | None = Field(
        None, description="How your receipts are signed (VONAGE_SIGNATURE_SECRET)."
    )

    connect_timeout: Duration = Field(timedelta(seconds=10), description="For each connection.")
    read_timeout: Duration = Field(timedelta(seconds=60), description="For each wait for bytes.")
    retries: int = Field(
        6, ge=0, le=20, description="Further tries on 429, 5xx and lost connections."
    )
    retry_longest: Duration = Field(
        timedelta(seconds=60), description="Longest wait between tries."
    )
    poll_first: Duration = Field(timedelta(seconds=2), description="First wait for a report.")
    poll_max: Duration = Field(timedelta(seconds=60), description="Longest wait between polls.")
    report_timeout: Duration = Field(timedelta(hours=6), description="When to give a report up.")
    refresh_limit: int = Field(20_000, ge=0, description="Most records asked again by id a run.")
    max_billed_records: int | None = Field(None, ge=0, description="Most records to pay for a run.")

    lock_expiry: Duration = Field(
        timedelta(minutes=5), description="How long a bucket's lock outlives a run that was killed."
    )
    memory_limit: str | None = Field(None, description="Memory of the engine (default: half).")
    threads: int | None = Field(None, ge=1, description="Threads of the engine (default: all).")
    temp_directory: Path | None = Field(None, description="Where it spills (default: the store).")
    engine: Literal["duckdb", "spark"] = Field(
        "duckdb", description="What judges: this process, or a cluster (docs/spark.md)."
    )
    spark: str | None = Field(
        None, description="Of engine spark: its master or Connect URL (spark://..., sc://...)."
    )

    @field_validator("base_url")
    @classmethod
    def _safe_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError("http:// is for loopback only, use https://")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ValueError("must be https://HOST, without credentials")
        return url.rstrip("/")

    @field_validator("campaign")
    @classmethod
    def _a_pattern(cls, pattern: str | None) -> str | None:
        if not pattern:
            return None
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"is no regular expression ({error})") from None
        if "campaign" not in groups:
            raise ValueError("needs a group (?P<campaign>...), which is the campaign's name")
        return pattern

    @field_validator("fail_on")
    @classmethod
    def _rules(cls, rules: list[str]) -> list[str]:
        for rule in rules:
            fail_on.parse(rule)
        return rules

    @field_validator("metrics_file")
    @classmethod
    def _a_textfile(cls, file: Path | None) -> Path | None:
        if file is not None and file.suffix != ".prom":
            raise ValueError("must end in .prom: node_exporter reads no other file")
        return file

    @field_validator("memory_limit")
    @classmethod
    def _a_size(cls, size: str | None) -> str | None:
        told = bytes_of(size) if size is not None else None
        if size is not None and told is None:
            raise ValueError("must be a size such as 2GB or 500MiB")
        if told is not None and told < (bytes_of(LEAST_MEMORY) or 0):
            raise ValueError(f"must be {LEAST_MEMORY} or more, which the smallest day needs")
        return size

    @field_validator("spark")
    @classmethod
    def _a_cluster(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"(spark|sc|k8s)://[^/;,:\s]+|local\[|yarn$", url):
            raise ValueError("must be spark://HOST:PORT, sc://HOST, k8s://..., yarn or local[N]")
        if url is not None and "token=" in url:
            raise ValueError("a token goes into SPARK_CONNECT_AUTHENTICATE_TOKEN, not here")
        return url

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
        """Flags (given to the constructor), then environment, then the file."""
        del dotenv_settings, file_secret_settings  # not ours
        from pydantic_settings import TomlConfigSettingsSource

        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))

    def credentials(self) -> list[Account]:
        """The accounts with their secrets.

        Raises:
            SettingsError: an API key or secret is nowhere to be found; it says where to put it.
        """
        if self.accounts:
            return [_account(entry) for entry in self.accounts]
        key = _secret("VONAGE_API_KEY")
        return [Account(self.account_id or key, key, _secret("VONAGE_API_SECRET"))]

    def signature_secrets(self) -> dict[str, tuple[str, str]]:
        """Method and secret by which receipts are signed, of each account that names them.

        The key "" is for receipts that name no account: it is there where only one can be meant.

        Raises:
            SettingsError: a method without a secret, or a secret that is not there.
        """
        found: dict[str, tuple[str, str]] = {}
        for entry in self.accounts:
            if not entry.signature_method and (
                entry.signature_secret_env or entry.signature_secret_file
            ):
                raise SettingsError(
                    f"account {entry.api_key}: its signatures have a secret and no signature_method"
                )
            if entry.signature_method:
                secret = _signature_secret(entry)
                for owner in entry.owners():
                    found[owner.account_id] = (entry.signature_method, secret)
        if self.signature_method:
            own = (self.signature_method, _secret("VONAGE_SIGNATURE_SECRET"))
            for account_id in self.account_ids():
                found.setdefault(account_id, own)
            found.setdefault("", own)
        if len(set(found.values())) != 1 or (len(self.accounts) > 1 and not self.signature_method):
            found.pop("", None)
        elif found:
            found[""] = next(iter(found.values()))
        return found

    def capability_table(self) -> tuple[Capability, ...]:
        """What is known of networks' receipts; empty without a table.

        Raises:
            SettingsError: a line of the table is wrong.
        """
        return capabilities.load(self.capabilities) if self.capabilities else ()

    def owners(self) -> list[Owner]:
        """Whose records are ours, as far as that is known without their secrets."""
        if self.accounts:
            return [owner for entry in self.accounts for owner in entry.owners()]
        known = self.account_id or os.environ.get("VONAGE_API_KEY")
        return [Owner(known)] if known else []

    def account_ids(self) -> set[str]:
        """The accounts that are ours, as far as that is known without their secrets."""
        return {owner.account_id for owner in self.owners()}


def load(config: Path | None = None, **flags: Any) -> Settings:
    """Settings from flags that are not None, the environment, and the file, in this order.

    Raises:
        SettingsError: something there is no setting, or no value for it; one line says which.
    """
    if config is not None and not config.is_file():
        raise SettingsError(f"no settings file at {config}: `reconcile init` writes one")
    file = config or (CONFIG if CONFIG.is_file() else None)
    _refuse_strangers(file)

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        found = FromFile(**{k: v for k, v in flags.items() if v not in (None, (), [])})
    except ValidationError as error:
        raise SettingsError(_explain(error, file)) from None
    for entry in found.accounts:
        _refuse_both_ways(entry, found.via)
    names = [query.name for query in found.dlr_sql]
    for query in found.dlr_sql:
        if names.count(query.name) > 1:
            raise SettingsError(
                f"two [[dlr_sql]] are named {query.name}, their rows would mix: rename one"
            )
        if bool(query.url_env) == bool(query.url_file):
            raise SettingsError(f"dlr_sql {query.name}: name its URL with url_env or url_file")
    found.capability_table()  # what is wrong with it is told before anything is done
    if found.longest_validity < found.validity:
        raise SettingsError("longest_validity is shorter than validity: raise it")
    if found.engine == "spark" and not found.spark:
        raise SettingsError('engine = "spark" needs the setting spark: the URL of its cluster')
    if found.engine == "spark" and is_url(found.store) and not str(found.spark).startswith("local"):
        raise SettingsError(
            'engine = "spark" needs the store in a folder that all machines of the cluster have; a '
            'bucket\'s is judged by engine = "duckdb"'
        )
    return found


def _refuse_both_ways(entry: AccountSettings, via: str) -> None:
    if entry.include_subaccounts and (entry.subaccounts or via == "sync"):
        why = "subaccounts name the same" if entry.subaccounts else "pages hold one account's only"
        raise SettingsError(
            f"account {entry.api_key}: include_subaccounts is for reports, and {why}: "
            "use either it or subaccounts"
        )


def _refuse_strangers(file: Path | None) -> None:
    """Names a key of the file or the environment that is no setting, and the nearest that is."""
    known = list(Settings.model_fields)
    keys: dict[str, str] = {
        name.removeprefix(PREFIX).lower(): f"environment variable {name}"
        for name in os.environ
        if name.startswith(PREFIX) and name.removesuffix("_FILE") not in (PING_URL, WEBHOOK_URL)
    }
    if file is not None:
        try:
            keys |= {key: f"{file}: {key}" for key in tomllib.loads(file.read_text("utf-8"))}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file} is no TOML: {error}") from None
        except OSError as error:
            raise SettingsError(f"{file} cannot be read: {trouble(error)}") from None
    for key, where in keys.items():
        if key in known:
            continue
        if "secret" in key or key == "api_key":
            name = "SIGNATURE_SECRET" if key.startswith("sig") else "API_SECRET"
            raise SettingsError(f"{where}: secrets go into VONAGE_{name} or a file, not here")
        if PREFIX + key.upper() in (PING_URL, WEBHOOK_URL):
            raise SettingsError(f"{where}: who knows this URL can use it: put it into "
                                f"{PREFIX}{key.upper()}, or a file, not here")  # fmt: skip
        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {near[0]}?" if near else "`reconcile init` lists the settings"
        raise SettingsError(f"{where} is no setting: {hint}")


def _explain(error: ValidationError, file: Path | None) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    words = first["msg"].removeprefix("Value error, ")
    if "secret" in key:
        return f"setting {key}: secrets go into the environment or a file, not here"
    if first["type"] == "extra_forbidden":  # its value may be a URL with a password
        return f"setting {key} is none: a database's URL goes into the environment or a file"
    shown = re.sub(r"//[^/]*@", "//***@", repr(first["input"]))  # credentials of a URL
    shown = re.sub(r"token=[^;']*", "token=***", shown)
    return f"setting {key}: {words}, not {shown}"


def _secret(name: str) -> str:
    """A secret from the environment variable `name`, or from the file that `name`_FILE names."""
    value, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value:
        return value
    if file:
        return _secret_file(Path(file))
    raise SettingsError(f"{name} is not set: put it, or {name}_FILE, into the environment")


def secret_url(name: str) -> str | None:
    """The URL in the environment variable `name`, or in the file that `name`_FILE names.

    Raises:
        SettingsError: it is none that may be used; what it is stays unsaid.
    """
    if not (os.environ.get(name) or os.environ.get(f"{name}_FILE")):
        return None
    url = _secret(name)
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme == "http" and host not in LOOPBACK:
        raise SettingsError(f"{name}: http:// is for loopback only, use https://")
    if parts.scheme not in ("http", "https") or not host or parts.username:
        raise SettingsError(f"{name} must be https://HOST/..., without credentials")
    return url


def _secret_file(path: Path) -> str:
    try:
        secret = path.read_text("utf-8").strip()
    except OSError as error:
        raise SettingsError(f"the secret in {path} cannot be read: {trouble(error)}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"the secret in {path} is no text: put it there as UTF-8") from None
    if not secret:
        raise SettingsError(f"the secret in {path} is empty: put it there, alone")
    return secret


def _signature_secret(entry: AccountSettings) -> str:
    if entry.signature_secret_file:
        return _secret_file(entry.signature_secret_file)
    if entry.signature_secret_env:
        return _secret(entry.signature_secret_env)
    raise SettingsError(
        f"account {entry.api_key}: name the secret of its signatures with signature_secret_env or "
        "signature_secret_file"
    )


def _account(entry: AccountSettings) -> Account:
    if entry.api_secret_file:
        secret = _secret_file(entry.api_secret_file)
    elif entry.api_secret_env:
        secret = _secret(entry.api_secret_env)
    else:
        raise SettingsError(
            f"account {entry.api_key}: name its secret with api_secret_env or api_secret_file"
        )
    return Account(entry.account_id or entry.api_key, entry.api_key, secret, entry.owners())
