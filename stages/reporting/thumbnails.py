"""Small pictures of the images themselves."""

import base64
import io

import altair as alt
import numpy as np
import numpy.typing as npt
import pandas as pd
import vl_convert
from PIL import Image

from stages.data.store import Prepared
from stages.params import SPLITS

MAX_CLASSES, IMAGES_PER_CLASS = 16, 4  # shown at most: classes, and images of each in each split
SIDE = 72  # pixels; three splits of four images fit the page


def contact_sheet(prepared: Prepared) -> str:
    """Draw a few images of each class in each split as SVG: a row for each class, a column for each split.

    It is black on white, for DVC and the page show it as a picture.
    """
    used = prepared.samples[prepared.samples["split"].isin(SPLITS)]
    classes = prepared.classes[:MAX_CLASSES]
    shown = used[used["class"].isin(classes)]
    # Neighbors in the table are often much alike.
    chosen = [
        rows[:: max(1, len(rows) // IMAGES_PER_CLASS)][:IMAGES_PER_CLASS]
        for rows in shown.groupby(["class", "split"]).indices.values()
    ]
    shown = shown.iloc[sorted(row for rows in chosen for row in rows)]
    table = pd.DataFrame(
        {
            "class": shown["class"],
            "split": shown["split"],
            "place": shown.groupby(["class", "split"]).cumcount(),
            "picture": [as_data_url(prepared.images[row], SIDE) for row in shown.index],
        }
    )
    left_out = len(prepared.classes) - len(classes)
    title = f"the first {MAX_CLASSES} of {len(prepared.classes)} classes" if left_out else ""
    charts = [
        alt.Chart(table[table["split"] == split], title=split)
        .mark_image(width=SIDE, height=SIDE)
        .encode(
            x=alt.X("place:O", axis=None, scale=alt.Scale(domain=list(range(IMAGES_PER_CLASS)))),
            y=alt.Y("class:N", title=None, sort=classes, axis=None if number else alt.Axis(domain=False, ticks=False)),
            url="picture:N",
        )
        .properties(width=alt.Step(SIDE + 6), height=alt.Step(SIDE + 6))
        for number, split in enumerate(SPLITS)
    ]
    chart = alt.hconcat(*charts, title=title).configure(background="white").configure_view(stroke=None)
    svg: str = vl_convert.vegalite_to_svg(chart.to_dict())
    return svg


def as_data_url(pixels: npt.NDArray[np.uint8], side: int | None = None) -> str:
    """Return uint8 pixels (height, width, 1 or 3) as a PNG in a URL, made smaller where it is larger than `side`."""
    content = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze()))
    if side:
        image.thumbnail((side, side))
    image.save(content, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
