import gzip
import inspect
import struct
import threading
from functools import partial
from hashlib import md5
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stages.data.images import BadImageError
from stages.data.torchvision_sets import SETS, _labels, load_torchvision
from stages.errors import UserError
from stages.libraries import torchvision
from tests.data.bad_images import picture

FASHION = torchvision.datasets.FashionMNIST


@pytest.fixture
def load(tmp_path, data):
    return lambda name, path=tmp_path, **how: load_torchvision(
        data.model_copy(update={"source": "torchvision", "path": str(path), "dataset": name}), **how
    )


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_one_of_torchvisions_and_takes_what_it_is_asked(name):
    signature = inspect.signature(getattr(torchvision.datasets, name).__init__)
    for asked in SETS[name].values():
        known = dict(asked)
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
            known.pop("train", None)  # handed on to MNIST
        signature.bind(None, "root", **known)


def idx(array):
    """Bytes as MNIST keeps arrays: a magic number, the shape, the content."""
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return struct.pack(">HBB", 0, 8, array.ndim) + shape + array.astype(np.uint8).tobytes()


def fashion_files():
    """60 training and 20 test images of Fashion-MNIST's form, in ten classes."""
    files = {}
    for split, count in (("train", 60), ("t10k", 20)):
        images = np.random.default_rng(count).integers(255, size=(count, 28, 28))
        files[f"{split}-images-idx3-ubyte"] = idx(images)
        files[f"{split}-labels-idx1-ubyte"] = idx(np.arange(count) % 10)
    return files


def check_fashion(source):
    assert source.classes == FASHION.classes
    assert source.channels == 1
    assert source.samples["split"].value_counts().to_dict() == {"train": 60, "test": 20}
    assert source.samples["label"].tolist() == [*(np.arange(60) % 10), *(np.arange(20) % 10)]
    with source.images.open(65, 100) as image:
        expected = np.random.default_rng(20).integers(255, size=(20, 28, 28))[5]
        assert np.array_equal(np.asarray(image), expected)


def test_a_set_that_lies_there_is_taken(tmp_path, load):
    (tmp_path / "FashionMNIST/raw").mkdir(parents=True)
    for name, content in fashion_files().items():
        (tmp_path / "FashionMNIST/raw" / name).write_bytes(content)
    check_fashion(load("FashionMNIST"))


@pytest.fixture
def mirror(tmp_path_factory, monkeypatch):
    """A local stand-in for the place where Fashion-MNIST is downloaded from."""
    folder = tmp_path_factory.mktemp("mirror")
    packed = {f"{name}.gz": gzip.compress(content) for name, content in fashion_files().items()}
    for name, content in packed.items():
        (folder / name).write_bytes(content)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(FASHION, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(FASHION, "resources", [(name, md5(content).hexdigest()) for name, content in packed.items()])
    yield folder
    server.shutdown()


def test_a_set_that_is_not_there_is_downloaded(mirror, load, tmp_path):
    check_fashion(load("FashionMNIST"))
    assert (tmp_path / "FashionMNIST/raw/train-images-idx3-ubyte").exists()


def test_a_rehearsal_downloads_nothing(mirror, load, tmp_path):
    with pytest.raises(UserError, match=r"FashionMNIST is not in .*; `dvc repro prepare` would download it"):
        load("FashionMNIST", may_download=False)
    assert list(tmp_path.iterdir()) == []


def test_a_download_with_another_checksum_is_refused(mirror, load):
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match="could not be downloaded"):
        load("FashionMNIST")


def test_without_a_network_one_line_says_what_to_do(load, monkeypatch):
    monkeypatch.setattr(FASHION, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(
        UserError, match=r"FashionMNIST is not in .* and could not be downloaded .*: put it there"
    ) as caught:
        load("FashionMNIST")
    assert "\n" not in str(caught.value)


def write_pets(folder, classes, trainval=4, test=2):
    """So many images, of the classes in turn."""
    root = folder / "oxford-iiit-pet"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    for split, numbers in (("trainval", range(trainval)), ("test", range(trainval, trainval + test))):
        labels = [number % len(classes) for number in numbers]
        lines = [f"{classes[label]}_{number} {label + 1} 1 1\n" for label, number in zip(labels, numbers, strict=True)]
        (root / "annotations" / f"{split}.txt").write_text("".join(lines))
        for line in lines:
            picture(1).save(root / "images" / f"{line.split()[0]}.jpg")


def test_a_set_without_images_or_with_one_class_is_refused(tmp_path, load):
    write_pets(tmp_path / "empty", ["Abyssinian"], trainval=0, test=0)
    with pytest.raises(UserError, match=r"^data.dataset: OxfordIIITPet in .*empty has no images: put it there"):
        load("OxfordIIITPet", path=tmp_path / "empty")
    write_pets(tmp_path / "one", ["Abyssinian"])
    with pytest.raises(UserError, match=r"^data.dataset: OxfordIIITPet in .*one has one class, Abyssinian: choose"):
        load("OxfordIIITPet", path=tmp_path / "one")


def test_a_set_of_files_in_trainval_and_test(tmp_path, load):
    write_pets(tmp_path, ["Abyssinian", "Beagle"])
    source = load("OxfordIIITPet")
    assert source.classes == ["Abyssinian", "Beagle"]
    assert source.samples[["label", "split"]].to_numpy().tolist() == [
        *[[number % 2, "train"] for number in range(4)],
        [0, "test"],
        [1, "test"],
    ]
    assert source.channels == 3


def test_a_first_image_that_is_bad_is_one_of_many(tmp_path, load):
    for label in ("A", "B"):
        (tmp_path / "eurosat/2750" / label).mkdir(parents=True)
        for number in range(3):
            picture(number).save(tmp_path / "eurosat/2750" / label / f"{number}.jpg")
    first = tmp_path / "eurosat/2750/A/0.jpg"
    first.write_bytes(first.read_bytes()[:100])
    source = load("EuroSAT")
    assert (source.channels, len(source.samples)) == (3, 6)
    with pytest.raises(BadImageError), source.images.open(0, 100):
        pass


def test_labels_may_have_further_columns_as_qmnists_do():
    dataset = SimpleNamespace(targets=torch.tensor([[7, 0, 0], [2, 1, 5]]))
    assert _labels(dataset) == [7, 2]


def test_a_set_that_torchvision_does_not_download_is_told_so(load):
    with pytest.raises(UserError, match="ImageNet is not in .*it must be asked for at its publisher"):
        load("ImageNet")


def test_a_name_that_is_none_is_refused_with_the_one_that_was_meant(load):
    with pytest.raises(UserError, match="no classification set FashionMnist; did you mean FashionMNIST"):
        load("FashionMnist")
    with pytest.raises(UserError, match="no classification set VOCDetection"):
        load("VOCDetection")
