"""Larger pictures: the network that enlarges, the measures it is judged by, and the endpoint."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from demos.diffusion import larger
from genkit import core, diffusion, images, labels
from genkit.core import Problem
from genkit.diffusion import detector, upscaling


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where the made files go."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


def drawn(side):
    """Flat shapes with sharp edges, of any size the same picture."""
    big = Image.new("RGB", (side, side), (112, 190, 120))
    pen = ImageDraw.Draw(big)
    pen.ellipse([side * part for part in (0.15, 0.2, 0.7, 0.75)], fill=(226, 40, 50))
    pen.polygon([(side * x, side * y) for x, y in ((0.5, 0.3), (0.9, 0.85), (0.35, 0.9))], fill=(250, 205, 20))
    return big


def pair(factor):
    """A picture of 64 pixels and its original, both made smaller from one much larger."""
    return tuple(drawn(2048).resize((side, side), Image.Resampling.BOX) for side in (64, 64 * factor))


@pytest.mark.parametrize("factor", [2, 4])
def test_the_shipped_network_is_nearer_to_the_original_than_interpolation(factor):
    small, wanted = pair(factor)
    made, plain = diffusion.upscale(small, factor), diffusion.bicubic(small, factor)
    assert made.size == plain.size == wanted.size
    truth = images.from_pil([wanted])
    ours, theirs = (upscaling.psnr(images.from_pil([each]), truth).item() for each in (made, plain))
    assert ours > theirs + 1
    assert upscaling.ssim(images.from_pil([made]), truth) > upscaling.ssim(images.from_pil([plain]), truth)


def test_it_is_small():
    assert sum(each.numel() for each in upscaling.shipped().parameters()) <= 400_000


def test_tiles_leave_no_seam():
    noise = torch.rand((1, 3, 150, 300), generator=core.seeded(0)) * 2 - 1
    picture = images.to_pil(noise)[0]
    with torch.inference_mode():
        whole = images.to_pil(upscaling.shipped()(images.from_pil([picture]), 2)[-1])[0]
    assert np.abs(np.asarray(whole, int) - np.asarray(diffusion.upscale(picture, 2), int)).max() <= 1


@pytest.mark.parametrize("size, after", [((1, 1), (2, 2)), ((3000, 300), (1024, 102)), ((7, 900), (8, 1024))])
def test_any_size_is_taken_and_long_sides_are_made_smaller_first(size, after):
    assert diffusion.upscale(Image.new("RGB", size, "red"), 2).size == after


def test_transparent_parts_become_white():
    assert np.asarray(diffusion.upscale(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), 2)).min() > 250


@pytest.mark.parametrize("factor", [3, 0, True, "2", None])
def test_another_factor_is_told(factor):
    with pytest.raises(Problem, match="factor must be 2 or 4"):
        diffusion.upscale(Image.new("RGB", (8, 8)), factor)


def test_an_untrained_network_interpolates():
    small, _ = pair(2)
    fresh = core.build(upscaling.Upscaler, 0).eval()
    assert np.abs(np.asarray(diffusion.upscale(small, 2, fresh), int) - np.asarray(diffusion.bicubic(small, 2), int)).mean() < 2


def test_the_measures_know_a_picture_from_a_worse_one():
    wanted = images.from_pil([pair(2)[1]])
    near, far = wanted + 0.02, wanted.flip(3)
    judge = detector.load()
    assert upscaling.psnr(wanted + 0.2, wanted).item() == pytest.approx(20, abs=0.01), "an error of a tenth of the span is 20 dB"
    assert upscaling.ssim(wanted, wanted).item() == pytest.approx(1) and upscaling.ssim(near, wanted) > upscaling.ssim(far, wanted)
    with torch.inference_mode():
        assert upscaling.perceived(judge, wanted, wanted).item() == pytest.approx(0, abs=1e-6)
        assert upscaling.perceived(judge, near, wanted) < upscaling.perceived(judge, far, wanted)


def test_icons_held_out_are_so_in_every_skin():
    names = [f"icon-{index}" for index in range(400)]
    assert 25 < sum(map(upscaling.held_out, names)) < 75
    assert all(upscaling.held_out(name) == upscaling.held_out(f"{name}-medium-dark") for name in names)


# --- the endpoint


def asked(tmp_path, picture, factor=2, name="given.png", **how):
    picture.save(tmp_path / name, **how)
    return larger.diffusion_upscale({"path": str(tmp_path / name)}, factor)["path"]


def test_diffusion_upscale_gives_a_marked_file(tmp_path):
    made = asked(tmp_path, labels.mark(pair(2)[0], model="diffusion/mini-sd", prompt="a red <b>", seed=3), 4)
    assert Image.open(made).size == (256, 256) and labels.read(made)["model"] == "upscaler/emoji"
    assert labels.read(made)["settings"]["factor"] == 4


@pytest.mark.parametrize("mode, name", [("P", "a.png"), ("CMYK", "a.jpg"), ("1", "a.bmp"), ("LA", "a.png"), ("P", "a.gif"), ("RGBA", "a.webp")])
def test_every_kind_of_picture_is_enlarged(tmp_path, mode, name):
    picture = (drawn(40) if mode != "RGBA" else drawn(40).convert("RGBA")).convert("L" if mode == "LA" else "RGB").convert(mode)
    assert Image.open(asked(tmp_path, picture, name=name)).size == (80, 80)


def test_sixteen_bits_and_turned_photos_are_read_as_they_look(tmp_path):
    deep = Image.fromarray(np.full((8, 8), 100 * 257, np.uint16))
    assert abs(Image.open(asked(tmp_path, deep)).getpixel((8, 8))[0] - 100) <= 8
    exif = Image.Exif()
    exif[274] = 6
    assert Image.open(asked(tmp_path, Image.new("RGB", (30, 20)), name="turned.jpg", exif=exif)).size == (40, 60)


def test_what_is_no_picture_and_other_factors_are_told(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(Problem, match="not a picture"):
        larger.diffusion_upscale({"path": str(tmp_path / "text.png")}, 2)
    with pytest.raises(Problem, match="no picture was given"):
        larger.diffusion_upscale(None, 2)
    for factor, sentence in ((3, "factor must be 2 or 4, got '3"), ("<b>", "must be a number, got '<b>'")):
        with pytest.raises(Problem, match=sentence):
            asked(tmp_path, drawn(8), factor)


def test_what_was_done_to_a_large_upload_is_said():
    html, _ = larger.hung(Image.new("RGB", (2000, 200), "red"), 4, ("Your picture", "您的图片"))
    assert "2000 × 200" in html and "512 × 51" in html and "4 tiles" in html and "Shown smaller here" in html
