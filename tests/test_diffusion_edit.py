"""A picture to begin with: image to image, inpainting, variations, and a film between two prompts."""

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from genkit import diffusion, labels
from genkit.core import Problem
from genkit.diffusion import editing


@pytest.fixture(scope="module")
def pipe():
    return diffusion.load("mini-sd")


@pytest.fixture(scope="module")
def house(pipe):
    *_, last = diffusion.sample(pipe, "a house on a purple background", seed=7, num_inference_steps=8)
    return last.image


def edited(pipe, picture, prompt="a house on a green background", **settings):
    return list(diffusion.edit(pipe, prompt, picture, num_inference_steps=8, seed=1, **settings))[-1].pictures


def apart(one, other):
    return np.abs(np.asarray(one, int) - np.asarray(other, int)).mean()


def right_half(size=(64, 64), mode="L"):
    mask = Image.new("L", size, 0)
    mask.paste(255, (size[0] // 2, 0, *size))
    return mask.convert(mode)


def test_more_strength_leaves_less_of_the_picture(pipe, house):
    little, much = (edited(pipe, house, strength=strength)[0] for strength in (0.2, 0.95))
    assert apart(house, little) < apart(house, much)
    corner = np.asarray(much, int)[2:6, 2:6].mean((0, 1))
    assert corner[1] > corner[2], "the background asked for is green"


def test_variations_differ_and_the_same_seed_gives_the_same(pipe, house):
    one, two = edited(pipe, house, n=2)
    assert apart(one, two) > 0.5 and apart(one, edited(pipe, house)[0]) < 0.5


def test_inpainting_changes_what_the_mask_covers_and_nothing_else(pipe, house):
    (made,) = edited(pipe, house, "a red apple on a purple background", mask=right_half(), strength=1)
    before, after = np.asarray(house, int), np.asarray(made, int)
    assert np.abs(before - after)[:, :29].max() <= 1 < 10 < np.abs(before - after)[:, 34:].mean()


@pytest.mark.parametrize("mask", [right_half((300, 100)), right_half((64, 64), "RGB"), right_half((10, 10), "P"), right_half((1000, 1), "1")])
def test_a_mask_of_another_size_or_mode_is_made_to_fit(mask):
    made = editing.masked(mask, 64)
    assert made.size == (64, 64) and set(made.getdata()) <= {0, 255} and made.getbbox() == (32, 0, 64, 64)


def test_a_painted_layer_counts_where_it_is_opaque():
    layer = Image.new("RGBA", (256, 256), (0, 0, 0, 0))
    layer.paste((10, 10, 10, 255), (0, 0, 128, 256))
    assert editing.masked(layer, 64).getbbox() == (0, 0, 32, 64)


@pytest.mark.parametrize("mask", [Image.new("L", (64, 64), 0), Image.new("RGBA", (9, 9), (255, 255, 255, 0)), Image.new("L", (1, 1), 100)])
def test_an_empty_mask_is_told(pipe, house, mask):
    with pytest.raises(Problem, match="mask is empty"):
        edited(pipe, house, mask=mask)


def test_an_empty_prompt_is_told(pipe, house):
    with pytest.raises(Problem, match="the prompt is empty"):
        edited(pipe, house, " ")


def test_closing_the_generator_stops_the_edit(pipe, house, monkeypatch):
    calls, forward = [], type(pipe.unet).forward
    monkeypatch.setattr(type(pipe.unet), "forward", lambda self, *args, **options: calls.append(1) or forward(self, *args, **options))
    going = diffusion.edit(pipe, "a cat", house, strength=1, num_inference_steps=100)
    next(going)
    going.close()
    assert 0 < len(calls) < 100


def test_a_film_begins_with_one_prompt_and_ends_with_the_other(pipe):
    first, last = "a red apple", "a banana on a blue background"
    *_, frames = diffusion.between(pipe, first, last, n=9, num_inference_steps=4, seed=3)
    ends = [list(diffusion.sample(pipe, prompt, num_inference_steps=4, seed=3))[-1].image for prompt in (first, last)]
    assert len(frames) == 9 and apart(frames[0], ends[0]) < 0.5 and apart(frames[-1], ends[1]) < 0.5
    steps = [apart(one, other) for one, other in zip(frames, frames[1:], strict=False)]
    assert max(steps) < apart(frames[0], frames[-1])


def test_the_shared_pipeline_is_not_changed_by_an_edit(pipe, house):
    before = (type(pipe), type(pipe.tokenizer), pipe.scheduler)
    edited(pipe, house, n=2)
    assert before == (type(pipe), type(pipe.tokenizer), pipe.scheduler)


def test_digits_cannot_be_edited(house):
    with pytest.raises(Problem, match="cannot edit"):
        next(diffusion.edit(diffusion.load("digits"), "3", house))
    with pytest.raises(Problem, match="mini-sd and with Stable Diffusion only"):
        next(diffusion.between(diffusion.load("digits"), "3", "4"))


# --- the tab


def test_what_a_painter_sends_is_read_or_refused():
    from demos.diffusion import edit, paint

    value = edit.beneath(Image.new("RGB", (1, 10_000), "red"))
    assert paint.read(value, "under").size == (64, 64) and paint.read(value, "mask") is None and paint.read("nonsense", "mask") is None
    for address in ("data:image/svg+xml,<svg/>", "data:image/png;base64,AAAA", "file:///etc/passwd"):
        with pytest.raises(Problem, match="could not be read"):
            paint.read({"mask": address}, "mask")


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def test_diffusion_edit_takes_a_turned_cmyk_photo(client, tmp_path):
    photo, exif = Image.new("CMYK", (300, 200), (200, 0, 0, 0)), Image.Exif()
    exif[274] = 6  # turned by 90 degrees
    photo.save(tmp_path / "photo.jpg", exif=exif)
    made = client.predict(handle_file(tmp_path / "photo.jpg"), "a cat", 0.5, "", 3, 4.0, 1, "mini-sd", 2, api_name="/diffusion_edit")
    assert [Image.open(file).size for file in made] == [(64, 64)] * 2 and labels.read(made[1])["seed"] == 2


def test_diffusion_inpaint_takes_a_palette_picture_and_a_mask_of_another_size_and_tells_an_empty_one(client, tmp_path):
    Image.new("RGB", (1, 10_000), "red").convert("P").save(tmp_path / "line.png")
    right_half((30, 20), "P").save(tmp_path / "mask.png")
    Image.new("L", (64, 64), 0).save(tmp_path / "empty.png")
    line, mask, empty = (handle_file(tmp_path / f"{name}.png") for name in ("line", "mask", "empty"))
    (made,) = client.predict(line, mask, "a cat", 1.0, "", 3, 4.0, 1, "mini-sd", 1, api_name="/diffusion_inpaint")
    assert Image.open(made).getpixel((5, 30)) == (255, 0, 0)
    with pytest.raises(AppError, match="mask is empty"):
        client.predict(line, empty, "a cat", api_name="/diffusion_inpaint")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(AppError, match="not a picture"):
        client.predict(line, handle_file(tmp_path / "text.png"), "a cat", api_name="/diffusion_inpaint")
