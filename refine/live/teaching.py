"""The task of a page that teaches an encoder a factor: `refine heads fit` with its progress."""

from typing import Any

from refine.runs import Run


def work(run: Run, resume: bool) -> dict[str, Any]:
    """Fit and keep a head; the result names its factor and what it can do."""
    from refine import encoders, heads
    from refine.corpus import open_corpus
    from refine.head_fitting import fit
    from refine.worker import progress

    report, config = progress(run), run.config
    corpus = open_corpus(config["corpus"], progress=lambda *n: report("opening the corpus", *n))
    head = fit(
        encoders.load(config["encoder"]), corpus, config["options"]["factor"], progress=report
    )
    path = heads.save(head, config["encoder"])
    return {"factor": head.info.factor, "path": str(path), "says": head.info.statement}
