"""The page: self-contained, escaped, complete and honest."""

import base64
import dataclasses
import io
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from PIL import Image
from vdm_pipeline.stages.report.wording import number

from vdm_pipeline.io.tables import write_json
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.report.page import ran_on
from vdm_pipeline_tests.stages.report.conftest import HOSTILE, rendered
from vdm_pipeline_tests.stages.report.example import filled, leaves, without_values

PNG = "data:image/png;base64,"
SECTIONS = [
    "glance",
    "gallery",
    "images",
    "pairs",
    "copies",
    "utility",
    "labels",
    "doubts",
    "training",
    "lineage",
    "cost",
    "licences",
    "limits",
]


class Parsed(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_page_loads_nothing(page):
    parsed = Parsed(page)
    assert {tag for tag, _ in parsed.tags}.isdisjoint(
        {"script", "link", "iframe", "object", "base", "form", "svg", "video"}
    )
    for _, attributes in parsed.tags:
        assert not [
            name
            for name in attributes
            if name.startswith("on") or name in ("srcset", "action", "background", "poster")
        ]
        assert attributes.get("src", PNG).startswith(PNG)
        assert attributes.get("href", "#").startswith("#")
    policy = next(
        meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"
    )
    assert (
        policy
        == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in page and "@import" not in page


def test_every_picture_is_one(page):
    pictures = Parsed(page).all("img")
    assert len(pictures) > 40
    for picture in pictures:
        assert picture["alt"]
        Image.open(
            io.BytesIO(base64.b64decode(str(picture["src"]).removeprefix(PNG), validate=True))
        ).verify()


def test_every_figure_is_there(page):
    text = Parsed(page).text
    figures = [(key, leaf) for key, leaf in leaves(filled()) if not isinstance(leaf, str)]
    absent = [leaf for key, leaf in figures if (f"{leaf:.2g}" if key == "p" else number(leaf)) not in text]
    assert not absent
    assert "not measured" not in text.split("Image metrics")[2].split("Labels")[0]
    names = (
        "dpm25",
        "embeddings of the labeller, embedded:clip",
        "gen_001.png",
        "held_1",
        "da7a5e7510000000",
        "2-c0de",
        "0123456789ab",
    )
    assert all(name in text for name in names)


def test_markup_stays_text(run, tmp_path):
    metrics = filled(HOSTILE)
    metrics["judge"]["kind"] = metrics["feature_spaces"]["labeller"] = metrics["utility"]["classifier"] = (
        HOSTILE
    )
    write_json(run.image_metrics, metrics)
    write_json(run.label_metrics, {HOSTILE: {"accuracy": 0.5, "true_labels": HOSTILE}})
    write_json(run.faults, {"faults": {HOSTILE: {HOSTILE: 1}}, "classes": {HOSTILE: {HOSTILE: 1}}})
    write_json(
        run.summary,
        {
            "device": HOSTILE,
            "settings": {HOSTILE: HOSTILE},
            "seeds": {HOSTILE: 1},
            "versions": {HOSTILE: HOSTILE},
        },
    )
    profile = run.profile.model_copy(update={"name": HOSTILE})
    record = run.manifests["generated_images"].model_copy(
        update={"data_version": HOSTILE, "inputs": {HOSTILE: HOSTILE}}
    )
    page = rendered(dataclasses.replace(run, profile=profile, manifests={HOSTILE: record}), tmp_path)
    assert HOSTILE not in page and "<img src=x" not in page
    parsed = Parsed(page)
    assert parsed.text.count(HOSTILE) > 30
    assert all(
        str(picture["src"]).startswith(PNG) and "onerror" not in picture for picture in parsed.all("img")
    )


def test_first_line_says_of_what(run, page):
    parsed = Parsed(page)
    assert parsed.text.split("}\n")[-1].strip().startswith("Rendered phantoms – no patient data")
    data = {"size": 28, "source": "file"}
    assert ran_on(Data(dataset="pneumoniamnist", **data)) == "PneumoniaMNIST, real radiographs"
    assert ran_on(Data(dataset="pathmnist", **data)) == "pathmnist, real images"
    real = dataclasses.replace(
        run, profile=run.profile.model_copy(update={"data": Data(dataset="pneumoniamnist", **data)})
    )
    assert "no patient data" not in rendered(real, run.summary.parent)


def test_headings_are_in_order_and_links_lead_somewhere(page):
    parsed = Parsed(page)
    levels = [int(tag[1]) for tag, _ in parsed.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [heading["id"] for heading in parsed.all("h2")] == SECTIONS
    assert {str(link["href"]).removeprefix("#") for link in parsed.all("a")} == set(SECTIONS)
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert all(heading["scope"] for heading in parsed.all("th"))


@pytest.mark.parametrize("key", [*filled(), None])
def test_page_without_a_part_says_so(run, tmp_path, key):
    """Older metrics lack some keys; none but the table titles fail to say that."""
    write_json(run.image_metrics, {name: part for name, part in filled().items() if key and name != key})
    text = Parsed(rendered(run, tmp_path)).text
    assert key in ("profile", "fid_trusted_from", "extra") or text.count("not measured") > 3


def test_page_of_too_few_images(run, tmp_path):
    write_json(run.image_metrics, without_values(filled()))
    text = Parsed(rendered(run, tmp_path)).text
    assert text.count("not measured") > 200
    assert "Closer to real images not measured" in text


def test_page_of_next_to_nothing(run, tmp_path):
    for path in (run.image_metrics, run.label_metrics, run.summary, run.faults):
        write_json(path, {})
    bare = dataclasses.replace(run, manifests={}, image_plots=tmp_path, label_plots=tmp_path, lora=tmp_path)
    text = Parsed(rendered(bare, tmp_path)).text
    assert "Safe to share: not measured" in text and "Training curve: not measured" in text
    assert "Whether images copy training images is not measured." in text


def test_doubted_labels_and_faults(page):
    parsed = Parsed(page)
    assert sum(picture["alt"] == "doubted image" for picture in parsed.all("img")) == 2
    assert "nulllabelled normal, rather pneumonia" in parsed.text
    assert "val 135 normal, 389 pneumonia" in parsed.text
    assert "never in the subset" in parsed.text
