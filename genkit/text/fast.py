"""The quick way through a Llama: several texts in one pass, each with its own cache.

transformers' own forward spends as long on the way to a multiplication as in it; this one is bare. It serves LlamaForCausalLM (ours and SmolLM2), Qwen2 and Qwen3;
any other model goes through its own forward. A large model on a CPU is computed in 8 bits, in eight.py, where that is faster: quicken() tries.

N tokens of all texts together, V vocabulary, D numbers a head.
"""

from __future__ import annotations

import logging
import statistics
import time

import torch
from torch.nn import functional as F

log = logging.getLogger(__name__)
KINDS = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
LARGE = 50_000_000  # parameters: the weights of smaller ones stay in the processor's own memory, where float32 is as quick
GROWS = 64  # tokens: what a cache begins with; it doubles when it is full


class Cache:
    """The keys and values of one text in every layer."""

    def __init__(self, model):
        config, weight = model.config, model.model.embed_tokens.weight
        self.length, self.layers = 0, weight.new_empty(config.num_hidden_layers, 2, config.num_key_value_heads, 0, head_size(config))

    def get_seq_length(self) -> int:
        """Tokens read so far."""
        return self.length

    def crop(self, length: int) -> None:
        """Forget what was read after the first `length` tokens."""
        self.length = min(self.length, length)

    def room(self) -> int:
        """Tokens that it holds memory for."""
        return self.layers.shape[3]

    def reserve(self, length: int) -> None:
        """Have memory for `length` tokens."""
        if length > self.room():
            old = self.layers
            room = -(-max(length, 2 * self.room()) // GROWS) * GROWS
            self.layers = old.new_zeros((*old.shape[:3], room, old.shape[4]))  # eight.py reads beyond the end, and takes nothing of it
            self.layers[:, :, :, : self.length] = old[:, :, :, : self.length]


def bytes_of(model) -> int:
    """Of the keys and values of one token."""
    config = model.config
    return 2 * config.num_hidden_layers * config.num_key_value_heads * head_size(config) * model.model.embed_tokens.weight.element_size()


def supports(model) -> bool:
    """Whether forward() serves this model."""
    config = model.config
    return (
        type(model).__name__ in KINDS
        and set(getattr(config, "layer_types", None) or ["full_attention"]) == {"full_attention"}
        and getattr(model, "hf_device_map", None) is None
    )


@torch.inference_mode()
def forward(model, texts: list[tuple[list[int], Cache]], every: bool = False) -> torch.Tensor:
    """Logits (B, V) of the token after each text, (ids, cache) each: the ids, at least one, that come after what its cache has read. every: (N, V), one row after each id."""
    return engine(model).forward(model, texts, every)


def engine(model):
    """How this model is computed: what quicken() chose, else its own matrices as they are."""
    if getattr(model, "quick", None) is None:
        model.quick = Plain(model)
    return model.quick


@torch.inference_mode()
def quicken(model) -> None:
    """Choose how this model is computed from now on: in 8 bits if it is large, on a CPU, and that is faster here; else as it is."""
    if model.device.type != "cpu" or model.dtype != torch.float32 or not supports(model) or model.num_parameters() < LARGE:
        return
    try:
        from genkit.text import eight

        small = eight.Eight(model)
    except (ImportError, ValueError, RuntimeError) as error:  # numba is not there, or cannot: a network that it does not know, a processor that it does not
        log.info("not computed in 8 bits: %s", str(error).split("\n")[0])
        return
    if faster(model, small, Plain(model)):
        model.quick = small


def faster(model, one, other, rounds: int = 5) -> bool:
    """Whether one engine makes a token faster than another."""
    times, caches = {one: [], other: []}, {one: Cache(model), other: Cache(model)}
    for _ in range(rounds):  # in turns: what else the machine does meets both
        for each, spent in times.items():
            begun = time.perf_counter()
            each.forward(model, [([0], caches[each])], False)
            spent.append(time.perf_counter() - begun)
    return statistics.median(times[one]) < statistics.median(times[other])


def _attention(heads: torch.Tensor, spans, i: int) -> torch.Tensor:
    """What every token draws from those before it in its own text, (N, H * D). heads (N, H + 2 H_kv, D): queries, keys, values."""
    made = []
    for begin, length, cache in spans:
        kv, past = cache.layers[i], cache.length
        (_, few, _, d), mine = kv.shape, heads[begin : begin + length]
        many = mine.shape[1] - 2 * few
        kv[:, :, past : past + length] = mine[:, many:].view(length, 2, few, d).permute(1, 2, 0, 3)
        keys, values = kv[:, None, :, : past + length]
        if length == 1:  # the queries that share a key stand in the place of neighbouring tokens
            found = F.scaled_dot_product_attention(mine[:, :many].view(1, few, many // few, d), keys, values)
            made.append(found.reshape(1, many * d))
        else:
            mask = torch.ones(length, past + length, dtype=torch.bool, device=kv.device).tril(past) if past else None
            queries = mine[:, :many].transpose(0, 1)[None]
            found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=not past, enable_gqa=True)
            made.append(found[0].transpose(0, 1).reshape(length, many * d))
    return made[0] if len(made) == 1 else torch.cat(made)


def head_size(config) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _norm(module, x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


class Plain:
    """The model's own matrices, looked at afresh each time: it may be learning, or have moved."""

    def __init__(self, model):
        self.layers, self.norm, self.head = [PlainLayer(layer) for layer in model.model.layers], model.model.norm, model.lm_head

    def forward(self, model, texts, every):
        weight, spans, n = model.model.embed_tokens.weight, [], 0
        for ids, cache in texts:
            cache.reserve(cache.length + len(ids))
            spans.append((n, len(ids), cache))
            n += len(ids)
        positions = torch.tensor([[cache.length + i for _, length, cache in spans for i in range(length)]], device=weight.device)
        cos, sin = model.model.rotary_emb(weight, positions)
        half = sin.shape[-1] // 2
        turn = cos[0, :, None], torch.cat([-sin[0, :, None, :half], sin[0, :, None, half:]], dim=-1)  # Su et al. 2021, eq. 34: (N, 1, D)
        h = F.embedding(torch.tensor([i for ids, _ in texts for i in ids], device=weight.device), weight)  # (N, n_embd)
        for i, layer in enumerate(self.layers):
            h = layer.out(h, _attention(layer.heads(h, turn), spans, i))
            h = layer.mlp(h)
        for _, length, cache in spans:
            cache.length += length
        if not every:
            h = h[torch.tensor([begin + length - 1 for begin, length, _ in spans], device=h.device)]
        return self.head(_norm(self.norm, h))

    def __deepcopy__(self, memo):
        return None  # a copy of the model is computed with its own matrices


class PlainLayer:
    def __init__(self, layer):
        self.before, self.attention, self.between, self.gated = layer.input_layernorm, layer.self_attn, layer.post_attention_layernorm, layer.mlp

    def heads(self, h, turn):
        at, x, (cos, sin) = self.attention, _norm(self.before, h), turn
        q, k, v = (part(x).view(len(h), -1, at.head_dim) for part in (at.q_proj, at.k_proj, at.v_proj))
        if hasattr(at, "q_norm"):
            q, k = _norm(at.q_norm, q), _norm(at.k_norm, k)
        qk = torch.cat([q, k], dim=1)
        return torch.cat([torch.addcmul(qk * cos, qk.roll(at.head_dim // 2, -1), sin), v], dim=1)

    def out(self, h, found):
        return h + self.attention.o_proj(found)

    def mlp(self, h):
        x = _norm(self.between, h)
        return h + self.gated.down_proj(self.gated.act_fn(self.gated.gate_proj(x)) * self.gated.up_proj(x))
