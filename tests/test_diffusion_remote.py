"""A model behind an image endpoint draws like one that runs here, and every way in which it can fail is a sentence with a remedy."""

import socket
import time

import pytest

import app
from demos import download
from demos.diffusion import drawn, heat, make, steps
from demos.pen import Pen
from genkit import diffusion, labels, models
from genkit.core import Problem
from genkit.diffusion import remote

from .conftest import finished
from .painter import Painter
from .runs.conftest import until


@pytest.fixture
def painter():
    painter = Painter()
    yield painter
    painter.shutdown()
    painter.server_close()


@pytest.fixture(params=["", "/v1"], ids=["inference", "openai"])
def endpoint(painter, request):
    return diffusion.Endpoint(painter.url + request.param, "tiny", "sk-secret")


@pytest.fixture
def attached(painter):
    """Its name in the tab's catalogue."""
    endpoint = diffusion.Endpoint(painter.url, "tiny", "sk-secret")
    models.attach("diffusion", endpoint.name, endpoint)
    yield endpoint.name
    models._attached.clear()


def draw(endpoint, **settings):
    return list(diffusion.sample(endpoint, "a cat", **{"size": 64, "seed": 5, **settings}))[-1]


def test_the_protocol_of_inference_endpoints_gets_every_setting(painter):
    last = draw(diffusion.Endpoint(painter.url, "", "sk-secret"), n=2, negative_prompt="dog", guidance_scale=3, num_inference_steps=7, size=128)
    assert [picture.size for picture in last.pictures] == [(128, 128)] * 2 and last.pictures[0].tobytes() != last.pictures[1].tobytes()
    more = {"negative_prompt": "dog", "width": 128, "height": 128, "num_inference_steps": 7, "guidance_scale": 3.0}
    assert painter.asked == [{"inputs": "a cat", "parameters": {**more, "seed": seed}} for seed in (5, 6)]


def test_openais_protocol_gets_what_it_knows(painter):
    for address in (f"{painter.url}/v1", f"{painter.url}/v1/images/generations"):
        last = draw(diffusion.Endpoint(address, "tiny"))
        assert last.image.size == (64, 64) and last.step == last.steps and last.remarks == ()
    assert painter.paths == ["/v1/images/generations"] * 2
    assert painter.asked[0] == {"model": "tiny", "prompt": "a cat", "n": 1, "response_format": "b64_json", "size": "64x64"}


def test_the_key_goes_to_the_server_and_the_hosts_own_token_does_not(painter, endpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    draw(endpoint), draw(diffusion.Endpoint(painter.url)), draw(diffusion.Endpoint(f"{painter.url}/v1"))
    assert painter.keys == ["Bearer sk-secret", "Bearer none", "Bearer none"]
    assert "sk-secret" not in f"{endpoint!r} {endpoint.name} {endpoint.url}"


@pytest.mark.parametrize(
    "mode, sentence, chinese",
    [
        ("key", "does not accept the key.*GENKIT_IMAGE_KEY", "密钥"),
        ("model", "has no model tiny.*The model `nobody` does not exist.*--image-model", "没有模型"),
        ("prompt", "refused the request: the prompt was flagged", "拒绝"),
        ("busy", "too many requests", "请求过多"),
        ("fallen", "answered with error 503", "返回错误 503"),
        ("page", "no PNG, JPEG or WebP picture.*--image-endpoint", "不是 PNG"),
        ("nothing", "no PNG, JPEG or WebP picture", "不是 PNG"),
        ("script", "no PNG, JPEG or WebP picture", "不是 PNG"),  # PostScript would be run
        ("huge", "too large for a picture", "太大"),
        ("endless", "too large for a picture", "太大"),
    ],
)
def test_a_refusal_or_nonsense_is_one_clear_sentence_in_both_languages(endpoint, painter, mode, sentence, chinese):
    painter.mode = mode
    with pytest.raises(Problem, match=sentence) as told:
        draw(endpoint)
    assert chinese in told.value.zh and "sk-secret" not in told.value.en + told.value.zh and "\n" not in told.value.en
    painter.mode = ""
    assert draw(endpoint).image.size == (64, 64)  # and the next try works


def test_a_picture_of_too_many_pixels_is_not_decoded_and_one_of_another_size_is_told(painter, endpoint):
    painter.mode = "small"
    ((english, chinese),) = draw(endpoint).remarks
    assert "64 × 64 pixels were asked for; the server sent 32 × 32" in english and "32 × 32" in chinese
    painter.mode = "bomb"
    with pytest.raises(Problem, match="4200 × 4200" if not endpoint.openai else "no PNG"):  # OpenAI's come in JSON
        draw(endpoint)


def test_a_server_that_is_down_silent_or_slow_is_named(endpoint, painter, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(Problem, match=f"no answer from 127.0.0.1:{closed.getsockname()[1]}.*is running"):
            draw(diffusion.Endpoint(f"http://127.0.0.1:{closed.getsockname()[1]}"))
    monkeypatch.setattr(remote, "SILENCE", 0.4)
    monkeypatch.setattr(remote, "PULSE", 0.1)
    for painter.mode in ("silent", "dripping"):  # a byte now and then is no picture
        with pytest.raises(Problem, match="has sent no picture for 0.4 seconds"):
            draw(endpoint)


def test_whoever_waits_may_leave_and_the_request_ends(endpoint, painter, monkeypatch):
    monkeypatch.setattr(remote, "PULSE", 0.05)
    painter.mode = "dripping"
    waiting = diffusion.sample(endpoint, "a cat")
    start = time.monotonic()
    assert next(waiting).pictures == []
    waiting.close()
    assert time.monotonic() - start < 1.5
    until(lambda: painter.broken == 1)


@pytest.mark.parametrize("url", ["ftp://a/v1", "127.0.0.1:8000", "http://", "http://me:pw@host/v1", "http://host/v1?key=1", "http://host:no"])
def test_an_address_that_is_none_is_refused_without_repeating_a_password(url):
    with pytest.raises(Problem, match="such as http://127.0.0.1:8000") as told:
        diffusion.Endpoint(url, "tiny")
    assert "pw" not in told.value.en.partition("got")[2]


def test_a_model_of_the_inference_providers_needs_a_key_and_is_asked_for_through_the_library(painter, monkeypatch):
    with pytest.raises(Problem, match="owner/name"):
        diffusion.Endpoint("", "tiny")
    with pytest.raises(Problem, match="set GENKIT_IMAGE_KEY to a Hugging Face token"):
        diffusion.Endpoint("", "org/name")
    from huggingface_hub.hf_api import InferenceProviderMapping
    from huggingface_hub.inference._providers import _common, nscale

    mapping = InferenceProviderMapping(provider="nscale", hf_model_id="org/name", providerId="their-name", task="text-to-image", status="live")
    fetched = lambda model: [mapping] if model == "org/name" else []  # noqa: E731
    monkeypatch.setattr("huggingface_hub.inference._providers._fetch_inference_provider_mapping", fetched)
    monkeypatch.setattr(_common, "_fetch_inference_provider_mapping", fetched)
    monkeypatch.setattr(_common.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(_common.constants, "INFERENCE_PROXY_TEMPLATE", painter.url)
    assert nscale.NscaleTextToImageTask().provider == "nscale"
    assert draw(diffusion.Endpoint("", "org/name", "hf_key")).image.size == (64, 64)
    assert painter.asked[0]["model"] == "their-name" and painter.keys == ["Bearer hf_key"]
    with pytest.raises(Problem, match="has no model org/other"):
        draw(diffusion.Endpoint("", "org/other", "hf_key"))


def test_the_host_adds_it_by_flags_and_the_page_draws_with_it(painter, monkeypatch):
    monkeypatch.setenv("GENKIT_IMAGE_KEY", "sk-secret")
    try:
        app.configured(app.arguments(["--image-endpoint", f"{painter.url}/v1/images/generations", "--image-model", "tiny"]))
        name = f"tiny at {painter.url.removeprefix('http://')}"
        said, absent = download.describe("diffusion", name)
        assert name in download.choices("diffusion") and "sent there" in said and not absent
        assert draw(models.use("diffusion", name)).image.size == (64, 64) and painter.keys == ["Bearer sk-secret"]
    finally:
        models._attached.clear()
    with pytest.raises(Problem, match="image endpoint is an address"):
        app.configured(app.arguments(["--image-endpoint", "nowhere"]))


def test_the_page_shows_the_picture_and_says_what_a_model_elsewhere_cannot_show(attached, painter):
    *_, (shown, key) = make.draw(Pen(), 1, "a cat", attached, 1, "", 20, 4, "", 3)
    assert shown.count("<img") == 1 and "AI-generated" in shown
    assert "finished picture only" in finished(steps.look(key, 3, 1)) and "只送来画好的图片" in finished(heat.heatmap(key, True, 1, 1))
    at, index = steps.settle(key, 8, 1)
    assert (at.value, index.value, index.visible) == (1, 1, False)
    model, trace = drawn.get(key)
    for ask in (
        lambda: diffusion.film(models.use("diffusion", model), trace),
        lambda: list(diffusion.sample(models.use("diffusion", model), "a dog", origin=(trace, 1))),
        lambda: list(diffusion.edit(models.use("diffusion", model), "a dog", trace.pictures[0])),
    ):
        with pytest.raises(Problem, match="finished picture only"):
            ask()
    with pytest.raises(Problem, match="finished picture only"):
        models.use("diffusion", model).unet  # noqa: B018  what any other part of the tab would ask for
    with pytest.raises(Problem, match="only"):
        list(diffusion.between(models.use("diffusion", model), "a", "b"))
    file = make.diffusion_sample("a cat", model=attached)["path"]
    assert labels.read(file)["model"] == f"diffusion/{attached}"
    painter.mode = "fallen"
    with pytest.raises(Exception, match="answered with error 503"):
        list(make.draw(Pen(), 1, "a cat", attached, 1, "", 20, 4, "", 3))
