"""Checkpoints: whole or not there, the last two, and nothing torn is ever picked up."""

import pytest
import torch
from torch import nn

from vdm_pipeline.errors import PipelineError
from vdm_pipeline.stages.training import checkpoints as module
from vdm_pipeline.stages.training.checkpoints import Checkpoints, gather, read_checkpoint, scatter


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path, said) -> Checkpoints:
    store = Checkpoints(tmp_path / "state", said.append)
    for step in (5, 10, 15):
        store.save(step, {"x": torch.full((3,), float(step))})
    return store


def steps(store: Checkpoints) -> list[int]:
    return [read_checkpoint(path)[0] for path in sorted(store.folder.glob("*.safetensors"))]


def test_the_last_two_are_kept_and_the_newest_is_read(store):
    assert steps(store) == [10, 15]
    step, tensors = read_checkpoint(store.newest(20))
    assert step == 15
    assert tensors["x"].tolist() == [15.0] * 3


def test_none_past_the_wanted_step_is_read(store):
    assert read_checkpoint(store.newest(14))[0] == 10
    assert store.newest(9) is None


def test_damaged_ones_do_not_push_out_a_good_one(store):
    for path in store.folder.glob("step_*"):
        path.write_bytes(b"damaged")
    store.save(5, {"x": torch.zeros(3)})
    store.save(7, {"x": torch.ones(3)})
    assert steps(store) == [5, 7]


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_or_deleted_newest_gives_the_one_before(store, said, damage):
    newest = store.newest(20)
    content = newest.read_bytes()
    if damage == "cut":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        newest.unlink()
    assert read_checkpoint(store.newest(20))[0] == 10
    assert said == ([] if damage == "gone" else [f"{newest.name} is damaged and is passed over"])


def test_what_a_killed_writer_left_is_cleared(store):
    left = store.folder / ".new.safetensors.0123abcd.part.safetensors"
    left.write_bytes(b"half")
    (store.folder / "new.safetensors").write_bytes(b"whole, but not named yet")
    again = Checkpoints(store.folder, print)
    assert not left.exists()
    assert read_checkpoint(again.newest(20))[0] == 15
    again.save(20, {"x": torch.zeros(3)})
    assert steps(again) == [15, 20]


def test_a_full_disk_is_a_sentence_and_the_last_checkpoints_stay(store, monkeypatch):
    def full(path, tensors, texts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_tensors", full)
    with pytest.raises(
        PipelineError,
        match=r"checkpoint of step 20 cannot be written to .* \(.*No space left on device\); make room",
    ):
        store.save(20, {"x": torch.zeros(3)})
    assert steps(store) == [10, 15]


def fresh(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
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


def test_adamw_goes_on_bit_for_bit(tmp_path):
    whole, whole_optimizer = fresh()
    train(whole, whole_optimizer, range(12))
    first, first_optimizer = fresh()
    train(first, first_optimizer, range(5))
    store = Checkpoints(tmp_path, print)
    store.save(5, gather(weights(first), {"main": first_optimizer}))
    second, second_optimizer = fresh(seed=9)
    step, tensors = read_checkpoint(store.newest(12))
    scatter(tensors, weights(second), {"main": second_optimizer})
    train(second, second_optimizer, range(step, 12))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name])


def test_moments_matter():
    """Without the optimizer's state the run would differ: the test above would see it missing."""
    whole, whole_optimizer = fresh()
    train(whole, whole_optimizer, range(5))
    other, other_optimizer = fresh()
    scatter(gather(weights(whole), {}), weights(other), {})
    for network, optimizer in ((whole, whole_optimizer), (other, other_optimizer)):
        train(network, optimizer, range(5, 8))
    assert not torch.equal(whole[0].weight, other[0].weight)


def test_several_optimizers_keep_apart(tmp_path):
    pairs = {name: fresh(seed) for seed, name in enumerate(("a", "ab"))}
    for seed, pair in enumerate(pairs.values()):
        train(*pair, range(seed, seed + 3))
    copies = {name: fresh(5) for name in pairs}
    named = [
        {f"{n}.{k}": v for n, (net, _) in group.items() for k, v in weights(net).items()}
        for group in (pairs, copies)
    ]
    scatter(
        gather(named[0], {n: pair[1] for n, pair in pairs.items()}),
        named[1],
        {n: pair[1] for n, pair in copies.items()},
    )
    for name in pairs:
        old, new = (group[name][1].state_dict()["state"] for group in (pairs, copies))
        assert old.keys() == new.keys()
        assert all(
            torch.equal(old[index][key], new[index][key])
            for index in old
            for key in ("step", "exp_avg", "exp_avg_sq")
        )


def test_another_network_is_refused():
    network, _ = fresh()
    tensors = gather(weights(network), {})
    with pytest.raises(RuntimeError):
        scatter(tensors, {"0.weight": torch.zeros(3, 3)}, {})
    with pytest.raises(KeyError):
        scatter(tensors, {"missing": torch.zeros(3)}, {})
