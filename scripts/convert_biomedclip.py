"""Turn the BiomedCLIP that MedCLIP-SAMv2 fine-tuned (DHN-NCE) into a folder for open_clip.

    python scripts/convert_biomedclip.py pytorch_model.bin --out FOLDER
    kt-exp model=biomedclip model.name=local-dir:FOLDER

The checkpoint is in the layout of their `saliency_maps/model/modeling_biomed_clip.py`, and this
undoes their `convert.py`. Configuration and tokenizer are those of `--base`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

from kt_exp.errors import EXIT_BAD_INPUT, UserError
from kt_exp.models.clip import OpenClip
from kt_exp.models.files import first_mismatch, read_state

BASE = "hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
_EMBEDDINGS = "text.transformer.embeddings"
# Prefixes first, then what is within a layer of each tower.
_SHARED = {
    r"visual_projection\.": "visual.head.proj.",
    r"vision_model\.post_layernorm\.": "visual.trunk.norm.",
    r"vision_model\.embeddings\.patch_embedding\.": "visual.trunk.patch_embed.proj.",
    r"vision_model\.embeddings\.position_embedding\.weight": "visual.trunk.pos_embed",
    r"vision_model\.embeddings\.class_embedding": "visual.trunk.cls_token",
    r"vision_model\.encoder\.layers\.": "visual.trunk.blocks.",
    r"text_projection\.fc1\.": "text.proj.0.",
    r"text_projection\.fc2\.": "text.proj.2.",
    r"text_model\.embeddings\.token_embedding\.": f"{_EMBEDDINGS}.word_embeddings.",
    r"text_model\.embeddings\.position_embedding\.": f"{_EMBEDDINGS}.position_embeddings.",
    r"text_model\.embeddings\.token_type_embedding\.": f"{_EMBEDDINGS}.token_type_embeddings.",
    r"text_model\.embeddings\.layer_norm\.": f"{_EMBEDDINGS}.LayerNorm.",
    r"text_model\.encoder\.layers\.": "text.transformer.encoder.layer.",
}
_VISUAL = {".self_attn.out_proj.": ".attn.proj.", ".layer_norm1.": ".norm1.",
           ".layer_norm2.": ".norm2."}
_TEXT = {
    ".self_attn.q_proj.": ".attention.self.query.",
    ".self_attn.k_proj.": ".attention.self.key.",
    ".self_attn.v_proj.": ".attention.self.value.",
    ".self_attn.out_proj.": ".attention.output.dense.",
    ".layer_norm1.": ".attention.output.LayerNorm.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
    ".layer_norm2.": ".output.LayerNorm.",
}
_SPLIT = re.compile(r"(visual\.trunk\.blocks\.\d+)\.self_attn\.q_proj\.(weight|bias)")


def convert(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under open_clip's names, queries, keys and values of a layer in one."""
    renamed = {_rename(name): tensor.float() for name, tensor in state.items()
               if not name.endswith("position_ids")}
    for name in [name for name in renamed if _SPLIT.fullmatch(name)]:
        parts = [renamed.pop(name.replace("q_proj", f"{part}_proj"), torch.empty(0))
                 for part in "qkv"]
        renamed[_SPLIT.sub(r"\1.attn.qkv.\2", name)] = torch.cat(parts)
    for name, axes in (("visual.trunk.pos_embed", 1), ("visual.trunk.cls_token", 2)):
        if name in renamed:
            renamed[name] = renamed[name][(None,) * axes]
    return renamed


def _rename(name: str) -> str:
    for pattern, ours in _SHARED.items():
        name = re.sub(rf"^{pattern}", ours, name)
    within = _TEXT if name.startswith("text.") else _VISUAL
    for theirs, ours in within.items():
        name = name.replace(theirs, ours)
    return name


def run(checkpoint: Path, base: str, out: Path) -> None:
    """Write `base` with the checkpoint's weights as an open_clip `local-dir`.

    Raises:
        UserError: a checkpoint that is damaged or of another architecture.
    """
    if not checkpoint.is_file():
        raise UserError("checkpoint", f"no such file: {checkpoint}")
    state = convert(read_state(checkpoint, "checkpoint"))
    model = OpenClip(base, None).load(torch.device("cpu"), "fp32")
    if problem := first_mismatch(model.module.state_dict(), state):
        raise UserError("checkpoint", f"{checkpoint} has weights of another architecture: "
                        f"{problem}", "give BiomedCLIP in the layout of MedCLIP-SAMv2")
    model.module.load_state_dict(state)
    model.export(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path, help="their pytorch_model.bin, or safetensors")
    parser.add_argument("--base", default=BASE, help="BiomedCLIP for configuration and tokenizer: "
                        "hf-hub:ORG/REPO or local-dir:FOLDER (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    args = parser.parse_args()
    try:
        run(args.checkpoint, args.base, args.out)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
