"""The services of the compose file as containers of podman."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vdm_pipeline_tests.services.compose import DOCKER

# catatonit is for `init: true`. runc replaces crun 1.8, which does not start where cgroups of both
# versions are mounted.
PROGRAMS = ("buildah", "catatonit", "debootstrap", "podman", "runc")
LIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096")
"""Podman's own may exceed those of this machine."""


def podman(*words: str | Path, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command of podman."""
    command = ["podman", "--runtime=runc", *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert not check or result.returncode == 0, f"{command}: {result.stderr[-3000:]}"
    return result


def start(
    name: str, image: str, service: Mapping[str, Any], folders: Mapping[str, Path], **environment: str
) -> None:
    """Start a service with the options of the compose file, except that it shares this machine's network.

    Args:
        name: Of the container.
        image: Name of the image.
        service: The service as the compose file describes it.
        folders: The folder to mount instead of one of the file, by its path in the file.
        environment: Replaces variables of the file.
    """
    options = [*_confinement(service), "--network=host", "--init"]
    for volume in service["volumes"]:
        source, target = volume.split(":")
        options.append(f"--volume={folders[source]}:{target}")
    variables = service["environment"] | environment
    options += [f"--env={key}={value}" for key, value in variables.items()]
    if "healthcheck" in service:
        options.append(f"--health-cmd={' '.join(service['healthcheck']['test'][1:])}")
    podman("run", "--detach", f"--name={name}", *options, image, *service["command"])


def _confinement(service: Mapping[str, Any]) -> Sequence[str]:
    assert service["init"] and service["read_only"], "start() passes these two as they are"
    return [
        "--read-only",
        "--read-only-tmpfs=false",  # podman adds temporary folders of its own; Docker does not
        f"--user={service['user']}",
        f"--shm-size={service.get('shm_size', '64mb')}",
        *LIMITS,
        *(f"--tmpfs={path}" for path in service["tmpfs"]),
        *(f"--cap-drop={capability}" for capability in service["cap_drop"]),
        *(f"--security-opt={option.removesuffix(':true')}" for option in service["security_opt"]),
    ]


def build(name: str) -> str:
    """Build the image with the project's script; returns its full name."""
    result = subprocess.run([DOCKER / "build_offline.sh", name], capture_output=True, text=True, timeout=3600)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return f"localhost/{name}"
