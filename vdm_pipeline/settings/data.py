"""Sections of the data: the archive, its classes, and what counts as a faulty image."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from vdm_pipeline.settings.base import Count, Name, Section, Seed, Sha256, Share, Text

MEDMNIST_IN_COLOUR = ("bloodmnist", "dermamnist", "pathmnist", "retinamnist")
"""Data sets of MedMNIST whose images have three channels; a test compares them with its table."""


class OwnArchive(Section):
    """An archive in MedMNIST's format that MedMNIST does not list, so the profile describes it."""

    channels: Literal[1, 3] = Field(
        description="1: grey images [n, size, size]; 3: colour images [n, size, size, 3]"
    )
    sha256: Sha256 = Field(description="of the file, as sha256sum prints it")
    licence: Text = Field(description="licence of the images, shown in the report")


class Data(Section):
    """`raw_npz`: which archive, and its source."""

    dataset: Name = Field(
        description="MedMNIST flag such as 'pneumoniamnist', or 'phantom', or the name of your own archive"
    )
    size: Literal[28, 32, 64, 128, 224] = Field(description="side of the archive's images, pixels")
    source: Literal["file", "download", "phantom"] = Field(
        description="file: data/<name>.npz must exist; download: from MedMNIST, checked by its MD5; "
        "phantom: rendered here"
    )
    own: OwnArchive | None = Field(
        None, description="describes an archive that MedMNIST does not list; needs source = file"
    )
    train: Count = Field(2000, description="phantom only: images in train")
    val: Count = Field(400, description="phantom only: images in val")
    test: Count = Field(400, description="phantom only: images in test")
    pneumonia_share: Share = Field(0.5, description="phantom only: share of images with pneumonia")
    seed: Seed = Field(0, description="phantom only: seed of the patients")

    @model_validator(mode="after")
    def _phantom_by_name(self) -> Self:
        if (self.dataset == "phantom") != (self.source == "phantom"):
            raise ValueError('dataset = "phantom" and source = "phantom" go together; set both or neither')
        return self

    @model_validator(mode="after")
    def _own_is_a_file(self) -> Self:
        if self.own and self.source != "file":
            raise ValueError(
                f'own describes a file in data/, but source is "{self.source}"; set source = "file"'
            )
        return self

    @property
    def in_colour(self) -> bool:
        """Whether the archive's images have three channels."""
        return self.own.channels == 3 if self.own else self.dataset in MEDMNIST_IN_COLOUR

    @property
    def file_name(self) -> str:
        """Name of the archive in ``data/``. As MedMNIST does, 28 pixels have no suffix."""
        suffix = "" if self.size == 28 and self.source != "phantom" else f"_{self.size}"
        return f"{self.dataset}{suffix}.npz"


class Classes(Section):
    """Names and captions of the classes; position i belongs to label i everywhere."""

    names: tuple[Name, ...] = Field(
        min_length=2, description="one name per class, in label order; table columns are p_<name>"
    )
    phrases: tuple[Text, ...] = Field(description="the words of each class in a caption, in label order")
    template: Text = Field(description="caption and generation prompt; {phrase} is replaced")

    @field_validator("names")
    @classmethod
    def _different_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError("class names must differ")
        if "overall" in names:
            raise ValueError("a class cannot be called 'overall': the metrics use that name; choose another")
        return names

    @model_validator(mode="after")
    def _one_phrase_a_class(self) -> Self:
        if len(self.phrases) != len(self.names):
            raise ValueError(
                f"{len(self.names)} names but {len(self.phrases)} phrases; give one phrase per class"
            )
        if len(set(self.phrases)) != len(self.phrases):
            raise ValueError("phrases must differ, or the classes share one caption")
        if "{phrase}" not in self.template:
            raise ValueError("template must contain {phrase}")
        return self

    def caption(self, label: int) -> str:
        """The caption of a class, for training and for generation."""
        return self.template.replace("{phrase}", self.phrases[label])


class Faults(Section):
    """`data_faults`: what counts as a faulty image."""

    near_duplicate_cosine: Share = Field(
        0.9, description="images are near duplicates if their whitened embeddings have at least this cosine"
    )
    blank_std: Annotated[float, Field(ge=0)] = Field(
        4.0, description="images whose grey levels have a smaller standard deviation are blank"
    )
    saturated_share: Share = Field(
        0.6, description="images with at least this share of pixels at 0 or 255 are saturated"
    )
