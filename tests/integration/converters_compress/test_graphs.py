"""Random graphs: what is called lossless is lossless, and what is not understood is kept or refused."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow
SMALL = 1e-4


def test_inlining_changes_no_answer(lab):
    """A flat copy of a model answers as the model does, nested, shared and with dictionaries too."""
    assert max(row["same"] for row in lab["shrinks"]) < SMALL
    assert lab["nested"]["same"] < SMALL
    assert lab["nested"]["nested_layers"] == []
    assert lab["nested"]["outputs"] == ["p", "q"]


def test_dead_channels_are_removed_without_loss(lab):
    """Filters of zeros, unread channels and constants go from random graphs; answers differ by rounding at most."""
    assert max(row["difference"] for row in lab["shrinks"]) < SMALL
    assert sum(row["removed"] for row in lab["shrinks"]) > len(lab["shrinks"])
    assert all(row["parameters"] > 0 for row in lab["shrinks"] if row["removed"])
    assert sum(lab["nested"]["removed"].values()) > 0
    assert lab["nested"]["difference"] < SMALL


def test_a_shrunk_model_has_nothing_left_to_remove(lab):
    """One call finds all: removing a channel may free others before and behind it."""
    assert [row["left"] for row in lab["shrinks"]] == [0] * len(lab["shrinks"])


def test_what_is_called_constant_is_constant(lab):
    """Every constant that the analysis finds in any layer is seen in the layer's answers."""
    assert all(row["constants"] for row in lab["shrinks"])


def test_masked_channels_can_all_be_removed(lab):
    """Half of what can be pruned is masked; the smaller model answers alike and has lost those channels."""
    pruned = [row for row in lab["prunes"] if "free" in row]
    assert len(pruned) > len(lab["prunes"]) / 2
    assert max(row["difference"] for row in pruned) < SMALL
    for row in pruned:
        assert row["rest"] < row["free"]


def test_unusual_graphs_are_pruned_where_that_is_sound(lab):
    """One ReLU or convolution called twice, a Reshape of two shapes, layers as activations: pruned or kept."""
    odd = lab["odd"]
    assert max(row["difference"] for row in odd.values()) < SMALL
    assert odd["reused"]["removed"] == [4, 6]
    assert odd["called_twice"]["removed"] == [4]
    assert odd["layers_as_activations"]["removed"] == [4]
    assert any("softmax looks at all" in why for why in odd["layers_as_activations"]["kept"])
    assert "its PReLU has weights of its own" in odd["layers_as_activations"]["barriers"]
    assert any("its calls differ" in why or "mixes" in why for why in odd["one_reshape"]["kept"])
    assert [row["probabilities"] for row in odd.values()] == [False, False, True, False]


def test_masks_of_weights_keep_the_share_that_is_asked(lab):
    """Per kernel or over the whole model; no kernel is emptied."""
    assert all(abs(share - 0.25) < 0.05 for share in lab["weights"]["each"])
    assert abs(lab["weights"]["whole"] - 0.25) < 0.01
    assert lab["weights"]["all_alive"]


def test_what_cannot_be_pruned_is_refused_by_name(lab):
    """Python code that calls layers, and a model whose channels all meet a recurrent layer."""
    assert "Own" in lab["refusals"]["subclass"]
    assert "prune-unsupported" in lab["refusals"]["subclass"]
    assert "LSTM" in lab["refusals"]["recurrent"]
