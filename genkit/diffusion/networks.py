"""The networks of both variants, each a class of diffusers or transformers, so that their own from_pretrained opens the files.

B pictures, T = 32 tokens, E = 192 text features; latents are (B, 4, 16, 16), unit variance per channel.
"""

from __future__ import annotations

import json

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TOKENS, FEATURES = 32, 192
# what the caption says as a whole, features pooled by attention, joins the embedding of t; both scale and shift the channels of every block
HEARD = {"addition_embed_type": "text", "addition_embed_type_num_heads": 6, "resnet_time_scale_shift": "scale_shift"}


def autoencoder() -> AutoencoderKL:
    """Pictures (B, 3, 64, 64) to latents (B, 4, 16, 16) and back; 0.65 M parameters. No attention: flat pictures do not need it."""
    return AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


@torch.no_grad()
def whiten(vae: AutoencoderKL, x: torch.Tensor) -> None:
    """Scale the latents of pictures x (B, 3, 64, 64) to mean 0 and variance 1 per channel, inside the two 1 x 1 convolutions around them."""
    means = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(64)])
    mean, std = means.mean(dim=(0, 2, 3)), means.std(dim=(0, 2, 3))
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:4] /= std.view(4, 1, 1, 1)
    quant.bias[:4] = (quant.bias[:4] - mean) / std
    quant.bias[4:] -= 2 * std.log()  # the log-variances of the same latents
    # post(z) = W z + b with z = std z' + mean
    post.bias += (post.weight * mean.view(1, 4, 1, 1)).sum(dim=(1, 2, 3))
    post.weight *= std.view(1, 4, 1, 1)


def tokenizer(texts: list[str], vocabulary: int = 2000) -> CLIPTokenizer:
    """CLIP's tokenizer with byte pairs learnt from the words of `texts`, and one token for each Chinese character in them.

    Any other character falls apart into bytes, so that every text has tokens.
    """
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    ends = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=alphabet,
        special_tokens=[*ends, *(f"{byte}</w>" for byte in alphabet)],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    words = [word for text in texts for word in text.replace(",", " ,").split() if word.isascii()]
    learner.train_from_iterator(words, trainer)
    state = json.loads(learner.to_str())["model"]
    made = CLIPTokenizer(vocab=state["vocab"], merges=[tuple(merge) for merge in state["merges"]], model_max_length=TOKENS)
    made.add_tokens([AddedToken(char, normalized=False) for char in sorted({char for text in texts for char in text if not char.isascii()})])
    return made


def text_encoder(size: int) -> CLIPTextModel:
    """Tokens (B, T) to features (B, T, E), for a tokenizer of `size` entries."""
    config = CLIPTextConfig(
        vocab_size=size,
        hidden_size=FEATURES,
        intermediate_size=2 * FEATURES,
        projection_dim=FEATURES,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
        initializer_factor=1.0,
    )
    return CLIPTextModel(config)


def unet() -> UNet2DConditionModel:
    """Noisy latents (B, 4, 16, 16), t (B,) and text features (B, T, E) to v (B, 4, 16, 16); 7.5 M parameters.

    The words are attended to at 8 x 8 and 4 x 4: attention at 16 x 16 doubles the time of a step. Besides, what the caption says as a whole
    scales and shifts the channels of every block (FiLM, Perez et al. 2017, https://arxiv.org/abs/1709.07871): told by attention
    alone, the U-Net listens to the background long before it listens to the name of the thing.
    """
    net = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(48, 96, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=FEATURES,
        attention_head_dim=4,  # diffusers means the number of heads
        norm_num_groups=16,
        **HEARD,
    )
    net.set_attn_processor(AttnProcessor())  # on a CPU faster than scaled_dot_product_attention at these sizes
    for module in net.modules():  # every residual branch begins as zero, Dhariwal & Nichol 2021
        if hasattr(module, "conv2") and isinstance(module.conv2, nn.Conv2d):
            nn.init.zeros_(module.conv2.weight)
    nn.init.zeros_(net.conv_out.weight)
    return net


def scheduler() -> DPMSolverMultistepScheduler:
    """The noise levels: squared cosine (Nichol & Dhariwal 2021), v-prediction (Salimans & Ho 2022); sampled with DPM-Solver++ (Lu et al. 2022)."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        timestep_spacing="trailing",
        steps_offset=1,  # without effect here; the pipeline insists on it
    )


def pipeline(vae, text_encoder, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel) -> StableDiffusionPipeline:
    """The parts as diffusers' own pipeline. No safety checker: it can draw emoji only, and the checker is 50 times its size."""
    pipe = StableDiffusionPipeline(vae, text_encoder, tokenizer, unet, scheduler(), None, None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe
