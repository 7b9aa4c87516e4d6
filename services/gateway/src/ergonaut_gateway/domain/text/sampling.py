"""How the next token is drawn from what a model finds likely: by temperature, nucleus and penalties as OpenAI has them."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ergonaut_gateway.domain.tensors import Tensor

TEMPERATURE_MIN = 1e-4
"""Below it the likeliest token has all likelihood anyway, and numbers would become too large."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw. At temperature 0 the likeliest is taken; `top_p` keeps the likeliest that have so much of all likelihood."""

    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    """Taken from a token's logit for each time that it was drawn."""
    presence_penalty: float = 0.0
    """Taken once from the logits of tokens that were drawn."""
    seed: int | None = None
    """The same seed draws the same tokens from the same model; without one chance decides."""


class Sampler:
    """Draws the tokens of one answer."""

    def __init__(self, sampling: Sampling, chance_seed: int) -> None:
        self._sampling = sampling
        self._drawn: Counter[int] = Counter()
        seed = chance_seed if sampling.seed is None else sampling.seed
        self._random = np.random.default_rng(seed % 2**64)

    def draw(self, logits: Tensor) -> int:
        """The next token, by the logits of all tokens."""
        scores = self._penalized(logits.astype(np.float64))
        if self._sampling.temperature < TEMPERATURE_MIN:
            token = int(np.argmax(scores))
        else:
            likely = likelihoods(scores / self._sampling.temperature)
            places = nucleus(likely, self._sampling.top_p)
            steps = np.cumsum(likely[places])
            # Rounding could lead the draw past the last one.
            at = min(int(np.searchsorted(steps, self._random.random() * steps[-1], side="right")), len(places) - 1)
            token = int(places[at])
        self._drawn[token] += 1
        return token

    def _penalized(self, scores: Tensor) -> Tensor:
        sampling = self._sampling
        if self._drawn and (sampling.frequency_penalty or sampling.presence_penalty):
            tokens = list(self._drawn)
            times = np.array([self._drawn[token] for token in tokens], np.float64)
            scores[tokens] -= sampling.frequency_penalty * times + sampling.presence_penalty
        return scores


def likelihoods(scores: Tensor) -> Tensor:
    """Of all tokens, adding up to 1."""
    raised = np.exp(scores - np.max(scores))
    likely: Tensor = raised / raised.sum()
    return likely


def nucleus(likely: Tensor, top_p: float) -> Tensor:
    """The fewest tokens that have at least `top_p` of all likelihood."""
    if top_p >= 1.0:
        return np.arange(len(likely))
    # All that are less likely than this have less than the rest together, so none of them can be kept: a vocabulary of 150,000
    # need not be sorted for the few that are.
    candidates = np.flatnonzero(likely >= (1.0 - top_p) / len(likely))
    ordered = candidates[np.argsort(-likely[candidates], kind="stable")]
    count = int(np.searchsorted(np.cumsum(likely[ordered]), top_p, side="left")) + 1
    kept: Tensor = ordered[:count]
    return kept
