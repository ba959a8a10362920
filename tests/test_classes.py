"""The table of classes against the wheel's own, and every way to name a class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbgan_infer.classes import NUM_CLASSES, all_classes, all_kinds, find_class, list_classes, parse_classes, search
from nsbgan_infer.errors import UnknownNameError


def test_ids_and_wordnet_ids_are_those_of_the_wheel() -> None:
    utils = pytest.importorskip("pytorch_pretrained_biggan.utils")
    wheel = {f"n{offset:08d}": class_id for offset, class_id in utils.IMAGENET.items()}
    assert {c.wnid: c.id for c in all_classes()} == wheel


def test_the_table_is_whole() -> None:
    classes = all_classes()
    assert [c.id for c in classes] == list(range(NUM_CLASSES))
    assert len({c.wnid for c in classes}) == NUM_CLASSES
    for c in classes:
        assert c.names and all(n == n.strip() and n for n in c.names)
        assert c.slug and all(ch.isascii() and (ch.isalnum() or ch == "-") for ch in c.slug)


@pytest.mark.parametrize(
    ("class_id", "name"),
    [
        (0, "tench"),
        (9, "ostrich"),
        (207, "golden retriever"),
        (281, "tabby"),
        (388, "giant panda"),
        (999, "toilet tissue"),
    ],
)
def test_known_classes(class_id: int, name: str) -> None:
    assert all_classes()[class_id].name == name
    assert find_class(name).id == find_class(class_id).id == find_class(f" {class_id} ").id == class_id


@given(st.integers(0, NUM_CLASSES - 1), st.integers(0, 20))
def test_every_class_is_found_by_id_wordnet_id_and_by_each_name_that_is_its_own(class_id: int, pick: int) -> None:
    c = all_classes()[class_id]
    assert find_class(class_id) == find_class(str(class_id)) == find_class(c.wnid) == c
    name = c.names[pick % len(c.names)]
    same = [o for o in all_classes() if name.lower() in (n.lower() for n in o.names)]
    if same == [c]:
        assert find_class(name) == find_class(name.upper()) == find_class(f"  {name} ") == c
    else:
        assert c in search(name)


@pytest.mark.parametrize(
    "query", ["Golden Retriever", "golden-retriever", "golden_retriever", "GOLDEN  RETRIEVER", "n02099601", "207", 207]
)
def test_ways_to_write_a_golden_retriever(query: str | int) -> None:
    assert find_class(query).id == 207


@pytest.mark.parametrize(("name", "ids"), [("crane", (134, 517)), ("maillot", (638, 639))])
def test_ambiguous_names_list_both(name: str, ids: tuple[int, int]) -> None:
    with pytest.raises(UnknownNameError, match="ambiguous") as caught:
        find_class(name)
    for i in ids:
        assert f"{i} {all_classes()[i].wnid}" in str(caught.value)


def test_a_part_of_a_name() -> None:
    assert find_class("axolotl").id == find_class("xolotl").id == 29
    with pytest.raises(UnknownNameError, match=r"'retriever' is ambiguous.*207 n02099601 golden retriever"):
        find_class("retriever")
    assert {c.id for c in search("retriever")} == {205, 206, 207, 208, 209}


@pytest.mark.parametrize(("kind", "first", "last"), [("dog", 151, 268), ("domestic cat", 281, 285), ("parrot", 87, 90)])
def test_a_kind_finds_all_that_are_one(kind: str, first: int, last: int) -> None:
    ids = [c.id for c in search(kind)]
    assert ids[: last - first + 1] == list(range(first, last + 1))


def test_whole_words_come_before_parts_of_words() -> None:
    ids = [c.id for c in search("dog")]
    assert ids[118:121] == [275, 537, 934]  # wild dog, dog sled and hot dog are no dogs, and stand behind the breeds
    cats = search("cat")
    assert [c.id for c in cats[:7]] == list(range(281, 288)) and any("catamaran" in c.names for c in cats[7:])
    gold = [c.name for c in search("gold")]
    assert gold[0] == "black and gold garden spider" and {"golden retriever", "goldfish"} <= set(gold)
    assert find_class("husky").id == 248  # no other has that word, whatever contains it


def test_among_some_classes_the_next_best_counts() -> None:
    assert [c.id for c in search("tiger", (6, 104, 3))] == [3]  # a tiger shark, where there is no tiger
    assert [c.id for c in search("gold", (207, 574))] == [207]


def test_the_table_of_kinds_fits_that_of_classes() -> None:
    """Every class is below something, and every kind has classes that exist."""
    kinds = all_kinds()
    assert {i for ids in kinds.values() for i in ids} == set(range(NUM_CLASSES))
    assert set(kinds["retriever"]) == {205, 206, 207, 208, 209}
    assert set(kinds["retriever"]) < set(kinds["sporting dog"]) < set(kinds["dog"]) < set(kinds["canine"])
    assert 817 in kinds["car"] and 817 in kinds["wheeled vehicle"]  # sports car


def test_a_kind_of_many_classes_is_ambiguous_and_says_how_to_see_them() -> None:
    with pytest.raises(UnknownNameError, match=r"'terrier' is ambiguous.*179 .*`nsbgan classes terrier`"):
        find_class("terrier")


def test_an_exact_name_wins_over_names_that_contain_it() -> None:
    assert find_class("tiger").id == 292  # not tiger shark, tiger beetle, ...
    assert len(search("tiger")) == 1


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("goldn retriever", "golden retriever (207)"),
        ("retreiver", "retriever"),
        ("axolotll", "axolotl"),
        ("tabbycat", "tabby"),
    ],
)
def test_did_you_mean(text: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match="did you mean") as caught:
        find_class(text)
    assert near in str(caught.value)


def test_words_within_names_are_ranked_by_their_own_likeness() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_class("retreiver")
    assert str(caught.value).count("retriever (20") == 5 and "screwdriver" not in str(caught.value)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (1000, "ids go from 0 to 999"),
        (-1, "ids go from 0 to 999"),
        ("1e3", "No ImageNet class"),
        ("n00000000", "WordNet id n00000000 is not one of"),
        ("", "No ImageNet class"),
        ("-", "No ImageNet class"),
        ("   ", "No ImageNet class"),
        ("zzzzqqqq", "`nsbgan classes` lists all"),
        ("9" * 6000, "No ImageNet class|does not exist"),
        ("٢٠٧", "No ImageNet class"),
    ],
)
def test_what_is_no_class(query: str | int, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        find_class(query)


@given(st.text(max_size=30) | st.integers())
def test_any_query_gives_a_class_or_one_sentence(query: str | int) -> None:
    try:
        assert find_class(query) in all_classes()
    except UnknownNameError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("items", "ids"),
    [
        (["207"], [207]),
        ([207, "n02099601", "golden retriever"], [207]),
        (["200-203"], [200, 201, 202, 203]),
        (["200 - 201", 5, "201-202"], [200, 201, 5, 202]),
        (["7-7"], [7]),
        (["tench", "goldfish"], [0, 1]),
        ([], []),
    ],
)
def test_lists_and_ranges(items: list[str | int], ids: list[int]) -> None:
    assert parse_classes(items) == ids


def test_all_means_what_the_sampler_has() -> None:
    assert parse_classes(["all"]) == list(range(NUM_CLASSES))
    assert parse_classes(["ALL"], available=[207, 3]) == [207, 3]
    assert parse_classes([5, "all"], available=[207, 5]) == [5, 207]
    assert parse_classes("all", available=[207, 5]) == [207, 5] and parse_classes("goldfish") == parse_classes(1) == [1]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("210-200", "runs backwards: write 200-210"),
        ("990-1000", "1000 does not exist"),
        ("5-", "No ImageNet class"),
        ("-5", "-5 does not exist"),
    ],
)
def test_ranges_that_do_not_exist(item: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        parse_classes([item])


@given(st.integers(0, 999), st.integers(0, 999))
def test_a_range_holds_both_ends(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert parse_classes([f"{low}-{high}"]) == list(range(low, high + 1))


def test_classes_are_listed_by_kind_name_or_id() -> None:
    assert len(list_classes()) == len(list_classes(" ")) == NUM_CLASSES
    assert [c.id for c in list_classes("retriever")] == [205, 206, 207, 208, 209]
    assert [c.id for c in list_classes("n02099601")] == [207]
    with pytest.raises(UnknownNameError, match="did you mean"):
        list_classes("retreiver")
