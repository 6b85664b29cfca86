"""Whether the network of params.yaml can be built and takes images of `data.image_size`, before any is decoded."""

import warnings

from stages.errors import UserError
from stages.params import Model


def network_problems(model: Model, image_size: int) -> list[str]:
    """Return what training would stop at: the network's name, its weights unless they are downloaded, the image size.

    The network is built without memory or arithmetic, on torch's meta device, and two blank images go through it. What
    fails there, which not every layer can do, is tried again as training does it, and that alone is a problem.
    """
    import torch  # seconds, for this alone

    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that weights are not copied
            _try_network(model, image_size)
    except Exception:  # layers fail in many ways there
        try:
            _try_network(model, image_size)
        except UserError as error:
            return [str(error)]
    return []


def _try_network(model: Model, image_size: int) -> None:
    from stages.models.network import build_network, check_image_size

    without_download = model.model_copy(update={"weights": "none"}) if model.weights == "default" else model
    check_image_size(build_network(without_download, classes=2, seed=0), model, image_size, channels=3)
