"""Walking through a model's blocks: what each reads, and how often it is run."""

import pytest
import torch

from compression.calibration import walk
from gpt_tasks.backbone.torch_engine import load_decoder
from gpt_tasks.backbone.weights import open_model

IDS = torch.arange(48).reshape(2, 24) + 5


@pytest.fixture
def decoder(tiny_folder):
    return load_decoder(open_model(str(tiny_folder("llama")[0])).weights)


@torch.no_grad()
def test_the_last_block_gives_out_what_the_decoder_norms(decoder):
    for _, _, run in walk(decoder, IDS):
        torch.testing.assert_close(run(1), run()[:1])
        output = run.finish()
    torch.testing.assert_close(decoder.final_norm(output), decoder(IDS).hidden)


@torch.no_grad()
def test_a_finished_block_is_run_once_another_one_more(decoder):
    runs = [0] * len(decoder.blocks)

    def count(layer, block):
        block.register_forward_hook(lambda *_: runs.__setitem__(layer, runs[layer] + 1))

    for layer, block, run in walk(decoder, IDS):
        count(layer, block)
        run.finish() if layer == 0 else run()
    assert runs == [1] + [2] * (len(runs) - 1)


@torch.no_grad()
@pytest.mark.parametrize("finish", [True, False])
def test_the_next_block_reads_what_the_changed_one_gives_out(decoder, finish):
    for layer, block, run in walk(decoder, IDS):
        if layer == 0:
            run()
            block.feed_forward.down.weight.zero_()
        output = run.finish() if finish else run()
    torch.testing.assert_close(decoder.final_norm(output), decoder(IDS).hidden)
