"""The network: a llama whose linear weights are ternary, with or without a mixture of experts.

Everything is written for one or two CPU cores: bfloat16 matrix products, the
weights quantised once per step (not once per use), and three hand-written
backward passes (attention, gated unit, loss) that spare the large temporaries
which autograd would keep.
"""
import math
from dataclasses import dataclass, asdict

import torch
import torch.nn.functional as F

BLOCK = 256  # weights that share one scale: TQ2_0's block


@dataclass
class Shape:
    vocab: int = 3072
    dim: int = 256
    ff: int = 768
    layers: int = 5
    heads: int = 4
    kv_heads: int = 4
    context: int = 2048
    theta: float = 50000.0
    eps: float = 1e-5
    weights: str = "ternary"  # of the layers' matrices: ternary, sherry or float
    experts: int = 0
    experts_used: int = 0
    expert_ff: int = 0
    dense_lead: int = 0  # with experts: the layers from this one on have them

    @property
    def head(self):
        return self.dim // self.heads

    def mixture(self, layer):
        return self.experts > 0 and layer >= self.dense_lead


def ternarise(w):
    """{-d, 0, +d} per block of 256 along the row, d the mean magnitude.

    d is rounded to bfloat16's grid (and kept above half precision's subnormals),
    so it is the same number in bfloat16 (training), float16 (the file) and float32.
    """
    b = w.reshape(-1, BLOCK)
    d = b.abs().mean(1, keepdim=True).bfloat16().float().clamp_(min=2.0 ** -14)
    return (b / d).round_().clamp_(-1, 1).mul_(d).reshape(w.shape)


def sherry(w):
    """One zero in every four weights, the others -d or +d, as STQ1_0 stores them.

    A group is weight i, i+16, i+32, i+48 of a run of 64; the least of the four becomes the zero. d, one per block
    of 256, is the mean magnitude of the kept ones, rounded as in ternarise().
    """
    b = w.reshape(-1, BLOCK // 64, 4, 16)
    m = b.abs()
    kept = torch.ones_like(m).scatter_(2, m.argmin(2, keepdim=True), 0.0)
    d = (m * kept).sum((1, 2, 3), keepdim=True).div_(BLOCK * 3 // 4).bfloat16().float().clamp_(min=2.0 ** -14)
    return torch.where(b < 0, -d, d).mul_(kept).reshape(w.shape)


ROUND = {"ternary": ternarise, "sherry": sherry, "float": lambda w: w}


def parameter_shapes(s):
    """Name -> shape; linear weights are [out, in] (experts [expert, out, in]), the names are GGUF's without suffix."""
    kv = s.kv_heads * s.head
    shapes = {"token_embd": (s.vocab, s.dim), "output_norm": (s.dim,)}
    for i in range(s.layers):
        p = f"blk.{i}."
        shapes[p + "attn_norm"] = (s.dim,)
        shapes[p + "attn_q"] = (s.dim, s.dim)
        shapes[p + "attn_k"] = (kv, s.dim)
        shapes[p + "attn_v"] = (kv, s.dim)
        shapes[p + "attn_output"] = (s.dim, s.dim)
        shapes[p + "ffn_norm"] = (s.dim,)
        if s.mixture(i):
            shapes[p + "ffn_gate_inp"] = (s.experts, s.dim)
            shapes[p + "ffn_gate_exps"] = (s.experts, s.expert_ff, s.dim)
            shapes[p + "ffn_up_exps"] = (s.experts, s.expert_ff, s.dim)
            shapes[p + "ffn_down_exps"] = (s.experts, s.dim, s.expert_ff)
        else:
            shapes[p + "ffn_gate"] = (s.ff, s.dim)
            shapes[p + "ffn_up"] = (s.ff, s.dim)
            shapes[p + "ffn_down"] = (s.dim, s.ff)
    return shapes


def is_matrix(name):
    """The layers' linear weights, which the file holds rounded; not embedding, norms and router."""
    return name.startswith("blk.") and not name.endswith(("norm", "ffn_gate_inp"))


def init(s, seed):
    g = torch.Generator().manual_seed(seed)
    out = {}
    for name, shape in parameter_shapes(s).items():
        if name.endswith("norm"):
            out[name] = torch.ones(shape)
        else:
            std = 0.05 if name == "token_embd" else 0.5 / math.sqrt(shape[-1])
            if name.endswith(("attn_output", "ffn_down", "ffn_down_exps")):
                std *= 0.5
            out[name] = torch.randn(shape, generator=g) * std
    return out


def effective(s, params, dtype=torch.bfloat16):
    """The weights a forward pass uses: rounded where the file's are."""
    return {n: (ROUND[s.weights](p) if is_matrix(n) else p).to(torch.float32 if n.endswith(("norm", "ffn_gate_inp")) else dtype)
            for n, p in params.items()}


class RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, g, eps, dtype):
        inv = torch.rsqrt(torch.norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps))
        h = x * inv
        ctx.save_for_backward(h, inv, g)
        return (h * g).to(dtype)

    @staticmethod
    def backward(ctx, go):
        h, inv, g = ctx.saved_tensors
        go = go.float()
        gh = go * h
        gg = gh.sum(0)
        mean = (gh @ g).unsqueeze(-1) / h.shape[-1]
        return (go * g).sub_(h * mean).mul_(inv), gg, None, None


class GatedUnit(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        sg = torch.sigmoid(a)
        ctx.save_for_backward(a, b, sg)
        return (a * sg).mul_(b)

    @staticmethod
    def backward(ctx, go):
        a, b, sg = ctx.saved_tensors
        sa = a * sg
        gb = go * sa
        # silu' = sg + silu * (1 - sg)
        ga = (1 - sg).mul_(sa).add_(sg).mul_(b).mul_(go)
        return ga, gb


class CausalAttention(torch.autograd.Function):
    """q, k, v: [batch*heads, length, head]. Query chunks see only the keys before their end."""
    CHUNK = 256

    @staticmethod
    def forward(ctx, q, k, v):
        n, C = q.shape[1], CausalAttention.CHUNK
        mask = torch.full((C, C), -3e4, dtype=q.dtype).triu_(1)
        out, probs = torch.empty_like(q), []
        kt = k.transpose(1, 2)
        for a in range(0, n, C):
            e = min(a + C, n)
            s = torch.bmm(q[:, a:e], kt[:, :, :e])
            s[:, :, a:e] += mask[:e - a, :e - a]
            p = torch.softmax(s, -1)
            out[:, a:e] = torch.bmm(p, v[:, :e])
            probs.append(p)
        ctx.save_for_backward(q, k, v, *probs)
        return out

    @staticmethod
    def backward(ctx, go):
        q, k, v, *probs = ctx.saved_tensors
        n, C = q.shape[1], CausalAttention.CHUNK
        gq = torch.empty_like(q)
        gk, gv = torch.zeros_like(k), torch.zeros_like(v)
        vt = v.transpose(1, 2)
        for i, a in enumerate(range(0, n, C)):
            e, p = min(a + C, n), probs[i]
            g = go[:, a:e]
            gv[:, :e] += torch.bmm(p.transpose(1, 2), g)
            ds = torch._softmax_backward_data(torch.bmm(g, vt[:, :, :e]), p, -1, p.dtype)
            gq[:, a:e] = torch.bmm(ds, k[:, :e])
            gk[:, :e] += torch.bmm(ds.transpose(1, 2), q[:, a:e])
        return gq, gk, gv


class WeightedLoss(torch.autograd.Function):
    """Weighted cross entropy through the tied head, in slices: the gradient is made at once."""

    @staticmethod
    def forward(ctx, h, emb, target, weight):
        total = weight.sum()
        gh = torch.empty_like(h)
        ge = torch.zeros(emb.shape, dtype=torch.float32)
        loss, S = 0.0, 2048
        for a in range(0, h.shape[0], S):
            hs, t, w = h[a:a + S], target[a:a + S], weight[a:a + S]
            z = (hs @ emb.t()).float()
            top = z.amax(1, keepdim=True)
            hit = z.gather(1, t[:, None])
            z.sub_(top).exp_()
            norm = z.sum(1, keepdim=True)
            loss = loss + ((norm.log() + top - hit).squeeze(1) * w).sum()
            z.div_(norm)
            z.scatter_add_(1, t[:, None], torch.full((len(t), 1), -1.0))
            z = z.mul_((w / total)[:, None]).to(h.dtype)
            gh[a:a + S] = z @ emb
            ge += z.t() @ hs
        ctx.save_for_backward(gh, ge)
        return loss / total

    @staticmethod
    def backward(ctx, go):
        gh, ge = ctx.saved_tensors
        return gh * go.to(gh.dtype), ge.to(gh.dtype), None, None


def rope_tables(s, positions):
    f = s.theta ** (-torch.arange(0, s.head, 2, dtype=torch.float64) / s.head)
    a = positions.double()[:, None] * f[None]
    return a.cos().float(), a.sin().float()


def rope(x, cos, sin, out_dtype):
    """Interleaved pairs (2i, 2i+1), as llama.cpp's llama architecture. x: [..., length, heads, head]."""
    a, b = x[..., 0::2].float(), x[..., 1::2].float()
    cos, sin = cos[:, None], sin[:, None]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(out_dtype)


def route(s, h, router):
    """h [tokens, dim] -> experts [tokens, used], their weights (softmax over the used ones), and all probabilities."""
    probs = torch.softmax(h.float() @ router.t(), -1)
    share, chosen = probs.topk(s.experts_used, -1)
    return chosen, share / share.sum(-1, keepdim=True), probs


def mixture(s, h, w, p):
    """The experts' sum for h [tokens, dim], and a balance term: 1 when every expert gets its equal part."""
    chosen, share, probs = route(s, h, w[p + "ffn_gate_inp"])
    order = chosen.flatten().argsort(stable=True)  # (token, slot) pairs, by expert
    counts = torch.bincount(chosen.flatten(), minlength=s.experts)
    token = order // s.experts_used
    parts = []
    for e, rows in enumerate(token.split(counts.tolist())):
        x = h[rows]
        g = GatedUnit.apply(x @ w[p + "ffn_gate_exps"][e].t(), x @ w[p + "ffn_up_exps"][e].t())
        parts.append(g @ w[p + "ffn_down_exps"][e].t())
    out = torch.zeros(h.shape, dtype=torch.float32)
    out = out.index_add(0, token, torch.cat(parts).float() * share.flatten()[order, None])
    balance = s.experts * (counts / counts.sum() * probs.mean(0)).sum()
    return out, balance


def trunk(s, w, tokens, cos, sin, balance=None):
    """Training forward: tokens [batch, length] -> final normed state [batch*length, dim].

    balance: a list that takes each mixture's balance term.
    """
    B, L = tokens.shape
    dt = w["token_embd"].dtype
    H, K, D = s.heads, s.kv_heads, s.head
    x = F.embedding(tokens.reshape(-1), w["token_embd"]).float()
    for i in range(s.layers):
        p = f"blk.{i}."
        h = RMSNorm.apply(x, w[p + "attn_norm"], s.eps, dt)
        q = rope((h @ w[p + "attn_q"].t()).view(B, L, H, D), cos, sin, dt) * (D ** -0.5)
        k = rope((h @ w[p + "attn_k"].t()).view(B, L, K, D), cos, sin, dt)
        v = (h @ w[p + "attn_v"].t()).view(B, L, K, D)
        if K != H:
            k, v = (t.repeat_interleave(H // K, 2) for t in (k, v))
        q, k, v = (t.transpose(1, 2).reshape(B * H, L, D) for t in (q, k, v))
        o = CausalAttention.apply(q, k, v).view(B, H, L, D).transpose(1, 2).reshape(B * L, s.dim)
        x = x + o @ w[p + "attn_output"].t()
        h = RMSNorm.apply(x, w[p + "ffn_norm"], s.eps, dt)
        if s.mixture(i):
            y, b = mixture(s, h, w, p)
            x = x + y
            if balance is not None:
                balance.append(b)
            continue
        g = GatedUnit.apply(h @ w[p + "ffn_gate"].t(), h @ w[p + "ffn_up"].t())
        x = x + g @ w[p + "ffn_down"].t()
    return RMSNorm.apply(x, w["output_norm"], s.eps, dt)


def describe(s):
    n = sum(math.prod(v) for v in parameter_shapes(s).values())
    return {**asdict(s), "parameters": n}
