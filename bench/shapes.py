"""Writes a llama-architecture GGUF of a benchmark's shape with seeded random weights: shapes.py S|M OUT

Matrices are ternary (TQ2_0), head and embeddings Q8_0, norms F32; the tokenizer is that of an upstream vocabulary.
Needs python3-numpy; the GGUF library is the one of the fetched llama.cpp source.
"""
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LLAMA = ROOT / "vendor/llama"
sys.path.insert(0, str(LLAMA / "gguf-py"))
import gguf  # noqa: E402

SEED = 1
CONTEXT = 8192
# width, feed-forward, layers, heads, kv heads; 32,000 tokens
SHAPES = {"S": (256, 768, 4, 4, 2), "M": (2048, 8192, 16, 32, 8)}

T = gguf.GGMLQuantizationType


def ternary(rng, rows, columns, scale):
    """TQ2_0 rows: per 256 weights 64 bytes of four 2-bit values 0, 1, 2, then the scale as half."""
    per_byte = np.array([a | b << 2 | c << 4 | d << 6 for a in range(3) for b in range(3) for c in range(3) for d in range(3)], np.uint8)
    blocks = rows * columns // 256
    out = np.empty((blocks, 66), np.uint8)
    out[:, :64] = per_byte[rng.integers(0, 81, (blocks, 64), np.uint8)]
    out[:, 64:] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    return out.reshape(rows, -1)


def q8(rng, rows, columns, scale):
    """Q8_0 rows: per 32 weights the scale as half, then 32 signed bytes."""
    blocks = rows * columns // 32
    out = np.empty((blocks, 34), np.uint8)
    out[:, :2] = np.frombuffer(np.float16(scale / 127).tobytes(), np.uint8)
    out[:, 2:] = rng.integers(-127, 128, (blocks, 32), np.int8).view(np.uint8)
    return out.reshape(rows, -1)


def copy_tokenizer(writer, reader):
    for name, field in reader.fields.items():
        if name.startswith("tokenizer."):
            kind = field.types[0]
            element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), kind, element)


def main(shape, path):
    width, ff, layers, heads, kv_heads = SHAPES[shape]
    vocabulary = gguf.GGUFReader(LLAMA / "models/ggml-vocab-llama-spm.gguf")
    tokens = len(vocabulary.fields["tokenizer.ggml.tokens"].data)
    rng = np.random.default_rng(SEED)
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(f"random weights, shape {shape}")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_TQ2_0)
    w.add_context_length(CONTEXT)
    w.add_embedding_length(width)
    w.add_block_count(layers)
    w.add_feed_forward_length(ff)
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_dimension_count(width // heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_vocab_size(tokens)
    copy_tokenizer(w, vocabulary)

    head = width // heads
    w.add_tensor("token_embd.weight", q8(rng, tokens, width, 1.0), raw_dtype=T.Q8_0)
    w.add_tensor("output.weight", q8(rng, tokens, width, width**-0.5), raw_dtype=T.Q8_0)
    w.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for i in range(layers):
        for name, rows, columns in [
            ("attn_q", width, width),
            ("attn_k", head * kv_heads, width),
            ("attn_v", head * kv_heads, width),
            ("attn_output", width, width),
            ("ffn_gate", ff, width),
            ("ffn_up", ff, width),
            ("ffn_down", width, ff),
        ]:
            w.add_tensor(f"blk.{i}.{name}.weight", ternary(rng, rows, columns, columns**-0.5), raw_dtype=T.TQ2_0)
        w.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(width, np.float32))
        w.add_tensor(f"blk.{i}.ffn_norm.weight", np.ones(width, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
