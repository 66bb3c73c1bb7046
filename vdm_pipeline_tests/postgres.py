"""A temporary PostgreSQL server for tests.

``python -m vdm_pipeline_tests.postgres COMMAND`` runs a command, such as pytest, with a server.
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
MISSING = f"PostgreSQL is not installed, and {URL_VARIABLE} is not set"
START_TIMEOUT_S = 30


def program_folder() -> Path | None:
    """The folder of the newest ``initdb``; Debian does not put it on the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).resolve().parent if found else None


def is_available() -> bool:
    """Whether `any_server` finds a server or can start one."""
    return bool(os.environ.get(URL_VARIABLE)) or program_folder() is not None


@contextmanager
def any_server() -> Iterator[str]:
    """URL of the server in ``$VDM_TEST_POSTGRES_URL``, or of a temporary one for this block."""
    url, folder = os.environ.get(URL_VARIABLE), program_folder()
    if url:
        yield url
    elif folder:
        with temporary_server(folder) as temporary:
            yield temporary
    else:
        raise FileNotFoundError(MISSING)


@contextmanager
def temporary_server(folder: Path) -> Iterator[str]:
    """Start a server on 127.0.0.1 in a temporary folder, with a random password."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="postgres_") as name:
        top, password = Path(name), secrets.token_hex(16)
        user = _ordinary_user(top)
        (top / "password").write_text(password)
        (top / "password").chmod(0o644)
        access = ["--username=tests", "--auth=scram-sha-256", f"--pwfile={top / 'password'}"]
        initdb = [
            folder / "initdb",
            "-D",
            top / "data",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            *access,
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=top, **user)
        settings = ["--listen_addresses=127.0.0.1", "--unix_socket_directories=", "--fsync=off"]
        command = [folder / "postgres", "-D", top / "data", "-p", str(port), *settings]
        with (top / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=top, **user)
        url = f"postgresql://tests:{password}@127.0.0.1:{port}/postgres"
        try:
            _wait_until_ready(url, process, top / "log")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # it waits until its clients disconnect
                process.kill()
                process.wait()


@contextmanager
def database(server: str) -> Iterator[URL]:
    """Create a database and drop it at the end; yields its URL in the form for Dagster."""
    name = f"test_{secrets.token_hex(8)}"
    run(server, f"CREATE DATABASE {name}")
    try:
        yield make_url(server).set(drivername="postgresql+psycopg2", database=name)
    finally:
        run(server, f"DROP DATABASE {name} WITH (FORCE)")


def run(server: str | URL, statement: str) -> list[tuple]:
    """Run a statement outside a transaction; returns its rows."""
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
    """Arguments of `subprocess.Popen` for a user other than root, as whom PostgreSQL does not run."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    os.chown(top, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _wait_until_ready(url: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
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
