"""A dagster.yaml that needs a module which is not installed: one sentence from each command."""

from pathlib import Path

import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.instance_modules import check_instance_modules
from vdm_pipeline_tests.entry_points.process import files, run

COMMANDS = [
    "dagster asset materialize --select raw_npz",
    "dagster dev",
    "dagster instance info",
    "dagster run list",
    "dagster-daemon run",
    "dagster-webserver",
    "dg dev",
    "dg launch --assets raw_npz",
]
LAUNCHER = "run_launcher: {module: my_launchers.cloud, class: Cloud}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_module_is_one_sentence(command, root, home):
    settings = root / "dagster.yaml"
    settings.write_text(f"{settings.read_text()}\n{LAUNCHER}\n")
    before = files(root)
    code, output = run(command, root, home)
    error = f"{settings} needs my_launchers, which is not installed; install it, or correct the file."
    assert output == f"Error: {error}\n"
    assert code == 2 and files(root) == before and files(home) == set()


def test_the_settings_of_an_own_home_are_checked_too(root, home):
    (home / "dagster.yaml").write_text(LAUNCHER)
    code, output = run("dagster run list", root, home, DAGSTER_HOME=str(home))
    assert (code, output.startswith(f"Error: {home}/dagster.yaml needs my_launchers, ")) == (2, True), output


@pytest.mark.parametrize(
    ("text", "package"),
    [
        ("storage: {mysql: {mysql_url: {env: URL}}}", "dagster_mysql"),
        ("storage: {custom: {module: my_storage, class: S}}", "my_storage"),
        ("secrets: {custom: {module: my_secrets.vault, class: V}}", "my_secrets"),
        ("compute_logs: {module: dagster_my_cloud.logs, class: L}", "dagster_my_cloud"),
    ],
)
def test_every_section_that_may_name_a_module_is_read(text, package, tmp_path):
    (tmp_path / "dagster.yaml").write_text(text)
    with pytest.raises(PipelineError, match=f"dagster.yaml needs {package}, which is not installed; "):
        check_instance_modules(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", "storage:", "storage: {sqlite: {base_dir: a}}", "nux: {module: 5}"]
)
def test_other_settings_are_left_to_dagster(text, tmp_path):
    (tmp_path / "dagster.yaml").write_text(text)
    check_instance_modules(tmp_path)


def test_installed_modules_and_those_beside_the_settings_are_accepted(tmp_path: Path):
    (tmp_path / "my_launchers.py").touch()
    (tmp_path / "dagster.yaml").write_text(f"{LAUNCHER}\ncompute_logs: {{module: dagster._core.x, class: X}}")
    check_instance_modules(tmp_path)
    check_instance_modules(tmp_path / "nowhere")
