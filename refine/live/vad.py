"""Voice activity: silero-vad 6 in numpy, its state held outside, so that one copy serves everybody.

The weights are the safetensors file of the `silero-vad` wheel (MIT); a test compares every frame
with the wheel's own network. https://github.com/snakers4/silero-vad
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float

FRAME = 512  # samples, 32 ms: what the network was trained on at 16 kHz
CONTEXT = 64  # samples of the frame before that it also sees
WIDTH = 128  # of its LSTM
WEIGHTS = "silero_vad_16k.safetensors"


class VadError(ValueError):
    """The voice activity network is not there. The message says what to install."""


class Vad:
    """Probability of speech, frame by frame, of one stream."""

    def __init__(self) -> None:
        self._weights = _weights()
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._context = np.zeros(CONTEXT, np.float32)
        self._hidden = np.zeros(WIDTH, np.float32)
        self._cell = np.zeros(WIDTH, np.float32)

    def __call__(self, frame: Float[np.ndarray, " 512"]) -> float:
        """Probability that this frame, which follows the last one, holds speech.

        Raises: `ValueError` for a frame of another length.
        """
        if frame.shape != (FRAME,):
            raise ValueError(f"frame: got shape {frame.shape}; expected ({FRAME},) at 16 kHz")
        return float(self.many(frame[None])[0])

    def many(self, frames: Float[np.ndarray, "n 512"]) -> Float[np.ndarray, " n"]:
        """Frames that follow each other; together they cost less than one by one."""
        w = self._weights
        samples = np.empty((len(frames), CONTEXT + FRAME), np.float32)
        samples[:, CONTEXT:] = frames
        samples[0, :CONTEXT], samples[1:, :CONTEXT] = self._context, frames[:-1, -CONTEXT:]
        self._context = samples[-1, -CONTEXT:].copy()
        x = _spectrum(samples, w["stft_conv.weight"])  # (n, 4, 129)
        for layer, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
            x = np.maximum(_convolve(x, w[f"{layer}.weight"], w[f"{layer}.bias"], stride), 0)
        came = x[:, 0] @ w["lstm_cell.weight_ih"].T + w["lstm_cell.bias_ih"]
        came += w["lstm_cell.bias_hh"]
        hidden = np.empty((len(frames), WIDTH), np.float32)
        for row, one in enumerate(came):
            gates = (one + w["lstm_cell.weight_hh"] @ self._hidden).reshape(4, WIDTH)
            soft = _sigmoid(gates)  # enter, forget, (new), out
            self._cell = soft[1] * self._cell + soft[0] * np.tanh(gates[2])
            self._hidden = hidden[row] = soft[3] * np.tanh(self._cell)
        score = np.maximum(hidden, 0) @ w["final_conv.weight"][0, :, 0] + w["final_conv.bias"][0]
        return _sigmoid(score)


def _spectrum(samples: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Magnitudes of 4 frames of 256 samples, hop 128, mirrored at the end. (n, 4, 129)"""
    padded = np.concatenate([samples, samples[:, -2 : -2 - CONTEXT : -1]], axis=1)
    frames = np.stack([padded[:, at : at + 256] for at in range(0, 385, 128)], axis=1)
    both = frames @ basis[:, 0].T
    half = basis.shape[0] // 2
    return np.sqrt(both[..., :half] ** 2 + both[..., half:] ** 2)


def _convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """A convolution over time with one frame of padding. (n, time, in) -> (n, time, out)"""
    n, time, width = x.shape
    padded = np.zeros((n, time + 2, width), x.dtype)
    padded[:, 1:-1] = x
    starts = range(0, time, stride)
    windows = np.stack([padded[:, at : at + 3] for at in starts], axis=1)  # (n, out time, 3, in)
    flat = windows.transpose(0, 1, 3, 2).reshape(n, len(starts), -1)  # (…, in * kernel)
    return flat @ weight.reshape(len(weight), -1).T + bias


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))


@cache
def _weights() -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    # found, not imported: importing it would load torch
    spec = importlib.util.find_spec("silero_vad")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    path = folder / "data" / WEIGHTS if folder else None
    if path is None or not path.is_file():
        raise VadError(
            "silero-vad 6.2.3 or newer is not installed; pip install 'silero-vad>=6.2.3'"
        )
    return load_file(path)
