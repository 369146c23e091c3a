"""Every pipeline class of the catalogue, tiny and random, written to disk and opened as a download would be."""

import dataclasses
import json

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)

from genkit import core, diffusion
from genkit.core import Problem
from genkit.diffusion import networks

WORDS = ("a", "cat", "dog", "on", "red")


def clip_tokenizer():
    tokenizer = networks.tokenizer(list(WORDS), vocabulary=600)
    tokenizer.model_max_length = 77
    return tokenizer


def clip(kind=CLIPTextModel):
    sizes = {"hidden_size": 16, "intermediate_size": 16, "projection_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return kind(CLIPTextConfig(vocab_size=600, max_position_embeddings=77, bos_token_id=0, eos_token_id=1, pad_token_id=1, **sizes))


def word_tokenizer(length, **options):
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=length, **options)


def vae(channels=4, shift=None):
    return AutoencoderKL(
        block_out_channels=(4,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=2,
        mid_block_add_attention=False,
        use_quant_conv=shift is None,
        use_post_quant_conv=shift is None,
        shift_factor=shift,
    )


def unet(**options):
    blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "attention_head_dim": 2, "norm_num_groups": 4, "sample_size": 8}
    return UNet2DConditionModel(**blocks, **sizes, **options)


def stable_diffusion():
    net = unet(cross_attention_dim=16)
    return StableDiffusionPipeline(vae(), clip(), clip_tokenizer(), net, EulerDiscreteScheduler(), None, None, requires_safety_checker=False)


def stable_diffusion_xl():
    net = unet(cross_attention_dim=32, addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=64)
    return StableDiffusionXLPipeline(vae(), clip(), clip(CLIPTextModelWithProjection), clip_tokenizer(), clip_tokenizer(), net, EulerDiscreteScheduler())


def flux():
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(4, 4, 8),
    )
    t5 = T5EncoderModel(T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    pipe = FluxPipeline(FlowMatchEulerDiscreteScheduler(), vae(4, shift=0.1), clip(), clip_tokenizer(), t5, word_tokenizer(512), transformer)
    pipe.default_sample_size = 8
    return pipe


def z_image():
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[1024, 128, 128]
    )
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    qwen = Qwen3Model(Qwen3Config(vocab_size=16, **sizes))
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    return ZImagePipeline(FlowMatchEulerDiscreteScheduler(), vae(4, shift=0.1), qwen, word_tokenizer(512, chat_template=template), transformer)


PIPELINES = {"sd-1.5": stable_diffusion, "sd-turbo": stable_diffusion, "sdxl-turbo": stable_diffusion_xl, "flux.1-schnell": flux, "z-image-turbo": z_image}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each pipeline in a folder named as the Hub's cache names it."""
    saved = {}
    for name, make in PIPELINES.items():
        repo = diffusion.PRETRAINED[name].repo.replace("/", "--")
        saved[name] = tmp_path_factory.mktemp("hub") / f"models--{repo}" / "snapshots" / "0"
        core.build(make, 0).save_pretrained(saved[name], variant="fp16" if diffusion.PRETRAINED[name].files else None)
    return saved


def test_every_model_of_the_catalogue_is_tried_here():
    assert PIPELINES.keys() == diffusion.PRETRAINED.keys()


@pytest.fixture
def small(monkeypatch):
    """Z-Image draws 1024 x 1024 and Flux asks its configuration: 64 x 64 is enough here."""

    def shrink(kind, height):
        call = kind.__call__
        monkeypatch.setattr(kind, "__call__", _with_size(call, height))

    shrink(ZImagePipeline, 64)
    shrink(FluxPipeline, 64)


def _with_size(call, size):
    import functools

    @functools.wraps(call)
    def smaller(self, *args, **settings):
        return call(self, *args, height=size, width=size, **settings)

    return smaller


@pytest.mark.parametrize("name", PIPELINES)
def test_it_opens_from_disk_and_draws_with_its_own_defaults(folders, small, name):
    from genkit.diffusion import pipeline

    pipe = diffusion.load(folders[name])
    assert pipeline.defaults(pipe) == {**pipeline.DEFAULTS, **diffusion.PRETRAINED[name].defaults}
    steps = list(diffusion.sample(pipe, "a cat", num_inference_steps=3, seed=1))
    assert [step.step for step in steps] == [1, 2, 3]
    again = list(diffusion.sample(pipe, "a cat", num_inference_steps=3, seed=1))[-1].image
    assert steps[-1].image.tobytes() == again.tobytes()
    assert list(diffusion.sample(pipe, "a cat", num_inference_steps=1, guidance_scale=3, negative_prompt="a dog"))[-1].image.size == again.size


@pytest.mark.parametrize("name", PIPELINES)
def test_it_stops_when_the_generator_is_closed(folders, small, name):
    pipe = diffusion.load(folders[name])
    net = pipe.components.get("unet") or pipe.transformer
    calls = []
    net.register_forward_hook(lambda *_: calls.append(1))
    drawing = diffusion.sample(pipe, "a cat", num_inference_steps=60, guidance_scale=0)
    next(drawing)
    drawing.close()
    assert 0 < len(calls) < 60


@pytest.mark.parametrize("name", PIPELINES)
def test_a_prompt_is_cut_where_the_model_stops_reading_and_the_rest_is_told(folders, name):
    pipe = diffusion.load(folders[name])
    limit = {"flux.1-schnell": 256, "z-image-turbo": 512}.get(name, 77)
    read, cut = diffusion.fit(pipe, "cat " * 600)
    assert f"{read} {cut}" == ("cat " * 600).strip()
    patient = pipe.tokenizer_2 if name == "flux.1-schnell" else pipe.tokenizer
    assert len(patient(read, verbose=False).input_ids) == limit
    assert diffusion.fit(pipe, "a cat") == ("a cat", "")


@pytest.mark.parametrize("name", PIPELINES)
def test_every_step_is_kept_and_a_branch_with_nothing_changed_draws_the_same(folders, small, name):
    pipe = diffusion.load(folders[name])
    whole, again, other = diffusion.Trace(), diffusion.Trace(), diffusion.Trace()
    settings = {"num_inference_steps": 4, "seed": 1, "n": 2}
    *_, last = diffusion.sample(pipe, "a cat", kept=whole, **settings)
    assert len(last.pictures) == 2 and [len(moment.sample) for moment in whole.moments] == [2] * 4
    x_t, x0, noise = diffusion.look(pipe, whole, 2, 1)
    assert x_t.size == x0.size and noise.mode == "RGB"
    *_, same = diffusion.sample(pipe, "a cat", seed=1, kept=again, origin=(whole, 2))
    *_, new = diffusion.sample(pipe, "a red dog", seed=5, guidance_scale=3, kept=other, origin=(whole, 2))
    assert [difference(*pair) for pair in zip(last.pictures, same.pictures, strict=True)] <= [1, 1]
    assert len(again.moments) == len(other.moments) == 4 and new.image.tobytes() != last.image.tobytes()


def difference(one, other):
    return max(abs(a - b) for a, b in zip(one.tobytes(), other.tobytes(), strict=True))


@pytest.mark.parametrize("name", [name for name, make in PIPELINES.items() if make not in (stable_diffusion,)] + ["sd-1.5"])
def test_words_are_heard_where_there_is_cross_attention_and_the_picture_stays_as_it_was(folders, small, monkeypatch, name):
    from genkit.diffusion import drawing

    pipe, kept = diffusion.load(folders[name]), diffusion.Trace()
    settings = {"num_inference_steps": 2, "seed": 1, "guidance_scale": 3.0}
    *_, heard = diffusion.sample(pipe, "a red cat", kept=kept, **settings)
    if not hasattr(pipe, "unet"):
        with pytest.raises(Problem, match="no cross-attention"):
            diffusion.of_words(kept, [(0, 1)])
        return
    maps, rest = diffusion.of_words(kept, [(0, 1), (2, 5), (6, 9)])
    assert all(heat.shape == rest.shape and (heat > 0).all() for heat in maps)
    torch.testing.assert_close(torch.tensor(sum(maps) + rest), torch.ones(rest.shape), atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(drawing, "_recorder", lambda *_: None)
    *_, unheard = diffusion.sample(pipe, "a red cat", **settings)
    assert heard.image.tobytes() == unheard.image.tobytes()


@pytest.mark.parametrize("name", ["sd-1.5", "sdxl-turbo", "flux.1-schnell"])
def test_a_picture_is_edited_and_inpainted(folders, small, name):
    from PIL import Image

    from genkit.diffusion import editing

    pipe, mask = diffusion.load(folders[name]), Image.new("L", (30, 30), 0)
    mask.paste(255, (15, 0, 30, 30))
    for where in (None, mask):
        *_, last = diffusion.edit(pipe, "a cat", Image.new("RGB", (50, 80), "red"), mask=where, strength=0.7, num_inference_steps=3)
        assert last.image.size == (editing.size(pipe),) * 2


def test_pickled_weights_are_not_opened(folders, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folders["flux.1-schnell"], copy)
    file = copy / "transformer" / "diffusion_pytorch_model.safetensors"
    file.unlink()
    torch.save({}, file.with_suffix(".bin"))
    with pytest.raises(Problem, match="diffusion_pytorch_model.safetensors is missing"):
        diffusion.load(copy)


def test_a_folder_of_something_else_is_told(folders, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folders["flux.1-schnell"], copy)
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "_class_name": "NoSuchPipeline"}))
    with pytest.raises(Problem, match="does not open as a text-to-image model"):
        diffusion.load(copy)


def test_a_gpu_that_is_too_small_gets_the_model_in_parts(folders, monkeypatch):
    from genkit.diffusion import pipeline

    pipe = diffusion.load(folders["sd-turbo"])
    whole = sum(p.numel() * p.element_size() for part in (pipe.unet, pipe.vae, pipe.text_encoder) for p in part.parameters())
    chosen = []
    for way in ("to", "enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        monkeypatch.setattr(type(pipe), way, lambda self, *_, way=way: chosen.append(way) or self)
    for free in (whole * 2, whole, whole // 100):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda free=free: (free, free))
        pipeline._place(pipe, torch.device("cuda"))
    assert chosen == ["to", "enable_model_cpu_offload", "enable_sequential_cpu_offload"]


def test_the_catalogue_tells_what_each_model_costs():
    for remote in diffusion.PRETRAINED.values():
        assert remote.size > 1e9 and remote.memory >= remote.size * 0.7 and remote.licence
        assert {"num_inference_steps", "guidance_scale"} <= remote.defaults.keys()
        assert dataclasses.is_dataclass(remote)
