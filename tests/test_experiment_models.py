"""What the reference experiment does with encoders: controls, the released procedure, healing, masked prediction."""

import numpy as np
import pytest
import torch
from pairs import HUBERT, spread
from transformers import HubertConfig, HubertModel

import permgraph as pg
from benchmarks.speech_music import controls, features, hearing, released, rows, streams
from benchmarks.speech_music.objective import MaskedPredictor, masked_loss
from permgraph.demo.hearing import standardised, unexplained


@pytest.fixture(scope="module")
def encoders():
    """Two small encoders with nothing in common, their group, and a batch."""
    a, b = (encoder(seed) for seed in (0, 1))
    batch = {"input_values": torch.randn(2, 4000, generator=torch.Generator().manual_seed(2))}
    return a, b, pg.derive(a, (), batch, outputs="free"), batch


def encoder(seed):
    torch.manual_seed(seed)
    return spread(HubertModel(HUBERT), seed + 10)


def change(model, state, batch) -> float:
    """How far the function moves, relative to its size."""
    other = HubertModel(HUBERT).eval()
    other.load_state_dict(state)
    with torch.inference_mode():
        before, after = model(**batch).last_hidden_state, other(**batch).last_hidden_state
    return float((before - after).norm() / before.norm())


@pytest.mark.parametrize("roles", [rows.CONV, rows.FF, rows.ATTENTION, rows.PROPOSED])
def test_a_random_valid_control_keeps_the_function(encoders, roles) -> None:
    _, b, spec, batch = encoders
    element = controls.random_valid(spec, roles, 3)
    assert element != spec.identity()
    assert change(b, spec.apply(element, b.state_dict()), batch) < 1e-4


def test_scrambling_and_noise_keep_the_scale_and_not_the_function(encoders) -> None:
    _, b, spec, batch = encoders
    state = b.state_dict()
    scrambled, noise = controls.scrambled(spec, state, 0), controls.noise(state, 0)
    for name, tensor in state.items():
        assert torch.equal(scrambled[name].flatten().sort().values, tensor.flatten().sort().values)
        if tensor.numel() > 500:
            torch.testing.assert_close(noise[name].norm(), tensor.norm(), rtol=0.2, atol=0)
    assert change(b, scrambled, batch) > 0.1
    assert change(b, noise, batch) > 0.1


@pytest.mark.parametrize("parts", [("feed_forward",), ("feed_forward", "attention"), released.PARTS])
def test_the_released_procedure_changes_b(encoders, parts) -> None:
    a, b, _, batch = encoders
    moved = released.moved(a, b, [batch], parts)
    assert change(b, moved, batch) > 0.05
    assert all(not module._forward_hooks for module in b.modules())


def test_head_order_recovers_heads_and_their_units() -> None:
    rng = np.random.default_rng(0)
    outer, inner = rng.permutation(3), [rng.permutation(4) for _ in range(3)]
    order = np.concatenate([outer[i] * 4 + inner[i] for i in range(3)])
    assert released.head_order(np.eye(12)[order], 3).tolist() == order.tolist()


def test_streams_mask_and_the_losses_learn_what_they_say() -> None:
    mask = streams.span_mask(np.random.default_rng(0), 4, 60)
    assert mask.any(axis=1).all()
    torch.manual_seed(0)
    model = MaskedPredictor(HubertConfig.from_dict(HUBERT.to_dict()), 1, bands=5)
    audio = torch.randn(4, 400 + 59 * 320)
    batch = streams.Batch(audio, torch.zeros(4, 60, 1, dtype=torch.long), torch.randn(4, 60, 5), torch.from_numpy(mask))
    logits, bands = model(batch.audio, batch.mask)
    plain, hit = masked_loss(logits, None, batch, 0.5)
    both, _ = masked_loss(logits, bands, batch, 0.5)
    assert both > plain
    assert hit.shape == (1,)


def test_the_reconstructed_spectrum_does_not_change_with_loudness() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(features.RATE) / features.RATE).astype(np.float32)
    found = features.spectrum(tone + 0.1 * np.random.default_rng(0).standard_normal(len(tone)).astype(np.float32))
    louder = features.spectrum(2 * tone + 0.2 * np.random.default_rng(0).standard_normal(len(tone)).astype(np.float32))
    assert found.shape == (features.frame_count(len(tone)), features.SPECTRUM)
    np.testing.assert_allclose(found, louder, atol=2e-3)
    assert (found[5:-5, : features.SEMITONES].argmax(axis=1) == 69 - 36).all()


def test_healing_towards_both_is_done_when_either_parent_can_be_read_off() -> None:
    torch.manual_seed(0)
    parents = [torch.randn(2, 40, 3), torch.randn(2, 40, 3)]
    both = torch.cat(parents, dim=-1)
    mixed = standardised(both @ torch.randn(6, 6))
    targets = torch.cat([standardised(states) for states in parents], dim=1)
    assert unexplained(mixed, targets) < 0.05
    assert 0.4 < unexplained(standardised(parents[0]), targets) < 0.6


def test_side_by_side_a_probe_weighs_the_layers_of_each_encoder_by_themselves(encoders) -> None:
    a, b, _, batch = encoders
    with torch.inference_mode():
        both = hearing.Together(a, b)(batch["input_values"], output_hidden_states=True).hidden_states
        alone = [model(**batch, output_hidden_states=True).hidden_states for model in (a, b)]
    left, right = (torch.cat([states, torch.zeros_like(states)], dim=-1) for states in (alone[0][1], alone[1][1]))
    assert len(both) == len(alone[0]) + len(alone[1])
    torch.testing.assert_close(both[1], left)
    torch.testing.assert_close(both[len(alone[0]) + 1], right.roll(HUBERT.hidden_size, dims=-1))
