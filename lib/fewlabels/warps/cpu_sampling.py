"""Sampling on the CPU, compiled by Numba: `reference.sample`, its two gradients and `reference.align`.

An order has as many taps along each axis: 0 one, 1 two, 3 four. A point's taps begin at a flat index `base` into a
plane q; w[axis, tap, j] are their weights. Loops over a row have no branch, so that LLVM makes vector code of them;
the weights of a row are computed once for all channels. Where Numba indexes by an offset it is unsigned, or Numba would
look for negative indices.

All in one file: Numba's cache notices when the file of a kernel changes, not when one does that it calls into.
"""

from itertools import product

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

FLAGS = ("contract", "nsz")  # what LLVM may do to floats: no reordering, so that bits repeat
OPTIONS = {"nogil": True, "cache": True, "fastmath": set(FLAGS), "error_model": "numpy"}
jit, inlined = njit(**OPTIONS), njit(**OPTIONS, forceinline=True)

CONSTANT, MIRROR, BORDER = range(3)


@intrinsic
def tensor_product(typing, q, n, k, o, strides, w, j, taps):
    """The sum of `w[0, a, j] w[1, b, j] ... q[n, k, o + a strides[0] + b strides[1] + ...]` over a, b, ... < taps.

    `taps` is a literal; the last stride must be 1. Numba cannot make vector code of this by itself: the taps along the
    last axis lie side by side in memory, so that one load and one multiplication take all of them. Medians of one
    thread on a Xeon, 8x6x256x256 float32: order 3 16.5 -> 10.9 ms, order 1 6.5 -> 5.7; 1x4x64^3 order 3 17.2 -> 13.3.
    """
    if not isinstance(taps, types.IntegerLiteral):
        return None
    many, axes = taps.literal_value, len(strides)

    def codegen(context, builder, signature, arguments):
        planes, weights = (context.make_array(a)(context, builder, arguments[i]) for i, a in ((0, q), (5, w)))
        n, k, o, strides_, j = (arguments[i] for i in (1, 2, 3, 4, 6))
        lanes = ir.VectorType(context.get_value_type(q.dtype), many)
        align = q.dtype.bitwidth // 8

        def weight(axis, tap):
            place = [context.get_constant(types.intp, i) for i in (axis, tap)] + [j]
            pointer = cgutils.get_item_pointer(context, builder, w, weights, place, wraparound=False)
            return builder.load(pointer)

        def vector(values):
            v = ir.Constant(lanes, ir.Undefined)
            for lane, value in enumerate(values):
                v = builder.insert_element(v, value, ir.Constant(ir.IntType(32), lane))
            return v

        def row(rest):
            """The taps along the last axis, weighted by the taps `rest` along the others."""
            offset, factor = o, None
            for axis, tap in enumerate(rest):
                stride = builder.extract_value(strides_, axis)
                offset = builder.add(offset, builder.mul(stride, ir.Constant(stride.type, tap)))
                both = weight(axis, tap)
                factor = both if factor is None else builder.fmul(factor, both, flags=FLAGS)
            pointer = cgutils.get_item_pointer(context, builder, q, planes, [n, k, offset], wraparound=False)
            values = builder.load(builder.bitcast(pointer, lanes.as_pointer()), align=align)
            return builder.fmul(values, vector([factor] * many), flags=FLAGS)

        total = None
        for rest in product(range(many), repeat=axes - 1):
            total = row(rest) if total is None else builder.fadd(total, row(rest), flags=FLAGS)
        total = builder.fmul(total, vector([weight(axes - 1, tap) for tap in range(many)]), flags=FLAGS)
        lanes_ = [builder.extract_element(total, ir.Constant(ir.IntType(32), lane)) for lane in range(many)]
        while len(lanes_) > 1:
            lanes_ = [builder.fadd(a, b, flags=FLAGS) for a, b in zip(lanes_[::2], lanes_[1::2])]
        return lanes_[0]

    return q.dtype(q, n, k, o, strides, w, j, taps), codegen


@inlined
def _axis(u, n, axis, row, first, step, length, stride, order, mode, slopes, base, t, sign, inside):
    """Where a row of points `first + step j + u(j)` lies along one axis, as `reference.place` says: adds to the flat
    index of its first tap; the fraction behind it, 0 to 1; d(place)/d(u); and whether it is in the image (`constant`
    only). Returns how many displacements are not finite."""
    # Whole numbers stay floats until the end: Numba would make int64 of them, and vectors half as long. Of two
    # arguments min and max return the first where the second is NaN.
    real = u.dtype.type
    zero, one, reach, most = real(0), real(1), real(min(length - 1, 1)), real(max(length - 2, 0))
    start, advance, wrong = real(first), real(step), 0
    for j in range(len(t)):
        wrong += not np.isfinite(u[n, axis, row, j])
    if mode == MIRROR and length > 1:
        last, period = real(length - 1), real(2 * length - 2)
        for j in range(len(t)):
            whole = np.floor(u[n, axis, row, j])
            pixel = whole + (start + advance * real(np.int32(j)))
            pixel -= period * np.floor(pixel / period)
            pixel = pixel + period if pixel < zero else pixel  # the quotient was rounded up
            back = pixel >= last
            pixel = period - one - pixel if back else pixel
            t[j] = one - (u[n, axis, row, j] - whole) if back else u[n, axis, row, j] - whole
            sign[j] = -one if back else one
            base[j] += np.int32(min(most, max(zero, pixel))) * np.int32(stride)
    else:
        for j in range(len(t)):
            whole = np.floor(u[n, axis, row, j])
            pixel = whole + (start + advance * real(np.int32(j)))
            before = min(most, max(zero, pixel))
            base[j] += np.int32(before) * np.int32(stride)
            t[j] = (u[n, axis, row, j] - whole) + (pixel - before)
        if mode == CONSTANT:
            for j in range(len(t)):
                inside[j] &= (t[j] >= zero) & (t[j] <= reach)
        if slopes:
            for j in range(len(t)):
                sign[j] = one if (t[j] >= zero) & (t[j] <= reach) else zero
        for j in range(len(t)):
            t[j] = min(max(t[j], zero), reach)
    if order == 0:
        half = real(0.5)
        for j in range(len(t)):
            base[j] += np.int32(stride) if t[j] >= half else np.int32(0)
    return wrong


@inlined
def _weights(order, t, w, axis):
    """B-splines at their taps: 0, 1 (order 1) or -1, 0, 1, 2 (order 3) pixels from where the fraction t begins."""
    if order == 1:
        for j in range(len(t)):
            w[axis, 0, j], w[axis, 1, j] = 1 - t[j], t[j]
    elif order == 3:
        half, sixth, most = t.dtype.type(1 / 2), t.dtype.type(1 / 6), t.dtype.type(2 / 3)
        for j in range(len(t)):
            s = 1 - t[j]
            w[axis, 0, j] = sixth * s * s * s
            w[axis, 1, j] = most - half * t[j] * t[j] * (1 + s)
            w[axis, 2, j] = most - half * s * s * (1 + t[j])
            w[axis, 3, j] = sixth * t[j] * t[j] * t[j]


@inlined
def _slopes(order, t, sign, dw, axis):
    """The derivatives of `_weights` by the displacement."""
    if order == 1:
        for j in range(len(t)):
            dw[axis, 0, j], dw[axis, 1, j] = -sign[j], sign[j]
    else:
        half, more = t.dtype.type(1 / 2), t.dtype.type(3 / 2)
        for j in range(len(t)):
            s = 1 - t[j]
            dw[axis, 0, j] = -sign[j] * half * s * s
            dw[axis, 1, j] = sign[j] * t[j] * (more * t[j] - 2)
            dw[axis, 2, j] = -sign[j] * s * (more * s - 2)
            dw[axis, 3, j] = sign[j] * half * t[j] * t[j]


@inlined
def _place(u, n, row, line, height, origin, size, strides, order, mode, slopes, base, w, dw, inside, t, sign):
    """Taps and weights (with `slopes` their derivatives too) of one row of points of the fields `(N, D, rows, width)`.
    Its place in the image is `line`, of which `height` make a plane. Returns how many displacements are not finite."""
    axes, wrong = len(size), 0  # a constant to the compiler, which then writes the loop out
    for j in range(len(base)):
        base[j] = 0
    for j in range(len(base)):
        inside[j] = True
    for axis in range(axes):
        if axis == axes - 1:
            first, step = origin[axis], 1
        else:
            first, step = origin[axis] + (line % height if axis == axes - 2 else line // height), 0
        where = first, step, size[axis], strides[axis]
        wrong += _axis(u, n, axis, row, *where, order, mode, slopes, base, t, sign, inside)
        _weights(order, t, w, axis)
        if slopes:
            _slopes(order, t, sign, dw, axis)
    return wrong


@inlined
def _gather(q, n, k, base, w, strides, y):
    """y[j] = sum over taps of weight x coefficient, for one row of points and the plane k of image n."""
    taps = w.shape[1]
    if taps == 1:
        for j in range(len(y)):
            y[j] = q[n, k, np.uint32(base[j])]
    elif taps == 2:
        for j in range(len(y)):
            y[j] = tensor_product(q, n, k, np.int64(base[j]), strides, w, j, 2)
    else:
        for j in range(len(y)):
            y[j] = tensor_product(q, n, k, np.int64(base[j]), strides, w, j, 4)


@inlined
def _scatter(q, n, k, base, w, strides, g, share):
    """The transpose of `_gather`: adds to a plane. `share` is a row of scratch.

    Tap by tap, not point by point: neighbouring points add to the same coefficients, and a processor that must read
    what it has only just written waits.
    """
    axes, taps = w.shape[0], w.shape[1]
    if taps == 1:
        for j in range(len(g)):
            q[n, k, np.uint32(base[j])] += g[j]
        return
    for a in range(taps):
        for b in range(taps if axes == 3 else 1):
            offset = a * strides[0]
            for j in range(len(g)):
                share[j] = g[j] * w[0, a, j]
            if axes == 3:
                offset += b * strides[1]
                for j in range(len(g)):
                    share[j] *= w[1, b, j]
            for c in range(taps):
                tap = np.uint32(offset + c)
                for j in range(len(g)):
                    q[n, k, np.uint32(base[j]) + tap] += share[j] * w[axes - 1, c, j]


@inlined
def _scratch(u, order):
    """What one row of points needs: flat indices, inside, fractions, slopes, weights, their derivatives, two rows.

    Each an array of its own: of rows of one array LLVM would not know that they lie apart.
    """
    width, shape = u.shape[3], (u.shape[1], order + 1, u.shape[3])
    base, inside = np.empty(width, np.int32), np.empty(width, np.bool_)
    t, sign = np.empty(width, u.dtype), np.empty(width, u.dtype)
    part, share = np.empty(width, u.dtype), np.empty(width, u.dtype)
    w, dw = np.empty(shape, u.dtype), np.empty(shape, u.dtype)
    return base, inside, t, sign, w, dw, part, share


@jit
def forward(q, u, y, height, origin, size, strides, order, mode, cval, start, stop):
    """Rows start..stop of all samples: planes `(N, C, flat)`, fields `(N, D, rows, width)` -> `(N, C, rows, width)`.
    Returns how many displacements are not finite."""
    base, inside, t, sign, w, dw, part, _ = _scratch(u, order)
    rows, wrong = u.shape[2], 0
    for index in range(start, stop):
        n, row = index // rows, index % rows
        wrong += _place(u, n, row, row, height, origin, size, strides, order, mode, False, base, w, dw, inside, t, sign)
        for k in range(q.shape[1]):
            _gather(q, n, k, base, w, strides, part)
            for j in range(len(part)):
                y[n, k, row, j] = part[j] if inside[j] else cval
    return wrong


@jit
def to_image(grad, u, g, height, origin, size, strides, order, mode, start, stop):
    """Planes start..stop of the gradient to the planes: adds to `grad` `(N, C, flat)`."""
    base, inside, t, sign, w, dw, part, share = _scratch(u, order)
    channels = grad.shape[1]
    for index in range(start, stop):
        n, k = index // channels, index % channels
        for row in range(u.shape[2]):
            _place(u, n, row, row, height, origin, size, strides, order, mode, False, base, w, dw, inside, t, sign)
            for j in range(len(part)):
                part[j] = g[n, k, row, j] if inside[j] else 0
            _scatter(grad, n, k, base, w, strides, part, share)


@jit
def to_field(grad, q, u, g, height, origin, size, strides, order, mode, start, stop):
    """Rows start..stop of the gradient to the fields, `(N, D, rows, width)`."""
    base, inside, t, sign, w, dw, slope, total = _scratch(u, order)
    rows, mixed = u.shape[2], np.empty_like(w)
    for index in range(start, stop):
        n, row = index // rows, index % rows
        _place(u, n, row, row, height, origin, size, strides, order, mode, True, base, w, dw, inside, t, sign)
        for axis in range(len(w)):
            mixed[:] = w
            mixed[axis] = dw[axis]
            total[:] = 0
            for k in range(q.shape[1]):
                _gather(q, n, k, base, mixed, strides, slope)
                for j in range(len(total)):
                    total[j] += slope[j] * g[n, k, row, j]
            for j in range(len(total)):
                grad[n, axis, row, j] = total[j] if inside[j] else 0


@jit
def align(q1, u1, u2, w, error, height, origin, size, strides, tolerance, steps, start, stop):
    """Rows start..stop of all samples: fields `(N, D, rows, width)`, the first also as planes q1 `(N, D, flat)` -> w,
    error `(N, rows, width)`. A row stops when all of its pixels have converged. Returns how many displacements are not
    finite."""
    base, inside, t, sign, weights, _, value, squares = _scratch(u1, 1)
    shape = (1, u1.shape[1], 1, u1.shape[3])
    trial, r, trial_r = np.empty(shape, u1.dtype), np.empty(shape, u1.dtype), np.empty(shape, u1.dtype)
    damping, best = np.empty_like(t), np.empty_like(t)
    axes, rows, wrong = len(size), u1.shape[2], 0
    how = height, origin, size, strides, 1, BORDER, False, base, weights, weights, inside, t, sign
    for index in range(start, stop):
        n, row = index // rows, index % rows
        for axis in range(axes):
            for j in range(len(t)):
                trial[0, axis, 0, j] = u2[n, axis, row, j] - u1[n, axis, row, j]
        damping[:], best[:] = 1, np.inf
        for step in range(steps + 1):
            bad = _place(trial, 0, 0, row, *how)
            wrong += bad if step == 0 else 0
            squares[:] = 0
            for axis in range(axes):  # r = w + u1(q + w) - u2(q)
                _gather(q1, n, axis, base, weights, strides, value)
                for j in range(len(t)):
                    trial_r[0, axis, 0, j] = trial[0, axis, 0, j] + value[j] - u2[n, axis, row, j]
                for j in range(len(t)):
                    squares[j] += trial_r[0, axis, 0, j] * trial_r[0, axis, 0, j]
            far = False
            for j in range(len(t)):
                squares[j] = np.sqrt(squares[j])
            for axis in range(axes):
                for j in range(len(t)):
                    better = squares[j] < best[j]
                    w[n, axis, row, j] = trial[0, axis, 0, j] if better else w[n, axis, row, j]
                    r[0, axis, 0, j] = trial_r[0, axis, 0, j] if better else r[0, axis, 0, j]
            for j in range(len(t)):
                better = squares[j] < best[j]
                damping[j] = damping[j] if better else damping[j] / 2
                best[j] = squares[j] if better else best[j]
                far |= best[j] > tolerance
            if not far:
                break
            for axis in range(axes):
                for j in range(len(t)):
                    go = damping[j] if best[j] > tolerance else 0
                    trial[0, axis, 0, j] = w[n, axis, row, j] - go * r[0, axis, 0, j]
        error[n, row] = best
    return wrong
