"""How the kernels of `cpu` and of `gpu` become one operator that autograd and torch.compile know."""

from typing import Any

from torch import Tensor
from torch.library import CustomOpDef


def differentiable(sample: CustomOpDef, to_image: CustomOpDef, to_field: CustomOpDef) -> None:
    """Joins three custom operators: what they return in shape, and that the last two are the first one's gradients.

    `sample(q, u, order, mode, cval, origin)` pulls planes q through fields u; `to_image(q, u, g, order, mode, origin)`
    and `to_field(...)` carry its gradient g back to q and to u.
    """

    @sample.register_fake
    def _(q: Tensor, u: Tensor, order: int, mode: int | str, cval: float, origin: list[int]) -> Tensor:
        return q.new_empty(*q.shape[:2], *u.shape[2:])

    @to_image.register_fake
    def _(q: Tensor, u: Tensor, g: Tensor, order: int, mode: int | str, origin: list[int]) -> Tensor:
        return q.new_empty(q.shape)

    @to_field.register_fake
    def _(q: Tensor, u: Tensor, g: Tensor, order: int, mode: int | str, origin: list[int]) -> Tensor:
        return u.new_empty(u.shape)

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        q, u, ctx.order, ctx.mode, _, ctx.origin = inputs
        ctx.save_for_backward(q, u)

    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        arguments = *ctx.saved_tensors, g, ctx.order, ctx.mode, ctx.origin
        image = to_image(*arguments) if ctx.needs_input_grad[0] else None
        field = to_field(*arguments) if ctx.needs_input_grad[1] and ctx.order else None
        return image, field, None, None, None, None

    sample.register_autograd(backward, setup_context=keep)
