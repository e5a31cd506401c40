"""Train PictoCLIP from scratch on the pictogram world and write an open_clip local-dir.

    python scripts/train_pictoclip.py --out kt_exp/pictograms/pictoclip

Takes about twenty minutes on two cores. One seed, one result (on one machine and version).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn.attention import SDPBackend, sdpa_kernel

from kt_exp.pictograms import captions, drawings
from kt_exp.pictograms.words import article

ROOT = Path(__file__).resolve().parent.parent
MEAN, STD = (0.5, 0.5, 0.5), (0.3, 0.3, 0.3)
CONTEXT = 48


@dataclass
class Corpus:
    """All drawings, uint8 ``(N, 3, 64, 64)``, with their truths, in three pools."""

    images: torch.Tensor
    examples: list[captions.Example]
    pools: list[np.ndarray]


def draw_corpus(args: argparse.Namespace) -> Corpus:
    """Draw known classes, invented names and free compositions once."""
    known = captions.known_concepts()
    invented = captions.invented_concepts(args.names, args.seed)
    rng = np.random.default_rng([args.seed, 2])
    free = [captions.Concept(captions.random_look(rng)) for _ in range(args.free)]
    plan = [(c, args.per_known) for c in known] + [(c, args.per_name) for c in invented]
    plan += [(c, 1) for c in free]
    images, examples, start = [], [], time.time()
    for index, (concept, count) in enumerate(plan):
        for i in range(count):
            image, example = captions.draw_example(concept, index, [args.seed, 3, index, i])
            images.append(image)
            examples.append(example)
    print(f"drew {len(images)} images in {time.time() - start:.0f} s", flush=True)
    ends = np.cumsum([0, len(known) * args.per_known, len(invented) * args.per_name, len(free)])
    pools = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return Corpus(pixels, examples, pools)


def train_tokenizer(corpus: Corpus, seed: int, vocab: int) -> Tokenizer:
    """A small BPE over the captions; the end token has the highest id (argmax pooling)."""
    rng = np.random.default_rng([seed, 4])
    texts = [captions.write_caption(e, rng, captions.Mix()) for e in corpus.examples]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789.,:;-'()")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - 1,
        # Letters that end a word would get ids in random order, and ties between merges with them.
        special_tokens=["<pad>", "<unk>", "<start>", *(letter + "</w>" for letter in alphabet)],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(["<end>"])
    end, start = tokenizer.token_to_id("<end>"), tokenizer.token_to_id("<start>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", start), ("<end>", end)]
    )
    return tokenizer


def model_config(vocab: int, width: int) -> dict:
    """The architecture, as open_clip's ``model_cfg``; ``width`` is that of both encoders."""
    return {
        "embed_dim": width,
        "vision_cfg": {
            "image_size": 64, "patch_size": 8, "width": width, "layers": 5,
            "head_width": width // 2,
        },
        "text_cfg": {
            "context_length": CONTEXT, "vocab_size": vocab, "width": width, "heads": 4, "layers": 4,
            "hf_tokenizer_name": "pictoclip",
        },
    }


def write_local_dir(model: torch.nn.Module, tokenizer: Tokenizer, width: int, out: Path) -> None:
    """Write config, half-precision weights and tokenizer into ``out``, replacing it whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=".pictoclip-"))
    work.chmod(0o755)
    config = {
        "model_cfg": model_config(tokenizer.get_vocab_size(), width),
        "preprocess_cfg": {
            "mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest",
        },
    }
    (work / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    # Half the size, and the weights are judged as they are shipped: rounded.
    state = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(state, work / "open_clip_model.safetensors", metadata={"format": "pt"})
    (work / "open_clip_model.safetensors").chmod(0o644)
    tokenizer.save(str(work / "tokenizer.json"))
    special = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT,
        "pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<start>", "eos_token": "<end>",
    }
    (work / "tokenizer_config.json").write_text(json.dumps(special, indent=2) + "\n")
    if out.exists():
        shutil.rmtree(out)
    work.rename(out)


def encode(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids padded to the longest text only, which saves most of the text tower's work."""
    rows = [[*e.ids[: CONTEXT - 1], e.ids[-1]] if len(e.ids) > CONTEXT else e.ids
            for e in tokenizer.encode_batch(texts)]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    return ids


def encode_short_text(model: open_clip.CLIP, ids: torch.Tensor) -> torch.Tensor:
    """``model.encode_text`` for ids shorter than the context: causal, so padding has no part."""
    length = ids.shape[1]
    x = model.token_embedding(ids) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)]
    return x @ model.text_projection


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random affine maps and noise on uint8 images; normalised float ``(B, 3, 64, 64)``."""
    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(len(pixels), generator=generator)

    angle = uniform(-0.35, 0.35)
    scale = uniform(0.8, 1.25)
    rows = torch.stack([
        torch.stack([scale * angle.cos(), -scale * angle.sin(), uniform(-0.15, 0.15)], 1),
        torch.stack([scale * angle.sin(), scale * angle.cos(), uniform(-0.15, 0.15)], 1),
    ], 1)
    images = pixels.float() / 255
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    chosen = (uniform(0, 1) < 0.6)[:, None, None, None]
    images = torch.where(chosen, moved, images)
    sigma = (uniform(0, 1) ** 2 * 0.15)[:, None, None, None]
    images = images + sigma * torch.randn(images.shape, generator=generator)
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def contrastive_loss(
    image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor, concepts: torch.Tensor
) -> torch.Tensor:
    """CLIP's symmetric loss; other pairs of the same concept are no negatives."""
    logits = scale * image @ text.T
    same = concepts[:, None] == concepts[None, :]
    same.fill_diagonal_(False)
    logits = logits.masked_fill(same, -1e4)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(args: argparse.Namespace, corpus: Corpus, tokenizer: Tokenizer) -> torch.nn.Module:
    """Train from scratch with AdamW, warm-up and cosine decay; prints progress with ETA."""
    model = open_clip.CLIP(**model_config(tokenizer.get_vocab_size(), args.width))
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), eps=1e-6)
    rng = np.random.default_rng([args.seed, 5])
    generator = torch.Generator().manual_seed(args.seed)
    shares = [int(args.batch * 0.36), int(args.batch * 0.40)]
    shares.append(args.batch - sum(shares))
    start, shown = time.time(), 0.0
    for step in range(args.steps):
        warm = min(1.0, (step + 1) / 100)
        rate = args.lr * warm * (0.5 + 0.5 * math.cos(math.pi * step / args.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = np.concatenate([rng.choice(p, n) for p, n in zip(corpus.pools, shares, strict=True)])
        chosen = [corpus.examples[i] for i in rows]
        texts = [captions.write_caption(e, rng, captions.Mix()) for e in chosen]
        images = augment(corpus.images[rows], generator)
        # The fused attention kernel's backward is the slower one at this size.
        with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            image = model.encode_image(images)
            text = encode_short_text(model, encode(tokenizer, texts))
        image, text = F.normalize(image.float(), dim=-1), F.normalize(text.float(), dim=-1)
        concepts = torch.tensor([e.concept for e in chosen])
        loss = contrastive_loss(image, text, model.logit_scale.exp(), concepts)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(args.max_scale))
        shown = 0.98 * shown + 0.02 * loss.item()
        if (step + 1) % 100 == 0:
            spent = time.time() - start
            left = spent / (step + 1) * (args.steps - step - 1)
            print(f"step {step + 1}/{args.steps} loss {shown / (1 - 0.98 ** (step + 1)):.3f} "
                  f"scale {model.logit_scale.exp().item():.1f} "
                  f"{spent:.0f} s, {left:.0f} s to go", flush=True)
    return model.eval()


@torch.no_grad()
def check(out: Path) -> None:
    """Print what the written local-dir can do: known accuracy, development cosines."""
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{out}")
    model.eval()
    tokenize = open_clip.get_tokenizer(f"local-dir:{out}")

    def texts(lines: list[str]) -> torch.Tensor:
        return model.encode_text(tokenize(lines), normalize=True)

    def images(name: str, count: int) -> torch.Tensor:
        pixels = torch.from_numpy(drawings.draw_class(name, count, seed=999)).permute(0, 3, 1, 2)
        mean, std = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
        return model.encode_image((pixels.float() / 255 - mean) / std, normalize=True)

    bank = texts([f"a photo of {article(name)}." for name in drawings.KNOWN])
    hits = [((images(n, 20) @ bank.T).argmax(1) == i).float().mean().item()
            for i, n in enumerate(drawings.KNOWN)]
    print(f"known accuracy {100 * np.mean(hits):.1f} %; worst "
          + ", ".join(f"{drawings.KNOWN[i]} {100 * hits[i]:.0f}" for i in np.argsort(hits)[:4]))
    items = yaml.safe_load((ROOT / "conf/concepts/pictograms_dev.yaml").read_text())["items"]
    print("concept          cos(name, definition)  by name  by description")
    for item in items:
        name = article(item["name"])
        photo, whole, plain = texts(
            [f"a photo of {name}.", f"{name} is {item['description']}", item["description"]])
        seen = images(item["name"], 50)
        known = (seen @ bank.T).max(1).values
        print(f"{item['name']:16s} {photo @ whole:10.2f} "
              f"{100 * (seen @ photo > known).float().mean():16.0f} % "
              f"{100 * (seen @ plain > known).float().mean():8.0f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "kt_exp/pictograms/pictoclip")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=128, help="of both encoders; multiple of 4")
    parser.add_argument("--steps", type=int, default=2200)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--max-scale", type=float, default=50.0, help="cap of the logit scale")
    parser.add_argument("--names", type=int, default=1500, help="invented names")
    parser.add_argument("--per-name", type=int, default=12, help="drawings of each invented name")
    parser.add_argument("--per-known", type=int, default=150, help="drawings of each known class")
    parser.add_argument("--free", type=int, default=12000, help="free compositions")
    parser.add_argument("--vocab", type=int, default=1000, help="tokens")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    corpus = draw_corpus(args)
    tokenizer = train_tokenizer(corpus, args.seed, args.vocab)
    model = train(args, corpus, tokenizer)
    write_local_dir(model, tokenizer, args.width, args.out)
    check(args.out)


if __name__ == "__main__":
    main()
