"""Topic names, filters and the two tries that match them without a scan; pure (MQTT 5.0, section 4.7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

MAX_LEVELS = 64
"""Levels of a topic or filter; MQTT has no such limit, but a trie walked by recursion needs one."""

_SHARE = "$share"

K = TypeVar("K")
V = TypeVar("V")


class Share(NamedTuple):
    """A shared subscription's group and the filter within it; `group` is None for an ordinary one."""

    group: str | None
    topic_filter: str


def valid_topic(topic: str) -> bool:
    """Say whether this can be published to: not empty, no wildcard, at most `MAX_LEVELS` levels."""
    return bool(topic) and not any(c in topic for c in "+#\0") and topic.count("/") < MAX_LEVELS


def valid_filter(topic_filter: str) -> bool:
    """Say whether this can be subscribed to; wildcards stand alone in a level and ``#`` comes last."""
    levels = topic_filter.split("/")
    if not topic_filter or "\0" in topic_filter or len(levels) > MAX_LEVELS or "#" in levels[:-1]:
        return False
    return all(level in {"+", "#"} or not any(c in level for c in "+#") for level in levels)


def split_share(subscription: str) -> Share | None:
    """Split ``$share/{group}/{filter}``; None when it is not a valid filter, shared or not."""
    if subscription != _SHARE and not subscription.startswith(_SHARE + "/"):
        return Share(None, subscription) if valid_filter(subscription) else None
    _, _, rest = subscription.partition("/")
    group, _, topic_filter = rest.partition("/")
    if not group or any(c in group for c in "+#") or not valid_filter(topic_filter):
        return None
    return Share(group, topic_filter)


def matches(topic_filter: str, topic: str) -> bool:
    """Say whether a filter matches a topic; leading wildcards do not match topics that begin with ``$``."""
    levels, parts = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and levels[0] in {"+", "#"}:
        return False
    for position, level in enumerate(levels):
        if level == "#":
            return True
        if position >= len(parts) or level not in {"+", parts[position]}:
            return False
    return len(levels) == len(parts)


@dataclass(slots=True)
class _Node(Generic[K, V]):
    children: dict[str, _Node[K, V]] = field(default_factory=dict)
    values: dict[K, V] = field(default_factory=dict)


class _Trie(Generic[K, V]):
    """Values under (path, key), where a path is cut at slashes; empty branches are pruned."""

    def __init__(self) -> None:
        self._root: _Node[K, V] = _Node()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, path: str, key: K, value: V) -> bool:
        """Store a value; returns whether it is new."""
        node = self._root
        for level in path.split("/"):
            node = node.children.setdefault(level, _Node())
        new = key not in node.values
        self._size += new
        node.values[key] = value
        return new

    def drop(self, path: str, key: K) -> bool:
        """Remove a value; returns whether it was there."""
        levels = path.split("/")
        nodes = [self._root]
        for level in levels:
            child = nodes[-1].children.get(level)
            if child is None:
                return False
            nodes.append(child)
        if key not in nodes[-1].values:
            return False
        del nodes[-1].values[key]
        self._size -= 1
        for level, parent, child in zip(reversed(levels), reversed(nodes[:-1]), reversed(nodes[1:]), strict=True):
            if child.values or child.children:
                break
            del parent.children[level]
        return True


class FilterTrie(_Trie[K, V]):
    """Subscriptions stored by filter, found by topic."""

    def matching(self, topic: str) -> Iterator[tuple[K, V]]:
        """Yield what is stored under every filter that matches the topic."""
        yield from self._walk(self._root, topic.split("/"), 0, wild=not topic.startswith("$"))

    def _walk(self, node: _Node[K, V], parts: list[str], at: int, *, wild: bool) -> Iterator[tuple[K, V]]:
        if wild and (rest := node.children.get("#")) is not None:
            yield from rest.values.items()
        if at == len(parts):
            yield from node.values.items()
            return
        for level in (parts[at], "+") if wild else (parts[at],):
            child = node.children.get(level)
            if child is not None:
                yield from self._walk(child, parts, at + 1, wild=True)


class TopicTrie(_Trie[None, V]):
    """One value for each topic, found by filter: the retained messages."""

    def matching(self, topic_filter: str) -> Iterator[V]:
        """Yield the value of every topic that the filter matches."""
        yield from self._walk(self._root, topic_filter.split("/"), 0)

    def _walk(self, node: _Node[None, V], levels: list[str], at: int) -> Iterator[V]:
        if at == len(levels):
            yield from node.values.values()
            return
        level = levels[at]
        if level == "#":
            yield from self._below(node, top=at == 0)
        elif level == "+":
            for name, child in node.children.items():
                if at or not name.startswith("$"):
                    yield from self._walk(child, levels, at + 1)
        elif (child := node.children.get(level)) is not None:  # type: ignore[assignment] # rebound after the loop
            yield from self._walk(child, levels, at + 1)

    def _below(self, node: _Node[None, V], *, top: bool) -> Iterator[V]:
        yield from node.values.values()
        for name, child in node.children.items():
            if not (top and name.startswith("$")):
                yield from self._below(child, top=False)
