"""The real UI in a real browser, from the first click to the images."""

import json
import os
import shutil
import time
from urllib.parse import quote

import pytest

from vdm_pipeline.graph import STAGES
from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.browser import CHROMIUM, Page, browser
from vdm_pipeline_tests.postgres import URL_VARIABLE
from vdm_pipeline_tests.profiles import shrink, write_profile
from vdm_pipeline_tests.ui.server import Server, project, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM or not shutil.which("make"), reason="Chromium or make is not installed"),
]
HAS_ARROW = "button => button.querySelector('[aria-label=arrow_drop_down]')"
IMPOSSIBLE = {"min_adapter_change": 255.0}
"""A limit that no adapter reaches: the check fails."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    root = project(tmp_path_factory.mktemp("ui") / "project", shrink(load_profile("demo"), checks=IMPOSSIBLE))
    with serving(root, os.environ.get(URL_VARIABLE)) as running:
        yield running


@pytest.fixture(scope="module")
def page():
    with browser() as tab:
        yield tab


def show(page: Page, server: Server, path: str, name: str, text: str, height: int = 1000) -> None:
    """Open a page of the UI, wait for a text, and save a screenshot."""
    page.open(f"{server.url}{path}", 1600, height)
    page.wait(f"document.body.innerText.includes({json.dumps(text)})")
    time.sleep(1)
    page.screenshot(server.root / f"{name}.png")


def finish(page: Page, server: Server, seconds: float = 240) -> str:
    """Wait on the page of the newest run until it has ended; returns its status."""
    run = server.runs()[0]["runId"]
    show(page, server, f"/runs/{run}", f"run_{run[:8]}", "Executing")
    page.wait("/Success|Failure/.test(document.body.innerText)", seconds)
    return server.runs()[0]["status"]


def launch(page: Page, server: Server, click: list[str]) -> None:
    """Click buttons of the graph, and wait for a new run."""
    before = len(server.runs())
    page.open(f"{server.url}/asset-groups", 1600, 1000)
    for text in click:
        page.click(text)
    wait_for_run(server, before)


def press_unsynced(page: Page, server: Server, assets: int) -> None:
    """Choose 'Materialize unsynced' in the menu of the button, and confirm."""
    before = len(server.runs())
    page.open(f"{server.url}/asset-groups", 1600, 1000)
    page.wait("document.body.innerText.includes('Materialize all')")
    page.value(f"[...document.querySelectorAll('button')].filter({HAS_ARROW}).at(-1).click()")
    page.click("Materialize unsynced")
    page.click(f"Materialize {assets} assets")
    wait_for_run(server, before)


def wait_for_run(server: Server, before: int) -> None:
    """Wait until there are more runs than before."""
    end = time.monotonic() + 60
    while len(server.runs()) == before:
        assert time.monotonic() < end, "no run was started"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def materialized(server, page) -> None:
    """One click starts a run, whose page shows its log, and which succeeds."""
    launch(page, server, ["Materialize all"])
    run = server.runs()[0]["runId"]
    show(page, server, f"/runs/{run}", "in_progress", "image_embeddings: computing (not materialized yet)")
    assert finish(page, server) == "SUCCESS"


@pytest.mark.usefixtures("materialized")
def test_one_click_materializes_everything_and_the_run_shows_its_log(server):
    assert (server.root / "results/report/index.html").is_file()
    assert server.unsynced() == set()


def test_graph_shows_every_asset_in_its_group(server, page):
    groups = ("data", "labelling", "subset", "training", "generation", "evaluation", "report")
    expanded = ",".join(f"global@global:{group}" for group in groups)
    page.open(f"{server.url}/asset-groups?expanded={quote(expanded)}", 2600, 2400)
    for name in (*groups, *STAGES):
        page.wait(f"document.body.innerText.includes({json.dumps(name)})")
    time.sleep(2)
    page.screenshot(server.root / "graph.png")


@pytest.mark.usefixtures("materialized")
def test_page_of_an_asset_shows_its_images(server, page):
    show(
        page, server, "/assets/generated_images", "asset", "Stable Diffusion with LCM-LoRA and our LoRA", 1400
    )
    for fact in (
        "images_per_s",
        "peak_memory_mb",
        "seconds",
        str(server.root / "results/generated_images"),
        "Hugging Face",
    ):
        assert page.value(f"document.body.innerText.includes({json.dumps(fact)})"), fact
    page.click("[Show Markdown]")
    page.wait("document.querySelector('img[src^=\"data:image/png\"]')?.naturalWidth > 100")
    time.sleep(1)
    page.screenshot(server.root / "images.png")


@pytest.mark.usefixtures("materialized")
def test_failed_check_shows_the_reason(server, page):
    show(
        page,
        server,
        "/assets/image_metrics?view=checks&checkDetail=adapter_is_active",
        "check",
        "adapter_is_active",
    )
    page.wait("document.body.innerText.includes('grey levels')")
    assert page.value("document.body.innerText.includes('Failed')")


@pytest.mark.usefixtures("materialized")
def test_button_materializes_only_unsynced_assets(server, page):
    profile = shrink(load_profile("demo"), checks=IMPOSSIBLE, generation={"adapter_weight": 0.5})
    write_profile(server.root / "small.toml", profile)
    page.open(f"{server.url}/asset-groups", 1600, 1000)
    page.click("Reload definitions")
    end = time.monotonic() + 60
    while not server.unsynced():
        assert time.monotonic() < end, "the new profile was not loaded"
        time.sleep(0.5)
    assert server.unsynced() == {"generated_images", "pipeline_summary", "report"}
    baseline = server.root / "results/generated_images_no_fine_tuning/gen_000.png"
    created = baseline.stat().st_ctime_ns
    for count in (3, 3):  # the images, then the assets downstream
        press_unsynced(page, server, count)
        assert finish(page, server) == "SUCCESS"
    assert server.unsynced() == set()
    assert baseline.stat().st_ctime_ns == created


@pytest.mark.usefixtures("materialized")
def test_nothing_is_written_outside_the_project(server):
    assert not (server.root / "home/.dagster").exists()
