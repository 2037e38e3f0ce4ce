"""The operator of `fewlabels.warps` through elasticdeform: the reference, one image at a time, on the CPU."""

import elasticdeform
import numpy as np
import torch


def warp(x, u, order=1, mode="constant", cval=0.0):
    """As `warps.warp`, for fields of the image's own size. The gradient to `x` is elasticdeform's; `u` gets none.

    Raises ValueError for `mode="border"`, which elasticdeform lacks (its `nearest` differs, also from SciPy's).
    """
    if mode == "border":
        raise ValueError("elasticdeform mode: expected 'constant' or 'mirror', found 'border'")
    if x.shape[2:] != u.shape[2:]:
        raise ValueError(f"elasticdeform field: expected size {tuple(x.shape[2:])}, found {tuple(u.shape[2:])}")
    return _Warp.apply(x, u.detach(), order, mode, cval)


class _Warp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, u, order, mode, cval):
        ctx.save_for_backward(u)
        ctx.settings = {"order": order, "mode": mode, "cval": cval, "axis": tuple(range(1, x.ndim - 1))}
        fields = u.cpu().numpy()  # a dense field is a control grid with one point a pixel
        pairs = zip(x.detach().cpu().numpy(), fields, strict=True)
        out = [elasticdeform.deform_grid(image, field, **ctx.settings) for image, field in pairs]
        return torch.from_numpy(np.stack(out)).to(x)

    @staticmethod
    def backward(ctx, grad):
        (u,) = ctx.saved_tensors
        pairs = zip(grad.cpu().numpy(), u.cpu().numpy(), strict=True)
        out = [elasticdeform.deform_grid_gradient(np.ascontiguousarray(g), field, **ctx.settings) for g, field in pairs]
        return torch.from_numpy(np.stack(out)).to(grad), None, None, None, None
