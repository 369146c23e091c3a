"""The mark inside every generated picture."""

import struct
import xml.etree.ElementTree as ET
from io import BytesIO

import pytest
from PIL import Image

from genkit import labels

XMP = "XML:com.adobe.xmp"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


@pytest.fixture
def picture():
    return labels.mark(Image.new("RGB", (8, 8), "red"), model="mini-sd", prompt='a <red> "circle" & 红色的圆\nsecond line', seed=7, guidance_scale=4.0)


def chunks(png: bytes) -> list[bytes]:
    kinds, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kinds.append(png[at + 4 : at + 8])
        at += 12 + length
    return kinds


def attributes(xmp: str) -> dict[str, str]:
    return ET.fromstring(xmp.split("?>", 1)[1].rsplit("<?", 1)[0]).find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description").attrib


def test_a_mark_comes_back_from_the_file(picture, tmp_path):
    labels.save_png(picture, tmp_path / "x.png")
    assert labels.read(tmp_path / "x.png") == {
        "source": labels.GENERATED,
        "model": "mini-sd",
        "prompt": 'a <red> "circle" & 红色的圆\nsecond line',
        "seed": 7,
        "settings": {"guidance_scale": 4.0},
    }


def test_the_xmp_is_wellformed_and_says_what_iptc_asks_for(picture, tmp_path):
    labels.save_png(picture, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as opened:
        found = attributes(opened.info[XMP])
    assert found[IPTC + "DigitalSourceType"] == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert found[IPTC + "AIPromptInformation"] == 'a <red> "circle" & 红色的圆\nsecond line'
    assert found["{urn:genkit:}Seed"] == "7"
    assert chunks(labels.png(picture)).index(b"iTXt") < chunks(labels.png(picture)).index(b"IDAT")


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (7, 5), (28, 1792), (256, 257)])
def test_a_grey_png_holds_the_pixels_and_the_mark_whatever_its_size(size):
    picture = labels.mark(Image.effect_noise(size, 100), model="gan/dcgan", prompt="圆", seed=3, digits="07")
    file = labels.png(picture)
    with Image.open(BytesIO(file)) as opened:
        opened.load()
        assert (opened.mode, opened.size, opened.tobytes()) == ("L", size, picture.tobytes())
        assert {key: opened.info[key] for key in picture.info} == picture.info and labels.read(opened) == labels.read(picture)
    assert chunks(file)[0] == b"IHDR" and chunks(file)[-2:] == [b"IDAT", b"IEND"] and chunks(file).count(b"iTXt") >= 2


@pytest.mark.parametrize("mode, size", [("L", (28, 28)), ("RGB", (20, 20)), ("L", (300, 300))])
def test_a_series_is_marked_as_each_of_its_pictures_alone(mode, size):
    series, how = [Image.effect_noise(size, 50 + k).convert(mode) for k in range(12)], {"model": "gan/dcgan", "seed": 1, "digits": "0123456789"}
    for k, (file, picture) in enumerate(zip(labels.pngs(series, **how), series, strict=True)):
        with Image.open(BytesIO(file)) as opened:
            expected = labels.mark(picture, index=k, **how).info
            assert opened.tobytes() == picture.tobytes() and {key: opened.info[key] for key in expected} == expected
    assert labels.pngs([], **how) == [] and labels.read(series[0]) is None


def test_gradio_keeps_the_mark_when_it_writes_the_picture(picture, tmp_path):
    import gradio as gr

    shown = gr.Image(format="png").postprocess(picture)
    assert labels.read(shown.path)["prompt"] == labels.read(picture)["prompt"]
    with Image.open(shown.path) as opened:
        assert type(opened.info[XMP]).__name__ == "iTXt"
    in_gallery = gr.Gallery(format="png").postprocess([(picture, "caption")]).root[0]
    assert labels.read(in_gallery.image.path)["seed"] == 7


def test_characters_that_xml_forbids_are_dropped(tmp_path):
    marked = labels.mark(Image.new("L", (4, 4)), model="mlp", prompt="a\x00b\x0bc\ufffed\ud800e", note="x\x1by", seed=None)
    labels.save_png(marked, tmp_path / "x.png")
    mark = labels.read(tmp_path / "x.png")
    assert (mark["prompt"], mark["settings"], mark["seed"]) == ("abcde", {"note": "xy"}, None)
    attributes(marked.info[XMP])  # parses


def test_marking_leaves_the_given_picture_and_the_pixels_alone():
    plain = Image.linear_gradient("L")
    marked = labels.mark(plain, model="mlp")
    assert labels.read(plain) is None
    assert marked.tobytes() == plain.tobytes()


def test_a_photo_has_no_mark_and_another_tools_mark_is_recognised(tmp_path):
    photo = Image.new("RGB", (4, 4))
    photo.save(tmp_path / "photo.jpg")
    assert labels.read(tmp_path / "photo.jpg") is None
    photo.info[XMP] = f"<rdf:Description><Iptc4xmpExt:DigitalSourceType>{labels.GENERATED}</Iptc4xmpExt:DigitalSourceType></rdf:Description>"
    photo.info["Parameters"] = "steps: 20"
    assert labels.read(photo) == {"source": labels.GENERATED}


def test_a_prompt_of_ten_thousand_characters_fits():
    assert len(labels.read(labels.mark(Image.new("L", (4, 4)), model="mlp", prompt="<圆>" * 3333))["prompt"]) == 9999
