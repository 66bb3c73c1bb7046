"""Sections that change nothing that is made from the images: automation, checks, execution."""

from typing import Annotated, Literal

from pydantic import Field

from vdm_pipeline.settings.base import Count, FolderUrl, GpuShare, RayAddress, Section, Share, Text


class Automation(Section):
    """When the daemon works by itself; it changes no result, so it is part of no fingerprint."""

    relabel_cron: Text = Field(
        "0 3 * * 1",
        description="when the re-labelling schedule ticks, five cron fields or a name such as @daily, UTC",
    )


class Checks(Section):
    """Limits of the asset checks; they stop a run or let it pass. Summary and report show them."""

    max_class_share: Share = Field(0.95, description="no class may be given to a larger share of the images")
    max_ece: Share = Field(0.15, description="largest expected calibration error of the labels on test")
    min_purity: Share = Field(
        0.7, description="least share of subset images whose caption is that of the true label"
    )
    max_chroma: Annotated[float, Field(ge=0, le=255)] = Field(
        8.0,
        description="largest mean spread between the channels of a generated image before it is made grey, grey levels",
    )
    min_adapter_change: Annotated[float, Field(ge=0, le=255)] = Field(
        1.0,
        description="least mean difference between an image and that of the same seed without our adapter, grey levels",
    )
    max_copied: Share = Field(
        0.02,
        description="largest share of an arm's images that may lie as near to training images as copies do, to be safe to share",
    )


class Cluster(Section):
    """Workers on a Ray cluster, whose machines share the project folder, the models' folder and the installed packages."""

    address: RayAddress | None = Field(
        None,
        description="where the cluster answers: auto, host:port or ray://host:port; none: one on this machine alone",
    )
    workers: Count = Field(2, description="workers, each with the models loaded")
    cpus: Annotated[float, Field(ge=0.01, le=1024)] = Field(
        1.0, description="cores a worker, which are its threads"
    )
    gpus: GpuShare = Field(0.0, description="GPUs a worker; one, or a share where several fit one card")


class Execution(Section):
    """How, not what: none of these changes a result beyond float tolerance, so none is part of a fingerprint."""

    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="auto: CUDA where there is one, else Apple's MPS, else the CPU"
    )
    label_batch_size: Count = Field(64, description="images a forward pass of the labeller")
    generation_batch_size: Count = Field(32, description="images that are generated at a time")
    checkpoint_every: Count = Field(100, description="training steps between checkpoints")
    log_every: Count = Field(50, description="training steps between log lines")
    validate_every: Annotated[int, Field(ge=0)] = Field(
        100, description="training steps between validation losses; 0: at the end alone"
    )
    sample_every: Annotated[int, Field(ge=0)] = Field(
        0, description="training steps between sample sheets; 0: at the end alone"
    )
    micro_batch_size: Count | None = Field(
        None, description="training images a forward pass; the rest of a step's batch is accumulated"
    )
    gradient_checkpointing: bool = Field(False, description="training: less memory for a third more work")
    compile: bool = Field(
        False,
        description="torch.compile the UNet that trains and draws; minutes at the start, faster steps on CUDA",
    )
    num_processes: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="processes that train and draw, started by accelerate; one a GPU"
    )
    engine: Literal["local", "ray"] = Field(
        "local",
        description="where images are labelled and drawn: in this process and `processes`, or on the workers of `ray`",
    )
    ray: Cluster = Cluster()
    archive_mirror: FolderUrl | None = Field(
        None,
        description="ask <this>/<name>.npz for MedMNIST's archive instead of MedMNIST's own server; its MD5 stays what is asked for",
    )
    tracker: Literal["none", "tensorboard"] = Field(
        "none", description="where training figures go beside training_log.csv"
    )

    def intervals(self) -> dict[str, int]:
        """Training steps between each thing that is done now and then; 0: only at the end."""
        return {
            "log": self.log_every,
            "checkpoint": self.checkpoint_every,
            "validate": self.validate_every,
            "sample": self.sample_every,
        }
