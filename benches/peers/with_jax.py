"""JAX: jit of the formulas and their gradients, and of formulas over blocks of rows."""

import functools
import os

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
from jax import lax


def set_threads(threads):
    eigen = "false" if threads == 1 else "true"
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={eigen}"


def arrays(data):
    return [jnp.asarray(array) for array in (data.x, data.theta, data.w, data.s)]


def energies(x, theta, w):
    return jax.nn.relu(x @ theta.T) @ w / w.size


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
    }.get(task)
    return make(data) if make else {}


def ready(function, *arguments):
    return lambda: jax.block_until_ready(function(*arguments))


def block_size(data):
    """Rows of preactivations for about half a megabyte, a divisor of n."""
    most = max(16, (1 << 19) // (data.x.itemsize * max(data.m, 1)))
    return max(k for k in range(1, min(most, data.n) + 1) if data.n % k == 0)


def over_blocks(function, data, x):
    size = block_size(data)
    return lax.map(function, x.reshape(-1, size, x.shape[1]))


def energy(data):
    x, theta, w, _ = arrays(data)
    blocked = jax.jit(lambda x: [over_blocks(lambda b: energies(b, theta, w), data, x).ravel()])
    return {
        "as written": ready(jax.jit(lambda x: [energies(x, theta, w)]), x),
        "blocked": ready(blocked, x),
    }


def scores(x, theta, w):
    return (jnp.where(x @ theta.T > 0, -w / w.size, 0) @ theta).reshape(x.shape)


def score(data):
    x, theta, w, _ = arrays(data)
    written = jax.jit(lambda x: [jax.grad(lambda x: -energies(x, theta, w).sum())(x)])
    blocked = jax.jit(lambda x: [over_blocks(lambda b: scores(b, theta, w), data, x)])
    return {"as written": ready(written, x), "blocked": ready(blocked, x)}


def grad(data):
    x, theta, w, _ = arrays(data)
    total = lambda w, theta: energies(x, theta, w).sum()
    written = jax.jit(jax.grad(total, argnums=(0, 1)))

    @jax.jit
    def blocked(w, theta):
        def add(sums, b):
            z = b @ theta.T
            gate = (z > 0).astype(z.dtype)
            return (sums[0] + (z * gate).sum(0), sums[1] + gate.T @ b), None

        start = (jnp.zeros_like(w), jnp.zeros_like(theta))
        by_w, by_theta = lax.scan(add, start, x.reshape(-1, block_size(data), data.d))[0]
        return by_w / data.m, by_theta * (w / data.m)[:, None]

    return {"as written": ready(written, w, theta), "blocked": ready(blocked, w, theta)}


def chains(data):
    start, theta, w, _ = arrays(data)
    h, root = data.step, data.noise * jnp.sqrt(2 * jnp.asarray(data.step, start.dtype))
    potential = lambda x: energies(x, theta, w).sum() + (x * x).sum() / 2

    def run(slope, key, x):
        def step(x, key):
            noise = jax.random.normal(key, x.shape, x.dtype)
            return x - h * slope(x) + root * noise, None

        return lax.scan(step, x, jax.random.split(key, data.steps))[0]

    written = jax.jit(lambda x: [run(jax.grad(potential), jax.random.key(2), x)])

    @jax.jit
    def blocked(x):
        """Generator and formulas by hand, a block of chains through all steps."""
        size = block_size(data)
        keys = jax.random.split(jax.random.key(2, impl="rbg"), data.n // size)
        move = functools.partial(run, lambda x: x - scores(x, theta, w))
        return [lax.map(lambda block: move(*block), (keys, x.reshape(-1, size, data.d)))]

    return {"as written": ready(written, start), "blocked": ready(blocked, start)}


def normals(data):
    shape, dtype = data.x.shape, data.x.dtype
    draw = jax.jit(lambda key: [jax.random.normal(key, shape, dtype)])
    return {
        "as written": ready(draw, jax.random.key(2)),
        "generator rbg": ready(draw, jax.random.key(2, impl="rbg")),
    }


def update(data):
    x, _, _, s = arrays(data)
    h, root = data.step, jnp.sqrt(2 * jnp.asarray(data.step, x.dtype))
    move = jax.jit(lambda key, x, s: [x + h * s + root * jax.random.normal(key, x.shape, x.dtype)])
    return {
        "as written": ready(move, jax.random.key(2), x, s),
        "generator rbg": ready(move, jax.random.key(2, impl="rbg"), x, s),
    }


def stein(x, s, a, b, c):
    """Rows of the Gram matrix of the inverse multiquadric's Stein kernel, by matrix products."""
    squared = (a * a).sum(1)[:, None] + (x * x).sum(1) - 2 * (a @ x.T)
    cross = (a * b).sum(1)[:, None] + (x * s).sum(1) - a @ s.T - b @ x.T
    q = 1 / (c * c + squared)
    return jnp.sqrt(q) * (b @ s.T + q * (x.shape[1] + cross - 3 * q * squared))


def stein_blocks(data, x, s, finish):
    size = max(k for k in range(1, 65) if data.n % k == 0)
    pairs = (x.reshape(-1, size, data.d), s.reshape(-1, size, data.d))
    return lax.map(lambda block: finish(stein(x, s, *block, data.offset)), pairs)


def gram(data):
    x, _, _, s = arrays(data)
    written = jax.jit(lambda x, s: [stein(x, s, x, s, data.offset)])
    blocked = jax.jit(lambda x, s: [stein_blocks(data, x, s, lambda rows: rows)])
    return {"as written": ready(written, x, s), "blocked": ready(blocked, x, s)}


def ksd(data):
    x, _, _, s = arrays(data)
    total = lambda rows: rows.sum(dtype=jnp.float64)
    written = jax.jit(lambda x, s: [stein(x, s, x, s, data.offset).mean(dtype=jnp.float64)])
    blocked = jax.jit(lambda x, s: [stein_blocks(data, x, s, total).sum() / data.n**2])
    return {"as written": ready(written, x, s), "blocked": ready(blocked, x, s)}
