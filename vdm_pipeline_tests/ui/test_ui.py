"""The real UI in a real browser: what a user sees from the first click to the pictures."""

import json
import os
import shutil
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from vdm_pipeline.graph import STAGES
from vdm_pipeline.settings import load_profile
from vdm_pipeline_tests.browser import CHROMIUM, Page, browser
from vdm_pipeline_tests.conftest import shrink, write_profile
from vdm_pipeline_tests.postgres import URL_VARIABLE
from vdm_pipeline_tests.ui.server import Server, project, serving

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM or not shutil.which("make"), reason="no Chromium or no make is installed"
    ),
]
IMPOSSIBLE = {"min_adapter_change": 255.0}
"""A limit that no adapter reaches, so that a check fails."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    root = project(tmp_path_factory.mktemp("ui") / "project", shrink(load_profile("demo"), checks=IMPOSSIBLE))
    with serving(root, os.environ.get(URL_VARIABLE)) as running:
        yield running


@pytest.fixture(scope="module")
def page():
    with browser() as tab:
        yield tab


def show(page: Page, server: Server, path: str, name: str, seen: str, height: int = 1000) -> None:
    """Open a page of the UI, wait for what is to be seen there, and keep a picture of it."""
    page.open(f"{server.url}{path}", 1600, height)
    page.wait(f"document.body.innerText.includes({json.dumps(seen)})")
    time.sleep(1)
    page.picture(server.root / f"{name}.png")


def finish(page: Page, server: Server, seconds: float = 240) -> str:
    """The newest run's status once it has ended, as its page shows it."""
    run = server.runs()[0]["runId"]
    show(page, server, f"/runs/{run}", f"run_{run[:8]}", "Executing")
    page.wait("/Success|Failure/.test(document.body.innerText)", seconds)
    return server.runs()[0]["status"]


def launch(page: Page, server: Server, click: list[str]) -> None:
    """Press buttons of the graph until a run is there."""
    before = len(server.runs())
    page.open(f"{server.url}/asset-groups", 1600, 1000)
    for text in click:
        page.click(text)
    wait_for_run(server, before)


def press_unsynced(page: Page, server: Server, assets: int) -> None:
    """Choose 'Materialize unsynced' from the menu beside the button, and agree."""
    before = len(server.runs())
    page.open(f"{server.url}/asset-groups", 1600, 1000)
    page.wait("document.body.innerText.includes('Materialize all')")
    page.value(
        "[...document.querySelectorAll('button')].filter(b => b.querySelector('[aria-label=arrow_drop_down]')).at(-1).click()"
    )
    page.click("Materialize unsynced")
    page.click(f"Materialize {assets} assets")
    wait_for_run(server, before)


def wait_for_run(server: Server, before: int) -> None:
    """Until there is one more run than before."""
    end = time.monotonic() + 60
    while len(server.runs()) == before:
        assert time.monotonic() < end, "no run was started"
        time.sleep(0.5)


def test_everything_is_made_by_one_click_and_the_run_shows_its_log(server, page):
    launch(page, server, ["Materialize all"])
    run = server.runs()[0]["runId"]
    show(page, server, f"/runs/{run}", "in_progress", "image_embeddings: computing (never made)")
    assert finish(page, server) == "SUCCESS"
    assert (server.root / "results/report/index.html").is_file()
    assert server.unsynced() == set()


def test_the_graph_has_every_asset_in_its_group(server, page):
    groups = ("data", "labelling", "subset", "training", "generation", "evaluation", "report")
    unfolded = ",".join(f"global@global:{group}" for group in groups)
    page.open(f"{server.url}/asset-groups?expanded={quote(unfolded)}", 2600, 2400)
    for name in (*groups, *STAGES):
        page.wait(f"document.body.innerText.includes({json.dumps(name)})")
    time.sleep(2)
    page.picture(server.root / "graph.png")


def test_an_assets_page_shows_its_images(server, page):
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
    page.picture(server.root / "images.png")


def test_a_check_that_fails_says_why(server, page):
    show(
        page,
        server,
        "/assets/image_metrics?view=checks&checkDetail=adapter_is_active",
        "check",
        "adapter_is_active",
    )
    page.wait("document.body.innerText.includes('grey levels')")
    assert page.value("document.body.innerText.includes('Failed')")


@pytest.mark.slow
def test_what_is_unsynced_is_made_by_the_button_and_nothing_else(server, page):
    profile = shrink(load_profile("demo"), checks=IMPOSSIBLE, generation={"adapter_weight": 0.5})
    write_profile(server.root / "small.toml", profile)
    page.open(f"{server.url}/asset-groups", 1600, 1000)
    page.click("Reload definitions")
    end = time.monotonic() + 60
    while not server.unsynced():
        assert time.monotonic() < end, "the new profile is not seen"
        time.sleep(0.5)
    assert server.unsynced() == {"generated_images", "pipeline_summary", "report"}
    drawn = Path(server.root / "results/generated_images_no_fine_tuning/gen_000.png").stat().st_ctime_ns
    for left in (3, 3):  # the images; then what depends on them
        press_unsynced(page, server, left)
        assert finish(page, server) == "SUCCESS"
    assert server.unsynced() == set()
    assert (
        Path(server.root / "results/generated_images_no_fine_tuning/gen_000.png").stat().st_ctime_ns == drawn
    )


def test_nothing_is_kept_outside_the_project(server, page):
    assert not (server.root / "home/.dagster").exists()
