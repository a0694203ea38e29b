"""The comparison: data, checks, times and tables. Started by `run`."""

import argparse
import importlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

LIBRARIES = ["numpy", "torch", "jax", "numba", "keops", "stein_thinning"]

SHAPES = [(30_000, 15, 500), (8_192, 64, 1_024), (4_096, 784, 2_048)]
WORKLOADS = [
    *[(task, shape) for task in ["energy", "score", "grad"] for shape in SHAPES],
    ("chains", (1_024, 15, 500)),
    ("chains", (1_024, 64, 1_024)),
    ("normals", (10_000, 1_000, 0)),
    ("update", (10_000, 1_000, 0)),
    ("gram", (3_000, 15, 0)),
    ("gram", (2_000, 64, 0)),
    ("ksd", (10_000, 15, 0)),
    ("ksd", (2_000, 64, 0)),
    ("thin", (10_000, 15, 0)),
]
STEPS, STEP, OFFSET, PICKED = 100, 0.01, 5.0, 100
ROUNDS, PATIENCE = 7, 4.0


@dataclass
class Data:
    """Inputs of a task. w is scaled so that energies are of order √d, whatever the number of neurons."""

    n: int
    d: int
    m: int
    x: np.ndarray
    s: np.ndarray
    theta: np.ndarray
    w: np.ndarray
    steps: int = STEPS
    step: float = STEP
    noise: float = 1.0
    offset: float = OFFSET
    picked: int = PICKED


def make_data(shape, dtype, directory):
    n, d, m = shape
    rng = np.random.default_rng(1)
    arrays = {"x": (n, d), "s": (n, d), "theta": (m, d), "w": (m,)}
    arrays = {name: rng.standard_normal(size).astype(dtype) for name, size in arrays.items()}
    arrays["w"] *= np.sqrt(m).astype(dtype)
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)
    return Data(n, d, m, **arrays)


class Gibbsite:
    """Our side, a process that answers a line with a line."""

    def __init__(self, program, threads):
        command = [program, "--serve", str(threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().split()
        if not answer:
            sys.exit("gibbsite's side has ended")
        return answer

    def result(self, directory, dtype):
        self.ask("run")
        self.ask("save", directory / "result.raw")
        return np.fromfile(directory / "result.raw", dtype)


class WrongResult(ValueError):
    pass


WRONG = "wrong: "


def check(task, data, ours, theirs):
    """The same results, or the same law of random ones. Raises an error that says how far apart they are."""
    theirs = [np.asarray(part, np.float64).ravel() for part in theirs]
    theirs, ours = np.concatenate(theirs), ours.astype(np.float64)
    if theirs.shape != ours.shape:
        raise WrongResult(f"{theirs.size} values instead of {ours.size}")
    if task == "thin":
        if not np.array_equal(theirs, ours):
            raise WrongResult("other points were picked")
    elif task in ["normals", "update", "chains"]:
        if task == "update":
            mean = (data.x + STEP * data.s).ravel().astype(np.float64)
            theirs, ours = [(y - mean) / np.sqrt(2 * STEP) for y in (theirs, ours)]
        for power in [1, 2]:
            a, b = theirs**power, ours**power
            error = np.sqrt((a.var() + b.var()) / a.size)
            if not abs(a.mean() - b.mean()) <= 6 * error:
                raise WrongResult(f"moment {power} is {a.mean()} instead of {b.mean()} ± {error}")
    else:
        root = np.sqrt(np.finfo(data.x.dtype).eps)
        # A gate that rounding opens changes a sum over n or m of them, of whole terms.
        tolerance = 3 * root if task in ["score", "grad", "descent"] else root / 10
        distance = np.linalg.norm(theirs - ours) / np.linalg.norm(ours)
        if not distance <= tolerance:
            raise WrongResult(f"relative distance {distance:.1e}, above {tolerance:.1e}")


def timed(call, threads):
    """Processor time on one thread, which other programs disturb least; time on the clock on more."""
    clock = time.process_time if threads == 1 else time.perf_counter
    start = clock()
    call()
    return clock() - start


def compare(task, data, dtype, ours, libraries, arguments):
    """Rows (library, way, seconds or reason), ours first."""
    name = {"float32": "f32", "float64": "f64"}[dtype]
    where = (name, arguments.data, data.n, data.d, data.m)
    if task == "chains":
        ours.ask("load", "descent", *where)
        path = ours.result(arguments.data, dtype)
    ours.ask("load", task, *where)
    result = ours.result(arguments.data, dtype)
    ways, rows = [], []
    for label, module in libraries.items():
        if isinstance(module, str):
            rows.append([label, "", module])
            continue
        try:
            found = module.ways(task, data)
            # Chains whose noise is off: moments alone would not tell fewer steps.
            still = module.ways(task, replace(data, noise=0.0)) if task == "chains" else {}
        except Exception as error:
            rows.append([label, "", reason(error)])
            continue
        for way, call in found.items():
            try:
                check(task, data, result, call())
                if way in still:
                    check("descent", data, path, still[way]())
                seconds = timed(call, arguments.threads)
                ways.append([label, way, call, seconds, seconds])
            except WrongResult as error:
                rows.append([label, way, WRONG + reason(error)])
            except Exception as error:
                rows.append([label, way, reason(error)])
        if not found:
            rows.append([label, "", "has nothing for it"])
    best = float("inf")
    for _ in range(ROUNDS):
        seconds = [float(word) for word in ours.ask("run")]
        best = min(best, seconds[0] if arguments.threads == 1 else seconds[1])
        for way in ways:
            # The slowest ones take fewer turns.
            if way[4] < PATIENCE:
                seconds = timed(way[2], arguments.threads)
                way[3], way[4] = min(way[3], seconds), way[4] + seconds
    return [["gibbsite", "", best], *[way[:2] + way[3:4] for way in ways], *rows]


def reason(error):
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:100]


def show(title, rows):
    best = rows[0][2]
    print(f"\n{title}")
    for label, way, value in rows:
        if isinstance(value, str):
            print(f"  {label:15} {way:24} not compared: {value}")
        else:
            print(f"  {label:15} {way:24} {1e3 * value:10.3f} ms  {value / best:8.2f}")
    sys.stdout.flush()


def summary(results, libraries):
    """A table in Markdown: time as written / at best, both over ours."""
    print("\n| task | type | (n, d, m) | gibbsite |", " | ".join(libraries), "|")
    print("|---|---|---|---|" + "---|" * len(libraries))
    for (task, dtype, shape), rows in results.items():
        best, cells = rows[0][2], []
        for label in libraries:
            found = {
                way: value / best
                for name, way, value in rows
                if name == label and not isinstance(value, str)
            }
            written = [value for way, value in found.items() if way.startswith("as written")]
            cells.append(f"{min(written):.1f} / {min(found.values()):.1f}" if written else "–")
        size = ", ".join(str(k) for k in shape if k)
        print(f"| {task} | {dtype} | ({size}) | {1e3 * best:.2f} ms |", " | ".join(cells), "|")


def main():
    parser = argparse.ArgumentParser(
        prog="benches/peers/run", usage="%(prog)s [options] [TASK ...]", allow_abbrev=False
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", choices=["f32", "f64"])
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    unknown = set(arguments.tasks) - {task for task, _ in WORKLOADS}
    if unknown:
        parser.error(f"no task {', '.join(sorted(unknown))}")
    # Pools that libraries make by the number of processors stay as small as asked.
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])

    libraries = {}
    for label in arguments.libraries.split(","):
        try:
            libraries[label] = importlib.import_module(f"with_{label}")
            if hasattr(libraries[label], "set_threads"):
                libraries[label].set_threads(arguments.threads)
        except Exception as error:
            libraries[label] = f"cannot be imported: {reason(error)}"
    ours = Gibbsite(arguments.ours, arguments.threads)
    clock = "processor time" if arguments.threads == 1 else "time"
    print(f"{arguments.threads} thread(s); shortest {clock} of a call, and its ratio to gibbsite's")
    results = {}
    for task, shape in WORKLOADS:
        for name, dtype in [("f32", "float32"), ("f64", "float64")]:
            if (arguments.tasks and task not in arguments.tasks) or arguments.dtype not in [
                None,
                name,
            ]:
                continue
            data = make_data(shape, dtype, arguments.data)
            rows = compare(task, data, dtype, ours, libraries, arguments)
            results[task, name, shape] = rows
            show(f"{task} {name} {shape}", rows)
    summary(results, libraries)
    # Libraries that are missing, or have nothing for a task, are no failure; other results are.
    values = [value for rows in results.values() for _, _, value in rows]
    sys.exit(any(isinstance(value, str) and value.startswith(WRONG) for value in values))


if __name__ == "__main__":
    main()
