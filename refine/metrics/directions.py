"""Random directions: what a space tells along axes that nobody chose."""

import numpy as np
from jaxtyping import Float


def random_projection(
    x: Float[np.ndarray, "n d"], width: int, seed: int = 0
) -> Float[np.ndarray, "n width"]:
    """The vectors on so many random directions: what a subspace of that width holds unchosen.

        x R,    R (d, width) orthonormal, uniform over all such (QR of a Gaussian; Mezzadri 2007)

    The control of a subspace: where its probe reads no more of a factor than one of a random
    projection of the whole vector does, the choice of its directions added nothing. At the full
    width it is a random rotation.
    Raises: `ValueError` for a width below 1 or above d.
    """
    x = np.asarray(x, dtype=np.float64)
    d = x.shape[1]
    if not 1 <= width <= d:
        raise ValueError(f"width: got {width}; expected 1 to {d}, the width of the vectors")
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((d, width)))
    return x @ (q * np.sign(np.diag(r)))  # (n, width)
