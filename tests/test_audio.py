import numpy as np
import pytest
import soundfile
import torch

from permgraph.data.audio import AudioBatches, audio_files, plan_windows, read_piece, standardized
from permgraph.errors import CalibrationError

RATE = 16_000


def write(path, seconds=1.0, rate=RATE, channels=1, seed=0, **kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), channels)).astype(np.float32)
    soundfile.write(path, noise, rate, **kind)
    return noise


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".WAV"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_every_format_and_rate_gives_windows_of_one_shape(tmp_path, suffix, rate):
    write(tmp_path / "deep" / f"clip{suffix}", 2.5, rate, channels=2)
    batches = AudioBatches(tmp_path, seconds=0.5, batch_size=2)
    shapes = [tuple(batch["input_values"].shape) for batch in batches]
    assert shapes == [(2, RATE // 2)] * len(batches)
    assert len(batches) == 2
    assert all(set(batch) == {"input_values"} and batch["input_values"].dtype == torch.float32 for batch in batches)


def test_short_clips_are_joined_and_nothing_is_padded(tmp_path):
    for number in range(7):
        write(tmp_path / f"{number}.wav", 0.3, seed=number)
    batches = AudioBatches(tmp_path, seconds=1.0, batch_size=1)
    assert len(batches) == 2  # 2.1 s
    for batch in batches:
        # Noise to the very ends: padding would be a run of equal samples.
        assert float((batch["input_values"].diff() == 0).float().mean()) < 0.01


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_a_plan_uses_no_frame_twice_and_fills_every_window(tmp_path, rate):
    from permgraph.data.audio import _whole

    for number, seconds in enumerate([0.13, 3.7, 1.0, 0.05, 2.31]):
        write(tmp_path / f"{number}.wav", seconds, rate, seed=number)
    clips = [_whole(path, RATE) for path in audio_files(tmp_path)]
    windows = plan_windows(clips, RATE, RATE, seed=0)
    assert len(windows) == 7  # 7.19 s
    used = [(p.path, f) for window in windows for p in window for f in range(p.start, p.start + p.frames)]
    assert len(used) == len(set(used))
    for window in windows:
        pieces = [read_piece(piece, RATE) for piece in window]
        assert [len(samples) for samples in pieces] == [piece.samples for piece in window]
        assert sum(len(samples) for samples in pieces) == RATE


def test_the_samples_are_those_of_the_file(tmp_path):
    noise = write(tmp_path / "a.wav", 1.0, channels=2, subtype="FLOAT")
    (batch,) = AudioBatches(tmp_path, seconds=1.0, normalize=False)
    assert np.allclose(batch["input_values"][0], noise.mean(axis=1), atol=1e-7)
    (batch,) = AudioBatches(tmp_path, seconds=1.0)
    assert abs(float(batch["input_values"].mean())) < 1e-6
    assert abs(float(batch["input_values"].std()) - 1) < 1e-3


def test_standardized_is_what_the_feature_extractor_does():
    from transformers import Wav2Vec2FeatureExtractor

    window = np.random.default_rng(0).normal(0.3, 0.01, 1000).astype(np.float32)
    theirs = Wav2Vec2FeatureExtractor(do_normalize=True)(window, sampling_rate=RATE)["input_values"][0]
    assert np.allclose(standardized(window), theirs, atol=1e-4)


def test_the_order_depends_on_the_seed_alone(tmp_path):
    for number in range(8):
        write(tmp_path / f"{number}.wav", 0.5, seed=number)

    def first(seed):
        return next(iter(AudioBatches(tmp_path, seconds=0.5, batch_size=4, seed=seed)))["input_values"]

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    batches = AudioBatches(tmp_path, seconds=0.5)
    assert all(torch.equal(a["input_values"], b["input_values"]) for a, b in zip(batches, batches, strict=True))
    assert len(AudioBatches(tmp_path, seconds=0.5, batch_size=2, limit=4)) == 2


def test_a_last_batch_that_is_not_full_is_dropped_unless_it_is_the_only_one(tmp_path):
    write(tmp_path / "a.wav", 5.0)
    assert [b["input_values"].shape[0] for b in AudioBatches(tmp_path, seconds=1.0, batch_size=4)] == [4]
    assert [b["input_values"].shape[0] for b in AudioBatches(tmp_path, seconds=1.0, batch_size=9)] == [5]


def test_silent_windows_give_way_to_others(tmp_path):
    write(tmp_path / "sound.wav", 1.0)
    soundfile.write(tmp_path / "silence.wav", np.zeros(3 * RATE), RATE)
    (batch,) = AudioBatches(tmp_path, seconds=1.0, batch_size=4)
    assert bool((batch["input_values"].std(dim=1) > 0.5).all())


def nothing(folder):
    (folder / "notes.txt").write_text("la la la")


def unread(folder):
    (folder / "a.m4a").write_bytes(b"sound")


def silent(folder):
    soundfile.write(folder / "a.wav", np.full(RATE * 2, 0.5), RATE)


def short(folder):
    write(folder / "a.wav", 0.25)
    write(folder / "b.wav", 0.25)


def no_frames(folder):
    soundfile.write(folder / "a.wav", np.zeros(0), RATE)


def garbage(folder):
    write(folder / "a.wav", 2.0)
    (folder / "broken.flac").write_bytes(b"not audio at all")


def cut(folder):
    write(folder / "a.flac", 20.0)
    (folder / "a.flac").write_bytes((folder / "a.flac").read_bytes()[:2000])


def not_finite(folder):
    samples = np.random.default_rng(0).normal(size=RATE * 2).astype(np.float32)
    samples[5] = np.nan
    soundfile.write(folder / "nan.wav", samples, RATE, subtype="FLOAT")


USELESS = {
    unread: r"a\.m4a cannot be read\. Convert it to WAV or FLAC, as by `ffmpeg",
    nothing: r"no audio files \(looked for \.wav, \.flac, \.ogg, \.opus, \.mp3",
    silent: "silent",
    short: r"2 clips hold 0\.50 s of audio, less than one window \(1\.0 s\)",
    no_frames: "0 clips hold",
    garbage: r"broken\.flac: cannot be read as audio",
    cut: r"a\.flac: cannot be read as audio",
    not_finite: r"nan\.wav: holds samples that are NaN",
}


@pytest.mark.parametrize(("spoil", "message"), USELESS.items(), ids=[spoil.__name__ for spoil in USELESS])
def test_useless_data_is_refused_by_name(tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(CalibrationError, match=message) as caught:
        for _ in AudioBatches(tmp_path, seconds=1.0, batch_size=1):
            pass
    assert str(tmp_path) in str(caught.value)


def test_what_is_left_out_is_said(tmp_path):
    no_frames(tmp_path)
    unread(tmp_path)
    write(tmp_path / "b.wav", 2.0)
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE * 2), RATE)
    batches = AudioBatches(tmp_path, seconds=1.0, batch_size=1)
    assert [batch["input_values"].shape[1] for batch in batches] == [RATE] * 4
    assert [note.removeprefix(f"{tmp_path}") for note in batches.notes] == [
        "/a.wav: holds no sound",
        "/a.m4a: was not read, convert it to WAV or FLAC",
        ": 2 windows without signal were left out",
    ]
    assert batches.unit == "windows of 1 s"


def test_clips_that_fill_no_window_are_each_one_for_an_extractor_that_adds_silence(tmp_path):
    short(tmp_path)
    write(tmp_path / "c.wav", 0.05)
    batches = AudioBatches(tmp_path, seconds=1.0, batch_size=1, short=True)
    assert [batch["input_values"].shape[1] for batch in batches] == [RATE // 4] * 2
    assert batches.unit == "clips filled up with silence to 1 s"
