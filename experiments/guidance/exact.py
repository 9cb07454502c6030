"""Guidance of labels on the clean and on the one-step law, in worlds small enough to enumerate: docs/guidance.md.

    python experiments/guidance/exact.py        # two minutes, one core; prints the table, writes exact.json

A world is a law of n labels of K classes for each of 4 texts, drawn at random, with exact predictions. Both samplers
start from uniform labels and take their steps on the cosine schedule, the law after every step by enumeration. Of each
the total variation from p(y | text)^s p(y)^(1-s), the probability of the text given a drawn layout, and the entropy.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from scipy.stats import t as student

TEXTS, WORLDS, STEPS = 4, 40, 64
SETTINGS = ((1, 3, 3.0), (3, 3, 1.5), (3, 3, 3.0), (3, 4, 2.0), (2, 8, 3.0))  # n, K, s
ROWS = ("unguided", "clean", "one-step", "sharpened")


def leave_one_out(law, states, classes, keep):
    """p(y_i = k | the other pixels' noisy labels): (states, n, K) of the law of clean labels (states,)."""
    n, noise = states.shape[1], keep * np.eye(classes) + (1 - keep) / classes
    numbers = np.zeros((*states.shape, classes))
    for i in range(n):
        joint = law.reshape((classes,) * n)
        for j in set(range(n)) - {i}:
            joint = np.moveaxis(np.tensordot(joint, noise, axes=(j, 0)), -1, j)
        joint = np.moveaxis(joint, i, -1)
        joint = joint / joint.sum(axis=-1, keepdims=True)
        numbers[:, i] = joint[tuple(np.delete(states, i, axis=1).T)]
    return numbers


def one_step(clean, states, keep_s, keep_t):
    """q(y_s = k | y_t) of each pixel: (states, n, K)."""
    classes, ratio = clean.shape[-1], keep_t / keep_s
    weights = ratio * (states[..., None] == np.arange(classes)) + (1 - ratio) / classes
    return normalised((keep_s * clean + (1 - keep_s) / classes) * weights)


def normalised(weights):
    return weights / weights.sum(axis=-1, keepdims=True)


def world(seed: int, n: int, classes: int, scale: float) -> dict[str, tuple[float, float, float]]:
    """Distance, probability of the text and entropy (nats), by row."""
    states = np.array(list(itertools.product(range(classes), repeat=n)))
    laws = np.random.default_rng(seed).dirichlet(np.full(len(states), 0.3), size=TEXTS) * 0.98 + 0.02 / len(states)
    said, any_text = laws[0], laws.mean(axis=0)
    target = normalised(said**scale * any_text ** (1 - scale))
    keeps = np.cos(np.linspace(1, 0, STEPS + 1) * np.pi / 2) ** 2
    keeps[0] = 0.0

    def sample(row: str):
        law = np.full(len(states), 1 / len(states))
        for keep_t, keep_s in itertools.pairwise(keeps):
            full, without = (leave_one_out(p, states, classes, keep_t) for p in (said, any_text))
            if row == "clean":
                moves = one_step(normalised(full**scale * without ** (1 - scale)), states, keep_s, keep_t)
            else:
                moves, other = (one_step(p, states, keep_s, keep_t) for p in (full, without))
                moves = normalised(moves**scale * other ** (1 - scale)) if row == "one-step" else moves
            law = law @ np.prod([moves[:, i][:, states[:, i]] for i in range(n)], axis=0)
        return law

    numbers = {}
    for row in ROWS:
        law = target if row == "sharpened" else sample(row)
        entropy = -(law * np.log(np.maximum(law, 1e-300))).sum()
        numbers[row] = (0.5 * np.abs(law - target).sum(), (law * said / (TEXTS * any_text)).sum(), entropy)
    return numbers


def main() -> None:
    results = []
    for n, classes, scale in SETTINGS:
        worlds = [world(seed, n, classes, scale) for seed in range(WORLDS)]
        rows = {row: np.array([w[row] for w in worlds]) for row in ROWS}
        more = rows["one-step"][:, 0] - rows["clean"][:, 0]
        half = student.ppf(0.975, WORLDS - 1) * more.std(ddof=1) / WORLDS**0.5
        means = {row: [round(float(v), 3) for v in numbers.mean(axis=0)] for row, numbers in rows.items()}
        interval = [round(float(more.mean() + side * half), 3) for side in (-1, 1)]
        results.append(
            {"labels": n, "classes": classes, "scale": scale, "means": means, "one_step_further_by": interval}
        )
        cells = " | ".join(f"{means[row][0]:.3f} | {means[row][1]:.3f} | {means[row][2]:.2f}" for row in ROWS[1:3])
        gap = f"{more.mean():+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})"
        print(f"| {n} of {classes}, s = {scale:g} | {cells} | {gap} |", flush=True)
    Path(__file__).with_name("exact.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
