"""NumPy, as formulas are written and in blocks of rows that stay in the cache."""

import numpy as np


def blocks(n, size):
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def rows_in_cache(data):
    """Rows of preactivations for about half a megabyte."""
    return max(16, (1 << 19) // (data.x.itemsize * data.m))


def ways(task, data):
    return {
        "energy": energy,
        "score": score,
        "grad": grad,
        "chains": chains,
        "normals": normals,
        "update": update,
        "gram": gram,
        "ksd": ksd,
        "thin": thin,
    }[task](data)


def energy(data):
    x, theta, w, m = data.x, data.theta, data.w, data.m

    def written():
        return [np.maximum(x @ theta.T, 0) @ w / m]

    out, size = np.empty_like(x[:, 0]), rows_in_cache(data)
    z, transposed, scaled = np.empty((size, m), x.dtype), theta.T.copy(), w / x.dtype.type(m)

    def blocked():
        for rows in blocks(data.n, size):
            block = z[: rows.stop - rows.start]
            np.matmul(x[rows], transposed, out=block)
            np.maximum(block, 0, out=block)
            np.dot(block, scaled, out=out[rows])
        return [out]

    return {"as written": written, "blocked": blocked}


def score_in_blocks(data, x, out, z, transposed, scaled_theta):
    for rows in blocks(len(x), len(z)):
        block = z[: rows.stop - rows.start]
        np.matmul(x[rows], transposed, out=block)
        np.greater(block, 0, out=block, casting="unsafe")
        np.matmul(block, scaled_theta, out=out[rows])


def score_buffers(data):
    z = np.empty((rows_in_cache(data), data.m), data.x.dtype)
    scaled = -(data.w / data.m)[:, None].astype(data.x.dtype) * data.theta
    return z, data.theta.T.copy(), scaled


def score(data):
    x, theta, w, m = data.x, data.theta, data.w, data.m
    out, buffers = np.empty_like(x), score_buffers(data)

    def written():
        return [-((x @ theta.T > 0) * w) @ theta / m]

    def blocked():
        score_in_blocks(data, x, out, *buffers)
        return [out]

    return {"as written": written, "blocked": blocked}


def grad(data):
    x, theta, w, m = data.x, data.theta, data.w, data.m

    def written():
        z = x @ theta.T
        return [np.maximum(z, 0).sum(0) / m, ((z > 0) * w).T @ x / m]

    size = rows_in_cache(data)
    z, gate = [np.empty((size, m), x.dtype) for _ in range(2)]
    transposed, ones = theta.T.copy(), np.ones(size, x.dtype)

    def blocked():
        by_w, by_theta = np.zeros(m, x.dtype), np.zeros((m, data.d), x.dtype)
        for rows in blocks(data.n, size):
            k = rows.stop - rows.start
            np.matmul(x[rows], transposed, out=z[:k])
            np.greater(z[:k], 0, out=gate[:k], casting="unsafe")
            np.maximum(z[:k], 0, out=z[:k])
            by_w += ones[:k] @ z[:k]
            by_theta += gate[:k].T @ x[rows]
        return [by_w / m, by_theta * (w / m)[:, None]]

    return {"as written": written, "blocked": blocked}


def chains(data):
    theta, w, m, h, dtype = data.theta, data.w, data.m, data.step, data.x.dtype
    rng, fast = np.random.default_rng(2), np.random.Generator(np.random.SFC64(2))
    root = dtype.type(data.noise * np.sqrt(2 * h))

    def written():
        x = data.x.copy()
        for _ in range(data.steps):
            s = -((x @ theta.T > 0) * w) @ theta / m - x
            x = x + h * s + root * rng.standard_normal(x.shape, dtype)
        return [x]

    buffers, size = score_buffers(data), rows_in_cache(data)

    def blocked():
        out = data.x.copy()
        for rows in blocks(data.n, size):
            x, s = out[rows], np.empty_like(out[rows])
            noise = np.empty_like(s)
            for _ in range(data.steps):
                score_in_blocks(data, x, s, *buffers)
                fast.standard_normal(out=noise, dtype=dtype)
                s *= h
                x *= 1 - h
                x += s
                noise *= root
                x += noise
        return [out]

    return {"as written": written, "blocked": blocked}


def normals(data):
    rng, fast = np.random.default_rng(2), np.random.Generator(np.random.SFC64(2))
    out = np.empty_like(data.x)

    def blocked():
        fast.standard_normal(out=out, dtype=out.dtype)
        return [out]

    return {
        "as written": lambda: [rng.standard_normal(data.x.shape, data.x.dtype)],
        "SFC64 in place": blocked,
    }


def update(data):
    h, dtype = data.step, data.x.dtype
    rng, fast = np.random.default_rng(2), np.random.Generator(np.random.SFC64(2))
    root = dtype.type(np.sqrt(2 * h))

    def written():
        return [data.x + h * data.s + root * rng.standard_normal(data.x.shape, dtype)]

    x, noise, drift = data.x.copy(), *[np.empty((16, data.d), dtype) for _ in range(2)]

    def blocked():
        for rows in blocks(data.n, len(noise)):
            block = x[rows]
            k = len(block)
            fast.standard_normal(out=noise[:k], dtype=dtype)
            np.multiply(noise[:k], root, out=noise[:k])
            np.multiply(data.s[rows], h, out=drift[:k])
            block += drift[:k]
            block += noise[:k]
        return [x]

    return {"as written": written, "blocked, in place": blocked}


def stein(data, rows):
    """Rows of the Gram matrix of the inverse multiquadric's Stein kernel, by matrix products."""
    x, s, c = data.x, data.s, data.offset
    a, b = x[rows], s[rows]
    own = (x * s).sum(1)
    squared = (a * a).sum(1)[:, None] + (x * x).sum(1) - 2 * (a @ x.T)
    cross = own[rows][:, None] + own - a @ s.T - b @ x.T
    q = 1 / (c * c + squared)
    return np.sqrt(q) * (b @ s.T + q * (data.d + cross - 3 * q * squared))


def gram(data):
    out = np.empty((data.n, data.n), data.x.dtype)

    def blocked():
        for rows in blocks(data.n, 64):
            out[rows] = stein(data, rows)
        return [out]

    return {"as written": lambda: [stein(data, slice(None))], "blocked": blocked}


def ksd(data):
    def total(size):
        rows = blocks(data.n, size)
        return [[sum(stein(data, block).sum(dtype=np.float64) for block in rows) / data.n**2]]

    return {"as written": lambda: total(data.n), "blocked": lambda: total(32)}


def thin(data):
    x, s = data.x, data.s

    def written():
        squares, own = (x * x).sum(1), (x * s).sum(1)
        objective = data.d + (s * s).sum(1)
        picked = []
        for _ in range(data.picked):
            i = int(objective.argmin())
            picked.append(i)
            squared = squares + squares[i] - 2 * (x @ x[i])
            cross = own + own[i] - x @ s[i] - s @ x[i]
            q = 1 / (1 + squared)
            objective += 2 * np.sqrt(q) * (s @ s[i] + q * (data.d + cross - 3 * q * squared))
        return [picked]

    return {"as written": written}
