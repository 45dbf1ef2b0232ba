"""Moving pictures: a figure of which some artists change, written as a GIF that is the same bytes every time."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

COLOURS = 96
HOLD = 10
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    '<image width="{width}" height="{height}" href="data:image/gif;base64,{data}"/></svg>\n'
)


def _colours(pictures: list[Any]) -> np.ndarray:
    """The colours of some of the pictures (1, colour, 3), rare ones more often than they occur: lines count too."""
    seen = np.concatenate([np.asarray(p).reshape(-1, 3) for p in pictures[:: max(1, len(pictures) // 4)]])
    packed, count = np.unique(seen.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32), return_counts=True)
    packed = np.repeat(packed, np.sqrt(count).astype(int))
    return np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)[None]


@dataclass(frozen=True)
class Animation:
    """`update(k)` sets the `moving` artists of `figure` to frame k; all else stays, and is drawn once.

    `interval` is the time of a frame in milliseconds; the last one stays ten times as long. It loops for ever.
    """

    figure: Figure
    moving: Iterable[Artist]
    update: Callable[[int], None]
    frames: int
    interval: int = 90

    def _pictures(self) -> list[Any]:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        canvas = FigureCanvasAgg(self.figure)
        for artist in self.moving:
            artist.set_animated(True)
        canvas.draw()
        self.figure.set_layout_engine("none")
        still = canvas.copy_from_bbox(self.figure.bbox)
        pictures: list[Any] = []
        for frame in range(self.frames):
            self.update(frame)
            canvas.restore_region(still)
            for artist in self.moving:
                self.figure.draw_artist(artist)
            pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
        for artist in self.moving:
            artist.set_animated(False)
        return pictures

    def save(self, stem: Path | str) -> None:
        """Write `stem`.gif, the same within `stem`.svg, and its last frame as `stem`.png.

        Snakemake's report shows an SVG, but offers a GIF for download only.
        """
        from PIL import Image

        pictures = self._pictures()
        pictures[-1].save(f"{stem}.png")
        palette = Image.fromarray(_colours(pictures)).quantize(COLOURS, dither=Image.Dither.NONE)
        first, *rest = (p.quantize(COLOURS, palette=palette, dither=Image.Dither.NONE) for p in pictures)
        times = [self.interval] * len(rest) + [self.interval * HOLD]
        first.save(f"{stem}.gif", save_all=True, append_images=rest, duration=times, loop=0, optimize=False)
        data = base64.b64encode(Path(f"{stem}.gif").read_bytes()).decode()
        width, height = first.size
        Path(f"{stem}.svg").write_text(SVG.format(width=width, height=height, data=data))
