"""What the named endpoints share: pictures leave as PNG files with their mark, pictures come in as uploaded files."""

import hashlib
import os
import tempfile
from pathlib import Path

import gradio as gr
from PIL import Image, ImageOps

from genkit import labels
from genkit.core import Problem

PIXELS = 40_000_000  # a larger picture is refused before it is decoded


def stored(data: bytes, name: str) -> str:
    """The path of a file in Gradio's own cache, in a folder named by its content; Gradio serves it, and deletes it when it is old."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio") / hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return str(folder / name)


def file(picture: Image.Image) -> dict:
    """A marked picture as a file that gradio_client downloads."""
    return gr.FileData(path=stored(labels.png(picture), "picture.png"), orig_name="picture.png", mime_type="image/png").model_dump()


def eight_bits(picture: Image.Image) -> Image.Image:
    """A picture of 16 bits a level as one of 8: Pillow would take every level over 255 for white."""
    if picture.mode.startswith("I"):
        return picture.convert("I").point(lambda level: level / 257).convert("L")
    return picture


def opened(path) -> Image.Image:
    """An uploaded picture, upright; of an animation its first. Raises Problem if there is none, if it is not a picture, or if it is too large to decode."""
    if not path:
        raise Problem("no picture was given; upload a PNG, JPEG or WebP file", "没有图片；请上传 PNG、JPEG 或 WebP 文件")
    path = path.get("path") if isinstance(path, dict) else path
    try:
        with Image.open(path, formats=["PNG", "JPEG", "WEBP", "GIF", "BMP"]) as picture:
            if picture.width * picture.height > PIXELS:
                raise Image.DecompressionBombError
            return eight_bits(ImageOps.exif_transpose(picture)).copy()
    except Image.DecompressionBombError:
        most = PIXELS // 1_000_000
        raise Problem("the picture is too large: at most {most} megapixels are read", "图片太大：最多读取 {most} 百万像素", most=most) from None
    except (OSError, ValueError, SyntaxError):
        raise Problem(
            "this file is not a picture that can be read; upload a PNG, JPEG or WebP file", "无法把这个文件读成图片；请上传 PNG、JPEG 或 WebP 文件"
        ) from None
