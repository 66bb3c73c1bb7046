"""The real UI in a real browser, from the first click to the images."""

import json
import os
import shutil
import time
from urllib.parse import quote

import pytest

from vdm_pipeline.graph import STAGES, lineage, materialize_clicks
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


def click_last(page: Page, text: str) -> None:
    """Click the last button or link with this text: the asset's Lineage tab, not the menu's Lineage page."""
    found = (
        "[...document.querySelectorAll('button, a')]"
        f".filter(b => b.innerText.trim() == {json.dumps(text)} && !b.disabled)"
    )
    page.wait(f"{found}.length > {int(text == 'Lineage')}")
    page.value(f"{found}.at(-1).click()")


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
    description = "Stable Diffusion with LCM-LoRA and the trained LoRA"
    show(page, server, "/assets/generated_images", "asset", description, 1400)
    for fact in (
        "images_per_s",
        "peak_memory_mb",
        "seconds",
        str(server.root / "results/generated_images"),
        "Hugging Face",
    ):
        assert page.value(f"document.body.innerText.includes({json.dumps(fact)})"), fact
    shown = (
        "[...document.querySelectorAll('img[src^=\"data:image/webp\"]')].filter(i => i.naturalWidth > 100)"
    )
    page.wait(f"{shown}.length == 2", 10)  # without a click: four images of each class
    page.click("[Show Markdown]")
    page.wait(f"{shown}.length == 3")
    time.sleep(1)
    page.screenshot(server.root / "images.png")


@pytest.mark.usefixtures("materialized")
@pytest.mark.parametrize(("asset", "pictures"), [("label_metrics", 4), ("lora_weights", 1)])
def test_page_of_an_asset_shows_its_plots_without_a_click(server, page, asset, pictures):
    show(page, server, f"/assets/{asset}", asset, "peak_memory_mb", 1400)
    page.wait(f"document.querySelectorAll('img[src^=\"data:image/webp\"]').length == {pictures}", 10)


@pytest.mark.usefixtures("materialized")
@pytest.mark.parametrize("asset", ["raw_npz", "lora_subset", "lora_weights"])
def test_clicks_of_an_error_message_select_the_asset_and_its_ancestors(server, page, asset):
    """The messages name the UI's own labels. The run itself finds everything up to date."""
    before = len(server.runs())
    page.open(f"{server.url}/assets/{asset}", 1600, 1000)
    for text in materialize_clicks(asset)[1:]:
        click_last(page, text)
    wait_for_run(server, before)
    selected = {key["path"][0] for key in server.runs()[0]["assetSelection"]}
    assert selected == lineage(asset)
    assert finish(page, server) == "SUCCESS"


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
def test_after_an_edit_the_tick_tells_to_reload(server, page):
    """The label of the button, and the page that has it, are the UI's."""
    write_profile(server.root / "small.toml", shrink(load_profile("demo"), subset={"per_class": 9}))
    query = "mutation($s: SensorSelector!) { sensorDryRun(selectorData: $s, cursor: null) { %s } }"
    fields = "... on DryRunInstigationTick { evaluationResult { skipReason } }"
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "vdm_pipeline.definitions",
        "sensorName": "rematerialize_on_change",
    }
    reason = server.query(query % fields, s=selector)["sensorDryRun"]["evaluationResult"]["skipReason"]
    assert "press 'Reload definitions' on the Lineage page" in reason
    page.open(server.url, 1600, 1000)
    page.click("Lineage")
    page.click("Reload definitions")


@pytest.mark.usefixtures("materialized")
def test_blocking_check_shows_its_sentence_on_the_run_page(server, page):
    strict = shrink(load_profile("demo"), checks={"max_class_share": 0.01})
    write_profile(server.root / "small.toml", strict)
    page.open(f"{server.url}/assets/labeled_dataset", 1600, 1000)
    before = len(server.runs())
    page.click("Materialize")
    wait_for_run(server, before)
    assert finish(page, server) == "FAILURE"
    run = server.runs()[0]["runId"]
    show(
        page,
        server,
        f"/runs/{run}",
        "blocked",
        "Check labels_predict_every_class of labeled_dataset failed: ",
    )


@pytest.mark.usefixtures("materialized")
def test_nothing_is_written_outside_the_project(server):
    assert list((server.root / "home").glob("*")) == []
    assert not (server.root / "logs").exists() and not list(server.root.glob(".tmp_*"))
