"""PyTorch: eager with automatic differentiation, torch.compile of the same, and in blocks by hand."""

import numpy as np
import torch
from with_numpy import blocks, rows_in_cache


def set_threads(threads):
    torch.set_num_threads(threads)


def tensors(data):
    return [torch.from_numpy(array) for array in (data.x, data.theta, data.w, data.s)]


def energies(x, theta, w):
    return torch.relu(x @ theta.T) @ w / len(w)


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


def compiled(function):
    torch._dynamo.reset()
    return torch.compile(function, dynamic=False)


def energy(data):
    x, theta, w, _ = tensors(data)
    fast = compiled(energies)
    size, out = rows_in_cache(data), torch.empty_like(x[:, 0])
    z, transposed, scaled = x.new_empty(size, data.m), theta.T.contiguous(), w / data.m

    def blocked():
        for rows in blocks(data.n, size):
            block = z[: rows.stop - rows.start]
            torch.mm(x[rows], transposed, out=block)
            torch.mv(block.relu_(), scaled, out=out[rows])
        return [out]

    return {
        "as written": lambda: [energies(x, theta, w)],
        "as written, compiled": lambda: [fast(x, theta, w)],
        "blocked": blocked,
    }


def score_in_blocks(x, out, z, transposed, scaled_theta):
    for rows in blocks(len(x), len(z)):
        block = z[: rows.stop - rows.start]
        torch.mm(x[rows], transposed, out=block)
        block.gt_(0)
        torch.mm(block, scaled_theta, out=out[rows])


def score_buffers(data):
    x, theta, w, _ = tensors(data)
    z = x.new_empty(rows_in_cache(data), data.m)
    return z, theta.T.contiguous(), theta * (-w / data.m)[:, None]


def score(data):
    x, theta, w, _ = tensors(data)

    def written():
        y = x.detach().requires_grad_()
        return [torch.autograd.grad(-energies(y, theta, w).sum(), y)[0]]

    fast = compiled(torch.func.grad(lambda y: -energies(y, theta, w).sum()))
    out, buffers = torch.empty_like(x), score_buffers(data)

    def blocked():
        score_in_blocks(x, out, *buffers)
        return [out]

    return {"as written": written, "as written, compiled": lambda: [fast(x)], "blocked": blocked}


def grad(data):
    x, theta, w, _ = tensors(data)

    def written():
        parameters = [w.detach().requires_grad_(), theta.detach().requires_grad_()]
        return torch.autograd.grad(energies(x, parameters[1], parameters[0]).sum(), parameters)

    fast = compiled(torch.func.grad(lambda w, theta: energies(x, theta, w).sum(), argnums=(0, 1)))
    size, transposed = rows_in_cache(data), theta.T.contiguous()
    z, gate = x.new_empty(size, data.m), x.new_empty(size, data.m)

    def blocked():
        by_w, by_theta = torch.zeros_like(w), torch.zeros_like(theta)
        for rows in blocks(data.n, size):
            k = rows.stop - rows.start
            torch.mm(x[rows], transposed, out=z[:k])
            torch.gt(z[:k], 0, out=gate[:k])
            by_w += z[:k].relu_().sum(0)
            by_theta.addmm_(gate[:k].T, x[rows])
        return [by_w / data.m, by_theta * (w / data.m)[:, None]]

    return {
        "as written": written,
        "as written, compiled": lambda: fast(w, theta),
        "blocked": blocked,
    }


def chains(data):
    start, theta, w, _ = tensors(data)
    h, root = data.step, float(data.noise * np.sqrt(2 * data.step))

    def potential(x):
        return energies(x, theta, w).sum() + (x * x).sum() / 2

    def written():
        x = start
        for _ in range(data.steps):
            x = x.detach().requires_grad_()
            slope = torch.autograd.grad(potential(x), x)[0]
            x = x.detach() - h * slope + root * torch.randn_like(x)
        return [x]

    @compiled
    def step(x):
        return x - h * torch.func.grad(potential)(x) + root * torch.randn_like(x)

    def fast():
        x = start
        for _ in range(data.steps):
            x = step(x)
        return [x]

    buffers, size = score_buffers(data), rows_in_cache(data)

    def blocked():
        out = start.clone()
        for rows in blocks(data.n, size):
            x = out[rows]
            s, noise = torch.empty_like(x), torch.empty_like(x)
            for _ in range(data.steps):
                score_in_blocks(x, s, *buffers)
                x.mul_(1 - h).add_(s, alpha=h).add_(noise.normal_(), alpha=root)
        return [out]

    return {"as written": written, "as written, compiled": fast, "blocked": blocked}


def normals(data):
    x = tensors(data)[0]
    out = torch.empty_like(x)
    return {"as written": lambda: [torch.randn_like(x)], "in place": lambda: [out.normal_()]}


def update(data):
    x, _, _, s = tensors(data)
    h, root = data.step, float(np.sqrt(2 * data.step))

    def written():
        return [x + h * s + root * torch.randn_like(x)]

    fast = compiled(lambda x, s: x + h * s + root * torch.randn_like(x))
    moved, noise = x.clone(), torch.empty_like(x[:16])

    def blocked():
        for rows in blocks(data.n, 16):
            block = moved[rows]
            block.add_(s[rows], alpha=h).add_(noise[: len(block)].normal_(), alpha=root)
        return [moved]

    return {
        "as written": written,
        "as written, compiled": lambda: [fast(x, s)],
        "blocked, in place": blocked,
    }


def stein(x, s, a, b, c):
    """Rows of the Gram matrix of the inverse multiquadric's Stein kernel, by matrix products."""
    squared = (a * a).sum(1)[:, None] + (x * x).sum(1) - 2 * (a @ x.T)
    cross = (a * b).sum(1)[:, None] + (x * s).sum(1) - a @ s.T - b @ x.T
    q = 1 / (c * c + squared)
    return q.sqrt() * (b @ s.T + q * (x.shape[1] + cross - 3 * q * squared))


def gram(data):
    x, _, _, s = tensors(data)
    fast, out = compiled(stein), x.new_empty(data.n, data.n)

    def blocked():
        for rows in blocks(data.n, 64):
            out[rows] = stein(x, s, x[rows], s[rows], data.offset)
        return [out]

    return {
        "as written": lambda: [stein(x, s, x, s, data.offset)],
        "as written, compiled": lambda: [fast(x, s, x, s, data.offset)],
        "blocked": blocked,
    }


def ksd(data):
    x, _, _, s = tensors(data)

    def total(size):
        def block(rows):
            return stein(x, s, x[rows], s[rows], data.offset).sum(dtype=torch.float64)

        return [[sum(block(rows) for rows in blocks(data.n, size)) / data.n**2]]

    fast = compiled(lambda x, s: stein(x, s, x, s, data.offset).sum(dtype=torch.float64))
    return {
        "as written": lambda: total(data.n),
        "as written, compiled": lambda: [[fast(x, s) / data.n**2]],
        "blocked": lambda: total(32),
    }
