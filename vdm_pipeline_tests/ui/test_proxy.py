"""The proxy of docs/security.md, with other names and ports, before a server that replaces the UI."""

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
MISSING = [name for name in ("nginx", "openssl") if not shutil.which(name)]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"anna:s3cret").decode()}


class EchoHeaders(BaseHTTPRequestHandler):
    """Responds with the headers of the request."""

    def do_GET(self) -> None:
        """Send the headers, one per line."""
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args) -> None:
        """Do not log."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(*command: str, folder: Path, text: str | None = None) -> str:
    return subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=True).stdout


def configuration(folder: Path, port: int, upstream_port: int) -> str:
    """The configuration of the document, with a certificate and a list of users for the test."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (block,) = re.findall(r"```nginx\n(.+?)```", text, re.S)
    (hashing,) = re.findall(r"openssl passwd [^`\n]+?(?=\)|`)", text)
    (folder / "users").write_text(f"anna:{run(*hashing.split(), '-stdin', folder=folder, text='s3cret')}")
    certificate = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", "key.pem", "-out", "certificate.pem"]
    run("openssl", *certificate.split(), *names, *files, folder=folder)
    changes = {
        "443": f"127.0.0.1:{port}",
        "dagster.example.org": "localhost",
        "/etc/ssl/dagster/fullchain.pem": f"{folder}/certificate.pem",
        "/etc/ssl/dagster/privkey.pem": f"{folder}/key.pem",
        "/etc/nginx/dagster.users": f"{folder}/users",
        "127.0.0.1:3000": f"127.0.0.1:{upstream_port}",
    }
    for old, new in changes.items():
        assert old in block, old
        block = block.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    http = f"http {{ access_log off; {temporary} {block} }}"
    return f"daemon off; pid {folder}/pid; error_log stderr; events {{}} {http}"


@pytest.fixture(scope="module")
def upstream() -> Iterator[int]:
    """The port of a server that echoes headers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), EchoHeaders)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


class Client:
    """Sends requests to the proxy and trusts its certificate."""

    def __init__(self, port: int, certificate: Path) -> None:
        self.url = f"https://localhost:{port}/"
        context = ssl.create_default_context(cafile=certificate)
        self.opener = build_opener(ProxyHandler({}), HTTPSHandler(context=context))

    def get(self, **headers: str) -> tuple[int, str]:
        """Status and body of the response; ``_`` in a header's name stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with self.opener.open(Request(self.url, headers=named), timeout=10) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, ""

    def wait_until_ready(self, process: subprocess.Popen) -> None:
        """Wait until the proxy responds."""
        end = time.monotonic() + 20
        while True:
            try:
                self.get()
                return
            except URLError:
                assert process.poll() is None and time.monotonic() < end, "the proxy does not start"
                time.sleep(0.1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, upstream: int) -> Iterator[Client]:
    """A client of a running proxy."""
    folder, port = tmp_path_factory.mktemp("proxy"), free_port()
    folder.chmod(0o755)
    (folder / "nginx.conf").write_text("user root; " + configuration(folder, port, upstream))
    process = subprocess.Popen(["nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"])
    client = Client(port, folder / "certificate.pem")
    try:
        client.wait_until_ready(process)
        yield client
    finally:
        process.terminate()
        process.wait(20)


def has_header(text: str, name: str, value: str = "") -> bool:
    return bool(re.search(rf"^{name}: {value}", text, re.IGNORECASE | re.MULTILINE))


def status(client: Client, **headers: str) -> int:
    return client.get(**LOGIN, **headers)[0]


def test_proxy_requires_the_password(client):
    wrong = {"Authorization": "Basic " + base64.b64encode(b"anna:guess").decode()}
    assert [client.get()[0], client.get(**wrong)[0], client.get(**LOGIN)[0]] == [401, 401, 200]


def test_proxy_rejects_pages_of_other_sites(client):
    """A browser sends the password with their requests, too."""
    for site in ("cross-site", "same-site"):
        assert status(client, Sec_Fetch_Site=site) == 403
    for origin in ("https://elsewhere.example", "null"):
        assert status(client, Origin=origin) == 403
    assert status(client, Origin="https://localhost") == 200
    for site in ("same-origin", "none"):
        assert status(client, Sec_Fetch_Site=site) == 200


def test_proxy_forwards_websockets_but_not_the_password(client):
    _, headers = client.get(**LOGIN, Upgrade="websocket", Connection="Upgrade")
    assert has_header(headers, "upgrade", "websocket") and has_header(headers, "connection", "upgrade")
    assert "authorization" not in headers.lower()
    _, headers = client.get(**LOGIN)
    assert not has_header(headers, "upgrade") and has_header(headers, "connection", "close")
