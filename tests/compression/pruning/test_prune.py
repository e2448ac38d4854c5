"""Pruned models: what goes, that the rest computes as it should, in PyTorch and in ONNX."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from compression.artifact_model import artifact_model
from compression.calibration import calibration_ids
from compression.export import Request, export
from compression.pruning import width
from compression.pruning.depth import block_influence, greedy, keep_layers, least_influential
from compression.pruning.prune import Pruning, prune, write_pruned
from compression.pruning.unstructured import zeros
from compression.pruning.vocabulary import keep_tokens
from gpt_tasks.backbone.adapter import read_adapter
from gpt_tasks.backbone.architectures import adapter_modules, is_uniform
from gpt_tasks.backbone.artifact import Artifact
from gpt_tasks.backbone.backbone import Backbone
from gpt_tasks.backbone.encoder_engine import EncoderEngine
from gpt_tasks.backbone.json_files import read_json
from gpt_tasks.backbone.ort_engine import OrtEngine
from gpt_tasks.backbone.sampling import SamplingOptions
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import HeldWeights, open_model
from gpt_tasks.errors import UserError
from gpt_tasks.training.adapter_files import write_adapter
from gpt_tasks.training.methods import Lora
from gpt_tasks.training.task_run import load_tokenizer
from gpt_tasks.transformer.kv_cache import KeyValueCache

TEXT = "the hello hell the " * 400
IDS = torch.arange(24)[None] + 5


@pytest.fixture
def model(tiny_folder):
    return open_model(str(tiny_folder("llama")[0]))


def logits(model, ids=IDS):
    with torch.no_grad():
        return load_decoder(model.weights)(ids).logits


class TestUnstructured:
    @pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
    @pytest.mark.parametrize("pattern", [None, (2, 4)])
    def test_the_blocks_are_sparse_and_all_else_is_as_it_was(self, model, method, pattern):
        pruned, facts = prune(model, Pruning(method, 0.5, pattern), TEXT)
        assert facts["zeros"] == pytest.approx(0.5, abs=0.01)
        for name in model.weights:
            if "blocks" not in name or "norm" in name:
                assert (pruned.weights[name] == model.weights[name]).all()

    def test_every_layer_sees_what_the_pruned_ones_before_it_give_out(self, model):
        """Wanda by definition, with hooks on the pruned layers below."""
        pruned, _ = prune(model, Pruning("wanda", 0.5), TEXT)
        ids = calibration_ids(load_tokenizer(model), TEXT, model.config)
        decoder = load_decoder(pruned.weights)
        dense = load_decoder(model.weights)
        decoder.blocks[1] = dense.blocks[1]
        seen = []
        decoder.blocks[1].feed_forward.down.register_forward_pre_hook(lambda _, x: seen.append(x[0].flatten(0, 1)))
        with torch.no_grad():
            decoder(ids)
        weight = dense.blocks[1].feed_forward.down.weight.detach()
        scores = weight.abs() * torch.cat(seen).norm(dim=0)
        gone = torch.from_numpy(pruned.weights["blocks.1.feed_forward.down.weight"]) == 0
        assert (scores[gone].reshape(len(weight), -1).amax(1) <= scores[~gone].reshape(len(weight), -1).amin(1)).all()

    def test_magnitude_needs_no_text(self, model):
        pruned, _ = prune(model, Pruning("magnitude", 0.5), "")
        assert zeros(pruned) == pytest.approx(0.5, abs=0.01)

    def test_zeros_are_counted(self, model):
        assert zeros(model) == 0


class TestDepth:
    @pytest.mark.parametrize("variant", ["llama", "gpt2", "mistral_window"])
    def test_a_model_without_a_block_is_what_transformers_computes_without_it(self, tiny_folder, variant):
        folder, reference = tiny_folder(variant)
        pruned = keep_layers(open_model(str(folder)), [0, 2])
        layers = reference.transformer.h if variant == "gpt2" else reference.model.layers
        removed = layers[1]
        del layers[1]
        try:
            with torch.no_grad():
                expected = reference(IDS, use_cache=False).logits
        finally:
            layers.insert(1, removed)
        assert torch.allclose(logits(pruned), expected, atol=1e-4)

    def test_influence_is_one_minus_the_cosine_of_input_and_output(self, tiny_folder, model):
        _, reference = tiny_folder("llama")
        with torch.no_grad():
            states = reference(IDS, output_hidden_states=True).hidden_states
        decoder = load_decoder(model.weights)
        found = block_influence(decoder, IDS)
        for layer in range(2):  # transformers gives the last one normed
            expected = 1 - functional.cosine_similarity(states[layer], states[layer + 1], dim=-1).mean().item()
            assert found[layer] == pytest.approx(expected, abs=1e-5)

    def test_the_least_influential_go(self):
        assert least_influential([0.9, 0.1, 0.2, 0.3], 2) == [0, 3]

    @pytest.mark.parametrize("by_influence, sequences", [(True, 9), (False, 2)])
    def test_a_search_reads_less_than_one_pass(self, model, monkeypatch, by_influence, sequences):
        seen = []
        monkeypatch.setattr("compression.pruning.prune.block_influence", lambda _, ids: seen.append(ids) or [3, 1, 2])
        monkeypatch.setattr("compression.pruning.prune.greedy", lambda _, ids, *__: seen.append(ids) or [0, 2])
        prune(model, Pruning("depth", 0.34, by_influence=by_influence, tokens=9 * 512), TEXT)
        assert len(seen[0]) == sequences

    def test_greedy_takes_the_block_that_the_loss_minds_least(self, model):
        ids = torch.randint(0, 300, (2, 40), generator=torch.Generator().manual_seed(1))

        def loss(kept):
            found = logits(keep_layers(model, kept), ids)
            return functional.cross_entropy(found[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()

        pairs = [[1, 2], [0, 2], [0, 1]]
        assert greedy(load_decoder(model.weights), ids, 2) == min(pairs, key=loss)

    @pytest.mark.parametrize("layers", [[], [1, 0], [0, 0], [3], [-1, 0]])
    def test_layers_that_are_not_there_are_refused(self, model, layers):
        with pytest.raises(UserError, match="layers to keep"):
            keep_layers(model, layers)


class TestWidth:
    def test_importance_is_what_a_group_of_heads_adds(self, model):
        """By definition: the change of the block's output without the group."""
        decoder = load_decoder(model.weights)
        heads, neurons = width.importances(decoder, IDS)
        block, seen = decoder.blocks[0], []
        block.register_forward_hook(lambda _, __, output: seen.append(output[0]))
        attention = []
        block.attention.output.register_forward_hook(lambda _, __, output: attention.append(output))
        down = []
        block.feed_forward.down.register_forward_hook(lambda _, __, output: down.append(output))
        with torch.no_grad():
            decoder(IDS)
            block.attention.output.weight[:, :32] = 0  # query heads 0 and 1 of 16 each: the first group
            decoder(IDS)
            block.load_state_dict(load_decoder(model.weights).blocks[0].state_dict())
            block.feed_forward.down.weight[:, 7] = 0
            decoder(IDS)
        energy = seen[0].square().sum(-1)
        expected = ((attention[0] - attention[1]).square().sum(-1) / energy).mean()
        assert heads[0][0].item() == pytest.approx(expected.item(), rel=1e-3)
        expected = ((down[0] - down[2]).square().sum(-1) / energy).mean()
        assert neurons[0][7].item() == pytest.approx(expected.item(), rel=1e-3)

    def test_the_least_of_the_whole_model_go_and_every_layer_keeps_some(self):
        scores = [torch.tensor([5.0, 1, 4, 2]), torch.tensor([0.1, 0.3, 0.2, 0.4])]
        assert width.choose(scores, 0.25, 1, uniform=False) == [[0, 1, 2, 3], [1, 3]]
        assert width.choose(scores, 0.25, 1, uniform=True) == [[0, 2, 3], [1, 2, 3]]
        assert width.choose(scores, 0.9, 1, uniform=False)[1] == [3]
        with pytest.raises(UserError, match=r"nothing out.*larger one"):
            width.choose(scores, 0.01, 1, uniform=False)

    def test_where_a_layer_has_one_part_no_larger_sparsity_is_advised(self):
        with pytest.raises(UserError, match=r"at least 1 of 1 stay.*another method"):
            width.choose([torch.ones(1), torch.ones(1)], 0.5, 1, uniform=False)

    def test_what_really_went_is_recorded(self, model):
        _, facts = prune(model, Pruning("attention", 0.9), TEXT)  # 1 of 2 heads stays in each layer
        assert (facts["sparsity"], facts["removed"]) == (0.9, 0.5)
        _, facts = prune(model, Pruning("feed-forward", 0.3), TEXT)  # 3 of 9 times 32 neurons
        assert facts["removed"] == pytest.approx(1 / 3)

    @pytest.mark.parametrize("variant", ["llama", "llama_biases", "gpt2", "qwen2"])
    @pytest.mark.parametrize("method", ["attention", "feed-forward"])
    def test_removed_parts_add_nothing(self, tiny_folder, variant, method):
        """A model whose removed heads or neurons are set to zero computes the same."""
        model = open_model(str(tiny_folder(variant)[0]))
        if method == "attention":
            kept = [[0], [0, 1], [1]] if model.config.key_value_heads == 2 else [[0, 1], [0, 1, 2, 3], [3]]
            pruned = width.keep_heads(model, kept)
            size = model.config.query_size // model.config.key_value_heads
            name, groups = "attention.output", model.config.key_value_heads
        else:
            kept = [list(range(layer, 64)) for layer in range(3)]
            pruned = width.keep_neurons(model, kept)
            size, name, groups = 1, "feed_forward.down", model.config.feed_forward_size
        zeroed = {name: np.array(model.weights[name]) for name in model.weights}
        for layer in range(3):
            for group in set(range(groups)) - set(kept[layer]):
                zeroed[f"blocks.{layer}.{name}.weight"][:, group * size : (group + 1) * size] = 0
        expected = load_decoder(HeldWeights(model.config, zeroed))(IDS).logits
        assert torch.allclose(logits(pruned), expected, atol=1e-4)
        assert not is_uniform(pruned.hugging_face_config)

    def test_a_uniform_one_loads_in_transformers(self, model, tmp_path):
        pruned, facts = prune(model, Pruning("feed-forward", 0.34, uniform=True), TEXT)
        pruned, _ = prune(pruned, Pruning("attention", 0.5, uniform=True), TEXT)
        write_pruned(pruned, facts, tmp_path / "out")
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        assert theirs.config.num_key_value_heads == 1 and theirs.config.intermediate_size == 64
        with torch.no_grad():
            assert torch.allclose(theirs(IDS).logits, logits(pruned), atol=1e-4)


@pytest.fixture
def uneven(model, tmp_path):
    """A model whose layers have sizes of their own, exported."""
    pruned = width.keep_heads(model, [[0], [0, 1], [1]])
    pruned = width.keep_neurons(pruned, [list(range(32)), list(range(96)), list(range(64))])
    write_pruned(pruned, {"base": "x", "method": "y", "parameters": 1, "parameters_before": 2}, tmp_path / "checkpoint")
    return open_model(str(tmp_path / "checkpoint"))


class TestUneven:
    def test_it_comes_back_from_disk(self, uneven):
        assert [layer.feed_forward_size for layer in uneven.config.layer_sizes] == [32, 96, 64]
        assert [layer.key_value_heads for layer in uneven.config.layer_sizes] == [1, 2, 1]

    def test_transformers_refuses_it_and_the_card_says_why(self, uneven, tmp_path):
        with pytest.raises((ValueError, KeyError)):
            AutoConfig.from_pretrained(tmp_path / "checkpoint")
        assert "Only this project loads this folder" in (tmp_path / "checkpoint" / "README.md").read_text()

    def test_a_cache_gives_what_reading_at_once_gives(self, uneven):
        decoder = load_decoder(uneven.weights)
        cache = KeyValueCache(uneven.config)
        with torch.no_grad():
            pieces = [decoder(IDS[:, :10], cache=cache).logits, decoder(IDS[:, 10:], cache=cache).logits]
        assert torch.allclose(torch.cat(pieces, dim=1), logits(uneven), atol=1e-4)

    @pytest.mark.parametrize("precision", ["fp32", "int8_blocks", "int8", "int4"])
    def test_the_engine_agrees_with_pytorch(self, uneven, tmp_path, precision):
        artifact = export(uneven, tmp_path / "artifact", Request([precision]))
        engine = OrtEngine(artifact, precision)
        found = engine.read(IDS[0].tolist(), engine.new_cache(), all_logits=True)
        expected = logits(uneven)[0].numpy()
        if precision == "fp32":
            assert np.allclose(found, expected, atol=1e-3)
        else:
            cosine = (found * expected).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)
            assert cosine.mean() > (0.85 if precision == "int4" else 0.99)  # random weights bear 4 bits badly
        assert not (tmp_path / "artifact" / "genai_config.json").exists()
        assert "Only this project" in (tmp_path / "artifact" / "README.md").read_text()

    def test_the_exported_fp32_is_the_model_again_and_it_writes(self, uneven, tmp_path):
        artifact = export(uneven, tmp_path / "artifact", Request(["fp32"]))
        again = artifact_model(artifact)
        assert torch.allclose(logits(again), logits(uneven), atol=1e-5)
        events = list(Backbone(artifact).write([5, 6, 7], SamplingOptions(temperature=0), 8))
        assert events[-1].new_tokens > 0

    def test_hidden_states_and_adapters(self, uneven, tmp_path):
        """A correction of the uneven model gives the same in PyTorch and in the encoding graph."""
        torch.manual_seed(0)
        modules = adapter_modules(uneven.hugging_face_config)
        tuned = Lora(load_decoder(uneven.weights), modules=modules, rank=2, alpha=4)
        for layer in tuned.layers.values():
            layer.up.data.normal_(0, 0.1)
        (tmp_path / "adapter").mkdir()
        write_adapter(tmp_path / "adapter", tuned, modules, "tiny", False)
        artifact = export(uneven, tmp_path / "artifact", Request(["fp32"]))
        adapter = read_adapter(tmp_path / "adapter", artifact.hugging_face_config)
        engine = EncoderEngine(artifact, "fp32")
        found = engine.encode([IDS[0].tolist()], adapter)[0]
        with torch.no_grad():
            expected = tuned.encode(IDS, torch.ones_like(IDS))[0].numpy()
        assert np.allclose(found, expected, atol=2e-2)  # the adapter is kept in fp16


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


class TestRefused:
    @pytest.mark.parametrize("sparsity", [0, 1, 1.2, -0.1])
    def test_sparsity(self, sparsity):
        with pytest.raises(ValueError, match="sparsity"):
            Pruning("wanda", sparsity)

    @pytest.mark.parametrize("sparsity", [0.01, 0.99])
    def test_layers_that_a_sparsity_leaves(self, model, sparsity):
        with pytest.raises(UserError, match="at least one"):
            prune(model, Pruning("depth", sparsity), TEXT)

    @pytest.mark.parametrize("pattern", [(0, 4), (4, 4), (2, 5)])
    def test_pattern(self, model, pattern):
        with pytest.raises(UserError, match="pattern"):
            prune(model, Pruning("wanda", 0.5, pattern), TEXT)

    @pytest.mark.parametrize("method", ["wanda", "depth", "feed-forward"])
    def test_an_empty_text(self, model, method):
        with pytest.raises(UserError, match="calibration text"):
            prune(model, Pruning(method), "")

    def test_an_option_of_another_method(self):
        with pytest.raises(ValueError, match="pattern"):
            Pruning("depth", 0.5, (2, 4))
        with pytest.raises(ValueError, match="layers"):
            Pruning("wanda", 0.5, layers=(1, 2))


def test_artifact_of_pruned_checkpoint_opens(model, tmp_path):
    artifact = export(keep_layers(model, [0, 2]), tmp_path / "two", Request(["fp32"]))
    assert Artifact(tmp_path / "two").config.layers == artifact.config.layers == 2
