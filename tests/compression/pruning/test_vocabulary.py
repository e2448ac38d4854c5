"""Which tokens go, and what the model without them computes."""

import json

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from compression.pruning.prune import Pruning, prune, write_pruned
from compression.pruning.vocabulary import keep_tokens
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.weights import open_model
from gpt_tasks.errors import UserError
from tests.compression.pruning.reading import TEXT, logits


class TestVocabulary:
    def test_a_text_of_the_corpus_keeps_its_tokens_and_their_logits(self, tiny_folder, tmp_path):
        folder, _ = tiny_folder("llama_untied")
        model = open_model(str(folder))
        pruned, facts = prune(model, Pruning("vocabulary"), "hello the hello")
        write_pruned(pruned, facts, tmp_path / "out")
        old, new = (Tokenizer.from_file(str(path / "tokenizer.json")) for path in (folder, tmp_path / "out"))
        text = "hello the hello"
        assert new.encode(text).tokens == old.encode(text).tokens
        assert new.get_vocab_size() == facts["tokens_kept"] < old.get_vocab_size()
        names = [old.id_to_token(i) for i in range(old.get_vocab_size())]
        rows = [names.index(new.id_to_token(i)) for i in range(new.get_vocab_size())]
        ids_old, ids_new = (torch.tensor([t.encode(text).ids]) for t in (old, new))
        again = open_model(str(tmp_path / "out"))
        assert torch.allclose(logits(again, ids_new), logits(model, ids_old)[..., rows], atol=1e-4)
        config = json.loads((tmp_path / "out" / "config.json").read_text())
        assert new.id_to_token(config["eos_token_id"]) == "</s>"

    def test_what_is_gone_is_spelt_in_smaller_pieces(self, tiny_folder, tmp_path):
        model = open_model(str(tiny_folder("llama")[0]))
        pruned, facts = prune(model, Pruning("vocabulary"), "he he he")
        write_pruned(pruned, facts, tmp_path / "out")
        tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
        for text in ("hello", "日本 🙂 é", "the\n\t"):
            encoded = tokenizer.encode(text)
            assert tokenizer.decode(encoded.ids) == text
        assert "hello" not in tokenizer.encode("hello").tokens

    def test_without_a_corpus_the_rarest_go(self, model):
        pruned, facts = prune(model, Pruning("vocabulary", 0.12))
        assert pruned.config.vocabulary_size == facts["tokens_kept"] == 300 - round(0.12 * 300)

    def test_transformers_reads_it(self, model, tmp_path):
        pruned, facts = prune(model, Pruning("vocabulary"), TEXT)
        write_pruned(pruned, facts, tmp_path / "out")
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        ids = tokenizer("the hello", return_tensors="pt").input_ids
        with torch.no_grad():
            assert torch.allclose(theirs(ids).logits, logits(pruned, ids), atol=1e-4)

    def test_nothing_to_take_out(self, tiny_folder, model):
        with pytest.raises(UserError, match="every token"):
            keep_tokens(model, range(300), read_json(tiny_folder("llama")[0] / "tokenizer.json"))
