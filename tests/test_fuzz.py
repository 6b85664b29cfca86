"""Whatever stands in a file that comes from outside: one clear line, no traceback, no hang, no memory without end.

`make test-slow` runs a few hundred cases, `make fuzz` more than 10,000.
"""

import io

import pandas as pd
import psutil
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages.data.images import BadImageError, image_warnings, open_image, to_pixels
from stages.data.user_images import load_table
from stages.errors import UserError
from stages.models.checkpoint import Description, load_checkpoint, save_checkpoint
from stages.models.network import build_network
from stages.params import Model, load_params
from stages.training.resume import ResumeState
from tests.conftest import ROOT
from tests.data.bad_images import KINDS

short_form = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large])


def fuzzed(test):
    return pytest.mark.slow(short_form(test))


MEMORY = 1500  # MiB that this process may grow by over all cases


@pytest.fixture(scope="module", autouse=True)
def memory_is_bounded():
    process = psutil.Process()
    before = process.memory_info().rss
    yield
    assert (process.memory_info().rss - before) / 2**20 < MEMORY


@st.composite
def mutated(draw, content):
    """Bytes with up to six changes: bits flipped, pieces cut out, doubled, or replaced by others."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        length = draw(st.integers(1, 40))
        match draw(st.sampled_from(["flip", "cut", "double", "replace", "end"])):
            case "flip" if changed:
                changed[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del changed[at : at + length]
            case "double":
                changed[at:at] = changed[at : at + length]
            case "replace":
                changed[at : at + length] = draw(st.binary(max_size=40))
            case "end":
                del changed[at:]
    return bytes(changed)


def said(error):
    """What a user is told, without an end and without a traceback."""
    text = str(error.value if hasattr(error, "value") else error)
    assert text
    assert len(text) < 20_000
    return text


PARAMS = (ROOT / "params.yaml").read_bytes()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))


def check(path):
    try:
        load_params(path)
    except UserError as error:
        said(error)


@fuzzed
@given(content=mutated(PARAMS) | st.binary(max_size=200))
def test_any_bytes_as_params(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    check(tmp_path / "params.yaml")


@st.composite
def params_with_another_value(draw):
    """The real parameters, with any value in the place of one."""
    content = YAML(typ="safe", pure=True).load(PARAMS)
    place = content
    while True:
        key = draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or draw(st.booleans()):
            place[key] = draw(VALUES)
            return content
        place = place[key]


@fuzzed
@given(content=params_with_another_value())
def test_any_value_of_any_parameter(tmp_path, content):
    text = io.StringIO()
    YAML().dump(content, text)
    (tmp_path / "params.yaml").write_text(text.getvalue(), errors="surrogatepass")
    check(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"lr: " + b"9" * 10_000,
        b"data: &a [&b [x, x, x, x, x, x, x, x], *b, *b, *b, *b, *b, *b]\nlr: [*a, *a, *a, *a, *a, *a, *a, *a]",
        "".join(
            ["a0: &a0 [x, x]\n", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)), "lr: *a59"]
        ).encode(),
        b"!!python/object/apply:os.system ['touch executed']",
        b"lr: !!python/name:os.system",
        b"? [1, 2]\n: 3",
        b"1: 2\n",
        b"lr: {1: 2, null: 3}",
        b"\xff\xfe",
        b"a: b\na: c",
    ],
)
def test_params_made_to_hurt(tmp_path, content, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        load_params(tmp_path / "params.yaml")
    said(error)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


TABLE = pd.DataFrame(
    {"path": ["a.png", "b.png", "c.png"], "label": ["x", "y", "x"], "split": ["train", "val", "test"], "group": "g"}
)
CSV = TABLE.to_csv(index=False).encode()


def parquet():
    content = io.BytesIO()
    TABLE.to_parquet(content)
    return content.getvalue()


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet"])
@fuzzed
@given(data=st.data())
def test_any_bytes_as_a_table(tmp_path, name, data):
    content = data.draw(mutated(CSV if name == "labels.csv" else parquet()) | st.binary(max_size=300))
    (tmp_path / name).write_bytes(content)
    section = load_params(ROOT / "params.yaml").data
    try:
        found = load_table(section.model_copy(update={"source": "table", "path": str(tmp_path), "table": name}))
    except UserError as error:
        said(error)
    else:
        assert not [image for image in found.samples["image"] if not image.isprintable()]
        assert (found.samples["label"] < len(found.classes)).all()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The bytes of a checkpoint of timm's smallest network, and what it says of itself."""
    model = Model(library="timm", name="test_efficientnet", weights="none", layer_groups="stages")
    network = build_network(model, 2, seed=1)
    path = tmp_path_factory.mktemp("checkpoint") / "seed-1.safetensors"
    mean = network.preprocessing.mean
    described = Description(
        library="timm", name=model.name, classes=("a", "b"), image_size=32, channels=3, mean=mean, std=mean,
        layer_groups=network.groups,
    )  # fmt: skip
    save_checkpoint(path, network, described)
    return path.read_bytes(), load_checkpoint(path).description


@fuzzed
@given(data=st.data())
def test_any_bytes_as_a_checkpoint(tmp_path, checkpoint, data):
    """The header is changed more often than the tensors, which are most of the file."""
    whole, description = checkpoint
    header = 8 + int.from_bytes(whole[:8], "little")
    length = data.draw(st.just(whole[:8]) | st.integers(0, 2**64 - 1).map(lambda size: size.to_bytes(8, "little")))
    content = data.draw(
        mutated(whole[8:header]).map(lambda changed: length + changed + whole[header:])
        | mutated(whole)
        | st.binary(max_size=200)
    )
    (tmp_path / "seed-1.safetensors").write_bytes(content)
    if content == whole:
        return
    try:
        loaded = load_checkpoint(tmp_path / "seed-1.safetensors")
    except UserError as error:
        said(error)
    else:  # the header says the same in other bytes
        assert loaded.description == description


@fuzzed
@given(data=st.data())
def test_any_bytes_as_a_state(tmp_path, data):
    path = tmp_path / "state"
    ResumeState(path).save({"epochs": [[0.5, 1.0, 0.5, 1.0]], "module": {"weight": torch.ones(8)}})
    whole = path.read_bytes()
    path.write_bytes(data.draw(mutated(whole) | st.binary(max_size=200)))
    if path.read_bytes() != whole:
        assert ResumeState(path).load(torch.device("cpu")) is None


IMAGES = {name: content for name, (content, _) in KINDS.items() if 0 < len(content) < 200_000}


@fuzzed
@given(data=st.data())
def test_any_bytes_as_an_image(tmp_path, data):
    name = data.draw(st.sampled_from(sorted(IMAGES)))
    (tmp_path / "image.png").write_bytes(data.draw(mutated(IMAGES[name])))
    try:
        with open_image(tmp_path / "image.png", max_megapixels=4) as image:
            unusual = image_warnings(image, "image.png")
            pixels = to_pixels(image, 32, 3)
    except BadImageError as error:
        assert error.check in {"empty", "not_an_image", "truncated", "unreadable", "too_large"}
    else:
        assert pixels.shape == (32, 32, 3)
        assert all(finding.image == "image.png" for finding in unusual)


def test_the_images_that_are_fuzzed_are_of_every_format():
    assert {name.rpartition(".")[2] for name in IMAGES} >= {"png", "jpg", "gif", "webp", "tiff", "bmp"}
