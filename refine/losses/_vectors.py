"""What the losses share: computing in single precision, and rows of length one."""

import torch
import torch.nn.functional as F
from torch import Tensor


def single(x: Tensor) -> Tensor:
    """Half precision becomes float32; float64 stays, so that tests can ask for it."""
    return x if x.dtype == torch.float64 else x.float()


def unit(z: Tensor) -> Tensor:
    """The rows of `z` divided by their lengths. A row of zeros is refused, a NaN is passed on."""
    z = single(z)
    if bool((z == 0).all(dim=1).any()):
        raise ValueError("a vector of zeros has no cosine; is the input silent or the layer dead?")
    return F.normalize(z, dim=1)


def same_rows(**named: Tensor) -> None:
    """All are (batch, dim) with the same batch and dim."""
    shapes = [tuple(x.shape) for x in named.values()]
    if len(set(shapes)) > 1 or len(shapes[0]) != 2:
        found = " and ".join(str(shape) for shape in shapes)
        raise ValueError(f"{' and '.join(named)} hold one vector a row each; got {found}")


def positive(name: str, value: float) -> None:
    if not 0 < value < float("inf"):
        raise ValueError(f"{name}: got {value}; expected a positive number")


def not_negative(name: str, value: float) -> None:
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}: got {value}; expected 0 or a positive number")
