"""The proxy of docs/security.md, run as it stands there but for names and ports, before a server that stands for the UI."""

import base64
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import pytest

from vdm_pipeline_tests.paths import ROOT

DOCUMENT = ROOT / "docs/security.md"
LACKING = [name for name in ("nginx", "openssl") if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}")
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"anna:s3cret").decode()}


class Behind(BaseHTTPRequestHandler):
    """Answers with the headers that came through."""

    def do_GET(self) -> None:
        """All of them, one a line."""
        told = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *args) -> None:
        """Stay quiet."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(*command: str, folder: Path, text: str | None = None) -> str:
    return subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=True).stdout


def configuration(folder: Path, port: int, behind: int) -> str:
    """The document's block, with a certificate and a list of users made by the commands beside it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (block,) = re.findall(r"```nginx\n(.+?)```", text, re.S)
    (hashing,) = re.findall(r"openssl passwd [^`\n]+?(?=\)|`)", text)
    (folder / "users").write_text(f"anna:{run(*hashing.split(), '-stdin', folder=folder, text='s3cret')}")
    new = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ]
    run("openssl", *new, "-keyout", "key.pem", "-out", "certificate.pem", folder=folder)
    changes = {
        "443": f"127.0.0.1:{port}",
        "dagster.example.org": "localhost",
        "/etc/ssl/dagster/fullchain.pem": f"{folder}/certificate.pem",
        "/etc/ssl/dagster/privkey.pem": f"{folder}/key.pem",
        "/etc/nginx/dagster.users": f"{folder}/users",
        "127.0.0.1:3000": f"127.0.0.1:{behind}",
    }
    for old, new_text in changes.items():
        assert old in block, old
        block = block.replace(old, new_text)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {temporary} {block} }}"


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """What the proxy answers to a request with such headers: the status and the body."""
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    folder.chmod(0o755)
    behind = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    Thread(target=behind.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    (folder / "nginx.conf").write_text("user root; " + configuration(folder, port, behind.server_port))
    process = subprocess.Popen(
        ["nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"],
        stderr=subprocess.PIPE,
        text=True,
    )
    trusted = ssl.create_default_context(cafile=folder / "certificate.pem")
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=trusted))

    def get(**headers: str) -> tuple[int, str]:
        wish = Request(
            f"https://localhost:{port}/",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        try:
            with opener.open(wish, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, ""

    end = time.monotonic() + 20
    while True:
        try:
            get()
            break
        except URLError:
            assert process.poll() is None and time.monotonic() < end, (
                process.stderr.read() if process.stderr else ""
            )
            time.sleep(0.1)
    yield get
    process.terminate()
    process.wait(20)
    behind.shutdown()
    behind.server_close()


def test_nobody_comes_through_without_the_password(ask):
    wrong = {"Authorization": "Basic " + base64.b64encode(b"anna:guess").decode()}
    assert [ask()[0], ask(**wrong)[0], ask(**LOGIN)[0]] == [401, 401, 200]


def test_a_page_of_another_site_does_not_come_through(ask):
    """A browser sends the password with it."""
    assert ask(**LOGIN, Sec_Fetch_Site="cross-site")[0] == ask(**LOGIN, Sec_Fetch_Site="same-site")[0] == 403
    assert ask(**LOGIN, Origin="https://elsewhere.example")[0] == ask(**LOGIN, Origin="null")[0] == 403
    assert ask(**LOGIN, Origin="https://localhost")[0] == 200
    assert ask(**LOGIN, Sec_Fetch_Site="same-origin")[0] == ask(**LOGIN, Sec_Fetch_Site="none")[0] == 200


def test_the_ui_gets_its_websockets_and_not_the_password(ask):
    _, told = ask(**LOGIN, Upgrade="websocket", Connection="Upgrade")
    assert re.search(r"^upgrade: websocket$", told, re.I | re.M) and re.search(
        r"^connection: upgrade$", told, re.I | re.M
    )
    assert "authorization" not in told.lower()
    _, plain = ask(**LOGIN)
    assert not re.search(r"^upgrade:", plain, re.I | re.M) and re.search(
        r"^connection: close$", plain, re.I | re.M
    )
