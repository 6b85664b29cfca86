"""Layer groups: the parameters of a network in named, ordered slices from the input to the head."""

from stages.params import Granularity


def name_groups(
    granularity: Granularity, layers: list[list[str]], neck: list[str], head: list[str]
) -> dict[str, list[str]]:
    """Name the slices: stem, then stage1 … or block1 …, then neck where there is one, then head.

    Args:
        granularity: `stages` or `blocks`.
        layers: names of the parameters below neck and head, slice by slice; the first slice is the stem.
        neck: pretrained parameters that stand beside the classifier, as ConvNeXt's last norm layer does.
        head: the classifier's.
    """
    stem, *rest = layers
    numbered = {f"{granularity.removesuffix('s')}{number}": layer for number, layer in enumerate(rest, start=1)}
    groups = {"stem": stem, **numbered, "neck": neck, "head": head}
    return {name: parameters for name, parameters in groups.items() if parameters}
