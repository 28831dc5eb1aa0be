"""Quantisation-aware training from a token file; restartable, deterministic for a fixed seed.

Matrices of the layers: Muon (orthogonalised momentum). Embedding and norms: Adam.
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

from model import Shape, WeightedLoss, describe, effective, init, is_ternary, rope_tables, trunk

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
        self.v = {n: torch.zeros_like(p) for n, p in params.items() if not is_ternary(n)}
        self.groups = {}
        for n, p in params.items():
            if is_ternary(n):
                self.groups.setdefault(tuple(sorted(p.shape)), []).append(n)

    def step(self, grads, lr_matrix, lr_other, momentum):
        self.t += 1
        for names in self.groups.values():
            stack = []
            for n in names:
                m = self.m[n].mul_(momentum).add_(grads[n], alpha=1 - momentum)
                u = grads[n].lerp(m, momentum)
                stack.append(u if u.shape[0] <= u.shape[1] else u.t())
            for n, u in zip(names, orthogonalise(torch.stack(stack))):
                p = self.params[n]
                if p.shape[0] > p.shape[1]:
                    u = u.t()
                p.mul_(1 - lr_matrix * self.decay)
                p.add_(u, alpha=-lr_matrix * max(1.0, p.shape[0] / p.shape[1]) ** 0.5)
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


# (step, share of the peak rate), straight lines between: warm-up, plateau, decay, and a
# second, lower rise for the last stages, in which the formal tasks weigh more.
KNOTS = [(0, 0.0), (80, 1.0), (1375, 1.0), (2250, 0.22), (2270, 0.45), (2550, 0.235), (3050, 0.0)]


def rate(step):
    for (a, p), (b, q) in zip(KNOTS, KNOTS[1:]):
        if step < b:
            return p + (q - p) * (step + 1 - a) / (b - a)
    return 0.0


def save(path, obj):
    tmp = path.with_suffix(".tmp")
    torch.save(obj, tmp)
    os.replace(tmp, path)


class Stage:
    """Rows of one sequence length; the order is a fixed shuffle made by the corpus step."""

    def __init__(self, out, entry):
        self.length, self.rows = entry["length"], entry["rows"]
        while not (out / (entry["name"] + ".done")).exists():  # the corpus may still be growing
            time.sleep(1)
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
    a.add_argument("--batch", type=int, default=8192, help="tokens per step")
    a.add_argument("--lr", type=float, default=0.04, help="of the ternary matrices")
    a.add_argument("--lr-other", type=float, default=0.006, help="of embedding and norms")
    a.add_argument("--save-every", type=int, default=150, help="steps")
    a.add_argument("--stop-after", type=int, default=0, help="steps of this run (0: to the end)")
    o = a.parse_args()
    torch.set_num_threads(o.threads)
    plan = json.loads((o.out / "plan.json").read_text())
    shape = Shape(**plan["shape"])
    stages = plan["stages"]
    per = [e["rows"] * e["length"] // o.batch for e in stages]
    steps = sum(per)
    params = init(shape, o.seed)
    opt = Optimiser(params)
    ckpt, step, tokens = o.out / "checkpoint.pt", 0, 0
    if ckpt.exists():
        c = torch.load(ckpt)
        step, tokens = c["step"], c["tokens"]
        for n, p in params.items():
            p.copy_(c["params"][n])
        opt.load(c["opt"])
    print(f"{describe(shape)} steps {steps} from {step}", flush=True)
    stage, at, tables = None, -1, {}
    clock, marks, first = time.time(), tokens, step
    mean = None
    while step < steps:
        i, local = 0, step
        while local >= per[i]:
            local -= per[i]
            i += 1
        if i != at:
            stage, at = Stage(o.out, stages[i]), i
            cos, sin = rope_tables(shape, torch.arange(stage.length))
        n = o.batch // stage.length
        x, y, wt = stage.batch(local * n, n)
        w = {k: v.detach().requires_grad_(True) for k, v in effective(params).items()}
        loss = WeightedLoss.apply(trunk(shape, w, x, cos, sin), w["token_embd"], y, wt)
        loss.backward()
        f = rate(step)
        with torch.no_grad():
            grads = {k: v.grad.float() for k, v in w.items()}
            momentum = min(0.95, 0.85 + 0.1 * step / 300)
            opt.step(grads, o.lr * f, o.lr_other * f, momentum)
        step += 1
        tokens += o.batch
        v = loss.item()
        if not math.isfinite(v):
            raise SystemExit(f"loss is not finite at step {step}")
        mean = v if mean is None else 0.95 * mean + 0.05 * v
        if step % 10 == 0 or step == steps:
            speed = (tokens - marks) / (time.time() - clock)
            print(f"step {step}/{steps} stage {i + 1} tokens {tokens / 1e6:.2f}M loss {v:.4f} mean {mean:.4f} "
                  f"rate {f:.3f} {speed:.0f} tok/s eta {(steps - step) * o.batch / speed / 60:.1f} min", flush=True)
            if step % 50 == 0:
                clock, marks = time.time(), tokens
        stop = o.stop_after and step - first >= o.stop_after
        if step % o.save_every == 0 or step == steps or stop:
            save(ckpt, {"params": params, "opt": opt.state(), "step": step, "steps": steps, "tokens": tokens,
                        "shape": plan["shape"], "loss": mean})
        if stop:
            break


if __name__ == "__main__":
    main()
