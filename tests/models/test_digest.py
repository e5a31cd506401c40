"""Fingerprints are keys of the store: where one changes, everything is computed anew.

The values were recorded with kt_exp 0.1.0.
"""

import torch
from torch import nn

from kt_exp.models.digest import digest_of
from kt_exp.models.vilt import ViLT
from kt_exp.pictograms.weights import PictoClip

CPU = torch.device("cpu")


def small_network():
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3))
    for i, tensor in enumerate(network.state_dict().values()):
        tensor.copy_(torch.arange(tensor.numel()).view(tensor.shape) + i)
    return network


def test_the_digest_of_a_network_is_the_one_recorded():
    assert digest_of(small_network()) == (
        "01dc5256c4d2fc0cb61733a6dadba305c7ed1909465db4e067cb4bf8b18eeb68")


def test_memory_order_does_not_count_but_values_names_and_types_do():
    digest = digest_of(small_network())
    assert digest_of(small_network().to(memory_format=torch.channels_last)) == digest
    others = [small_network().double(), nn.Sequential(small_network()), small_network()]
    others[2][0].bias.data[0] += 1
    assert len({digest, *map(digest_of, others)}) == 4


def test_the_fingerprint_of_pictoclip_is_the_one_recorded():
    assert PictoClip().load(CPU, "fp32").fingerprint() == (
        "c165684a4507f341d8464408bbd9a1f131a8bf23e3b080ed9e8969b3846c79c7")


def test_the_fingerprint_of_a_vilt_is_the_one_recorded(
        vilt_state, write_vilt, medclip_script, tmp_path):
    state = {name: medclip_script.fill(name, tensor.shape) if tensor.is_floating_point() else tensor
             for name, tensor in vilt_state("itm_score", "mlm_score").items()}
    spec = ViLT(name=str(write_vilt(tmp_path, state)), tokenizer=None, head="auto",
                rank_by="match", resize="crop")
    assert spec.load(CPU, "fp32").fingerprint() == (
        "db6be1aa4cabd8daaedeea4947dc93096cf47a963ed047dd06d0e7298df72467")
