"""The VAE family: the ELBO against numbers known by hand, training, reconstruction, drawings and photos made fit."""

import io
import math
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops, ImageDraw

from genkit import core, vae
from genkit.core import Problem
from genkit.digits import digits, to_float
from genkit.vae import evaluate, photo, pictures
from genkit.vae.elbo import binarised, divergence, divergences, elbo_terms, importance_bound, log_weights, reconstruction_error
from genkit.vae.model import VAE
from genkit.vae.training import Warmup, some


@pytest.fixture(autouse=True)
def hermetic(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)


@pytest.fixture(scope="module", params=list(vae.VARIANTS))
def trained(request):
    """Each variant after two real steps, and the three events they gave."""
    return list(vae.train(request.param, steps=2, every=1, batch_size=8, channels=4))


def tiny():
    return core.build(lambda: VAE("deep", 6, 4), 0).eval()


def same(a, b, levels=0):
    return all(max(high for _, high in [ImageChops.difference(p, q).getextrema()]) <= levels for p, q in zip(a, b, strict=True))


def test_digit(i=0):
    return Image.fromarray(digits("test")[0][i].numpy())


test_digit.__test__ = False


def test_kl_of_the_prior_is_zero_and_of_a_moved_prior_half_the_square():
    zero = torch.zeros(3, 5)
    assert divergence(zero, zero).tolist() == [0, 0, 0]
    assert divergence(torch.full((2, 1), 3.0), torch.zeros(2, 1)).tolist() == [4.5, 4.5]
    variance = 4.0  # -1/2 (1 + log 4 - 4)
    assert divergence(torch.zeros(1, 1), torch.full((1, 1), math.log(variance))).item() == pytest.approx((variance - 1 - math.log(variance)) / 2)


def test_reconstruction_is_summed_over_pixels_and_averaged_over_pictures():
    x = torch.ones(2, 1, 28, 28)
    undecided = torch.zeros(2, 1, 28, 28)  # white with probability 1/2
    assert reconstruction_error(undecided, x).tolist() == pytest.approx([784 * math.log(2)] * 2)
    certain = torch.full((2, 1, 28, 28), 40.0)
    assert reconstruction_error(certain, x).tolist() == pytest.approx([0, 0], abs=1e-6)
    assert reconstruction_error(certain, -x).tolist() == pytest.approx([784 * 40] * 2)
    grey = torch.full((1, 1, 28, 28), -0.5)  # a quarter white: the entropy of (1/4, 3/4), at best
    best = reconstruction_error(torch.full((1, 1, 28, 28), math.log(1 / 3)), grey).item()
    assert best == pytest.approx(-784 * (0.25 * math.log(0.25) + 0.75 * math.log(0.75)), rel=1e-5)
    recon, kl = elbo_terms(undecided, x, torch.tensor([[2.0], [0.0]]), torch.zeros(2, 1))
    assert (recon.item(), kl.item()) == (pytest.approx(784 * math.log(2)), pytest.approx(1.0))


def test_z_is_mu_plus_sigma_times_noise():
    model = tiny()
    x, noise = to_float(digits("test")[0][:4]), torch.randn(4, 6, generator=core.seeded(0))
    logits, mu, logvar = model(x, noise)
    assert torch.allclose(logits, model.decode(mu + (0.5 * logvar).exp() * noise), atol=1e-5)


def test_two_steps_give_events_0_to_2_with_finite_metrics_and_a_preview(trained):
    assert [(event.step, event.steps) for event in trained] == [(0, 2), (1, 2), (2, 2)] and trained[0].metrics == {}
    for event in trained[1:]:
        assert all(map(math.isfinite, event.metrics.values()))
    assert all(len(event.preview) == 20 and event.preview[0].size == (28, 28) and event.preview[0].mode == "L" for event in trained)


def test_the_network_takes_and_gives_the_shapes_it_promises(trained):
    model, y = trained[-1].model, torch.tensor([3, 1, 4])
    mu, logvar = model.encode(torch.zeros(3, 1, 28, 28), y)
    assert mu.shape == logvar.shape == (3, model.latent_dim) and model.decode(mu, y).shape == (3, 1, 28, 28)
    assert model.variational != logvar.isneginf().all()


@pytest.mark.parametrize("variant", vae.VARIANTS)
def test_a_resumed_run_equals_an_unbroken_one(variant, tmp_path):
    options = dict(steps=4, every=2, batch_size=8, seed=5, channels=4)
    unbroken = list(vae.train(variant, **options))[-1]
    for event in vae.train(variant, checkpoint=tmp_path, **options):
        if event.step == 2:
            break
    resumed = list(vae.train(variant, checkpoint=tmp_path, **options))
    assert [event.step for event in resumed] == [2, 4]
    expected, found = unbroken.model.state_dict(), resumed[-1].model.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected) and resumed[-1].metrics == unbroken.metrics


def test_stopping_early_keeps_the_model_and_nothing_global_is_touched(tmp_path):
    state = torch.get_rng_state()
    run = vae.train("mlp", steps=100, every=1, batch_size=8)
    for event in run:
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        if event.step == 2:
            break
    run.close()
    vae.save(event.model, tmp_path / "stopped")
    assert same(next(vae.sample(vae.load(tmp_path / "stopped"))), event.preview)
    assert torch.equal(state, torch.get_rng_state())


def metrics_of(**options):
    return list(vae.train("mlp", steps=1, every=1, batch_size=8, channels=8, latent_dim=5, **options))[-1].metrics


def test_the_loss_is_reconstruction_plus_beta_times_kl():
    for beta in (0.0, 1.0, 7.0):
        found = metrics_of(control=core.Control(vae.Rules(beta=beta)))
        assert found["beta"] == beta and found["loss"] == pytest.approx(found["recon"] + beta * found["kl"], rel=1e-5)


def test_free_bits_are_charged_to_every_latent_number_that_says_less():
    found = metrics_of(control=core.Control(vae.Rules(beta=2.0, free_bits=9.0)))  # at step 0 no number says nine nats
    assert found["kl"] < 9 and found["loss"] == pytest.approx(found["recon"] + 2 * 5 * 9, rel=1e-5)


def test_a_plain_autoencoder_pays_for_the_picture_alone():
    found = metrics_of(variational=False)
    assert found["beta"] == found["kl"] == 0 and found["loss"] == found["recon"]


def test_beta_grows_over_the_warm_up_from_where_it_was_set():
    warm = Warmup(vae.Rules(beta=2.0, warmup=4))
    assert [warm(vae.Rules(beta=2.0, warmup=4), step).beta for step in (0, 1, 2, 4, 9)] == [0, 0.5, 1, 2, 2]
    assert [warm(vae.Rules(beta=3.0, warmup=4), 9).beta, warm(vae.Rules(warmup=10), 20).beta, warm(vae.Rules(warmup=10), 25).beta] == [3, 0, 0.5]
    assert warm(vae.Rules(beta=4.0), 26).beta == 4


def test_beta_takes_effect_while_the_run_goes_on():
    control, seen = core.Control(vae.Rules()), []
    for event in vae.train("mlp", steps=4, every=1, batch_size=8, channels=8, control=control):
        seen.append(event.metrics.get("beta"))
        if event.step == 2:
            control.change(beta=5.0)
    assert seen == [None, 1, 1, 5, 5]


def test_only_so_many_examples_are_learnt_from():
    x, y = digits("train")
    few, labels = some(x, y, 50, 3)
    assert len(few) == len(labels) == 50 and len(set(labels.tolist())) > 5 and some(x, y, 0, 3)[0] is x
    assert torch.equal(few, some(x, y, 50, 3)[0]) and not torch.equal(few, some(x, y, 50, 4)[0])


def test_an_examination_says_what_digits_cost_and_how_much_survives():
    *_, event = vae.train("mlp", steps=2, every=1, batch_size=8, channels=8, exams=2, examples=30)
    exam = event.exam
    assert exam.step == 2 and exam.recon > 0 and exam.test_recon > 0 and 0 <= exam.kept <= 1 and 0 <= exam.active <= 64 and exam.sharpness >= 0
    assert exam.metrics.keys() == {"loss", "recon", "kl", "beta"} and exam.seconds > 0


def test_kl_is_a_sum_over_latent_numbers_and_nothing_for_a_sure_code():
    mu, logvar = torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2)
    assert divergences(mu, logvar).tolist() == [[0.5, 2.0]] and divergence(mu, logvar).item() == 2.5
    assert divergence(mu, torch.full((1, 2), -torch.inf)).item() == 0


def test_the_mean_of_the_log_weights_is_the_elbo_and_their_bound_is_above_it():
    model, k = tiny(), 4000
    x = to_float(digits("test")[0][:1])
    logits, mu, logvar = model(x, noise := torch.randn(k, 6, generator=core.seeded(0)))
    weights = log_weights(logits, x.expand(k, -1, -1, -1), mu + (logvar / 2).exp() * noise, mu, logvar)
    recon, kl = elbo_terms(logits, x.expand(k, -1, -1, -1), mu, logvar)
    assert weights.mean().item() == pytest.approx(-(recon + kl).item(), abs=0.3)
    assert importance_bound(weights.view(k, 1)).item() > weights.mean().item()
    assert importance_bound(torch.tensor([[1.0], [3.0]])).item() == pytest.approx(math.log((math.e + math.e**3) / 2))


def test_a_binarised_digit_is_black_or_white_as_often_as_its_grey_says():
    made = binarised(torch.full((1, 1, 200, 200), -0.5), core.seeded(0))
    assert set(made.unique().tolist()) == {-1, 1} and (made == 1).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_many_reconstructions_are_those_of_each_alone():
    model = tiny()
    for i, (together, digit) in enumerate(zip(vae.reconstruct_many(model, [test_digit(i) for i in range(5)]), map(test_digit, range(5)), strict=True)):
        alone = vae.reconstruct(model, test_digit(i))
        assert same([together.input, together.output, together.error], [digit, alone.output, alone.error], levels=1)
        assert together.mu == pytest.approx(alone.mu, abs=1e-4) and together.recon == pytest.approx(alone.recon, rel=1e-4)
    assert vae.reconstruct_many(model, []) == []


def test_the_error_is_the_difference_and_the_costs_are_in_nats():
    model, digit = tiny(), test_digit()
    result = vae.reconstruct(model, digit)
    expected = np.abs(np.asarray(result.input, dtype=int) - np.asarray(result.output, dtype=int))
    assert np.abs(np.asarray(result.error, dtype=int) - expected).max() <= 1
    mu, logvar = torch.tensor([result.mu]), torch.tensor([result.logvar])
    assert mu.shape == (1, 6) and divergence(mu, logvar).item() == pytest.approx(result.kl, rel=1e-4)
    x = to_float(digits("test")[0][:1])
    assert reconstruction_error(model.decode(mu), x).item() == pytest.approx(result.recon, rel=1e-4)


def test_fewer_samples_of_a_seed_are_the_first_of_more_in_any_thread():
    model, drawn = tiny(), {}
    assert same(next(vae.sample(model, n=5, seed=8)), next(vae.sample(model, n=20, seed=8))[:5], levels=1)
    threads = [threading.Thread(target=lambda name=name: drawn.update({name: [next(vae.sample(model, n=9, seed=s)) for s in range(9)]})) for name in "ab"]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all(same(a, b) for a, b in zip(drawn["a"], drawn["b"], strict=True)) and not same(drawn["a"][0], drawn["a"][1])


def test_an_unknown_variant_lists_the_choices():
    for ask in (vae.load, lambda name: next(vae.train(name))):
        with pytest.raises(Problem, match="unknown VAE variant 'convv'; choose one of: mlp, conv"):
            ask("convv")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_or_truncated_file_is_named_with_the_remedy(name, tmp_path):
    vae.save(tiny(), tmp_path / "mine")
    file = tmp_path / "mine" / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Problem, match=f"{name} is damaged .*train it again"):
        vae.load(tmp_path / "mine")
    file.unlink()
    with pytest.raises(Problem, match=f"{name} is missing; restore"):
        vae.load(tmp_path / "mine")


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_model", full)
    with pytest.raises(Problem, match="the disk is full"):
        vae.save(tiny(), tmp_path / "mine")
    assert not any(tmp_path.iterdir())


# ---- drawings


def drawing(ink=0, paper=255, mode="L", size=(280, 280), at=(30, 20)):
    """A seven in a corner."""
    picture = Image.new(mode, size, paper)
    x, y = at
    ImageDraw.Draw(picture).line([(x, y), (x + 80, y), (x + 30, y + 120)], fill=ink, width=16, joint="curve")
    return picture


def test_a_drawing_is_cropped_scaled_and_centred_by_its_mass():
    digit = vae.digit_from(drawing())
    levels = np.asarray(digit, dtype=float)
    assert digit.size == (28, 28) and digit.mode == "L" and levels.max() == 255 and levels[0].max() == 0
    rows, columns = np.flatnonzero(levels.max(axis=1) > 60), np.flatnonzero(levels.max(axis=0) > 60)
    assert rows[-1] - rows[0] + 1 in (19, 20) and columns[-1] - columns[0] < 20
    centre = [(levels.sum(axis=axis) @ np.arange(28)) / levels.sum() for axis in (1, 0)]
    assert centre == pytest.approx([13.5, 13.5], abs=0.6)


def test_where_and_how_large_it_is_drawn_does_not_matter():
    one, other = vae.digit_from(drawing()), vae.digit_from(drawing(at=(170, 140)))
    assert same([one], [other], levels=2)


INK_AND_PAPER = {
    "dark on light": drawing(),
    "light on dark": drawing(ink=255, paper=0),
    "grey on grey": drawing(ink=150, paper=90),
    "blue on yellow": drawing(ink=(0, 0, 120), paper=(255, 240, 90), mode="RGB"),
    "black on transparent": drawing(ink=(0, 0, 0, 255), paper=(0, 0, 0, 0), mode="RGBA"),
    "white on transparent": drawing(ink=(255, 255, 255, 255), paper=(255, 255, 255, 0), mode="RGBA"),
    "grey and alpha": drawing(ink=(0, 255), paper=(0, 0), mode="LA"),
    "palette": drawing(ink=(200, 0, 0), paper=(255, 255, 255), mode="RGB").convert("P"),
    "ink for printing": drawing(ink=(0, 0, 0, 255), paper=(0, 0, 0, 0), mode="CMYK"),
    "one bit": drawing(ink=0, paper=1, mode="1"),
    "sixteen bits": drawing(ink=1000, paper=60000, mode="I;16"),
}


@pytest.mark.parametrize("how", INK_AND_PAPER)
def test_any_ink_on_any_paper_gives_the_same_white_digit_on_black(how):
    expected, found = (np.asarray(vae.digit_from(picture), dtype=float) for picture in (drawing(), INK_AND_PAPER[how]))
    assert np.abs(expected - found).mean() < 3, how


def test_a_photo_turned_by_its_camera_is_read_upright():
    turned, file = drawing().rotate(90, expand=True), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held a quarter turn clockwise
    turned.convert("RGB").save(file, "JPEG", exif=exif, quality=95)
    found, expected = (np.asarray(vae.digit_from(picture), dtype=float) for picture in (Image.open(file), drawing()))
    assert np.abs(expected - found).mean() < 3


def test_shadows_on_the_paper_are_not_ink():
    shade = Image.fromarray((np.linspace(225, 255, 280)[None].repeat(280, axis=0)).astype(np.uint8))
    photo = ImageChops.multiply(drawing(), shade)
    expected, found = (np.asarray(vae.digit_from(picture), dtype=float) for picture in (drawing(), photo))
    assert np.abs(expected - found).mean() < 6


@pytest.mark.parametrize(
    "picture", [Image.new("L", (280, 280), 255), Image.new("RGB", (50, 90)), Image.new("RGBA", (280, 280)), Image.new("L", (1, 10_000), 7)]
)
def test_an_empty_drawing_is_a_problem_in_both_languages(picture):
    with pytest.raises(Problem, match="nothing is drawn yet") as problem:
        vae.digit_from(picture)
    assert "还没有画" in problem.value.zh


def test_a_strip_one_pixel_wide_is_taken():
    strip = Image.new("L", (1, 10_000), 255)
    strip.paste(0, (0, 3000, 1, 4000))
    assert vae.digit_from(strip).size == (28, 28)


def test_the_digits_of_mnist_stay_what_they_are():
    from genkit import classifier, images

    x, y = digits("test")
    again = [vae.digit_from(Image.fromarray(picture.numpy()).resize((140, 140), Image.Resampling.BICUBIC)) for picture in x[::20]]
    assert (classifier.classify(images.from_pil(again, "L")).argmax(dim=1) == y[::20]).float().mean() >= 0.96


def test_a_drawing_is_made_fit_between_two_strokes():
    picture = drawing(size=(280, 280))
    fastest = min(_seconds(lambda: vae.digit_from(picture)) for _ in range(10))
    assert fastest < 0.05  # measured 3 ms: wide enough for a busy machine, too narrow for a loop over pixels


def _seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


# ---- photos


def test_a_photo_is_made_to_fit_whatever_its_mode_and_shape():
    for picture, size in (
        (Image.new("RGB", (1024, 512)), (512, 256)),
        (Image.new("CMYK", (300, 333)), (304, 336)),
        (Image.new("RGBA", (3, 5)), (8, 8)),
        (Image.new("P", (1, 10_000)), (8, 512)),
    ):
        made = pictures.photo(picture)
        assert made.mode == "RGB" and made.size == size
    assert pictures.photo(Image.new("RGBA", (8, 8))).getpixel((0, 0)) == (255, 255, 255)  # what is transparent is paper


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_unpacked():
    file = io.BytesIO()
    Image.new("1", (7000, 6000)).save(file, "PNG")
    for make in (vae.digit_from, pictures.photo):
        bomb = Image.open(file)
        with pytest.raises(Problem, match="7000 x 6000 pixels; at most 40 megapixels") as problem:
            make(bomb)
        assert bomb.tile and "最多接受 4000 万像素" in problem.value.zh  # PIL forgets the tiles of a file when it unpacks them


def test_a_truncated_picture_is_a_problem():
    file = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(file, "PNG")
    half = Image.open(io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2]))
    with pytest.raises(Problem, match="cannot be read"):
        vae.digit_from(half)


@pytest.fixture(scope="module", params=["AutoencoderKL", "AutoencoderTiny"])
def diffusers_folder(request, tmp_path_factory):
    """An autoencoder of diffusers, of the shipped kind but a thousand times smaller, in its own folder format."""
    import diffusers

    blocks = {"block_out_channels": (4, 4, 4, 4)}
    if request.param == "AutoencoderKL":
        settings = dict(blocks, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=2)
    else:
        settings = dict(encoder_block_out_channels=(4,) * 4, decoder_block_out_channels=(4,) * 4)
    folder = tmp_path_factory.mktemp(request.param)
    core.build(lambda: getattr(diffusers, request.param)(**settings), 0).save_pretrained(folder)
    return folder


def test_a_diffusers_autoencoder_is_known_by_its_config_and_reconstructs_a_photo(diffusers_folder):
    model = vae.load(diffusers_folder)
    given, output, shape, psnr = vae.reconstruct_photo(model, Image.effect_noise((70, 33), 60).convert("RGB"))
    assert not model.training and given.size == output.size == (72, 32) and shape == (4, 4, 9)
    mse = np.square(np.asarray(given, dtype=float) - np.asarray(output, dtype=float)).mean()
    assert psnr == pytest.approx(10 * math.log10(255**2 / mse), rel=1e-4)


def test_a_damaged_or_missing_diffusers_file_is_named(diffusers_folder, tmp_path):
    import shutil

    shutil.copytree(diffusers_folder, tmp_path / "copy")
    file = tmp_path / "copy" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(Problem, match="diffusion_pytorch_model.safetensors is damaged .*download the model again"):
        vae.load(tmp_path / "copy")
    file.unlink()
    with pytest.raises(Problem, match="diffusion_pytorch_model.safetensors is missing"):
        vae.load(tmp_path / "copy")


def test_psnr_of_equal_pictures_is_the_cap_and_of_black_and_white_zero():
    black, white = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "white")
    assert photo.psnr(black, black) == pytest.approx(100) and photo.psnr(black, white) == pytest.approx(0)


# ---- shipped


KEPT = {  # what share of the test digits stays what it is, at least and at most: less where the code is two numbers, or dear; with beta = 16 nothing is said
    "mlp": (0.95, 1), "conv": (0.98, 1), "conv2d": (0.62, 0.9), "ae": (0.98, 1), "ae2d": (0.66, 0.9), "conditional": (0.985, 1), "beta-0.1": (0.98, 1),
    "beta-4": (0.9, 0.97), "beta-16": (0, 0.3), "denoise": (0.965, 1),
}  # fmt: skip


@pytest.mark.parametrize("variant", vae.VARIANTS)
def test_the_shipped_model_keeps_what_the_digit_is(variant):
    levels, y = digits("test")
    x, model = to_float(levels), vae.load(variant)
    least, most = KEPT[variant]
    assert least <= evaluate.kept(model, x, y) <= most
    recon, kl = evaluate.negative_elbo(model, x, y)
    assert 0 < recon < 220 and (0 < kl < 120 if model.variational else kl == 0)


def test_a_variant_that_is_not_there_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(core, "WEIGHTS", tmp_path)
    with pytest.raises(Problem, match="conv2d.config.json is missing; restore the folder from the repository, or train it again") as problem:
        vae.load("conv2d")
    assert "conv2d" in problem.value.zh and "缺少" in problem.value.zh
