"""The optimizer of the matrices within networks."""

import pytest
import torch

from genkit import core
from genkit.muon import Muon, orthogonalised


def test_muon_moves_in_every_direction_alike():
    for shape in ((24, 64), (64, 24)):
        matrix = torch.randn(shape, generator=core.seeded(1))
        values = torch.linalg.svdvals(orthogonalised(matrix))
        assert values.min() > 0.6 and values.max() < 1.3
        # the same directions, not others: U V^T of U S V^T
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.nn.functional.cosine_similarity(orthogonalised(matrix).flatten(), (u @ v).flatten(), dim=0) > 0.97


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_moves_a_convolution_as_the_matrix_that_it_is(dtype):
    kernel = torch.nn.Parameter(torch.zeros(8, 4, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=core.seeded(2))
    Muon([kernel], lr=0.1, dtype=dtype).step()
    wanted = -0.1 * 0.2 * 36**0.5 * orthogonalised(kernel.grad.flatten(1))
    assert torch.nn.functional.cosine_similarity(kernel.detach().flatten(), wanted.flatten(), dim=0) > 0.99
    assert kernel.detach().norm().item() == pytest.approx(wanted.norm().item(), rel=0.03)
