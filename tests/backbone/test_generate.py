"""Generation on tiny models and the real one: events, stopping, caches."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.backbone.conversations import Conversations
from gpt_tasks.backbone.generate import Generated, Piece, Reading, StopStrings, generate
from gpt_tasks.backbone.sampling import SamplingOptions

GREEDY = SamplingOptions(repetition_penalty=1, temperature=0)
ROWS = [json.loads(line) for line in (Path(__file__).parent / "greedy.jsonl").read_text("utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def tiny(tiny_artifact):
    return Backbone(tiny_artifact("llama")[0], "fp32")


def result_of(events):
    *_, result = events
    assert isinstance(result, Generated)
    return result


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["prompt"][:20])
def test_fp32_follows_llama_cpps_greedy_path(default_artifact, row):
    """Up to near ties: where its two best logits are closer than 0.05, either is right."""
    backbone = Backbone(default_artifact, "fp32")
    cache = backbone.engine.new_cache()
    logits = backbone.engine.read(row["ids"], cache)[0]
    for token, margin in zip(row["greedy"], row["margin"], strict=True):
        if margin < 0.05 and logits.argmax() != token:
            break
        assert logits.argmax() == token
        logits = backbone.engine.read([token], cache)[0]


def test_the_pieces_are_the_text(default_backbone):
    prompt = default_backbone.tokenizer.encode("Once upon a time")
    events = list(default_backbone.write(prompt, SamplingOptions(seed=3), 40))
    assert isinstance(events[0], Reading) and events[0].total == len(prompt)
    pieces = [event for event in events if isinstance(event, Piece)]
    result = events[-1]
    assert "".join(piece.text for piece in pieces) == result.text
    assert result.prompt_tokens == len(prompt) and result.new_tokens == 40 and result.stop_reason == "length"
    assert result.time_to_first_token_ms > 0 and result.tokens_per_second > 1
    again = result_of(default_backbone.write(prompt, SamplingOptions(seed=3), 40))
    assert again.text == result.text


def test_stop_strings_end_the_text_before_them(default_backbone):
    prompt = default_backbone.tokenizer.encode("One, two, three, four, five,")
    whole = result_of(default_backbone.write(prompt, GREEDY, 30)).text
    stop = whole[12:17]
    result = result_of(default_backbone.write(prompt, GREEDY, 30, ["never there", stop]))
    assert result.text == whole[: whole.index(stop)]
    assert result.stop_reason == "stop_string"


def test_the_end_token_ends_the_text(tiny):
    prompt = [5, 6, 7]
    token = int(tiny.engine.read(prompt, tiny.engine.new_cache())[0].argmax())
    events = generate(
        tiny.engine, tiny.tokenizer, prompt, tiny.engine.new_cache(), GREEDY, 5, end_ids=frozenset([token])
    )
    result = result_of(events)
    assert (result.text, result.new_tokens, result.stop_reason) == ("", 1, "end_of_text")
    assert result.tokens_per_second == 0


def test_a_full_context_ends_the_text(tiny):
    prompt = np.random.default_rng(0).integers(2, 250, 120).tolist()
    result = result_of(generate(tiny.engine, tiny.tokenizer, prompt, tiny.engine.new_cache(), GREEDY, 50))
    assert (result.new_tokens, result.stop_reason) == (8, "context_full")
    for wrong in ([], [5] * 128):
        with pytest.raises(ValueError, match="for a context of 128"):
            next(generate(tiny.engine, tiny.tokenizer, wrong, tiny.engine.new_cache(), GREEDY, 1))


def test_nothing_is_computed_after_the_iterator_is_left(default_backbone, monkeypatch):
    reads = []
    read = default_backbone.engine.read
    monkeypatch.setattr(
        default_backbone.engine, "read", lambda ids, cache: (reads.append(len(ids)), read(ids, cache))[1]
    )
    prompt = np.random.default_rng(0).integers(20, 49_000, 1000).tolist()
    events = default_backbone.write(prompt, GREEDY, 100, conversation="left")
    assert next(events) == Reading(0, 1000)
    assert next(events) == Reading(256, 1000)
    events.close()
    assert reads == [256]
    # What was read stays good: the next call goes on from there.
    events = default_backbone.write(prompt, GREEDY, 1, conversation="left")
    assert next(events) == Reading(256, 1000)
    events.close()


def test_a_conversation_is_not_read_twice(default_backbone):
    prompt = default_backbone.tokenizer.encode("The sea is")
    first = result_of(default_backbone.write(prompt, GREEDY, 10, conversation="talk"))
    assert first.reused_tokens == 0
    longer = prompt + default_backbone.tokenizer.encode(first.text + " And")
    second = result_of(default_backbone.write(longer, GREEDY, 10, conversation="talk"))
    assert second.reused_tokens >= len(prompt)
    fresh = result_of(default_backbone.write(longer, GREEDY, 10))
    assert fresh.reused_tokens == 0


def test_caches_stay_within_their_budget(tiny):
    one = tiny.engine.new_cache()
    one.reserve(1)
    conversations = Conversations(tiny.engine, idle_bytes=2 * one.nbytes)
    for name in "abc":
        with conversations.borrow(name) as cache:
            tiny.engine.read([5, 6], cache)
    assert conversations.idle_bytes == 2 * one.nbytes
    with conversations.borrow("b") as cache:
        assert cache.ids == [5, 6]
        with conversations.borrow("b") as other:  # the same visitor in two windows
            assert other.ids == []
    with conversations.borrow("a") as cache:
        assert cache.ids == []  # the least recently used one went
    conversations.forget("c")
    conversations.forget("never there")
    assert conversations.idle_bytes <= 2 * one.nbytes


@given(st.text(alphabet="ab", max_size=30), st.lists(st.text(alphabet="ab", max_size=4), max_size=3), st.integers(1, 5))
def test_stop_strings_arriving_in_pieces(text, strings, size):
    until = StopStrings(strings)
    shown = "".join(until.push(text[begin : begin + size]) for begin in range(0, len(text), size)) + until.finish()
    found = [text.index(string) for string in strings if string and string in text]
    assert until.met == bool(found)
    if not found:
        assert shown == text
    elif size == 1:  # in larger pieces a later, shorter stop string may be complete first
        ends = [text.index(string) + len(string) for string in strings if string and string in text]
        first_end = min(ends)
        begins = [text.index(s) for s in strings if s and s in text and text.index(s) + len(s) == first_end]
        assert shown == text[: min(begins)]
    else:
        assert text.startswith(shown)
