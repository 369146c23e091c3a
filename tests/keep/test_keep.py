"""A model goes out as a zip and comes back the same; nothing else comes in; the Hub gets it with a token that is kept nowhere; the code says the truth."""

import base64
import io
import json
import pickle
import re
import runpy
import zipfile

import pytest
import torch
from PIL import Image

from demos.gan import keep as gan_keep
from genkit import core, gan, keep
from genkit.core import Problem
from tests.keep.conftest import CARD, TINY, bring, drawn, zip_of

# --- out and in again


def test_a_model_that_went_out_as_a_zip_comes_back_and_draws_the_same(model, tmp_path):
    with keep.packed(lambda path: gan.save(model, path), CARD) as folder:
        data = keep.zipped(folder)
        assert keep.zipped(folder) == data
    assert not folder.exists()
    assert sorted(zipfile.ZipFile(io.BytesIO(data)).namelist()) == ["README.md", "config.json", "model.safetensors"]
    back = bring(tmp_path, data)
    assert drawn(back) == drawn(model) and not back.training


@pytest.mark.parametrize("variant", gan.VARIANTS)
def test_every_shipped_variant_goes_out_and_comes_back(variant, tmp_path):
    made = gan_keep.shipped(variant)
    with keep.packed(lambda path: gan.save(made.model, path), made.card) as folder:
        assert drawn(bring(tmp_path, keep.zipped(folder))) == drawn(made.model)
    card = made.card.text()
    assert f"| variant | `{variant}` |" in card and "license: mit" in card and "MNIST" in card and "Made by" in card
    assert len([line for line in gan_keep.LOAD.splitlines() if line]) == 3 and gan_keep.LOAD in card


def test_the_lines_in_the_card_load_the_folder(model, tmp_path, monkeypatch):
    with keep.packed(lambda path: gan.save(model, path), CARD) as folder:
        (tmp_path / "code.py").write_text(gan_keep.LOAD.replace("the folder of this file", str(folder)))
        assert runpy.run_path(str(tmp_path / "code.py"))["pictures"] == next(gan.sample(model, "0123456789", n=20, seed=7))


def test_the_two_files_may_come_loose_and_under_the_names_that_browsers_give_to_second_copies(parts, model, tmp_path):
    (tmp_path / "config (1).json").write_bytes(parts["config.json"])
    (tmp_path / "model (2).safetensors").write_bytes(parts["model.safetensors"])
    back = keep.read([tmp_path / "model (2).safetensors", tmp_path / "config (1).json"], gan_keep.form())
    assert drawn(back) == drawn(model)


# --- what is refused


def changed(parts, **config) -> dict[str, bytes]:
    return {**parts, "config.json": json.dumps({**json.loads(parts["config.json"]), **config}).encode()}


def lying(data: bytes) -> bytes:
    """A zip that says of its largest file that it is small."""
    true = max(entry.file_size for entry in zipfile.ZipFile(io.BytesIO(data)).infolist()).to_bytes(4, "little")
    return data.replace(true, (1000).to_bytes(4, "little"))


def resized(parts, grow: int) -> bytes:
    """Weights whose header says that it is longer by `grow` than it is."""
    size = int.from_bytes(parts["model.safetensors"][:8], "little") + grow
    return size.to_bytes(8, "little") + parts["model.safetensors"][8:]


BAD = {
    "a path that climbs": (lambda p: zip_of({**p, "../evil.json": b"{}"}), "holds '../evil.json'"),
    "an absolute path": (lambda p: zip_of({**p, "/etc/config.json": b"{}"}), "holds '/etc/config.json'"),
    "a folder inside": (lambda p: zip_of({f"model/{name}": data for name, data in p.items()}), "in no folder"),
    "a pickle inside": (lambda p: zip_of({**p, "pytorch_model.bin": pickle.dumps({})}), "holds 'pytorch_model.bin'"),
    "a pickle for weights": (lambda p: zip_of({**p, "model.safetensors": pickle.dumps({"x": 1})}), "damaged or cut off"),
    "a torch checkpoint for weights": (lambda p: zip_of({**p, "model.safetensors": b"PK" + bytes(2000)}), "damaged or cut off"),
    "a bomb": (lambda p: zip_of({**p, "model.safetensors": bytes(50 << 20)}), "at most 30 MiB"),
    "a bomb that lies about its size": (lambda p: lying(zip_of({**p, "README.md": b" " * (9 << 20)})), "not a zip that can be read|at most"),
    "a bomb for settings": (lambda p: zip_of({**p, "config.json": b" " * (1 << 20)}), "config.json is too large"),
    "no weights": (lambda p: zip_of({"config.json": p["config.json"]}), "model.safetensors is missing"),
    "no settings": (lambda p: zip_of({"model.safetensors": p["model.safetensors"]}), "config.json is missing"),
    "nothing": (lambda p: zip_of({}), "missing"),
    "a name that stands twice": (lambda p: twice(p), "not a zip that can be read"),
    "a thousand entries": (lambda p: zip_of({str(index): b"" for index in range(1000)}), "too many entries"),
    "a cut zip": (lambda p: zip_of(p)[:-40], "not a zip that can be read"),
    "no zip at all": (lambda p: b"hello", "not a zip that can be read"),
    "a locked zip": (lambda p: locked(zip_of(p)), "not a zip that can be read"),
    "cut weights": (lambda p: zip_of({**p, "model.safetensors": p["model.safetensors"][:-100]}), "damaged or cut off"),
    "empty weights": (lambda p: zip_of({**p, "model.safetensors": b""}), "damaged or cut off"),
    "a header of many TB": (lambda p: zip_of({**p, "model.safetensors": resized(p, 1 << 42)}), "damaged or cut off.*header of"),
    "a header that overlaps": (lambda p: zip_of({**p, "model.safetensors": resized(p, 8)}), "damaged or cut off"),
    "weights of another network": (lambda p: zip_of(changed(p, channels=5)), "different networks"),
    "weights of another kind": (lambda p: zip_of(changed(p, arch="dcgan")), "different networks"),
    "a network too large": (lambda p: zip_of(changed(p, arch="dcgan", latent_dim=512, channels=256)), "at most 30 MiB"),
    "a setting out of bounds": (lambda p: zip_of(changed(p, latent_dim=10**9)), "latent_dim = 1000000000; .*1-512"),
    "a setting of another type": (lambda p: zip_of(changed(p, latent_dim="3")), 'latent_dim = "3"'),
    "a truth for a number": (lambda p: zip_of(changed(p, channels=True)), "channels = true"),
    "a number for a truth": (lambda p: zip_of(changed(p, conditional=1)), "conditional = 1; .*true, false"),
    "an unknown network": (lambda p: zip_of(changed(p, arch="os.system")), 'arch = "os.system"; .*"dcgan", "mlp"'),
    "a foreign setting": (lambda p: zip_of(changed(p, auto_map="evil.py")), "auto_map.*knows only arch, latent_dim"),
    "a list of settings": (lambda p: zip_of({**p, "config.json": b"[]"}), "config.json cannot be read"),
    "settings nested without end": (lambda p: zip_of({**p, "config.json": b"[" * 60000}), "config.json cannot be read"),
    "settings that are no text": (lambda p: zip_of({**p, "config.json": b"\xff\xfe\x00"}), "config.json cannot be read"),
    "a setting that is missing": (lambda p: zip_of({**p, "config.json": b'{"arch": "mlp", "latent_dim": 3}'}), "config.json lacks a setting.*channels"),
}


def twice(parts) -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        made = io.BytesIO(zip_of(parts))
        with zipfile.ZipFile(made, "a") as archive:
            archive.writestr("config.json", b"{}")
    return made.getvalue()


def locked(data: bytes) -> bytes:
    """The encryption bit set in every header."""
    found = bytearray(data)
    for start, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for place in re.finditer(re.escape(start), data):
            found[place.start() + flags] |= 1
    return bytes(found)


@pytest.mark.parametrize("kind", BAD)
def test_nothing_but_a_model_comes_in(kind, parts, tmp_path):
    spoil, said = BAD[kind]
    with pytest.raises(Problem) as told:
        bring(tmp_path, spoil(parts))
    assert re.search(said, told.value.en, re.S) and re.search("[\u4e00-\u9fff]", told.value.zh)
    assert str(tmp_path.parent) not in told.value.en + told.value.zh and "/tmp" not in told.value.en
    assert sorted(path.name for path in tmp_path.iterdir()) == ["brought.zip"]  # nothing was unpacked beside it


def test_a_file_of_50_mb_is_refused_unread(tmp_path):
    with (tmp_path / "large.zip").open("wb") as file:
        file.truncate(50 << 20)
    with pytest.raises(Problem, match="too large: at most 31 MiB"):
        keep.read([tmp_path / "large.zip"], gan_keep.form())


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    broken = core.build(lambda: gan.GAN(**TINY), 5)
    next(broken.parameters()).data[0, 0] = float("nan")
    with keep.packed(lambda path: gan.save(broken, path), CARD) as folder, pytest.raises(Problem, match="finite"):
        bring(tmp_path, keep.zipped(folder))


@pytest.mark.parametrize("names", [["a.json", "b.json"], ["weights.bin"], ["x.zip", "model.safetensors"], []])
def test_other_loose_files_are_refused(names, tmp_path):
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(Problem, match="give one zip|missing"):
        keep.read([tmp_path / name for name in names], gan_keep.form())


def test_a_refused_model_costs_no_memory_and_leaves_the_shared_randomness_alone(parts, tmp_path):
    before = torch.random.get_rng_state()
    with pytest.raises(Problem, match="at most 30 MiB"):
        bring(tmp_path, zip_of(changed(parts, arch="dcgan", latent_dim=512, channels=256)))
    bring(tmp_path, zip_of(parts))
    assert torch.equal(before, torch.random.get_rng_state())


# --- whose it is


def test_a_model_that_was_brought_is_found_by_its_key_alone_and_goes():
    shelf = keep.Shelf(cap=2, keep=60)
    first, second = shelf.put("a"), shelf.put("b")
    assert shelf.get(first) == "a" and first != second and len(first) > 16
    third = shelf.put("c")  # the one that was not used for longest makes room
    assert shelf.get(first) == "a" and shelf.get(third) == "c" and len(shelf) == 2
    for key in (second, "", "guess"):
        with pytest.raises(Problem, match="no model of yours"):
            shelf.get(key)
    shelf.drop(first)
    shelf.drop(first)
    with pytest.raises(Problem):
        shelf.get(first)


def test_a_model_that_nobody_uses_is_put_down():
    shelf = keep.Shelf(keep=0.0)
    key = shelf.put("a")
    with pytest.raises(Problem, match="no model of yours"):
        shelf.get(key)
    assert len(shelf) == 0


def test_a_model_that_was_brought_makes_marked_digits(model):
    from genkit import labels

    shown = gan_keep.show(model, "dcgan", "07", 64, 3)
    assert shown.count("<img") == gan_keep.MOST
    data = base64.b64decode(re.search(r'base64,([^"]+)', shown)[1])
    mark = labels.read(Image.open(io.BytesIO(data)))
    assert mark["source"] == labels.GENERATED and mark["seed"] == 3
    with pytest.raises(Problem, match="0123456789"):
        gan_keep.show(model, "dcgan", "<b>", 5, 3)
