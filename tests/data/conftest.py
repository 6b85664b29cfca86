import pytest

from stages.params import load_params
from tests.conftest import ROOT


@pytest.fixture
def data():
    """The section `data` of the committed params.yaml."""
    return load_params(ROOT / "params.yaml").data


@pytest.fixture
def train():
    """The section `train` of the committed params.yaml."""
    return load_params(ROOT / "params.yaml").train
