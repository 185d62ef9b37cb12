"""Which weights of an encoder a recipe trains: all, the transformer, its norms, or a LoRA.

parameters = choose(encoder, "lora", lora_rank=8)
"""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from refine.encoders.encoder import Choice, Encoder

Train = Literal["all", "transformer", "norms", "lora"]

# queries, keys, values, output and the feed-forward of every family's transformer layers
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense")
ADAPTER = "default"  # PEFT's name for the only one


class TrainableError(ValueError):
    """Weights that an encoder does not have, or that cannot be chosen any more."""


def choose(
    encoder: Encoder,
    train: Train,
    lora_rank: int = 8,
    lora_alpha: int | float = 16,
    seed: int = 0,
) -> list[nn.Parameter]:
    """Set what of the encoder is trained; a projector is left as it is.

    Args:
        train: all; transformer: all but the convolutions at the input; norms: gains and biases of
            the transformer; lora: low-rank additions (Hu et al. 2021, arXiv 2106.09685) to its
            attention and feed-forward, which start at exactly 0.
        lora_rank: rank of each addition. lora_alpha: the addition is scaled by alpha / rank.
        seed: of the random half of each addition.
    Returns: the trained parameters, in the order of the module.
    Raises: `TrainableError` for an encoder without a transformer, a rank that is none, and a
        choice after a LoRA.
    """
    model = encoder.model
    if train != "all" and not hasattr(model, "feature_extractor"):
        raise TrainableError(
            f"train: got {train}; {encoder.name} is no transformer, so all of it is trained or "
            "nothing; use all"
        )
    if encoder.choice is not None and encoder.choice.train == "lora":
        raise TrainableError(
            f"train: {encoder.name} already carries a LoRA that is not saved; save it and load the "
            "result, which takes another one"
        )
    if train == "lora":
        _inject(encoder, lora_rank, float(lora_alpha), seed)
    for name, parameter in model.named_parameters():
        wanted = {"norms": parameter.ndim == 1, "lora": ".lora_" in name}
        parameter.requires_grad_(wanted.get(train, True))
    if train != "all":
        model.feature_extractor._freeze_parameters()
    lora = train == "lora"
    encoder.choice = Choice(train, lora_rank if lora else 0, float(lora_alpha) if lora else 0.0)
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def merged(model: Any) -> Any:
    """A copy of a model with its LoRA added to the weights; the model itself when it has none."""
    if not hasattr(model, "peft_config"):
        return model
    return merge(copy.deepcopy(model))


def merge(model: Any) -> Any:
    """Add a LoRA to the weights, in place, so that a plain model is left."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            base = module.get_base_layer()
            base.requires_grad_(True)
            model.set_submodule(name, base)
    del model.peft_config
    model._hf_peft_config_loaded = False
    return model


def adapter_state(model: Any) -> dict[str, Tensor]:
    """The LoRA's own weights under the names PEFT gives them in a file."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, adapter_name=ADAPTER)
    return {f"base_model.model.{name}": value for name, value in state.items()}


def attach(model: Any, config: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Put a saved LoRA into a model and add it to the weights.

    Raises: `ValueError` where it does not fit, naming the first weight that does not.
    """
    from peft import inject_adapter_in_model, set_peft_model_state_dict

    inject_adapter_in_model(_lora(config), model, adapter_name=ADAPTER)
    own = adapter_state(model)
    if off := sorted(set(own) ^ set(state)):
        raise ValueError(
            f"{off[0]} is {'missing' if off[0] in own else 'not a weight of its base'}"
        )
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise ValueError(f"{name} is {tuple(value.shape)}, not {tuple(own[name].shape)}")
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinite weights")
    set_peft_model_state_dict(
        model, {name.removeprefix("base_model.model."): v.float() for name, v in state.items()}
    )
    merge(model)


def lora_config(rank: int, alpha: float) -> dict[str, Any]:
    """A LoRA's description, in PEFT's words."""
    return {"r": rank, "lora_alpha": alpha, "target_modules": list(LORA_TARGETS)}


def _lora(config: dict[str, Any]) -> Any:
    from peft import LoraConfig

    # task_type stays unset: PEFT's tasks are those of text models and refuse speech encoders
    kept = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora")
    return LoraConfig(**{name: config[name] for name in kept if name in config})


def _inject(encoder: Encoder, rank: int, alpha: float, seed: int) -> None:
    from peft import inject_adapter_in_model

    if not 1 <= rank <= encoder.dim:
        raise TrainableError(f"lora_rank: got {rank}; expected 1 to {encoder.dim}")
    if alpha <= 0:
        raise TrainableError(f"lora_alpha: got {alpha}; expected more than 0")
    # drawn on their own, so that a LoRA does not depend on what was drawn before it
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inject_adapter_in_model(_lora(lora_config(rank, alpha)), encoder.model, ADAPTER)
    _see_through(encoder.model)


def _see_through(model: nn.Module) -> None:
    """Let networks that read `layer.weight` (WavLM's attention) read it with the LoRA added."""
    from peft.tuners.lora import Linear

    class Effective(Linear):
        @property
        def weight(self) -> Tensor:
            plain: Any = self.get_base_layer().weight
            return plain if self.merged else plain + self.get_delta_weight(ADAPTER)

    for module in model.modules():
        if type(module) is Linear:
            module.__class__ = Effective
