"""Words, sentences and rows: nothing is lost, and places are right in any script."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_tasks.tasks.extraction.reading import RowReader, kept, shared_ids
from gpt_tasks.tasks.extraction.sentences import split_sentences
from gpt_tasks.tasks.extraction.words import find_words, pieces, rejoin, splits_hyphens

# Letters, digits, marks, emoji and their joiners, ideograms, right-to-left, spaces, and whatever else there is.
TEXTS = st.text(
    st.one_of(st.sampled_from("aZé9 .'’-&@#/\n\t\u0301\u200d\u200c👩🏽🚀😀\ufe0f中文かאב,ا()\"n't"), st.characters())
)


def words_of(text, split_hyphens=False):
    return [text[word.start : word.end] for word in find_words(text, split_hyphens)]


def sentences_of(text):
    return [[text[word.start : word.end] for word in words] for words in split_sentences(text, find_words(text))]


class TestFindWords:
    @given(TEXTS, st.booleans())
    def test_every_character_but_spaces_is_in_one_word(self, text, split):
        words = find_words(text, split)
        assert all(one.end <= other.start for one, other in pairwise(words))
        assert "".join(text[w.start : w.end] for w in words) == "".join(text.split())
        assert all(w.start < w.end for w in words)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("Mr. Smith didn't go.", ["Mr.", "Smith", "did", "n't", "go", "."]),
            (
                "It's J. R. Ewing's U.S. firm, AT&T",
                ["It", "'s", "J.", "R.", "Ewing", "'s", "U.S.", "firm", ",", "AT&T"],
            ),
            ("O'Brien paid $1,000.50 on 1996-08-28", ["O'Brien", "paid", "$", "1,000.50", "on", "1996-08-28"]),
            ("the all-rounder (6-4)...", ["the", "all-rounder", "(", "6-4", ")", "..."]),
            ("@user #tag https://a.example/b?c=1.", ["@user", "#tag", "https://a.example/b?c=1", "."]),
            ("北京大学 is in 北京。", ["北", "京", "大", "学", "is", "in", "北", "京", "。"]),
            ("cafe\u0301 👩🏽\u200d🚀👍", ["cafe\u0301", "👩🏽\u200d🚀", "👍"]),
            ("שלום עולם", ["שלום", "עולם"]),
            ("can’t we’ll", ["ca", "n’t", "we", "’ll"]),
        ],
    )
    def test_as_people_and_corpora_see_them(self, text, words):
        assert words_of(text) == words

    def test_hyphens_split_where_a_corpus_does(self):
        assert words_of("a drug-induced rash", True) == ["a", "drug", "-", "induced", "rash"]
        assert splits_hyphens([["drug", "-", "induced"]])
        assert not splits_hyphens([["all-rounder"], ["a", "-", "b"]])

    @pytest.mark.parametrize("text", ["a" * 200_000, "'" * 50_000, "a-" * 50_000, "A." * 50_000, "1." * 50_000])
    def test_long_words_take_no_time(self, text):
        assert "".join(words_of(text)) == text


class TestRejoin:
    @pytest.mark.parametrize(
        ("tokens", "text"),
        [
            (["He", "did", "n't", "go", ",", "it", "'s", "late", "."], "He didn't go, it's late."),
            (["``", "Yes", "''", "-LRB-", "he", "said", "-RRB-"], '"Yes" (he said)'),
            (["$", "5", "for", "50", "%", ":", "[", "x", "]"], "$5 for 50%: [x]"),
            (["CRICKET", "-", "ESSEX"], "CRICKET - ESSEX"),
        ],
    )
    def test_writes_as_people_do(self, tokens, text):
        assert "".join(rejoin(tokens)) == text

    def test_joins_what_was_split_at_hyphens(self):
        assert "".join(rejoin(["drug", "-", "induced"], split_hyphens=True)) == "drug-induced"

    @given(st.lists(st.text(min_size=1), min_size=1))
    def test_keeps_every_token(self, tokens):
        assert len(rejoin(tokens)) == len(tokens)
        assert all(rejoin(tokens))

    def test_words_of_the_joined_text_are_the_tokens(self):
        tokens = ["The", "U.S.", "all-rounder", "did", "n't", "hit", "Mr.", "Smith", "'s", "ball", ",", "he", "said"]
        assert words_of("".join(rejoin(tokens))) == tokens


class TestSentences:
    @given(TEXTS)
    def test_every_word_is_in_one_sentence(self, text):
        words = find_words(text)
        assert [word for sentence in split_sentences(text, words) for word in sentence] == words

    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("He came. She left! Why? Nobody knows ...", 4),
            ("Mr. Smith of the U.S. Army saw J. Doe.", 1),
            ("He paid 3.5 dollars, e.g. in cash.", 1),
            (
                "A headline\nThe text begins here and goes on for quite a while, as it does, until\nit ends here.",
                2,
            ),
            ("First paragraph\n\nSecond paragraph", 2),
            ("他来了。她走了。", 2),
            ("“Go.” He went.", 2),
        ],
    )
    def test_ends_where_people_end_them(self, text, count):
        assert len(sentences_of(text)) == count


class TestRows:
    @staticmethod
    def reader(window=20, begin=7, reading="once"):
        return RowReader(lambda word: [ord(letter) for letter in word], begin, window, reading)

    @given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=40), st.integers(2, 40))
    def test_every_word_is_answered_for_once_and_no_row_is_too_long(self, words, window):
        (rows,) = self.reader(window).rows([words])
        assert all(len(row.ids) <= window + 1 for row in rows)
        answered = [number for place in range(len(rows)) for number in range(*kept(rows, place))]
        assert answered == list(range(len(words)))

    def test_ends_are_the_words_last_tokens(self):
        ((row,),) = self.reader().rows([["ab", " c", "d"]])
        assert row.ids == (7, *map(ord, "ab cd"))
        assert [row.ids[end] for end in row.ends] == [ord("b"), ord("c"), ord("d")]

    def test_the_second_reading_has_seen_the_first(self):
        ((row,),) = self.reader(reading="twice").rows([["ab", " c"]])
        assert row.ids == (7, *map(ord, "ab cab c"))
        assert row.ends == (6, 8)

    def test_in_context_sentences_share_rows(self):
        first, second, long, last = ["ab"], [" cd", " e"], [" x" * 3] * 4, [" f"]
        rows = self.reader(window=10, reading="in_context").rows([first, second, long, last])
        assert rows[0][0].ids == rows[1][0].ids == (7, *map(ord, "ab cd e"))
        assert (rows[0][0].ends, rows[1][0].ends) == ((2,), (5, 7))
        assert len(rows[2]) > 1 and rows[3][0].ids == (7, *map(ord, " f"))
        assert shared_ids([row for sentence in rows for row in sentence])[0] == [0, 1]

    def test_parts_end_inside_their_word(self):
        ((row,),) = self.reader().part_rows([[["a"], [" bc", "-", "d"]]])
        assert row.whole().ends == (1, 6)
        assert row.apart(0).ends == (1, 4, 5, 6)

    def test_of_a_very_long_word_beginning_and_end_are_read(self):
        ((row,),) = RowReader(lambda word: [ord(c) for c in word], None, 192).rows([["x" + "-" * 10_000 + "y"]])
        assert len(row.ids) == 48
        assert (row.ids[0], row.ids[-1], row.ends) == (ord("x"), ord("y"), (47,))


def test_pieces_have_the_space_before_them():
    text = "a b\n(c)"
    assert pieces(text, find_words(text)) == ["a", " b", " (", "c", ")"]
