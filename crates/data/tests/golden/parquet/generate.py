"""Small Parquet files as pyarrow (and so datasets) writes them, beside the same rows as JSON lines.

    pip install "pyarrow==26.0.1"
    python generate.py          # no randomness
"""
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
MESSAGE = pa.struct([("content", pa.string()), ("role", pa.string()), ("tool_calls", pa.list_(pa.string()))])


def turn(role, content):
    return {"role": role, "content": content, "tool_calls": None}


def conversation(n):
    return [turn("system", "Be brief."), turn("user", f"question {n}"), turn("assistant", "yes, Привет 🙂"), turn("user", "and?")][n % 2:]


ROWS = range(7)
TABLES = {
    # string columns, dictionary encoded by default
    "strings": (pa.schema([("prompt", pa.string()), ("chosen", pa.string()), ("rejected", pa.large_string()), ("score", pa.float64())]),
                [{"prompt": f"question {n}", "chosen": "yes" * n + ".", "rejected": "no", "score": n / 3} for n in ROWS], "snappy"),
    # conversations with a common beginning
    "nested": (pa.schema([("id", pa.int64()), ("chosen", pa.list_(MESSAGE)), ("rejected", pa.list_(MESSAGE))]),
               [{"id": n, "chosen": conversation(n) + [turn("assistant", f"good {n}")],
                 "rejected": conversation(n) + [turn("assistant", f"bad {n}")]} for n in ROWS], "zstd"),
    "kto": (pa.schema([("prompt", pa.list_(MESSAGE)), ("completion", pa.list_(MESSAGE)), ("label", pa.bool_())]),
            [{"prompt": [turn("user", f"q{n}")], "completion": [turn("assistant", f"a{n}")], "label": n % 3 == 0} for n in ROWS], "gzip"),
    # text that is not declared as such, as Spark once wrote it, and an image beside it
    "binary": (pa.schema([("prompt", pa.binary()), ("completion", pa.binary()), ("image", pa.binary())]),
               [{"prompt": f"q{n}".encode(), "completion": "é".encode(), "image": b"\xff\xd8\xff"} for n in ROWS], "lz4"),
    "messages": (pa.schema([("messages", pa.list_(MESSAGE)), ("source", pa.dictionary(pa.int32(), pa.string()))]),
                 [{"messages": conversation(n) + [turn("assistant", f"a{n}")], "source": "s"} for n in ROWS], "none"),
}


def main():
    for name, (schema, rows, compression) in TABLES.items():
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, HERE / f"{name}.parquet", compression=compression, row_group_size=3)
        with open(HERE / f"{name}.jsonl", "w", encoding="utf-8") as out:
            for row in rows:
                row = {k: v.decode() if isinstance(v, bytes) else v for k, v in row.items() if k != "image"}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
    # a row that is bad in a file that is not
    bad = pa.Table.from_pylist([{"prompt": "p", "chosen": "c", "rejected": None}, {"prompt": "p", "chosen": "c", "rejected": "r"}],
                               schema=pa.schema([("prompt", pa.string()), ("chosen", pa.string()), ("rejected", pa.string())]))
    pq.write_table(bad, HERE / "bad_row.parquet")


main()
