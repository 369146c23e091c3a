"""Pictures in a row as something to keep: an animated GIF, an MP4, a grid. Any family's pictures, all of one size.

Each pixel becomes a square of `scale` pixels, with nothing smoothed. The file carries the mark of the first picture (labels.mark).
"""

from __future__ import annotations

import math
from io import BytesIO

from PIL import Image

from genkit import labels

FPS = 12


def there_and_back(frames: list[Image.Image]) -> list[Image.Image]:
    """The frames and then those between the ends backwards: a film that can be repeated without a jump."""
    return frames + frames[-2:0:-1]


def gif(frames: list[Image.Image], *, fps: int = FPS, scale: int = 10) -> bytes:
    """A GIF that repeats for ever. Lossless for mode L; in colour 256 colours a frame. A GIF counts time in hundredths of a second.

    Frames that equal the one before are not stored again: that one is shown longer.
    """
    first, *rest = (_scaled(frame, scale) for frame in frames)
    file = BytesIO()
    comment = frames[0].info.get("Parameters", "")
    first.save(file, "GIF", save_all=True, append_images=rest, duration=1000 // fps, loop=0, optimize=False, comment=comment)
    return labels.into_gif(file.getvalue(), frames[0])


def mp4(frames: list[Image.Image], *, fps: int = FPS, scale: int = 10) -> bytes:
    """An MP4 that phones and browsers play: H.264 where FFmpeg was built with it, else MPEG-4 part 2."""
    import av  # FFmpeg's libraries: only who wants a film loads them

    info, file = frames[0].info, BytesIO()
    pictures = [_even(_scaled(frame, scale).convert("RGB")) for frame in frames]
    with av.open(file, "w", format="mp4") as film:
        film.metadata.update({tag: info[key] for tag, key in (("title", "Title"), ("comment", "Parameters")) if key in info})
        codec, options = ("libx264", {"crf": "16"}) if "libx264" in av.codecs_available else ("mpeg4", {"qscale": "2"})
        stream = film.add_stream(codec, rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = *pictures[0].size, "yuv420p"
        for picture in pictures:
            film.mux(stream.encode(av.VideoFrame.from_image(picture)))
        film.mux(stream.encode())
    return labels.into_mp4(file.getvalue(), frames[0])


def grid(frames: list[Image.Image], *, columns: int | None = None, scale: int = 1) -> Image.Image:
    """All frames in one picture, row by row, edge to edge; as square as it goes without `columns`."""
    columns = columns or math.ceil(math.sqrt(len(frames)))
    width, height = (side * scale for side in frames[0].size)
    sheet = Image.new(frames[0].mode, (columns * width, math.ceil(len(frames) / columns) * height))
    for index, frame in enumerate(frames):
        sheet.paste(_scaled(frame, scale), (index % columns * width, index // columns * height))
    sheet.info |= frames[0].info
    return sheet


def _scaled(picture: Image.Image, scale: int) -> Image.Image:
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def _even(picture: Image.Image) -> Image.Image:
    """With a black edge where a side is odd: yuv420p halves the sides of its colours."""
    return picture.crop((0, 0, picture.width + picture.width % 2, picture.height + picture.height % 2))
