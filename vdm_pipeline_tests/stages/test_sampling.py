"""Generation: one plan, an image that depends on its seed alone, adapters that must act, going on after a kill."""

import json
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import torch
from diffusers import LCMScheduler, StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from vdm_pipeline.assets.images import _arm
from vdm_pipeline.errors import ModelError, PipelineError
from vdm_pipeline.io.store import Store
from vdm_pipeline.io.tables import read_rows
from vdm_pipeline.resources import Run
from vdm_pipeline.settings import Profile
from vdm_pipeline.stages import sampling
from vdm_pipeline.stages.diffusion import hushed_libraries
from vdm_pipeline.stages.models import EMBEDDED
from vdm_pipeline.stages.sampling import Adapter, generate, load_pipeline, plan, to_uint8

BASE, CPU = EMBEDDED / "sd", torch.device("cpu")
LCM = Adapter("lcm", EMBEDDED / "lcm_lora", 1.0)


def draw(profile, folder: Path, batch: int = 4, shots=None, adapters=(LCM,)) -> list[dict]:
    folder.mkdir(exist_ok=True)
    return generate(
        base=BASE,
        adapters=list(adapters),
        shots=shots or plan(profile.classes, profile.generation),
        generation=profile.generation,
        size=64,
        folder=folder,
        base_model="embedded:sd",
        device=CPU,
        dtype=torch.float32,
        batch=batch,
        progress=lambda done, total: None,
    )


def generating(profile: Profile, **changes) -> Profile:
    return profile.model_copy(update={"generation": profile.generation.model_copy(update=changes)})


def pixels(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path), dtype=int) for path in sorted(folder.glob("gen_*.png"))]


def test_plan_is_balanced_and_seeds_follow_the_index(tiny):
    shots = plan(tiny.classes, tiny.generation)
    assert [shot.label for shot in shots] == ["normal"] * 3 + ["pneumonia"] * 3
    assert [shot.seed - tiny.generation.seed for shot in shots] == list(range(6))
    assert {shot.prompt for shot in shots[:3]} == {tiny.classes.caption(0)}


@pytest.mark.parametrize(("guidance", "weights"), [(1.0, (1.0, 0.5)), (4.0, (1.0, 0.5)), (1.0, (0.4, 1.5))])
def test_image_is_that_of_plain_diffusers(tiny, tmp_path, guidance, weights):
    profile = generating(tiny, guidance_scale=guidance, grey=False, per_class=1)
    draw(profile, tmp_path / "ours", adapters=[Adapter("lcm", LCM.path, weights[0]), Adapter("lora", LCM.path, weights[1])])
    with hushed_libraries():
        pipe = StableDiffusionPipeline.from_pretrained(BASE, dtype=torch.float32)
        for name in ("lcm", "lora"):
            pipe.load_lora_weights(LCM.path, adapter_name=name)
    pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    pipe.set_adapters(["lcm", "lora"], list(weights))
    for shot, ours in zip(plan(profile.classes, profile.generation), pixels(tmp_path / "ours"), strict=True):
        generator = torch.Generator().manual_seed(shot.seed)
        image = pipe(shot.prompt, num_inference_steps=2, guidance_scale=guidance, height=64, width=64, generator=generator).images[0]
        assert np.abs(np.asarray(image, dtype=int) - ours).max() <= 1


def test_arm_mixes_the_adapters_with_the_weights_of_the_profile(tiny, tmp_path):
    profile = generating(tiny, lcm_weight=0.75, adapter_weight=0.5, per_class=1)
    _arm(dg.build_asset_context(), Run(profile, Store(tmp_path)), tmp_path / "arm", LCM.path)
    rows = draw(profile, tmp_path / "own", adapters=[Adapter("lcm", LCM.path, 0.75), Adapter("lora", LCM.path, 0.5)])
    assert read_rows(tmp_path / "arm/metadata.jsonl") == rows
    assert all(np.array_equal(a, b) for a, b in zip(pixels(tmp_path / "arm"), pixels(tmp_path / "own"), strict=True))


def test_colour_is_kept_where_grey_is_not_asked_for(tiny, tmp_path):
    draw(generating(tiny, grey=False), tmp_path / "colour")
    rows = draw(generating(tiny, grey=True), tmp_path / "grey")
    colour, grey = pixels(tmp_path / "colour"), pixels(tmp_path / "grey")
    assert {image.shape for image in colour} == {(64, 64, 3)}
    assert all(np.array_equal(np.round(a.mean(2)), b) for a, b in zip(colour, grey, strict=True))
    spread = [(image.max(2) - image.min(2)).mean() for image in colour]
    assert [row["chroma"] for row in rows] == pytest.approx(spread, abs=1e-3)
    assert min(spread) > 0


def test_image_does_not_depend_on_batch_or_neighbours(tiny, tmp_path):
    draw(tiny, tmp_path / "four", batch=4)
    draw(tiny, tmp_path / "five", batch=5)
    last = plan(tiny.classes, tiny.generation)[-1:]
    draw(tiny, tmp_path / "alone", batch=1, shots=last)
    assert all(np.abs(a - b).max() <= 1 for a, b in zip(pixels(tmp_path / "four"), pixels(tmp_path / "five"), strict=True))
    assert np.abs(pixels(tmp_path / "four")[-1] - pixels(tmp_path / "alone")[0]).max() <= 1


def test_same_call_gives_the_same_bytes_and_seeds_differ(tiny, tmp_path):
    draw(tiny, tmp_path / "a")
    draw(tiny, tmp_path / "b")
    for path in (tmp_path / "a").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    first, second = pixels(tmp_path / "a")[:2]
    assert np.abs(first - second).max() > 10


def test_provenance_stands_in_the_png_and_in_the_table(tiny, tmp_path):
    rows = draw(tiny, tmp_path / "x")
    assert read_rows(tmp_path / "x/metadata.jsonl") == rows
    with Image.open(tmp_path / "x/gen_000.png") as image:
        assert image.mode == "L"
        assert json.loads(image.text["parameters"]) == rows[0]
    keys = {"file_name", "label", "prompt", "seed", "steps", "guidance_scale", "adapters", "base_model", "lora_sha256", "chroma"}
    assert set(rows[0]) == keys
    assert rows[0]["adapters"] == {"lcm": 1.0}


def test_interrupted_generation_makes_the_missing_images_alone(tiny, tmp_path, monkeypatch):
    folder = tmp_path / "x"
    draw(tiny, folder)
    whole = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    (folder / "gen_004.png").unlink()
    written: list[str] = []
    real = sampling.write_png
    monkeypatch.setattr(sampling, "write_png", lambda path, *a: (written.append(path.name), real(path, *a)))
    assert len(draw(tiny, folder)) == 6
    assert written == ["gen_004.png"]
    assert {path.name: path.read_bytes() for path in folder.glob("*.png")} == whole


def test_adapter_that_changes_nothing_is_an_error(tmp_path):
    idle = {key: value * 0 if "lora_B" in key else value for key, value in load_file(LCM.path / sampling.WEIGHTS).items()}
    save_file(idle, tmp_path / sampling.WEIGHTS)
    with pytest.raises(ModelError, match=r"'lora' .* is not active"):
        load_pipeline(BASE, [LCM, Adapter("lora", tmp_path, 1.0)], CPU, torch.float32)


def test_both_adapters_act(tmp_path):
    pipe = load_pipeline(BASE, [LCM, Adapter("lora", LCM.path, 0.5)], CPU, torch.float32)
    assert set(pipe.get_active_adapters()) == {"lcm", "lora"}
    layer = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q
    assert layer.scaling["lora"] == pytest.approx(layer.scaling["lcm"] / 2)


def test_image_that_is_not_finite_is_named(tiny):
    shots = plan(tiny.classes, tiny.generation)[:2]
    images = np.zeros((2, 4, 4, 3), np.float32)
    images[1, 0, 0, 0] = np.nan
    with pytest.raises(PipelineError, match=r"gen_001.png .* not finite"):
        to_uint8(images, shots)
