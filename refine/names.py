"""What metrics are called where people read them, and in half a sentence what they say."""

# metric -> (name, what it says)
METRICS: dict[str, tuple[str, str]] = {
    "isoscore": ("IsoScore", "share of the dimensions that are used equally"),
    "partition": ("Partition isotropy", "no direction stands out"),
    "mean_cosine": ("Mean cosine", "of two random clips"),
    "effective_rank": ("Effective rank", "directions in use, after centring"),
    "rankme": ("RankMe", "directions in use, as they are"),
    "uniformity": ("Uniformity", "lower: spread over the sphere"),
    "uar": ("UAR", "mean recall of a class"),
    "probe_uar": ("Probe UAR", "a linear probe on unheard voices"),
    "probe_accuracy": ("Probe accuracy", "share a linear probe gets right"),
    "probe_macro_f1": ("Probe macro-F1", "precision and recall of the probe"),
    "probe_bits": ("Probe bits", "bits that a linear probe reads"),
    "knn_uar": ("kNN UAR", "by the five nearest clips"),
    "knn_accuracy": ("kNN accuracy", "by the five nearest clips"),
    "shot_1": ("1-shot accuracy", "one known clip a class"),
    "shot_5": ("5-shot accuracy", "five known clips a class"),
    "shot_10": ("10-shot accuracy", "ten known clips a class"),
    "silhouette": ("Silhouette", "nearer to its own class than to the next"),
    "davies_bouldin": ("Davies–Bouldin", "overlap with the worst neighbour class"),
    "spread_ratio": ("Spread ratio", "within a class over between classes"),
    "nc1": ("NC1", "within-class noise over class spread"),
    "cdnv": ("CDNV", "variance over squared distance of class pairs"),
    "explained": ("Variance explained", "share of the spread that is this factor"),
    "alignment": ("Alignment", "squared distance of clips of one class"),
    "within_spread": ("Within-class spread", "in the space's own units"),
    "between_centroids": ("Between-class distance", "in the space's own units"),
    "nc2_equinorm": ("NC2, equal norms", "class means of unequal length"),
    "nc2_equiangle": ("NC2, equal angles", "class means at unequal angles"),
    "eer": ("EER", "same or not, by cosine alone"),
    "min_dcf": ("minDCF", "cost of the best threshold, P = 0.05"),
    "min_dcf_05": ("minDCF, P = 0.05", "cost of the best threshold"),
    "min_dcf_01": ("minDCF, P = 0.01", "cost of the best threshold"),
    "leakage_bits": ("Leakage", "bits that a probe reads here"),
    "chance": ("Chance", "always the commonest class"),
    "projection_accuracy": ("Random projection", "the same probe on directions nobody chose"),
}
# of a factor, what is drawn first; the rest stands in the table
HEADLINE = (
    "probe_uar", "knn_uar", "eer", "shot_5", "explained", "silhouette", "davies_bouldin", "cdnv",
)  # fmt: skip


def name(metric: str) -> str:
    """How a metric reads.

    >>> name("eer"), name("some_thing")
    ('EER', 'some thing')
    """
    return METRICS.get(metric, (metric.replace("_", " "), ""))[0]


def gist(metric: str) -> str:
    """What it says, or nothing."""
    return METRICS.get(metric, ("", ""))[1]


def short(value: float | None) -> str:
    """Three significant digits, with a real minus.

    >>> short(0.12345), short(-3.0), short(25071.3), short(None)
    ('0.123', '−3.00', '25,071', '–')
    """
    if value is None:
        return "–"
    if value and not 1e-3 <= abs(value) < 1000:
        text = f"{value:,.0f}" if abs(value) >= 1 else f"{value:.5f}".rstrip("0")
    else:
        text = f"{value:#.3g}".rstrip(".")
    return text.replace("-", "−")


def signed(value: float) -> str:
    """The same with its sign.

    >>> signed(0.05), signed(-0.05)
    ('+0.0500', '−0.0500')
    """
    return ("" if value < 0 else "+") + short(value)
