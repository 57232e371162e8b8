"""Says the core's expressions in Spark's SQL, so that they mean what they mean to DuckDB.

Ibis speaks to Spark; here stand the few words which, as Ibis has them, mean something else there.
"""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.datatypes as dt
import sqlglot as sg
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.pyspark import PySparkCompiler

from reconcile.errors import SettingsError

# Names of the core's own for functions of the engine.
_CALLED = {"epoch_ms": "unix_millis"}
# After a backslash these mean the same in RE2 and in Java's expressions; so does punctuation.
_ESCAPES = "dDwWAztnrfa"


class Dialect(PySparkCompiler):  # type: ignore[misc] # Ibis ships no types
    """Ibis's compiler for Spark, with those words replaced."""

    __slots__ = ()

    def visit_CountStar(self, op: Any, *, arg: Any, where: Any) -> Any:  # noqa: N802 - Ibis's name
        """Where nothing is known to hold there are none; Ibis would sum nulls, and say null."""
        return self.f.count(sge.Star()) if where is None else self.f.anon.count_if(where)

    def visit_ArrayIndex(self, op: Any, *, arg: Any, index: Any) -> Any:  # noqa: N802
        """Beyond its end a list has nulls; Ibis's word is an error there."""
        return self.f.anon.get(arg, index)

    def visit_RegexExtract(self, op: Any, *, arg: Any, pattern: Any, index: Any) -> Any:  # noqa: N802
        """Java reads some of RE2's expressions otherwise."""
        return self.f.regexp_extract(arg, sge.convert(java_pattern(op.pattern.value)), index)

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:  # noqa: N802
        """Likewise."""
        return self.f.regexp_replace(arg, sge.convert(java_pattern(op.pattern.value)), replacement)

    def visit_ScalarUDF(self, op: Any, **kw: Any) -> Any:  # noqa: N802
        """The functions that the core declares go by other names."""
        name = self.__sql_name__(op)
        return self.f.anon[_CALLED.get(name, name)](*kw.values())


_DIALECT = Dialect()


def spark_sql(expression: ibis.Table) -> str:
    """An expression as a query that Spark runs."""
    _ = ibis.pyspark  # its options, which its compiler reads
    query = _DIALECT.to_sqlglot(expression)
    sql: str = query.sql(
        dialect=_DIALECT.dialect, copy=False, unsupported_level=sg.ErrorLevel.RAISE
    )
    return sql


def java_pattern(pattern: str) -> str:
    """A regular expression of RE2's, such as the setting `campaign`, as Java's that finds the same.

    Raises:
        SettingsError: it has something that Java would read otherwise, or that is not known to be
            read alike.
    """
    out, at, in_class = ["(?d)"], 0, False  # only \n ends a line
    while at < len(pattern):
        one, rest = pattern[at], pattern[at:]
        if one == "\\":
            escaped = rest[1:2]
            if not escaped or (escaped.isalnum() and escaped not in _ESCAPES):
                raise _unlike(pattern, rest[:2])
            out.append(rest[:2])
            at += 2
            continue
        if in_class:
            if one == "[" or rest.startswith("&&"):
                raise _unlike(pattern, rest[:2])
            in_class = one != "]"
        elif one == "[":
            in_class = True
            if rest.lstrip("[^").startswith("]"):
                raise _unlike(pattern, rest[:3])
        elif one == "$":
            one = r"\z"  # Java's would stand before a last line's end, too
        elif rest.startswith("(?P<"):
            out.append("(")
            at += rest.index(">") + 1
            continue
        elif rest.startswith("(?") and not rest.startswith("(?:"):
            raise _unlike(pattern, rest[:4])
        out.append(one)
        at += 1
    return "".join(out)


def _unlike(pattern: str, part: str) -> SettingsError:
    return SettingsError(
        f"setting campaign: Spark may read {part} of {pattern} otherwise than DuckDB: write it "
        'without, or judge with engine = "duckdb"'
    )


_SPARK_TYPES: dict[Any, str] = {
    dt.String: "STRING", dt.Boolean: "BOOLEAN", dt.Int32: "INT", dt.Int64: "BIGINT",
    dt.Int8: "TINYINT", dt.Float64: "DOUBLE", dt.Date: "DATE", dt.Timestamp: "TIMESTAMP",
}  # fmt: skip


def columns_of(schema: ibis.Schema) -> str:
    """A schema as Spark's list of columns, such as `message_id STRING, line BIGINT`."""
    return ", ".join(f"`{name}` {spark_type(kind)}" for name, kind in schema.items())


def no_rows(schema: ibis.Schema) -> str:
    """SQL of no rows of a schema."""
    columns = (f"CAST(NULL AS {spark_type(kind)}) AS `{name}`" for name, kind in schema.items())
    return f"SELECT {', '.join(columns)} WHERE false"


def spark_type(kind: dt.DataType) -> str:
    """Spark's name of a type of the contracts."""
    if isinstance(kind, dt.Array):
        return f"ARRAY<{spark_type(kind.value_type)}>"
    if isinstance(kind, dt.Decimal):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return _SPARK_TYPES[type(kind)]
