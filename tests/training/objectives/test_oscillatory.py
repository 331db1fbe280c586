"""The oscillatory objective: what the network sees, what each switch does, how the teacher follows."""

from __future__ import annotations

import csv
import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.pool import StorePool
from eegm2.errors import ConfigError
from eegm2.model.features import window_features
from eegm2.model.network import EEGM2
from eegm2.training.checkpoint import load_checkpoint, read_header
from eegm2.training.config import PretrainConfig
from eegm2.training.first_network import first_network
from eegm2.training.objectives.base import Origin, Setting, make_objective
from eegm2.training.objectives.hiding import hidden_patches
from eegm2.training.objectives.oscillatory import Oscillatory
from eegm2.training.pretrain import pretrain
from eegm2.training.state import Interrupted
from tests.training.pretrain_kills import differences
from tests.training.stores import tiny_store
from tests.training.test_resume import signal_after

SEVEN = ("Fp1", "Fp2", "C3", "C4", "O1", "O2", "Pz")
FOUR = ("TP9", "AF7", "AF8", "TP10")
TINY = PretrainConfig(
    preset="covariance",
    objective="oscillatory",
    width=4,
    network=("n_virtual=5",),
    window_s=2.0,
    epochs=2,
    batch_size=8,
    windows_per_recording=4,
    seed=3,
    contrast=0.5,
    hide_radius=1.2,
    channel_subsets=0.5,
    gain_db=1.0,
    sign=0.5,
    aperiodic_noise=0.2,
    checkpoint_every_steps=2,
    log_every_steps=1,
    accelerator="cpu",
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[RecordingStore]:
    folder = tmp_path_factory.mktemp("data")
    return [
        tiny_store(folder / "seven", subjects=4, seconds=20, channels=SEVEN),
        tiny_store(folder / "four", subjects=4, seconds=12, seed=1, channels=FOUR),
    ]


@pytest.fixture(scope="module")
def whole(stores: list[RecordingStore], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    pretrain(stores, run, TINY)
    return run


def parts(stores: list[RecordingStore], **changes: Any) -> tuple[EEGM2, Oscillatory]:
    """Return a network and the objective for it."""
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, **changes)
    pool = StorePool(stores)
    network = first_network(pool, config)
    objective = make_objective(Setting(config, network, pool))
    assert isinstance(network, EEGM2)
    assert isinstance(objective, Oscillatory)
    return network, objective


def windows(n_chans: int = 7, n: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, n_chans, 64, generator=torch.Generator().manual_seed(seed))


def rows(run: Path, name: str = "metrics") -> list[dict[str, float]]:
    with (run / "logs" / f"{name}.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


class TestTerms:
    def test_the_loss_is_their_weighted_sum(self, stores: list[RecordingStore]) -> None:
        network, objective = parts(stores, band_power=0.5, tangent=2.0, pooled=3.0, variance=0.1)
        with torch.no_grad():
            loss, *found = objective(network, windows(), range(8), Origin(0, [0] * 4 + [1] * 4))
        named = dict(zip(objective.terms[1:], map(float, found)))
        weights = {
            **{"band_power": 0.5, "tangent": 2.0, "latent": 1.0, "pooled_band_power": 1.5},
            **{
                "pooled_tangent": 6.0,
                "pooled_latent": 3.0,
                "variance": 0.1,
                "covariance": 0.04,
                "contrast": 0.5,
            },
        }
        assert named.keys() == weights.keys()
        assert float(loss) == pytest.approx(sum(weights[name] * named[name] for name in named))
        assert all(value > 0 for value in named.values())

    @pytest.mark.parametrize(
        ("off", "gone"),
        [
            ("band_power", {"band_power", "pooled_band_power"}),
            ("tangent", {"tangent", "pooled_tangent"}),
            ("latent", {"latent", "pooled_latent"}),
            ("pooled", {"pooled_band_power", "pooled_tangent", "pooled_latent"}),
            ("variance", {"variance"}),
            ("covariance", {"covariance"}),
            ("contrast", {"contrast"}),
        ],
    )
    def test_each_is_a_switch(self, off: str, gone: set[str], stores: list[RecordingStore]) -> None:
        _, everything = parts(stores)
        network, objective = parts(stores, **{off: 0.0})
        assert set(everything.terms) - set(objective.terms) == gone
        losses = objective(network, windows(), range(8), Origin(0, [0] * 8))
        assert len(losses) == len(objective.terms)
        losses[0].backward()
        trained = {name for name, p in objective.named_parameters() if p.requires_grad}
        assert {name for name, p in objective.named_parameters() if p.grad is not None} == trained

    def test_every_parameter_of_the_network_learns(self, stores: list[RecordingStore]) -> None:
        for options in ({}, {"hide_time": 0.0}, {"hide_radius": 0.0, "channel_subsets": 0.0}):
            network, objective = parts(stores, **options)
            objective(network, windows(), range(8), Origin(0, [0] * 8))[0].backward()
            assert [name for name, p in network.named_parameters() if p.grad is None] == []

    def test_a_store_of_four_electrodes_hides_none_of_them(self, stores: list[RecordingStore]) -> None:
        network, objective = parts(stores)
        assert objective._kept(windows(4), range(8), 1) is None
        assert torch.isfinite(objective(network, windows(4), range(8), Origin(1, [0] * 8))[0])
        kept = objective._kept(windows(), range(8), 0)
        assert kept is not None
        assert int(kept.sum(1).min()) == 4

    def test_a_batch_can_be_learnt(self, stores: list[RecordingStore]) -> None:
        network, objective = parts(stores, width=16, latent=0.0, contrast=0.0, variance=0.0)
        optimiser = torch.optim.Adam([*network.parameters(), *objective.parameters()], lr=5e-3)
        found = []
        for _ in range(60):
            losses = objective(network, windows(), range(8), Origin(0, [0] * 8))
            optimiser.zero_grad()
            losses[0].backward()
            optimiser.step()
            found.append(dict(zip(objective.terms, (float(value.detach()) for value in losses))))
        for name in ("tangent", "pooled_tangent", "band_power", "pooled_band_power"):
            assert found[-1][name] < 0.5 * found[0][name], name


class TestHiding:
    def test_nothing_of_hidden_patches_or_electrodes_reaches_the_prediction(
        self, stores: list[RecordingStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Other samples where nothing is seen: the same guesses, other targets."""
        network, objective = parts(stores)
        objective.eval()
        guesses: list[torch.Tensor] = []
        objective.patch_head.register_forward_hook(lambda *call: guesses.append(call[2]))
        objective.pooled_head.register_forward_hook(lambda *call: guesses.append(call[2]))  # type: ignore[union-attr]
        hidden: list[torch.Tensor] = []
        states = objective.view.states

        def noting(model: Any, x: torch.Tensor, store: int, kept: Any, steps: Any) -> torch.Tensor:
            if steps is not None:
                hidden.extend([kept, steps])
            return states(model, x, store, kept, steps)

        monkeypatch.setattr(objective.view, "states", noting)
        x, other = windows(), windows(seed=1)
        first = objective(network, x, range(8))[0].detach()
        kept, steps = hidden[:2]
        seen = (~steps).repeat_interleave(objective.view.step, dim=1)[:, None] & kept[..., None]
        assert 0.1 < float(seen.float().mean()) < 0.6
        second = objective(network, torch.where(seen, x, other), range(8))[0].detach()
        torch.testing.assert_close(guesses[2:], guesses[:2])
        assert float(first) != float(second)
        objective(network, torch.where(seen, other, x), range(8))
        assert not torch.allclose(guesses[4], guesses[0], atol=1e-3), "the case tests nothing"

    def test_targets_and_validation_know_no_augmentation(self, stores: list[RecordingStore]) -> None:
        plain = {"gain_db": 0.0, "sign": 0.0, "aperiodic_noise": 0.0, "channel_subsets": 0.0}
        for training in (True, False):
            found = []
            for options in ({}, plain):
                network, objective = parts(stores, **options)
                objective.train(training)
                targets = objective._targets(windows(), 0, torch.zeros(8, dtype=torch.long), 4)
                found.append((targets["tangent"], objective(network, windows(), range(8))[0].detach()))
            assert torch.equal(found[0][0], found[1][0])
            assert (float(found[0][1]) == float(found[1][1])) is not training

    def test_targets_are_of_the_window_itself_and_errors_of_what_is_hidden(
        self, stores: list[RecordingStore], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        network, objective = parts(stores)
        x, given = windows(), {}
        targets, predicted = objective._targets, objective._predicted

        def of(plain: torch.Tensor, *rest: Any) -> Any:
            given["x"] = plain
            return targets(plain, *rest)

        def counting(*values: Any) -> Any:
            given["counted"] = values[-1]
            return predicted(*values)

        monkeypatch.setattr(objective, "_targets", of)
        monkeypatch.setattr(objective, "_predicted", counting)
        objective(network, x, range(8))
        assert torch.equal(given["x"], x)
        hidden = hidden_patches(range(8), 4, share=TINY.hide_time, chunks=TINY.hide_chunks)
        assert torch.equal(given["counted"], hidden)
        assert 0 < int(hidden.sum()) < hidden.numel()

    def test_the_pooled_state_is_the_feature_that_a_probe_takes(self, stores: list[RecordingStore]) -> None:
        network, objective = parts(stores)
        network.eval()
        with torch.no_grad():
            representation = network.encode(windows())
            states = representation[:, : network.config.trunk_channels].transpose(1, 2)
            expected = window_features(representation, "state", network.config)
            torch.testing.assert_close(objective.view.pool(states, network.config), expected)
        assert not torch.allclose(states.mean(1), expected, atol=1e-4)


class TestTeacher:
    def test_it_follows_ever_more_slowly(self, stores: list[RecordingStore]) -> None:
        network, objective = parts(stores, teacher_decay=0.9, teacher_decay_end=1 - 1e-9)
        assert objective.teacher is not None
        mine, theirs = objective.teacher.trunk.hidden_token, network.trunk.hidden_token  # type: ignore[union-attr]
        for progress, share in ((0.0, 0.1), (0.5, 0.05), (1.0, 0.0)):
            before = mine.clone()
            with torch.no_grad():
                theirs += 1
            objective.follow(network, progress)
            torch.testing.assert_close(mine, before + share * (theirs - before))

    def test_there_is_none_where_nothing_needs_it(self, stores: list[RecordingStore]) -> None:
        network, objective = parts(stores, latent=0.0, contrast=0.0)
        assert objective.teacher is None
        objective.follow(network, 0.5)


class TestRun:
    def test_what_is_shipped_is_the_network_alone(self, whole: Path) -> None:
        checkpoint = load_checkpoint(whole)
        state = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        assert {name.removeprefix("model.") for name in state if name.startswith("model.")} == set(
            checkpoint.model.state_dict()
        )
        assert any(name.startswith("objective.teacher.") for name in state)
        assert any(name.startswith("objective.patch_head.") for name in state)
        assert any(name.startswith("objective.standards.") for name in state)
        assert checkpoint.config.any_electrodes

    def test_it_logs_each_term_and_store(self, whole: Path) -> None:
        row = rows(whole)[-1]
        assert {
            "train_tangent",
            "val_pooled_latent",
            "val_contrast",
            "val_loss/seven",
            "val_loss/four",
        } <= set(row)
        assert {"train_band_power", "grad_norm"} <= set(rows(whole, "steps")[0])
        facts = read_header(whole)["data"]["stores"]
        assert [entry["ch_names"] for entry in facts] == [list(SEVEN), list(FOUR)]

    @pytest.mark.parametrize("reads", [12, 40, 60, 90])
    def test_interrupted_and_resumed_is_uninterrupted(
        self,
        reads: int,
        stores: list[RecordingStore],
        whole: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with monkeypatch.context() as patch:
            signal_after(patch, reads, signal.SIGTERM)
            with pytest.raises(Interrupted, match="SIGTERM"):
                pretrain(stores, tmp_path / "run", TINY)
        torch.manual_seed(99)
        pretrain(stores, tmp_path / "run", TINY)
        assert differences(whole, tmp_path / "run") == []

    def test_a_teacher_that_is_not_restored_is_seen(
        self, stores: list[RecordingStore], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            signal_after(patch, 40, signal.SIGTERM)
            with pytest.raises(Interrupted, match="SIGTERM"):
                pretrain(stores, tmp_path / "run", TINY)
        path = tmp_path / "run" / "checkpoints" / "last.ckpt"
        state = torch.load(path, weights_only=True)
        for name, value in state["state_dict"].items():
            if name.startswith("objective.teacher.") and value.is_floating_point():
                value += 0.01
        torch.save(state, path)
        pretrain(stores, tmp_path / "run", TINY)
        assert any("safetensors" in what for what in differences(whole, tmp_path / "run"))

    def test_the_papers_encoder_learns_by_it_too(self, stores: list[RecordingStore], tmp_path: Path) -> None:
        config = dataclasses.replace(TINY, preset="s1", network=(), epochs=1)
        pretrain(stores[:1], tmp_path / "run", config)
        checkpoint = load_checkpoint(tmp_path / "run")
        assert not checkpoint.config.decoder
        assert checkpoint.model(torch.zeros(1, 7, 64)).shape == (1, 16, 8)
        with pytest.raises(ConfigError, match="preset: s1 has fixed electrodes"):
            pretrain(stores, tmp_path / "other", config)


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"preset": "unet", "network": ()},
                "objective: oscillatory needs a network with an encoder; preset unet",
            ),
            (
                {"objective": "masked"},
                "objective: masked needs a network with a decoder; preset covariance has none",
            ),
            ({"strategy": "fsdp"}, "strategy: got fsdp, which shards weights that the teacher averages"),
            ({"compile": True}, "compile: objective oscillatory runs parts of the network"),
        ],
    )
    def test_what_a_task_cannot_train(
        self, change: dict[str, Any], message: str, stores: list[RecordingStore]
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            parts(stores[:1], **change)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"windows_per_recording": 1}, "windows_per_recording: got 1 with batch_size 8, but centring"),
            (
                {"windows_per_recording": 3},
                "windows_per_recording: got 3 with batch_size 8, expected",
            ),
            (
                {"band_power": 0.0, "tangent": 0.0, "latent": 0.0, "contrast": 0.0},
                "band_power, tangent, latent, neighbours, contrast: all are 0",
            ),
            ({"hide_time": 1.5}, "hide_time: got 1.5, expected a share"),
            ({"teacher_decay": 1.0}, "teacher_decay: got 1.0"),
            ({"tangent": -1.0}, "tangent: got -1.0, expected 0 or more"),
        ],
    )
    def test_options_that_do_not_fit(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(TINY, **change)

    @pytest.mark.parametrize(
        ("network", "message"),
        [
            (
                "virtual=5",
                "network: got 'virtual=5', expected a size and its value; sizes are covariance_s, d_conv",
            ),
            ("width=5", "network: got 'width=5', expected a size"),
            ("n_virtual=five", "network: got 'n_virtual=five', expected n_virtual=NUMBER"),
            ("n_virtual=99", "n_virtual is 99, expected 0 to 32"),
        ],
    )
    def test_sizes_of_the_network(self, network: str, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(TINY, network=(network,)).network_config(7, 32.0)

    def test_a_window_of_one_patch(self, stores: list[RecordingStore]) -> None:
        network, objective = parts(stores, patch_s=2.0)
        with pytest.raises(ConfigError, match=r"window_s: a window holds 1 patches of 64 samples"):
            objective(network, windows(), range(8))

    def test_electrodes_without_a_place(self, tmp_path: Path) -> None:
        store = tiny_store(tmp_path / "store", channels=("X1", "X2", "X3", "X4", "X5"))
        with pytest.raises(ConfigError, match="no position is known for X1, X2, X3, X4, X5"):
            pretrain(store, tmp_path / "run", TINY)
        assert not json.loads((tmp_path / "run" / "run.json").read_text())["finished"]
        places = ["X1,0,1,0", "X2,1,0,0", "X3,-1,0,0", "X4,0,-1,0", "X5,0,0,1"]
        (tmp_path / "places.csv").write_text("\n".join(["name,x,y,z", *places]))
        config = dataclasses.replace(TINY, positions=str(tmp_path / "places.csv"), epochs=1)
        pretrain(store, tmp_path / "run", config)
        network = load_checkpoint(tmp_path / "run").model
        assert torch.isfinite(network.encode(torch.ones(1, 5, 64))).all()
