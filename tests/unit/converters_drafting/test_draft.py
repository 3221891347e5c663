"""A drafted contract: always a contract, and what is guessed is marked."""

from __future__ import annotations

import re
from contextlib import nullcontext

import pytest
from edgesdk_converters.drafting.draft import Facts, draft, guess_layout, guess_task
from edgesdk_converters.drafting.facts import plausible, union
from edgesdk_converters.drafting.fit import fit
from edgesdk_converters.drafting.ports import Port, Ports
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.contract import Contract, load_contract_toml
from edgesdk.errors import ConfigError

PICTURE = Port(name="image", shape=(None, 28, 28, 1), dtype="float32")
SCORES = Port(name="probabilities", shape=(None, 3), dtype="float32")


def ports(*inputs: Port, outputs: tuple[Port, ...] = (SCORES,), kind: str = "keras") -> Ports:
    """A model's."""
    return Ports(format=kind, inputs=inputs, outputs=outputs)  # type: ignore[arg-type] # one of the formats


def drafted(model: Ports, facts: Facts | None = None) -> Contract:
    """The draft, read."""
    return load_contract_toml(draft(model, "model.bin", facts))


_port = st.builds(
    Port,
    name=st.text(min_size=1, max_size=40),
    shape=st.lists(st.none() | st.integers(1, 4096), max_size=5).map(tuple),
    dtype=st.sampled_from(["float32", "int64", "float64", "string", "uint8", "unknown"]),
)
_facts = st.builds(
    Facts,
    labels=st.lists(st.text(max_size=20), max_size=4).map(tuple),
    samples=st.integers(0, 10),
    source=st.text(max_size=20),
)


@given(
    st.lists(_port, min_size=1, max_size=3, unique_by=lambda port: port.name),
    st.lists(_port, min_size=1, max_size=3, unique_by=lambda port: port.name),
    _facts,
    st.sampled_from(["tflite", "onnx", "pt2", "keras", "savedmodel"]),
    st.text(max_size=20),
)
def test_every_draft_is_a_contract(inputs: list[Port], outputs: list[Port], facts: Facts, kind: str, name: str) -> None:
    """Whatever names, sizes, types and labels a model and its data have, the text is read as a contract of them."""
    model = Ports(format=kind, inputs=tuple(inputs), outputs=tuple(outputs))  # type: ignore[arg-type]
    contract = load_contract_toml(draft(model, name, facts))
    assert [len(spec.shape) for spec in contract.inputs] == [len(port.shape) for port in inputs]
    assert [len(spec.shape) for spec in contract.outputs] == [len(port.shape) for port in outputs]


def test_the_draft_of_a_picture_model_needs_a_person_for_meanings_only() -> None:
    """Sizes, layout, colour and task are there; the batch is one; labels, unit, range and normalisation are marked."""
    text = draft(ports(PICTURE), "model.keras")
    contract = load_contract_toml(text)
    (image,) = contract.inputs
    assert (image.shape, image.layout, image.colour) == ((1, 28, 28, 1), "NHWC", "GRAY")
    assert contract.task == "classification"
    assert contract.labels == ("class0", "class1", "class2")
    marked = {re.split("[ =]", line.removeprefix("# "))[0] for line in text.splitlines() if "# CHECK" in line}
    assert {"task", "labels", "layout", "colour", "unit", "range", "[inputs.normalisation]"} <= marked


def test_data_gives_ranges_and_labels() -> None:
    """What data told stands in the draft, with where it is from."""
    facts = Facts(labels=("cat", "dog", "owl"), ranges={"image": (0.0, 255.0)}, samples=60, source="pictures")
    text = draft(ports(PICTURE), "model.keras", facts)
    contract = load_contract_toml(text)
    assert contract.labels == ("cat", "dog", "owl")
    assert contract.inputs[0].range == (0.0, 255.0)
    assert "60 samples of pictures" in text


def test_labels_of_another_number_are_not_taken() -> None:
    """Two classes of data do not name three of a model, and the draft says so."""
    text = draft(ports(PICTURE), "m", Facts(labels=("cat", "dog"), source="pictures"))
    assert load_contract_toml(text).labels == ("class0", "class1", "class2")
    assert "pictures has 2 classes, the model 3" in text


def test_names_that_apps_cannot_use_are_replaced() -> None:
    """A tensor's odd name becomes a plain one, and the draft says which it was."""
    odd = Port(name="serving default;x", shape=(1, 4), dtype="float32")
    text = draft(ports(odd), "m")
    assert load_contract_toml(text).inputs[0].name == "input"
    assert "serving default;x" in text


def test_open_sizes_get_symbols_of_their_own() -> None:
    """Two open sizes are no one size: a symbol has one value within a call."""
    a, b = (Port(name=name, shape=(None, None), dtype="float32") for name in ("a", "b"))
    first, second = drafted(ports(a, b)).inputs
    assert first.shape[0] == 1
    assert first.shape[1] != second.shape[1]


@pytest.mark.parametrize(
    ("shape", "first", "expected"),
    [
        ((1, 3, 32, 32), 1, "NCHW"),
        ((1, 32, 32, 3), 1, "NHWC"),
        ((1, 32, 32, 3), 0, "NHWC"),
        ((1, 1, 32, 32), 0, "NCHW"),
        ((1, 64, 32, 32), 1, "NCHW"),
        ((1, 128, 6), 1, "NTC"),
        ((1, 6, 128), 0, "NCT"),
        ((1, 7), 0, "NC"),
        ((1, 2, 3, 4, 5), 0, None),
    ],
)
def test_layouts_are_guessed_by_sizes_then_by_format(shape: tuple[int, ...], first: int, expected: str | None) -> None:
    """Three colours or one, and fewer channels than moments, tell axes apart; where they do not the format does."""
    assert guess_layout(Port(name="x", shape=shape, dtype="float32"), channels_first=bool(first)) == expected


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [(((1, 7),), "classification"), (((1, 1),), "regression"), (((1, 7), (1, 2)), "other"), (((1, 9, 4),), "other")],
)
def test_tasks_are_guessed_by_outputs(shapes: tuple[tuple[int, ...], ...], expected: str) -> None:
    """One row of scores classifies, one number is a regression, the rest nobody can know."""
    assert guess_task(tuple(Port(name=str(shape), shape=shape, dtype="float32") for shape in shapes)) == expected


def test_a_contract_is_told_every_difference_at_once() -> None:
    """Size, rank of the layout and an open size are named together."""
    contract = load_contract_toml(
        'version = "1.0"\ntask = "other"\n'
        '[[inputs]]\nname = "image"\nshape = [1, "w", 32, 3]\nlayout = "NHW"\n'
        '[[outputs]]\nname = "probabilities"\nshape = [1, 5]\n'
    )
    with pytest.raises(ConfigError) as caught:
        fit(contract, ports(PICTURE))
    assert caught.value.code == "contract-mismatch"
    for said in ("(None, 28, 28, 1)".replace("None", "'?'"), "size 1 is open ('w')", "3 letters for 4 axes", "(1, 5)"):
        assert said in caught.value.message


def test_a_draft_fits_its_own_model() -> None:
    """What was drafted is checked against the same model without a complaint."""
    model = ports(PICTURE)
    found = fit(drafted(model), model)
    assert [(each["kind"], each["contract"], each["model"]) for each in found] == [
        ("input", "image", "image"),
        ("output", "probabilities", "probabilities"),
    ]


@pytest.mark.parametrize(
    ("layout", "colour", "mean", "said"),
    [
        ("NCHW", "GRAY", 1, "gives 28 channels, colour is for 1"),
        ("NHWC", "RGB", 1, "gives 1 channels, colour is for 3"),
        ("NHWC", "GRAY", 3, "gives 1 channels, normalisation is for 3"),
    ],
)
def test_layout_colour_and_normalisation_speak_of_the_same_channels(
    layout: str, colour: str, mean: int, said: str
) -> None:
    """A layout that puts the channels elsewhere is found without data."""
    contract = load_contract_toml(
        'version = "1.0"\ntask = "classification"\n'
        f'[[inputs]]\nname = "image"\nshape = [1, 28, 28, 1]\nlayout = "{layout}"\ncolour = "{colour}"\n'
        f"[inputs.normalisation]\nmean = {[0.0] * mean}\nstd = {[1.0] * mean}\n"
        '[[outputs]]\nname = "probabilities"\nshape = [1, 3]\n'
    )
    with pytest.raises(ConfigError, match=said):
        fit(contract, ports(PICTURE))


@pytest.mark.parametrize(
    ("means", "stds", "said"), [(1, 1, None), (3, 3, None), (1, 3, "1 means and 3 deviations"), (2, 2, "is for 2")]
)
def test_one_number_normalises_all_channels(means: int, stds: int, said: str | None) -> None:
    """As the quick start writes it, and as devices take it; anything between one and all is a mistake."""
    contract = load_contract_toml(
        'version = "1.0"\ntask = "classification"\n'
        '[[inputs]]\nname = "image"\nshape = [1, 28, 28, 3]\nlayout = "NHWC"\ncolour = "RGB"\n'
        f"[inputs.normalisation]\nmean = {[127.5] * means}\nstd = {[127.5] * stds}\n"
        '[[outputs]]\nname = "probabilities"\nshape = [1, 3]\n'
    )
    model = ports(Port(name="image", shape=(1, 28, 28, 3), dtype="float32"))
    with nullcontext() if said is None else pytest.raises(ConfigError, match=said):
        fit(contract, model)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [((0.0, 255.0), (0.0, 255.0)), ((5.0, 5.0), (5.0, 5.0)), ((-18.6194, 110.339), (-26.0, 117.0))],
)
def test_a_drafted_range_leaves_room(seen: tuple[float, float], expected: tuple[float, float]) -> None:
    """Plain ends stay; others are a twentieth wider and round, so that the same data of other digits fits."""
    assert plausible(*seen) == expected


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([("b", "a"), ("a",)], ("b", "a")),
        ([("a", "c"), ("a", "b")], ("a", "b", "c")),
        ([(), ("b", "a")], ("b", "a")),
        ([(), ()], ()),
    ],
)
def test_classes_of_several_sets(sets: list[tuple[str, ...]], expected: tuple[str, ...]) -> None:
    """The set that has all classes knows their order; where none has, the alphabet does."""
    assert union(sets) == expected
