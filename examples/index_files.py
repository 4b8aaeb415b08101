"""Index a folder of files with durable jobs, one for each file.

    python examples/index_files.py [FOLDER] [--database FILE] [--processes N] [--fresh]

Without a folder it takes the standard library of the Python that runs it. Interrupt it in any way, Ctrl-C or
``kill -9``, and run it again: it goes on where it was. With ``WINDLASS_URL=postgresql://…`` in the environment everything
is in that database instead of a file, in a schema of its own. Three things make each file be indexed exactly once:

1. ``enqueue_new`` notes a file and enqueues its job in the same transaction. Killed in between, it has done neither.
2. ``index`` does its slow work first and then writes what it found inside ``ctx.transaction()``, together with the
   completion of its job. Killed before that, the job is simply run again.
3. The jobs of a killed worker are given back by the next one.

With ``WINDLASS_URL=redis://…`` the jobs are there, and what is found stays in the file. Two stores cannot commit together,
so there the first two become: a file may have two jobs, and ``index`` writes so that doing it twice leaves one row.
"""

import argparse
import ast
import hashlib
import json
import logging
import os
import re
import sqlite3
import subprocess
import sys
import sysconfig
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import timedelta
from heapq import nlargest
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from windlass import Context, Fixed, Job, Windlass

PRUNED = {"__pycache__", "site-packages", "dist-packages", "node_modules", ".git", ".venv"}
BROKEN = {
    "bad_coding.py": b"# -*- coding: uft-8 -*-\n",
    "bad_indent.py": b"def f():\nreturn 1\n",
    "not_utf8.py": b"name = '\xf6'\n",
}
UNICODE = re.compile(r"[^\ud800-\udfff]+")  # other names are bytes that JSON cannot carry
CHUNK = 500

cli = argparse.ArgumentParser(description="Index a folder of files with durable jobs, one for each file.")
cli.add_argument("folder", nargs="?", type=Path, help="default: the standard library of this Python")
cli.add_argument("--database", type=Path, default="index_files.db", metavar="FILE", help="default: %(default)s")
# One more than there are processors: while one process waits for the disk, another computes.
cli.add_argument("--processes", type=int, default=(os.cpu_count() or 1) + 1, metavar="N", help="default: %(default)s")
cli.add_argument("--fresh", action="store_true", help="forget what was done and start from nothing")
# At the top of the module, because the child processes import it and need the same database.
options = cli.parse_args()
if options.folder and not options.folder.is_dir():
    cli.error(f"{options.folder} is not a folder")
database: Path = options.database.absolute()
server = os.environ.get("WINDLASS_URL", "")
postgres, redis = server.startswith("postgres"), server.startswith(("redis", "valkey", "unix:"))
if postgres:
    where = "WINDLASS_SCHEMA=index_files windlass jobs"
    url = f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3Dindex_files"
elif redis:
    where, url = "WINDLASS_PREFIX=index_files windlass jobs", server
else:
    url = f"sqlite:///{quote(str(options.database))}"
    where = f"windlass jobs --url {url}"
MARK = "%s" if postgres else "?"  # for a parameter of a statement

app = Windlass(
    url,
    schema="index_files",  # PostgreSQL alone has them
    prefix="index_files" if redis else None,
    retention={"completed": None, "dead": None},  # keep every job, for the summary
    logger=logging.getLogger("index_files"),
)
app.log.setLevel(logging.CRITICAL)  # the summary tells of failed jobs, so the log need not
console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 120)

SCHEMA = """
    CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, job BIGINT NOT NULL);
    -- No unique path: if a file were ever indexed twice, there would be two rows to tell of it.
    CREATE TABLE IF NOT EXISTS facts (
        path TEXT NOT NULL, size BIGINT, lines BIGINT, words BIGINT, sha256 TEXT, definitions JSON
    );
"""


# ---------------------------------------------------------------------- the job


@app.task(lane="process", max_attempts=3, backoff=Fixed(0.5))
def index(ctx: Context, path: str) -> None:
    """Find out about one file and write it down."""
    data = Path(path).read_bytes()
    names = definitions(data, Path(path).name) if path.endswith(".py") else []
    found = (path, len(data), data.count(b"\n"), len(data.split()), hashlib.sha256(data).hexdigest(), json.dumps(names))
    with ctx.transaction() if not redis else once(path) as tx:
        tx.execute(f"INSERT INTO facts VALUES ({', '.join([MARK] * len(found))})", found)


@contextmanager
def once(path: str) -> Iterator[Any]:
    """Lend a connection whose writes take the place of those for the same file: the job may have been done before."""
    with closing(connect()) as db, transaction(db):
        db.execute("DELETE FROM facts WHERE path = ?", (path,))
        yield db


def definitions(source: bytes, filename: str) -> list[str]:
    """Name the functions and classes at the top level of a module; SyntaxError if it is not valid Python."""
    with warnings.catch_warnings(action="ignore"):  # old code has invalid escape sequences
        tree = ast.parse(source, filename)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in tree.body if isinstance(node, kinds)]


# ---------------------------------------------------------------------- the files


def files_below(folder: Path) -> Iterator[str]:
    """Yield the files of a folder and those below, without caches, installed packages and our own database."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - PRUNED)
        for name in sorted(names):
            path = Path(place, name)
            ours = path.parent == database.parent and name.startswith(database.name)
            if path.is_file() and not ours and UNICODE.fullmatch(str(path)):
                yield str(path)


def standard_library() -> Iterator[str]:
    """Yield the files of the standard library; its tests include broken ones, and where they are missing we add some."""
    library = Path(sysconfig.get_path("stdlib"))
    yield from files_below(library)
    if not (library / "test" / "tokenizedata").exists():
        folder = database.with_suffix(".broken")
        folder.mkdir(exist_ok=True)
        for name, content in BROKEN.items():
            path = folder / name
            path.write_bytes(content)
            yield str(path)


def enqueue_new(db: Any, paths: Sequence[str]) -> int:
    """Enqueue a job for each file that has none yet; return how many."""
    added = 0
    for start in range(0, len(paths), CHUNK):
        with transaction(db):
            chunk = paths[start : start + CHUNK]
            known = f"SELECT 1 FROM files WHERE path = {MARK}"
            new = [path for path in chunk if not db.execute(known, (path,)).fetchone()]
            jobs = app.enqueue_many([index.job(path) for path in new], connection=None if redis else db)
            db.cursor().executemany(
                f"INSERT INTO files VALUES ({MARK}, {MARK})",
                [(path, job.id) for path, job in zip(new, jobs, strict=True)],
            )
            added += len(new)
    return added


@contextmanager
def transaction(db: Any) -> Iterator[None]:
    """Commit what the block does, or nothing of it."""
    db.execute("BEGIN" if postgres else "BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def connect() -> Any:
    """Open a connection of our own to the database with the files and facts."""
    if postgres:
        import psycopg

        return psycopg.connect(url, autocommit=True)
    return sqlite3.connect(database, timeout=30, isolation_level=None)


def forget() -> None:
    """Remove everything that was done."""
    if postgres:
        with connect() as db:
            db.execute("DROP SCHEMA IF EXISTS index_files CASCADE")
        return
    if redis:
        import redis as client

        with client.Redis.from_url(url.replace("valkey", "redis", 1)) as connection:
            for key in connection.scan_iter("{index_files}*", count=1000):
                connection.unlink(key)
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)


# ---------------------------------------------------------------------- what the user sees


def finished() -> int:
    """Count the jobs that have come to their end."""
    stats = app.stats()
    return stats.completed + stats.dead + stats.cancelled


def watch(total: int) -> None:
    """Show how far it is until everything is done: a bar on a terminal, lines in a pipe."""
    columns = (TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("indexing", total=total, completed=finished())
        told = time.monotonic()
        while (done := finished()) < total:
            progress.update(bar, completed=done)
            if not console.is_terminal and time.monotonic() >= told + 2:
                told = time.monotonic()
                console.print(f"{done:,} of {total:,} done")
            time.sleep(0.1)
        progress.update(bar, completed=done)


def jobs(status: str) -> Iterator[Job]:
    """Yield all jobs of a status, page by page."""
    page = app.jobs(status=status, limit=1000)
    yield from page
    while page.next is not None:
        page = app.jobs(status=status, limit=1000, after=page.next)
        yield from page


def lasted(job: Job) -> timedelta:
    """Return how long the last attempt of a finished job took."""
    assert job.started_at is not None
    assert job.finished_at is not None
    return job.finished_at - job.started_at


def summarize(db: Any) -> bool:
    """Print what was done; return whether each file has been indexed exactly once, or has a dead job that says why."""
    environment = {**os.environ, "WINDLASS_PREFIX": app.settings.prefix}
    subprocess.run([sys.executable, "-m", "windlass", "status", "--url", url], env=environment, check=False)  # noqa: S603

    slowest = table("Slowest jobs", "ms", "lines", "file")
    for job in nlargest(5, jobs("completed"), key=lasted):
        path = job.payload["path"]
        (lines,) = db.execute(f"SELECT lines FROM facts WHERE path = {MARK}", (path,)).fetchone()
        slowest.add_row(f"{lasted(job) / timedelta(milliseconds=1):,.0f}", f"{lines:,}", shown(path))
    dead = {job.payload["path"]: job for job in jobs("dead")}
    failed = table("Dead jobs", "tries", "file", "error")
    for path, job in sorted(dead.items()):
        failed.add_row(str(job.attempt), shown(path), str(job.error))
    console.print(slowest, *([failed] if dead else []))

    columns = ("size", "lines", "words", "json_array_length(definitions)")
    sums = ", ".join(f"CAST(coalesce(sum({column}), 0) AS double precision)" for column in columns)
    rows, size, lines, words, names = db.execute(f"SELECT count(*), {sums} FROM facts").fetchone()
    console.print(
        f"{rows:,} files: {size / 1e6:,.1f} MB, {lines:,.0f} lines, {words:,.0f} words, {names:,.0f} definitions"
    )
    totals = app.stats().totals
    console.print(f"{totals.failed:,} attempts failed, {totals.lost:,} were lost with a killed worker")

    indexed = dict(db.execute("SELECT path, count(*) FROM facts GROUP BY path"))
    known = [path for (path,) in db.execute("SELECT path FROM files")]
    doubled = [path for path, times in indexed.items() if times > 1]
    lost = [path for path in known if path not in indexed and path not in dead]
    both = [path for path in dead if path in indexed]
    exact = not (doubled or lost or both)
    console.print(f"Each of {len(known):,} files exactly once: {'yes' if exact else f'NO {doubled=} {lost=} {both=}'}")
    return exact


def shown(path: str) -> str:
    """Shorten a path to its end."""
    return str(Path(*Path(path).parts[-2:]))


def table(title: str, *columns: str) -> Table:
    """Return an empty table; numbers stand on the right."""
    made = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in {"ms", "lines", "tries"} else "left", overflow="fold")
    return made


def main() -> int:
    """Enqueue what is new, work until everything is done, and sum up."""
    if options.fresh:
        forget()
    began = time.monotonic()
    app.stats()  # the first use makes Windlass's tables
    db = connect()
    for statement in SCHEMA.split(";\n"):
        db.execute(statement)
    (known,), before = db.execute("SELECT count(*) FROM files").fetchone(), finished()
    added = enqueue_new(db, list(files_below(options.folder.absolute()) if options.folder else standard_library()))
    total = app.count()
    if known and before < total:
        console.print(f"Resuming: {before:,} of {total:,} done")
    if added:
        console.print(f"Enqueued {added:,} files")
    if before == total:
        again = "make demo ARGS=--fresh" if not sys.argv[1:] else f"python {' '.join(sys.argv)} --fresh"
        console.print(f"All {total:,} files were done before. To start from nothing: {again}")
    else:
        try:
            with app.worker(concurrency=options.processes):
                watch(total)
        except KeyboardInterrupt:
            console.print(f"Interrupted: {finished():,} of {total:,} done. Run it again to go on.")
            return 130
    exact = summarize(db)
    console.print(f"{time.monotonic() - began:.1f} s. Look around: {where}")
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
