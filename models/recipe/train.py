"""Quantisation-aware training from a token file; restartable, deterministic for a fixed seed.

Matrices of the layers: Muon (orthogonalised momentum). Embedding, norms and router: Adam.
The schedule is a function of the step alone; the wall clock never enters.
"""
import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch

from members import MEMBERS
from model import WeightedLoss, describe, effective, init, is_matrix, rope_tables, trunk

HERE = Path(__file__).resolve().parent


def orthogonalise(g):
    """Newton-Schulz: the nearest (semi-)orthogonal matrix, batched. g: [n, rows <= columns]."""
    x = g.bfloat16()
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(5):
        a = torch.bmm(x, x.transpose(1, 2))
        b = -4.7750 * a + 2.0315 * torch.bmm(a, a)
        x = 3.4445 * x + torch.bmm(b, x)
    return x.float()


class Optimiser:
    def __init__(self, params, decay=0.05):
        self.params, self.decay, self.t = params, decay, 0
        self.m = {n: torch.zeros_like(p) for n, p in params.items()}
        self.v = {n: torch.zeros_like(p) for n, p in params.items() if not is_matrix(n)}
        self.groups = {}
        for n, p in params.items():
            if is_matrix(n):
                self.groups.setdefault(tuple(sorted(p.shape[-2:])), []).append(n)

    def step(self, grads, lr_matrix, lr_other, momentum):
        self.t += 1
        for names in self.groups.values():
            stack = []
            for n in names:
                m = self.m[n].mul_(momentum).add_(grads[n], alpha=1 - momentum)
                u = grads[n].lerp(m, momentum)
                u = u.view(-1, *u.shape[-2:])  # a mixture's tensor is one matrix per expert
                stack.append(u if u.shape[1] <= u.shape[2] else u.transpose(1, 2))
            counts = [len(u) for u in stack]
            for n, u in zip(names, orthogonalise(torch.cat(stack)).split(counts)):
                p = self.params[n]
                rows, columns = p.shape[-2:]
                if rows > columns:
                    u = u.transpose(1, 2)
                p.mul_(1 - lr_matrix * self.decay)
                p.add_(u.reshape(p.shape), alpha=-lr_matrix * max(1.0, rows / columns) ** 0.5)
        b1, b2 = 0.9, 0.97
        for n, v in self.v.items():
            g = grads[n]
            m = self.m[n].mul_(b1).add_(g, alpha=1 - b1)
            v.mul_(b2).addcmul_(g, g, value=1 - b2)
            den = (v / (1 - b2 ** self.t)).sqrt_().add_(1e-8)
            self.params[n].addcdiv_(m, den, value=-lr_other / (1 - b1 ** self.t))

    def state(self):
        return {"m": self.m, "v": self.v, "t": self.t}

    def load(self, s):
        self.m, self.v, self.t = s["m"], s["v"], s["t"]


BATCH = 8192  # tokens per step
BALANCE = 0.01  # weight of a mixture's balance term in the loss


def rate(knots, step):
    for (a, p), (b, q) in zip(knots, knots[1:]):
        if step < b:
            return p + (q - p) * (step + 1 - a) / (b - a)
    return 0.0


def save(path, obj):
    tmp = path.with_suffix(".tmp")
    torch.save(obj, tmp)
    os.replace(tmp, path)


def copy(params, source):
    for n, p in params.items():
        if p.shape != source[n].shape:  # copy_ would spread a smaller one
            raise SystemExit(f"{n} has another shape in the checkpoint")
        p.copy_(source[n])


class Stage:
    """Rows of one sequence length; the order is a fixed shuffle made by the corpus step."""

    def __init__(self, out, entry):
        self.length, self.rows = entry["length"], entry["rows"]
        if not (out / (entry["name"] + ".done")).exists():
            raise SystemExit(f"stage {entry['name']} is not there yet: corpus.py makes it")
        shape = (self.rows, self.length + 1)
        self.tokens = np.memmap(out / (entry["name"] + ".tok"), np.uint16, "r", shape=shape)
        self.weights = np.memmap(out / (entry["name"] + ".wgt"), np.uint8, "r", shape=shape)

    def batch(self, at, count):
        t = torch.from_numpy(self.tokens[at:at + count].astype(np.int64))
        w = torch.from_numpy(self.weights[at:at + count, 1:].astype(np.float32) / 100)
        return t[:, :-1], t[:, 1:].reshape(-1), w.reshape(-1)


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, default=HERE / "out")
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--member", choices=MEMBERS, default="dense")
    a.add_argument("--save-every", type=int, default=150, help="steps")
    a.add_argument("--stop-after", type=int, default=0, help="steps of this run (0: to the end)")
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    member = MEMBERS[o.member]
    shape, steps = member.shape, member.steps
    rows = {e["name"]: e for e in json.loads((o.out / "plan.json").read_text())["stages"]}
    params = init(shape, o.seed)
    opt = Optimiser(params)
    ckpt, step, tokens = o.out / f"{o.member}.pt", 0, 0
    if ckpt.exists():
        c = torch.load(ckpt)
        step, tokens = c["step"], c["tokens"]
        copy(params, c["params"])
        opt.load(c["opt"])
    elif member.start:
        c = torch.load(o.out / f"{member.start}.pt")
        if c["step"] < c["steps"]:
            raise SystemExit(f"{member.start} is not trained to its end yet")
        copy(params, c["params"])
    print(f"{o.member}: {describe(shape)} steps {steps} from {step}", flush=True)
    stage, at = None, -1
    clock, marks, first = time.time(), tokens, step
    mean = None
    while step < steps:
        i, local = 0, step
        while local >= member.stages[i][2]:
            local -= member.stages[i][2]
            i += 1
        name, begin, _ = member.stages[i]
        if i != at:
            stage, at = Stage(o.out, rows[name]), i
            cos, sin = rope_tables(shape, torch.arange(stage.length))
        n = BATCH // stage.length
        x, y, wt = stage.batch((begin + local) * n, n)
        w = {k: v.detach().requires_grad_(True) for k, v in effective(shape, params).items()}
        balance = []
        loss = WeightedLoss.apply(trunk(shape, w, x, cos, sin, balance), w["token_embd"], y, wt)
        (loss + BALANCE * sum(balance)).backward()
        f = rate(member.knots, step)
        with torch.no_grad():
            grads = {k: v.grad.float() for k, v in w.items()}
            momentum = min(0.95, 0.85 + 0.1 * step / 300)
            opt.step(grads, member.lr * f, member.lr_other * f, momentum)
        step += 1
        tokens += BATCH
        v = loss.item()
        if not math.isfinite(v):
            raise SystemExit(f"loss is not finite at step {step}")
        mean = v if mean is None else 0.95 * mean + 0.05 * v
        if step % 10 == 0 or step == steps:
            speed = (tokens - marks) / (time.time() - clock)
            print(f"{o.member} step {step}/{steps} {name} tokens {tokens / 1e6:.2f}M loss {v:.4f} mean {mean:.4f} "
                  f"rate {f:.3f} {''.join(f'balance {float(b):.3f} ' for b in balance)}{speed:.0f} tok/s eta {(steps - step) * BATCH / speed / 60:.1f} min", flush=True)
            if step % 50 == 0:
                clock, marks = time.time(), tokens
        stop = o.stop_after and step - first >= o.stop_after
        if step % o.save_every == 0 or step == steps or stop:
            save(ckpt, {"params": params, "opt": opt.state(), "step": step, "steps": steps, "tokens": tokens,
                        "shape": vars(shape), "loss": mean})
        if stop:
            break


if __name__ == "__main__":
    main()
