"""The formats that can be generated, by the name of the mapping that reads them."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.generator.foreign_formats import render_mini_dmp, render_segment, render_shopstream
from pipelines.generator.rendering import Facts, render_flat, render_native

SOURCE_FORMATS: dict[str, Callable[[Facts], str]] = {
    "native": render_native,
    "flat": render_flat,
    "segment": render_segment,
    "shopstream": render_shopstream,
    "mini_dmp": render_mini_dmp,
}
