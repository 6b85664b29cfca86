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

MAX_CLASSES, IMAGES_PER_CLASS = 16, 12  # shown at most: classes, and images of each
SIDE = 72  # pixels; so many images fit the page


def contact_sheet(prepared: Prepared) -> str:
    """Draw a few images of each class as SVG, a row for each class.

    It is black on white, for DVC and the page show it as a picture.
    """
    classes = prepared.classes[:MAX_CLASSES]
    shown = prepared.samples[prepared.samples["usable"] & prepared.samples["class"].isin(classes)]
    # Neighbors in the table are often much alike.
    chosen = [
        rows[:: max(1, len(rows) // IMAGES_PER_CLASS)][:IMAGES_PER_CLASS]
        for rows in shown.groupby("class").indices.values()
    ]
    shown = shown.iloc[sorted(row for rows in chosen for row in rows)]
    table = pd.DataFrame(
        {
            "class": shown["class"],
            "place": shown.groupby("class").cumcount(),
            "picture": [as_data_url(prepared.images[row], SIDE) for row in shown.index],
        }
    )
    left_out = len(prepared.classes) - len(classes)
    chart = (
        alt.Chart(table, title=f"the first {MAX_CLASSES} of {len(prepared.classes)} classes" if left_out else "")
        .mark_image(width=SIDE, height=SIDE)
        .encode(
            x=alt.X("place:O", axis=None, scale=alt.Scale(domain=list(range(IMAGES_PER_CLASS)))),
            y=alt.Y("class:N", title=None, sort=classes, axis=alt.Axis(domain=False, ticks=False)),
            url="picture:N",
        )
        .properties(width=alt.Step(SIDE + 6), height=alt.Step(SIDE + 6))
        .configure(background="white")
        .configure_view(stroke=None)
    )
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
