"""Measures a member's checkpoint and the file made of it: held-out perplexity, and for the dense one the share of right
answers per task.

Held-out means: another seed, and names, made-up words and name/value pairs that the training corpus never uses.
"""
import argparse
import json
import math
import os
import random
import re
import time
from pathlib import Path

import numpy as np
import torch

import corpus
import formal
import tasks
from members import MEMBERS
from export import HERE, float_file, library, load, read
from generate import Session, decode
from model import effective
from tokenizer import Tokenizer
from words import Draw

CHECKED_ROWS = 16  # of 2049 tokens, in recipe/heldout
DISTANCES = {100: 50, 400: 230, 800: 500, 1200: 770, 1500: 960}  # tokens -> words of filler that come near


@torch.no_grad()
def perplexity(shape, weights, out, rows):
    t = np.fromfile(out / "heldout.tok", np.uint16).reshape(-1, 2049)
    w = np.fromfile(out / "heldout.wgt", np.uint8).reshape(-1, 2049)
    total, count = 0.0, 0
    for a, b in zip(t[:rows].astype(np.int64), w[:rows] > 0):
        z = torch.log_softmax(Session(shape, weights).feed(a[:-1].tolist(), every=True), -1)
        nll = -z[torch.arange(2048), torch.from_numpy(a[1:])].numpy()
        total += float(nll[b[1:]].sum())
        count += int(b[1:].sum())
    return math.exp(total / count)


def distance(enc, c):
    """Tokens between the asked value's first mention and the end of the prompt."""
    text = enc.render(c, -1, True)
    at = re.search(rf"\b{re.escape(c['expect'])}\b", text)
    return len(enc.tok.encode(text[at.end():]))


def recall_at(d, enc, tokens):
    while True:
        c = tasks.recall_far(d, DISTANCES[tokens])
        # one question, about a value far back: the later turns of a case would shorten the way
        if sum(m["role"] == "assistant" and c["expect"] in m["content"] for m in c["messages"]) != 1:
            continue
        if abs(distance(enc, c) - tokens) <= max(60, tokens * 0.07) and len(enc.tok.encode(enc.render(c))) < 2000:
            return c


def of_kind(d, want):
    while True:
        c = formal.tool_call(d)
        if c["kind"] == want:
            return c


def cases(seed, enc, count):
    """kind -> list of held-out cases."""
    d = Draw(random.Random(f"{seed}/heldout"), True)
    out = {"json": [formal.json_answer(d) for _ in range(count)], "tool": [of_kind(d, "tool") for _ in range(count)],
           "notool": [of_kind(d, "notool") for _ in range(count // 2)], "toolresult": [of_kind(d, "toolresult") for _ in range(count // 2)]}
    for n in DISTANCES:
        out[f"recall{n}"] = [recall_at(d, enc, n) for _ in range(count // 2)]
    for k, f in (("arithmetic", lambda: tasks.arithmetic(d, 1)), ("rule", lambda: tasks.rules(d)), ("question", lambda: tasks.tale_questions(d)),
                 ("chat", lambda: tasks.chat(d)), ("copy", lambda: tasks.copy_chat(d)), ("think", lambda: tasks.think(d))):
        out[k] = [f() for _ in range(count)]
    return out


def right(c, text):
    kind, expect = c["kind"], c["expect"]
    try:
        if kind == "json":
            return json.loads(text) == expect
        if kind == "tool":
            m = re.fullmatch(r"<tool_call>\n(.*)\n</tool_call>", text.strip(), re.S)
            return bool(m) and json.loads(m[1]) == expect
    except ValueError:
        return False
    if kind == "recall":
        return re.search(rf"\b{re.escape(expect)}\b", text) is not None
    if kind == "think":
        return text.startswith("<think>") and text.split("</think>")[-1].strip() == expect
    return text.strip() == expect


def run(shape, weights, enc, c):
    prompt = [enc.tok.eos] + enc.tok.encode(enc.render(c, -1, True))
    return enc.tok.decode(decode(shape, weights, prompt, 160, {enc.tok.end, enc.tok.eos}))


def stories(shape, weights, tok, count, seed=7):
    out = []
    for i in range(count):
        g = torch.Generator().manual_seed(seed + i)
        ids = decode(shape, weights, [tok.eos] + tok.encode("Once upon a time"), 400, {tok.eos, tok.end}, 0.7, g)
        out.append("Once upon a time" + tok.decode(ids))
    return out


def write_heldout(groups, enc, out, folder):
    """What `npm run models:check` reads: cases as the chat API takes them (messages, and tools, without the answer) with
    the rendered prompt and what is expected; and rows of held-out tokens for the perplexity."""
    folder.mkdir(exist_ok=True)
    rows = np.fromfile(out / "heldout.tok", np.uint16).reshape(-1, 2049)[:CHECKED_ROWS]
    rows.astype("<u2").tofile(folder / "rows.tok")
    lines = {}
    for k, cs in groups.items():
        far = k.startswith("recall")
        for c in cs[:8 if far else 40 if k in ("json", "tool") else 24]:
            r = {"prompt": enc.render(c, -1, True), "messages": c["messages"][:-1], **({"tools": c["tools"]} if "tools" in c else {}), "expect": c["expect"],
                 **({"distance": int(k[6:])} if far else {})}
            lines.setdefault("recall" if far else k, []).append(json.dumps(r, ensure_ascii=False))
    for k, v in lines.items():
        (folder / f"{k}.jsonl").write_text("\n".join(v) + "\n")


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument("--out", type=Path, default=HERE / "out")
    a.add_argument("--gguf-py", type=Path)
    a.add_argument("--member", choices=MEMBERS, default="dense")
    a.add_argument("--file", type=Path, help="the GGUF file to measure after the checkpoint (default: the member's first, or the F16 one that it was made of)")
    a.add_argument("--threads", type=int, default=os.cpu_count())
    a.add_argument("--count", type=int, default=100, help="cases per kind")
    a.add_argument("--rows", type=int, default=64, help="rows of 2048 for the perplexity")
    a.add_argument("--seed", type=int, default=2002)
    a.add_argument("--stories", type=int, default=3)
    a.add_argument("--kinds", help="only these, separated by commas")
    a.add_argument("--show", type=int, default=0, help="wrong answers to show per kind")
    a.add_argument("--write-heldout", action="store_true", help="write recipe/heldout, which tests read (member dense)")
    o = a.parse_args()
    kind, name = next(iter(MEMBERS[o.member].files.items()))
    o.file = o.file or (float_file(o.out, o.member) if kind == "STQ1_0" else HERE.parent / name)
    torch.set_num_threads(o.threads)
    tok = Tokenizer.load(o.out / "tokenizer.json")
    enc = corpus.Encoder(tok)
    groups = cases(o.seed, enc, o.count) if o.member == "dense" else {}
    if o.write_heldout:
        write_heldout(groups, enc, o.out, HERE / "heldout")
    shape, params, _ = load(o.out, o.member)
    trained = effective(shape, params, torch.float32)
    result = {}
    if o.rows:
        result["perplexity_trained"] = perplexity(shape, trained, o.out, o.rows)
        print("held-out perplexity as trained:", round(result["perplexity_trained"], 4), flush=True)
    shape, weights = read(library(o.gguf_py), o.file)
    if o.rows:
        result["perplexity_file"] = perplexity(shape, weights, o.out, o.rows)
        print("held-out perplexity of the file:", round(result["perplexity_file"], 4), flush=True)
    for k, cs in groups.items():
        if o.kinds and k not in o.kinds.split(","):
            continue
        t, good, shown = time.time(), 0, 0
        for c in cs:
            text = run(shape, weights, enc, c)
            ok = right(c, text)
            good += ok
            if not ok and shown < o.show:
                shown += 1
                print(f"  wrong [{k}] asked {c['messages'][-2]['content'][-160:]!r}\n    want {c['expect']!r}\n    got  {text!r}")
        result[k] = good / len(cs)
        print(f"{k}: {good}/{len(cs)} = {100 * good / len(cs):.1f} % ({time.time() - t:.0f} s)", flush=True)
    if groups:
        result["stories"] = stories(shape, weights, tok, o.stories)
        for s in result["stories"]:
            print("---\n" + s)
    (o.out / f"evaluation-{o.member}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
