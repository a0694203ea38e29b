"""stein_thinning, the reference implementation of Stein thinning."""

from stein_thinning.thinning import thin


def ways(task, data):
    if task != "thin":
        return {}
    options = {"standardize": False, "preconditioner": "id"}
    return {"as written": lambda: [thin(data.x, data.s, data.picked, **options)]}
