"""The image is built; webserver and daemon run from it as in the compose file, and complete a run."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.postgres import database
from vdm_pipeline_tests.profiles import shrink, write_profile
from vdm_pipeline_tests.services import containers
from vdm_pipeline_tests.services.compose import compose
from vdm_pipeline_tests.services.containers import podman
from vdm_pipeline_tests.services.test_services import JOB, LAUNCH
from vdm_pipeline_tests.ui.server import Server

MISSING = [
    name for name in containers.PROGRAMS if shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin") is None
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can build the image"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]
LIMIT_BYTES = 6.5e9  # torch's build for CUDA takes 4.4e9 of it
UI = "http://127.0.0.1:3000"  # the health check of the image asks there
PIP = "find /etc/xdg/pip /etc/pip.conf -type f"
APT = "cat /etc/apt/auth.conf.d/* /etc/apt/sources.list /etc/apt/sources.list.d/*"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    name = containers.build(f"vdm_pipeline_test:{os.getpid()}")
    yield name
    podman("rmi", "--force", name)


def inside(image: str, command: str) -> str:
    """What a shell command prints in a container that has no network."""
    words = ["run", "--rm", "--network=none", *containers.LIMITS, image, "sh", "-c"]
    return podman(*words, f"({command}) 2>/dev/null; true").stdout


def test_image_is_small(image):
    assert int(podman("image", "inspect", "--format={{.Size}}", image).stdout) < LIMIT_BYTES


def test_image_contains_nothing_of_the_machine_that_built_it(image):
    assert inside(image, PIP) == ""
    assert inside(image, APT) == "", "the mirror of the machine that built the image"
    assert not re.search("PIP_|PASSWORD|PROXY", inside(image, "env"), re.IGNORECASE)


def test_image_contains_no_build_tool_and_no_cache(image):
    assert inside(image, "command -v gcc make pip curl; find /var/lib/apt/lists -type f; id -u") == "1000\n"


class Containers:
    """Webserver and daemon in a project folder that belongs to their user."""

    def __init__(self, root: Path, image: str, url: str):
        self.root = root
        services = compose(DAGSTER_POSTGRES_PASSWORD="unused", VDM_PROFILE="data/small.toml")["services"]
        self.names = {name: f"vdm_test_{os.getpid()}_{name}" for name in ("webserver", "daemon")}
        folders = {f"../{name}": root / name for name in ("data", "results")}
        for service, name in self.names.items():
            containers.start(name, image, services[service], folders, DAGSTER_POSTGRES_URL=url)

    def is_healthy(self, service: str) -> bool:
        """Whether the health check of the image, or that of the compose file, passes."""
        return podman("healthcheck", "run", self.names[service], check=False).returncode == 0

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"{what}: not after {timeout_s} s; {self.logs()}"
            time.sleep(1)

    def logs(self) -> str:
        results = [podman("logs", "--tail=30", name, check=False) for name in self.names.values()]
        return "\n".join(result.stdout + result.stderr for result in results)


@pytest.fixture
def running(image, postgres, tmp_path) -> Iterator[Containers]:
    with pytest.raises(URLError):
        urlopen(UI, timeout=5)  # another server would answer for the container
    for name in ("data", "results"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, 1000, 1000)
    write_profile(tmp_path / "data/small.toml", shrink(load_profile("demo")))
    with ExitStack() as stack:
        url = stack.enter_context(database(postgres))
        for name in ("webserver", "daemon"):
            stack.callback(podman, "rm", "--force", "--ignore", f"vdm_test_{os.getpid()}_{name}")
        yield Containers(tmp_path, image, url.render_as_string(hide_password=False))


def test_services_of_the_image_are_healthy_and_complete_a_run(running):
    for service in ("webserver", "daemon"):
        running.wait_until(lambda name=service: running.is_healthy(name), f"{service} is healthy", 180)
    server = Server(running.root, UI)
    launched = server.query(LAUNCH, p={"selector": JOB, "mode": "default", "runConfigData": {}})["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    running.wait_until(lambda: server.runs()[0]["status"] in ("SUCCESS", "FAILURE"), "the run ends", 1200)
    assert server.runs()[0]["status"] == "SUCCESS", running.logs()

    report = running.root / "results/report/index.html"
    assert report.stat().st_uid == 1000 and "phantom" in report.read_text(encoding="utf-8")
    again = ["dagster", "asset", "materialize", "-m", "vdm_pipeline.definitions", "--select", "*report"]
    result = podman("exec", running.names["daemon"], *again)
    assert "up to date" in result.stdout + result.stderr
    for name in running.names.values():
        changed = {line.split()[1] for line in podman("diff", name).stdout.splitlines()}
        assert not [path for path in changed if path.startswith(("/srv/vdm_pipeline/.venv", "/usr", "/root"))]
