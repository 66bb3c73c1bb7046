"""A PostgreSQL server for tests alone, thrown away at the end.

``python -m vdm_pipeline_tests.postgres python -m pytest vdm_pipeline_tests/ui`` runs a command beside one.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from sqlalchemy.engine import URL, make_url

URL_VARIABLE = "VDM_TEST_POSTGRES_URL"
MISSING = f"no PostgreSQL is installed, and {URL_VARIABLE} names no server"
STARTS_S = 30


def programs() -> Path | None:
    """The folder of the newest ``initdb``; Debian keeps it off the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def is_at_hand() -> bool:
    """Whether `any_server` can give one."""
    return bool(os.environ.get(URL_VARIABLE)) or programs() is not None


@contextmanager
def any_server() -> Iterator[str]:
    """URL of the server that ``$VDM_TEST_POSTGRES_URL`` names, or of one for this block alone."""
    named, folder = os.environ.get(URL_VARIABLE), programs()
    if named:
        yield named
    elif folder:
        with own_server(folder) as url:
            yield url
    else:
        raise FileNotFoundError(MISSING)


@contextmanager
def own_server(folder: Path) -> Iterator[str]:
    """A server on 127.0.0.1 in a temporary folder, by the programs in ``folder``; its password is random."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="postgres_") as name:
        top, password = Path(name), secrets.token_hex(16)
        user = _ordinary_user(top)
        (top / "password").write_text(password)
        (top / "password").chmod(0o644)
        access = ["--username=tests", "--auth=scram-sha-256", f"--pwfile={top / 'password'}"]
        made = [folder / "initdb", "-D", top / "data", "--no-sync", "--encoding=UTF8", "--locale=C", *access]
        subprocess.run(made, check=True, capture_output=True, cwd=top, **user)
        settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"]
        command = [
            folder / "postgres",
            "-D",
            top / "data",
            "-p",
            str(port),
            *(part for one in settings for part in ("-c", one)),
        ]
        with (top / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=top, **user)
        url = f"postgresql://tests:{password}@127.0.0.1:{port}/postgres"
        try:
            _until_it_answers(url, process, top / "log")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # it waits for its clients' end
                process.kill()
                process.wait()


@contextmanager
def database(server: str) -> Iterator[URL]:
    """A fresh database there, dropped at the end; its URL as Dagster is to be told it."""
    name = f"test_{secrets.token_hex(8)}"
    run(server, f"CREATE DATABASE {name}")
    try:
        yield make_url(server).set(drivername="postgresql+psycopg2", database=name)
    finally:
        run(server, f"DROP DATABASE {name} WITH (FORCE)")


def run(server: str | URL, statement: str) -> list[tuple]:
    """What a statement outside a transaction answers."""
    plain = make_url(server).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(plain)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def _ordinary_user(top: Path) -> dict:
    """Whom to run the server as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    os.chown(top, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _until_it_answers(url: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + STARTS_S
    while True:
        try:
            psycopg2.connect(url).close()
            return
        except psycopg2.OperationalError:
            assert process.poll() is None and time.monotonic() < end, (
                f"PostgreSQL does not start: {log.read_text()[-2000:]}"
            )
            time.sleep(0.1)


if __name__ == "__main__":
    with any_server() as address:
        sys.exit(subprocess.run(sys.argv[1:], env={**os.environ, URL_VARIABLE: address}).returncode)
