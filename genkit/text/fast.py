"""The quick way through a Llama: several texts in one pass, each with its own cache, and whole numbers of 8 bits where the processor multiplies them faster.

transformers' own forward spends as long on the way to a multiplication as in it; this one is bare. It serves LlamaForCausalLM (ours and SmolLM2), Qwen2 and Qwen3;
any other model goes through its own forward. A large model on a CPU is slow because every weight is read for every token, so load() keeps its matrices a second time
in 8 bits, a quarter of the bytes, one scale a row. What meets them must be whole numbers too, and 8 bits a token lose too much there (SmolLM2-135M: perplexity 4.5 % worse):
each number is split into two bytes, coarse and fine, two rows of one multiplication, which costs no more than one row as reading the weights is what takes time.
The float32 matrices stay for who looks inside (attention maps, gradients, saving).

Dettmers et al. 2022 (8-bit matrices in language models): https://arxiv.org/abs/2208.07339. N tokens of all texts together, K and M numbers in and out, D numbers a head.
"""

from __future__ import annotations

import logging
import math
import statistics
import time

import torch
from torch.nn import functional as F

log = logging.getLogger(__name__)
KINDS = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
LARGE = 50_000_000  # parameters: smaller ones stay in the processor's own memory, where float32 is as quick
GROWS = 64  # tokens: what a cache begins with; it doubles when it is full


class Cache:
    """The keys and values of one text in every layer."""

    def __init__(self, model):
        config, weight = model.config, model.model.embed_tokens.weight
        self.shape, self.length = (2, config.num_key_value_heads, 0, _head(config)), 0
        self.layers = [weight.new_empty(self.shape) for _ in range(config.num_hidden_layers)]

    def get_seq_length(self) -> int:
        """Tokens read so far."""
        return self.length

    def crop(self, length: int) -> None:
        """Forget what was read after the first `length` tokens."""
        self.length = min(self.length, length)

    def room(self) -> int:
        """Tokens that it holds memory for."""
        return self.layers[0].shape[2]

    def reserve(self, length: int) -> None:
        """Have memory for `length` tokens."""
        if length > self.room():
            room = max(length, 2 * self.room(), GROWS)
            for i, old in enumerate(self.layers):
                self.layers[i] = old.new_empty((*old.shape[:2], room, old.shape[3]))
                self.layers[i][:, :, : self.length] = old[:, :, : self.length]


def bytes_of(model) -> int:
    """Of the keys and values of one token."""
    config = model.config
    return 2 * config.num_hidden_layers * config.num_key_value_heads * _head(config) * model.model.embed_tokens.weight.element_size()


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
    engine, weight, spans, n = _engine(model), model.model.embed_tokens.weight, [], 0
    for ids, cache in texts:
        cache.reserve(cache.length + len(ids))
        spans.append((n, len(ids), cache))
        n += len(ids)
    positions = torch.tensor([[cache.length + i for _, length, cache in spans for i in range(length)]], device=weight.device)
    turn = engine.turn(*model.model.rotary_emb(weight, positions))
    h = F.embedding(torch.tensor([i for ids, _ in texts for i in ids], device=weight.device), weight)  # (N, n_embd)
    for i, layer in enumerate(engine.layers):
        h = layer.out(h, _attention(layer.heads(h, turn), spans, i))
        h = layer.mlp(h)
    for _, length, cache in spans:
        cache.length += length
    if not every:
        h = h[torch.tensor([begin + length - 1 for begin, length, _ in spans], device=h.device)]
    return engine.logits(h)


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


def _head(config) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _engine(model):
    """How this model is computed: what quicken() chose, else its own matrices as they are."""
    if getattr(model, "quick", None) is None:
        model.quick = Plain(model)
    return model.quick


def _norm(module, x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


class Engine:
    """The layers of a model in the order of their use. A copy of the model has none of it: it is made for a model as it is."""

    def __deepcopy__(self, memo):
        return None


class Plain(Engine):
    """The model's own matrices, looked at afresh each time: it may be learning, or have moved."""

    def __init__(self, model):
        self.layers, self.norm, self.head = [PlainLayer(layer) for layer in model.model.layers], model.model.norm, model.lm_head

    def turn(self, cos, sin):
        """The rotation of every token's queries and keys. cos and sin (1, N, D); Su et al. 2021, eq. 34"""
        half = sin.shape[-1] // 2
        return cos[0, :, None], torch.cat([-sin[0, :, None, :half], sin[0, :, None, half:]], dim=-1)

    def logits(self, h):
        return self.head(_norm(self.norm, h))


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


# --- 8 bits


def quicken(model) -> None:
    """Choose how this model is computed from now on: in 8 bits if it is large, on a CPU, and its processor does that right and faster; else as it is."""
    if model.device.type != "cpu" or not supports(model) or model.num_parameters() < LARGE or model.config.hidden_act != "silu":
        return
    try:
        if exact() and faster(model.model.layers[0].mlp.gate_proj):
            model.quick = Quantised(model)
    except (AttributeError, NotImplementedError, RuntimeError) as error:  # a build of torch without oneDNN
        log.info("no multiplication in 8 bits here: %s", str(error).split("\n")[0])


def exact() -> bool:
    """Whether products of 8 bits are added up without loss: processors before VNNI add pairs in 16 bits, which overflow."""
    ones = torch.nn.Linear(64, 64, bias=False).requires_grad_(False)
    ones.weight.fill_(1)
    return torch.allclose(Matrix(ones)(torch.ones(1, 64)), torch.full((1, 64), 64.0), rtol=1e-3)


@torch.inference_mode()
def faster(linear, rounds: int = 15) -> bool:
    """Whether this layer is computed faster in 8 bits, one token at a time."""
    small, x = Matrix(linear), torch.ones(1, linear.in_features)
    times = {compute: [] for compute in (small, linear)}
    for _ in range(rounds):  # in turns: what else the machine does meets both
        for compute, spent in times.items():
            begun = time.perf_counter()
            compute(x)
            spent.append(time.perf_counter() - begun)
    return statistics.median(times[small]) < statistics.median(times[linear])


class Matrix:
    """A linear layer, or several side by side, in 8 bits: W is about s q, each row of q (M, K) in [-127, 127] with a scale of its own."""

    def __init__(self, *linears, order: torch.Tensor | None = None):
        weight = torch.cat([linear.weight.detach() for linear in linears])
        bias = torch.cat([linear.bias.detach() for linear in linears]) if linears[0].bias is not None else None
        if order is not None:
            weight, bias = weight[order], bias if bias is None else bias[order]
        scale = weight.abs().amax(dim=1).clamp_min(1e-12) / 127
        q = weight.div_(scale[:, None]).round_().to(torch.int8)
        self.bias, self.scale, self.none = bias, scale / 127, torch.zeros(len(scale), dtype=torch.long)
        # coarse and fine bytes come with 128 too much altogether, so that they are positive; both rows of a token get this, and the fine one counts 1/256
        self.shift = -128 * self.scale * q.sum(dim=1, dtype=torch.float32) / (1 + 1 / 256)
        self.packed = torch.ops.onednn.qlinear_prepack(q, None)

    def raw(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(N, M) and (N, 1): their product is W x for every row of x (N, K), without bias."""
        largest = torch.linalg.vector_norm(x, math.inf, -1, keepdim=True)
        whole = torch.addcdiv(x.new_full((1, 1), 32768.5), x, largest, value=127 * 256).to(torch.uint16)  # 0 / 0, any number, meets largest = 0
        rows = whole.view(torch.uint8).view(len(x), -1, 2).permute(2, 0, 1).reshape(2 * len(x), -1)  # the fine bytes, then the coarse ones
        y = torch.ops.onednn.qlinear_pointwise(rows, 1.0, 0, self.packed, self.scale, self.none, self.shift, 1.0, 0, torch.float32, "none", [], "")
        return torch.add(y[len(x) :], y[: len(x)], alpha=1 / 256), largest

    def __call__(self, x: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
        """What the linear layer gives for the rows of x (N, K), each times its factor (N, 1)."""
        y, largest = self.raw(x)
        if factor is not None:
            largest = largest * factor
        return y.mul_(largest) if self.bias is None else torch.addcmul(self.bias, y, largest)

    def added(self, h: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """h (N, M) and what the layer gives for x (N, K)."""
        y, largest = self.raw(x)
        return torch.addcmul(h if self.bias is None else h + self.bias, y, largest)


class Quantised(Engine):
    """A second copy of a model's matrices, in 8 bits."""

    def __init__(self, model):
        self.layers = [QuantisedLayer(layer, model.config) for layer in model.model.layers]
        self.norm, self.head = Norm(model.model.norm), Matrix(model.lm_head)

    def turn(self, cos, sin):
        """The rotation of every token's queries and keys, (N, 1, D / 2) complex numbers of length 1."""
        half = cos.shape[-1] // 2
        return torch.complex(cos[0, :, None, :half], sin[0, :, None, :half])

    def logits(self, h):
        return self.head(*self.norm(h))


class Norm:
    """An RMS norm in two parts, (N, n_embd) and (N, 1): the factor of a row may come after the matrix. Zhang & Sennrich 2019: https://arxiv.org/abs/1910.07467"""

    def __init__(self, module):
        self.weight, self.width, self.epsilon = module.weight.detach(), len(module.weight), module.weight.new_full((1, 1), module.variance_epsilon)

    def __call__(self, h):
        length = torch.linalg.vector_norm(h, 2, -1, keepdim=True)
        return h * self.weight, torch.addcmul(self.epsilon, length, length, value=1 / self.width).rsqrt_()


class QuantisedLayer:
    def __init__(self, layer, config):
        at, gated, self.head = layer.self_attn, layer.mlp, _head(config)
        self.many, self.turned = config.num_attention_heads, config.num_attention_heads + config.num_key_value_heads
        pairs = torch.arange(self.head).view(2, -1).T.flatten()  # the two numbers that are turned together become neighbours: a complex number
        rows = torch.arange(self.head * (self.turned + config.num_key_value_heads)).view(-1, self.head)
        rows[: self.turned] = rows[: self.turned, pairs]
        self.norms = [Norm(layer.input_layernorm), Norm(layer.post_attention_layernorm)]
        self.qk_norms = [(norm.weight.detach()[pairs], norm.variance_epsilon) for norm in (at.q_norm, at.k_norm)] if hasattr(at, "q_norm") else None
        self.qkv, self.o = Matrix(at.q_proj, at.k_proj, at.v_proj, order=rows.flatten()), Matrix(at.o_proj)
        self.gate_up, self.down = Matrix(gated.gate_proj, gated.up_proj), Matrix(gated.down_proj)

    def heads(self, h, turn):
        x = self.qkv(*self.norms[0](h)).view(len(h), -1, self.head)
        if self.qk_norms:
            for part, (weight, epsilon) in zip((x[:, : self.many], x[:, self.many : self.turned]), self.qk_norms, strict=True):
                part.copy_(F.rms_norm(part, weight.shape, weight, epsilon))
        torch.view_as_complex(x[:, : self.turned].view(len(h), self.turned, -1, 2)).mul_(turn)
        return x

    def out(self, h, found):
        return self.o.added(h, found)

    def mlp(self, h):
        gate, up = self.gate_up(*self.norms[1](h)).chunk(2, dim=-1)
        return self.down.added(h, F.silu(gate).mul_(up))
