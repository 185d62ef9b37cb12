"""Make `assets/clips`: six short clips, so that a fresh installation has something to open.

    python tools/make_sample_clips.py

Takes a second. Expected: 6 Ogg Opus clips of 3 speakers, under 60 kB together, and `clips.csv`.
"""

from refine.demo import ROOT, sentences, speakers, write_grid

SPEAKERS = ("v01", "v10", "v12")  # one of each split, two of them female


def main() -> None:
    folder = ROOT / "assets/clips"
    folder.mkdir(parents=True, exist_ok=True)
    cast = [speaker for speaker in speakers() if speaker.name in SPEAKERS]
    write_grid(folder, cast, sentences()[:2], "ogg")
    sizes = [path.stat().st_size for path in folder.glob("*.ogg")]
    print(f"{len(sizes)} clips, {sum(sizes) / 1000:.0f} kB in assets/clips")


if __name__ == "__main__":
    main()
