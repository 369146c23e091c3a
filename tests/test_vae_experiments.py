"""What a VAE is good for: finding what is odd, and filling up a class that has too few examples."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from genkit import core, images, vae
from genkit.core import Problem
from genkit.digits import digits
from genkit.vae import ODD, anomaly, balance
from genkit.vae.elbo import reconstruction_error
from genkit.vae.model import VAE


@pytest.fixture(autouse=True)
def hermetic(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)


def tiny(**options):
    return core.build(lambda: VAE("mlp", 6, 16, **options), 0).eval()


def test_a_score_that_parts_them_has_an_area_of_one_and_a_coin_one_half():
    assert anomaly.roc([1, 2, 3], [4, 5]).auc == 1 and anomaly.roc([4, 5], [1, 2, 3]).auc == 0
    assert anomaly.roc([1, 2, 3, 4], [1, 2, 3, 4]).auc == 0.5
    found = anomaly.roc([1.0, 2.0, 3.0], [2.5, 4.0])
    assert found.auc == pytest.approx(5 / 6) and np.isfinite(found.thresholds).all() and list(found.fpr) == sorted(found.fpr)


def test_the_threshold_decides_between_precision_and_recall():
    found = anomaly.roc([1.0, 2.0, 3.0], [2.5, 4.0])
    assert found.at(3.5) == (1, 0.5) and found.at(2.2) == (2 / 3, 1) and found.at(0) == (0.4, 1) and found.at(9) == (1, 0)
    assert found.recall(0.01) == 0.5 and found.recall(0.34) == 1 and found.at(found.threshold(0.01)) == (1, 0.5)


def test_a_score_is_what_the_reconstruction_pays():
    model, x = tiny(), digits("test")[0]
    pictures = [Image.fromarray(x[i].numpy()) for i in (0, 400)]
    elbo, recon = anomaly.scores(model, pictures)
    made = vae.reconstruct_many(model, pictures)
    floor = anomaly.entropy(images.from_pil(pictures, "L")).tolist()
    paid = [one.recon - least for one, least in zip(made, floor, strict=True)]
    assert recon == pytest.approx(paid, rel=1e-4) and elbo == pytest.approx([a + one.kl for a, one in zip(paid, made, strict=True)], rel=1e-4)
    assert anomaly.scores(model, []) == ([], [])
    plain = anomaly.scores(tiny(variational=False), pictures)
    assert plain[0] == plain[1]


def test_grey_costs_something_even_when_it_is_drawn_perfectly():
    x = torch.tensor([-1.0, 1.0, 0.0]).view(3, 1, 1, 1).expand(3, 1, 28, 28)
    assert anomaly.entropy(x).tolist() == pytest.approx([0, 0, 784 * np.log(2)])
    grey = torch.full((1, 1, 28, 28), -0.4)
    assert anomaly.entropy(grey).item() == pytest.approx(reconstruction_error(torch.logit((grey + 1) / 2), grey).item(), rel=1e-4)


@pytest.mark.parametrize("source", [source for source in ODD if source != "fashion"])
def test_every_source_gives_different_pictures_and_the_same_for_the_same_seed(source):
    made = anomaly.odd(source, 6, 1)
    assert all(picture.size == (28, 28) and picture.mode == "L" for picture in made)
    assert len({picture.tobytes() for picture in made}) == 6
    assert [p.tobytes() for p in anomaly.odd(source, 6, 1)] == [p.tobytes() for p in made] != [p.tobytes() for p in anomaly.odd(source, 6, 2)]


def test_fashion_comes_from_the_data_folder_or_is_a_problem(tmp_path, monkeypatch):
    anomaly._fashion.cache_clear()
    with pytest.raises(Problem, match="Fashion-MNIST is not on this machine") as problem:
        anomaly.odd("fashion", 3)
    assert "本机没有" in problem.value.zh
    file = io.BytesIO()
    np.savez(file, x=np.arange(5 * 784).reshape(5, 28, 28).astype(np.uint8), y=np.zeros(5))
    (tmp_path / "fashion-mnist-t10k.npz").write_bytes(file.getvalue())
    monkeypatch.setenv("GENKIT_DATA_DIR", str(tmp_path))
    assert len({picture.tobytes() for picture in anomaly.odd("fashion", 3)}) == 3


def test_an_unknown_source_is_refused():
    with pytest.raises(Problem, match="unknown source 'cats'; choose one of: letters, scribbles, noise, fashion"):
        anomaly.odd("cats", 1)


def test_a_digit_that_was_held_out_is_scored_against_all_others():
    *shares, found = anomaly.held_out_class(0, steps=60)
    assert shares == sorted(shares) and shares[-1] == 1 and 0.5 < found.auc <= 1  # a 0 has more ink than most
    _, y = digits("test")
    assert len(found.odd) == (y == 0).sum() and len(found.normal) == (y != 0).sum()


def test_tumours_are_found_by_a_model_that_saw_benign_ones_only():
    *shares, found = anomaly.tabular(splits=2, steps=100)
    assert shares == sorted(shares) and (found.trained, found.normal, found.odd) == (238, 119, 212)
    assert found.roc.auc > 0.9 and 0.2 < found.recall <= 1 and 0 < found.plain <= 1 and len(found.recalls) == 2


# ---- a rare class


def test_one_class_is_reduced_and_the_others_stay():
    x, y, gap = balance.reduced(8, 20, (0, 0))
    counts = y.bincount(minlength=10).tolist()
    assert counts[8] == 20 and gap == 380 and set(counts[:8] + counts[9:]) == {400} and x.shape == (9 * 400 + 20, 28, 28)
    again, other = balance.reduced(8, 20, (0, 0)), balance.reduced(8, 20, (0, 1))
    assert torch.equal(again[0], x) and not torch.equal(other[0], x)


def test_the_generator_is_trained_on_the_reduced_set_and_on_nothing_else(monkeypatch):
    seen = []
    monkeypatch.setattr(balance, "evenly", lambda x, y, n: seen.append((len(x), int((y == 8).sum()))) or evenly(x, y, n))
    from genkit.vae.fit import evenly

    monkeypatch.setattr(balance, "VAE_STEPS", 2)
    monkeypatch.setattr(balance, "STEPS", 2)
    list(vae.augment(15, ["conditional"], runs=2))
    assert seen == [(9 * 400 + 15, 15)] * 2


def test_every_run_is_reported_with_its_mean_and_spread(monkeypatch):
    monkeypatch.setattr(balance, "VAE_STEPS", 2)
    monkeypatch.setattr(balance, "STEPS", 3)
    *shares, found = vae.augment(10, ["repeat", "conditional"], 4, rare=3, runs=2)
    assert shares == sorted(shares) and shares[-1] == 1 and set(found.rows) == {"without", "repeat", "conditional"}
    assert (found.rare, found.n, found.filled) == (3, 10, 400) and all(len(row.rare) == 2 for row in found.rows.values())
    row = balance.Row((0.5, 0.7), (0.9, 0.9))
    assert row.mean == pytest.approx(0.6) and row.spread == pytest.approx(0.1 * 2**0.5) and balance.Row((0.5,), (0.9,)).spread == 0
    assert balance.Augmented(8, 20, {"without": row, "repeat": balance.Row((0.8, 0.8), (1, 1))}, 400).gain("repeat") == pytest.approx(20)


def test_samples_fill_the_gap_as_the_rare_digit():
    x, y, gap = balance.reduced(8, 20, (0, 0))
    made = balance.imagined(tiny(conditional=True), x, y, 8, gap, (0, 0))
    assert made.shape == (gap, 28, 28) and made.dtype == torch.uint8
    joined, labels = balance._joined(x, y, made, 8)
    assert labels.bincount().tolist() == [400] * 10 and len(joined) == 4000


def test_a_class_is_drawn_as_often_as_any_other_however_rare():
    from genkit.vae.fit import evenly

    x, y, _ = balance.reduced(8, 2, (0, 0))
    _, labels = evenly(x, y, 1000)(core.seeded(0))
    assert labels.bincount().min() > 70


def test_an_unknown_generator_is_refused():
    with pytest.raises(Problem, match="unknown generator 'crystal ball'; choose one of: repeat, conditional, dcgan"):
        next(vae.augment(20, ["crystal ball"]))
