"""Checkpoints: written atomically, the last two are kept, and a damaged one is never read."""

import pytest
import torch
from torch import nn

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.training import checkpoints as module
from vdm_pipeline.stages.training.checkpoints import (
    Checkpoints,
    read_checkpoint,
    restore_state,
    state_tensors,
)


@pytest.fixture
def lines() -> list[str]:
    """The log."""
    return []


@pytest.fixture
def store(tmp_path, lines) -> Checkpoints:
    store = Checkpoints(tmp_path / "state", lines.append)
    for step in (5, 10, 15):
        store.save(step, {"x": torch.full((3,), float(step))})
    return store


def steps(store: Checkpoints) -> list[int]:
    return [read_checkpoint(path)[0] for path in sorted(store.folder.glob("*.safetensors"))]


def test_last_two_are_kept_and_newest_is_read(store):
    assert steps(store) == [10, 15]
    step, tensors = read_checkpoint(store.newest(20))
    assert step == 15
    assert tensors["x"].tolist() == [15.0] * 3


def test_no_checkpoint_past_the_limit_is_read(store):
    assert read_checkpoint(store.newest(14))[0] == 10
    assert store.newest(9) is None


def test_damaged_checkpoints_do_not_displace_a_good_one(store):
    for path in store.folder.glob("step_*"):
        path.write_bytes(b"damaged")
    store.save(5, {"x": torch.zeros(3)})
    store.save(7, {"x": torch.ones(3)})
    assert steps(store) == [5, 7]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_previous_checkpoint_replaces_a_damaged_or_deleted_one(store, lines, damage):
    newest = store.newest(20)
    content = newest.read_bytes()
    if damage == "cut":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        newest.unlink()
    assert read_checkpoint(store.newest(20))[0] == 10
    assert lines == ([] if damage == "gone" else [f"skipping damaged checkpoint {newest.name}"])


def test_leftovers_of_a_killed_writer_are_removed(store):
    leftover = store.folder / ".new.safetensors.0123abcd.part.safetensors"
    leftover.write_bytes(b"half")
    (store.folder / "new.safetensors").write_bytes(b"complete, but not renamed yet")
    reopened = Checkpoints(store.folder, print)
    assert not leftover.exists()
    assert read_checkpoint(reopened.newest(20))[0] == 15
    reopened.save(20, {"x": torch.zeros(3)})
    assert steps(reopened) == [15, 20]


def split_store(folder, lines) -> Checkpoints:
    """Two checkpoints of 3 MB in files of at most 1 MB."""
    store = Checkpoints(folder, lines.append, max_file_bytes=2**20)
    for step in (5, 10):
        tensors = {f"layer.{i}": torch.full((60, 1000), step + i / 100) for i in range(12)}
        store.save(step, tensors | {"step": torch.tensor(float(step))})
    return store


def test_large_checkpoint_is_a_folder_of_small_files(tmp_path, lines):
    store = split_store(tmp_path, lines)
    sizes = [path.stat().st_size for path in store.newest(20).iterdir()]
    assert len(sizes) > 3 and max(sizes) <= 2**20
    step, tensors = read_checkpoint(store.newest(20))
    assert step == 10 and tensors["step"] == 10 and len(tensors) == 13
    assert all(torch.equal(tensors[f"layer.{i}"], torch.full((60, 1000), 10 + i / 100)) for i in range(12))


def test_order_of_tensors_does_not_change_the_files(tmp_path):
    tensors = {f"layer.{i}": torch.full((60, 1000), float(i)) for i in range(12)}
    names = []
    for folder, order in (("a", list(tensors)), ("b", list(tensors)[::-1])):
        store = Checkpoints(tmp_path / folder, print, max_file_bytes=2**20)
        store.save(1, {name: tensors[name] for name in order})
        names.append(store.newest(1).name)
    assert names[0] == names[1]


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_folder_with_a_damaged_or_deleted_file_is_skipped(tmp_path, lines, damage):
    store = split_store(tmp_path, lines)
    newest = store.newest(20)
    part = max(newest.iterdir())
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-1])
    assert read_checkpoint(store.newest(20))[0] == 5
    assert lines == [f"skipping damaged checkpoint {newest.name}"]


def test_folder_of_a_killed_writer_is_removed_and_old_ones_are_replaced(tmp_path, lines):
    store = split_store(tmp_path, lines)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/part.safetensors").write_bytes(b"half")
    reopened = Checkpoints(tmp_path, lines.append, max_file_bytes=2**20)
    reopened.save(15, {"x": torch.zeros(3)})
    assert [path.name[:13] for path in sorted(store.folder.iterdir())] == ["step_00000010", "step_00000015"]


def test_full_disk_is_an_error_and_keeps_the_last_checkpoints(store, monkeypatch):
    def full(path, tensors, texts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_tensors", full)
    with pytest.raises(PipelineError, match=r"checkpoint of step 20 .*No space left on device"):
        store.save(20, {"x": torch.zeros(3)})
    assert steps(store) == [10, 15]


def new_network(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    return network, torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)


def train(network: nn.Module, optimizer: torch.optim.Optimizer, these: range) -> None:
    for step in these:
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        network(x).square().sum().backward()
        optimizer.step()


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return dict(network.named_parameters())


def test_adamw_resumes_bit_for_bit(tmp_path):
    whole, whole_optimizer = new_network()
    train(whole, whole_optimizer, range(12))
    first, first_optimizer = new_network()
    train(first, first_optimizer, range(5))
    store = Checkpoints(tmp_path, print)
    store.save(5, state_tensors(weights(first), {"main": first_optimizer}))
    second, second_optimizer = new_network(seed=9)
    step, tensors = read_checkpoint(store.newest(12))
    restore_state(tensors, weights(second), {"main": second_optimizer})
    train(second, second_optimizer, range(step, 12))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name])


def test_channels_last_weights_resume_bit_for_bit(tmp_path):
    """The fused kernel walks through memory, so the moments need the layout of the weights."""

    def new() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        conv = nn.Conv2d(4, 8, 3).to(memory_format=torch.channels_last)
        return conv, torch.optim.AdamW(conv.parameters(), lr=1e-2, fused=True)

    def fit(conv: nn.Module, optimizer: torch.optim.Optimizer, these: range) -> None:
        for step in these:
            x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            conv(x.contiguous(memory_format=torch.channels_last)).square().sum().backward()
            optimizer.step()

    whole, whole_optimizer = new()
    fit(whole, whole_optimizer, range(5))
    store = Checkpoints(tmp_path, print)
    store.save(5, state_tensors(weights(whole), {"main": whole_optimizer}))
    resumed, resumed_optimizer = new()
    restore_state(read_checkpoint(store.newest(5))[1], weights(resumed), {"main": resumed_optimizer})
    for conv, optimizer in ((whole, whole_optimizer), (resumed, resumed_optimizer)):
        fit(conv, optimizer, range(5, 8))
    assert torch.equal(whole.weight, resumed.weight)


def test_moments_matter():
    """Without the optimizer's state the result differs, so the test above would notice its loss."""
    whole, whole_optimizer = new_network()
    train(whole, whole_optimizer, range(5))
    other, other_optimizer = new_network()
    restore_state(state_tensors(weights(whole), {}), weights(other), {})
    for network, optimizer in ((whole, whole_optimizer), (other, other_optimizer)):
        train(network, optimizer, range(5, 8))
    assert not torch.equal(whole[0].weight, other[0].weight)


def test_several_optimizers_are_kept_apart():
    """Also if the name of one is the beginning of the other's."""
    trained = {name: new_network(seed) for seed, name in enumerate(("a", "ab"))}
    for seed, (network, optimizer) in enumerate(trained.values()):
        train(network, optimizer, range(seed, seed + 3))
    restored = {name: new_network(5) for name in trained}

    def all_weights(networks: dict) -> dict[str, torch.Tensor]:
        return {
            f"{name}.{key}": value
            for name, (network, _) in networks.items()
            for key, value in weights(network).items()
        }

    def optimizers(networks: dict) -> dict[str, torch.optim.Optimizer]:
        return {name: optimizer for name, (_, optimizer) in networks.items()}

    state = state_tensors(all_weights(trained), optimizers(trained))
    restore_state(state, all_weights(restored), optimizers(restored))
    for name in trained:
        old, new = (optimizers(networks)[name].state_dict()["state"] for networks in (trained, restored))
        assert old.keys() == new.keys()
        assert all(
            torch.equal(old[index][key], new[index][key])
            for index in old
            for key in ("step", "exp_avg", "exp_avg_sq")
        )


def test_state_of_another_network_is_an_error():
    network, _ = new_network()
    tensors = state_tensors(weights(network), {})
    with pytest.raises(RuntimeError):
        restore_state(tensors, {"0.weight": torch.zeros(3, 3)}, {})
    with pytest.raises(KeyError):
        restore_state(tensors, {"missing": torch.zeros(3)}, {})
