"""Recipes: one file a paper. Nothing here loads torch, so that a page can show the options."""

from dataclasses import dataclass
from typing import Any

# name -> "module:class of its options"; the module also holds PRESETS, train and estimate
RECIPES: dict[str, str] = {
    "rewire": "refine.recipes.rewire:Rewire",
    "two_step": "refine.recipes.two_step:TwoStep",
    "dino": "refine.recipes.dino:Dino",
    "interventional": "refine.recipes.interventional:Interventional",
}


@dataclass(frozen=True)
class Preset:
    """Options that belong together, and why."""

    config: Any
    reason: str
