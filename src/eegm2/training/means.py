"""Running means of losses, of one store and of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Means:
    """Running means of the losses over windows, in double precision; plain numbers, so exactly resumable.

    Parameters
    ----------
    names : sequence of str
        The loss and its terms, as the objective has them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.sums = [0.0] * (len(self.names) + 1)

    def add(self, values: Sequence[float], n: int) -> None:
        """Count the losses of `n` windows."""
        self.sums = [a + b * n for a, b in zip(self.sums, (*values, 1.0))]

    def values(self) -> dict[str, float]:
        """Return the means by name; empty if nothing was counted."""
        *sums, n = self.sums
        return {name: total / n for name, total in zip(self.names, sums)} if n else {}


def together(means: Mapping[str, Means], shares: Mapping[str, float]) -> dict[str, float]:
    """Return the means of several stores as one, weighted by their shares, and the loss of each.

    Parameters
    ----------
    means : mapping of str to Means
        By the store's name; stores of which nothing was counted are left out.
    shares : mapping of str to float
        Of the training; they need not add up to 1.

    Returns
    -------
    dict
        Mean by name, and ``loss/STORE`` where there are several.
    """
    found = {store: values for store, mean in means.items() if (values := mean.values())}
    if len(shares) == 1:
        return next(iter(found.values()), {})
    whole = sum(shares[store] for store in found)
    names = next(iter(found.values()), {})
    weighted = {
        name: sum(shares[store] * values[name] for store, values in found.items()) / whole for name in names
    }
    return weighted | {f"loss/{store}": values["loss"] for store, values in found.items()}
