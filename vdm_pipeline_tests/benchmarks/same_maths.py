"""Our losses and those of diffusers' script: ``python -m vdm_pipeline_tests.benchmarks.same_maths SCRIPT``.

SCRIPT is ``train_text_to_image_lora.py``. A copy of it gets our initial adapter and, at every step, our
images, posterior noise, diffusion noise and timesteps. One bug of the script that affects losses is fixed: it
clips the gradients of an iterator that is exhausted. It encodes images and text with its own code. Everything
else is unchanged, and the losses of its steps are compared with ours. It needs the package datasets.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from safetensors.torch import save_file

from vdm_pipeline.settings import load_profile
from vdm_pipeline.stages.models.pins import EMBEDDED
from vdm_pipeline.stages.training.randomness import sample_step
from vdm_pipeline_tests.benchmarks.training import run_script, small_session, write_images

STEPS, BATCH = 50, 4
NORM = 0.005
"""Maximum norm of gradients, so small that most are clipped."""
GAMMA = 5.0

EDITS = [
    (r"^( +)lora_layers = (filter\(.*\))$", r"\1lora_layers = list(\2)"),
    (r"^( +)text_encoder = CLIPTextModel", r"\1tokenizer.model_max_length = 77\n\g<0>"),
    (
        r"^( +)unet\.add_adapter\(.*\)$",
        r"\g<0>\n\1from safetensors.torch import load_file"
        r"\n\1given = load_file(os.path.join(args.output_dir, '..', 'given.safetensors'))"
        r"\n\1for name, value in unet.named_parameters():"
        r"\n\1    if name in given: value.data.copy_(given[name])",
    ),
    (
        r"^( +)latents = vae\.encode\(.*$",
        r"\1rows = given[f'{global_step}/rows'].tolist()"
        r"\n\1batch = collate_fn([train_dataset[row] for row in rows])"
        r"\n\1posterior = vae.encode(batch['pixel_values']).latent_dist"
        r"\n\1latents = posterior.mean + posterior.std * given[f'{global_step}/posterior']",
    ),
    (r"^( +)noise = torch\.randn_like\(latents\)$", r"\1noise = given[f'{global_step}/noise']"),
    (r"^( +)timesteps = torch\.randint\(.*\)$", r"\1timesteps = given[f'{global_step}/timesteps']"),
    (r"^( +)accelerator\.backward\(loss\)$", r"\1print('LOSS', repr(loss.item()), flush=True)\n\g<0>"),
]


def write_edited(script: Path, copy: Path) -> None:
    """Write an edited copy of the script. The pattern of each edit must match once."""
    text = script.read_text()
    for pattern, replacement in EDITS:
        text, count = re.subn(pattern, replacement, text, flags=re.M)
        assert count == 1, f"the script has changed: {pattern} matches {count} times"
    copy.write_text(text)


def ours(root: Path, gamma: float | None) -> list[float]:
    """Our losses; writes the inputs of each step for the script."""
    session = small_session(EMBEDDED / "sd", root, 64, BATCH)
    training = session.job.training.model_copy(
        update={"max_grad_norm": NORM, "lr_scheduler": "constant", "lr_warmup_steps": 0, "snr_gamma": gamma}
    )
    session.learner.training = session.objective.training = training
    given = {name: value.detach().clone().contiguous() for name, value in session.learner.parameters.items()}
    losses, clipped = [], 0
    for step in range(STEPS):
        randomness = sample_step(session.data.n, session.data.latent_shape, training, 1000, step)
        given |= {
            f"{step}/{name}": getattr(randomness, name)
            for name in ("rows", "posterior", "noise", "timesteps")
        }
        loss, norm = session.learner.step(step, session.data, randomness)
        losses.append(float(loss) / BATCH)
        clipped += float(norm) > NORM
    save_file(given, root / "given.safetensors")
    print(f"ours: {STEPS} steps of {BATCH} images, {clipped} gradients clipped, ", end="")
    print(f"loss {losses[0]:.4f} to {losses[-1]:.4f}")
    return losses


def of_script(script: Path, root: Path, gamma: float | None) -> list[float]:
    """The losses that the edited script prints."""
    write_edited(script, root / "edited.py")
    training = load_profile("demo").training
    options: dict[str, object] = {
        "train_batch_size": BATCH,
        "max_train_steps": STEPS,
        "learning_rate": training.learning_rate,
        "adam_weight_decay": training.weight_decay,
        "max_grad_norm": NORM,
        "lr_warmup_steps": 0,
    }
    if gamma:
        options["snr_gamma"] = gamma
    output, errors = run_script(root / "edited.py", EMBEDDED / "sd", root, 64, options)
    losses = [float(line.split()[1]) for line in output if line.startswith("LOSS")]
    assert len(losses) == STEPS, errors
    return losses


def main() -> int:
    """Compare without and with min-SNR weights; the exit code is 1 if a relative difference is above 1e-5."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script", type=Path)
    script, worst = parser.parse_args().script, 0.0
    for gamma in (None, GAMMA):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            write_images(root / "images", 64)
            pairs = zip(ours(root, gamma), of_script(script, root, gamma), strict=True)
            relative = [abs(our_loss - loss) / loss for our_loss, loss in pairs]
        largest = max(relative)
        step = relative.index(largest)
        print(f"min-SNR gamma {gamma}: largest relative difference {largest:.1e}, at step {step}", flush=True)
        worst = max(worst, largest)
    return int(worst > 1e-5)


if __name__ == "__main__":
    sys.exit(main())
