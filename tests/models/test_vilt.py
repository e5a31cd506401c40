"""ViLT: equal to transformers' own classes, and what a checkpoint must bring."""

import json
import shutil

import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    ViltForImageAndTextRetrieval,
    ViltForMaskedLM,
    ViltModel,
    ViltProcessor,
)

from kt_exp.errors import UserError
from kt_exp.models import vilt as module
from kt_exp.models.protocol import EmbeddedCaptions, PairMatcher
from kt_exp.models.vilt import ViLT

CPU = torch.device("cpu")
CAPTIONS = ["a photo of a house", "wheel", "A tower, made of gold.", "a zebra of photo of a house"]


def load(name, *, precision="fp32", **options):
    keys = {"tokenizer": None, "head": "auto", "rank_by": "match", "resize": "crop"} | options
    return ViLT(name=str(name), **keys).load(CPU, precision)


def refusal(name, **options):
    with pytest.raises(UserError) as caught:
        load(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def itm(vilt_folders):
    return load(vilt_folders["itm"])


@pytest.fixture(scope="module")
def rank(vilt_folders):
    return load(vilt_folders["rank"])


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(vilt_folders, tmp_path):
    return shutil.copytree(vilt_folders["itm"], tmp_path / "vilt")


def inputs(folder, images):
    """What transformers' own classes take, with pixels normalised as its processor does it."""
    tokens = AutoTokenizer.from_pretrained(folder)(CAPTIONS, padding=True, return_tensors="pt")
    return {**tokens, "pixel_values": (images - 0.5) / 0.5}


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_one_logit_head_equals_transformers(rank, vilt_folders, images):
    theirs = ViltForImageAndTextRetrieval.from_pretrained(vilt_folders["rank"]).eval()
    logit = theirs(**inputs(vilt_folders["rank"], images)).logits[:, 0]
    ours = rank.match(images, CAPTIONS)
    close(ours[:, 1], logit)
    assert torch.equal(ours[:, 0], torch.zeros(4))
    close(rank.score(images, CAPTIONS), torch.nn.functional.logsigmoid(logit))


@torch.no_grad()
def test_the_two_logit_head_equals_a_linear_map_of_the_pooled_output(itm, vilt_folders, images):
    theirs = ViltModel.from_pretrained(vilt_folders["itm"]).eval()
    state = torch.load(vilt_folders["itm"] / "pytorch_model.bin")
    pooled = theirs(**inputs(vilt_folders["itm"], images)).pooler_output
    logits = pooled @ state["itm_score.fc.weight"].T + state["itm_score.fc.bias"]
    assert logits.std(dim=0).min() > 1e-3
    close(itm.match(images, CAPTIONS), logits)
    close(itm.score(images, CAPTIONS), logits.log_softmax(dim=1)[:, 1])


@torch.no_grad()
def test_masked_words_equal_transformers(itm, vilt_folders, images):
    state = torch.load(vilt_folders["itm"] / "pytorch_model.bin")
    theirs = ViltForMaskedLM.from_pretrained(vilt_folders["itm"]).eval()
    # The published decoder is not tied to the word embeddings; from_pretrained may tie it.
    theirs.mlm_score.decoder.weight = torch.nn.Parameter(state["mlm_score.decoder.weight"])
    theirs.mlm_score.decoder.bias = torch.nn.Parameter(state["mlm_score.bias"])
    masked = itm.mask_words(CAPTIONS, 0.3, torch.Generator().manual_seed(0))
    wanted = theirs(input_ids=masked.ids, attention_mask=masked.mask, labels=masked.labels,
                    pixel_values=(images - 0.5) / 0.5)
    close(itm.masked_lm_loss(images, masked), wanted.loss)


@torch.no_grad()
def test_the_random_order_of_patches_in_transformers_changes_nothing(vilt_folders, images):
    theirs = ViltForImageAndTextRetrieval.from_pretrained(vilt_folders["rank"]).eval()
    given = inputs(vilt_folders["rank"], images)
    orders, logits = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        orders.append(theirs.vilt.embeddings.visual_embed(
            given["pixel_values"], torch.ones(4, 64, 64), -1)[2][0])
        torch.manual_seed(seed)
        logits.append(theirs(**given).logits)
    assert not torch.equal(orders[0], orders[1])
    for other in logits[1:]:
        close(other, logits[0])


def test_a_square_image_becomes_what_the_processor_of_transformers_makes_of_it(itm, tmp_path):
    itm.export(tmp_path)
    picture = Image.effect_noise((150, 150), 60).convert("RGB")
    theirs = ViltProcessor.from_pretrained(tmp_path)(picture, "a house", return_tensors="pt")
    ours = (itm.to_tensor(picture) - 0.5) / 0.5
    assert (ours - theirs["pixel_values"][0]).abs().max() < 0.02  # a step of 1/255 is 0.008


@pytest.mark.parametrize(("resize", "borders"), [("crop", False), ("squash", True)])
def test_an_oblong_image_is_cropped_or_squashed(vilt_folders, resize, borders):
    picture = Image.new("RGB", (200, 100))
    picture.paste((255, 0, 0), (0, 0, 20, 100))
    tensor = load(vilt_folders["itm"], resize=resize).to_tensor(picture)
    assert tensor.shape == (3, 64, 64)
    assert bool(tensor[0, :, 0].mean() > 0.5) == borders


def test_pixels_are_signed_by_how_an_image_becomes_square(vilt_folders):
    crop, squash, other = (load(vilt_folders[head], resize=resize).to_tensor.signature for
                           head, resize in (("itm", "crop"), ("itm", "squash"), ("rank", "crop")))
    assert crop == other != squash


@torch.no_grad()
@pytest.mark.parametrize("pairs_at_once", [1, 5, 128])
def test_a_block_equals_each_of_its_pairs(vilt_folders, rank, images, monkeypatch, pairs_at_once):
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", pairs_at_once)
    for model in (load(vilt_folders["itm"], rank_by="log_odds"), rank):
        block = model.match_block(model.embed_images(images), model.embed_captions(CAPTIONS))
        for i in range(4):
            for t, caption in enumerate(CAPTIONS):
                no_match, match = model.match(images[i:i + 1], [caption])[0]
                close(block[i, t], match - no_match)


@torch.no_grad()
def test_pairs_are_ranked_by_the_row_that_the_rank_head_starts_from(itm, vilt_folders, images):
    """ViLT's own retrieval ranks by one logit: before any training, row 1 of the ITM head."""
    theirs = ViltForImageAndTextRetrieval.from_pretrained(vilt_folders["itm"]).eval()
    state = torch.load(vilt_folders["itm"] / "pytorch_model.bin")
    theirs.rank_output.weight.copy_(state["itm_score.fc.weight"][1:])
    theirs.rank_output.bias.copy_(state["itm_score.fc.bias"][1:])
    log_odds = load(vilt_folders["itm"], rank_by="log_odds")
    ranked, otherwise = (model.match_block(model.embed_images(images),
                                           model.embed_captions(CAPTIONS))
                         for model in (itm, log_odds))
    given = inputs(vilt_folders["itm"], images)
    for i, image in enumerate(given.pop("pixel_values")):
        logits = theirs(**given, pixel_values=image.expand(len(CAPTIONS), -1, -1, -1)).logits
        close(ranked[i], logits[:, 0])
    assert (otherwise - ranked).abs().max() > 0.1
    assert log_odds.fingerprint() != itm.fingerprint()


@torch.no_grad()
def test_captions_padded_less_score_the_same(itm, images):
    embedded, patches = itm.embed_captions(CAPTIONS), itm.embed_images(images)
    whole = itm.match_block(patches, embedded)
    short = itm.embed_captions(CAPTIONS[:2])
    assert short.tokens.shape[1] < embedded.tokens.shape[1]
    close(itm.match_block(patches, short), whole[:, :2])


@torch.no_grad()
def test_a_block_embeds_nothing(itm, images, monkeypatch):
    patches, embedded = itm.embed_images(images), itm.embed_captions(CAPTIONS)
    for part in ("embed_images", "embed_text"):
        monkeypatch.setattr(itm.module, part, None)
    assert itm.match_block(patches, embedded).shape == (4, 4)


def test_it_is_a_pair_matcher_with_one_distance(itm):
    assert isinstance(itm, PairMatcher)
    with pytest.raises(UserError, match="no embeddings to take 'cosine' of; choose match"):
        itm.scorer(CAPTIONS, "cosine")


def test_the_forty_token_limit_counts_both_ends(itm):
    assert itm.max_text_tokens == 40
    assert itm.count_tokens("house") == 3
    assert itm.count_tokens("house " * 60) == 62
    long = itm.embed_captions(["house " * 60])
    assert isinstance(long, EmbeddedCaptions)
    assert long.tokens.shape == (1, 40, 32)


def test_the_visual_side_is_everything_but_words_and_heads(itm):
    towers = itm.towers()
    names = [set(part) for part in towers.values()]
    assert not towers["visual_projection"]
    assert set.union(*names) == {name for name, _ in itm.module.named_parameters()}
    assert sum(len(part) for part in names) == len(set.union(*names))
    assert "vilt.pooler.dense.weight" in towers["visual"]
    assert "vilt.encoder.layer.1.output.dense.weight" in towers["visual"]
    assert "vilt.embeddings.text_embeddings.word_embeddings.weight" in towers["text"]
    assert "itm_score.fc.weight" in towers["heads"]


def test_auto_takes_the_two_logit_head_first(tmp_path, write_vilt, vilt_state):
    folder = write_vilt(tmp_path, vilt_state("itm_score", "rank_output"))
    fingerprints = {head: load(folder, head=head).fingerprint() for head in ("auto", "itm", "rank")}
    assert fingerprints["auto"] == fingerprints["itm"] != fingerprints["rank"]


def test_resizing_is_part_of_the_fingerprint(itm, vilt_folders):
    assert load(vilt_folders["itm"], resize="squash").fingerprint() != itm.fingerprint()


def test_exported_it_loads_in_transformers(rank, itm, images, tmp_path):
    rank.export(tmp_path / "rank")
    theirs = ViltForImageAndTextRetrieval.from_pretrained(tmp_path / "rank").eval()
    with torch.no_grad():
        close(rank.match(images, CAPTIONS)[:, 1],
              theirs(**inputs(tmp_path / "rank", images)).logits[:, 0])
    itm.export(tmp_path / "itm")
    again = load(tmp_path / "itm")
    assert again.fingerprint() == itm.fingerprint()
    with torch.no_grad():
        assert torch.equal(again.match(images, CAPTIONS), itm.match(images, CAPTIONS))


def test_a_decoder_that_is_tied_stays_tied(folder, images, tmp_path):
    """transformers leaves a tied decoder out of the file."""
    state = torch.load(folder / "pytorch_model.bin")
    del state["mlm_score.decoder.weight"]
    torch.save(state, folder / "pytorch_model.bin")
    model = load(folder)
    model.export(tmp_path / "again")
    assert "mlm_score.decoder.weight" not in load_file(tmp_path / "again" / "model.safetensors")
    again = load(tmp_path / "again")
    assert again.fingerprint() == model.fingerprint()
    words = again.module.vilt.embeddings.text_embeddings.word_embeddings.weight
    assert again.module.mlm_score.decoder.weight is words


def test_safetensors_go_before_a_pickle(folder, itm):
    save_file(torch.load(folder / "pytorch_model.bin"), folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"not read")
    assert load(folder).fingerprint() == itm.fingerprint()


def test_a_checkpoint_without_tokenizer_takes_another_ones(folder, vilt_folders, itm):
    (folder / "vocab.txt").unlink()
    assert load(folder, tokenizer=str(vilt_folders["rank"])).fingerprint() == itm.fingerprint()
    assert "has no tokenizer of its own; give a hub id" in refusal(folder)
    assert "model.tokenizer: no such folder: /nowhere" in refusal(folder, tokenizer="/nowhere")


def test_a_tokenizer_with_more_words_than_the_model(folder):
    with (folder / "vocab.txt").open("a") as file:
        file.write("\nextra")
    assert "words, the model" in refusal(folder)


def test_heads_that_are_not_there(vilt_folders, rank, images, tmp_path, write_vilt, vilt_state):
    assert "has no 'rank'; it has: itm" in refusal(vilt_folders["itm"], head="rank")
    folder = write_vilt(tmp_path, vilt_state("mlm_score"))
    assert "has no head for image–text matching; give a checkpoint with" in refusal(folder)
    with pytest.raises(UserError, match="no head for masked words"):
        rank.mask_words(CAPTIONS, 0.15, torch.Generator())


def test_no_such_folder_and_nothing_in_it(tmp_path):
    assert "model.name: no such folder: /nowhere/vilt" in refusal("/nowhere/vilt")
    assert "has no config.json" in refusal(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert "config.json: is not a model's configuration" in refusal(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    assert "holds a model of type 'clip', not ViLT" in refusal(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vilt"}))
    assert "holds no weights; put model.safetensors or pytorch_model.bin" in refusal(tmp_path)


def test_out_of_reach_it_says_so_at_once(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = refusal("dandelin/vilt-b32-mlm-itm")
    assert line.startswith("model.name: 'dandelin/vilt-b32-mlm-itm' is no folder here, is not in")
    assert "model.name=/path/to/folder" in line


def test_another_architecture_names_the_first_key_that_does_not_fit(folder):
    path = folder / "pytorch_model.bin"
    state = torch.load(path)
    torch.save({**state, "vilt.layernorm.weight": torch.zeros(31)}, path)
    assert "'vilt.layernorm.weight' is [31] in the checkpoint, [32] in the model" in refusal(folder)
    torch.save({k: v for k, v in state.items() if k != "vilt.layernorm.bias"}, path)
    assert "it lacks 'vilt.layernorm.bias'" in refusal(folder)
    torch.save({**state, "vilt.encoder.layer.2.output.dense.bias": torch.zeros(32)}, path)
    assert "the model has no 'vilt.encoder.layer.2.output.dense.bias'" in refusal(folder)


def test_damaged_weights_and_a_pickle_that_is_a_program(folder):
    path = folder / "pytorch_model.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    assert "cannot be loaded" in refusal(folder)
    torch.save({"hook": pytest.fail}, path)
    assert "more than tensors, which loading could run as code" in refusal(folder)
    (folder / "model.safetensors").write_bytes(b"cut")
    assert "model.safetensors cannot be loaded" in refusal(folder)
