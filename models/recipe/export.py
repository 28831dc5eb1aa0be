"""Writes the checkpoint as GGUF: ternary matrices in TQ2_0 (lossless), the tied embedding in Q8_0, norms in F32.

The GGUF library is the one of the llama.cpp source: --gguf-py, or the source named by
TERNION_LLAMA_SOURCE, or the repository's own copy under vendor/llama.
"""
import argparse
import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import torch

from model import Shape, describe, effective, is_ternary
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


def load(checkpoint):
    c = torch.load(checkpoint, map_location="cpu")
    return Shape(**c["shape"]), c["params"], c


def write(gguf, shape, params, tok, template, path, name):
    T = gguf.GGMLQuantizationType
    w = gguf.GGUFWriter(str(path), "llama")
    w.add_name(name)
    w.add_description("A small ternary llama trained on generated tales and tasks")
    w.add_license("mit")
    w.add_languages(["en"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_TQ2_0)
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
    for n, p in effective(params, torch.float32).items():
        a = p.numpy()
        if is_ternary(n):
            q = gguf.quants.quantize(a, T.TQ2_0)
            if not np.array_equal(gguf.quants.dequantize(q, T.TQ2_0), a):
                raise SystemExit(f"{n} is not lossless in TQ2_0")
            w.add_tensor(n + ".weight", q, raw_dtype=T.TQ2_0)
        elif n == "token_embd":
            w.add_tensor(n + ".weight", gguf.quants.quantize(a, T.Q8_0), raw_dtype=T.Q8_0)
        else:
            w.add_tensor(n + ".weight", a.astype(np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def read(gguf, path):
    """Shape and float32 weights as the file holds them."""
    r = gguf.GGUFReader(str(path))
    get = lambda k: r.fields[k].contents()
    shape = Shape(vocab=get("llama.vocab_size"), dim=get("llama.embedding_length"), ff=get("llama.feed_forward_length"),
                  layers=get("llama.block_count"), heads=get("llama.attention.head_count"),
                  kv_heads=get("llama.attention.head_count_kv"), context=get("llama.context_length"),
                  theta=float(get("llama.rope.freq_base")), eps=float(get("llama.attention.layer_norm_rms_epsilon")))
    w = {}
    for t in r.tensors:
        a = gguf.quants.dequantize(t.data, t.tensor_type)
        w[t.name.removesuffix(".weight")] = torch.from_numpy(np.array(a, np.float32).reshape(*reversed(t.shape.tolist())))
    return shape, w


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, default=HERE / "out")
    a.add_argument("--gguf-py", type=Path)
    a.add_argument("--file", type=Path, default=HERE.parent / "tern-5m-tq2_0.gguf")
    o = a.parse_args()
    gguf = library(o.gguf_py)
    shape, params, c = load(o.out / "checkpoint.pt")
    tok = Tokenizer.load(o.out / "tokenizer.json")
    tmp = o.file.with_suffix(".tmp")
    write(gguf, shape, params, tok, (HERE / "chat_template.jinja").read_text().rstrip("\n"), tmp, "Tern 5M")
    os.replace(tmp, o.file)
    data = o.file.read_bytes()
    print(f"{o.file.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}, step {c['step']} of {c['steps']}, "
          f"{describe(shape)['parameters']} parameters")


if __name__ == "__main__":
    main()
