"""The profile decides how many processes run and how they compute, whatever the shell says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest

from vdm_pipeline.io.tensors import LORA_WEIGHTS
from vdm_pipeline.stages.runtime.environment import is_launcher_variable, launchers_hidden
from vdm_pipeline.stages.runtime.launcher import launch_workers
from vdm_pipeline_tests.stages.training.jobs import make_job, trained

SHELLS = {
    "torchrun": {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "10.255.255.1"},
    "Open MPI": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
    "MPICH": {"PMI_SIZE": "4", "PMI_RANK": "2", "PMI_LOCAL_RANK": "2"},
    "accelerate": {
        "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_TORCH_DEVICE": "meta",
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_OFFLOAD_PARAMS": "true",
    },
    "transformers": {"USE_TF": "1", "USE_TORCH": "0"},
}
"""Environment variables that each breaks a training, or changes it."""
HARMLESS = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_ENABLE_PARALLEL_LOADING": "yes",
    "HF_HUB_OFFLINE": "1",
    "PYTHONOPTIMIZE": "1",
    "PYTHONWARNINGS": "error",
    "SLURM_LOCALID": "3",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "3",
    "TORCH_COMPILE_DISABLE": "1",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    "TORCH_HOME": "/nonexistent",
    "TRANSFORMERS_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Environment variables that need no care: the libraries may obey them."""

SCRIPT = """
import sys
from vdm_pipeline.stages.training.launch import run_training
from vdm_pipeline.stages.training.job import Job
run_training(Job.model_validate_json(open(sys.argv[1]).read()), print)
"""


def run_job(tiny, root: Path, variables: dict[str, str]) -> bytes:
    """Train in a process with ``variables``, and return the adapter's bytes."""
    root.mkdir(exist_ok=True)
    job = make_job(tiny, root)
    (root / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-c", SCRIPT, str(root / "job.json")]
    environment = os.environ | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return (job.out / LORA_WEIGHTS).read_bytes()


@pytest.mark.slow
def test_training_ignores_the_variables_of_launchers_and_libraries(tiny, tmp_path):
    variables = {name: value for shell in SHELLS.values() for name, value in shell.items()} | HARMLESS
    (tmp_path / "plain").mkdir()
    assert run_job(tiny, tmp_path / "other", variables) == trained(tiny, tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("shell", SHELLS)
def test_variables_are_hidden_and_restored(shell, monkeypatch):
    for name, value in SHELLS[shell].items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyboardInterrupt), launchers_hidden():
        assert not SHELLS[shell].keys() & os.environ.keys()
        raise KeyboardInterrupt
    assert SHELLS[shell].items() <= os.environ.items()


def test_other_variables_stay():
    with launchers_hidden():
        assert "PATH" in os.environ
    for name in (
        "HF_TOKEN",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "RAY_ADDRESS",
        "VDM_PROFILE",
        "WORLD",
    ):
        assert not is_launcher_variable(name)


def test_every_variable_of_accelerates_state_is_hidden():
    source = (Path(accelerate.__file__).parent / "state.py").read_text()
    read = set(re.findall(r"""["']([A-Z][A-Z0-9]+(?:_[A-Z0-9]+)+|RANK)["']""", source))
    constants = {"MULTI_CPU", "MULTI_GPU", "FULL_STATE_DICT", "SHARDED_STATE_DICT", "CUDA_HOME"}
    names = {name for name in read if f'environ.get("{name}"' in source or f'from_env("{name}"' in source}
    assert {"LOCAL_RANK", "ACCELERATE_TORCH_DEVICE"} <= names
    assert sorted(name for name in names - constants if not is_launcher_variable(name)) == []


def test_launched_workers_do_not_see_them(tmp_path, monkeypatch):
    script = tmp_path / "shows_environment.py"
    script.write_text(
        "import os\nprint('seen', os.environ['WORLD_SIZE'], 'PMI_SIZE' in os.environ, flush=True)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    for name, value in (SHELLS["torchrun"] | SHELLS["MPICH"]).items():
        monkeypatch.setenv(name, value)
    lines: list[str] = []
    launch_workers("shows_environment", tmp_path / "job.json", 2, lines.append)
    assert [line for line in lines if line.startswith("seen")] == ["seen 2 False"] * 2
