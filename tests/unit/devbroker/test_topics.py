from hypothesis import given
from hypothesis import strategies as st

from edgesdk.devbroker.topics import FilterTrie, TopicTrie, matches, split_share, valid_filter, valid_topic

LEVELS = st.sampled_from(["a", "b", "", "$x"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(valid_topic)
FILTERS = (
    st.tuples(st.lists(st.sampled_from(["a", "b", "", "+", "$x"]), max_size=4), st.sampled_from(["a", "#", "+"]))
    .map(lambda parts: "/".join([*parts[0], parts[1]]))
    .filter(valid_filter)
)


def test_matching_follows_the_examples_of_the_specification():
    """The examples of section 4.7 hold, those on levels above `#` and on `$` included."""
    assert matches("sport/#", "sport")
    assert matches("sport/+", "sport/")
    assert matches("+/+", "/finance")
    assert matches("$SYS/#", "$SYS/monitor")
    assert not matches("#", "$SYS/monitor")
    assert not matches("+/monitor", "$SYS/monitor")
    assert not matches("sport/+", "sport")


def test_misplaced_wildcards_are_invalid():
    """`#` only last, wildcards only alone in a level."""
    assert [valid_filter(f) for f in ("#", "+/a/#", "a#", "a/#/b", "a+", "")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert not valid_topic("a/+")


def test_share_is_split_or_refused():
    """A shared subscription gives its group; an empty group or a missing filter is refused."""
    assert split_share("$share/g/a/+") == ("g", "a/+")
    assert split_share("a/b") == (None, "a/b")
    assert [split_share(bad) for bad in ("$share//a", "$share/g", "$share", "$share/+/a")] == [None] * 4


@given(st.lists(FILTERS, max_size=12), TOPICS)
def test_the_filter_trie_finds_what_a_scan_finds(filters, topic):
    """Looking a topic up in the trie equals testing each filter."""
    trie: FilterTrie[str, int] = FilterTrie()
    for topic_filter in filters:
        trie.put(topic_filter, topic_filter, 1)
    assert sorted(key for key, _ in trie.matching(topic)) == sorted(f for f in set(filters) if matches(f, topic))


@given(st.lists(TOPICS, max_size=12), FILTERS, st.data())
def test_the_topic_trie_finds_what_a_scan_finds_after_drops(topics, topic_filter, data):
    """Looking a filter up among topics equals a scan, also after some were dropped; emptied, nothing stays."""
    trie: TopicTrie[str] = TopicTrie()
    for topic in topics:
        trie.put(topic, None, topic)
    gone = data.draw(st.sets(st.sampled_from(topics))) if topics else set()
    for topic in gone:
        assert trie.drop(topic, None)
        assert not trie.drop(topic, None)
    assert sorted(trie.matching(topic_filter)) == sorted(t for t in set(topics) - gone if matches(topic_filter, t))
    assert len(trie) == len(set(topics) - gone)
    for topic in set(topics) - gone:
        trie.drop(topic, None)
    assert not trie._root.children
