"""What can be done with codes: encode, decode, another digit in the same hand, walks, sums, and the map of a latent space."""

import gc
import weakref

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from genkit import core, vae
from genkit.core import Problem
from genkit.digits import digits
from genkit.vae.model import VAE


@pytest.fixture(autouse=True)
def hermetic(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)


def tiny(latent_dim=6, **options):
    return core.build(lambda: VAE("mlp", latent_dim, 16, **options), 0).eval()


def digit(i=0):
    return Image.fromarray(digits("test")[0][i].numpy())


def same(a, b, levels=1):
    return max(high for _, high in [ImageChops.difference(a, b).getextrema()]) <= levels


def test_what_is_encoded_and_decoded_is_the_reconstruction():
    model, pictures = tiny(), [digit(i) for i in (0, 300, 900)]
    codes = vae.encode_many(model, pictures)
    drawn = vae.decode_many(model, [(code.mu, None) for code in codes])
    for picture, code, again in zip(pictures, codes, drawn, strict=True):
        made = vae.reconstruct(model, picture)
        assert len(code.mu) == len(code.logvar) == 6 and code.mu == pytest.approx(made.mu, abs=1e-5) and same(again, made.output)
    assert vae.encode_many(model, []) == vae.decode_many(model, []) == []


def test_a_plain_autoencoder_has_no_variance_and_pays_no_kl():
    model = tiny(variational=False)
    made = vae.reconstruct(model, digit())
    assert made.logvar == [] and made.kl == 0 and vae.encode_many(model, [digit()])[0].logvar == []
    assert made.recon > 0 and len(made.mu) == 6


def test_a_code_of_another_length_is_refused():
    with pytest.raises(Problem, match="6 numbers, got 2"):
        vae.decode_many(tiny(), [([0.0] * 6, None), ([0.0, 1.0], None)])


def test_what_is_seen_before_and_after_is_read_by_the_classifier():
    from genkit import classifier, images

    made = vae.reconstruct(tiny(), digit(700))
    assert made.seen == tuple(classifier.classify(images.from_pil([made.input, made.output], "L")).argmax(dim=1).tolist()) and made.seen[0] == 7


def test_a_conditional_model_draws_the_same_code_as_another_digit():
    model = tiny(conditional=True)
    ten = vae.in_hand(model, digit(), 0)
    (code,) = vae.encode_many(model, [digit()], [0])
    assert same(ten[2], vae.decode_many(model, [(code.mu, 2)])[0], 0) and not same(ten[2], ten[3], 0)
    assert same(ten[0], vae.reconstruct_many(model, [digit()], [0])[0].output)
    assert all(map(same, vae.in_hand(model, digit()), ten))  # the classifier reads that it is a 0
    with pytest.raises(Problem, match="only the variant 'conditional'"):
        vae.in_hand(tiny(), digit(), 0)


@pytest.mark.parametrize("options", [{}, {"variational": False}, {"conditional": True}])
def test_a_walk_begins_at_one_drawing_and_ends_at_the_other(options):
    model = tiny(**options)
    walk = vae.interpolate(model, digit(0), digit(500), 5)
    ends = [made.output for made in vae.reconstruct_many(model, [digit(0), digit(500)])]
    assert len(walk) == 5 and same(walk[0], ends[0]) and same(walk[-1], ends[1])


def test_a_minus_b_plus_b_is_a():
    model = tiny()
    first, second, third, result = vae.arithmetic(model, digit(0), digit(500), digit(500))
    assert same(result, first) and same(second, third) and not same(vae.arithmetic(model, digit(0), digit(500), digit(900))[3], first, 0)


# ---- the map


@pytest.mark.parametrize("options", [{"latent_dim": 2}, {}, {"variational": False}, {"conditional": True}])
def test_the_map_holds_real_digits_and_every_place_has_a_picture(options):
    made = vae.atlas(tiny(**options))
    assert made.points.shape == (1000, 2) and np.abs(made.points).max() <= 1 and set(made.labels) == set(range(10))
    assert made.decode(0.3, -0.4).size == (28, 28)
    assert all(far > 0 and 0 < share <= 1 for far, share in made.axes) and sum(share for _, share in made.axes) <= 1 + 1e-4


def test_the_map_of_two_numbers_is_the_latent_plane_itself():
    model = tiny(2)
    made = vae.atlas(model)
    (x_far, _), (y_far, _) = made.axes
    assert same(made.decode(0.5, -1), vae.decode_many(model, [([0.5 * x_far, -y_far], None)])[0])
    assert sum(share for _, share in made.axes) == pytest.approx(1, abs=1e-4)
    x, y = made.place(digit(40))
    (code,) = vae.encode_many(model, [digit(40)])
    assert (x, y) == pytest.approx((max(-1, min(1, code.mu[0] / x_far)), max(-1, min(1, code.mu[1] / y_far))), abs=1e-4)


def test_tiles_are_read_from_the_top_left():
    made = vae.atlas(tiny(2))
    tiles = made.tiles(3)
    assert len(tiles) == 9 and same(tiles[0], made.decode(-2 / 3, 2 / 3)) and same(tiles[4], made.decode(0, 0)) and same(tiles[8], made.decode(2 / 3, -2 / 3))


def test_principal_components_are_those_of_numpy():
    model = tiny(5)
    made = vae.atlas(model)
    values = np.linalg.eigvalsh(np.cov(made.codes.numpy().T))[::-1]
    assert [share for _, share in made.axes] == pytest.approx((values[:2] / values.sum()).tolist(), rel=1e-3)


def test_a_map_is_made_once_and_another_projection_is_refused():
    model = tiny(2)
    assert vae.atlas(model).points is vae.atlas(model).points
    with pytest.raises(Problem, match="unknown projection 'umap'; choose one of: plain, tsne"):
        vae.atlas(model, "umap")


def test_the_map_does_not_keep_its_model_in_memory():
    model = tiny(2)
    vae.atlas(model).decode(0, 0)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_on_the_map_of_tsne_the_nearest_digit_answers():
    made = vae.atlas(tiny(), "tsne")
    assert len(made.points) == len(made.labels) == 400 and np.abs(made.points).max() == pytest.approx(1)
    x, y = made.points[7].tolist()
    assert torch.equal(made.codes_at([(x, y)])[0], made.codes[7])
    assert np.abs(np.asarray(made.place(digit(40)))).max() <= 1
