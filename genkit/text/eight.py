"""A large language model on a CPU: its matrices a second time, in 8 bits or 4, and one call for all layers.

A token costs the time to read every weight once, and the way from one small operation to the next.
32 neighbouring numbers share a scale, of the weights and of what meets them, which leaves the perplexity within half a percent of float32's
(`python -m tests.bench text`); one scale for all numbers of a token, as torch's dynamic 8 bits have it, loses more.
A matrix that comes from a 4-bit file (Q4_1 of GGUF) goes back to 4 bits, without loss; any other takes 8. The loops are our own, in kernel.py, because
ONNX Runtime has none for such blocks that served several texts at once as fast. The float32 matrices stay for who looks inside (attention maps, gradients, saving).

Dettmers et al. 2022 (8 bits): https://arxiv.org/abs/2208.07339. GGUF's blocks: https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h.
N tokens of all texts together, D numbers a head.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from genkit.text import fast, kernel
from genkit.text.kernel import BLOCK, LINE, PANEL

ROPES = ("default", "linear", "llama3", "yarn")  # rotary positions that are the same for short and long texts
PIECES = 4  # of a phase's work for each thread: who is interrupted leaves the rest to the others
ROWS = 4096  # of a matrix packed at a time
ON_GRID = 0.02  # root mean square distance from 16 even steps, in steps: float16 leaves 0.01 of it; of weights that know no steps it is 0.29

_helpers = ThreadPoolExecutor(max(1, torch.get_num_threads() - 1), thread_name_prefix="eight")


class Eight:
    """The matrices of a model in few bits."""

    @torch.inference_mode()
    def __init__(self, model):
        config, body = model.config, model.model
        if config.hidden_act != "silu" or config.rope_parameters.get("rope_type", "default") not in ROPES or fast.head_size(config) % PANEL:
            raise ValueError(f"{type(model).__name__} of this kind is not computed in 8 bits")
        self.kept, layers = [], body.layers  # kept: what `matrices` has the addresses of
        rows = []
        for layer in layers:
            at, mlp = layer.self_attn, layer.mlp
            rows.append(self.matrix(torch.cat([at.q_proj.weight, at.k_proj.weight, at.v_proj.weight])))
            rows += [self.matrix(at.o_proj.weight), self.matrix(mlp.gate_proj.weight, mlp.up_proj.weight), self.matrix(mlp.down_proj.weight)]
        self.matrices = np.array([*rows, self.matrix(model.lm_head.weight)], np.int64)
        norms = [norm for layer in layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
        self.weights, self.epsilon = _numpy([norm.weight for norm in (*norms, body.norm)]), np.float32(body.norm.variance_epsilon)
        ats = [layer.self_attn for layer in layers]
        biases = [torch.cat([part.bias for part in (at.q_proj, at.k_proj, at.v_proj)]) if at.q_proj.bias is not None else torch.empty(0) for at in ats]
        heads = [torch.stack([at.q_norm.weight, at.k_norm.weight]) if hasattr(at, "q_norm") else torch.empty(2, 0) for at in ats]
        self.biases, self.heads = _numpy(biases), _numpy(heads)
        self.many, self.few, self.size = config.num_attention_heads, config.num_key_value_heads, fast.head_size(config)
        self.sizes = (len(layers), self.many, self.few, self.size, np.float32(ats[0].scaling))
        cos, sin = body.rotary_emb(body.embed_tokens.weight, torch.arange(config.max_position_embeddings)[None])
        self.cos, self.sin = (_numpy(each[:, :, : self.size // 2])[0] for each in (cos, sin))
        self.forward(model, [([0], fast.Cache(model))], False)  # the first time takes seconds: machine code is made, once for all models

    def __deepcopy__(self, memo):
        return None  # a copy of the model is computed with its own matrices

    def matrix(self, *weights: torch.Tensor) -> tuple[int, int, int, int, int]:
        """Where a matrix lies now, or two whose panels take turns: addresses of its numbers and scales, panels, blocks, bits."""
        bits, parts = 4 if all(on_grid(weight) for weight in weights) else 8, [[], []]
        for begin in range(0, len(weights[0]), ROWS):
            for kept, part in zip(parts, packed([weight[begin : begin + ROWS] for weight in weights], bits), strict=True):
                kept.append(part)
        numbers, scales = (_aligned(kept) for kept in parts)
        self.kept += [numbers, scales]
        return numbers.ctypes.data, scales.ctypes.data, len(numbers), numbers.shape[1], bits

    def forward(self, model, texts, every):
        weight, n = model.model.embed_tokens.weight, sum(len(ids) for ids, _ in texts)
        spans, begin = np.empty((len(texts), 5), np.int64), 0
        for span, (ids, cache) in zip(spans, texts, strict=True):
            cache.reserve(cache.length + len(ids))
            span[:] = begin, len(ids), cache.length, cache.layers.data_ptr(), cache.room()
            begin += len(ids)
        wanted = np.arange(n) if every else spans[:, 0] + spans[:, 1] - 1
        h = weight[torch.tensor([i for ids, _ in texts for i in ids])].numpy()
        logits, threads, widths = torch.empty(len(wanted), len(weight)), torch.get_num_threads(), (self.many + 2 * self.few, self.many)
        qkv, found = (np.empty((n, width * self.size), np.float32) for width in widths)
        gated, counters = np.empty((n, model.config.intermediate_size), np.float32), np.zeros((5 * self.sizes[0] + 1, 2), np.int64)
        work = (counters, PIECES * threads, self.matrices, self.weights, self.biases, self.heads, self.epsilon, spans, self.sizes, self.cos, self.sin)
        work += (h, qkv, found, gated, wanted, logits.numpy())
        for _ in range(threads - 1):
            _helpers.submit(kernel.go_through, *work)
        kernel.go_through(*work)
        for ids, cache in texts:
            cache.length += len(ids)
        return logits


def _aligned(parts: list[np.ndarray]) -> np.ndarray:
    """One array of these, that begins where a line of memory does: 64 bytes that lie across two take twice as long."""
    kind, size = parts[0].dtype, sum(part.nbytes for part in parts)
    room = np.empty(size + LINE, np.uint8)
    begin = -room.ctypes.data % LINE
    return np.concatenate(parts, out=room[begin : begin + size].view(kind).reshape(-1, *parts[0].shape[1:]))


def _numpy(tensors) -> np.ndarray:
    return np.stack([tensor.float().numpy() for tensor in tensors])


def on_grid(weight: torch.Tensor) -> bool:
    """Whether each BLOCK numbers of a matrix are 16 even steps, as a 4-bit file has them."""
    if weight.shape[1] % BLOCK:
        return False
    blocks = weight[:ROWS].reshape(-1, BLOCK)
    low, high = blocks.amin(1, keepdim=True), blocks.amax(1, keepdim=True)
    steps = (blocks - low) / ((high - low) / 15).clamp_min(1e-12)
    return (steps - steps.round()).square().mean().sqrt().item() < ON_GRID


def packed(weights: list[torch.Tensor], bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (R, K) of one matrix, or of two by turns, as panels of bytes and of scales in the order of kernel.py."""
    rows, width = weights[0].shape
    padded = [torch.nn.functional.pad(weight, (0, -width % BLOCK, 0, -rows % PANEL)) for weight in weights]
    blocks = torch.stack([weight.view(-1, PANEL, weight.shape[1] // BLOCK, BLOCK) for weight in padded], dim=1).flatten(0, 1)
    if bits == 8:
        scale = (blocks.abs().amax(3) / 127).half()
        q, scales = (blocks / scale.float().clamp_min(1e-12)[..., None]).round().clamp(-127, 127) + 128, scale[:, :, None]
    else:
        low, high = blocks.amin(3), blocks.amax(3)
        scales = torch.stack([(high - low) / 15, low], dim=2).half()
        d, least = scales.float().unbind(2)
        q = ((blocks - least[..., None]) / d.clamp_min(1e-12)[..., None]).round().clamp(0, 15)
    q = q.to(torch.uint8).unflatten(3, (-1, 4)).permute(0, 2, 3, 1, 4)  # (panels, blocks, groups of four, rows, 4)
    if bits == 4:
        q = q[:, :, :4] | q[:, :, 4:] << 4
    return q.contiguous().numpy(), scales.permute(0, 3, 2, 1).contiguous().numpy()
