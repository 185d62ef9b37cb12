"""Speech encoders: `load` opens one, `peek` describes one without loading torch."""

from typing import TYPE_CHECKING, Any

from refine.encoders.folder import EncoderError, EncoderInfo, locate, peek

if TYPE_CHECKING:
    from refine.encoders.pretrained import Encoder, Hidden, load

__all__ = ["Encoder", "EncoderError", "EncoderInfo", "Hidden", "load", "locate", "peek"]


def __getattr__(name: str) -> Any:
    # torch is loaded with the first encoder, not with the first page that names one
    if name in {"Encoder", "Hidden", "load"}:
        from refine.encoders import pretrained

        return getattr(pretrained, name)
    raise AttributeError(f"module 'refine.encoders' has no attribute {name!r}")
