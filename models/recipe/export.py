"""Writes a member's checkpoint as GGUF files.

TQ2_0: ternary matrices (lossless) with the tied embedding in Q8_0. F16: the same matrices, equally exact, with the
embedding in F16. Q8_0: all of them in Q8_0. STQ1_0: `ternion quantize` makes it (lossless, with the embedding in Q8_0) of an
F16 file, which stays in the folder of the checkpoints. Norms and routers are F32 everywhere.

The GGUF library is the one of the llama.cpp source: --gguf-py, or the source named by
TERNION_LLAMA_SOURCE, or the repository's own copy under vendor/llama.
"""
import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from members import MEMBERS
from model import Shape, describe, effective, is_matrix
from tokenizer import SPECIAL, Tokenizer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def library(path=None):
    source = os.environ.get("TERNION_LLAMA_SOURCE")
    for p in filter(None, (path, source and Path(source) / "gguf-py", ROOT / "vendor/llama/gguf-py")):
        if Path(p, "gguf").is_dir():
            sys.path.insert(0, str(p))
            import gguf
            return gguf
    raise SystemExit("gguf-py not found: set TERNION_LLAMA_SOURCE to a llama.cpp source, or give --gguf-py")


def load(out, member):
    c = torch.load(out / f"{member}.pt", map_location="cpu")
    return Shape(**c["shape"]), c["params"], c


def pack(gguf, name, a, kind):
    """The array as kind stores it. What is ternary must not change."""
    T = gguf.GGMLQuantizationType[kind]
    q = gguf.quants.quantize(a, T)
    if kind != "Q8_0" and not np.array_equal(gguf.quants.dequantize(q, T), a):
        raise SystemExit(f"{name} is not lossless in {kind}")
    return q, T


def write(gguf, shape, params, tok, template, path, member, kind):
    T = gguf.GGMLQuantizationType
    arch = "ernie4_5-moe" if shape.experts else "llama"
    w = gguf.GGUFWriter(str(path), arch)
    w.add_name(member.title)
    w.add_description(member.about)
    w.add_license("mit")
    w.add_languages(["en"])
    w.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_context_length(shape.context)
    w.add_embedding_length(shape.dim)
    w.add_block_count(shape.layers)
    w.add_feed_forward_length(shape.ff)
    w.add_head_count(shape.heads)
    w.add_head_count_kv(shape.kv_heads)
    w.add_rope_dimension_count(shape.head)
    w.add_rope_freq_base(shape.theta)
    w.add_layer_norm_rms_eps(shape.eps)
    w.add_vocab_size(shape.vocab)
    if shape.experts:
        w.add_expert_count(shape.experts)
        w.add_expert_used_count(shape.experts_used)
        w.add_expert_feed_forward_length(shape.expert_ff)
        w.add_interleave_moe_layer_step(1)
        w.add_leading_dense_block_count(shape.dense_lead)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tok.vocab)
    kinds = {t: (gguf.TokenType.USER_DEFINED if visible else gguf.TokenType.CONTROL) for t, visible in SPECIAL}
    w.add_token_types([kinds.get(t, gguf.TokenType.NORMAL) for t in tok.vocab])
    w.add_token_merges(tok.merges)
    w.add_bos_token_id(tok.eos)
    w.add_eos_token_id(tok.eos)
    w.add_pad_token_id(tok.eos)
    w.add_eot_token_id(tok.end)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_chat_template(template)
    for n, p in effective(shape, params, torch.float32).items():
        a = p.numpy()
        if is_matrix(n):
            q, t = pack(gguf, n, a, kind)
            w.add_tensor(n + ".weight", q, raw_dtype=t)
        elif n == "token_embd":
            t = T.F16 if kind == "F16" else T.Q8_0
            w.add_tensor(n + ".weight", gguf.quants.quantize(a, t), raw_dtype=t)
        else:
            w.add_tensor(n + ".weight", a.astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def quantize(source, target, kind):
    """As `ternion quantize` does. What is ternary must not change."""
    command = ["node", ROOT / "dist/cli/main.js", "quantize", source, target, kind, "--embedding", "q8_0", "--json"]
    tensors = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["tensors"]
    lossy = [t["name"] for t in tensors if t["to"] == kind.lower() and not t["lossless"]]
    if lossy or not any(t["to"] == kind.lower() for t in tensors):
        raise SystemExit(f"{target.name} is not lossless in {kind}: {', '.join(lossy) or 'no matrix of that type'}")


def float_file(out, member):
    """Of a member whose own type gguf-py does not know."""
    return out / f"{member}-f16.gguf"


def read(gguf, path):
    """Shape and float32 weights as the file holds them."""
    r = gguf.GGUFReader(str(path))
    arch = r.fields["general.architecture"].contents()
    get = lambda k, *other: r.fields[f"{arch}.{k}"].contents() if f"{arch}.{k}" in r.fields else other[0]
    shape = Shape(vocab=get("vocab_size"), dim=get("embedding_length"), ff=get("feed_forward_length"), layers=get("block_count"),
                  heads=get("attention.head_count"), kv_heads=get("attention.head_count_kv"), context=get("context_length"),
                  theta=float(get("rope.freq_base")), eps=float(get("attention.layer_norm_rms_epsilon")),
                  experts=get("expert_count", 0), experts_used=get("expert_used_count", 0),
                  expert_ff=get("expert_feed_forward_length", 0), dense_lead=get("leading_dense_block_count", 0))
    w = {}
    for t in r.tensors:
        a = gguf.quants.dequantize(t.data, t.tensor_type)
        w[t.name.removesuffix(".weight")] = torch.from_numpy(np.array(a, np.float32).reshape(*reversed(t.shape.tolist())))
    return shape, w


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, default=HERE / "out")
    a.add_argument("--gguf-py", type=Path)
    a.add_argument("--member", choices=MEMBERS, default="dense")
    a.add_argument("--to", type=Path, default=HERE.parent, help="folder of the files")
    o = a.parse_args()
    gguf = library(o.gguf_py)
    member = MEMBERS[o.member]
    shape, params, c = load(o.out, o.member)
    tok = Tokenizer.load(o.out / "tokenizer.json")
    template = (HERE / "chat_template.jinja").read_text().rstrip("\n")
    for kind, name in member.files.items():
        file = o.to / name
        tmp = file.with_suffix(".tmp")
        if kind == "STQ1_0":
            source = float_file(o.out, o.member)
            write(gguf, shape, params, tok, template, source, member, "F16")
            quantize(source, tmp, kind)
        else:
            write(gguf, shape, params, tok, template, tmp, member, kind)
        os.replace(tmp, file)
        data = file.read_bytes()
        print(f"{file.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}, step {c['step']} of {c['steps']}, "
              f"{describe(shape)['parameters']} parameters")


if __name__ == "__main__":
    main()
