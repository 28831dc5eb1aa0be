"""Decoding with a key/value cache, in float32: for the evaluation, not for speed records."""
import torch
import torch.nn.functional as F

from model import mixture, rope, rope_tables


def norm(x, g, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * g


class Session:
    def __init__(self, shape, weights):
        self.s, self.w = shape, weights
        self.cos, self.sin = rope_tables(shape, torch.arange(shape.context))
        self.keys = [torch.zeros(shape.context, shape.kv_heads, shape.head) for _ in range(shape.layers)]
        self.values = [torch.zeros(shape.context, shape.kv_heads, shape.head) for _ in range(shape.layers)]
        self.n = 0

    @torch.no_grad()
    def feed(self, ids, every=False):
        """Logits after the last id (or after every id)."""
        s, w, a = self.s, self.w, self.n
        e = a + len(ids)
        if e > s.context:
            raise ValueError("context is full")
        x = w["token_embd"][torch.tensor(ids)]
        L, rep = len(ids), s.heads // s.kv_heads
        mask = torch.full((L, e), float("-inf")).triu_(a + 1) if L > 1 else 0.0
        for i in range(s.layers):
            p = f"blk.{i}."
            h = norm(x, w[p + "attn_norm"], s.eps)
            q = rope((h @ w[p + "attn_q"].t()).view(L, s.heads, s.head), self.cos[a:e], self.sin[a:e], torch.float32)
            self.keys[i][a:e] = rope((h @ w[p + "attn_k"].t()).view(L, s.kv_heads, s.head), self.cos[a:e], self.sin[a:e], torch.float32)
            self.values[i][a:e] = (h @ w[p + "attn_v"].t()).view(L, s.kv_heads, s.head)
            k = self.keys[i][:e].repeat_interleave(rep, 1).permute(1, 2, 0)
            v = self.values[i][:e].repeat_interleave(rep, 1).transpose(0, 1)
            p_ = torch.softmax(q.transpose(0, 1) @ k * s.head ** -0.5 + mask, -1)
            x = x + (p_ @ v).transpose(0, 1).reshape(L, s.dim) @ w[p + "attn_output"].t()
            h = norm(x, w[p + "ffn_norm"], s.eps)
            if s.mixture(i):
                x = x + mixture(s, h, w, p)[0]
                continue
            x = x + (F.silu(h @ w[p + "ffn_gate"].t()) * (h @ w[p + "ffn_up"].t())) @ w[p + "ffn_down"].t()
        self.n = e
        x = norm(x if every else x[-1:], w["output_norm"], s.eps)
        return x @ w["token_embd"].t()


def decode(shape, weights, prompt, limit, stop, temperature=0.0, generator=None):
    """New ids up to (not with) a stop id."""
    session, out, ids = Session(shape, weights), [], prompt
    while len(out) < limit and session.n + len(ids) < shape.context:
        z = session.feed(ids)[-1]
        t = int(z.argmax()) if temperature <= 0 else int(torch.multinomial(torch.softmax(z / temperature, -1), 1, generator=generator))
        if t in stop:
            break
        out.append(t)
        ids = [t]
    return out
