"""Slow versions, written loop by loop from the papers' equations. The tests' first oracle."""

import numpy as np


def isoscore(x):
    """Rudman et al. 2022 as published: PCA variances, normalised, distance delta, rescaled."""
    n = x.shape[1]  # the paper's n is the dimension
    centred = x - x.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2 / (len(x) - 1)
    variances = np.concatenate([variances, np.zeros(n - len(variances))])
    hat = np.sqrt(n) * variances / np.sqrt((variances**2).sum())
    delta = np.sqrt(((hat - 1) ** 2).sum()) / np.sqrt(2 * (n - np.sqrt(n)))
    return ((n - delta**2 * (n - np.sqrt(n))) ** 2 - n) / (n * (n - 1))


def participation_ratio(x):
    eigenvalues = np.linalg.eigvalsh(np.cov(x, rowvar=False))
    return eigenvalues.sum() ** 2 / (eigenvalues**2).sum()


def isoscore_star(x, zeta, prior):
    """Rudman & Eickhoff 2024: the delta formula on singular values of the shrunk covariance."""
    n = x.shape[1]
    variances = np.linalg.svd((1 - zeta) * np.cov(x, rowvar=False) + zeta * prior)[1]
    hat = np.sqrt(n) * variances / np.sqrt((variances**2).sum())
    delta = np.sqrt(((hat - 1) ** 2).sum()) / np.sqrt(2 * (n - np.sqrt(n)))
    return ((n - delta**2 * (n - np.sqrt(n))) ** 2 - n) / (n * (n - 1))


def partition_isotropy(x):
    """Mu & Viswanath 2018 by definition, on unit rows, every eigenvector with both signs."""
    unit = [row / np.sqrt((row**2).sum()) for row in x]
    _, vectors = np.linalg.eigh(np.array(unit).T @ np.array(unit))
    values = []
    for k in range(vectors.shape[1]):
        for sign in (1, -1):
            values.append(sum(np.exp(sign * vectors[:, k] @ row) for row in unit))
    return min(values) / max(values)


def mean_cosine(x):
    return np.mean([_cosine(x[i], x[j]) for i in range(len(x)) for j in range(len(x)) if i != j])


def effective_rank(x):
    """Roy & Vetterli 2007 on the centred matrix: sigma, not sigma squared."""
    return np.exp(_entropy(np.linalg.svd(x - x.mean(axis=0), compute_uv=False), 0.0))


def rankme(x):
    """Garrido et al. 2023: not centred, eps 1e-7 added to every share."""
    return np.exp(_entropy(np.linalg.svd(x, compute_uv=False), 1e-7))


def uniformity(x, t=2.0):
    """Wang & Isola 2020 by a double loop."""
    unit = [row / np.sqrt((row**2).sum()) for row in x]
    terms = []
    for i in range(len(unit)):
        for j in range(len(unit)):
            if i != j:
                terms.append(np.exp(-t * ((unit[i] - unit[j]) ** 2).sum()))
    return np.log(np.mean(terms))


def nt_xent(a, b, temperature):
    """NT-Xent as in Yang et al. 2022: returns the loss and retrieval@1 over all ordered pairs."""
    vectors, labels = [*a, *b], [*range(len(a)), *range(len(b))]
    losses, hits = [], []
    for i in range(len(vectors)):
        for j in range(len(vectors)):
            if i == j or labels[i] != labels[j]:
                continue
            positive = np.exp(_cosine(vectors[i], vectors[j]) / temperature)
            negatives = [
                np.exp(_cosine(vectors[i], vectors[k]) / temperature)
                for k in range(len(vectors))
                if labels[k] != labels[i]
            ]
            losses.append(-np.log(positive / (positive + sum(negatives))))
            hits.append(positive > max(negatives))
    return np.mean(losses), np.mean(hits)


def neighbours_kept(x, xy, k):
    """Share of the k nearest by cosine that are among the k nearest on the map."""
    kept = []
    for i in range(len(x)):
        far = [1 - _cosine(x[i], other) for other in x]
        on_map = [((xy[i] - other) ** 2).sum() for other in xy]
        far[i] = on_map[i] = np.inf
        kept.append(len({*np.argsort(far)[:k]} & {*np.argsort(on_map)[:k]}) / k)
    return np.mean(kept)


def _cosine(u, v):
    return u @ v / np.sqrt((u @ u) * (v @ v))


def _entropy(sigma, eps):
    total = 0.0
    for value in sigma:
        p = value / sigma.sum() + eps
        if p > 1e-14:
            total -= p * np.log(p)
    return total
