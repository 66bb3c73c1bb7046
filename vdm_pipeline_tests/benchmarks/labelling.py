"""Speed of labelling: ``python -m vdm_pipeline_tests.benchmarks.labelling``.

Three candidates label the same images with the same model and alternate on the same machine: ours from the
archive on disk; the loop of the first prototype (Pillow image by image, the prompts encoded again for every
batch of 32); and the forward pass of only the image tower on prepared tensors. Then labels for new prompts
from stored embeddings are compared with labels from images.
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
"""The prototype's batch size, used by all."""
CLIP_TEXT = {"width": 512, "heads": 8, "layers": 12}
"""Text tower of CLIP's ViT-B models."""
PROMPTS = ["no evidence of pneumonia", "a chest X-ray showing pneumonia"]


def ours(labeller: ZeroShot, archive: Archive) -> None:
    """Embed the whole archive, from its file into files."""
    with tempfile.TemporaryDirectory() as folder:
        embed_archive(
            archive, lambda images: labeller.embed(images, BATCH), Path(folder), lambda done, total: None
        )


@torch.inference_mode()
def prototype(labeller: ZeroShot, archive: Archive) -> None:
    """The loop of the first prototype, with the images in memory."""
    import open_clip

    model = labeller.model
    config = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
    transform = open_clip.transform.image_transform_v2(config, is_train=False)
    for split in archive.splits.values():
        for start in range(0, len(split), BATCH):
            batch = split.images[start : start + BATCH]
            pixels = torch.stack([transform(Image.fromarray(image).convert("RGB")) for image in batch])
            text = model.encode_text(labeller.tokenizer(PROMPTS), normalize=True)
            logits = labeller.scale * model.encode_image(pixels, normalize=True) @ text.T
            logits.softmax(-1).argmax(-1).tolist()


@torch.inference_mode()
def bare(labeller: ZeroShot, tensors: torch.Tensor) -> None:
    """Only the image tower."""
    for start in range(0, len(tensors), BATCH):
        labeller.model.encode_image(tensors[start : start + BATCH], normalize=True)


def compare(name: str, labeller: ZeroShot, archive: Archive, rounds: int) -> None:
    """Print images per second and ratios: medians of rounds in which the candidates alternate."""
    for split in archive.splits.values():
        _ = split.images
    tensors = labeller.preprocess(np.concatenate([split.images for split in archive.splits.values()]))
    candidates: dict[str, Callable[[], None]] = {
        "ours": lambda: ours(labeller, archive),
        "prototype's loop": lambda: prototype(labeller, archive),
        "bare forward pass": lambda: bare(labeller, tensors),
    }
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in tqdm(range(rounds), desc=name, disable=None):
        for candidate, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[candidate].append(time.perf_counter() - start)
    median = {candidate: statistics.median(values) for candidate, values in seconds.items()}
    print(f"{name}, {archive.n} images of {archive.size} px, median of {rounds} rounds")
    for candidate, value in median.items():
        print(f"  {candidate:18} {archive.n / value:8.1f} images/s")
    for candidate in list(candidates)[1:]:
        ratio = statistics.median(np.divide(seconds[candidate], seconds["ours"]))
        print(f"  ours is {ratio:.2f} x the {candidate}")


def relabel(labeller: ZeroShot, archive: Archive, labelling: Labelling, names: tuple[str, ...]) -> None:
    """Print seconds of labelling from images and from stored embeddings, with the model loaded."""
    with tempfile.TemporaryDirectory() as folder:
        embeddings = Path(folder)

        def label() -> None:
            text = labeller.encode_prompts(labelling.prompts)
            label_archive(
                archive,
                lambda split: read_embeddings(embeddings, split),
                text,
                labeller.scale,
                labelling,
                names,
            )

        start = time.perf_counter()
        embed_archive(
            archive, lambda images: labeller.embed(images, BATCH), embeddings, lambda done, total: None
        )
        label()
        from_images = time.perf_counter() - start
        again = []
        for _ in range(9):
            start = time.perf_counter()
            label()
            again.append(time.perf_counter() - start)
    from_embeddings = statistics.median(again)
    print(f"labels of {archive.n} images: {from_images:.2f} s from images", end=", ")
    print(f"{from_embeddings:.3f} s from embeddings, {from_images / from_embeddings:.0f} x")


def noise(n: int, size: int, folder: Path) -> Archive:
    """An archive of ``n`` grey images of noise on disk."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray] = {}
    for split, count in (("train", n - 2 * (n // 8)), ("val", n // 8), ("test", n // 8)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, size, size), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2).astype(np.uint8)[:, None]
    path = folder / f"noise_{size}.npz"
    write_npz(path, arrays)
    own = {"channels": 1, "sha256": digest(path, "sha256"), "licence": "none"}
    data = Data.model_validate({"dataset": "noise", "size": size, "source": "file", "own": own})
    return read_archive(path, data, ("a", "b"))


def random_model(folder: Path, vision: dict[str, int], text: dict[str, int]) -> ZeroShot:
    """A model with random weights in a new folder; ``text`` overrides the embedded model's text tower."""
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
    """Compare with the embedded model, BiomedCLIP's image tower, and a very small model."""
    labelling = load_profile("demo").labelling
    small = ZeroShot(resolve_model(labelling.model), CPU)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare("embedded model", small, noise(4096, 64, folder), rounds=7)
        archive = noise(5856, 28, folder)
        compare("embedded model", small, archive, rounds=5)
        relabel(small, archive, labelling, ("a", "b"))
        vit_b = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16}
        large = random_model(folder / "large", vit_b, CLIP_TEXT)
        compare("ViT-B/16 of random weights", large, noise(64, 64, folder), rounds=7)
        two_layers = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16}
        least = random_model(folder / "least", two_layers, {})
        compare("two layers of random weights", least, noise(4096, 64, folder), rounds=7)


if __name__ == "__main__":
    main()
