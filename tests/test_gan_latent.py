"""Walks through the latent space of a GAN, and the films that they leave as."""

import copy
import functools
import io
import json

import pytest
import torch
from PIL import Image

from demos.gan import walk
from genkit import core, films, gan, labels
from genkit.gan import latent
from genkit.gan.latent import LAYERS, Spot
from genkit.gan.model import noise

A, B = Spot(3, 1), Spot(8, 2)
ARCHITECTURES = {"mlp": (8, 8), "dcgan": (8, 4), "deep": (8, 4), "style": (8, 4)}


@functools.cache
def untrained(arch: str) -> gan.GAN:
    """A small GAN with the means of its batches and of its styles away from 0, as after training."""
    latent_dim, channels = ARCHITECTURES[arch]
    model = core.build(lambda: gan.GAN(arch, latent_dim, channels), 0)
    with torch.no_grad():
        model.generator(torch.randn(64, latent_dim, generator=core.seeded(5)), torch.arange(64) % 10)
        if arch == "style":
            model.generator.w_mean.mul_(100)  # one step of its running mean goes 1 % of the way
    return model.eval()


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request):
    return untrained(request.param)


@pytest.fixture(scope="module")
def style():
    return untrained("style")


def apart(one, other) -> int:
    """The largest difference of a pixel, in 256 levels. A batch of another size may round differently by 1."""
    return max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))


def sampled(model, spot):
    return next(gan.sample(model, str(spot.digit), n=1, seed=spot.seed))[0]


# --- slerp


def test_slerp_starts_and_ends_at_the_two_latents_and_keeps_the_length():
    a, b = torch.randn(2, 64, generator=core.seeded(0))
    way = latent.slerp(a, b, torch.linspace(0, 1, 11))
    assert torch.allclose(way[0], a, atol=1e-6) and torch.allclose(way[-1], b, atol=1e-6)
    lengths = way.norm(dim=1)
    assert lengths.min() >= min(a.norm(), b.norm()) - 1e-4 and lengths.max() <= max(a.norm(), b.norm()) + 1e-4
    assert torch.lerp(a, b, torch.tensor(0.5)).norm() < 0.85 * lengths.min()  # what the straight line would do


def test_slerp_turns_by_equal_angles():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    third = latent.slerp(a, b, torch.tensor([1 / 3]))[0]
    assert torch.allclose(third, torch.tensor([3**0.5 / 2, 0.5]), atol=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_slerp_between_equal_or_opposite_latents_is_finite(sign):
    a = torch.randn(8, generator=core.seeded(0))
    assert latent.slerp(a, sign * a, torch.linspace(0, 1, 5)).isfinite().all()


# --- morph


@pytest.mark.parametrize("b", [B, Spot(3, 2), Spot(8, 1)], ids=["both", "seed", "digit"])
def test_a_morph_leads_from_one_sample_to_the_other(model, b):
    way = gan.morph(model, A, b, 7)
    assert len(way) == 7 and {picture.size for picture in way} == {(28, 28)}
    assert apart(way[0], sampled(model, A)) <= 1 and apart(way[-1], sampled(model, b)) <= 1
    assert apart(way[0], way[-1]) > 1 and apart(way[3], way[0]) > 1


def test_a_mixture_of_one_digit_alone_is_that_digit(model):
    z, y = noise(model, 4, 0), torch.tensor([0, 3, 8, 9])
    with torch.inference_mode():
        assert torch.equal(model.generator(z, y), model.generator(z, torch.nn.functional.one_hot(y, 10).float()))


def test_mixtures_leave_the_mean_style_of_the_digits_alone():
    style = copy.deepcopy(untrained("style")).train()
    before = style.generator.w_mean.clone()
    style.generator.mapping(noise(style, 2, 0), torch.full((2, 10), 0.1))
    assert torch.equal(style.generator.w_mean, before)
    style.generator.mapping(noise(style, 2, 0), torch.tensor([1, 2]))
    assert not torch.equal(style.generator.w_mean, before)


# --- the plane


def test_the_middle_of_the_plane_is_the_sample_itself(model):
    ((middle, corner),) = gan.plane_many(model, [(A, [(0.0, 0.0), (1.0, -1.0)])])
    assert apart(middle, sampled(model, A)) <= 1 < apart(middle, corner)


def test_every_point_of_the_plane_is_as_long_as_its_middle_and_its_axes_are_perpendicular(model):
    z = latent._plane(model, 1, torch.tensor([(0.0, 0.0), (1e-3, 0.0), (0.0, 1e-3), *latent.lattice(5)]))
    assert torch.allclose(z.norm(dim=1), noise(model, 1, 1).norm(), atol=1e-4)
    middle, right, up = z[0], z[1] - z[0], z[2] - z[0]
    for one, other in ((middle, right), (middle, up), (right, up)):
        assert abs(torch.cosine_similarity(one, other, dim=0)) < 0.05
    assert right.norm().item() == pytest.approx(latent.REACH * 1e-3 * middle.norm().item(), rel=0.05)


def test_a_visitor_sees_the_same_plane_alone_and_in_company(model):
    mine = (A, [(0.25, -0.5), (1.0, 1.0)])
    (alone,) = gan.plane_many(model, [mine])
    torch.manual_seed(99)  # nothing comes from the global generator
    crowd = gan.plane_many(model, [(B, [(0.0, 0.0)] * 30), mine, (A, [])])
    assert [apart(*pair) <= 1 for pair in zip(alone, crowd[1], strict=True)] == [True, True]
    assert [len(pictures) for pictures in crowd] == [30, 2, 0] and gan.plane_many(model, []) == []


def test_the_map_has_the_top_left_first():
    assert latent.lattice(2) == [(-0.5, 0.5), (0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)]


# --- style mixing and truncation


def test_no_coarse_layer_gives_the_fine_picture_and_all_give_the_coarse_one(style):
    mixed = gan.mix(style, A, B, range(LAYERS + 1))
    assert apart(mixed[0], sampled(style, B)) <= 1 and apart(mixed[LAYERS], sampled(style, A)) <= 1
    assert all(apart(one, other) > 1 for one, other in zip(mixed, mixed[1:], strict=False))


@pytest.mark.parametrize("arch", ["mlp", "dcgan"])
def test_a_generator_without_styles_says_that_it_cannot_mix(arch):
    with pytest.raises(core.Problem, match="only the variant 'style'"):
        gan.mix(untrained(arch), A, B, [1])


def test_truncation_0_gives_one_picture_a_digit_whatever_the_seed(model):
    one, other = (gan.truncate(model, "37", 0, n=4, seed=seed) for seed in (1, 2))
    assert max(apart(*pair) for pair in zip(one, other, strict=True)) <= 1
    assert apart(one[0], one[2]) <= 1 < apart(one[0], one[1])


def test_truncation_1_changes_nothing_and_less_brings_pictures_nearer_to_the_ordinary_one(model):
    ordinary, half, free = (gan.truncate(model, "3", psi, n=8, seed=1) for psi in (0, 0.5, 1))
    assert max(apart(*pair) for pair in zip(free, next(gan.sample(model, "3", n=8, seed=1)), strict=True)) <= 1

    def far(pictures):
        return sum(abs(a - b) for one, other in zip(pictures, ordinary, strict=True) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))

    assert 0 < far(half) < far(free)


# --- films


def frames(n: int, size=(28, 28), mode="L") -> list[Image.Image]:
    """Pictures that all differ."""
    made = [Image.linear_gradient("L").rotate(10 * index).resize(size).convert(mode) for index in range(n)]
    return [labels.mark(picture, model="gan/dcgan", prompt="3 → 8", seed=7, digit_b="8") for picture in made]


MARK = {"source": labels.GENERATED, "model": "gan/dcgan", "prompt": "3 → 8", "seed": 7, "settings": {"digit_b": "8"}}


def test_a_film_goes_there_and_back_without_showing_an_end_twice():
    assert films.there_and_back([1, 2, 3, 4]) == [1, 2, 3, 4, 3, 2]
    assert films.there_and_back([1, 2]) == [1, 2]


def test_a_gif_opens_again_with_every_pixel(tmp_path):
    made = frames(6)
    (tmp_path / "x.gif").write_bytes(films.gif(made, fps=10, scale=4))
    with Image.open(tmp_path / "x.gif") as film:
        assert (film.format, film.n_frames, film.size, film.info["loop"], film.info["duration"]) == ("GIF", 6, (112, 112), 0, 100)
        for index, frame in enumerate(made):
            film.seek(index)
            assert apart(film.convert("L").resize((28, 28), Image.Resampling.NEAREST), frame) == 0
        assert json.loads(film.info["comment"])["model"] == "gan/dcgan"
    assert labels.read(tmp_path / "x.gif") == MARK


@pytest.mark.parametrize("size, mode, shown", [((28, 28), "L", (84, 84)), ((9, 7), "RGB", (28, 22))])
def test_an_mp4_opens_again_with_all_frames_and_even_sides(tmp_path, size, mode, shown):
    import av

    made = frames(6, size, mode)
    (tmp_path / "x.mp4").write_bytes(films.mp4(made, scale=3))
    with av.open(tmp_path / "x.mp4") as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height, stream.pix_fmt, stream.average_rate) == (*shown, "yuv420p", films.FPS)
        assert json.loads(film.metadata["comment"])["seed"] == 7
        pictures = [frame.to_image() for frame in film.decode(video=0)]
    assert len(pictures) == 6
    inside = pictures[3].convert("L").crop((0, 0, 3 * size[0], 3 * size[1])).resize(size, Image.Resampling.BOX)
    assert sum(abs(a - b) for a, b in zip(inside.tobytes(), made[3].convert("L").tobytes(), strict=True)) / (size[0] * size[1]) < 4
    assert labels.read(tmp_path / "x.mp4") == MARK


def test_a_grid_has_the_frames_in_rows_and_the_mark_of_the_first():
    made = frames(5)
    sheet = films.grid(made, columns=3, scale=2)
    assert sheet.size == (168, 112) and films.grid(made).size == (84, 56)
    assert apart(sheet.crop((56, 56, 112, 112)).resize((28, 28), Image.Resampling.NEAREST), made[4]) == 0
    assert labels.read(Image.open(io.BytesIO(labels.png(sheet)))) == MARK


@pytest.mark.parametrize("make", [films.gif, films.mp4], ids=["gif", "mp4"])
def test_a_film_of_unmarked_pictures_has_no_mark(tmp_path, make):
    (tmp_path / "x").write_bytes(make([Image.new("L", (4, 4), level) for level in (0, 255)]))
    assert labels.read(tmp_path / "x") is None


def test_a_file_with_a_broken_mark_is_still_known_as_generated(tmp_path):
    packet = f'<x:xmpmeta Iptc4xmpExt:DigitalSourceType="{labels.GENERATED}"><broken></x:xmpmeta>'
    (tmp_path / "x.gif").write_bytes(b"GIF89a" + packet.encode())
    assert labels.read(tmp_path / "x.gif") == {"source": labels.GENERATED}


# --- the section


@pytest.fixture
def tiny(monkeypatch):
    """The page's models, each replaced by an untrained one of its architecture."""
    made = {name: untrained(config.arch) for name, config in gan.VARIANTS.items()}
    monkeypatch.setattr(walk.models, "use", lambda family, name: made[name])
    walk.explorer.cache_clear()
    yield made
    walk.explorer.cache_clear()


def asked(**changes) -> dict:
    return walk.look({"variant": "dcgan", "digit": "3", "seed": 1, "x": 0.5, "y": -0.5, **changes})


def test_the_plane_is_clamped_to_its_edges(tiny):
    assert asked(x=99, y=-1e300) == asked(x=1, y=-1)
    assert asked(x=99)["alt"] == "x 1.00, y -0.50" and asked(seed=1e300)["picture"] == asked(seed=2**31 - 1)["picture"]


def test_the_plane_brings_the_map_only_when_asked(tiny):
    assert "map" not in asked() and asked(map=True)["map"].startswith("data:image/png;base64,")
    assert asked(map=True)["picture"] == asked()["picture"]


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"x": "NaN"}, "x must be a number"),
        ({"y": None}, "y must be a number"),
        ({"variant": "dcgna"}, "choose one of"),
        ({"variant": ["dcgan"]}, "choose one of"),
        ({"digit": "🐱"}, "unknown digit"),
        ({"digit": "<img src=x onerror=alert(1)>"}, "&lt;img"),
        ({"seed": {"a": 1}}, "seed must be a number"),
    ],
)
def test_a_strange_question_is_answered_with_a_sentence(tiny, changes, sentence):
    answer = asked(**changes)
    assert set(answer) == {"said"} and sentence in answer["said"] and 'lang="zh"' in answer["said"] and "<img" not in answer["said"]


def test_a_question_without_anything_is_answered_with_a_sentence():
    assert "unknown digit" in walk.look({})["said"]


def test_only_what_is_asked_changes_in_a_morph():
    assert walk.ends("3", 1, "8", 2, "both") == (A, B)
    assert walk.ends("3", 1, "8", 2, "digit") == (A, Spot(8, 1))
    assert walk.ends("3", 1, "8", 2, "hand") == (A, Spot(3, 2))


def test_the_row_of_a_morph_is_clamped_and_refuses_in_its_place(tiny):
    assert walk.strip("dcgan", "3", 1, "8", 2, "both", 10**9).count("<img") == 64
    assert walk.strip("dcgan", "3", 1, "8", 2, "both", -5).count("<img") == 2
    assert "seed must be a number" in walk.strip("dcgan", "3", None, "8", 2, "both", 5)


def test_the_section_shows_every_crossover_and_two_rows_of_digits(tiny):
    strip, mixing, tamed = walk.everything("mlp", "3", 1, "8", 2, "digit", 5, 0.7)
    assert (strip.count("<img"), mixing.count("<img"), tamed.count("<img")) == (5, LAYERS + 1, 20)
    assert all("AI-generated" in shown for shown in (strip, mixing, tamed))


def test_a_model_that_is_not_told_the_digit_names_none(tiny):
    strip, _, tamed = walk.everything("unconditional", "3", 1, "8", 2, "both", 5, 1)
    assert "A ? (seed 1)" in strip and 'alt="?"' in tamed and 'alt="3"' not in tamed


@pytest.mark.parametrize("which", walk.KEPT)
def test_a_film_is_kept_as_three_marked_files(tiny, tmp_path, monkeypatch, which):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(walk, "FILM", 4)
    shown, (gif, mp4, grid) = walk.keep(which, "style", "3", 1, "8", 2, "both")
    assert "<video" in shown and [path.rpartition(".")[2] for path in (gif, mp4, grid)] == ["gif", "mp4", "png"]
    assert {labels.read(path)["model"] for path in (gif, mp4, grid)} == {"gan/style"}


def test_the_endpoints_give_the_walk_and_the_mixture(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    way = walk.gan_interpolate("mlp", n=3)
    assert len(way) == 3 and apart(Image.open(way[0]["path"]), sampled(tiny["mlp"], A)) <= 1
    assert labels.read(way[2]["path"])["settings"] == {"index": 2, "digit_a": "3", "digit_b": "8", "seed_b": 2}
    for layers, spot in ((0, B), (-7, B), (4, A), (10**9, A)):
        assert apart(Image.open(walk.gan_mix(layers=layers)["path"]), sampled(tiny["style"], spot)) <= 1


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"variant": "stylegan"}, "choose one of"),
        ({"digit_a": "three"}, "unknown digit"),
        ({"digit_b": "🐱"}, "unknown digit"),
        ({"digit_b": "33"}, "unknown digit"),
        ({"seed_a": "<img onerror=alert(1)>"}, "seed must be a number"),
        ({"n": float("nan")}, "n must be a number"),
    ],
)
def test_bad_arguments_of_the_endpoints_are_refused(changes, sentence):
    with pytest.raises(core.Problem, match=sentence):
        walk.gan_interpolate(**changes)
    if "seed_a" in changes or "digit_a" in changes:
        with pytest.raises(core.Problem, match=sentence):
            walk.gan_mix(**changes)
