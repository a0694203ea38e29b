"""numba: loops over samples that keep preactivations in the first cache, vectorised over neurons."""

import numba
import numpy as np

jit = numba.njit(fastmath=True, parallel=True)


def set_threads(threads):
    numba.set_num_threads(threads)


def ways(task, data):
    make = {
        "energy": energy,
        "score": score,
        "grad": grad,
        "chains": chains,
        "normals": normals,
        "update": update,
        "gram": gram,
        "ksd": ksd,
        "thin": thin,
    }.get(task)
    return {"as written": make(data)}


@jit
def energy_loops(x, transposed, w, out):
    d, m = transposed.shape
    for i in numba.prange(len(x)):
        z = np.zeros(m, x.dtype)
        for k in range(d):
            for j in range(m):
                z[j] += x[i, k] * transposed[k, j]
        total = x.dtype.type(0)
        for j in range(m):
            total += w[j] * max(z[j], x.dtype.type(0))
        out[i] = total / m


def energy(data):
    out, transposed = np.empty_like(data.x[:, 0]), data.theta.T.copy()

    def call():
        energy_loops(data.x, transposed, data.w, out)
        return [out]

    return call


@numba.njit(fastmath=True)
def score_of(x, transposed, w, z, out):
    d, m = transposed.shape
    z[:] = 0
    for k in range(d):
        for j in range(m):
            z[j] += x[k] * transposed[k, j]
    for j in range(m):
        z[j] = w[j] if z[j] > 0 else 0
    for k in range(d):
        total = x.dtype.type(0)
        for j in range(m):
            total += z[j] * transposed[k, j]
        out[k] = -total / m


@jit
def score_loops(x, transposed, w, out):
    for i in numba.prange(len(x)):
        score_of(x[i], transposed, w, np.empty(len(w), x.dtype), out[i])


def score(data):
    out, transposed = np.empty_like(data.x), data.theta.T.copy()

    def call():
        score_loops(data.x, transposed, data.w, out)
        return [out]

    return call


@jit
def grad_loops(x, transposed, parts):
    d, m = transposed.shape
    by_w = np.zeros((parts, m), x.dtype)
    by_theta = np.zeros((parts, d, m), x.dtype)
    for part in numba.prange(parts):
        z = np.empty(m, x.dtype)
        for i in range(part, len(x), parts):
            z[:] = 0
            for k in range(d):
                for j in range(m):
                    z[j] += x[i, k] * transposed[k, j]
            for j in range(m):
                by_w[part, j] += max(z[j], x.dtype.type(0))
                z[j] = 1 if z[j] > 0 else 0
            for k in range(d):
                for j in range(m):
                    by_theta[part, k, j] += x[i, k] * z[j]
    return by_w.sum(0), by_theta.sum(0)


def grad(data):
    transposed = data.theta.T.copy()

    def call():
        by_w, by_theta = grad_loops(data.x, transposed, numba.get_num_threads())
        return [by_w / data.m, by_theta.T * (data.w / data.m)[:, None]]

    return call


@jit
def chain_loops(x, transposed, w, h, root, steps):
    for i in numba.prange(len(x)):
        z, s = np.empty(len(w), x.dtype), np.empty(x.shape[1], x.dtype)
        for _ in range(steps):
            score_of(x[i], transposed, w, z, s)
            for k in range(len(s)):
                x[i, k] += h * (s[k] - x[i, k]) + root * np.random.standard_normal()


def chains(data):
    transposed, root = data.theta.T.copy(), data.noise * np.sqrt(2 * data.step)

    def call():
        x = data.x.copy()
        chain_loops(x, transposed, data.w, data.step, root, data.steps)
        return [x]

    return call


@jit
def normal_loops(out):
    for i in numba.prange(out.size):
        out[i] = np.random.standard_normal()


def normals(data):
    out = np.empty_like(data.x)

    def call():
        normal_loops(out.reshape(-1))
        return [out]

    return call


@jit
def update_loops(x, s, h):
    root = np.sqrt(2 * h)
    for i in numba.prange(x.size):
        x[i] += h * s[i] + root * np.random.standard_normal()


def update(data):
    x = data.x.copy()

    def call():
        update_loops(x.reshape(-1), data.s.reshape(-1), data.step)
        return [x]

    return call


@numba.njit(fastmath=True)
def stein_row(x, s, xt, st, c, i, first, squared, cross, scores, out):
    """Values of the inverse multiquadric's Stein kernel at row i and columns `first` and on, from the start of `out`."""
    d, n = len(xt), xt.shape[1] - first
    squared[:n], cross[:n], scores[:n] = 0, 0, 0
    for k in range(d):
        xi, si = x[i, k], s[i, k]
        # Loops from 0 over contiguous rows are what is vectorised.
        xk, sk = xt[k][first:], st[k][first:]
        for j in range(n):
            r = xi - xk[j]
            squared[j] += r * r
            cross[j] += (si - sk[j]) * r
            scores[j] += si * sk[j]
    one = x.dtype.type(1)
    for j in range(n):
        q = one / (c + squared[j])
        out[j] = np.sqrt(q) * (scores[j] + q * (d + cross[j] - 3 * q * squared[j]))


@jit
def gram_loops(x, s, xt, st, c, out):
    n = len(x)
    for i in numba.prange(n):
        buffers = np.empty((3, n), x.dtype)
        stein_row(x, s, xt, st, c, i, 0, buffers[0], buffers[1], buffers[2], out[i])


def columns(data):
    return data.x.T.copy(), data.s.T.copy(), data.x.dtype.type(data.offset**2)


def gram(data):
    out = np.empty((data.n, data.n), data.x.dtype)
    xt, st, c = columns(data)

    def call():
        gram_loops(data.x, data.s, xt, st, c, out)
        return [out]

    return call


@jit
def ksd_loops(x, s, xt, st, c):
    n = len(x)
    total = 0.0
    for i in numba.prange(n):
        buffers = np.empty((4, n), x.dtype)
        row = buffers[3]
        stein_row(x, s, xt, st, c, i, i, buffers[0], buffers[1], buffers[2], row)
        total += 2 * row[: n - i].sum() - row[0]
    return total / n**2


def ksd(data):
    xt, st, c = columns(data)
    return lambda: [[ksd_loops(data.x, data.s, xt, st, c)]]


@numba.njit(fastmath=True)
def thin_loops(x, s, xt, st, count):
    n, d = x.shape
    buffers = np.empty((4, n), x.dtype)
    objective = d + (s * s).sum(1)
    picked = np.empty(count, np.int64)
    for step in range(count):
        i = objective.argmin()
        picked[step] = i
        one = x.dtype.type(1)
        stein_row(x, s, xt, st, one, i, 0, buffers[0], buffers[1], buffers[2], buffers[3])
        objective += 2 * buffers[3]
    return picked


def thin(data):
    xt, st, _ = columns(data)
    return lambda: [thin_loops(data.x, data.s, xt, st, data.picked)]
