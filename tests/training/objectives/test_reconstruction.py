"""Eq. 1 and its relatives: the authors' numbers, Parseval, phase, gradients, masks and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegm2.training.objectives.augment import Augment
from eegm2.training.objectives.base import window_seed
from eegm2.training.objectives.options import AugmentOptions, ObjectiveOptions
from eegm2.training.objectives.reconstruction import (
    Reconstruction,
    add_noise,
    hide,
    reconstruction_loss,
    spectral_distance,
)
from tests.model.vectors import vectors

VARIANTS = ["EEGM2", "EEGM2_S1", "EEGM2_S3", "EEGM2_S4", "EEGM2_S5", "UNet"]


def windows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def shifted(x: torch.Tensor, by: int) -> torch.Tensor:
    return torch.roll(x, by, dims=-1)


class TestAgainstTheAuthors:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_default_loss_is_theirs(self, variant: str) -> None:
        stored = vectors(variant)
        loss = reconstruction_loss(torch.from_numpy(stored["y"]), torch.from_numpy(stored["x"])).loss
        assert float(loss) == pytest.approx(float(stored["loss"]), rel=1e-5)

    @pytest.mark.parametrize(
        "change", [{"alpha": 1.01}, {"beta": 1.01}, {"norm": "ortho"}, {"spectrum": "amplitude"}]
    )
    def test_a_percent_or_another_choice_is_seen(self, change: dict) -> None:
        stored = vectors("EEGM2")
        loss = reconstruction_loss(
            torch.from_numpy(stored["y"]), torch.from_numpy(stored["x"]), **change
        ).loss
        assert abs(float(loss) / float(stored["loss"]) - 1) > 1e-5

    def test_a_percent_of_the_output_is_seen(self) -> None:
        stored = vectors("EEGM2")
        loss = reconstruction_loss(1.01 * torch.from_numpy(stored["y"]), torch.from_numpy(stored["x"])).loss
        assert abs(float(loss) / float(stored["loss"]) - 1) > 1e-4


class TestSpectralTerm:
    @pytest.mark.parametrize("n_times", [8, 63, 250])
    def test_complex_is_a_scaled_mean_square_by_parseval(self, n_times: int) -> None:
        """Theorem (Parseval): sum |e|² = (1/T) sum |E|² over T bins; rfft holds the inner ones once."""
        x, y = windows(2, 3, n_times), windows(2, 3, n_times, seed=1)
        spectrum = torch.fft.rfft(x - y).abs().square()
        twice = torch.full((spectrum.shape[-1],), 2.0, dtype=torch.float64)
        twice[0] = 1
        if n_times % 2 == 0:
            twice[-1] = 1
        full = (spectrum * twice).sum(-1) / n_times
        torch.testing.assert_close(full, (x - y).square().sum(-1))
        assert float(spectral_distance(y, x)) == pytest.approx(float(spectrum.mean()))

    @pytest.mark.parametrize(("norm", "power"), [("backward", 0), ("ortho", 1), ("forward", 2)])
    def test_norm_divides_by_a_power_of_the_length(self, norm: str, power: int) -> None:
        x, y = windows(2, 3, 100), windows(2, 3, 100, seed=1)
        expected = float(spectral_distance(y, x)) / 100**power
        assert float(spectral_distance(y, x, norm=norm)) == pytest.approx(expected)

    @pytest.mark.parametrize("by", [1, 17, 50])
    def test_amplitude_does_not_see_the_phase_and_complex_does(self, by: int) -> None:
        x = windows(2, 3, 101)
        assert float(spectral_distance(shifted(x, by), x, spectrum="amplitude")) < 1e-20
        assert float(spectral_distance(shifted(x, by), x)) > 1

    def test_amplitude_sees_the_size(self) -> None:
        x = windows(2, 3, 64)
        expected = float(torch.fft.rfft(x).abs().square().mean())
        assert float(spectral_distance(2 * x, x, spectrum="amplitude")) == pytest.approx(expected)


class TestLoss:
    @pytest.mark.parametrize("loss", ["l1+spectral", "l1", "mse+spectral"])
    @pytest.mark.parametrize("spectrum", ["complex", "amplitude"])
    def test_gradients(self, loss: str, spectrum: str) -> None:
        x = windows(1, 2, 9)
        y = windows(1, 2, 9, seed=1).requires_grad_()
        hidden = torch.zeros(1, 2, 9, dtype=torch.bool)
        hidden[..., 2:7] = True
        for mask in (None, hidden):
            assert torch.autograd.gradcheck(
                lambda y, mask=mask: (
                    reconstruction_loss(y, x, loss=loss, spectrum=spectrum, hidden=mask).loss
                ),
                y,
            )

    def test_parts_add_up(self) -> None:
        x, y = windows(2, 3, 64), windows(2, 3, 64, seed=1)
        whole = reconstruction_loss(y, x, alpha=2.0, beta=0.5)
        assert float(whole.loss) == pytest.approx(2 * float(whole.l1) + 0.5 * float(whole.spectral))
        squares = reconstruction_loss(y, x, loss="mse+spectral")
        assert float(squares.loss) == pytest.approx(float((x - y).square().mean() + squares.spectral))
        alone = reconstruction_loss(y, x, loss="l1", alpha=3.0)
        assert float(alone.loss) == pytest.approx(3 * float((x - y).abs().mean()))

    def test_zero_only_at_the_target(self) -> None:
        x = windows(2, 3, 64)
        assert float(reconstruction_loss(x, x).loss) == 0
        assert float(reconstruction_loss(x + 1e-3, x).loss) > 0

    def test_half_precision_outputs_are_summed_in_float32(self) -> None:
        """The sum of 12,800 squares of 200 overflows float16; ours does not, under autocast neither."""
        x = torch.zeros(2, 2, 12_800)
        y = torch.full_like(x, 200.0).half()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = reconstruction_loss(y, x)
        assert losses.loss.dtype == torch.float32
        assert float(losses.loss) == pytest.approx(200 + (200 * 12_800) ** 2 / 6401, rel=1e-6)

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(ValueError, match=r"reconstruction \(2, 3, 8\) and target \(2, 3, 9\) differ"):
            reconstruction_loss(torch.zeros(2, 3, 8), torch.zeros(2, 3, 9))

    def test_what_is_not_hidden_does_not_count(self) -> None:
        x, y = windows(2, 3, 64), windows(2, 3, 64, seed=1)
        hidden = torch.zeros(2, 3, 64, dtype=torch.bool)
        hidden[..., :16] = True
        first = reconstruction_loss(y, x, hidden=hidden)
        y[..., 16:] += 100
        torch.testing.assert_close(reconstruction_loss(y, x, hidden=hidden), first)
        assert float(first.l1) == pytest.approx(float((x - y)[..., :16].abs().mean()))


class TestMasks:
    def test_shares_of_time_and_channels(self) -> None:
        x = torch.zeros(5, 8, 256)
        mask = hide(x, range(5), patch=32, time_share=0.5, channel_share=0.25)
        for window in mask:
            patches = window.reshape(8, 8, 32)
            whole = patches.all(-1)
            torch.testing.assert_close(patches.any(-1), whole)
            assert int(whole.all(0).sum()) == 4
            assert int(whole.all(1).sum()) == 2

    def test_a_short_last_patch_and_never_everything(self) -> None:
        mask = hide(torch.zeros(20, 2, 70), range(20), patch=32, time_share=1.0, channel_share=0.0)
        assert {int(window[0].sum()) for window in mask} <= {64, 38}
        assert not mask.flatten(1).all(1).any()

    def test_a_window_has_its_own_seed_wherever_it_stands(self) -> None:
        x = torch.zeros(4, 8, 256)
        seeds = [window_seed(3, 1, window) for window in range(4)]
        together = hide(x, seeds, patch=16, time_share=0.5, channel_share=0.25)
        alone = hide(x[:1], seeds[2:3], patch=16, time_share=0.5, channel_share=0.25)
        assert torch.equal(together[2], alone[0])
        assert not torch.equal(together[2], together[1])
        assert (
            len({window_seed(s, e, w) for s in range(3) for e in range(-1, 3) for w in range(20)})
            == 3 * 4 * 20
        )

    def test_the_global_generator_is_not_touched(self) -> None:
        before = torch.get_rng_state()
        hide(torch.zeros(2, 2, 64), [1, 2], patch=8, time_share=0.5, channel_share=0.5)
        add_noise(torch.ones(2, 2, 64), [1, 2], noise=1.0, pops=0.5)
        assert torch.equal(torch.get_rng_state(), before)


class TestNoise:
    def test_its_size_is_in_standard_deviations_of_the_channel(self) -> None:
        x = windows(3, 2, 20_000, dtype=torch.float32) * torch.tensor([1.0, 50.0])[None, :, None]
        added = add_noise(x, [1, 2, 3], noise=0.5, pops=0.0) - x
        ratio = added.std(-1) / x.std(-1)
        np.testing.assert_allclose(ratio, 0.5, rtol=0.03)

    def test_pops_jump_and_decay(self) -> None:
        x = windows(4, 3, 1000, dtype=torch.float32)
        added = (add_noise(x, range(4), noise=0.0, pops=1.0) - x) / x.std(-1, keepdim=True, correction=0)
        peaks = added.abs().amax(-1)
        assert bool(((peaks > 4.9) & (peaks < 20.1)).all())
        onset = added.abs().argmax(-1)
        for window in range(4):
            for channel in range(3):
                at = int(onset[window, channel])
                assert float(added[window, channel, :at].abs().amax() if at else 0) < 1e-3
                if at + 100 < 1000:
                    fallen = abs(float(added[window, channel, at + 100] / added[window, channel, at]))
                    assert fallen == pytest.approx(np.exp(-1), rel=1e-2)

    def test_constant_channels_stay(self) -> None:
        x = torch.ones(1, 2, 64)
        assert torch.equal(add_noise(x, [1], noise=1.0, pops=1.0), x)


class TestObjective:
    def seen_by(self, options: ObjectiveOptions, x: torch.Tensor) -> tuple[torch.Tensor, float]:
        seen = []

        def model(given: torch.Tensor) -> torch.Tensor:
            seen.append(given)
            return given

        loss = Reconstruction(options, 128.0)(model, x, range(len(x))).loss
        return seen[0], float(loss)

    def test_the_identity_solves_the_papers_task_and_not_ours(self) -> None:
        x = windows(3, 4, 256, dtype=torch.float32)
        seen, loss = self.seen_by(ObjectiveOptions(), x)
        assert torch.equal(seen, x)
        assert loss == 0
        for task in ("masked", "denoising"):
            seen, loss = self.seen_by(ObjectiveOptions(objective=task), x)
            assert not torch.equal(seen, x)
            assert loss > 1

    def test_augmentation_changes_what_is_to_be_reconstructed_or_what_is_seen(self) -> None:
        x = windows(6, 8, 256, dtype=torch.float32)

        def task(**options: float) -> Reconstruction:
            return Reconstruction(ObjectiveOptions(), 128.0, Augment(AugmentOptions(**options), 128.0))

        seen: list[torch.Tensor] = []

        def identity(given: torch.Tensor) -> torch.Tensor:
            seen.append(given)
            return given

        for changed in ({"gain_db": 3.0}, {"sign": 0.5}, {"rereference": 0.5}):
            assert float(task(**changed)(identity, x, range(6)).loss) == 0, changed
            assert not torch.equal(seen[-1], x)
        for covered in ({"aperiodic_noise": 0.5}, {"channel_subsets": 1.0}, {"channel_dropout": 0.3}):
            assert float(task(**covered)(identity, x, range(6)).loss) > 0, covered
            assert float(task(**covered).eval()(identity, x, range(6)).loss) == 0, covered
        assert int((seen[-2] == 0).all(-1).sum()) > 0

    def test_masked_hides_by_zeros_and_counts_only_there(self) -> None:
        x = 1 + windows(3, 4, 256, dtype=torch.float32).abs()
        seen, _ = self.seen_by(ObjectiveOptions(objective="masked", mask_patch_s=0.5, mask_time=0.25), x)
        assert float((seen == 0).float().mean()) == 0.25
        wrong_elsewhere = Reconstruction(ObjectiveOptions(objective="masked"), 128.0)
        everywhere = Reconstruction(ObjectiveOptions(objective="masked", mask_loss="all"), 128.0)

        def model(seen: torch.Tensor) -> torch.Tensor:
            return torch.where(seen == 0, x, seen + 1)

        assert float(wrong_elsewhere(model, x, range(3)).loss) == 0
        assert float(everywhere(model, x, range(3)).loss) > 0
