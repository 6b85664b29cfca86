import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from stages.errors import UserError
from stages.models.checkpoint import KEY, Description, _checksum, load_checkpoint, save_checkpoint
from stages.models.network import empty_network
from tests.conftest import Malicious

DESCRIPTION = Description(
    library="timm",
    name="resnet18",
    classes=("good", "bad", "ü <b>"),
    image_size=32,
    channels=1,
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
    layer_groups=empty_network("timm", "resnet18", classes=3).groups,
)


@pytest.fixture(scope="module")
def network():
    return empty_network("timm", "resnet18", classes=3, seed=3)


@pytest.fixture
def path(tmp_path, network):
    save_checkpoint(tmp_path / "seed-3.safetensors", network, DESCRIPTION)
    return tmp_path / "seed-3.safetensors"


def test_a_checkpoint_alone_gives_the_network_back(path, network):
    checkpoint = load_checkpoint(path)
    assert checkpoint.description == DESCRIPTION
    assert checkpoint.network.preprocessing.mean == (0.1, 0.2, 0.3)
    assert checkpoint.network.groups == network.groups
    restored = checkpoint.network.module.state_dict()
    assert all(torch.equal(restored[name], tensor) for name, tensor in network.module.state_dict().items())


def test_the_same_network_gives_the_same_bytes(path, network):
    first = path.read_bytes()
    for _ in range(5):
        save_checkpoint(path, network, DESCRIPTION)
        assert path.read_bytes() == first


@pytest.mark.parametrize("length", [0, 4, 100, 20_000, -1])
def test_a_truncated_checkpoint_is_refused(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"seed-3.safetensors is not a checkpoint, or is cut short"):
        load_checkpoint(path)


def stored(description):
    """What a checkpoint says that holds two zeros by the name of a."""
    checksum = _checksum(description, {"a": torch.zeros(2)})
    return json.dumps({**description.model_dump(), "checksum": checksum})


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="nowhere.safetensors is missing"):
        load_checkpoint(tmp_path / "nowhere.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, other)
    with pytest.raises(UserError, match="is not a checkpoint of this project"):
        load_checkpoint(other)
    save_file({"a": torch.zeros(2)}, other, metadata={KEY: "{}"})
    with pytest.raises(UserError, match="describes itself wrongly"):
        load_checkpoint(other)
    save_file({"a": torch.zeros(2)}, other, metadata={KEY: stored(DESCRIPTION)})
    with pytest.raises(UserError, match="does not hold the weights of resnet18"):
        load_checkpoint(other)


def test_a_checkpoint_says_its_layer_groups_finer_ones_too(tmp_path):
    blocks = empty_network("timm", "resnet18", classes=3, granularity="blocks")
    description = DESCRIPTION.model_copy(update={"layer_groups": blocks.groups})
    save_checkpoint(tmp_path / "blocks.safetensors", blocks, description)
    assert load_checkpoint(tmp_path / "blocks.safetensors").network.groups == blocks.groups


@pytest.mark.parametrize("groups", [{}, {"stem": ["fc.weight"]}, {"one": ["fc.weight"], "two": ["fc.weight"]}])
def test_a_checkpoint_whose_groups_do_not_cover_every_parameter_once_is_refused(tmp_path, network, groups):
    path = tmp_path / "seed-3.safetensors"
    save_checkpoint(path, network, DESCRIPTION.model_copy(update={"layer_groups": groups}))
    with pytest.raises(UserError, match="does not give every parameter its layer group"):
        load_checkpoint(path)


def test_a_checkpoint_cannot_name_a_network_that_no_library_has(tmp_path):
    path = tmp_path / "odd.safetensors"
    odd = DESCRIPTION.model_copy(update={"name": "../../etc/passwd"})
    save_file({"a": torch.zeros(2)}, path, metadata={KEY: stored(odd)})
    with pytest.raises(UserError, match=r"odd.safetensors is of a network that timm does not have"):
        load_checkpoint(path)


@pytest.mark.parametrize("dump", [pickle.dump, torch.save])
def test_a_pickle_in_the_place_of_a_checkpoint_is_refused_and_nothing_runs(tmp_path, dump):
    evil = tmp_path / "seed-1.safetensors"
    with evil.open("wb") as file:
        dump(Malicious(tmp_path / "executed"), file)
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_checkpoint(evil)
    assert not (tmp_path / "executed").exists()


def test_a_flipped_bit_in_a_tensor_is_noticed(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match="is not as it was written"):
        load_checkpoint(path)


def test_a_header_that_says_it_is_huge_takes_no_memory(tmp_path):
    huge = tmp_path / "seed-1.safetensors"
    huge.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match="is not a checkpoint"):
        load_checkpoint(huge)
