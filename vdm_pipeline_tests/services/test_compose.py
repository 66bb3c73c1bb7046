"""The compose files are valid, pinned, not reachable from other machines, and fit the Dockerfile."""

import subprocess
import sys
from pathlib import Path

import pytest

from vdm_pipeline_tests.services.compose import DOCKER, MissingVariable, compose

SECRET = "a/b@c:d$"
"""A password with characters that a URL cannot contain."""


@pytest.fixture
def services() -> dict:
    return compose(DAGSTER_POSTGRES_PASSWORD=SECRET)["services"]


def test_files_fit_the_schema_of_compose():
    files = sorted(DOCKER.glob("compose*.yaml"))
    assert [file.name for file in files] == ["compose.gpu.yaml", "compose.yaml"]
    command = [
        str(Path(sys.executable).with_name("check-jsonschema")),
        "--builtin-schema",
        "vendor.compose-spec",
    ]
    result = subprocess.run([*command, *files], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_password_is_required_and_not_shipped():
    with pytest.raises(MissingVariable, match=r"DAGSTER_POSTGRES_PASSWORD: set it in docker/\.env"):
        compose()
    text = (DOCKER / "compose.yaml").read_text()
    assert text.count("${DAGSTER_POSTGRES_PASSWORD") == 2
    assert text.count("${DAGSTER_POSTGRES_PASSWORD:?set it in docker/.env}") == 2
    assert "DAGSTER_POSTGRES_PASSWORD=\n" in (DOCKER / "env.example").read_text()
    assert "/docker/.env" in (DOCKER.parent / ".gitignore").read_text().split()


def test_services_are_webserver_daemon_and_database(services):
    assert set(services) == {"webserver", "daemon", "postgres"}
    for name in ("webserver", "daemon"):
        assert services[name]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
        assert services[name]["environment"]["PGPASSWORD"] == SECRET
        assert SECRET not in services[name]["environment"]["DAGSTER_POSTGRES_URL"]
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == SECRET


def test_the_image_can_be_built_without_cuda():
    index = {"DAGSTER_POSTGRES_PASSWORD": SECRET, "PIP_EXTRA_INDEX_URL": "https://example.org/cpu"}
    for name in ("webserver", "daemon"):
        assert compose(**index)["services"][name]["build"]["args"] == {
            "PIP_EXTRA_INDEX_URL": "https://example.org/cpu"
        }
    assert "\nARG PIP_EXTRA_INDEX_URL\n" in (DOCKER / "Dockerfile").read_text()


def test_only_the_ui_is_published_and_only_on_this_machine(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {"webserver": ["127.0.0.1:3000:3000"]}
    assert compose(DAGSTER_POSTGRES_PASSWORD=SECRET)["networks"]["database"] == {"internal": True}
    assert services["postgres"]["networks"] == ["database"]


@pytest.mark.parametrize("name", ["webserver", "daemon", "postgres"])
def test_every_service_is_confined_and_restarts(services, name):
    service = services[name]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["restart"] == "unless-stopped"
    assert service["user"].split(":")[0] not in ("root", "0")


def test_every_service_has_a_health_check(services):
    assert "HEALTHCHECK" in (DOCKER / "Dockerfile").read_text()  # the webserver's is the image's
    for name in ("daemon", "postgres"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"


def test_volumes_are_in_the_project_folder(services):
    for name in ("webserver", "daemon"):
        volumes = dict(volume.split(":") for volume in services[name]["volumes"])
        assert volumes == {"../data": "/srv/vdm_pipeline/data", "../results": "/srv/vdm_pipeline/results"}
        assert all((DOCKER / folder).is_dir() for folder in volumes)


def test_database_is_pinned(services):
    name, digest = services["postgres"]["image"].split("@sha256:")
    assert name.startswith("postgres:")
    assert len(digest) == 64 and int(digest, 16)


def test_gpu_is_optional_and_for_the_service_that_starts_runs(services):
    assert not any("deploy" in service for service in services.values())
    extra = compose("compose.gpu.yaml")["services"]
    assert set(extra) == {"daemon"}
    (device,) = extra["daemon"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
