"""Checkpoints: a run that goes on from one is the run that was never stopped, bit for bit."""

import pytest
import torch
from torch import nn

from vdm_pipeline.stages.checkpoint import checkpoint_note, load_checkpoint, save_checkpoint


def fresh(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    return network, torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
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
    save_checkpoint(tmp_path / "c", step=5, weights=weights(first), optimizers={"main": first_optimizer}, note={"data": "d"})
    second, second_optimizer = fresh(seed=9)
    step = load_checkpoint(tmp_path / "c", weights=weights(second), optimizers={"main": second_optimizer})
    assert step == 5
    train(second, second_optimizer, range(step, 12))
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(second)[name])
    assert checkpoint_note(tmp_path / "c") == {"data": "d", "step": "5"}


def test_moments_matter(tmp_path):
    """Without the optimizer's state the run would differ: the test above would see it missing."""
    whole, whole_optimizer = fresh()
    train(whole, whole_optimizer, range(5))
    save_checkpoint(tmp_path / "c", step=5, weights=weights(whole), optimizers={})
    other, other_optimizer = fresh()
    load_checkpoint(tmp_path / "c", weights=weights(other), optimizers={})
    for network, optimizer in ((whole, whole_optimizer), (other, other_optimizer)):
        train(network, optimizer, range(5, 8))
    assert not torch.equal(whole[0].weight, other[0].weight)


def test_several_optimizers_keep_apart(tmp_path):
    pairs = {name: fresh(seed) for seed, name in enumerate(("a", "ab"))}
    for seed, pair in enumerate(pairs.values()):
        train(*pair, range(seed, seed + 3))
    named = {f"{name}.{key}": value for name, (network, _) in pairs.items() for key, value in weights(network).items()}
    save_checkpoint(tmp_path / "c", step=3, weights=named, optimizers={name: pair[1] for name, pair in pairs.items()})
    copies = {name: fresh(5) for name in pairs}
    named = {f"{name}.{key}": value for name, (network, _) in copies.items() for key, value in weights(network).items()}
    load_checkpoint(tmp_path / "c", weights=named, optimizers={name: pair[1] for name, pair in copies.items()})
    for name in pairs:
        old, new = (group[name][1].state_dict()["state"] for group in (pairs, copies))
        assert old.keys() == new.keys()
        for index in old:
            for key in ("step", "exp_avg", "exp_avg_sq"):
                assert torch.equal(old[index][key], new[index][key])


def test_checkpoint_is_a_copy_and_written_whole(tmp_path):
    network, optimizer = fresh()
    before = network[0].weight.detach().clone()
    save_checkpoint(tmp_path / "c", step=0, weights=weights(network), optimizers={"main": optimizer})
    train(network, optimizer, range(3))
    load_checkpoint(tmp_path / "c", weights=weights(network), optimizers={})
    assert torch.equal(network[0].weight, before)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_checkpoint_of_another_network_is_refused(tmp_path):
    network, optimizer = fresh()
    save_checkpoint(tmp_path / "c", step=0, weights=weights(network), optimizers={"main": optimizer})
    with pytest.raises(RuntimeError):
        load_checkpoint(tmp_path / "c", weights={"0.weight": torch.zeros(3, 3)}, optimizers={})


def test_missing_weight_is_a_key_error(tmp_path):
    network, optimizer = fresh()
    save_checkpoint(tmp_path / "c", step=0, weights=weights(network), optimizers={"main": optimizer})
    with pytest.raises(KeyError):
        load_checkpoint(tmp_path / "c", weights={"missing": torch.zeros(3)}, optimizers={})
