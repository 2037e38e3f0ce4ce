"""Sampling on the CPU, compiled by Numba: `reference.sample`, its two gradients and `reference.align`.

An order has as many taps along each axis: 0 one, 1 two, 3 four. A point's taps begin at a flat index `base` into a
plane q; w[axis, tap, j] are their weights. Loops over a row have no branch, so that LLVM makes vector code of them;
the weights of a row are computed once for all channels. Where Numba indexes by an offset it is unsigned, or Numba would
look for negative indices.

All in one file: Numba's cache notices when the file of a kernel changes, not when one does that it calls into.
"""

from collections.abc import Callable, Sequence

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.base import BaseContext
from numba.extending import intrinsic

FLAGS = ("contract", "nsz")  # what LLVM may do to floats: no reordering, so that bits repeat
OPTIONS = {"nogil": True, "cache": True, "fastmath": set(FLAGS), "error_model": "numpy"}
# Who holds an array is counted in `jit` functions alone: counted in every row it took longer than finding the places of
# its points (8x2x256x256: 1.2 ms, 0.55 without).
jit, inlined = njit(**OPTIONS), njit(**OPTIONS, forceinline=True, _nrt=False)
I32 = ir.IntType(32)
Sizes = tuple[int, ...]  # one an axis

CONSTANT, MIRROR, BORDER = range(3)


@intrinsic
def gather(
    typing: object, q: types.Array, n: types.Integer, k: types.Integer, base: types.Array, strides: types.UniTuple,
    w: types.Array, inside: types.Array, outside: types.Float, y: types.Array, taps: types.Integer,
) -> tuple[types.Type, Callable[..., ir.Value]] | None:  # fmt: skip
    """y[j] = the sum of `w[0, a, j] w[1, b, j] ... q[n, k, base[j] + a strides[0] + b strides[1] + ...]` over a, b, ...
    < taps, for one row of points, or `outside` where not inside[j]; `taps` is a literal, the last stride must be 1.

    Whole vectors of points, which LLVM does not make of Numba's loops. Taps along the last axis lie side by side in
    memory: a load of up to 16 bytes takes several of a point, and tiles of points are transposed. A single tap is taken
    by LLVM's gather. How many times faster than each point by itself, orders 0, 1 and 3, medians of one thread on a
    Xeon, float32: 8x6x256x256 1.3, 1.5 and 1.7; 1x4x64^3 1.2, 1.7 and 1.7; 8x6x256x256 without AVX-512 1.1, 1.5, 1.2.
    """
    if not isinstance(taps, types.IntegerLiteral):
        return None
    many, axes, bits = taps.literal_value, len(strides), q.dtype.bitwidth

    def codegen(
        context: BaseContext, builder: ir.IRBuilder, signature: object, arguments: Sequence[ir.Value]
    ) -> ir.Value:
        arrays = ((0, q), (3, base), (5, w), (6, inside), (8, y))
        planes, firsts, weights, seen, out = (context.make_array(a)(context, builder, arguments[i]) for i, a in arrays)
        n, k, steps = arguments[1], arguments[2], cgutils.unpack_tuple(builder, arguments[4])
        number, intp = context.get_value_type(q.dtype), lambda i: context.get_constant(types.intp, i)

        def vector(array: types.Array, values: ir.Value, place: ir.Value, lanes: int) -> ir.Value:
            pointer = cgutils.get_item_pointer(context, builder, array, values, place, wraparound=False)
            kind = ir.VectorType(context.get_data_type(array.dtype), lanes)
            return builder.bitcast(pointer, kind.as_pointer())

        def load(array: types.Array, values: ir.Value, place: list[ir.Value], lanes: int) -> ir.Value:
            pointer = vector(array, values, place, lanes)
            return builder.load(pointer, align=context.get_abi_sizeof(pointer.type.pointee.element))

        def single(offset: ir.Value, o: ir.Value) -> ir.Value:
            """`q[n, k, offset + o]`."""
            lanes, pointer = o.type.count, ir.PointerType()
            start = cgutils.get_item_pointer(context, builder, q, planes, [n, k, offset], wraparound=False)
            where = builder.gep(_splat(builder, builder.bitcast(start, pointer), lanes), [o], source_etype=number)
            values, mask = ir.VectorType(number, lanes), ir.VectorType(ir.IntType(1), lanes)
            function = ir.FunctionType(values, [where.type, I32, mask, values])
            name = f"llvm.masked.gather.v{lanes}{number.intrinsic_name}.v{lanes}p0"
            function = cgutils.get_or_insert_function(builder.module, function, name)
            whole, align = ir.Constant(mask, [1] * lanes), ir.Constant(I32, bits // 8)
            return builder.call(function, [where, align, whole, ir.Constant(values, ir.Undefined)])

        def side_by_side(offset: ir.Value, o: ir.Value) -> list[ir.Value]:
            """`q[n, k, offset + o + a]` for a < taps."""
            lanes, side = o.type.count, min(many, 128 // bits)
            if lanes < side or side == 1:
                return [single(builder.add(offset, intp(tap)), o) for tap in range(many)]
            points, values = [builder.extract_element(o, ir.Constant(I32, i)) for i in range(lanes)], []
            for tap in range(0, many, side):
                first = builder.add(offset, intp(tap))
                places = [builder.add(first, builder.zext(point, first.type)) for point in points]
                loaded = [load(q, planes, [n, k, place], side) for place in places]
                values += _transposed(builder, [_joined(builder, loaded[i::side]) for i in range(side)])
            return values

        def product(axis: int, offset: ir.Value, o: ir.Value, j: ir.Value) -> ir.Value:
            """The sum over the taps along `axis` and those after it."""
            if axis == axes - 1:
                values = side_by_side(offset, o)
            else:
                places = [builder.add(offset, builder.mul(steps[axis], intp(tap))) for tap in range(many)]
                values = [product(axis + 1, place, o, j) for place in places]
            if many == 1:
                return values[0]
            total = None
            for tap, value in enumerate(values):
                weight = load(w, weights, [intp(axis), intp(tap), j], o.type.count)
                value = builder.fmul(value, weight, flags=FLAGS)
                total = value if total is None else builder.fadd(total, value, flags=FLAGS)
            return total

        width, most = builder.extract_value(out.shape, 0), 512 // bits
        whole = builder.and_(width, intp(-most))
        for start, stop, lanes in ((intp(0), whole, most), (whole, width, 1)):
            with cgutils.for_range_slice(builder, start, stop, intp(lanes), inc=True) as (j, _):
                total = product(0, intp(0), load(base, firsts, [j], lanes), j)
                mask = load(inside, seen, [j], lanes)
                mask = builder.icmp_unsigned("!=", mask, ir.Constant(mask.type, [0] * lanes))
                total = builder.select(mask, total, _splat(builder, arguments[7], lanes))
                builder.store(total, vector(y, out, [j], lanes), align=bits // 8)
        return context.get_dummy_value()

    return types.none(q, n, k, base, strides, w, inside, q.dtype, y, taps), codegen


def _chosen(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
    """Lanes of two vectors, those of b counted after those of a."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def _splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    one = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = builder.insert_element(one, value, ir.Constant(I32, 0))
    return _chosen(builder, one, one, [0] * lanes)


def _joined(builder: ir.IRBuilder, parts: list[ir.Value]) -> ir.Value:
    while len(parts) > 1:
        parts = [_chosen(builder, a, b, range(2 * a.type.count)) for a, b in zip(parts[::2], parts[1::2])]
    return parts[0]


def _transposed(builder: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Square tiles that lie side by side in the vectors `rows`: each tile transposed, by halves of halves."""
    rows, lanes, step = list(rows), rows[0].type.count, len(rows) // 2
    while step:
        for i in (i for i in range(len(rows)) if not i & step):
            a, b = rows[i], rows[i + step]
            rows[i] = _chosen(builder, a, b, [j - step + lanes if j & step else j for j in range(lanes)])
            rows[i + step] = _chosen(builder, a, b, [j + lanes if j & step else j + step for j in range(lanes)])
        step //= 2
    return rows


@inlined
def _axis(
    u: np.ndarray, n: int, axis: int, row: int, first: int, step: int, length: int, stride: int, order: int, mode: int,
    slopes: bool, base: np.ndarray, t: np.ndarray, sign: np.ndarray, inside: np.ndarray,
) -> int:  # fmt: skip
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
def _weights(order: int, t: np.ndarray, w: np.ndarray, axis: int) -> None:
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
def _slopes(order: int, t: np.ndarray, sign: np.ndarray, dw: np.ndarray, axis: int) -> None:
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
def _place(
    u: np.ndarray, n: int, row: int, line: int, height: int, origin: Sizes, size: Sizes, strides: Sizes, order: int,
    mode: int, slopes: bool, base: np.ndarray, w: np.ndarray, dw: np.ndarray, inside: np.ndarray, t: np.ndarray,
    sign: np.ndarray,
) -> int:  # fmt: skip
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
def _gather(
    q: np.ndarray, n: int, k: int, base: np.ndarray, w: np.ndarray, strides: Sizes, inside: np.ndarray, outside: float,
    y: np.ndarray,
) -> None:  # fmt: skip
    """y[j] = sum over taps of weight x coefficient, for one row of points and the plane k of image n."""
    taps = w.shape[1]
    if taps == 1:
        gather(q, n, k, base, strides, w, inside, outside, y, 1)
    elif taps == 2:
        gather(q, n, k, base, strides, w, inside, outside, y, 2)
    else:
        gather(q, n, k, base, strides, w, inside, outside, y, 4)


@inlined
def _gather_rows(
    q: np.ndarray, n: int, base: np.ndarray, w: np.ndarray, strides: Sizes, inside: np.ndarray, outside: float,
    y: np.ndarray, row: int,
) -> None:  # fmt: skip
    for k in range(q.shape[1]):
        _gather(q, n, k, base, w, strides, inside, outside, y[n, k, row])


@inlined
def _scatter(
    q: np.ndarray, n: int, k: int, base: np.ndarray, w: np.ndarray, strides: Sizes, g: np.ndarray, share: np.ndarray
) -> None:
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


@jit
def _scratch(u: np.ndarray, order: int) -> tuple[np.ndarray, ...]:
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
def forward(
    q: np.ndarray, u: np.ndarray, y: np.ndarray, height: int, origin: Sizes, size: Sizes, strides: Sizes, order: int,
    mode: int, cval: float, start: int, stop: int,
) -> int:  # fmt: skip
    """Rows start..stop of all samples: planes `(N, C, flat)`, fields `(N, D, rows, width)` -> `(N, C, rows, width)`.
    Returns how many displacements are not finite."""
    base, inside, t, sign, w, dw, part, _ = _scratch(u, order)
    rows, wrong = u.shape[2], 0
    for index in range(start, stop):
        n, row = index // rows, index % rows
        wrong += _place(u, n, row, row, height, origin, size, strides, order, mode, False, base, w, dw, inside, t, sign)
        _gather_rows(q, n, base, w, strides, inside, cval, y, row)
    return wrong


@jit
def to_image(
    grad: np.ndarray, u: np.ndarray, g: np.ndarray, height: int, origin: Sizes, size: Sizes, strides: Sizes, order: int,
    mode: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Planes start..stop of the gradient to the planes: adds to `grad` `(N, C, flat)`."""
    base, inside, t, sign, w, dw, part, share = _scratch(u, order)
    channels, index = grad.shape[1], start
    while index < stop:
        n, first = index // channels, index % channels
        last = min(channels, first + stop - index)
        for row in range(u.shape[2]):
            _place(u, n, row, row, height, origin, size, strides, order, mode, False, base, w, dw, inside, t, sign)
            for k in range(first, last):
                for j in range(len(part)):
                    part[j] = g[n, k, row, j] if inside[j] else 0
                _scatter(grad, n, k, base, w, strides, part, share)
        index += last - first


@jit
def to_field(
    grad: np.ndarray, q: np.ndarray, u: np.ndarray, g: np.ndarray, height: int, origin: Sizes, size: Sizes,
    strides: Sizes, order: int, mode: int, start: int, stop: int,
) -> None:  # fmt: skip
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
                _gather(q, n, k, base, mixed, strides, inside, q.dtype.type(0), slope)
                for j in range(len(total)):
                    total[j] += slope[j] * g[n, k, row, j]
            for j in range(len(total)):
                grad[n, axis, row, j] = total[j]


@jit
def align(
    q1: np.ndarray, u1: np.ndarray, u2: np.ndarray, w: np.ndarray, error: np.ndarray, height: int, origin: Sizes,
    size: Sizes, strides: Sizes, tolerance: float, steps: int, start: int, stop: int,
) -> int:  # fmt: skip
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
                _gather(q1, n, axis, base, weights, strides, inside, q1.dtype.type(0), value)
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
