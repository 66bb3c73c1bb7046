"""Names and permissions of project folders: Dagster's database works there, or one sentence says why not."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import dagster as dg
import pytest

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.incremental.project_folder import check_instance_folder
from vdm_pipeline_tests.entry_points.process import files, run
from vdm_pipeline_tests.paths import ROOT, make_project
from vdm_pipeline_tests.profiles import write_profile

ALL_AT_ONCE = """-a b#c%d'e"f&g=h;i:j@k]l{m}$HOME é 日本 100%"""
GOOD = ["a b", "a#b", "a%b", "a%2", "a'b", 'a"b', "a&b=c", "a:b@c", "é 日本", ALL_AT_ONCE]
BAD = ["a*b", "a[b]", "a?b", "a%20b", "a%2Fb", "%41"]


def database_is_usable(folder: Path) -> bool:
    """Whether Dagster can run a job with its instance in the folder, and read the run again from there."""

    @dg.job
    def empty(): ...

    with dg.DagsterInstance.from_config(str(folder)) as instance:
        run_id = empty.execute_in_process(instance=instance).run_id
        events = len(list(instance.all_logs(run_id)))
    return events > 1 and (folder / f"results/.dagster/history/runs/{run_id}.db").is_file()


def is_accepted(folder: Path) -> bool:
    """Whether our check accepts the folder. It must not write anything."""
    before = files(folder)
    try:
        check_instance_folder(folder)
    except PipelineError as error:
        assert "project folder" in str(error)
        return False
    finally:
        assert files(folder) == before
    return True


@pytest.mark.parametrize("name", [*GOOD, *BAD])
def test_a_name_is_rejected_exactly_if_the_database_fails_there(name, tmp_path, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(ROOT / "dagster.yaml", folder)
    (tmp_path / "axb").mkdir()
    (tmp_path / "axb/dagster.yaml").write_text("of_another_project: true\n")
    monkeypatch.chdir(folder)
    assert is_accepted(folder) == (name in GOOD)
    usable = False
    with suppress(Exception):
        usable = database_is_usable(folder)
    assert usable == (name in GOOD)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_path_is_rejected_exactly_if_it_is_too_long(excess, tmp_path, monkeypatch):
    length = 434 + excess
    folder = tmp_path
    while (missing := length - len(str(folder)) - 1) > 0:
        folder = folder / ("x" * (missing if missing < 150 else 100))
    assert len(str(folder)) == length
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "dagster.yaml", folder)
    monkeypatch.chdir(folder)
    assert is_accepted(folder) == (excess == 0)
    usable = False
    with suppress(Exception):
        usable = database_is_usable(folder)
    assert usable == (excess == 0)


@pytest.mark.parametrize(
    "command", ["dagster instance info", "dagster-daemon run", "dg launch --assets raw_npz"]
)
@pytest.mark.parametrize("name", ["a%20b", "a?b", "a[b]"])
def test_commands_reject_a_bad_name_before_anything_is_written(command, name, tmp_path, home):
    (tmp_path / name).mkdir()
    root = make_project(tmp_path / name)
    before = files(tmp_path)
    code, output = run(command, root, home)
    assert code == 2 and output.startswith(f"Error: The path of the project folder {root} has '"), output
    assert output.count("\n") == 1 and files(tmp_path) == before


def test_an_asset_is_materialized_under_a_strange_name(tmp_path, home, tiny):
    (tmp_path / ALL_AT_ONCE / "data").mkdir(parents=True)
    root = make_project(tmp_path / ALL_AT_ONCE)
    write_profile(root / "small.toml", tiny)
    code, output = run("dg launch --assets raw_npz", root, home, VDM_PROFILE="small.toml")
    assert code == 0, output[-2000:]
    assert (root / "results/.manifests/raw_npz.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {ALL_AT_ONCE, "home"}


@pytest.fixture
def guarded():
    """A project folder that belongs to this user, in a place that everybody can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "project/data").mkdir(parents=True)
        yield make_project(Path(name) / "project")


def without_permission(command: str, root: Path, home: Path, **variables: str) -> tuple[int, str]:
    """Run while the project folder belongs to somebody else, and root has no right to ignore that."""
    if os.geteuid() != 0:
        for folder in (root / "results", root):
            if folder.exists():
                folder.chmod(0o555)
        return run(command, root, home, **variables)
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv, or a user who is not root")
    for folder, _, names in os.walk(root):
        for name in (".", *names):
            os.chown(Path(folder, name), 65534, 65534, follow_symlinks=False)
    rights = "-dac_override,-dac_read_search"
    prefix = ("setpriv", "--bounding-set", rights, "--inh-caps", rights)
    return run(command, root, home, prefix=prefix, **variables)


@pytest.mark.parametrize("command", ["dagster asset materialize --select x", "dg dev", "dagster run list"])
@pytest.mark.parametrize("results", [False, True])
def test_folder_without_write_permission_is_rejected(command, results, guarded, home):
    if results:
        (guarded / "results/.dagster/history").mkdir(parents=True)
    code, output = without_permission(command, guarded, home)
    place = guarded / "results/.dagster" if results else guarded
    hint = "make it writable, or run dg with DAGSTER_HOME and VDM_ROOT set to writable folders."
    assert (code, output) == (2, f"Error: {place} is not writable; {hint}\n")


def test_database_of_another_user_is_rejected(guarded, home):
    (guarded / "results/.dagster/history").mkdir(parents=True)
    for folder in (guarded / "results/.dagster/history", guarded / "results/.dagster"):
        folder.chmod(0o777)
    (guarded / "results/.dagster/history/runs.db").touch(0o444)
    code, output = without_permission("dagster run list", guarded, home)
    assert code == 2 and f"{guarded}/results/.dagster/history/runs.db is not writable" in output


def test_the_hint_helps(guarded, home, tiny, open_folder):
    """A folder of somebody else, with an instance and results of one's own."""
    profile = write_profile(open_folder / "small.toml", tiny)
    for name in ("instance", "project/data"):
        (open_folder / name).mkdir(parents=True)
    for path in (open_folder, *open_folder.rglob("*")):
        path.chmod(0o777)
    own = {"DAGSTER_HOME": f"{open_folder}/instance", "VDM_ROOT": f"{open_folder}/project"}
    code, output = without_permission(
        "dg launch --assets raw_npz", guarded, home, VDM_PROFILE=str(profile), **own
    )
    assert code == 0, output[-2000:]
    assert (open_folder / "project/results/.manifests/raw_npz.json").is_file()
    assert (open_folder / "instance/history/runs.db").is_file()


def test_obstacles_are_rejected(tmp_path):
    (make_project(tmp_path) / "results").write_text("mine")
    with pytest.raises(PipelineError, match=r"results: Not a directory; another file"):
        check_instance_folder(tmp_path)
    (tmp_path / "results").unlink()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/.dagster").symlink_to("/no/where")
    with pytest.raises(PipelineError, match=r"results/.dagster is not writable"):
        check_instance_folder(tmp_path)


def test_instance_may_be_a_link_to_another_disk(tmp_path):
    """SQLite does not work on some network file systems."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "project/results").mkdir(parents=True)
    (tmp_path / "project/results/.dagster").symlink_to(tmp_path / "disk")
    check_instance_folder(make_project(tmp_path / "project"))
