"""What a pretraining run can be told, with what was used for the shipped encoder as default."""

from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """One pretraining run."""

    corpora: tuple[Path, ...]
    """Folders with clips.csv: their train split is heard, or all of it where there is none."""
    noise: Path
    """Noise corpus (train split), mixed in at 5 to 30 dB."""
    rir: Path
    """Measured room impulse responses; simulated ones are added."""
    out: Path
    """Where the encoder is written, in `save_pretrained` layout."""
    work: Path = Path(".cache/pretrain/work")
    """Prepared audio, labels and checkpoints; safe to delete afterwards."""
    steps: int = 0
    """Length of the run in steps; 0 = by `minutes`."""
    minutes: float = 60.0
    """Length of the run in minutes of training, over all its resumptions."""
    resume: bool = False
    """Continue from the checkpoint in `work`."""
    seed: int = 0
    """Of the initialisation, the codebooks and the batches."""
    width: int = 256
    """Size of a hidden state; a multiple of 64."""
    layers: int = 6
    """Transformer layers."""
    warm_up: int = 150
    """Steps in which the convolutions learn to give log-mel energies, before everything else."""
    seconds: float = 80.0
    """Audio in a batch."""
    peak_rate: float = 1.2e-3
    """Peak learning rate of AdamW."""
    voice_share: float = 0.5
    """Share of batches whose pairs agree in voice; the others agree in words."""
    synthetic: int = 4000
    """Texts spoken by espeak-ng, each in two voices; 0 = recorded speech alone."""
    synthetic_share: float = 0.25
    """Share of the drawn crops that is synthesised."""
    second_round: float = 0.4
    """Progress at which the network's own hidden states become targets; 1 = never."""
    own_layer: int = 4
    """Layer whose hidden states are clustered for the second round."""
    voice_weight: float = 0.6
    """Weight of the agreement of two crops of one recording; more costs words."""
    voice_layer: int = 3
    """Hidden state that this agreement, timbre and prosody are asked of."""
    words_weight: float = 0.25
    """Weight of the agreement of one crop with itself in another voice; more costs the voice."""
    words_layer: int = 5
    """Hidden state that agreement is asked of."""
    timbre_weight: float = 0.3
    """Weight of the masked prediction of timbre codes."""
    prosody_weight: float = 0.3
    """Weight of the masked prediction of prosody codes."""
    spectrum_weight: float = 0.0
    """Weight of the log-mel energies that the first 40 channels of one layer must be; 0 = none. The
    shipped encoder had none for 60 minutes, then 1 and 3 for 50."""
    spectrum_layer: int = 2
    """Hidden state these channels are of."""
    export_every: float = 8.0
    """Minutes between two exports (and checkpoints every 4)."""
    processes: int = 2
    """Processes that share each batch, one core each."""

    def __post_init__(self) -> None:
        if not self.corpora:
            raise ValueError("corpora: got none, expected at least one folder with clips.csv")
        for name in ("voice_layer", "words_layer", "own_layer", "spectrum_layer"):
            if not 0 <= getattr(self, name) <= self.layers:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected 0 to {self.layers}")
        if not 0 <= self.voice_share <= 1:
            raise ValueError(f"voice_share: got {self.voice_share}, expected 0 to 1")
        if self.processes < 1:
            raise ValueError(f"processes: got {self.processes}, expected 1 or more")

    def reading_layers(self) -> dict[str, int]:
        """The hidden state each loss reads."""
        return {
            "content": self.layers,
            "own": self.layers,
            "timbre": self.voice_layer,
            "prosody": self.voice_layer,
            "spectrum": self.spectrum_layer,
            "voice": self.voice_layer,
            "words": self.words_layer,
        }

    def weights(self, own: bool) -> dict[str, float]:
        """The weight of each loss, before and after the second round begins."""
        return {
            "content": 0.3 if own else 1.0,
            "own": 1.0,
            "timbre": self.timbre_weight,
            "prosody": self.prosody_weight,
            "spectrum": self.spectrum_weight,
            "voice": self.voice_weight,
            "words": self.words_weight,
        }

    def described(self) -> dict:
        """For training.json: every setting, folders by name alone."""
        values = asdict(self)
        values["corpora"] = [folder.name for folder in self.corpora]
        for name in ("noise", "rir", "out"):
            values[name] = values[name].name
        return {name: v for name, v in values.items() if name not in ("work", "resume")}
