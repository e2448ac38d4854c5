import pytest

from gpt_tasks.tasks.plain_text import plain_text


@pytest.mark.parametrize(
    ("taken_apart", "written"),
    [
        ("it 's a film that does n't , alas , work .", "It's a film that doesn't, alas, work."),
        ("fine . i 'm off -lrb- home -rrb- !", "Fine. I'm off (home)!"),
        ("Tunisia #39;s Ben Ali", "Tunisia's Ben Ali"),
        ("The companies #39; networks", "The companies' networks"),
        ("A Q amp;A on AT amp;T", "A Q&A on AT&T"),
        ("Fish &amp; chips &lt;b&gt;now&lt;/b&gt;", "Fish & chips  now "),
        ('Read <A HREF="a.html">it</A>.<br/>Caf&eacute; &#233; &#xe9;', "Read  it. Café é é"),
        ("`` Yes '' , he said", '" Yes ", he said'),
        ("wait ... what ?", "Wait... What?"),
    ],
)
def test_what_was_taken_apart_is_put_together(taken_apart, written):
    assert plain_text(taken_apart) == written


def test_a_long_run_of_spaces_takes_no_time():
    assert plain_text("A" + " " * 100_000 + "b") == "A" + " " * 100_000 + "b"


@pytest.mark.parametrize(
    "text",
    [
        "It's a film that doesn't work, alas. (Really!)",
        "iPhone sales rose 3% :) and so on",
        "a < b and b > c? See R&D; NASA's site",
        "Put <your name> into <FILE>, then see &notes and AT&T.",
        "服务很好，房间也干净。",
        "😀😀",
        "",
        "Line one\n\nline two\tand a tab",
        "She said 'yes' to it",
    ],
)
def test_what_people_write_stays(text):
    assert plain_text(text) == (text[:1].upper() + text[1:] if text == text.lower() else text)
