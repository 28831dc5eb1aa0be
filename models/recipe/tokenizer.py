"""Byte-level BPE: a trainer and an encoder equal to llama.cpp's "gpt2" model with the "qwen2" pre-tokenizer."""
import heapq
import json
import re
import sys
import unicodedata
from collections import Counter, defaultdict

# (text, visible): the visible ones are ordinary text to parsers, the others are control tokens.
SPECIAL = [("<|endoftext|>", False), ("<|im_start|>", False), ("<|im_end|>", False),
           ("<think>", True), ("</think>", True), ("<tool_call>", True), ("</tool_call>", True)]


def _class(prefix):
    spans, start = [], None
    for c in range(sys.maxunicode + 2):
        hit = c <= sys.maxunicode and unicodedata.category(chr(c)).startswith(prefix)
        if hit and start is None:
            start = c
        elif not hit and start is not None:
            spans.append((start, c - 1))
            start = None
    return "".join(f"\\U{a:08x}-\\U{b:08x}" if a != b else f"\\U{a:08x}" for a, b in spans)


L, N = _class("L"), _class("N")
SPLIT = re.compile(rf"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n{L}{N}]?[{L}]+|[{N}]|"
                   rf" ?[^\s{L}{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def byte_characters():
    """Bytes as printable characters: GPT-2's table."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out, n = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in out:
            out[b] = chr(256 + n)
            n += 1
    return out


BYTES = byte_characters()
BACK = {c: b for b, c in BYTES.items()}


def learn(texts, size):
    """Merges from word counts; ties go to the smaller pair, so the result is fixed."""
    words = Counter(w for t in texts for w in SPLIT.findall(t))
    seqs, counts = [], []
    for w, c in sorted(words.items()):
        seqs.append([BYTES[b] for b in w.encode()])
        counts.append(c)
    pairs, where = Counter(), defaultdict(set)
    for i, s in enumerate(seqs):
        for p in zip(s, s[1:]):
            pairs[p] += counts[i]
            where[p].add(i)
    heap = [(-c, p) for p, c in pairs.items()]
    heapq.heapify(heap)
    merges, want = [], size - 256 - len(SPECIAL)
    while len(merges) < want and heap:
        c, p = heapq.heappop(heap)
        if pairs.get(p, 0) != -c or c == 0:
            if pairs.get(p, 0) > 0:
                heapq.heappush(heap, (-pairs[p], p))
            continue
        merges.append(p)
        new, touched = p[0] + p[1], set()
        for i in where.pop(p):
            s = seqs[i]
            for q in zip(s, s[1:]):
                pairs[q] -= counts[i]
                touched.add(q)
            out, j = [], 0
            while j < len(s):
                if j + 1 < len(s) and s[j] == p[0] and s[j + 1] == p[1]:
                    out.append(new)
                    j += 2
                else:
                    out.append(s[j])
                    j += 1
            seqs[i] = out
            for q in zip(out, out[1:]):
                pairs[q] += counts[i]
                where[q].add(i)
                touched.add(q)
        pairs.pop(p, None)
        for q in touched:
            if pairs.get(q, 0) > 0:
                heapq.heappush(heap, (-pairs[q], q))
    vocab = [t for t, _ in SPECIAL] + [BYTES[b] for b in range(256)] + [a + b for a, b in merges]
    return {"vocab": vocab, "merges": [f"{a} {b}" for a, b in merges]}


class Tokenizer:
    def __init__(self, data):
        self.vocab, self.merges = data["vocab"], data["merges"]
        self.ids = {t: i for i, t in enumerate(self.vocab)}
        self.rank = {tuple(m.split(" ")): i for i, m in enumerate(self.merges)}
        self.special = {t for t, _ in SPECIAL}
        self.cut = re.compile("(" + "|".join(re.escape(t) for t, _ in SPECIAL) + ")")
        self.cache = {}
        self.eos, self.start, self.end = (self.ids[t] for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"))

    @classmethod
    def load(cls, path):
        return cls(json.loads(path.read_text()))

    def _word(self, w):
        s = [BYTES[b] for b in w.encode()]
        while len(s) > 1:
            best = min(range(len(s) - 1), key=lambda i: self.rank.get((s[i], s[i + 1]), 1 << 30))
            if (s[best], s[best + 1]) not in self.rank:
                break
            s[best:best + 2] = [s[best] + s[best + 1]]
        return [self.ids[t] for t in s]

    def encode(self, text):
        out = []
        for part in self.cut.split(text):
            if part in self.special:
                out.append(self.ids[part])
                continue
            for w in SPLIT.findall(part):
                got = self.cache.get(w)
                if got is None:
                    got = self._word(w)
                    if len(self.cache) < 500000:
                        self.cache[w] = got
                out += got
        return out

    def decode(self, ids):
        data = bytearray()
        for i in ids:
            t = self.vocab[i]
            data += t.encode() if t in self.special else bytes(BACK[c] for c in t)
        return data.decode("utf-8", "replace")
