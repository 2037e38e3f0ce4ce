"""How the kernels of `cpu` and of `gpu` become one operator that autograd and torch.compile know."""


def differentiable(sample, to_image, to_field):
    """Joins three custom operators: what they return in shape, and that the last two are the first one's gradients.

    `sample(q, u, order, mode, cval, origin)` pulls planes q through fields u; `to_image(q, u, g, order, mode, origin)`
    and `to_field(...)` carry its gradient g back to q and to u.
    """

    @sample.register_fake
    def _(q, u, order, mode, cval, origin):
        return q.new_empty(*q.shape[:2], *u.shape[2:])

    @to_image.register_fake
    def _(q, u, g, order, mode, origin):
        return q.new_empty(q.shape)

    @to_field.register_fake
    def _(q, u, g, order, mode, origin):
        return u.new_empty(u.shape)

    def keep(ctx, inputs, output):
        q, u, ctx.order, ctx.mode, _, ctx.origin = inputs
        ctx.save_for_backward(q, u)

    def backward(ctx, g):
        arguments = *ctx.saved_tensors, g, ctx.order, ctx.mode, ctx.origin
        image = to_image(*arguments) if ctx.needs_input_grad[0] else None
        field = to_field(*arguments) if ctx.needs_input_grad[1] and ctx.order else None
        return image, field, None, None, None, None

    sample.register_autograd(backward, setup_context=keep)
