"""Sounds: a voice detector with state, and a transcriber of music.

They are made by formula, so there is no truth: the float model's answers are what is kept or lost.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convert.fetch import InWheel, from_wheel
from convert.zoo import Case, Store

Sound = NDArray[np.float32]
SILERO = InWheel(
    requirement="silero-vad==6.2.3",
    member="silero_vad/data/silero_vad_16k_op15.onnx",
    sha256="7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
)
_PITCH = "basic_pitch/saved_models/icassp_2022/nmp"
PITCH_ONNX = InWheel(
    requirement="basic-pitch==0.4.0",
    member=f"{_PITCH}.onnx",
    sha256="2c3c1d144bfa61ad236e92e169c13535c880469a12a047d4e73451f2c059a0ec",
)
PITCH_TFLITE = InWheel(
    requirement="basic-pitch==0.4.0",
    member=f"{_PITCH}.tflite",
    sha256="3db297d54af8e01c6e5618245c956b1d71b6a2b978cb2dedb527173186552676",
)
VOICE_HZ, CHUNK, BEFORE, STATE = 16_000, 512, 64, (2, 1, 128)
"""Samples a second, new ones in a call, old ones before them, shape of the state."""
MUSIC_HZ, MUSIC, FRAMES, KEYS = 22_050, 43_844, 172, 88
"""Samples a second, of a call; frames and piano keys of the answers."""
VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""First three formants of five vowels, in Hz (Peterson & Barney 1952, men)."""


def make_voice(store: Store) -> None:
    """Steps of the detector through recordings: input and state as they occur with the float model."""
    store.model(from_wheel(SILERO, store.cache))
    for name, recordings, every, first in (("calibration", 10, 16, 0), ("evaluation", 30, 4, 1000)):
        rows = [row for seed in range(recordings) for row in _steps(store, first + seed)[first % 3 :: every]]
        sr = np.full(len(rows), VOICE_HZ, np.int64)
        store.data(name, input=np.stack([row[0] for row in rows]), state=np.stack([row[1] for row in rows]), sr=sr)
    store.contract(
        {
            "version": "1.0",
            "task": "regression",
            "inputs": [
                {"name": "input", "shape": [1, BEFORE + CHUNK], "range": [-1, 1]},
                {"name": "state", "shape": list(STATE)},
                {"name": "sr", "shape": [], "dtype": "int64", "unit": "Hz", "range": [VOICE_HZ, VOICE_HZ]},
            ],
            "outputs": [
                {"name": "output", "shape": [1, 1], "range": [0, 1]},
                {"name": "stateN", "shape": list(STATE)},
            ],
            "states": [{"input": "state", "output": "stateN"}],
        }
    )


def _steps(store: Store, seed: int) -> list[tuple[Sound, Sound]]:
    import onnxruntime  # noqa: PLC0415 - only to make data

    session = onnxruntime.InferenceSession(store.folder / "model.onnx", providers=["CPUExecutionProvider"])
    sound = voice(np.random.default_rng(seed))
    state, before, rows = np.zeros(STATE, np.float32), np.zeros(BEFORE, np.float32), []
    for start in range(0, len(sound) - CHUNK + 1, CHUNK):
        chunk = np.concatenate([before, sound[start : start + CHUNK]])
        rows.append((chunk, state[:, 0][:, None]))
        _, state = session.run(None, {"input": chunk[None], "state": state, "sr": np.array(VOICE_HZ, np.int64)})
        before = chunk[-BEFORE:]
    return rows


def voice(random: np.random.Generator) -> Sound:
    """Return 6 s of what resembles speech: vowels and hisses in words, pauses between them, noise behind all."""
    parts: list[Sound] = []
    pitch, loud = random.uniform(90, 240), random.uniform(0.05, 0.4)
    while sum(map(len, parts)) < 6 * VOICE_HZ:
        for _ in range(random.integers(2, 6)):
            hiss = random.random() < 0.25  # noqa: PLR2004 - every fourth sound
            parts.append(_hiss(random, loud / 4) if hiss else _vowel(random, pitch * random.uniform(0.85, 1.2), loud))
        parts.append(np.zeros(int(random.uniform(0.1, 0.9) * VOICE_HZ), np.float32))
    sound = np.concatenate(parts)[: 6 * VOICE_HZ]
    noisy = sound + random.normal(0, random.choice([0.0005, 0.005, 0.03]), len(sound))
    return np.clip(noisy, -1, 1).astype(np.float32)


def _vowel(random: np.random.Generator, pitch: float, loud: float) -> Sound:
    count = int(random.uniform(0.08, 0.25) * VOICE_HZ)
    time = np.arange(count) / VOICE_HZ
    bent = pitch * (1 + 0.03 * np.sin(2 * np.pi * 5 * time) - 0.2 * time)
    phase = 2 * np.pi * np.cumsum(bent) / VOICE_HZ
    formants = np.array(VOWELS[random.integers(len(VOWELS))])
    sound = np.zeros(count)
    for harmonic in range(1, int(4000 / pitch)):
        gain = np.sum(1 / (1 + ((harmonic * pitch - formants) / (60 + 0.04 * formants)) ** 2)) / harmonic**0.5
        sound += gain * np.sin(harmonic * phase + random.uniform(0, 0.3))
    return (_faded(sound) * loud / max(1e-9, float(np.abs(sound).max()))).astype(np.float32)


def _hiss(random: np.random.Generator, loud: float) -> Sound:
    noise = np.diff(random.normal(0, 1, int(random.uniform(0.05, 0.15) * VOICE_HZ) + 1))
    return (_faded(noise) * loud / 3).astype(np.float32)


def _faded(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    ramp = np.minimum(1, np.minimum(np.arange(len(sound)), np.arange(len(sound))[::-1]) / 320)
    return sound * ramp


def make_music(store: Store) -> None:
    """Two seconds of notes and chords a sample; the ONNX and the TFLite export of one model.

    The gate's bootstrap decides from 200 samples on.
    """
    for wanted in (PITCH_ONNX, PITCH_TFLITE):
        store.model(from_wheel(wanted, store.cache))
    for name, count, seed in (("calibration", 48, 1), ("evaluation", 200, 2)):
        random = np.random.default_rng(seed)
        store.data(name, audio=np.stack([music(random) for _ in range(count)])[..., None])
    # By position, as the exports name their tensors with colons and numbers.
    store.contract(
        {
            "version": "1.0",
            "task": "regression",
            "inputs": [{"name": "audio", "shape": [1, MUSIC, 1], "layout": "NTC", "range": [-1, 1]}],
            "outputs": [
                {"name": "onsets", "shape": [1, FRAMES, KEYS], "range": [0, 1]},
                {"name": "notes", "shape": [1, FRAMES, KEYS], "range": [0, 1]},
                {"name": "contours", "shape": [1, FRAMES, 3 * KEYS], "range": [0, 1]},
            ],
        }
    )


def music(random: np.random.Generator) -> Sound:
    """Return 2 s: notes of a struck or a blown instrument, one to four at a time, with a little noise."""
    time = np.arange(MUSIC) / MUSIC_HZ
    sound = np.zeros(MUSIC)
    at = random.uniform(0, 0.3)
    while at < 1.9:  # noqa: PLR2004 - seconds
        length = random.uniform(0.2, 0.9)
        for key in random.integers(36, 84, random.integers(1, 5)):
            sound += _note(random, time - at, 440 * 2 ** ((key - 69) / 12), length)
        at += length * random.uniform(0.5, 1.1)
    sound = sound * random.uniform(0.2, 0.9) / max(1e-9, float(np.abs(sound).max()))
    return np.clip(sound + random.normal(0, random.uniform(0, 0.01), MUSIC), -1, 1).astype(np.float32)


def _note(random: np.random.Generator, time: NDArray[np.float64], hz: float, length: float) -> NDArray[np.float64]:
    struck = random.random() < 0.6  # noqa: PLR2004 - more often than blown
    loud = np.exp(-3 * time / length) if struck else np.minimum(1, np.maximum(0, (length - time) / 0.05))
    loud = np.where((time >= 0) & (time < length + 0.1), loud * np.minimum(1, np.maximum(0, time) / 0.01), 0)
    partials = sum(
        random.uniform(0.6, 1) / order**1.3 * np.sin(2 * np.pi * hz * order * time)
        for order in range(1, 9)
        if hz * order < MUSIC_HZ / 2
    )
    return random.uniform(0.4, 1) * loud * partials


SEEN = "What it may lose was set after a first run had shown figures, so this is no blind test"
CASES = (
    Case(
        name="silero-vad",
        what="Silero VAD 6.2.3, is somebody speaking? (ONNX opset 15 with state and If, 1.3 MB, MIT)",
        data=f"speech made by formula, the states as they occur; no truth: agreement with float. {SEEN}",
        figure="decisions",
        make=make_voice,
        formats=("onnx",),
        max_drop=0.001,
    ),
    Case(
        name="basic-pitch",
        what="Basic Pitch 0.4.0, notes of music (ONNX and TFLite, 0.2 MB, Apache-2.0)",
        data=f"notes and chords made by formula; no truth: F1 of the float model's note cells. {SEEN}",
        figure="cells",
        make=make_music,
        max_drop=0.002,
    ),
)
