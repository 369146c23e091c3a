"""Every named endpoint through gradio_client, with good and with bad input."""

import concurrent.futures
import io
import re

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image, ImageDraw

from genkit import labels

ENDPOINTS = {
    "/gan_sample",
    "/gan_verdict",
    "/gan_nearest",
    "/gan_interpolate",
    "/gan_mix",
    "/vae_reconstruct",
    "/vae_encode",
    "/vae_decode",
    "/vae_interpolate",
    "/vae_denoise",
    "/vae_anomaly",
    "/vae_sample",
    "/diffusion_sample",
    "/diffusion_steps",
    "/diffusion_heatmap",
    "/diffusion_edit",
    "/diffusion_inpaint",
    "/diffusion_outpaint",
    "/diffusion_upscale",
    "/text_sample",
    "/text_next",
    "/text_perplexity",
    "/text_attention",
    "/text_chat",
    "/train",
}


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture
def seven(tmp_path):
    picture = Image.new("RGB", (200, 260), "white")
    ImageDraw.Draw(picture).line([(50, 50), (150, 50), (90, 210)], fill="black", width=18, joint="curve")
    picture.save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


def test_the_endpoints_are_those_of_the_documentation(client):
    described = client.view_api(return_format="dict")["named_endpoints"]
    assert set(described) == ENDPOINTS
    assert all(endpoint["description"] for endpoint in described.values())


def test_gan_sample_returns_png_files_of_28_by_28_that_carry_their_mark(client):
    files = client.predict("dcgan", "07", 4, 7, api_name="/gan_sample")
    pictures = [Image.open(file) for file in files]
    assert [picture.size for picture in pictures] == [(28, 28)] * 4 and {picture.format for picture in pictures} == {"PNG"}
    assert labels.read(files[0])["seed"] == 7 and "dcgan" in labels.read(files[0])["model"]


def test_the_same_seed_gives_the_same_digits_whatever_else_is_asked(client):
    alone = client.predict("dcgan", "3", 2, 11, api_name="/gan_sample")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        crowd = [pool.submit(client.predict, "dcgan", "3", 2, seed, api_name="/gan_sample") for seed in (1, 11, 2, 3, 11, 4)]
        again = crowd[1].result()
    difference = max(
        abs(a - b) for one, other in zip(alone, again, strict=True) for a, b in zip(Image.open(one).tobytes(), Image.open(other).tobytes(), strict=True)
    )
    assert difference <= 1


def test_gan_verdict_says_how_real_a_drawing_is_and_as_which_digit(client, seven):
    said = client.predict(handle_file(seven), "dcgan", api_name="/gan_verdict")
    assert said["digit"] == 7 and said["probability"] == said["believes"][7] and len(said["believes"]) == 10
    assert 0 <= said["percentile_real"] <= 100 and 0 <= said["percentile_fake"] <= 100
    assert client.predict(handle_file(seven), "wgan-gp", api_name="/gan_verdict")["probability"] is None


def test_gan_nearest_returns_training_digits_with_their_distances(client):
    said = client.predict("dcgan", "3", 7, 3, api_name="/gan_nearest")
    assert [Image.open(file).size for file in said["nearest"]] == [(28, 28)] * 3 and labels.read(said["picture"])["seed"] == 7
    assert 0 < said["distance"] == said["distances"][0] <= said["distances"][2] and 0 <= said["percentile"] <= 100 and said["sentence"]


def test_vae_reconstruct_returns_a_picture_and_the_two_terms_in_nats(client, seven):
    picture, numbers = client.predict(handle_file(seven), "conv", api_name="/vae_reconstruct")
    assert Image.open(picture).size == (28, 28)
    assert 0 < numbers["kl"] < 100 and 0 < numbers["recon"] < 500 and len(numbers["mu"]) == len(numbers["logvar"])


def test_vae_sample_returns_digits(client):
    files = client.predict("mlp", 3, 5, api_name="/vae_sample")
    assert len(files) == 3 and Image.open(files[0]).size == (28, 28)


def test_vae_interpolate_leads_from_one_drawing_to_another(client, seven):
    files = client.predict(handle_file(seven), handle_file(seven), "conv", 3, api_name="/vae_interpolate")
    assert [Image.open(file).size for file in files] == [(28, 28)] * 3 and labels.read(files[1])["model"] == "vae/conv"


def test_vae_anomaly_finds_a_seven_less_odd_than_a_grid(client, seven, tmp_path):
    grid = Image.new("L", (280, 280), 255)
    for place in range(20, 280, 48):
        ImageDraw.Draw(grid).line([(place, 10), (place, 270)], fill=0, width=12)
        ImageDraw.Draw(grid).line([(10, place), (270, place)], fill=0, width=12)
    grid.save(tmp_path / "grid.png")
    digit, odd = (client.predict(handle_file(path), "conv", api_name="/vae_anomaly") for path in (seven, tmp_path / "grid.png"))
    assert odd["odd"] and odd["elbo"] > odd["threshold"] and odd["percentile"] == 100
    assert not digit["odd"] and digit["recon"] < digit["elbo"] < odd["elbo"]


def test_vae_decode_draws_what_vae_encode_squeezed(client, seven):
    code = client.predict(handle_file(seven), "conv", None, api_name="/vae_encode")
    assert len(code["mu"]) == len(code["logvar"]) == 32
    drawn, (again, _) = (
        client.predict(code["mu"], "conv", None, api_name="/vae_decode"),
        client.predict(handle_file(seven), "conv", api_name="/vae_reconstruct"),
    )
    assert labels.read(drawn)["model"] == "vae/conv"
    assert max(abs(a - b) for a, b in zip(Image.open(drawn).tobytes(), Image.open(again).tobytes(), strict=True)) <= 1


def test_diffusion_sample_returns_a_picture_of_64_by_64(client):
    file = client.predict("a red apple on a blue background", "", 3, 4.0, 7, "mini-sd", api_name="/diffusion_sample")
    assert Image.open(file).size == (64, 64)
    assert labels.read(file)["prompt"] == "a red apple on a blue background"


def test_text_next_gives_the_likeliest_tokens_before_and_after_the_settings(client):
    found = client.predict("ROMEO:\nI", "gpt-shakespeare", 5, 0.5, 2, api_name="/text_next")
    assert len(found["tokens"]) == 5 and found["left"] == 2 and 0 < found["entropy"] < 7
    assert sum(each["drawn"] for each in found["tokens"]) == pytest.approx(1) and found["tokens"][0]["model"] > found["tokens"][4]["model"] > 0


def test_text_attention_gives_a_row_for_each_token_which_sums_to_1_and_never_looks_ahead(client):
    found = client.predict("ROMEO:", "gpt-shakespeare", 1, 2, api_name="/text_attention")
    assert "".join(found["tokens"]) == "\nROMEO:" and (found["layers"], found["heads"], found["cut"]) == (4, 6, 0)
    assert [sum(row) for row in found["attention"]] == pytest.approx([1] * 7, abs=2e-3) and all(
        not any(row[place + 1 :]) for place, row in enumerate(found["attention"])
    )
    long = client.predict("x" * 1000, "gpt-tang", 0, -1, api_name="/text_attention")
    assert len(long["attention"]) == 128 and long["cut"] == 1000 - 127


def test_text_perplexity_says_how_well_a_model_foresees_a_text(client):
    well, badly = (
        client.predict("To be, or not to be: that is the question", name, api_name="/text_perplexity") for name in ("lstm-shakespeare", "hmm-shakespeare")
    )
    assert 1 < well["perplexity"] < badly["perplexity"] < 66 and well["tokens"] == well["characters"] == 41 and well["cut"] == well["unknown"] == 0
    assert well["perplexity"] == pytest.approx(2 ** well["bits_per_character"])


def test_text_sample_streams_and_repeats_itself_for_a_seed(client):
    job = client.submit("ROMEO:", "gpt-shakespeare", 60, 0.8, 0, 1.0, 7, api_name="/text_sample")
    answer = job.result(timeout=120)
    assert len(answer) >= 50
    assert client.predict("ROMEO:", "gpt-shakespeare", 60, 0.8, 0, 1.0, 7, api_name="/text_sample") == answer


def test_text_chat_answers_after_what_was_said(client):
    job = client.submit("why?", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}], "be kind", "gpt-mini", 20, api_name="/text_chat")
    assert len(job.result(timeout=120)) >= 15 and len(job.outputs()) >= 2


def test_train_streams_progress_to_the_last_step(client):
    job = client.submit("gan", "mlp", 6, 3, api_name="/train")
    assert job.result(timeout=120)["state"] == "done"
    assert job.outputs()[-1]["step"] == 6 and "loss_d" in job.outputs()[-1]["metrics"]


def test_a_huge_count_is_clamped(client):
    assert len(client.predict("mlp", "1", 10**9, 0, api_name="/gan_sample")) == 64


REFUSED = [
    ("/gan_sample", ("dcgna", "1", 1, 0), "choose one of"),
    ("/gan_sample", ("dcgan", "no digit", 1, 0), "digit"),
    ("/gan_sample", ("dcgan", "", 1, 0), "digit"),
    ("/gan_sample", ("dcgan", "1", 1, "abc"), "seed must be a number, got 'abc'"),
    ("/gan_nearest", ("dcgan", "33", 0, 5), "choose one of"),
    ("/gan_nearest", ("dcgan", "3", "abc", 5), "seed must be a number, got 'abc'"),
    ("/vae_sample", ("vqvae", 1, 0), "choose one of"),
    ("/vae_decode", ([0.0] * 32, "convv", None), "choose one of"),
    ("/vae_decode", ([0.0] * 31, "conv", None), "must be 32 numbers, got 31"),
    ("/vae_decode", (["<b>"] * 32, "conv", None), "z must be a number, got '<b>'"),
    ("/vae_decode", ("abc", "conv", None), "z must be a list"),
    ("/vae_decode", ([0.0] * 32, "conv", 10), "unknown digit '10'"),
    ("/diffusion_sample", ("", "", 2, 4.0, 0, "mini-sd"), "prompt"),
    ("/diffusion_sample", ("x" * 10_000, "", 2, 4.0, 0, "mini-sd"), "10000 characters"),
    ("/diffusion_sample", ("a cat", "", 2, 4.0, 0, "stabilityai/another-model"), "choose one of"),
    ("/diffusion_sample", ("a cat", "", 2, 4.0, 0, "mini-sd", "heun"), "unknown scheduler 'heun'"),
    ("/diffusion_steps", ("a cat", "", 2, 4.0, 0, "mini-sd", "", "x"), "branch_at must be a number, got 'x'"),
    ("/diffusion_heatmap", ("12", "", 2, 4.0, 0, "digits"), "no cross-attention"),
    ("/text_sample", ("x" * 10_001, "gpt-shakespeare", 5, 0.8, 0, 1.0, 0), "10001 characters"),
    ("/text_sample", ("a", "../../etc", 5, 0.8, 0, 1.0, 0), "choose one of"),
    ("/text_next", ("a", "../../etc"), "choose one of"),
    ("/text_attention", ("a", "../../etc"), "choose one of"),
    ("/text_attention", ("x" * 10_001,), "10001 characters"),
    ("/text_next", ("x" * 10_001,), "10001 characters"),
    ("/text_perplexity", ("", "gpt-mini"), "the text is empty"),
    ("/text_perplexity", ("x" * 10_001, "gpt-mini"), "10001 characters"),
    ("/text_perplexity", ("a", "../../etc"), "choose one of"),
    ("/text_chat", ("hi", [{"role": "user", "content": "x" * 100_000}], "", "gpt-mini"), "100000 characters"),
    ("/text_chat", ("hi", [{"role": "root", "content": "x"}], "", "gpt-mini"), "not the role of a message"),
    ("/text_chat", ("hi", "a text", "", "gpt-mini"), "must be a list"),
    ("/text_chat", ("hi", [["hi", "yo"]], "", "gpt-mini"), "not the role of a message"),
    ("/text_chat", ("  ", [], "", "gpt-mini"), "empty"),
    ("/text_chat", ("hi", [], "", "../../etc"), "choose one of"),
    ("/text_chat", ("hi", [], "", "smollm2"), "python -m genkit.models fetch smollm2"),
    ("/train", ("gan", "nope", 5, 0), "choose one of"),
    ("/train", ("evil", "mlp", 5, 0), "choose one of"),
]


@pytest.mark.parametrize("endpoint, arguments, sentence", REFUSED)
def test_bad_input_gets_a_clear_sentence(client, endpoint, arguments, sentence):
    with pytest.raises(AppError, match=re.escape(sentence)):
        client.predict(*arguments, api_name=endpoint)


def png(width, height):
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"this is a text file", "not a picture"),
        (b"", "not a picture"),
        (png(20_000, 20_000), "at most 40 megapixels"),
        (png(100, 100), "nothing is drawn"),
        (png(100, 100)[:40], "not a picture"),
    ],
    ids=["text named .png", "empty file", "20,000 x 20,000", "empty drawing", "truncated"],
)
@pytest.mark.parametrize(
    "endpoint, arguments",
    [
        ("/vae_reconstruct", ("conv",)),
        ("/vae_encode", ("conv", None)),
        ("/vae_denoise", ("gaussian", 0.4, 0)),
        ("/vae_anomaly", ("conv",)),
        ("/gan_verdict", ("dcgan",)),
    ],
)
def test_a_bad_picture_gets_a_clear_sentence(client, tmp_path, endpoint, arguments, content, sentence):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(AppError, match=sentence):
        client.predict(handle_file(tmp_path / "bad.png"), *arguments, api_name=endpoint)


def test_an_upload_of_50_mb_is_refused_and_the_page_goes_on(client, tmp_path):
    (tmp_path / "big.png").write_bytes(b"\0" * 50_000_000)
    for endpoint in ("/vae_reconstruct", "/diffusion_upscale"):
        with pytest.raises(Exception, match="413|large|exceed"):
            client.predict(handle_file(tmp_path / "big.png"), api_name=endpoint)
    assert client.predict("mlp", 1, 0, api_name="/vae_sample")


def test_diffusion_upscale_returns_a_picture_of_four_times_the_side(client, seven):
    assert Image.open(client.predict(handle_file(seven), 4, api_name="/diffusion_upscale")).size == (800, 1040)


@pytest.mark.parametrize("prompt", ["<img src=x onerror=alert(1)>", "🐱 on white", "عربى على أبيض", "a\u0000b\u0007"])
def test_strange_prompts_are_drawn_or_refused_never_crash(client, prompt):
    try:
        assert client.predict(prompt, "", 2, 4.0, 0, "mini-sd", api_name="/diffusion_sample")
    except AppError as error:
        assert re.search("prompt|word", str(error))
