"""Tasks of pretraining said again in plain numbers: targets, terms, masks, noise, and the whole of them."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from eegm2.data.config import WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import INDEX_DTYPE, WindowDataset
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.pooled import PoolWindows
from eegm2.training.config import PretrainConfig
from eegm2.training.first_network import first_network
from eegm2.training.objectives.augment import FEWEST, Augment
from eegm2.training.objectives.base import Origin, Setting, make_objective, window_seed
from eegm2.training.objectives.hiding import hidden_patches
from eegm2.training.objectives.neighbours import Neighbourhoods, neighbour_means
from eegm2.training.objectives.options import AugmentOptions, ObjectiveOptions, OscillatoryOptions
from eegm2.training.objectives.oscillatory import Oscillatory
from eegm2.training.objectives.reconstruction import Reconstruction, add_noise, hide, reconstruction_loss
from eegm2.training.objectives.regularise import contrast_term, covariance_term, variance_term
from eegm2.training.objectives.targets import BandPower, Standard, less_mean
from tests.laws.test_features_by_definition import known_by_counting
from tests.training.stores import tiny_store

CHANNELS = ("Fp1", "Fp2", "C3", "C4", "O1", "O2", "Pz")
OSCILLATORY = PretrainConfig(
    preset="covariance",
    objective="oscillatory",
    width=4,
    network=("n_virtual=5",),
    window_s=2.0,
    batch_size=8,
    windows_per_recording=4,
    contrast=0.5,
    contrast_temperature=0.3,
    hide_radius=1.2,
    accelerator="cpu",
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RecordingStore:
    return tiny_store(tmp_path_factory.mktemp("data") / "s", subjects=3, seconds=9, channels=CHANNELS)


def task(store: RecordingStore, **changes: Any) -> tuple[Any, Oscillatory]:
    torch.manual_seed(0)
    config, pool = dataclasses.replace(OSCILLATORY, **changes), StorePool(store)
    network = first_network(pool, config)
    objective = make_objective(Setting(config, network, pool))
    assert isinstance(objective, Oscillatory)
    return network, objective


# targets


@pytest.mark.parametrize(("rate_hz", "patch"), [(128.0, 64), (128.0, 128), (100.0, 75), (64.0, 64)])
def test_band_power_is_log_power_less_a_line_fitted_to_it(rate_hz: float, patch: int) -> None:
    x = drawn(2, 3, 2 * patch + 5) * torch.tensor([1.0, 1e-4, 1e3])[:, None]
    found = BandPower(rate_hz, patch)(x)
    f = np.fft.rfftfreq(patch, 1 / rate_hz)
    kept = (f >= 1) & (f < min(40, 0.45 * rate_hz))
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(patch) / (patch - 1))
    bands = [
        (low, high)
        for low, high in ((1, 4), (4, 8), (8, 13), (13, 20), (20, 30), (30, 40))
        if ((f[kept] >= low) & (f[kept] < high)).any()
    ]
    assert found.shape == (2, 2, 3 * len(bands))
    for window, place, channel in np.ndindex(2, 2, 3):
        piece = x[window, channel, place * patch : (place + 1) * patch].double().numpy()
        power = np.abs(np.fft.rfft((piece - piece.mean()) * taper)[kept]) ** 2
        log_power = np.log(power + 1e-6 * power.mean())
        line = np.polyval(np.polyfit(np.log(f[kept]), log_power, 1), np.log(f[kept]))
        left = log_power - line
        expected = [left[(f[kept] >= low) & (f[kept] < high)].mean() for low, high in bands]
        n = len(bands)
        np.testing.assert_allclose(found[window, place, n * channel : n * channel + n], expected, atol=2e-4)


def test_targets_are_standardised_by_what_was_seen_of_their_store() -> None:
    """The first batches evenly, then by the decay; limited to five deviations."""
    standard, decay = Standard(2, 3, decay=0.75), 0.75
    mean, square = np.zeros(3), np.ones(3)
    for batch in range(1, 8):
        target = 2 * drawn(5, 4, 3, seed=batch) + torch.tensor([0.0, 3.0, -20.0])
        rows = target.reshape(-1, 3).double().numpy()
        weight = max(1 / batch, 1 - decay)
        mean = (1 - weight) * mean + weight * rows.mean(0)
        square = (1 - weight) * square + weight * (rows**2).mean(0)
        expected = (target.double().numpy() - mean) / np.sqrt(square - mean**2)
        np.testing.assert_allclose(standard(target, 1), expected.clip(-5, 5), atol=1e-3)
        standard(100 * drawn(5, 3, seed=batch), 0)
    standard.eval()
    far = torch.tensor([[1e4, -1e4, 3.0]])
    expected = (far.double().numpy() - mean) / np.sqrt(square - mean**2)
    np.testing.assert_allclose(standard(far, 1), expected.clip(-5, 5), atol=1e-3)


def test_the_usual_average_of_targets_is_of_a_hundred_batches() -> None:
    assert Standard(1, 1).decay == 0.99


def test_less_the_mean_of_all_windows_and_patches_of_the_recording() -> None:
    groups, target = torch.tensor([5, 2, 5, 5, 2]), drawn(5, 4, 3)
    for t in (target, target[:, 0]):
        for window, group in enumerate(groups.tolist()):
            mean = t[groups == group].reshape(-1, 3).mean(0)
            torch.testing.assert_close(less_mean(t, groups)[window], t[window] - mean)


def test_neighbours_are_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    rows = sorted({(int(r), int(s)) for r, s in rng.integers(0, [3, 60], (25, 2))})
    index = np.array([(r, s, -1) for r, s in rows], INDEX_DTYPE)
    vectors = drawn(len(rows), 4)
    found = neighbour_means(vectors, index, n_times=7, reach=19)
    for place, (recording, start) in enumerate(rows):
        own = [i for i, (r, _) in enumerate(rows) if r == recording]
        near = [i for i in own if 7 <= abs(rows[i][1] - start) <= 19]
        if near:
            expected = vectors[near].mean(0) - vectors[own].mean(0)
            torch.testing.assert_close(found[place], expected, atol=1e-5, rtol=1e-5)
        else:
            assert found[place].isnan().all()


def test_neighbourhoods_are_in_deviations_of_their_store_and_limited(tmp_path: Path) -> None:
    stores = [tiny_store(tmp_path / "a", subjects=2), tiny_store(tmp_path / "b", subjects=1, seed=4)]
    config = WindowConfig(window_s=1.0, stride_s=0.5)
    windows = PoolWindows(StorePool(stores), {n: WindowDataset(s, config) for n, s in enumerate(stores)})
    scale = (1.0, 1000.0)

    class Given(torch.nn.Linear):
        def whole(self, x: Tensor) -> Tensor:
            return torch.stack([x.square().mean((1, 2)), x[:, 0].amax(1) ** 9], dim=1)

    found = Neighbourhoods(Given(1, 1), lambda x, store: x * scale[store], reach_s=2.5)  # type: ignore[arg-type]
    made = found(windows, list(range(len(windows)))).double().numpy()
    first = 0
    for number, data in enumerate(windows.datasets):
        x = torch.stack([data[i]["x"] for i in range(len(data))]) * scale[number]
        v = Given(1, 1).whole(x).double()
        v = v / v.std(0, correction=0)
        expected = neighbour_means(v, data.index, 32, 80).clamp(-5, 5)
        np.testing.assert_allclose(made[first : first + len(data)], expected, atol=5e-3, rtol=2e-3)
        first += len(data)
    np.testing.assert_array_equal(found(windows, [3, 1]), made[[3, 1]])


# terms


def test_terms_are_as_in_their_papers() -> None:
    z, other = drawn(7, 4).double(), drawn(7, 4, seed=1).double()
    a, b = z.numpy(), other.numpy()
    below = [max(0.0, 1 - math.sqrt(column.var(ddof=1) + 1e-4)) for column in 0.6 * a.T]
    assert float(variance_term(0.6 * z)) == pytest.approx(sum(below) / 4)
    c = np.cov(a.T)
    apart = sum(c[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4
    assert float(covariance_term(z)) == pytest.approx(apart)
    groups = [0, 1, 0, 2, 1, 0, 3]

    def cosine(i: int, j: int) -> float:
        return float(a[i] @ b[j] / np.linalg.norm(a[i]) / np.linalg.norm(b[j]))

    losses = []
    for i, group in enumerate(groups):
        same = [j for j, g in enumerate(groups) if g == group]
        if len(same) > 1:
            losses.append(-cosine(i, i) / 0.4 + math.log(sum(math.exp(cosine(i, j) / 0.4) for j in same)))
    found = contrast_term(z, other, torch.tensor(groups), 0.4)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("loss", ["l1+spectral", "l1", "mse+spectral"])
@pytest.mark.parametrize("spectrum", ["complex", "amplitude"])
def test_a_reconstruction_costs_what_the_equation_says(masked: bool, loss: Any, spectrum: Any) -> None:
    x, y = drawn(3, 2, 20).double(), drawn(3, 2, 20, seed=1).double()
    hidden = torch.zeros(3, 2, 20, dtype=torch.bool)
    hidden[0, :, 3:9] = hidden[2, 1] = True
    found = reconstruction_loss(
        y,
        x,
        loss=loss,
        spectrum=spectrum,
        norm="ortho",
        alpha=0.7,
        beta=0.3,
        hidden=hidden if masked else None,
    )
    m = hidden.numpy() if masked else np.ones((3, 2, 20))
    a, b = x.numpy() * m, y.numpy() * m
    count = m.sum()
    fa, fb = (np.fft.rfft(v, norm="ortho") for v in (a, b))
    apart = np.abs(fa - fb) if spectrum == "complex" else np.abs(fa) - np.abs(fb)
    spectral = (apart**2).mean() / (count / m.size)
    l1, mse = np.abs(a - b).sum() / count, ((a - b) ** 2).sum() / count
    total = {
        "l1+spectral": 0.7 * l1 + 0.3 * spectral,
        "l1": 0.7 * l1,
        "mse+spectral": 0.7 * mse + 0.3 * spectral,
    }
    assert [float(v) for v in found] == pytest.approx([total[loss], l1, spectral])


# what is hidden, changed and added


def test_seeds_are_the_hash_of_run_epoch_and_window() -> None:
    """Fixed for good: a run that goes on, and another machine, draw the same masks."""
    for run, epoch, window in ((0, 0, 0), (3, 12, 4567), (1, -1, 2)):
        digest = hashlib.blake2b(f"{run}/{epoch}/{window}".encode(), digest_size=7).hexdigest()
        assert window_seed(run, epoch, window) == int(digest, 16)


@pytest.mark.parametrize(
    ("n_times", "n_chans", "patch", "time_share", "channel_share"),
    [
        (64, 6, 8, 0.5, 0.0),
        (64, 6, 8, 0.0, 0.5),
        (70, 5, 8, 0.3, 0.2),
        (64, 4, 32, 0.01, 1.0),
        (64, 4, 64, 0.5, 0),
    ],
)
def test_hidden_are_patches_of_all_channels_and_channels_throughout(
    n_times: int, n_chans: int, patch: int, time_share: float, channel_share: float
) -> None:
    n_patches = math.ceil(n_times / patch)
    mask = hide(
        torch.zeros(50, n_chans, n_times),
        range(50),
        patch=patch,
        time_share=time_share,
        channel_share=channel_share,
    )
    wanted = []
    for share, total in ((time_share, n_patches), (channel_share, n_chans)):
        wanted.append(min(max(1, round(share * total)), max(total - 1, 1)) if share else 0)
    patches_seen, channels_seen = set(), set()
    for window in mask.numpy():
        channels = {c for c in range(n_chans) if window[c].all()}
        rest = window[[c for c in range(n_chans) if c not in channels]]
        patches = (
            {k for k in range(n_patches) if rest[:, k * patch : (k + 1) * patch].all()}
            if len(rest)
            else set()
        )
        expected = np.zeros_like(window)
        for k in patches:
            expected[:, k * patch : (k + 1) * patch] = True
        expected[list(channels)] = True
        np.testing.assert_array_equal(window, expected)
        if n_patches > 1:
            assert (len(patches), len(channels)) == tuple(wanted)
        patches_seen |= patches
        channels_seen |= channels
    if n_patches > 1:
        assert len(patches_seen) == (n_patches if time_share else 0)
        assert len(channels_seen) == (n_chans if channel_share else 0)


def test_chunks_begin_anywhere_but_first() -> None:
    hidden = hidden_patches(range(400), 6, share=0.34, chunks=1)
    begins = [row.index(True) for row in hidden.tolist()]
    counts = np.bincount(begins, minlength=6)
    assert hidden.sum(1).unique().tolist() == [2]
    assert counts[0] == counts[5] == 0
    assert counts[1:5].min() > 60


def test_pops_are_as_often_as_large_and_as_late_as_stated() -> None:
    x = drawn(300, 4, 200)
    spread = x.std(-1, keepdim=True, correction=0)
    added = (add_noise(x, range(300), noise=0.0, pops=0.3) - x) / spread
    popped = added.abs().amax(-1) > 1
    assert float(popped.float().mean()) == pytest.approx(0.3, abs=0.04)
    peaks = torch.gather(added, -1, added.abs().argmax(-1, keepdim=True))[..., 0][popped]
    assert float(peaks.abs().mean()) == pytest.approx(12.5, abs=0.6)
    assert float(peaks.abs().min()) == pytest.approx(5, abs=0.3)
    assert float(peaks.abs().max()) == pytest.approx(20, abs=0.3)
    assert float((peaks > 0).float().mean()) == pytest.approx(0.5, abs=0.08)
    onset = added.abs().argmax(-1)[popped].float()
    assert float(onset.mean()) == pytest.approx(100, abs=8)
    assert float(onset.max()) > 190
    white = (add_noise(x, range(300), noise=0.25, pops=0.0) - x) / spread
    assert float(white.std()) == pytest.approx(0.25, rel=0.02)
    assert abs(float(white.mean())) < 0.005


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_shares_of_augmented_windows_are_those_asked_for(share: float) -> None:
    x, seeds = drawn(800, 6, 8), range(800)

    def some(**options: float) -> Augment:
        return Augment(AugmentOptions(**options), 64.0)

    turned = (some(sign=share).changed(x, seeds) * x).sum((1, 2)) < 0
    assert float(turned.float().mean()) == pytest.approx(share, abs=0.05)
    moved = (some(rereference=share).changed(x, seeds) - x).abs().amax((1, 2)) > 1e-6
    assert float(moved.float().mean()) == pytest.approx(share, abs=0.05)
    kept = some(channel_subsets=share).kept(x, seeds)
    assert kept is not None
    few = (~kept.all(1)).float().mean()
    assert float(few) == pytest.approx(share * 2 / 3, abs=0.05)  # of four to six one size is all
    dropped = some(channel_dropout=0.1).kept(drawn(800, 20, 1), seeds)
    assert dropped is not None
    assert float(dropped.float().mean()) == pytest.approx(0.9, abs=0.01)
    assert FEWEST == 4


def test_a_reference_is_taken_after_gains_and_signs() -> None:
    """A reference recorded with the same gains: what is changed, less some channel or the mean of it."""
    x, seeds = drawn(60, 5, 12), range(60)
    options = {"gain_db": 4.0, "sign": 0.5}
    plain = Augment(AugmentOptions(**options), 64.0).changed(x, seeds)
    moved = Augment(AugmentOptions(**options, rereference=1.0), 64.0).changed(x, seeds)
    off = plain - moved
    torch.testing.assert_close(off, off[:, :1].expand_as(off), atol=1e-5, rtol=1e-5)
    references = torch.cat([plain, plain.mean(1, keepdim=True)], dim=1)
    assert float((references - off[:, :1]).abs().amax(-1).amin(1).max()) < 1e-5


def test_what_the_network_sees_and_what_it_is_to_give() -> None:
    """Gains, signs and references change both; noise, masks and missing channels what is seen alone."""
    x, seeds = drawn(8, 6, 128), list(range(8))
    augmented = AugmentOptions(
        gain_db=2.0, sign=0.5, rereference=0.5, aperiodic_noise=0.4, channel_dropout=0.3
    )
    change = Augment(augmented, 64.0)
    whole = change.changed(x, seeds)
    kept = change.kept(x, seeds)
    assert kept is not None
    masked = ObjectiveOptions(
        objective="masked", mask_patch_s=0.3, mask_time=0.4, mask_channels=0.2, alpha=2.0
    )
    noisy = ObjectiveOptions(objective="denoising", noise=0.7, pops=0.4, beta=0.1)
    mask = hide(x, seeds, patch=19, time_share=0.4, channel_share=0.2)
    shown = {
        "reconstruction": whole,
        "masked": whole.masked_fill(mask, 0.0),
        "denoising": add_noise(whole, seeds, noise=0.7, pops=0.4),
    }
    for options in (ObjectiveOptions(), masked, noisy):
        seen: list[Tensor] = []

        def model(given: Tensor, seen: list[Tensor] = seen) -> Tensor:
            seen.append(given)
            return given + 0.5

        found = Reconstruction(options, 64.0, change)(model, x, seeds)
        expected = change.covered(shown[options.objective], seeds) * kept[..., None]
        torch.testing.assert_close(seen[0], expected)
        loss = reconstruction_loss(
            expected + 0.5,
            whole,
            alpha=options.alpha,
            beta=options.beta,
            hidden=mask if options.objective == "masked" else None,
        )
        torch.testing.assert_close(found.loss, loss.loss)


# the oscillatory objective as a whole


def test_errors_are_means_over_hidden_patches_and_over_windows(store: RecordingStore) -> None:
    _, objective = task(store)
    sizes = objective.sizes
    assert list(sizes) == ["band_power", "tangent", "latent"]
    of_patch, pooled = drawn(3, 4, objective.view.size), drawn(3, objective.view.size, seed=1)
    targets = {name: drawn(3, 4, size, seed=2) for name, size in sizes.items()}
    targets |= {f"pooled_{name}": drawn(3, size, seed=3) for name, size in sizes.items()}
    counted = torch.tensor([[0, 1, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]], dtype=torch.bool)
    with torch.no_grad():
        found = objective._predicted(of_patch, pooled, targets, counted)
        assert objective.pooled_head is not None
        guesses, whole = objective.patch_head(of_patch), objective.pooled_head(pooled)
    first = 0
    for name, size in sizes.items():
        part = slice(first, first + size)
        errors = (guesses[..., part] - targets[name])[counted] ** 2
        assert float(found[name]) == pytest.approx(float(errors.mean()), rel=1e-5)
        errors = (whole[:, part] - targets[f"pooled_{name}"]) ** 2
        assert float(found[f"pooled_{name}"]) == pytest.approx(float(errors.mean()), rel=1e-5)
        first += size


@pytest.mark.parametrize("centre", ["recording", "window", "none"])
@torch.no_grad()
def test_targets_are_of_patches_and_of_the_whole_window(store: RecordingStore, centre: str) -> None:
    network, objective = task(store, centre_targets=centre)
    objective.eval()
    for standard in objective.standards.values():  # so that targets come through as they are
        standard.get_buffer("square").fill_(1.0)
    x, groups = 0.3 * drawn(4, 7, 64), torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1)
    first = copy.deepcopy(objective.teacher)
    assert first is not None
    n_patches = 64 // objective.patch
    found = objective._targets(x, 0, groups, n_patches)
    inner = objective.view.inner(x, 0)
    power = objective.band_powers(inner)
    tangent, whole = objective.tangents(inner)
    if centre == "recording":
        tangent, whole = less_mean(tangent, groups), less_mean(whole, groups)
    if centre == "window":
        tangent = tangent - tangent.mean(1, keepdim=True)
    expected = {
        "band_power": power,
        "pooled_band_power": power.mean(1),
        "tangent": tangent,
        "pooled_tangent": whole,
    }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.clamp(-5, 5), msg=name)
    states = objective.view.states(first, x, 0, None, None)  # the teacher sees all, with its own weights
    steps = objective.patch // objective.view.step
    of_patch = states.reshape(4, n_patches, steps, -1).mean(2)
    pooled = objective.view.pool(states, first.config)
    torch.testing.assert_close(found["teacher"], pooled)
    for name, value in (("latent", of_patch), ("pooled_latent", pooled)):
        centred = value - value.mean(-1, keepdim=True)
        normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        torch.testing.assert_close(found[name], normed, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_regular_terms_are_of_the_pooled_state_and_the_teachers(store: RecordingStore) -> None:
    _, objective = task(store)
    pooled, teacher = drawn(6, objective.view.size), drawn(6, objective.view.size, seed=1)
    groups = torch.tensor([0, 0, 0, 1, 1, 2])
    found = objective._regular(pooled, {"teacher": teacher}, groups)
    assert objective.projection is not None
    told = contrast_term(objective.projection(pooled), objective.projection(teacher), groups, 0.3)
    expected = {"variance": variance_term(pooled), "covariance": covariance_term(pooled), "contrast": told}
    assert {k: float(v) for k, v in found.items()} == pytest.approx(
        {k: float(v) for k, v in expected.items()}
    )


@torch.no_grad()
def test_the_neighbours_error_is_of_windows_that_have_some(store: RecordingStore) -> None:
    _, objective = task(store, neighbours=1.0)
    pooled = drawn(4, objective.view.size)
    target = drawn(4, objective.tangents.size, seed=1)
    target[[0, 2]] = torch.nan
    asked = []

    def given(windows: Any, numbers: list[int]) -> Tensor:
        asked.append(numbers)
        return target

    object.__setattr__(objective, "neighbourhoods", given)
    objective._modules.pop("neighbourhoods", None)
    found = objective._around(pooled, Origin(0, [0] * 4, object(), [7, 3, 9, 1]))  # type: ignore[arg-type]
    error = (objective.neighbours_head(pooled) - target)[[1, 3]].square().mean()
    assert float(found["neighbours"]) == pytest.approx(float(error), rel=1e-5)
    assert asked == [[7, 3, 9, 1]]


@torch.no_grad()
def test_a_store_among_others_is_treated_as_it_would_be_alone(store: RecordingStore, tmp_path: Path) -> None:
    """Its electrodes, what is hidden of them, its targets and their standards are its own."""
    names = ("F3", "F4", "T7", "T8", "P3", "P4", "Oz")  # as many as the other has
    other = tiny_store(tmp_path / "other", subjects=2, seconds=4, channels=names, seed=5)
    x, groups = drawn(8, 7, 64), [0, 0, 0, 0, 1, 1, 1, 1]
    found = []
    for stores, number in (([store, other], 1), ([other], 0)):
        torch.manual_seed(0)
        config, pool = dataclasses.replace(OSCILLATORY, channel_dropout=0.2), StorePool(stores)
        network = first_network(pool, config)
        objective = make_objective(Setting(config, network, pool))
        if number:
            objective(network, 3 * drawn(8, 7, 64, seed=2), range(8), Origin(0, groups))
        found.append(objective(network, x, range(8), Origin(number, groups)))
    torch.testing.assert_close(torch.stack(list(found[0])), torch.stack(list(found[1])), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("patch_s", "patch"), [(0.25, 8), (0.5, 16), (0.6, 16), (1.0, 32), (0.01, 8)])
def test_patches_are_whole_steps_of_tokens(store: RecordingStore, patch_s: float, patch: int) -> None:
    config = dataclasses.replace(OSCILLATORY, patch_s=patch_s, band_power=0.0)
    pool = StorePool(store)
    made = make_objective(Setting(config, first_network(pool, config), pool))
    assert isinstance(made, Oscillatory)
    assert made.view.step == 8
    assert made.patch == patch


@torch.no_grad()
def test_a_network_without_tokens_sees_zeros_where_it_is_hidden(store: RecordingStore) -> None:
    network, objective = task(store, preset="s1", network=(), hide_radius=0.0)
    x = drawn(2, 7, 64)
    hidden = torch.zeros(2, 8, dtype=torch.bool)
    hidden[0, 2:5] = hidden[1, 7] = True
    kept = torch.ones(2, 7, dtype=torch.bool)
    kept[1, 3] = False
    seen = x.clone()
    seen[0, :, 16:40] = 0
    seen[1, :, 56:] = 0
    seen[1, 3] = 0
    states = objective.view.states(network, x, 0, kept, hidden)
    torch.testing.assert_close(states, network.encode(seen).transpose(1, 2))
    torch.testing.assert_close(objective.view.pool(states, network.config), states.mean(1))


def test_what_is_drawn_for_one_purpose_says_nothing_of_another() -> None:
    """Gains, noise to be removed, noise that covers and channels that stay have numbers of their own."""
    x, seeds = drawn(300, 16, 64), list(range(0, 6000, 20))
    spread = x.std(-1, keepdim=True, correction=0)
    gains = (Augment(AugmentOptions(gain_db=1.0), 64.0).changed(x, seeds) / x)[..., 0].log()
    noise = ((add_noise(x, seeds, noise=1.0, pops=0.0) - x) / spread)[:, 0, :16]
    amounts = (Augment(AugmentOptions(aperiodic_noise=1.0), 64.0).covered(x, seeds) - x).std(-1)
    kept = Augment(AugmentOptions(channel_subsets=1.0), 64.0).kept(x, seeds)
    assert kept is not None

    def together(a: Tensor, b: Tensor) -> float:
        return abs(float(np.corrcoef(a.flatten().numpy(), b.flatten().numpy())[0, 1]))

    assert together(gains, noise) < 0.1
    for channel in (0, 1):
        assert together(kept.sum(1), amounts[:, channel]) < 0.25


def test_noise_that_covers_is_pink_and_in_deviations_of_each_channel() -> None:
    """Evenly up to the amount asked for; no constant, as 1/f from half a hertz on and level below."""
    x = drawn(150, 4, 4096) * torch.tensor([1.0, 10.0, 100.0, 1000.0])[:, None] + 7
    added = (Augment(AugmentOptions(aperiodic_noise=0.4), 64.0).covered(x, range(150)) - x).double()
    amounts = added.std(-1, correction=0) / x.double().std(-1, correction=0)
    for channel in range(4):
        assert float(amounts[:, channel].max()) <= 0.4001
        assert float(amounts[:, channel].max()) > 0.37
        assert float(amounts[:, channel].mean()) == pytest.approx(0.2, abs=0.03)
    power = (torch.fft.rfft(added[:, 0] / amounts[:, :1]).abs() ** 2).mean(0).numpy()
    f = np.fft.rfftfreq(4096, 1 / 64)
    assert power[0] < 1e-6 * power[1]

    def around(hz: float) -> float:
        return float(power[(f > 0.8 * hz) & (f < 1.25 * hz)].mean())

    assert around(4) / around(16) == pytest.approx(4, rel=0.15)
    assert around(1) / around(4) == pytest.approx(4, rel=0.2)
    assert float(power[(f > 0) & (f < 0.25)].mean() / power[(f > 0.25) & (f < 0.5)].mean()) == pytest.approx(
        1, abs=0.3
    )


RECONSTRUCTION: dict[str, tuple[str, Any]] = {
    "loss": ("reconstruction", "mse+spectral"),
    "spectrum": ("reconstruction", "amplitude"),
    "norm": ("reconstruction", "ortho"),
    "alpha": ("reconstruction", 2.0),
    "beta": ("reconstruction", 0.5),
    "mask_patch_s": ("masked", 0.5),
    "mask_time": ("masked", 0.25),
    "mask_channels": ("masked", 0.5),
    "mask_loss": ("masked", "all"),
    "noise": ("denoising", 1.0),
    "pops": ("denoising", 0.9),
}
AUGMENTED = {
    **{"channel_subsets": 1.0, "channel_dropout": 0.5, "gain_db": 3.0},
    **{"sign": 0.7, "rereference": 1.0, "aperiodic_noise": 1.0},
}


def names_of(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)} - {"objective", "objective_options"}


@pytest.mark.parametrize("name", [*RECONSTRUCTION, *AUGMENTED])
def test_every_option_of_a_reconstruction_changes_its_loss(name: str) -> None:
    assert names_of(ObjectiveOptions) == set(RECONSTRUCTION)
    assert names_of(AugmentOptions) == set(AUGMENTED)
    x, seeds = drawn(6, 8, 128), range(6)
    objective, value = RECONSTRUCTION.get(name, ("reconstruction", AUGMENTED.get(name)))
    usual = PretrainConfig(objective=objective)
    found = []
    for config in (usual, dataclasses.replace(usual, **{name: value})):
        setting = Setting(config, SimpleNamespace(config=SimpleNamespace(architecture="unet")), POOL)
        task = Reconstruction.build(setting)
        found.append(float(task(lambda seen: 0.5 * seen.roll(1, 1) + 1.0, x, seeds).loss))
    assert abs(found[1] / found[0] - 1) > 1e-5, f"{name} {value} changes nothing"


POOL: Any = SimpleNamespace(sfreq_hz=64.0)
OTHERWISE: dict[str, Any] = {
    **{"patch_s": 0.75, "hide_time": 0.25, "hide_chunks": 1, "hide_radius": 0.4, "band_power": 2.0},
    **{"tangent": 2.0, "latent": 2.0, "neighbours": 2.0, "neighbours_s": 4.5, "pooled": 2.0},
    **{"centre_targets": "window", "variance": 2.0, "covariance": 2.0, "contrast": 2.0},
    **{"contrast_temperature": 0.02, "teacher_decay": 0.5, "teacher_decay_end": 0.6},
}


@pytest.mark.parametrize("name", [*OTHERWISE, *sorted(AUGMENTED.keys() - {"rereference"})])
def test_every_option_of_the_oscillatory_task_changes_its_loss(name: str, store: RecordingStore) -> None:
    """But for references, which virtual channels do not see."""
    assert names_of(OscillatoryOptions) == {*OTHERWISE, "windows_per_recording"}
    value = {**OTHERWISE, **AUGMENTED}[name]
    data = WindowDataset(store, OSCILLATORY.window_config())
    windows, numbers = PoolWindows(StorePool(store), {0: data}), [0, 1, 2, 4, 5, 6, 8, 9]
    x = windows.__getitems__(numbers).batch["x"]
    usual = {
        "neighbours": 1.0,
        "neighbours_s": 2.0,
        "windows_per_recording": 4,
        "hide_time": 0.5,
    }
    found = []
    for changes in (usual, {**usual, name: value}):
        network, objective = task(store, **changes)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.2)
            objective.follow(network, 0.4)
            found.append(float(objective(network, x, numbers, Origin.of(windows, numbers))[0]))
    assert abs(found[1] / found[0] - 1) > 1e-5, f"{name} {value} changes nothing"


def test_tokens_count_by_what_they_know_of_the_window(store: RecordingStore) -> None:
    """Those that hold half a kernel's silence less: by the samples of a token's running window."""
    network, objective = task(store)
    states = drawn(3, 8, objective.view.size)
    known = np.array([known_by_counting(index, network.config)[1] for index in range(8)], float)
    assert len(set(known)) > 2
    expected = np.einsum("bts,t->bs", states.double().numpy(), known / known.sum())
    found = objective.view.pool(states, network.config)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("n_times", [64, 69, 71])
@torch.no_grad()
def test_samples_that_no_step_holds_are_seen(store: RecordingStore, n_times: int) -> None:
    network, objective = task(store, preset="s1", network=(), hide_radius=0.0)
    x = drawn(2, 7, n_times)
    hidden = torch.zeros(2, n_times // 8, dtype=torch.bool)
    hidden[0, -1] = hidden[1, 0] = True
    seen = x.clone()
    seen[0, :, n_times // 8 * 8 - 8 : n_times // 8 * 8] = 0
    seen[1, :, :8] = 0
    states = objective.view.states(network, x, 0, None, hidden)
    torch.testing.assert_close(states, network.encode(seen).transpose(1, 2))
    plain = objective.view.states(network, x, 0, None, None)
    torch.testing.assert_close(plain, network.encode(x).transpose(1, 2))
    assert objective._steps(hidden, n_times // 8 + 2).tolist() == [
        [*row, False, False] for row in hidden.tolist()
    ]


def test_what_is_drawn_for_a_channel_is_its_own() -> None:
    """Gains, noise, pops and losses of two channels, and of two windows, have nothing in common."""
    x, seeds = drawn(400, 8, 64), range(400)
    spread = x.std(-1, correction=0)
    some = [
        (Augment(AugmentOptions(gain_db=2.0), 64.0).changed(x, seeds) / x)[..., 0].log(),
        (Augment(AugmentOptions(aperiodic_noise=1.0), 64.0).covered(x, seeds) - x).std(-1) / spread,
        Augment(AugmentOptions(channel_dropout=0.3), 64.0).kept(x, seeds),
        (add_noise(x, seeds, noise=0.0, pops=0.5) - x).abs().amax(-1) / spread,
        (add_noise(x, seeds, noise=1.0, pops=0.0) - x)[..., 0] / spread,
    ]
    for drawn_numbers in some:
        assert drawn_numbers is not None
        values = drawn_numbers.float().numpy()
        apart = np.corrcoef(values.T) - np.eye(8)
        assert np.abs(apart).max() < 0.25
        next_window = [np.corrcoef(values[:-1, c], values[1:, c])[0, 1] for c in range(8)]
        assert np.abs(next_window).max() < 0.25
        assert values.std() > 0.05
    gains = some[0]
    assert gains is not None
    assert float((20 / math.log(10) * gains).std()) == pytest.approx(2.0, rel=0.05)
    assert abs(float(gains.mean())) < 0.02


def test_bands_without_power_are_as_silent_as_a_millionth_of_the_mean() -> None:
    """Of a channel's own power in the patch: a pure rhythm, and a channel of zeros, have targets too."""
    t = torch.arange(256) / 128.0
    x = torch.stack([1e3 * torch.sin(2 * math.pi * 10 * t), torch.sin(2 * math.pi * 22 * t), 0 * t])[None]
    found = BandPower(128.0, 128)(x)[0, 0].reshape(3, 6).numpy()
    f = np.fft.rfftfreq(128, 1 / 128)
    kept = (f >= 1) & (f < 40)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(128) / 127)
    for channel, hz in ((0, 10), (1, 22)):
        piece = x[0, channel, :128].double().numpy()
        power = np.abs(np.fft.rfft((piece - piece.mean()) * taper)[kept]) ** 2
        log_power = np.log(power + 1e-6 * power.mean())
        left = log_power - np.polyval(np.polyfit(np.log(f[kept]), log_power, 1), np.log(f[kept]))
        edges = (1, 4, 8, 13, 20, 30, 40)
        expected = [left[(f[kept] >= a) & (f[kept] < b)].mean() for a, b in itertools.pairwise(edges)]
        np.testing.assert_allclose(found[channel], expected, atol=1e-2)
        assert int(np.argmax(found[channel])) == next(i for i, b in enumerate(edges[1:]) if hz < b)
    np.testing.assert_allclose(found[2], 0.0, atol=1e-3)
