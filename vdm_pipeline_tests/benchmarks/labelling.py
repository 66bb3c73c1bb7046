"""How fast images are labelled: ``python -m vdm_pipeline_tests.benchmarks.labelling``.

Three ways over the same images and model, in turns on the same machine: ours from the archive on disk; the loop of the first
prototype (Pillow image by image, the texts encoded again for every batch of 32); and the bare forward pass of the image tower
on tensors that are ready. Then labels from new prompts on kept embeddings, against labels from images.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from vdm_pipeline.io.hashing import digest
from vdm_pipeline.settings import Data, Labelling, load_profile
from vdm_pipeline.stages.data.archive import Archive, read_archive
from vdm_pipeline.stages.data.npz import write_npz
from vdm_pipeline.stages.labelling.embeddings import embed_archive, read_embeddings
from vdm_pipeline.stages.labelling.labels import label_archive
from vdm_pipeline.stages.labelling.zero_shot import ZeroShot
from vdm_pipeline.stages.models.pins import resolve_model

CPU = torch.device("cpu")
BATCH = 32
"""Of every way alike; the prototype's."""
CLIP_TEXT = {"width": 512, "heads": 8, "layers": 12}
"""The text tower of CLIP's ViT-B models."""
PROMPTS = ["no evidence of pneumonia", "a chest X-ray showing pneumonia"]


def ours(labeller: ZeroShot, archive: Archive) -> None:
    """Embeddings of the whole archive, from the file into files."""
    with tempfile.TemporaryDirectory() as folder:
        embed_archive(
            archive, lambda images: labeller.embed(images, BATCH), Path(folder), lambda done, total: None
        )


@torch.inference_mode()
def prototypes(labeller: ZeroShot, archive: Archive) -> None:
    """Images are in memory, as the prototype had them."""
    import open_clip

    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(labeller.model)),
        is_train=False,
    )
    for split in archive.splits.values():
        for start in range(0, len(split), BATCH):
            pictures = [
                Image.fromarray(image).convert("RGB") for image in split.images[start : start + BATCH]
            ]
            pixels = torch.stack([transform(picture) for picture in pictures])
            text = labeller.model.encode_text(labeller.tokenizer(PROMPTS), normalize=True)
            (labeller.scale * labeller.model.encode_image(pixels, normalize=True) @ text.T).softmax(
                -1
            ).argmax(-1).tolist()


@torch.inference_mode()
def bare(labeller: ZeroShot, tensors: torch.Tensor) -> None:
    """Nothing but the image tower."""
    for start in range(0, len(tensors), BATCH):
        labeller.model.encode_image(tensors[start : start + BATCH], normalize=True)


def compare(name: str, labeller: ZeroShot, archive: Archive, rounds: int) -> None:
    """Print images a second and the ratios; the ways take turns, and the median round counts."""
    for split in archive.splits.values():
        _ = split.images
    tensors = labeller.preprocess(np.concatenate([split.images for split in archive.splits.values()]))
    ways: dict[str, Callable[[], None]] = {
        "ours": lambda: ours(labeller, archive),
        "prototype's loop": lambda: prototypes(labeller, archive),
        "bare forward pass": lambda: bare(labeller, tensors),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in tqdm(range(rounds), desc=name, disable=None):
        for way, run in ways.items():
            begun = time.perf_counter()
            run()
            seconds[way].append(time.perf_counter() - begun)
    median = {way: statistics.median(values) for way, values in seconds.items()}
    print(f"{name}, {archive.n} images of {archive.size} px, median of {rounds} rounds")
    for way, value in median.items():
        print(f"  {way:18} {archive.n / value:8.1f} images/s")
    for way in list(ways)[1:]:
        print(f"  ours is {statistics.median(np.divide(seconds[way], seconds['ours'])):.2f} x the {way}")


def relabel(labeller: ZeroShot, archive: Archive, labelling: Labelling, names: tuple[str, ...]) -> None:
    """Print seconds of labels from images and of labels from kept embeddings, model loaded."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder)

        def label() -> None:
            text = labeller.encode_prompts(labelling.prompts)
            label_archive(
                archive, lambda split: read_embeddings(kept, split), text, labeller.scale, labelling, names
            )

        begun = time.perf_counter()
        embed_archive(archive, lambda images: labeller.embed(images, BATCH), kept, lambda done, total: None)
        label()
        from_images = time.perf_counter() - begun
        again = []
        for _ in range(9):
            begun = time.perf_counter()
            label()
            again.append(time.perf_counter() - begun)
    kept_s = statistics.median(again)
    print(
        f"labels of {archive.n} images: {from_images:.2f} s from images, {kept_s:.3f} s from embeddings, {from_images / kept_s:.0f} x"
    )


def noise(n: int, size: int, folder: Path) -> Archive:
    """An archive of ``n`` grey images on disk; what they show costs nothing."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray] = {}
    for split, count in (("train", n - 2 * (n // 8)), ("val", n // 8), ("test", n // 8)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, size, size), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    path = folder / f"noise_{size}.npz"
    write_npz(path, arrays)
    own = {"channels": 1, "sha256": digest(path, "sha256"), "licence": "none"}
    return read_archive(
        path,
        Data.model_validate({"dataset": "noise", "size": size, "source": "file", "own": own}),
        ("a", "b"),
    )


def random_model(folder: Path, vision: dict[str, int], text: dict[str, int]) -> ZeroShot:
    """A model with random weights, in a new folder; ``text`` is what its text tower has other than the embedded model's."""
    import open_clip
    from safetensors.torch import save_file

    clip = resolve_model(load_profile("demo").labelling.model)
    folder.mkdir()
    config = json.loads((clip / "open_clip_config.json").read_text())
    config["model_cfg"] = {
        "embed_dim": 512,
        "vision_cfg": vision,
        "text_cfg": {**config["model_cfg"]["text_cfg"], **text},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).symlink_to(clip / name)
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**config["model_cfg"])
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    return ZeroShot(folder, CPU)


def main() -> None:
    """The embedded model on archives of its own size and of 28 pixels; BiomedCLIP's image tower; one that costs next to nothing."""
    labelling = load_profile("demo").labelling
    small = ZeroShot(resolve_model(labelling.model), CPU)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare("embedded model", small, noise(4096, 64, folder), rounds=7)
        films = noise(5856, 28, folder)
        compare("embedded model", small, films, rounds=5)
        relabel(small, films, labelling, ("a", "b"))
        large = random_model(
            folder / "large", {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}, CLIP_TEXT
        )
        compare("ViT-B/16 of random weights", large, noise(64, 64, folder), rounds=7)
        least = random_model(
            folder / "least", {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16}, {}
        )
        compare("two layers of random weights", least, noise(4096, 64, folder), rounds=7)


if __name__ == "__main__":
    main()
