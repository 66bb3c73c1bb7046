"""What must hold of an archive before it is seen: told by MedMNIST's table, by the phantom's settings, or by the profile.

`medmnist` gives names, tasks, counts, URLs and MD5s. It is imported where it is used: it loads torch and makes a folder
in the home directory. Its Dataset classes are not used; they check nothing of a file that is already there.
"""

from typing import NamedTuple

from vdm_pipeline.errors import ArchiveError
from vdm_pipeline.settings import Data
from vdm_pipeline.stages.data.npz import MAX_BYTES
from vdm_pipeline.stages.data.phantom.series import SPLITS

SINGLE_LABEL = ("binary-class", "multi-class", "ordinal-regression")


class Facts(NamedTuple):
    """``counts`` are images a split, and ``md5`` and ``url`` MedMNIST's; empty where nobody has published them."""

    channels: int
    classes: tuple[str, ...]
    counts: dict[str, int]
    licence: str
    url: str = ""
    md5: str = ""


def facts_of(data: Data) -> Facts:
    """Raises `ArchiveError` for what the pipeline cannot work with; ``classes`` are empty for an archive of the profile's own."""
    if data.own:
        return Facts(data.own.channels, (), {}, data.own.licence)
    facts = _phantom(data) if data.source == "phantom" else _medmnist(data)
    needed = sum(facts.counts.values()) * data.size**2 * facts.channels
    if needed > MAX_BYTES:
        raise ArchiveError(
            f"data.size = {data.size} makes {data.dataset} {needed / 2**30:.1f} GiB in memory, more than the "
            f"{MAX_BYTES / 2**30:.0f} GiB allowed; set a smaller data.size."
        )
    return facts


def _phantom(data: Data) -> Facts:
    counts = {split: getattr(data, split) for split in SPLITS}
    return Facts(1, ("normal", "pneumonia"), counts, "MIT (rendered by this package)")


def _medmnist(data: Data) -> Facts:
    import medmnist

    usable = sorted(
        flag
        for flag, info in medmnist.INFO.items()
        if info["task"] in SINGLE_LABEL and not flag.endswith("3d")
    )
    info = medmnist.INFO.get(data.dataset)
    if info is None:
        raise ArchiveError(
            f"data.dataset = '{data.dataset}' is no MedMNIST data set; set one of {', '.join(usable)}, or phantom, "
            "or describe your own archive under data.own."
        )
    if data.dataset not in usable:
        kind = "three-dimensional" if data.dataset.endswith("3d") else f"of the task {info['task']}"
        raise ArchiveError(
            f"data.dataset = '{data.dataset}' is {kind}, and the pipeline works on 2-D images with one label each; "
            f"set one of {', '.join(usable)}."
        )
    suffix = "" if data.size == 28 else f"_{data.size}"
    if f"MD5{suffix}" not in info:
        raise ArchiveError(
            f"data.size = {data.size} is not a size that MedMNIST has {data.dataset} in; set 28, 64, 128 or 224."
        )
    classes = tuple(info["label"][str(label)] for label in range(len(info["label"])))
    return Facts(
        info["n_channels"],
        classes,
        dict(info["n_samples"]),
        str(info["license"]),
        info[f"url{suffix}"],
        info[f"MD5{suffix}"],
    )
