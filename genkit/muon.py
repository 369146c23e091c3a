"""Muon, an optimizer for the matrices inside a network: it makes every direction of the momentum equally long.

Jordan et al. 2024: https://kellerjordan.github.io/posts/muon/. torch's own torch.optim.Muon takes no convolutions, and iterates in bfloat16, which CPUs without
bfloat16 units do 60 times slower.
"""

from __future__ import annotations

import torch


class Muon(torch.optim.Optimizer):
    """For matrices, and convolutions (O, I, ...) as matrices (O, I x ...). lr has the size of AdamW's: updates are scaled to its usual 0.2 root mean square (Liu et al. 2025, equation 4).

    dtype: in which updates are made; bfloat16 does where the processor is quick at it.
    """

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.1, dtype: torch.dtype = torch.float32):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "dtype": dtype})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                average = self.state[p].setdefault("momentum", torch.zeros_like(p))
                average.lerp_(p.grad, 1 - group["momentum"])
                nesterov = p.grad.lerp(average, group["momentum"]).flatten(1)
                update = orthogonalised(nesterov.to(group["dtype"])).to(p.dtype)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view_as(p), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)


def orthogonalised(matrix: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Nearly U V^T of the matrix U S V^T, (N, M): its singular values moved to about 1 (0.7 to 1.2) by a quintic Newton-Schulz iteration."""
    tall = matrix.size(0) > matrix.size(1)
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(iterations):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x  # Jordan's coefficients: steepest at 0
    return x.T if tall else x
