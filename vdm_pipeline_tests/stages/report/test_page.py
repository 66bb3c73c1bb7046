"""The page: self-contained, escaped, complete, and honest about missing metrics."""

import base64
import dataclasses
import io
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from PIL import Image

from vdm_pipeline.io.tables import write_json
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.report.formatting import number
from vdm_pipeline.stages.report.page import data_title
from vdm_pipeline_tests.stages.report.conftest import HOSTILE, rendered
from vdm_pipeline_tests.stages.report.example import image_metrics, leaves, without_values

PNG = "data:image/png;base64,"
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LOADING_TAGS = {"script", "link", "iframe", "object", "base", "form", "svg", "video"}
LOADING_ATTRIBUTES = {"srcset", "action", "background", "poster"}
SECTIONS = [
    "glance",
    "gallery",
    "images",
    "pairs",
    "copies",
    "utility",
    "labels",
    "quality",
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
    assert {tag for tag, _ in parsed.tags}.isdisjoint(LOADING_TAGS)
    for _, attributes in parsed.tags:
        assert not LOADING_ATTRIBUTES & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", PNG).startswith(PNG)
        assert attributes.get("href", "#").startswith("#")
    policies = [meta for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert [meta["content"] for meta in policies] == [POLICY]
    assert "url(" not in page and "@import" not in page


def test_every_picture_is_a_valid_png(page):
    pictures = Parsed(page).all("img")
    assert len(pictures) > 40
    for picture in pictures:
        assert picture["alt"]
        content = base64.b64decode(str(picture["src"]).removeprefix(PNG), validate=True)
        Image.open(io.BytesIO(content)).verify()


def test_every_figure_is_on_the_page(page):
    text = Parsed(page).text
    figures = [(key, leaf) for key, leaf in leaves(image_metrics()) if not isinstance(leaf, str)]
    formats = {"p": "{:.2g}".format, "sensitivity": "{:.0%}".format, "false_alarm_rate": "{:.1%}".format}
    missing = [leaf for key, leaf in figures if formats.get(key, number)(leaf) not in text]
    assert not missing
    assert "not measured" not in text.split("Image metrics")[2].split("Labels")[0]
    names = (
        "dpm25",
        "embeddings of the labeller, embedded:clip",
        "gen_001.png",
        "held_1",
        "pixels abc",
        "2-c0de",
        "raw_npz.labels 12345678abcdef00",
    )
    assert all(name in text for name in names)


def test_markup_stays_text(inputs, tmp_path):
    metrics = image_metrics(HOSTILE)
    metrics["judge"]["kind"] = metrics["utility"]["classifier"] = HOSTILE
    metrics["feature_spaces"]["labeller"] = HOSTILE
    write_json(inputs.image_metrics, metrics)
    write_json(inputs.label_metrics, {HOSTILE: {"accuracy": 0.5, "true_labels": HOSTILE}})
    write_json(inputs.faults, {"faults": {HOSTILE: {HOSTILE: 1}}, "classes": {HOSTILE: {HOSTILE: 1}}})
    summary = {"settings": {HOSTILE: HOSTILE}, "seeds": {HOSTILE: 1}, "versions": {HOSTILE: HOSTILE}}
    write_json(inputs.summary, {"device": HOSTILE, **summary})
    profile = inputs.profile.model_copy(update={"name": HOSTILE})
    changes = {"versions": {HOSTILE: HOSTILE}, "inputs": {HOSTILE: HOSTILE}}
    manifest = inputs.manifests["generated_images"].model_copy(update=changes)
    hostile = dataclasses.replace(inputs, profile=profile, manifests={HOSTILE: manifest})
    page = rendered(hostile, tmp_path)
    assert HOSTILE not in page and "<img src=x" not in page
    parsed = Parsed(page)
    assert parsed.text.count(HOSTILE) > 30
    for picture in parsed.all("img"):
        assert str(picture["src"]).startswith(PNG)
        assert "onerror" not in picture


def test_first_words_name_the_data(inputs, page):
    assert Parsed(page).text.split("}\n")[-1].strip().startswith("Rendered phantoms (no patient data)")
    source = {"size": 28, "source": "file"}
    assert data_title(Data(dataset="pneumoniamnist", **source)) == "PneumoniaMNIST (real radiographs)"
    assert data_title(Data(dataset="pathmnist", **source)) == "pathmnist (real images)"
    profile = inputs.profile.model_copy(update={"data": Data(dataset="pneumoniamnist", **source)})
    real = dataclasses.replace(inputs, profile=profile)
    assert "no patient data" not in rendered(real, inputs.summary.parent)


def test_headings_are_in_order_and_links_have_targets(page):
    parsed = Parsed(page)
    levels = [int(tag[1]) for tag, _ in parsed.tags if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert [heading["id"] for heading in parsed.all("h2")] == SECTIONS
    assert {str(link["href"]).removeprefix("#") for link in parsed.all("a")} == set(SECTIONS)
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert all(heading["scope"] for heading in parsed.all("th"))


@pytest.mark.parametrize("key", [*image_metrics(), None])
def test_missing_metrics_are_named(inputs, tmp_path, key):
    """Older metric files lack some keys. A few keys have no text of their own."""
    metrics = {name: part for name, part in image_metrics().items() if key and name != key}
    write_json(inputs.image_metrics, metrics)
    text = Parsed(rendered(inputs, tmp_path)).text
    assert key in ("fid_trusted_from", "extra") or text.count("not measured") > 3


def test_page_for_too_few_images(inputs, tmp_path):
    write_json(inputs.image_metrics, without_values(image_metrics()))
    text = Parsed(rendered(inputs, tmp_path)).text
    assert text.count("not measured") > 200
    assert "Realism vs. baseline not measured" in text


def test_page_without_any_metrics(inputs, tmp_path):
    for path in (inputs.image_metrics, inputs.label_metrics, inputs.summary, inputs.faults):
        write_json(path, {})
    no_plots = {"image_plots": tmp_path, "label_plots": tmp_path, "lora": tmp_path}
    text = Parsed(rendered(dataclasses.replace(inputs, manifests={}, **no_plots), tmp_path)).text
    assert "Copies of training images not measured" in text
    assert "Training curve: not measured" in text
    assert "Whether images copy training images is not measured." in text


def test_suspect_labels_and_faults(page):
    parsed = Parsed(page)
    alternatives = [picture["alt"] for picture in parsed.all("img")]
    assert "image null, label normal, suggested pneumonia" in alternatives
    assert f"image {HOSTILE}, label {HOSTILE}, suggested normal" in alternatives
    assert f"training image: {HOSTILE}" in alternatives
    assert "nulllabel normal, suggested pneumonia" in parsed.text
    assert "val 135 normal, 389 pneumonia" in parsed.text
    assert "never in the subset" in parsed.text
