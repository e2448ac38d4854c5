"""What the writing tasks make of requests, good and bad."""

import pytest

from gpt_tasks.errors import UserError
from gpt_tasks.tasks import dialogue, open_ended, topic_writing
from gpt_tasks.tasks.prompt import room_for_prompt
from gpt_tasks.tasks.registry import WRITING, writing_task


@pytest.fixture
def tokenizer(default_backbone):
    return default_backbone.tokenizer


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def test_the_registry():
    assert list(WRITING) == ["open_ended", "topic_writing", "dialogue"]
    with pytest.raises(UserError, match="'haiku' is unknown; there are: open_ended"):
        writing_task("haiku")


def test_a_text_that_fits_is_left_as_it_is(tokenizer):
    prompt = open_ended.make_prompt(tokenizer, " Once\n", 100)
    assert prompt.ids == tokenizer.encode(" Once\n")
    assert (prompt.text, prompt.notices) == (" Once\n", ())


@pytest.mark.parametrize("times", [200, 400_000])  # 400,000: 10 MB, cut before it is encoded
def test_of_a_text_that_is_too_long_the_end_is_kept(tokenizer, times):
    text = "The rain went on and on. " * times + "At last"
    prompt = open_ended.make_prompt(tokenizer, text, 100)
    assert len(prompt.ids) == 100
    assert text.endswith(prompt.text)
    (notice,) = prompt.notices
    assert notice.values["characters"] == len(text) - len(prompt.text)
    assert "left out at its beginning" in notice.message


def test_the_instruction_for_a_topic():
    assert topic_writing.instruction(" the sea ", "poem") == "Write a poem about the sea."
    assert topic_writing.instruction("a cat", "news_item", ["fish", " ", " speech "]) == (
        "Write a news item with a headline about a cat. Include these words: fish, speech."
    )
    with pytest.raises(UserError, match="topic is empty"):
        topic_writing.instruction(" ", "poem")
    with pytest.raises(UserError, match="'opera' is unknown"):
        topic_writing.instruction("a cat", "opera")


def test_a_topic_is_read_in_the_chat_template_or_without_one(tokenizer, tiny_artifact):
    prompt = topic_writing.make_prompt(tokenizer, "Write a poem about rain.", 200)
    read = tokenizer.decode(prompt.ids)
    assert "user\nWrite a poem about rain." in read and read.endswith("assistant\n")
    plain = tiny_artifact("gpt2")[0].load_tokenizer()
    plain._chat_template = None
    assert plain.decode(topic_writing.make_prompt(plain, "Write a poem.", 100).ids) == "Write a poem.\n\n"
    with pytest.raises(UserError, match="no chat template"):
        dialogue.make_prompt(plain, [user("Hi")], 100)


@pytest.mark.parametrize("times", [200, 400_000])
def test_a_prompt_that_cannot_fit(tokenizer, times):
    with pytest.raises(UserError, match=r"prompt is too long.* room for 100 tokens"):
        topic_writing.make_prompt(tokenizer, "Write about rain. " * times, 100)
    with pytest.raises(UserError, match=r"message .* is too long.* room for 100 tokens"):
        dialogue.make_prompt(tokenizer, [user("Tell me about rain. " * times)], 100)


def test_a_chat_loses_its_oldest_turns_when_it_is_too_long(tokenizer):
    turns = [turn for n in range(30) for turn in (user(f"Question {n}?"), assistant("It is so. " * 20))]
    prompt = dialogue.make_prompt(tokenizer, [*turns, user("And now?")], 1000, system="Be kind.")
    read = tokenizer.decode(prompt.ids)
    assert len(prompt.ids) <= 1000
    assert read.startswith("system\nBe kind.\nuser\n") and read.endswith("user\nAnd now?\nassistant\n")
    assert "Question 29?" in read and "Question 0?" not in read
    (notice,) = prompt.notices
    kept = read.count("Question")
    assert notice.values["turns"] == 30 - kept
    assert dialogue.make_prompt(tokenizer, [user("Hi")], 1000).notices == ()


def test_a_long_chat_drops_turns_seldom_so_that_the_cache_is_of_use(tokenizer):
    dropped, turns = [], []
    for n in range(40):
        turns.append(user(f"Question {n}?"))
        prompt = dialogue.make_prompt(tokenizer, turns, 1000)
        assert len(prompt.ids) <= 1000
        dropped.append(prompt.notices[0].values["turns"] if prompt.notices else 0)
        turns.append(assistant("It is so. " * 12))
    assert dropped == sorted(dropped)
    assert dropped[-1] > 15
    assert len(set(dropped)) < 10


def test_an_empty_system_prompt_is_left_to_the_template(tokenizer):
    with_default = dialogue.make_prompt(tokenizer, [user("Hi")], 400, system=" ")
    assert "named SmolLM" in tokenizer.decode(with_default.ids)


@pytest.mark.parametrize("text", ["", " \n\t", "\x04\x06"])
def test_nothing_to_read(tokenizer, text):
    with pytest.raises(UserError, match=r"empty|no character"):
        open_ended.make_prompt(tokenizer, text, 100)
    if not text.strip():
        with pytest.raises(UserError, match="empty"):
            dialogue.make_prompt(tokenizer, [user(text)], 100)


@pytest.mark.parametrize("length", [0, -5, 8192, 10**9])
def test_lengths_that_cannot_be(length):
    with pytest.raises(UserError, match="between 1 and 8191"):
        room_for_prompt(8192, length)


def test_odd_characters_are_read(tokenizer, default_backbone):
    prompt = open_ended.make_prompt(tokenizer, "a lone \ud800 and a NUL \0 and 🎉", 100)
    *_, result = default_backbone.write(prompt.ids, open_ended.SAMPLING, 3)
    assert 1 <= result.new_tokens <= 3  # it may end by itself
    chat = dialogue.make_prompt(tokenizer, [user("\ud800\0")], 400)
    assert "\N{REPLACEMENT CHARACTER}" in tokenizer.decode(chat.ids)
