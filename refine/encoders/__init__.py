"""Speech encoders: `load` opens one, `peek` describes one without loading torch."""

from typing import TYPE_CHECKING, Any

from refine.encoders.folder import EncoderError, EncoderInfo, is_encoder, locate, peek

if TYPE_CHECKING:
    from refine.encoders.encoder import Encoder, Hidden
    from refine.encoders.pretrained import load

__all__ = [
    "Encoder",
    "EncoderError",
    "EncoderInfo",
    "Hidden",
    "is_encoder",
    "load",
    "locate",
    "peek",
]


def __getattr__(name: str) -> Any:
    # torch is loaded with the first encoder, not with the first page that names one
    if name in {"Encoder", "Hidden", "load"}:
        from refine.encoders import pretrained

        return getattr(pretrained, name)
    raise AttributeError(f"module 'refine.encoders' has no attribute {name!r}")
