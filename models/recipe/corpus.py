"""Generates the corpus: the tokenizer and one packed token file per training stage.

The stages grow in length: short rows dense with copying first, so that the
attention learns to look things up, then long rows with facts told far back.
"""
import argparse
import json
import os
import random
from multiprocessing import Pool
from pathlib import Path

import jinja2
import numpy as np

import formal
import tasks
from model import Shape
from tales import Tale
from tokenizer import Tokenizer, learn
from words import Draw

HERE = Path(__file__).resolve().parent
SHARD = 128  # rows
STAGES = [("short", 512, 1000), ("middle", 1024, 700), ("long", 2048, 550), ("finish", 2048, 600), ("last", 2048, 200)]  # name, length, steps of 8192 tokens
# share of the tokens per kind of document, in the five stages
SHARES = {
    "raw": (14, 16, 17, 7, 6), "story": (8, 9, 10, 4, 4), "question": (10, 9, 8, 7, 8), "copy_raw": (6, 2, 1, 1, 1),
    "copy": (5, 3, 2, 4, 4), "dense": (16, 10, 6, 4, 4), "far": (7, 14, 20, 14, 15), "json": (11, 11, 11, 13, 18),
    "tool": (11, 11, 11, 24, 24), "arithmetic": (4, 4, 4, 6, 4), "drill": (3, 3, 2, 6, 3), "chat": (5, 5, 5, 4, 4),
    "rule": (6, 6, 6, 7, 7), "think": (4, 4, 4, 4, 4),
}
FAR = {512: (30, 200), 1024: (60, 480), 2048: (80, 1050)}  # words of filler
PROMPT, STORY, ANSWER = 35, 80, 200  # loss weights in percent


def environment():
    env = jinja2.Environment(trim_blocks=False, lstrip_blocks=False)
    env.filters["tojson"] = lambda x: json.dumps(x, ensure_ascii=False)
    return env.from_string((HERE / "chat_template.jinja").read_text())


def make(kind, d, length):
    """A document: a string (raw text) or a case (conversation)."""
    if kind == "raw":
        return Tale(d).text
    if kind == "copy_raw":
        return tasks.copy_raw(d)
    if kind == "drill":
        return tasks.drill(d)
    if kind == "far":
        a, b = FAR[length]
        return tasks.recall_far(d, d.number(a, b))
    return {"story": tasks.chat_story, "question": tasks.tale_questions, "copy": tasks.copy_chat, "dense": tasks.recall_dense,
            "json": formal.json_answer, "tool": formal.tool_call, "arithmetic": tasks.arithmetic, "chat": tasks.chat,
            "rule": tasks.rules, "think": tasks.think}[kind](d)


class Encoder:
    def __init__(self, tok):
        self.tok, self.template = tok, environment()
        self.head = [tok.start] + tok.encode("assistant\n")

    def render(self, c, upto=None, prompt=False):
        return self.template.render(messages=c["messages"][:upto], tools=c.get("tools"), add_generation_prompt=prompt)

    def document(self, kind, doc):
        """Token ids (with the leading end-of-text) and loss weights."""
        if isinstance(doc, str):
            ids = [self.tok.eos] + self.tok.encode(doc) + [self.tok.eos]
            return ids, [STORY] * len(ids)
        ids = [self.tok.eos] + self.tok.encode(self.render(doc))
        weights, inside, i, n = [], False, 0, len(self.head)
        answer = STORY if kind == "story" else ANSWER
        while i < len(ids):
            if not inside and ids[i:i + n] == self.head:
                weights += [PROMPT] * n
                i += n
                inside = True
                continue
            weights.append(answer if inside else PROMPT)
            inside = inside and ids[i] != self.tok.end
            i += 1
        return ids, weights


def shard(job):
    """SHARD rows of length+1; the share of every kind is kept by always making what lags most."""
    out, length, column, seed, heldout = job
    tok = Tokenizer.load(Path(out) / "tokenizer.json")
    enc, d = Encoder(tok), Draw(random.Random(seed), heldout)
    share = {k: v[column] for k, v in SHARES.items()}
    made = dict.fromkeys(share, 0.0)
    for k in made:  # a random start, so that shards do not begin alike
        made[k] = d.r.random() * 2
    rows, open_rows, width = [], [], length + 1
    while len(rows) < SHARD:
        kind = min(made, key=made.get)
        ids, w = enc.document(kind, make(kind, d, length))
        if len(ids) > width:
            continue
        made[kind] += len(ids) / share[kind] / 100
        # a raw document ends with the mark that begins the next one
        fits = [r for r in open_rows if len(r[0]) + len(ids) <= width]
        row = max(fits, key=lambda r: len(r[0])) if fits else None
        if row is None:
            row = ([], [])
            open_rows.append(row)
        row[0].extend(ids)
        row[1].extend(w)
        if len(row[0]) > width - 20 or len(open_rows) > 24:
            full = max(open_rows, key=lambda r: len(r[0]))
            open_rows.remove(full)
            rows.append(full)
    t, w = np.full((SHARD, width), tok.eos, np.uint16), np.zeros((SHARD, width), np.uint8)
    for i, (a, b) in enumerate(rows):
        t[i, :len(a)], w[i, :len(b)] = a, b
    return t, w


def build(out, name, length, rows, column, seed, heldout, pool):
    done = out / f"{name}.done"
    if done.exists():
        return
    count = -(-rows // SHARD)
    jobs = [(str(out), length, column, f"{seed}/{name}/{i}", heldout) for i in range(count)]
    parts = []
    for i, p in enumerate(pool.imap(shard, jobs)):
        parts.append(p)
        print(f"corpus {name}: shard {i + 1}/{count}", flush=True)
    t, w = (np.concatenate([p[i] for p in parts]) for i in (0, 1))
    order = np.random.default_rng(length).permutation(len(t))[:rows]
    t[order].tofile(out / f"{name}.tok")
    w[order].tofile(out / f"{name}.wgt")
    print(f"corpus {name}: {rows} rows of {length}, {(w[order] > 0).mean():.3f} filled", flush=True)
    done.write_text("")


def sample(seed, documents):
    """Text for the tokenizer: the middle mix, rendered."""
    d, t = Draw(random.Random(f"{seed}/tokenizer")), environment()
    kinds = [k for k, v in SHARES.items() for _ in range(v[1])]
    for _ in range(documents):
        doc = make(d.pick(kinds), d, 1024)
        yield doc if isinstance(doc, str) else t.render(messages=doc["messages"], tools=doc.get("tools"))


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, default=HERE / "out")
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--threads", type=int, default=os.cpu_count())
    o = a.parse_args()
    o.out.mkdir(parents=True, exist_ok=True)
    path = o.out / "tokenizer.json"
    if not path.exists():
        path.write_text(json.dumps(learn(sample(o.seed, 12000), Shape.vocab), ensure_ascii=False))
        print("tokenizer:", len(Tokenizer.load(path).vocab), "tokens", flush=True)
    stages = [{"name": n, "length": l, "rows": s * 8192 // l} for n, l, s in STAGES]
    (o.out / "plan.json").write_text(json.dumps({"seed": o.seed, "stages": stages}))
    with Pool(o.threads) as pool:
        build(o.out, "heldout", 2048, 64, 2, o.seed + 1000, True, pool)
        for i, s in enumerate(stages):
            build(o.out, s["name"], s["length"], s["rows"], i, o.seed, False, pool)


if __name__ == "__main__":
    main()
