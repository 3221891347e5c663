"""Recipes: the named ones, people's own, and what layers they mean."""

from __future__ import annotations

import msgspec
import pytest
from edgesdk_converters.recipes import RECIPES, Recipe, find_recipe, find_recipes, names_layer

from edgesdk.errors import ConfigError


@pytest.fixture
def written(tmp_path):
    """Write a recipe file; return its name."""

    def write(text: str, name: str = "mine.toml") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_recipe_survives_its_lineage(recipe):
    """What is written into a bundle is the whole recipe: it can be read back."""
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(recipe)), Recipe) == recipe


def test_a_recipe_says_what_it_makes():
    """A recipe for one format makes none of the other, and only static ones need calibration."""
    assert RECIPES["int16x8"].makes("tflite")
    assert not RECIPES["int16x8"].makes("onnx")
    assert not RECIPES["float"].quantizes("onnx")
    assert RECIPES["float16"].quantizes("onnx")
    assert RECIPES["int8"].calibrates("tflite")
    assert not RECIPES["int8-dynamic"].calibrates("tflite")


def test_a_file_changes_a_named_recipe(written):
    """What the file leaves out is the base's; its name is that of the file; tables of one kind are merged."""
    recipe = find_recipe(written('base = "int8"\ncalibration_range = "mse"\n[onnx]\nreduce_range = false\n'))
    assert recipe.name == "mine"
    assert recipe.calibration_range == "mse"
    assert recipe.tflite == RECIPES["int8"].tflite
    assert recipe.onnx == msgspec.structs.replace(RECIPES["int8"].onnx, reduce_range=False)


def test_a_file_can_stand_alone(written):
    """Without a base the tables say everything."""
    recipe = find_recipe(written('[tflite]\nkind = "static"\nactivations = "int16"\n'))
    assert recipe.precision == "int16x8"
    assert recipe.onnx is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs options for tflite or onnx"),
        ("base = [", "no TOML"),
        ('base = "int9"', "none of"),
        ('base = "int8"\ncalibration = "mse"', "unknown field `calibration`"),
        ('base = "int8"\npercentile = 20', "percentile"),
        ('base = "int8"\n[onnx]\nkind = "float16"', "one precision"),
        ('base = "int8"\nname = "float"', "is taken"),
        ('base = "int8"\nname = "Mine!"', "name"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong(written, text, words):
    """Each mistake is named, with the file."""
    with pytest.raises(ConfigError, match=words) as caught:
        find_recipe(written(text))
    assert "mine.toml" in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tflite]\nrounding = 'nearset'", "Did you mean nearest? rounding is one of nearest, calibrated."),
        ("rounding = 'nearest'", "rounding belongs into [onnx] or [tflite]."),
        ("[onnx]\nruonding = 'nearest'", "Did you mean rounding? "),
        ("[onnx]\nfloat_layers = ['a']", "float_layers belongs at the top"),
        ("calibration_rnage = 'mse'", "Did you mean calibration_range? "),
        ("[onnx]\nkind = 'statc'", "Did you mean static? kind is one of dynamic, float16, float32, static, weights."),
    ],
)
def test_a_misspelt_recipe_is_answered_with_what_was_meant(written, text, said):
    """The field that was meant, the table where it belongs, or the values that it may have."""
    with pytest.raises(ConfigError) as caught:
        find_recipe(written(f"base = 'int8'\n{text}"))
    assert caught.value.hint.startswith(said)


def test_a_missing_file_and_an_unknown_name_are_two_errors(tmp_path):
    """A path that is not there is a missing file; a name that is not there gets the list of names."""
    with pytest.raises(ConfigError) as caught:
        find_recipe(str(tmp_path / "no.toml"))
    assert caught.value.code == "file-missing"
    with pytest.raises(ConfigError) as caught:
        find_recipe("int9")
    assert "int16x8" in caught.value.hint


def test_recipes_are_taken_once_and_two_of_one_name_are_refused(written, tmp_path):
    """Names may repeat; two different files may not bear one name."""
    first = written('base = "int8"\ncalibration_range = "mse"')
    assert [recipe.name for recipe in find_recipes(["int8", first, "int8", first])] == ["int8", "mine"]
    (tmp_path / "other").mkdir()
    second = written('base = "int8"\nname = "mine"', "other/second.toml")
    with pytest.raises(ConfigError, match="two recipes"):
        find_recipes([first, second])


def test_layers_are_named_whole_or_by_pattern():
    """A name with brackets means itself; a pattern means what a shell would."""
    assert names_layer(("conv[0]",), "conv[0]")
    assert names_layer(("*/softmax*",), "node_7", "model/softmax_1/Softmax")
    assert not names_layer(("softmax",), "model/softmax")
    assert not names_layer((), "anything")
