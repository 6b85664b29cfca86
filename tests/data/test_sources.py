import pytest

from stages.data.sources import load_source
from stages.params import load_params
from tests.conftest import ROOT


@pytest.fixture
def data():
    return load_params(ROOT / "params.yaml").data


def test_confident_solar_cells_are_those_with_probability_0_or_1(data):
    source = load_source(data)
    assert source.classes == ["functional", "defective"]
    assert source.samples["label"].value_counts().to_dict() == {0: 1508, 1: 715}
    assert source.open(0).size == (300, 300)


def test_all_solar_cells_follow_the_published_protocol(data):
    source = load_source(data.model_copy(update={"labels": "all"}))
    assert source.samples["label"].value_counts().to_dict() == {0: 1508 + 295, 1: 715 + 106}


def test_fake_data_is_the_storys_thousand_images_in_ten_classes(data):
    source = load_source(data.model_copy(update={"source": "fake", "image_size": 40}))
    assert len(source.samples) == 1000
    assert len(source.classes) == 10
    assert source.open(999).size == (40, 40)
    assert source.open(3).tobytes() == source.open(3).tobytes()
