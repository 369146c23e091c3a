"""The words in joint attention: transformers in which the places of the picture and the tokens of the prompt all ask each other, in one attention.

Each place divides what it takes among tokens and places. How it divides among the tokens alone what it takes from them is softmax(q k^T / sqrt(D)) over their
keys only: the same question as in cross-attention. Queries and keys are worked out beside the attention of diffusers, with its own projections, norms and
rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864). B pictures, Q places, T tokens, H heads, D numbers a head; (B, Q or T, H, D).
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from diffusers.models.transformers.transformer_z_image import ZSingleStreamAttnProcessor

from genkit.diffusion import heat

PADDED = 32  # Z-Image lets picture and prompt each take a multiple of so many places


def install(net) -> None:
    """Let the joint attention of Flux or Z-Image be overheard."""
    if type(net).__name__ == "ZImageTransformer2DModel":
        for layer in net.layers:  # the refiners before see either words or places
            layer.attention.set_processor(ZImage())
    for module in net.modules():
        if type(getattr(module, "processor", None)) is FluxAttnProcessor:
            module.set_processor(Flux())


@torch.no_grad()
def shares(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """(B, Q, T): how each place divides among the tokens what it takes from them, in the mean of the heads; mask (B, T) is true for tokens that are there.

    Head by head: a picture of 1024 x 1024 has 4096 places.
    """
    total = 0.0
    for head in range(query.shape[2]):
        scores = query[:, :, head] @ key[:, :, head].transpose(1, 2) * query.shape[-1] ** -0.5
        scores = scores if mask is None else scores.masked_fill(~mask[:, None], float("-inf"))
        total = total + scores.float().softmax(-1)
    return total / query.shape[2]


class Flux(FluxAttnProcessor):
    """The tokens stand before the places: in the first blocks as a stream of their own, in the later ones in one."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        recorder = heat.listener()
        if recorder is not None:
            self.tell(recorder, attn, hidden_states, encoder_hidden_states, image_rotary_emb)
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb)

    @torch.no_grad()
    def tell(self, recorder, attn, hidden, words, rotary) -> None:
        def split(projected):
            return projected.unflatten(-1, (-1, attn.head_dim))

        if words is not None:
            recorder.words = words.shape[1]
            query, key = attn.norm_q(split(attn.to_q(hidden))), attn.norm_added_k(split(attn.add_k_proj(words)))
        else:
            query, key = attn.norm_q(split(attn.to_q(hidden[:, recorder.words :]))), attn.norm_k(split(attn.to_k(hidden[:, : recorder.words])))
        if rotary is not None:
            query = apply_rotary_emb(query, [part[recorder.words :] for part in rotary], sequence_dim=1)
            key = apply_rotary_emb(key, [part[: recorder.words] for part in rotary], sequence_dim=1)
        recorder.keep(attn, shares(query, key))


class ZImage(ZSingleStreamAttnProcessor):
    """The places stand before the tokens; with guidance, the pictures that heard the prompt before those that did not."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, freqs_cis=None):
        recorder = heat.listener()
        if recorder is not None:
            self.tell(recorder, attn, hidden_states, attention_mask, freqs_cis)
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, freqs_cis)

    @torch.no_grad()
    def tell(self, recorder, attn, hidden, mask, turns) -> None:
        n, places = recorder.pictures, recorder.places
        begin = -(-places // PADDED) * PADDED

        def turned(part, project, norm):
            split = project(hidden[:n, part]).unflatten(-1, (attn.heads, -1))
            split = split if norm is None else norm(split)
            pairs = torch.view_as_complex(split.float().reshape(*split.shape[:-1], -1, 2)) * turns[:n, part].unsqueeze(2)
            return torch.view_as_real(pairs).flatten(3).type_as(split)

        query, key = turned(slice(0, places), attn.to_q, attn.norm_q), turned(slice(begin, None), attn.to_k, attn.norm_k)
        recorder.keep(attn, shares(query, key, None if mask is None else mask[:n, begin:].bool()))
