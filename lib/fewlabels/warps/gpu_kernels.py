"""The operator's kernels on the GPU, in Triton; `gpu` launches them.

A program takes a block of consecutive points of one sample, one point a thread, so that what neighbouring threads read
or add to lies mostly side by side; places, taps and weights are computed once for all channels. A plane is one channel
of one sample: indices within it are int32, offsets of planes int64.

Tuples run over axes, and within these over taps. Loops over them (`static_range`) are unrolled, and functions that call
themselves for the next axis are compiled once for each, so that 2-D and 3-D are the same lines.
"""

import math

import triton
import triton.language as tl

POLE = tl.constexpr(math.sqrt(3) - 2)
GAIN = tl.constexpr(math.sqrt(3))
BLOCK = tl.constexpr(128)  # points of a program, one for each thread of Triton's 4 warps


@triton.jit
def prefilter(
    x, c, length, inner, lines, ADJOINT: tl.constexpr, DOUBLINGS: tl.constexpr, LAST: tl.constexpr, LINES: tl.constexpr
):
    """Cubic B-spline coefficients along one axis: `c[i] = sqrt(3) sum_k POLE^|k| x[i + k]`, x mirrored at its ends.

    Each one-sided sum, of 2^DOUBLINGS = REACH terms, is a product: (1 + z S)(1 + z^2 S^2)(1 + z^4 S^4)... with the pole
    z and the shift S by one pixel. The shifts are moves between threads, so that every pixel is loaded once instead of
    2 REACH - 1 times. A program filters 8 REACH pixels of LINES lines, whose pixels lie `inner` apart, and drops REACH
    at both ends.

    The transpose is the same filter with the ends of the line doubled before and halved after: the mirrored line has
    each pixel twice a period, but its ends once; so c = S D x with a symmetric S and D = diag(1/2, 1, ..., 1, 1/2), and
    (S D)^T = D (S D) D^-1.
    """
    REACH: tl.constexpr = 2**DOUBLINGS
    SPAN: tl.constexpr = 8 * REACH
    AXIS: tl.constexpr = 1 if LAST else 0
    chunks = tl.cdiv(length, SPAN - 2 * REACH)
    line = tl.program_id(0) // chunks * LINES + tl.arange(0, LINES)
    at = tl.arange(0, SPAN)
    if LAST:  # a tile's rows should lie in memory as they are
        line, at = line[:, None], at[None, :]
    else:
        line, at = line[None, :], at[:, None]
    i = tl.program_id(0) % chunks * (SPAN - 2 * REACH) + at - REACH
    last = length - 1
    mirrored = last - tl.abs(last - tl.abs(i) % (2 * last))
    at_end = ADJOINT & ((mirrored == 0) | (mirrored == last))
    start = (line // inner).to(tl.int64) * (length * inner) + line % inner
    own = tl.load(x + start + mirrored * inner, mask=line < lines, other=0)
    own = tl.where(at_end, 2 * own, own)
    left, right, column = own, own, at + 0 * line
    for m in tl.static_range(DOUBLINGS):  # what is wrong at a tile's ends, as nothing lies beyond, stays within REACH
        left += POLE ** (2**m) * tl.gather(left, tl.maximum(column - 2**m, 0), AXIS)
        right += POLE ** (2**m) * tl.gather(right, tl.minimum(column + 2**m, SPAN - 1), AXIS)
    total = GAIN * (left + right - own)
    kept = (line < lines) & (at >= REACH) & (at < SPAN - REACH) & (i < length)
    tl.store(c + start + i * inner, tl.where(at_end, 0.5 * total, total), mask=kept)


@triton.jit
def _taps(q, u, length, stride, ORDER: tl.constexpr, MODE: tl.constexpr):
    """Along one axis, the ORDER + 1 taps around the places `q + u`: their offsets in a plane, their weights and the
    weights' derivatives by u; and which places are outside the image.

    As in `reference.place`, whole pixels and fraction are parted before the pixel's own coordinate is added. Offsets
    are in bounds whatever u is; if it is not finite, t is NaN, and so are the weights (but at order 0).
    """
    last, whole = length - 1, tl.floor(u)
    t = u - whole
    pixel = tl.minimum(tl.maximum(whole, -(2**30)), 2**30).to(tl.int32) + q
    if MODE == "mirror":  # a triangle wave of period 2 (length - 1)
        period = tl.maximum(2 * last, 1)
        pixel = pixel % period
        pixel = tl.where(pixel < 0, pixel + period, pixel)
        back = pixel >= last
        before, t = tl.where(back, period - 1 - pixel, pixel), tl.where(back, 1 - t, t)
        sign, outside = tl.where(back, -1.0, 1.0).to(u.dtype), pixel < 0  # sign: d(place) / d(u); outside: nowhere
    else:
        before, reach = tl.maximum(tl.minimum(pixel, last - 1), 0), tl.minimum(last, 1)
        t += pixel - before
        outside = (t < 0) | (t > reach)
        t = tl.where(outside, tl.minimum(tl.maximum(t, 0), reach), t)
        sign = tl.where(outside, 0.0, 1.0).to(u.dtype)
    if ORDER == 0:  # the nearest; ties go up
        nearest = tl.minimum(before + (t >= 0.5).to(tl.int32), last)
        offsets, weights, slopes = (nearest * stride,), (1.0,), (0.0,)
    else:
        s, behind = 1 - t, tl.minimum(before + 1, last)
        if ORDER == 1:
            offsets, weights, slopes = (before * stride, behind * stride), (s, t), (-sign, sign)
        else:
            first = tl.minimum(tl.abs(before - 1), last)  # mirrored, as is the fourth
            fourth = tl.maximum(last - tl.abs(last - before - 2), 0)
            offsets = (first * stride, before * stride, behind * stride, fourth * stride)
            weights = (
                (1 / 6) * s * s * s,
                2 / 3 - 0.5 * t * t * (1 + s),
                2 / 3 - 0.5 * s * s * (1 + t),
                (1 / 6) * t * t * t,
            )
            slopes = (-0.5 * sign * s * s, sign * t * (1.5 * t - 2), -sign * s * (1.5 * s - 2), 0.5 * sign * t * t)
    return offsets, weights, slopes, outside


@triton.jit
def _points(u, size, out, origin, D: tl.constexpr, ORDER: tl.constexpr, MODE: tl.constexpr):
    """This program's points: their sample n, their indices in a plane of `points`, and which of them exist; how many
    `pixels` a plane of the image has; and `_taps` along all axes, `outside` if outside along any."""
    points, pixels = 1, 1
    for axis in tl.static_range(D):
        points, pixels = points * out[axis], pixels * size[axis]
    blocks = tl.cdiv(points, BLOCK)
    n = (tl.program_id(0) // blocks).to(tl.int64)
    point = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    exists = point < points
    rest, stride, outside, finite = point, 1, point < 0, exists
    offsets, weights, slopes = (), (), ()
    for axis in tl.static_range(D - 1, -1, -1):
        displacement = tl.load(u + (n * D + axis) * points + point, mask=exists, other=0)
        q = (origin[axis] + rest % out[axis]).to(tl.int32)
        offset, weight, slope, beyond = _taps(q, displacement, size[axis], stride, ORDER, MODE)
        offsets, weights, slopes = (offset,) + offsets, (weight,) + weights, (slope,) + slopes
        rest, stride, outside = rest // out[axis], stride * size[axis], outside | beyond
        finite &= tl.abs(displacement) < float("inf")  # the others are to give NaN in every mode
    return n, point, points, exists, pixels, offsets, weights, slopes, outside & finite


@triton.jit
def _gathered(q, offsets, weights, AXIS: tl.constexpr, D: tl.constexpr, TAPS: tl.constexpr):
    """What q has at its taps, weighted and summed. `q` points into a plane, at the taps of the axes before AXIS."""
    value = 0.0
    for tap in tl.static_range(TAPS):
        at = q + offsets[AXIS][tap]
        if AXIS == D - 1:
            value += weights[AXIS][tap] * tl.load(at)
        else:
            value += weights[AXIS][tap] * _gathered(at, offsets, weights, AXIS + 1, D, TAPS)
    return value


@triton.jit
def _gathered_slopes(q, offsets, weights, slopes, AXIS: tl.constexpr, D: tl.constexpr, TAPS: tl.constexpr):
    """`_gathered`, followed by its derivatives along AXIS and the axes behind it."""
    sums = (0.0,) * (D - AXIS + 1)
    for tap in tl.static_range(TAPS):
        at, weight, slope = q + offsets[AXIS][tap], weights[AXIS][tap], slopes[AXIS][tap]
        if AXIS == D - 1:
            inner = (tl.load(at),)
        else:
            inner = _gathered_slopes(at, offsets, weights, slopes, AXIS + 1, D, TAPS)
        new = (sums[0] + weight * inner[0], sums[1] + slope * inner[0])
        for behind in tl.static_range(1, D - AXIS):
            new = new + (sums[behind + 1] + weight * inner[behind],)
        sums = new
    return sums


@triton.jit
def _scatter(q, share, mask, offsets, weights, AXIS: tl.constexpr, D: tl.constexpr, TAPS: tl.constexpr):
    """The transpose of `_gathered`: adds to q."""
    for tap in tl.static_range(TAPS):
        at, part = q + offsets[AXIS][tap], weights[AXIS][tap] * share
        if AXIS == D - 1:  # relaxed, as nothing is read: by default each sum would wait for all that came before
            tl.atomic_add(at, part, mask=mask, sem="relaxed")
        else:
            _scatter(at, part, mask, offsets, weights, AXIS + 1, D, TAPS)


@triton.jit
def sample(
    q, u, y, cval: tl.float64, channels, size, out, origin, D: tl.constexpr, ORDER: tl.constexpr, MODE: tl.constexpr
):
    """y: planes q (for order 3 coefficients) at `origin + point + u`."""
    n, point, points, exists, pixels, offsets, weights, _, outside = _points(u, size, out, origin, D, ORDER, MODE)
    plane, end = n * channels, (n + 1) * channels
    while plane < end:  # not `for`: under NumPy 2.4 Triton's interpreter, which the tests need, takes no such range
        value = _gathered(q + plane * pixels, offsets, weights, 0, D, ORDER + 1)
        if MODE == "constant":
            value = tl.where(outside, tl.full([BLOCK], cval, value.dtype), value)
        tl.store(y + plane * points + point, value, mask=exists)
        plane += 1


@triton.jit
def sample_to_image(grad, u, g, channels, size, out, origin, D: tl.constexpr, ORDER: tl.constexpr, MODE: tl.constexpr):
    """Adds to grad, the gradient to q, what g, the gradient to y, contributes."""
    n, point, points, exists, pixels, offsets, weights, _, outside = _points(u, size, out, origin, D, ORDER, MODE)
    reached = exists & ~outside if MODE == "constant" else exists
    plane, end = n * channels, (n + 1) * channels
    while plane < end:
        share = tl.load(g + plane * points + point, mask=reached, other=0)
        _scatter(grad + plane * pixels, share, reached, offsets, weights, 0, D, ORDER + 1)
        plane += 1


@triton.jit
def sample_to_field(
    grad, q, u, g, channels, size, out, origin, D: tl.constexpr, ORDER: tl.constexpr, MODE: tl.constexpr
):
    """grad: the gradient to u, summed over channels."""
    n, point, points, exists, pixels, offsets, weights, slopes, outside = _points(u, size, out, origin, D, ORDER, MODE)
    reached = exists & ~outside if MODE == "constant" else exists
    totals = (tl.zeros([BLOCK], grad.dtype.element_ty),) * D
    plane, end = n * channels, (n + 1) * channels
    while plane < end:
        share = tl.load(g + plane * points + point, mask=reached, other=0)
        by_u = _gathered_slopes(q + plane * pixels, offsets, weights, slopes, 0, D, ORDER + 1)
        sums = ()
        for axis in tl.static_range(D):
            sums = sums + (totals[axis] + share * by_u[axis + 1],)
        totals = sums
        plane += 1
    for axis in tl.static_range(D):
        tl.store(grad + (n * D + axis) * points + point, totals[axis], mask=exists)


@triton.jit
def _residual(u1, u2, w, q, size, pixels, D: tl.constexpr):
    """r = w + u1(q + w) - u2, u1 interpolated linearly and continued by its border; and the length of r."""
    offsets, weights, stride = (), (), 1
    for axis in tl.static_range(D - 1, -1, -1):
        offset, weight, _, _ = _taps(q[axis], w[axis], size[axis], stride, 1, "border")
        offsets, weights, stride = (offset,) + offsets, (weight,) + weights, stride * size[axis]
    r, square = (), 0.0
    for axis in tl.static_range(D):
        component = w[axis] + _gathered(u1 + axis * pixels, offsets, weights, 0, D, 2) - u2[axis]
        r, square = r + (component,), square + component * component
    return r, tl.sqrt(square)


@triton.jit
def align(u1, u2, w_out, error_out, tolerance: tl.float64, steps, size, D: tl.constexpr):
    """See `algebra.align`. A program goes on until all of its pixels have converged, or `steps` is reached."""
    pixels = 1
    for axis in tl.static_range(D):
        pixels = pixels * size[axis]
    blocks = tl.cdiv(pixels, BLOCK)
    n = (tl.program_id(0) // blocks).to(tl.int64)
    pixel = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    exists = pixel < pixels
    q, target, w, rest = (), (), (), pixel
    for axis in tl.static_range(D - 1, -1, -1):
        at = (n * D + axis) * pixels + pixel
        aim = tl.load(u2 + at, mask=exists, other=0)
        target, w = (aim,) + target, (aim - tl.load(u1 + at, mask=exists, other=0),) + w
        q, rest = (rest % size[axis],) + q, rest // size[axis]
    u1 += n * D * pixels
    r, error = _residual(u1, target, w, q, size, pixels, D)
    tolerance = tl.full([], tolerance, error.dtype)
    damping = tl.full([BLOCK], 1.0, error.dtype)
    step = 0
    while (step < steps) & (tl.max(tl.where(exists, error, 0), 0) > tolerance):
        pace = tl.where(error > tolerance, damping, 0)
        trial = ()
        for axis in tl.static_range(D):
            trial = trial + (w[axis] - pace * r[axis],)
        trial_r, trial_error = _residual(u1, target, trial, q, size, pixels, D)
        better = trial_error < error
        new_w, new_r = (), ()
        for axis in tl.static_range(D):
            new_w = new_w + (tl.where(better, trial[axis], w[axis]),)
            new_r = new_r + (tl.where(better, trial_r[axis], r[axis]),)
        w, r, error = new_w, new_r, tl.where(better, trial_error, error)
        damping = tl.where(better, damping, damping / 2)
        step += 1
    for axis in tl.static_range(D):
        tl.store(w_out + (n * D + axis) * pixels + pixel, w[axis], mask=exists)
    tl.store(error_out + n * pixels + pixel, error, mask=exists)
