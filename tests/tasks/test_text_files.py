"""Files as people have them."""

import pytest

from gpt_tasks.errors import UserError
from gpt_tasks.tasks.text_files import parse_texts, read_text_file


def pairs(content, name="file.csv", **kwargs):
    return [(row.text, row.label) for row in parse_texts(content.encode(), name, **kwargs)]


class TestGoodFiles:
    @pytest.mark.parametrize("delimiter", ",;\t")
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_tables_of_every_country(self, delimiter, end, mark):
        lines = [f"Text{delimiter}label", f"good{delimiter}yes", "", f'"a{delimiter} b"{delimiter}no', ""]
        assert pairs(mark + end.join(lines)) == [("good", "yes"), (f"a{delimiter} b", "no")]

    def test_columns_in_any_order_with_others_between(self):
        assert pairs("id,label,text\n1,x,hello\n") == [("hello", "x")]

    def test_line_breaks_in_quotes_and_lines_are_told(self):
        rows = parse_texts(b'text\n"two\nlines"\nlast\n', "a.csv")
        assert [(row.text, row.line) for row in rows] == [("two\nlines", 3), ("last", 4)]

    def test_json_lines(self):
        assert pairs('{"text": "a\\u2028b", "label": 3}\r\n\n{"text": "c"}', "x.jsonl") == [
            ("a\u2028b", "3"),
            ("c", None),
        ]

    def test_half_a_character_is_replaced(self):
        assert pairs('{"text": "a\\ud800b", "label": "\\udfff"}', "x.jsonl") == [("a\ufffdb", "\ufffd")]

    def test_plain_lines_split_at_line_ends_alone(self):
        assert pairs("one\u2028still one\n\n  \ntwo", "x.txt") == [("one\u2028still one", None), ("two", None)]

    def test_commas_belong_to_the_text_where_it_is_the_only_column(self):
        content = 'text\nhello, world\n"a; ""b"""\n'
        assert pairs(content) == pairs(content, "x.tsv") == [("hello, world", None), ('a; "b"', None)]

    def test_a_book_in_one_field(self):
        assert len(pairs(f"text\n{'word ' * 100_000}\n")[0][0]) == 500_000


class TestBadFiles:
    @pytest.mark.parametrize(
        "name, content, message",
        [
            ("a.csv", "sentence,label\nx,y\n", "no column 'text'.*'sentence,label'"),
            ("a.csv", "text|label\nx|y\n", "separated by commas, semicolons or tabs"),
            ("a.csv", "text,label\nx,y\none, two,y\n", "line 3: 3 columns, but the header has 2"),
            ("a.csv", "text,label\n", "no texts"),
            ("a.csv", "", "no column 'text'"),
            ("a.jsonl", '{"text": "x"}\n{oops', "line 2: this is not JSON"),
            ("a.jsonl", '{"sentence": "x"}', "line 1: an object with"),
            ("a.jsonl", '["x"]', "line 1: an object with"),
            ("a.jsonl", "[" * 100_000, "line 1: this is not JSON"),
            ("a.txt", " \n\n", "no texts"),
            ("a.csv", "text,label\nx,y\n ,y\n", "line 3: the text is empty"),
            ("a.jsonl", '{"text": "x"}\n{"text": ""}', "line 2: the text is empty"),
        ],
    )
    def test_is_said_with_the_line(self, name, content, message):
        with pytest.raises(UserError, match=message):
            parse_texts(content.encode(), name)

    def test_not_utf8(self):
        with pytest.raises(UserError, match=r"not UTF-8 \(byte 1"):
            parse_texts("né".encode("latin-1"), "a.txt")

    @pytest.mark.parametrize("content", ["text,label\nx,a\ny, \n", "text\nx\n"])
    def test_missing_labels(self, content):
        with pytest.raises(UserError, match="label is missing or empty"):
            pairs(content, labelled=True)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(UserError, match="can't be read"):
            read_text_file(tmp_path / "none.csv")
